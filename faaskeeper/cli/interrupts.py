"""Ctrl-C ends a command, and never the session: calls of the client run in a thread of their own.

An interrupt is an exception that may come between any two steps of the main thread. There it ends a
command's waiting for a call, and no step of the client's own, whose threads must agree on what was sent; the
call itself goes on to its end, and its result is dropped.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
POLL_S = 0.5
"""Seconds: a signal that comes just before a wait begins is looked at when the wait ends."""
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
    """Makes calls one after the other; for one thread, which may be interrupted in it."""

    def __init__(self) -> None:
        self._steps: _Steps | None = None

    def call(self, function: Callable[[], T], late: Callable[[T], object] = _nothing) -> T:
        """Make a call. ``late``: what to do with its result when an interrupt ended the waiting for it."""
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
            self._steps = None  # the next call does not wait for this one
            steps.put(partial(made.drop, late))
            steps.put(None)
            raise
        return made.outcome()


def _run(steps: SimpleQueue[Any]) -> None:
    while (step := steps.get()) is not None:
        step()
