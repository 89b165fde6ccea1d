"""Callbacks in an event loop: one after the other, and events before the state that they announce."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)


class Callbacks:
    """Belongs to the loop that runs when it is made; its methods are for that loop's thread.

    The first callback that is put in line schedules :meth:`run`. The loop runs what is scheduled in
    order, so all in line are called before any task that is woken later. A task that is not woken
    but goes on, with something new to show, calls :meth:`run` itself.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._line: deque[tuple[Callable[[Any], Any], Any]] = deque()
        self._running = False

    def __len__(self) -> int:
        """How many are in line."""
        return len(self._line)

    def put(self, callback: Callable[[Any], Any], event: Any) -> None:
        """Have a callback be called with an event, after those before it."""
        self._line.append((callback, event))
        if len(self._line) == 1:
            self._loop.call_soon(self.run)

    def run(self) -> None:
        """Call all that are in line; does nothing within a callback. What one raises is logged.

        SystemExit and KeyboardInterrupt end the loop, as from any callback of it.
        """
        if self._running:
            return
        self._running = True
        try:
            while self._line:
                callback, event = self._line.popleft()
                try:
                    callback(event)
                except (
                    Exception,
                    asyncio.CancelledError,
                ):  # its own: the task that is here was not cancelled
                    _log.exception("a callback failed")
        finally:
            self._running = False
            if self._line:
                self._loop.call_soon(self.run)
