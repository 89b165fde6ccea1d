"""Locks, conditions, queues, threads and time of a simulated process, by the scheduler."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from faaskeeper.testing.simulator.scheduler import Scheduler, Task


class SimulatedLock:
    """As :class:`threading.Lock`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False
        self._waiting: deque[Task] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        deadline = None if timeout < 0 else self._scheduler.now + timeout * 1000
        while self._held:
            if not blocking:
                return False
            left = None if deadline is None else deadline - self._scheduler.now
            if left is not None and left <= 0:
                return False
            self._waiting.append(self._scheduler.current())
            self._scheduler.block(left)
        self._held = True
        return True

    def release(self) -> None:
        self._held = False
        while self._waiting:
            self._scheduler.wake(self._waiting.popleft())

    def locked(self) -> bool:
        """Whether a task holds it."""
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, *_: object) -> None:
        self.release()


class SimulatedCondition:
    """As :class:`threading.Condition`."""

    def __init__(self, scheduler: Scheduler, lock: SimulatedLock) -> None:
        self._scheduler = scheduler
        self._lock = lock
        self._waiting: list[Task] = []

    def wait(self, timeout: float | None = None) -> bool:
        self._waiting.append(self._scheduler.current())
        self._lock.release()
        woken = self._scheduler.block(None if timeout is None else timeout * 1000)
        self._lock.acquire()
        return woken

    def notify_all(self) -> None:
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            self._scheduler.wake(task)


class SimulatedLine:
    """As :class:`queue.SimpleQueue`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._items: deque[Any] = deque()
        self._waiting: deque[Task] = deque()

    def put(self, item: Any) -> None:
        self._items.append(item)
        if self._waiting:
            self._scheduler.wake(self._waiting.popleft())

    def get(self) -> Any:
        while not self._items:
            self._waiting.append(self._scheduler.current())
            self._scheduler.block()
        return self._items.popleft()


class SimulatedThread:
    """As a started :class:`threading.Thread`."""

    def __init__(self, scheduler: Scheduler, task: Task) -> None:
        self._scheduler = scheduler
        self.task = task

    def join(self, timeout: float | None = None) -> None:
        if not self.task.done:
            self.task.joining.append(self._scheduler.current())
            self._scheduler.block(None if timeout is None else timeout * 1000)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SimulatedThread) and other.task is self.task

    def __hash__(self) -> int:
        return id(self.task)


class SimulatedRuntime:
    """Threads and time of one simulated process."""

    def __init__(self, scheduler: Scheduler, process: object) -> None:
        self._scheduler = scheduler
        self._process = process

    def lock(self) -> SimulatedLock:
        return SimulatedLock(self._scheduler)

    def condition(self, lock: Any) -> SimulatedCondition:
        return SimulatedCondition(self._scheduler, lock)

    def line(self) -> SimulatedLine:
        return SimulatedLine(self._scheduler)

    def spawn(self, run: Callable[[], None], name: str) -> SimulatedThread:
        return SimulatedThread(self._scheduler, self._scheduler.spawn(name, run, self._process))

    def current(self) -> object:
        return SimulatedThread(self._scheduler, self._scheduler.current())

    def monotonic(self) -> float:
        return self._scheduler.now / 1000

    def sleep(self, seconds: float) -> None:
        self._scheduler.sleep(seconds * 1000)
