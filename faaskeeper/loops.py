"""Calls into an event loop from other threads, and their results."""

from __future__ import annotations

from asyncio import AbstractEventLoop, Future
from collections.abc import Callable
from contextlib import suppress
from typing import Any


def soon(loop: AbstractEventLoop, call: Callable[..., Any], *args: Any) -> None:
    """Call a function in the loop's thread; any thread may use this.

    If the loop is closed, nothing is called: no task waits for it.
    """
    with suppress(RuntimeError):
        loop.call_soon_threadsafe(call, *args)


def settle(future: Future[Any], result: Any, error: BaseException | None) -> None:
    """Give a future an error or, without one, a result; nothing if it was cancelled."""
    if future.cancelled():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)
