"""Performs the commands of steps: in the loop if that never waits, otherwise in threads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

from faaskeeper.aio.sender import Sender
from faaskeeper.aio.threads import Threads
from faaskeeper.core.errors import DriverError
from faaskeeper.session import commands
from faaskeeper.session.commands import Steps
from faaskeeper.session.engine import Engine
from faaskeeper.session.interpreter import failure
from faaskeeper.session.reads import TOGETHER
from faaskeeper.session.timing import RING_S, WAIT_MOST_S, WAIT_S, doubling

_IN_LOOP = frozenset(
    (
        commands.ReadRecord,
        commands.ReadRecords,
        commands.ReadLog,
        commands.ReadLogEnd,
        commands.ReadMark,
    )
)
_TURN_S = 0.002
"""How long reads that never wait may occupy the loop."""


class Driver:
    """Belongs to the loop that runs at its creation.

    ``threads``: for commands that may wait. ``tidy`` is called when registrations are to be
    tidied.
    """

    def __init__(
        self, engine: Engine[Any], sender: Sender, threads: Threads, tidy: Callable[[], None]
    ) -> None:
        self._engine = engine
        self._connection = engine.connection
        self._sender = sender
        self._threads = threads
        self._tidy = tidy
        self._loop = asyncio.get_running_loop()
        self.near = engine.connection.within is not None
        """The service is in this process: records, log and mark are read in the loop."""
        self._gave_way = 0.0

    async def drive(
        self, steps: Steps, command: commands.Command | None = None, threads: Threads | None = None
    ) -> Any:
        """Perform the commands of steps, from ``command`` on if they have begun; closes steps.

        ``threads``: other ones than for users' requests. Raises what the steps raise,
        WatchSetFailureException, or ProviderException.
        """
        pauses: Iterator[float] | None = None
        threads = threads or self._threads
        try:
            if command is None:
                command = steps.send(None)
            while True:
                try:
                    if self.near and type(command) in _IN_LOOP and not _many(command):
                        await self._give_way()
                        answer = self._engine.perform(command)
                    elif isinstance(command, commands.Await):
                        pauses = pauses or doubling(WAIT_S, WAIT_MOST_S)
                        await self._wait(next(pauses), threads)
                        answer = None
                    else:
                        self._engine.check()
                        answer = await threads.run(self._engine.perform, command)
                except DriverError as error:
                    raise failure(command, error) from error
                if self._engine.must_tidy(command):
                    self._tidy()
                self._engine.rules.observer.performed(command, answer)
                command = steps.send(answer)
        except StopIteration as done:
            return done.value
        finally:
            steps.close()

    @property
    def may_stay(self) -> bool:
        """Whether one more read may be performed without giving way to the rest of the loop."""
        return self._loop.time() - self._gave_way <= _TURN_S

    async def _give_way(self) -> None:
        """Let the rest of the loop run, unless it ran recently.

        A task whose reads never wait would block the loop: no answer would be processed, and not
        even the task's own time-out would fire.
        """
        if not self.may_stay:
            await asyncio.sleep(0)
            self._gave_way = self._loop.time()
            self._engine.check()

    async def _wait(self, pause: float, threads: Threads) -> None:
        """Ask the service to apply the log, by a queue only after long waits; wait ``pause`` s."""
        if self._connection.ring is not None:
            await threads.run(self._connection.ring)
        elif pause > RING_S:
            self._sender.wake()
        await asyncio.sleep(pause)
        self._engine.check()


def _many(command: commands.Command) -> bool:
    return isinstance(command, commands.ReadRecords) and len(command.paths) > TOGETHER
