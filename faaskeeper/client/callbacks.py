"""Runs callbacks of watches, listeners and futures, one after the other, in one thread."""

from __future__ import annotations

from collections.abc import Callable

from faaskeeper.client.runtime import Runtime, Thread
from faaskeeper.core import logs

_log = logs.logger(__name__)

Spawn = Callable[[Callable[[], None], str], Thread]
"""Starts a thread that runs a function under a name."""


class _Absent:
    """In a forked child, replaces the thread that only the parent has."""

    def join(self, timeout: float | None = None) -> None:
        """Return at once."""


class Callbacks:
    """Runs callbacks in order.

    The thread starts when it is first needed; most processes have none.
    """

    def __init__(self, runtime: Runtime, spawn: Spawn) -> None:
        self._runtime = runtime
        self._spawn = spawn
        self._starting = runtime.lock()
        self._waiting = runtime.line()
        self._thread: Thread | None = None

    def prepare(self) -> None:
        """Start the thread that runs the callbacks of :meth:`put`, unless it runs."""
        if self._thread is None:
            with self._starting:
                if self._thread is None:
                    self._thread = self._spawn(self._run, "callbacks")

    def put(self, callback: Callable[[], None]) -> None:
        """Run a callback after those before it, if :meth:`prepare` was called."""
        self._waiting.put(callback)

    def later(self, callback: Callable[[], None]) -> None:
        """Run a callback after those before it."""
        self.prepare()
        self._waiting.put(callback)

    @property
    def current(self) -> bool:
        """Whether the caller runs in the callback thread."""
        return self._thread is not None and self._thread == self._runtime.current()

    def stop(self, timeout: float) -> None:
        """End the thread after the waiting callbacks; wait for its end, at most ``timeout`` s."""
        thread = self._thread
        if thread is not None:
            self._waiting.put(None)
            if thread != self._runtime.current():
                thread.join(timeout)

    def forked(self) -> None:
        """In a forked child: run no more callbacks.

        A callback that forked goes on; its thread ends.
        """
        self._starting = self._runtime.lock()
        self._thread = _Absent()
        self._waiting = self._runtime.line()
        self._waiting.put(None)

    def _run(self) -> None:
        while (callback := self._waiting.get()) is not None:
            try:
                callback()
            except BaseException:  # SystemExit too: other callbacks wait for this thread
                _log.exception("a callback failed")
