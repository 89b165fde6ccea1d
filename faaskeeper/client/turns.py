"""Asynchronous reads, and the writes asked for after them: each in its turn, in a thread of its own."""

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
        """Whether the thread that asks is the one that turns are taken in."""
        return self._thread is not None and self._thread == self._runtime.current()

    def add(self, turn: Turn) -> None:
        """Have a turn wait; with the lock held."""
        self._waiting.append(turn)
        if self._thread is None:
            self._thread = self._spawn(self._run, "reader")
        self._wake.notify_all()

    def end(self) -> list[Turn]:
        """Take no more turns; returns those that wait. With the lock held."""
        self._ending = True
        waiting = [turn for turn in self._waiting if turn is not self._present]
        self._waiting.clear()
        return waiting

    def join(self, timeout: float) -> None:
        """Wait for the thread's end."""
        if self._thread is not None and self._thread != self._runtime.current():
            self._thread.join(timeout)

    def forked(self, lock: Lock, wake: Condition) -> None:
        """In a forked child: no turn is being taken. ``lock`` and ``wake`` replace the parent's."""
        self._lock, self._wake = lock, wake
        self._present = None

    def _run(self) -> None:
        """Take turns. A turn leaves the queue when it is over: until then later writes wait behind it."""
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
