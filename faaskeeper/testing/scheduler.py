"""One seeded scheduler for everything that runs: tasks that switch where they say, and virtual time.

A task is a greenlet. It runs alone until it calls :meth:`Scheduler.point` (before every driver call) or
waits; then the seed decides who goes on. Time passes only when nobody can. So a seed is a history.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable
from math import ceil
from random import Random
from types import TracebackType
from typing import Any

import greenlet


class Violation(BaseException):
    """A promise was broken. Not an Exception: nothing under test may catch it."""


class Crashed(BaseException):
    """The process in which this runs dies here."""


class Stuck(Violation):
    """Somebody waits for what will never come."""


class Task:
    """Something that runs. ``process``: what dies together."""

    __slots__ = ("blocked", "done", "greenlet", "joining", "name", "process", "timer", "woken")

    def __init__(self, name: str, process: Any) -> None:
        self.name = name
        self.process: Any = process
        self.greenlet: Any = None
        self.done = False
        self.blocked = False
        self.woken = False
        self.timer = 0
        self.joining: list[Task] = []


_UNWINDINGS = 100
"""How often a task that is unwound may begin to wait again."""


class Scheduler:
    """Runs tasks by the decisions of a seed. ``now``: virtual time in ms."""

    def __init__(self, seed: int, start: int = 1_700_000_000_000) -> None:
        self.random = Random(seed)
        self.now = start
        self.steps = 0
        self.trace: list[str] = []
        self.tracing = False
        self.over = False
        self._ready: list[Task] = []
        self._timers: list[tuple[int, int, Task, int]] = []
        self._numbers = itertools.count(1)
        self._current: Task | None = None
        self._main = greenlet.getcurrent()
        self._error: BaseException | None = None
        self._tasks: list[Task] = []

    def note(self, text: str) -> None:
        """Add a line to the trace."""
        if self.tracing:
            who = self._current.name if self._current else "-"
            self.trace.append(f"{self.now - 1_700_000_000_000:>9} {who}: {text}")

    # ---- tasks -------------------------------------------------------------------------

    def spawn(self, name: str, run: Callable[[], object], process: object = None) -> Task:
        """A new task, ready to run. Its process is the caller's unless given."""
        if process is None and self._current is not None:
            process = self._current.process
        task = Task(name, process)

        def body() -> None:
            try:
                run()
            except (Crashed, greenlet.GreenletExit):
                pass
            except BaseException as error:
                if self._error is None:
                    self._error = error
            task.done = True
            for waiting in task.joining:
                self.wake(waiting)

        task.greenlet = greenlet.greenlet(body, parent=self._main)
        self._ready.append(task)
        self._tasks.append(task)
        return task

    def current(self) -> Task:
        """The task that runs."""
        if self._current is None:
            raise AssertionError("no task runs")
        return self._current

    def kill(self, process: object) -> None:
        """End every task of a process where it stands; the caller's own task goes on to its end."""
        for task in self._tasks:
            if task.process is process and task is not self._current and not task.done:
                task.done = True
                if task in self._ready:
                    self._ready.remove(task)

    # ---- switching ---------------------------------------------------------------------

    def point(self, label: str) -> None:
        """Let others run here, if the seed says so."""
        if self.over:
            raise greenlet.GreenletExit
        self.note(label)
        self._switch()

    def _switch(self) -> None:
        self._main.switch()
        if self.over:
            raise greenlet.GreenletExit
        task = self.current()
        if task.done:  # killed while it waited
            raise greenlet.GreenletExit

    def block(self, timeout: float | None = None) -> bool:
        """Wait to be woken, at most so many ms; returns whether somebody did."""
        if self.over:
            raise greenlet.GreenletExit
        task = self.current()
        task.blocked, task.woken = True, False
        self._ready.remove(task)
        task.timer += 1
        if timeout is not None:
            due = self.now + max(ceil(timeout), 1)
            heapq.heappush(self._timers, (due, next(self._numbers), task, task.timer))
        self._switch()
        return task.woken

    def wake(self, task: Task) -> None:
        """Make a waiting task ready."""
        if task.blocked and not task.done:
            task.blocked, task.woken = False, True
            self._ready.append(task)

    def sleep(self, milliseconds: float) -> None:
        """Let time pass."""
        self.block(milliseconds)

    # ---- running -----------------------------------------------------------------------

    def run(self, most_steps: int) -> None:
        """Run until no task can go on, not even by time passing. Raises what a task raised."""
        last: Task | None = None
        random = self.random.random
        while True:
            if not self._ready and not self._pass_time():
                return
            if self.steps >= most_steps:
                raise Stuck(f"no end after {most_steps} steps")
            self.steps += 1
            if last is not None and not last.done and not last.blocked and random() < 0.5:
                task = last
            else:
                task = self._ready[int(random() * len(self._ready))]
            self._current = task
            task.greenlet.switch()
            self._current = None
            if task.done and task in self._ready:
                self._ready.remove(task)
            last = task
            if self._error is not None:
                raise self._error

    def _pass_time(self) -> bool:
        """Go on to the next moment at which a task wakes up; False when there is none."""
        while self._timers:
            due, _, task, turn = heapq.heappop(self._timers)
            if task.done or not task.blocked or turn != task.timer:
                continue
            self.now = max(self.now, due)
            task.blocked = False
            self._ready.append(task)
            return True
        return False

    def end(self) -> None:
        """Nothing runs any more; what still stands somewhere is unwound without effect, to be collected."""
        self.over = True
        for task in self._tasks:
            for _ in range(_UNWINDINGS):
                if task.greenlet.dead:
                    break
                task.greenlet.throw()
        self._tasks = []
        self._ready = []
        self._timers = []


