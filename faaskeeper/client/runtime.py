"""What a session needs of threads and time, so that a simulator can put its own in their place."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from types import TracebackType
from typing import Any, Protocol


class Lock(Protocol):
    """As :class:`threading.Lock`."""

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """Take the lock."""

    def release(self) -> None:
        """Give it back."""

    def __enter__(self) -> bool: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Condition(Protocol):
    """As :class:`threading.Condition`, used with its lock held."""

    def wait(self, timeout: float | None = None) -> bool:
        """Wait to be notified, at most so many seconds."""

    def notify_all(self) -> None:
        """Wake all who wait."""


class Line(Protocol):
    """As :class:`queue.SimpleQueue`."""

    def put(self, item: Any) -> None:
        """Put an item in."""

    def get(self) -> Any:
        """Wait for an item."""


class Thread(Protocol):
    """As :class:`threading.Thread`, started."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for its end."""


class Runtime(Protocol):
    """Threads and time."""

    def lock(self) -> Lock:
        """A lock."""

    def condition(self, lock: Lock) -> Condition:
        """A condition of a lock."""

    def line(self) -> Line:
        """A queue between threads."""

    def spawn(self, run: Callable[[], None], name: str) -> Thread:
        """Start a thread that does not keep the process alive."""

    def current(self) -> object:
        """The thread that calls."""

    def monotonic(self) -> float:
        """Seconds, from some moment on."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""


class Threads:
    """The real ones."""

    lock = staticmethod(threading.Lock)
    current = staticmethod(threading.current_thread)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def line(self) -> Line:
        """See :class:`Runtime`."""
        return SimpleQueue[Any]()

    def condition(self, lock: Lock) -> threading.Condition:
        """See :class:`Runtime`."""
        return threading.Condition(lock)  # type: ignore[arg-type]

    def spawn(self, run: Callable[[], None], name: str) -> threading.Thread:
        """See :class:`Runtime`."""
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread


THREADS: Runtime = Threads()
