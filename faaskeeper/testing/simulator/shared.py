"""Take-overs of an embedded service: its owner dies with what is in memory, and another one follows.

The owner is the writer's instance with its queue, the rows of watches, and the records and the mark
that it has not written to its files. Clients have joined, by what a link has them do: their calls
are answered as :mod:`~faaskeeper.providers.local.sharing.host` does, they keep their rows as
:class:`~faaskeeper.providers.local.sharing.remote.WatchRows` does, and wait while there is no owner.
Not simulated: the link's own threads and sockets, and who takes over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from faaskeeper.core import codec
from faaskeeper.core.connection import Connection, connection_to
from faaskeeper.core.deployment import on_tables
from faaskeeper.core.drivers.storage import Item
from faaskeeper.core.errors import DriverError, Unavailable
from faaskeeper.providers.local.sharing import wire
from faaskeeper.providers.local.sharing.host import CALLS, RecordTable
from faaskeeper.providers.local.sharing.remote import RemoteTable, WatchRows
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.testing.simulator.director import Director
from faaskeeper.testing.simulator.environment import Process
from faaskeeper.testing.simulator.histories import History, Kind, run
from faaskeeper.testing.simulator.plan import SIMPLER, Plan, plan_of
from faaskeeper.testing.simulator.queues import SimulatedQueue
from faaskeeper.testing.simulator.scheduler import Scheduler
from faaskeeper.testing.simulator.world import World

_LENGTH = 4
_PAUSE_MS = 20
_FIRST_BEAT_MS = 5_000
"""A new owner's heartbeat comes so much later, when all clients that live have renewed."""
_LATER = ("records", "checkpoint")
"""Tables that an owner has in memory first."""


class _OwnersQueue(SimulatedQueue):
    """The owner's queue to its writer."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self._instances_made: list[Process] = []
        make = self._make

        def noted(process: Process) -> Any:
            self._instances_made.append(process)
            return make(process)

        self._make = noted

    def die(self) -> None:
        """Lose all messages, and end the writer wherever it is."""
        for process in self._instances_made:
            process.alive = False
            self._ledger.scheduler.kill(process)
        self._instances_made.clear()
        self._waiting.clear()
        self._taken.clear()
        self._idle.clear()
        self._running = 0


class _Link:
    """A client's way to the owner. Stands for :class:`~faaskeeper.providers.local.sharing.link.Link`."""

    def __init__(self, world: SharedWorld, process: Process) -> None:
        self._world = world
        self.process = process
        self._returned: list[Callable[[], None]] = []
        self._tables: dict[str, Any] = {
            **world.tables,
            "records": RecordTable(world.deployment(process).records),
        }
        self._writable = self._table = self._tables.__getitem__

    def call(
        self, head: Sequence[object], data: bytes = b"", *, again: bool = True, within: float = wire.ANSWER_S
    ) -> tuple[list[Any], bytes]:
        """Have the owner answer a call."""
        self._world.await_owner()
        owner: Any = self
        body = CALLS[str(head[0])](owner, list(head[1:]), data)[_LENGTH:]
        answer, at = codec.unframe(body)
        return answer, body[at:]

    def send(self, group: str, identity: str, body: bytes) -> None:
        """Give the owner a message, which dies with it."""
        self._world.await_owner()
        self._world.worker_queue.send(group, identity, body)

    def back(self) -> None:
        """There is another owner."""
        try:
            for handler in self._returned:
                handler()
        except DriverError:
            self._world.scheduler.note("the owner died before all was restored")  # the next one has it

    def connection(self) -> Connection:
        """The client's connection; see :func:`faaskeeper.providers.local.sharing.remote.connection`."""
        world: Any = self._world
        link: Any = self
        rows = WatchRows(link)
        deployment = on_tables(
            lambda name: rows if name == "watch" else RemoteTable(link, name),
            expiring_log=False,
            blobs=world.objects if world.plan.inline_bytes < 1 << 20 else None,
            worker_queue=self,
            channel=world.mail,
            key=world.deployment(self.process).key,
            clock=lambda: world.scheduler.now,
            limits=world.limits,
            random=world.bytes,
        )
        self._returned.append(rows.restore)
        return connection_to(
            deployment, world.mail, ring=world.ring, coalesce=True, on_return=self._returned.append
        )

    ordered = True
    max_message_bytes = 1 << 30