# ---- what real threads have ----------------------------------------------------------------------


class SimulatedLock:
    """As :class:`threading.Lock`."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._held = False
        self._waiting: deque[Task] = deque()

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        """See :class:`faaskeeper.client.runtime.Lock`."""
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
        """See :class:`faaskeeper.client.runtime.Lock`."""
        self._held = False
        while self._waiting:
            self._scheduler.wake(self._waiting.popleft())

    def locked(self) -> bool:
        """Whether somebody holds it."""
        return self._held

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class SimulatedCondition:
    """As :class:`threading.Condition`."""

    def __init__(self, scheduler: Scheduler, lock: SimulatedLock) -> None:
        self._scheduler = scheduler
        self._lock = lock
        self._waiting: list[Task] = []

    def wait(self, timeout: float | None = None) -> bool:
        """See :class:`faaskeeper.client.runtime.Condition`."""
        self._waiting.append(self._scheduler.current())
        self._lock.release()
        woken = self._scheduler.block(None if timeout is None else timeout * 1000)
        self._lock.acquire()
        return woken

    def notify_all(self) -> None:
        """See :class:`faaskeeper.client.runtime.Condition`."""
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
        """See :class:`faaskeeper.client.runtime.Line`."""
        self._items.append(item)
        if self._waiting:
            self._scheduler.wake(self._waiting.popleft())

    def get(self) -> Any:
        """See :class:`faaskeeper.client.runtime.Line`."""
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
        """See :class:`faaskeeper.client.runtime.Thread`."""
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
        """See :class:`faaskeeper.client.runtime.Runtime`."""
        return SimulatedLock(self._scheduler)

    def condition(self, lock: Any) -> SimulatedCondition:
        """See :class:`faaskeeper.client.runtime.Runtime`."""
        return SimulatedCondition(self._scheduler, lock)

    def line(self) -> SimulatedLine:
        """See :class:`faaskeeper.client.runtime.Runtime`."""
        return SimulatedLine(self._scheduler)

    def spawn(self, run: Callable[[], None], name: str) -> SimulatedThread:
        """See :class:`faaskeeper.client.runtime.Runtime`."""
        return SimulatedThread(self._scheduler, self._scheduler.spawn(name, run, self._process))

    def current(self) -> object:
        """See :class:`faaskeeper.client.runtime.Runtime`."""
        return SimulatedThread(self._scheduler, self._scheduler.current())

    def monotonic(self) -> float:
        """See :class:`faaskeeper.client.runtime.Runtime`."""
        return self._scheduler.now / 1000

    def sleep(self, seconds: float) -> None:
        """See :class:`faaskeeper.client.runtime.Runtime`."""
        self._scheduler.sleep(seconds * 1000)
