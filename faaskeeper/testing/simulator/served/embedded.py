"""A service in the process of its server, as the embedded provider makes it.

One writer, which runs in the thread that asks if it is free, and otherwise in one of its own; early
replies; heartbeat in a further thread.
"""

from __future__ import annotations

import itertools
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from faaskeeper.core import trust
from faaskeeper.core.connection import Connection, FailureHandler, connection_to
from faaskeeper.core.drivers.storage import Condition, Item, Table
from faaskeeper.core.errors import Denied, DriverError, StaleView
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.log import Log
from faaskeeper.core.requests import Message, Reply
from faaskeeper.core.watches import WatchTable
from faaskeeper.core.writer import Writer, order
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.testing.simulator.environment import Process
from faaskeeper.testing.simulator.scheduler import Task
from faaskeeper.testing.simulator.world import World

_PROMPT_BATCHES = 4
_RETRIES = 5
_AWAY_MS = (0, 0, 1, 3, 20)
"""How long a thread other than the loop's does not run."""
_SYNC_MS = (0, 1, 1, 3, 20)
"""How long the log's file takes to be synced."""


class DirectListener:
    """A listener in the service's process."""

    def __init__(
        self,
        channel: DirectChannel,
        address: str,
        handler: Callable[[Any], None],
        settled: Callable[[], None] | None,
    ) -> None:
        self.address = address
        self.handler = handler
        self.settled = settled
        self._channel = channel

    def close(self) -> None:
        self._channel.listeners.pop(self.address, None)


class DirectChannel:
    """The channel within a process: see :class:`faaskeeper.core.drivers.channel.DirectChannel`."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._numbers = itertools.count(1)
        self.listeners: dict[str, DirectListener] = {}
        self._notified: dict[str, None] = {}

    def listen(self, handler: Callable[[bytes], None]) -> DirectListener:
        return self.listen_early(handler, None)

    def listen_early(
        self, handler: Callable[[Any], None], settled: Callable[[], None] | None
    ) -> DirectListener:
        """Listen, for early replies if ``settled`` is given."""
        address = f"local:{next(self._numbers)}"
        self.listeners[address] = DirectListener(self, address, handler, settled)
        return self.listeners[address]

    def accepts_early(self, address: str) -> bool:
        listener = self.listeners.get(address)
        return listener is not None and listener.settled is not None

    def deliver_early(self, address: str, reply: Reply) -> bool:
        if not self.accepts_early(address):
            return False
        self._world.model.told(reply)
        self._world.reached["answered early"] += 1
        self._notified[address] = None
        self.listeners[address].handler(reply)
        self.preempt()
        return True

    def preempt(self) -> None:
        """Let other threads run for a while, unless this is the loop's own."""
        if not self._world.scheduler.current().loop and (away := self._world.random.choice(_AWAY_MS)):
            self._world.scheduler.sleep(away)

    def deliver_late(self, address: str, reply: Reply) -> bool:
        return False

    def settled(self) -> None:
        notified, self._notified = self._notified, {}
        for address in notified:
            listener = self.listeners.get(address)
            if listener is not None and listener.settled is not None:
                listener.settled()

    def deliver(self, address: str, message: bytes) -> bool:
        self._world.scheduler.point(f"deliver to {address}")
        listener = self.listeners.get(address)
        if listener is not None:
            listener.handler(message)
        return listener is not None


class SyncedTable:
    """A table each of whose puts takes a while, in which other threads run: it waits for the disk."""

    def __init__(self, world: World, table: Table) -> None:
        self._world = world
        self._table = table

    def __getattr__(self, name: str) -> Any:
        return getattr(self._table, name)

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        self._table.put(partition, key, item, condition)
        if self._world.scheduler.running is not None and (took := self._world.random.choice(_SYNC_MS)):
            self._world.scheduler.sleep(took)


