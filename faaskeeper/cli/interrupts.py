"""Ctrl-C stops a command but not the session: a separate thread makes the calls of the client.

KeyboardInterrupt can strike between any two bytecodes of the main thread. There it stops the wait
for a call. It never interrupts the client's own code, whose threads must agree on what was sent.
The call runs to its end, and its result is discarded.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
POLL_S = 0.5
"""Seconds. A signal that arrives just before a wait starts is handled when this wait ends."""
_Steps = SimpleQueue[Callable[[], object] | None]


class _Call(Generic[T]):
    """A call that another thread makes."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._result: list[T] = []
        self._error: BaseException | None = None
        self.done = threading.Lock()
        self.done.acquire()

    def run(self) -> None:
        try:
            self._result.append(self._function())
        except BaseException as error:
            self._error = error
        self.done.release()

    def outcome(self) -> T:
        if self._error is not None:
            raise self._error
        return self._result[0]

    def drop(self, late: Callable[[T], object]) -> None:
        if self._result:
            late(self._result[0])


def _nothing(result: object) -> None:
    pass


class Caller:
    """Makes calls one at a time, for one thread that may be interrupted."""

    def __init__(self) -> None:
        self._steps: _Steps | None = None

    def call(self, function: Callable[[], T], late: Callable[[T], object] = _nothing) -> T:
        """Make a call. ``late``: receives the result if an interrupt stopped the wait for it."""
        steps = self._steps
        if steps is None:
            steps = self._steps = SimpleQueue()
            threading.Thread(target=_run, args=(steps,), name="fk-calls", daemon=True).start()
        made = _Call(function)
        try:
            steps.put(made.run)
            while not made.done.acquire(timeout=POLL_S):
                pass
        except BaseException:
            self._steps = None  # the next call must not wait for this one
            steps.put(partial(made.drop, late))
            steps.put(None)
            raise
        return made.outcome()


def _run(steps: SimpleQueue[Any]) -> None:
    while (step := steps.get()) is not None:
        step()
