"""Runs steps for all connections: in the event loop, or in threads where stores are far.

Stores that answer within microseconds are called in the loop's thread. Calls to others run in the
pool, and their results come back to the loop. Everything else belongs to the loop's thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from functools import partial
from typing import Any, TypeVar

from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError
from faaskeeper.gateway.machine import MACHINE, Machine
from faaskeeper.loops import settle, soon
from faaskeeper.session import commands
from faaskeeper.session.commands import Steps
from faaskeeper.session.interpreter import Interpreter
from faaskeeper.session.registrations import Registrations
from faaskeeper.session.timing import WAIT_MOST_S, WAIT_S, doubling

_T = TypeVar("_T")

MAX_REGISTRATIONS = 5_000
"""Registered watches that are kept before idle ones are removed."""
_STEPS = 100
"""Commands performed in the event loop's thread before it serves others; of records that are read
in one command, each counts.
"""
_THREADS = 32

Done = Callable[[Any, BaseException | None], None]
"""Called with the result of steps, or with what they raised."""


class StepRunner:
    """Runs steps on a deployment's stores.

    ``ring`` asks the service to apply the log; it is told how long the next wait is, in s.
    ``threads``: for calls to far stores. ``rows``: whether the service is told of watches.
    """

    def __init__(
        self,
        connection: Connection,
        ring: Callable[[float], None],
        machine: Machine = MACHINE,
        *,
        threads: int = _THREADS,
        rows: bool = True,
    ) -> None:
        self._connection = connection
        self._ring = ring
        self._rows = rows
        self._loop = asyncio.get_running_loop()
        self._pool = None if connection.within is not None else machine.pool(threads, "faaskeeper-gateway")
        self._lock = machine.lock
        self._thread = machine.thread
        self._own = machine.thread()
        self._interpreter = self._interpreter_of(0, "")
        self._shared: dict[str, list[Callable[[BaseException | None], None]]] = {}
        """Who waits for steps that are performed once for all, by their names."""

    def _interpreter_of(self, session: int, address: str) -> Interpreter:
        interpreter = Interpreter(self._connection, self._lock, MAX_REGISTRATIONS)
        interpreter.session, interpreter.address = session, address
        return interpreter

    def begin(self, session: int, address: str) -> None:
        """Register later watches under a session, with its address for notifications."""
        self._interpreter = self._interpreter_of(session, address)

    @property
    def session(self) -> int:
        """The session that watches are registered under; 0 before there is one."""
        return self._interpreter.session

    @property
    def registrations(self) -> Registrations:
        """The watches that the server has registered."""
        return self._interpreter.registrations

    def close(self) -> None:
        """End the pool's threads, after the calls that they are at."""
        if self._pool is not None:
            self._pool.shutdown()

    # ---- calls ---------------------------------------------------------------------------

    @property
    def inside(self) -> bool:
        """Whether the caller is in the loop's thread."""
        return self._thread() == self._own

    def soon(self, call: Callable[..., None], *args: Any) -> None:
        """Call something in the loop's thread, from any thread."""
        soon(self._loop, call, *args)

    def submit(self, function: Callable[..., _T], *args: Any) -> Future[_T]:
        """Call something in a thread of the pool; only where stores are far."""
        if self._pool is None:
            raise AssertionError("near stores are called in the loop's thread")
        return self._pool.submit(function, *args)

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call a driver."""
        if self._pool is None:
            return function(*args)
        return await self._loop.run_in_executor(self._pool, function, *args)

    # ---- steps ---------------------------------------------------------------------------

    async def perform(self, steps: Steps) -> Any:
        """Run steps; returns what they return."""
        future: asyncio.Future[Any] = self._loop.create_future()
        self.drive(steps, partial(settle, future))
        return await future

    def drive(
        self, steps: Steps, done: Done, answer: Any = None, pauses: Iterator[float] | None = None
    ) -> None:
        """Run steps, then call ``done(result, error)``: before this returns, if nothing waits.

        The error is what the steps raised, or a driver's error at a command.
        """
        left = _STEPS
        while left > 0:
            try:
                command = steps.send(answer)
            except StopIteration as stopped:
                done(stopped.value, None)
                return
            except Exception as error:
                done(None, error)
                return
            if isinstance(command, commands.Await):
                pauses = pauses or doubling(WAIT_S, WAIT_MOST_S)
                pause = next(pauses)
                self._ring(pause)
                self._loop.call_later(pause, self.drive, steps, done, None, pauses)
                return
            if self._pool is not None:
                if isinstance(command, commands.Share):
                    self._share(command, partial(self._resume, steps, done, pauses))
                    return
                if self._needless(command):
                    answer = [] if isinstance(command, commands.ReadRecords) else None
                    left -= 1
                    continue
                future = self._pool.submit(self._interpreter.perform, command)
                future.add_done_callback(lambda each: self.soon(self._performed, each, steps, done, pauses))
                return
            try:
                answer = self._interpreter.perform(command)
            except DriverError as error:
                steps.close()
                done(None, error)
                return
            left -= len(command.paths) if isinstance(command, commands.ReadRecords) else 1
        self._loop.call_soon(self.drive, steps, done, answer, pauses)

    def _needless(self, command: commands.Command) -> bool:
        """Whether a command asks nothing of the stores."""
        if isinstance(command, commands.ReadRecords):
            return not command.paths
        return not self._rows and isinstance(command, (commands.PutWatch, commands.RemoveWatch))

    def _performed(
        self, future: Future[Any], steps: Steps, done: Done, pauses: Iterator[float] | None
    ) -> None:
        error = future.exception()
        answer = None if error is not None else future.result()
        self._resume(steps, done, pauses, error, answer)

    def _resume(
        self,
        steps: Steps,
        done: Done,
        pauses: Iterator[float] | None,
        error: BaseException | None,
        answer: Any = None,
    ) -> None:
        if error is not None:
            steps.close()
            done(None, error)
        else:
            self.drive(steps, done, answer, pauses)

    def _share(self, command: commands.Share, resume: Callable[[BaseException | None], None]) -> None:
        waiting = self._shared.get(command.name)
        if waiting is not None:
            waiting.append(resume)
            return
        self._shared[command.name] = [resume]
        self.drive(command.steps(), partial(self._shared_done, command.name))

    def _shared_done(self, name: str, _: object, error: BaseException | None) -> None:
        """Go on: who asked first fails if the steps have, the others see for themselves."""
        for resume in self._shared.pop(name):
            self._loop.call_soon(resume, error)
            error = None
