"""One seeded scheduler for all tasks, with virtual time.

A task is a greenlet. It runs alone until it calls :meth:`Scheduler.point` (before every driver
call) or waits; then the seed decides which task runs next. Time passes only when all tasks wait. So
a seed is a history.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from math import ceil
from random import Random
from typing import Any

import greenlet

START_MS = 1_700_000_000_000
"""The virtual time at which a history starts."""


class Violation(BaseException):
    """A promise was broken. Not an Exception, so that no code under test catches it."""


class Crashed(BaseException):
    """The process in which this runs dies here."""


class Stuck(Violation):
    """A task waits for what will never come."""


class Task:
    """A thread or an invocation. ``process``: all its tasks die together."""

    __slots__ = ("blocked", "done", "greenlet", "joining", "loop", "name", "process", "timer", "woken")

    def __init__(self, name: str, process: Any) -> None:
        self.name = name
        self.process: Any = process
        self.greenlet: Any = None
        self.done = False
        self.blocked = False
        self.woken = False
        self.timer = 0
        self.joining: list[Task] = []
        self.loop: Any = None
        """The event loop that it runs."""


_UNWINDINGS = 100
"""How often a task that is unwound may wait again."""


class Scheduler:
    """Runs tasks by the decisions of a seed. ``now``: virtual time in ms."""

    def __init__(self, seed: int, start: int = START_MS) -> None:
        self.random = Random(seed)
        self.now = start
        self.steps = 0
        self.trace: list[str] = []
        self.tracing = False
        self.over = False
        self.on_switch: Callable[[Task], None] = lambda task: None
        """Called with the task that is about to run."""
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
            self.trace.append(f"{self.now - START_MS:>9} {who}: {text}")

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

    @property
    def running(self) -> Task | None:
        """The task that runs. None: the code that made the scheduler does."""
        return self._current

    def current(self) -> Task:
        """The task that runs."""
        if self._current is None:
            raise AssertionError("no task runs")
        return self._current

    def kill(self, process: object) -> None:
        """End every task of a process where it is; the caller's own task runs to its end."""
        for task in self._tasks:
            if task.process is process and task is not self._current and not task.done:
                task.done = True
                if task in self._ready:
                    self._ready.remove(task)

    # ---- switching ---------------------------------------------------------------------

    def point(self, label: str) -> None:
        """Let other tasks run here, if the seed says so."""
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
        """Wait to be woken, for at most so many ms; returns whether the task was woken."""
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
        """Wait for so many ms."""
        self.block(milliseconds)

    # ---- running -----------------------------------------------------------------------

    def run(self, most_steps: int) -> None:
        """Run until no task is ready and no time-out is pending. Raises what a task raised."""
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
            self.on_switch(task)
            task.greenlet.switch()
            self._current = None
            if task.done and task in self._ready:
                self._ready.remove(task)
            last = task
            if self._error is not None:
                raise self._error

    def _pass_time(self) -> bool:
        """Advance to the next time-out at which a task wakes up; False if there is none."""
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
        """Stop. Tasks that have not ended are unwound without effect, for the garbage collector."""
        self.over = True
        for task in self._tasks:
            for _ in range(_UNWINDINGS):
                if task.greenlet.dead:
                    break
                task.greenlet.throw()
        self._tasks = []
        self._ready = []
        self._timers = []
