"""Callbacks in an event loop: one at a time, and events before the state that they announce."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from typing import Any

_log = logging.getLogger(__name__)


class Callbacks:
    """Belongs to the loop that runs at its creation; its methods are for that loop's thread.

    The first callback in the queue schedules :meth:`run`. The loop runs scheduled calls in order,
    so all queued callbacks run before any task that is woken later. A task that continues without a
    wake-up, and has new state to show, calls :meth:`run` itself.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._line: deque[tuple[Callable[[Any], Any], Any]] = deque()
        self._running = False

    def __len__(self) -> int:
        """The number of queued callbacks."""
        return len(self._line)

    def put(self, callback: Callable[[Any], Any], event: Any) -> None:
        """Queue a callback, to be called with an event."""
        self._line.append((callback, event))
        if len(self._line) == 1:
            self._loop.call_soon(self.run)

    def run(self) -> None:
        """Call all queued callbacks; does nothing within a callback. Logs what one raises.

        SystemExit and KeyboardInterrupt end the loop, as from any callback of the loop.
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
                ):  # the callback's own error: the current task was not cancelled
                    _log.exception("a callback failed")
        finally:
            self._running = False
            if self._line:
                self._loop.call_soon(self.run)
