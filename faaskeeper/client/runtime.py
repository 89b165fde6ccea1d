"""The threads and the time that a session uses; a simulator can replace them with its own."""

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
        """Release the lock."""

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
        """Wait for a notification, at most ``timeout`` seconds."""

    def notify_all(self) -> None:
        """Wake all waiting threads."""


class Line(Protocol):
    """As :class:`queue.SimpleQueue`."""

    def put(self, item: Any) -> None:
        """Add an item."""

    def get(self) -> Any:
        """Wait for an item and remove it."""


class Thread(Protocol):
    """As :class:`threading.Thread`, started."""

    def join(self, timeout: float | None = None) -> None:
        """Wait for the thread's end, at most ``timeout`` seconds."""


class Runtime(Protocol):
    """Threads and time."""

    def lock(self) -> Lock:
        """A new lock."""

    def condition(self, lock: Lock) -> Condition:
        """A new condition of a lock."""

    def line(self) -> Line:
        """A new queue between threads."""

    def spawn(self, run: Callable[[], None], name: str) -> Thread:
        """Start a daemon thread: it does not keep the process alive."""

    def current(self) -> object:
        """The calling thread."""

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment."""

    def sleep(self, seconds: float) -> None:
        """Wait for this many seconds."""


class Threads:
    """The threads and the time of the operating system."""

    lock = staticmethod(threading.Lock)
    current = staticmethod(threading.current_thread)
    monotonic = staticmethod(time.monotonic)
    sleep = staticmethod(time.sleep)

    def line(self) -> Line:
        return SimpleQueue[Any]()

    def condition(self, lock: Lock) -> threading.Condition:
        return threading.Condition(lock)  # type: ignore[arg-type]

    def spawn(self, run: Callable[[], None], name: str) -> threading.Thread:
        thread = threading.Thread(target=run, name=name, daemon=True)
        thread.start()
        return thread


THREADS: Runtime = Threads()
