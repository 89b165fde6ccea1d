"""Calls into an event loop from other threads."""

from __future__ import annotations

from asyncio import AbstractEventLoop
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def soon(loop: AbstractEventLoop, call: Callable[..., Any], *args: Any) -> None:
    """Call a function in the loop's thread; any thread may use this.

    If the loop is closed, nothing is called: no task waits for it.
    """
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *args)