class SharedWorld(World):
    """A deployment whose owner dies now and then, and its clients."""

    def __init__(self, scheduler: Scheduler, plan: Plan) -> None:
        self._there = True
        self._since = 0
        self._links: list[_Link] = []
        super().__init__(scheduler, plan)

    def _queue(self, *arguments: Any) -> SimulatedQueue:
        name, ordered, instances, make, *most = arguments
        return _OwnersQueue(self, name, ordered, instances, make, self.bounds.invoked, *most)

    def _connection(self, process: Process) -> Connection:
        self._links.append(_Link(self, process))
        return self._links[-1].connection()

    def beat(self) -> None:
        if self._there and self.scheduler.now >= self._since + _FIRST_BEAT_MS:
            super().beat()

    def await_owner(self) -> None:
        """Wait until there is an owner. Raises Unavailable."""
        for _ in range(int(wire.ANSWER_S * 1_000 / _PAUSE_MS)):
            if self._there:
                return
            self.scheduler.sleep(_PAUSE_MS)
        raise Unavailable("the process that has the directory open does not answer")

    def die_now_and_then(self) -> None:
        """Have owners die, until no more faults are to happen."""
        while not self.calm:
            files = {name: _contents(self.rows[name]) for name in _LATER}
            self.scheduler.sleep(self.random.choice((1, 20, 300, 5_000)))
            self._die()
            for name in _LATER:  # as of the last time that they were written to
                _set(self.rows[name], files[name])
            self.scheduler.sleep(self.random.choice((1, 20, 300, 7_000)))
            self._follow()
            self.scheduler.sleep(self.random.choice((1, 300, 5_000, 20_000)))

    def _die(self) -> None:
        self.reached["an owner died"] += 1
        self._there = False
        queue: Any = self.worker_queue
        queue.die()
        _set(self.rows["watch"], {})

    def _follow(self) -> None:
        """Be the next owner: apply the log, then let others call."""
        deployment = self.deployment(self.system)
        head = self.model.head
        while deployment.checkpoints.applied() < head:
            self.ring()
            self.scheduler.sleep(5)
        self._there, self._since = True, self.scheduler.now
        for link in self._links:
            if link.process.alive:
                self.scheduler.spawn("link", link.back, link.process)


def _contents(table: MemoryTable) -> dict[tuple[str, str], Item]:
    return {
        (name, key): dict(item) for name, items in table.partitions.items() for key, item in items.items()
    }


def _set(table: MemoryTable, contents: Mapping[tuple[str, str], Item]) -> None:
    for partition, key in _contents(table):
        table.delete(partition, key)
    for (partition, key), item in contents.items():
        table.put(partition, key, item)


class SharedDirector(Director):
    """The course of a history with take-overs."""

    world: SharedWorld

    def run(self) -> None:
        """The whole history."""
        self.world.scheduler.spawn("owners", self.world.die_now_and_then, self.world.system)
        super().run()


def shared_plan_of(seed: int) -> Plan:
    """The plan of a seed's history with take-overs: the service is one process, its stores are near."""
    near: dict[str, Any] = {"writers": 1, "own_distributor": False, "ordered": True, "object_records": False}
    sure: dict[str, Any] = {"faults": 0.0, "losses": 0.0, "skew_ms": 0, "lead_ms": 0, "steps": False}
    plain: dict[str, Any] = {"joint": False, "watch_function": False, "stripes": 1, "max_item_bytes": 1 << 30}
    other: dict[str, Any] = {"long": False, "cut": False, "servers": False, "hostile": 0, "mass": 0}
    more: dict[str, Any] = {"expiring": False, "sharing": False, "copies": False}
    return replace(plan_of(seed), **near, **sure, **plain, **other, **more)


def run_shared(seed: int, plan: Plan | None = None, trace: bool = False) -> History:
    """Run the history with take-overs of a seed, with the seed's plan if none is given."""
    return run(seed, plan or shared_plan_of(seed), trace, SharedWorld, SharedDirector)


_SIMPLER = [change for change in SIMPLER if "expiring" not in change]
_EXPECTED = frozenset(
    {
        "a watch that stays",
        "an epoch that names the log",
        "an owner died",
        "children in pages",
        "client died",
        "data in a blob",
        "went on with a session",
    }
)
LONG_RUN = 1_000
"""A run of so many histories or more must reach every fault and rare branch."""
SHARED = Kind(run_shared, shared_plan_of, _SIMPLER, _EXPECTED, LONG_RUN, " --shared")
"""Histories with take-overs."""