class EmbeddedService:
    """The service, and its queue: see :class:`faaskeeper.providers.inprocess.LocalQueue`."""

    ordered = True
    max_message_bytes = 1 << 30

    def __init__(self, world: World, process: Process) -> None:
        self._world = world
        self._process = process
        self._waiting: deque[Any] = deque()
        self._running = False
        self._thread: Task | None = None
        self._idle_due = False
        self._broken: Denied | None = None
        self._handlers: list[FailureHandler] = []
        self.stopped = False
        self.channel = DirectChannel(world)
        deployment = self.deployment = world.deployment(process)
        deployment.channel = deployment.direct_channel = self.channel
        table: Any = SyncedTable(world, world.tables["log"])
        deployment.log = Log(table, random=world.bytes)
        deployment.watches = WatchTable(MemoryTable())
        deployment.worker_queue = self
        self._writer = Writer(deployment)
        self._heartbeat = Heartbeat(deployment, world.tables["heartbeat"])
        self._heartbeat.readmit()
        world.scheduler.spawn("writer thread", self._serve_on, process)
        world.scheduler.spawn("heartbeat thread", self._beat, process)
        self.send("writer", "start", order(deployment))

    def connection(self) -> Connection:
        """A server's access."""
        return connection_to(
            self.deployment,
            self.channel,
            within=self,
            ring=self._ring,
            close=self._stop,
            on_failure=self._handlers.append,
            coalesce=True,
        )

    def _ring(self) -> None:
        self.send("writer", "ring", order(self.deployment))

    def _stop(self) -> None:
        self.stopped = True

    # ---- within ----------------------------------------------------------------------------

    def commit(self, messages: Sequence[Message]) -> None:
        self._check()
        for message in messages:
            self._world.model.sent(message)
        self._waiting.extend(messages)
        if self._running:
            self._world.reached["the writer runs in another thread"] += 1
        self._serve(_PROMPT_BATCHES)
        self._idle_due = True
        self._signal()
        self._check()

    def _check(self) -> None:
        if self._broken is not None:
            raise self._broken

    def listen(self, handler: Callable[[Reply | bytes], None], settled: Callable[[], None]) -> DirectListener:
        return self.channel.listen_early(handler, settled)

    def listen_late(self, handler: Callable[[Reply | bytes], None]) -> DirectListener:
        raise AssertionError("a server listens for early replies")

    # ---- the queue -------------------------------------------------------------------------

    def send(self, group: str, identity: str, body: bytes) -> None:
        if trust.body(body)[4:5] != b"{":
            raise AssertionError("a server commits within")
        self._check()
        self._waiting.append(body)
        self._signal()

    def _signal(self) -> None:
        if self._thread is not None:
            self._world.scheduler.wake(self._thread)

    def _serve_on(self) -> None:
        """Serve what nobody else does; save the progress after a while without messages."""
        scheduler = self._world.scheduler
        thread = scheduler.current()
        while not self.stopped:
            if self._waiting and not self._running:
                self._serve()
                self._idle_due = True
                continue
            self._thread = thread
            woken = scheduler.block(200 if self._idle_due else None)
            self._thread = None
            if not woken and self._idle_due and not self._running:
                self._idle_due = False
                self._attempt([])

    def _serve(self, most: int = 0) -> None:
        batches = 0
        while self._waiting and not self._running and not (most and batches >= most):
            batches += 1
            bodies = list(self._waiting)
            self._waiting.clear()
            self._attempt(bodies)
        if self._waiting:
            self._signal()

    def _attempt(self, bodies: list[Any]) -> None:
        self._running = True
        self.channel.preempt()
        pause = 50
        for left in reversed(range(_RETRIES if self._broken is None else 0)):
            try:
                if bodies:
                    self._writer.handle(bodies)
                else:
                    self._writer.idle()
                break
            except (DriverError, StaleView) as error:
                self._world.scheduler.note(f"the writer fails: {error!r}")
                self._world.reached["the writer tries again"] += 1
                if not left:
                    self._world.reached["an embedded service ended itself"] += 1
                    self._broken = Denied(f"the service has stopped: {error}")
                    for handler in self._handlers:
                        handler(self._broken)
                    break
                self._world.scheduler.sleep(pause)
                pause *= 2
        self._running = False
        if self._waiting:
            self._signal()

    def _beat(self) -> None:
        while not self.stopped:
            self._world.scheduler.sleep(self._world.random.choice((50, 300, 1_000, 3_000)))
            rings = self._world.random.random() < 0.6
            try:
                if rings:
                    self._ring()
                    continue
                self._heartbeat.run()
                self._world.bounds.beats += 1
            except (DriverError, StaleView) as error:
                self._world.scheduler.note(f"heartbeat failed: {error}")
