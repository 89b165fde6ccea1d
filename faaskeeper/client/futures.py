"""The future result of an asynchronous operation."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Generic, TypeVar, cast

from faaskeeper.client.runtime import Lock
from faaskeeper.exceptions import TimeoutException
from faaskeeper.session.states import unanswered

T = TypeVar("T")
_PENDING = object()


class Future(Generic[T]):
    """The result of an ``_async`` operation.

    ``what`` names the operation in a time-out's message. ``write``: the operation may take effect
    even after a time-out. ``run`` calls callbacks in the client's callback thread.
    """

    __slots__ = ("_callbacks", "_error", "_gate", "_result", "_run", "what", "write")

    def __init__(
        self,
        what: str,
        write: bool = False,
        run: Callable[[Callable[[], None]], None] | None = None,
        gate: Lock | None = None,
    ) -> None:
        self.what = what
        self.write = write
        self._run = run
        self._gate = gate or threading.Lock()
        self._gate.acquire()
        self._result: object = _PENDING
        self._error: BaseException | None = None
        self._callbacks: list[Callable[[Future[T]], None]] | None = None

    def done(self) -> bool:
        """Whether there is a result or an error."""
        return self._result is not _PENDING

    def wait(self, timeout: float | None = None) -> bool:
        """Wait at most ``timeout`` seconds for the result; returns whether it is there."""
        if self._result is not _PENDING:
            return True
        if self._gate.acquire(timeout=-1 if timeout is None else max(timeout, 0)):
            self._gate.release()
            return True
        return self._result is not _PENDING

    def get(self, timeout: float | None = None) -> T:
        """Return the result, or raise the operation's error.

        Raises TimeoutException after ``timeout`` seconds without an answer. A write goes on: a
        later call may return its outcome.
        """
        if not self.wait(timeout):
            raise TimeoutException(timeout or 0, self._timed_out(timeout or 0))
        if self._error is not None:
            raise self._error
        return cast(T, self._result)

    result = get

    def _timed_out(self, timeout: float) -> str:
        if not self.write:
            return f"{self.what} was not answered within {timeout:g} s; nothing was changed"
        return (
            f"{unanswered(self.what, timeout)}. The client resends it until it is answered or the session "
            "ends; get() waits for the outcome"
        )

    def add_callback(self, callback: Callable[[Future[T]], None]) -> None:
        """Call ``callback(future)`` once there is a result, from the client's callback thread."""
        callbacks = self._callbacks
        if callbacks is None:
            callbacks = self._callbacks = []
        callbacks.append(callback)
        if self._result is not _PENDING:
            self._call_back()

    add_done_callback = add_callback

    def _call_back(self) -> None:
        callbacks = self._callbacks or []
        while callbacks:
            try:
                callback = callbacks.pop(0)
            except IndexError:
                return  # another thread took the last one
            if self._run is None:
                callback(self)
            else:
                self._run(partial(callback, self))

    def set_result(self, result: T) -> None:
        """Set the result, once. For the client only."""
        self._settle(result, None)

    def set_exception(self, error: BaseException) -> None:
        """Set an error instead of a result, once. For the client only."""
        self._settle(None, error)

    def _settle(self, result: Any, error: BaseException | None) -> None:
        if self._result is not _PENDING:
            return
        self._error = error
        self._result = result
        self._gate.release()
        if self._callbacks:
            self._call_back()
