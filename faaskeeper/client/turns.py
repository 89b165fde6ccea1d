"""Runs asynchronous reads, and the writes that follow them, in order, in their own thread."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from faaskeeper.client.callbacks import Spawn
from faaskeeper.client.runtime import Condition, Lock, Runtime, Thread

Turn = Callable[[], None]


class Turns:
    """A queue of turns. ``lock`` is the session's, ``wake`` its condition."""

    def __init__(self, runtime: Runtime, lock: Lock, wake: Condition, spawn: Spawn) -> None:
        self._runtime = runtime
        self._lock = lock
        self._wake = wake
        self._spawn = spawn
        self._waiting: deque[Turn] = deque()
        self._present: Turn | None = None
        self._thread: Thread | None = None
        self._ending = False

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def current(self) -> bool:
        """Whether the caller runs in the thread that runs turns."""
        return self._thread is not None and self._thread == self._runtime.current()

    def add(self, turn: Turn) -> None:
        """Queue a turn. The caller holds the lock."""
        self._waiting.append(turn)
        if self._thread is None:
            self._thread = self._spawn(self._run, "reader")
        self._wake.notify_all()

    def end(self) -> list[Turn]:
        """Run no more turns; returns those that wait. The caller holds the lock."""
        self._ending = True
        waiting = [turn for turn in self._waiting if turn is not self._present]
        self._waiting.clear()
        return waiting

    def join(self, timeout: float) -> None:
        """Wait at most ``timeout`` seconds for the thread's end."""
        if self._thread is not None and self._thread != self._runtime.current():
            self._thread.join(timeout)

    def forked(self, lock: Lock, wake: Condition) -> None:
        """In a forked child: no turn is running. ``lock`` and ``wake`` replace the parent's."""
        self._lock, self._wake = lock, wake
        self._present = None

    def _run(self) -> None:
        """Run turns.

        A turn leaves the queue when it is done: until then later writes wait behind it.
        """
        while True:
            with self._lock:
                while not self._waiting:
                    if self._ending:
                        return
                    self._wake.wait()
                turn = self._present = self._waiting[0]
            turn()
            with self._lock:
                if self._waiting and self._waiting[0] is turn:
                    self._waiting.popleft()
