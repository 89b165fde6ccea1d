"""A whole deployment in the simulator: its functions and clients, on simulated drivers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.answers import wake_up
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.connection import Connection, connection_to
from faaskeeper.core.deployment import Deployment, begin
from faaskeeper.core.distribution import DistributorFunction
from faaskeeper.core.drivers.storage import IfOlder, Write
from faaskeeper.core.errors import Conflict, DriverError, StaleView
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.log import Log
from faaskeeper.core.records import ObjectRecords, Records, TableRecords
from faaskeeper.core.sessions import Leases, Transients
from faaskeeper.core.watches import Secrets, WatchFunction, WatchTable
from faaskeeper.core.writer import Writer, order
from faaskeeper.core.znode import genesis
from faaskeeper.testing.simulator.bounds import Bounds
from faaskeeper.testing.simulator.channels import SimulatedChannel
from faaskeeper.testing.simulator.environment import KEY, Process
from faaskeeper.testing.simulator.ledger import TABLES, Ledger
from faaskeeper.testing.simulator.plan import Plan
from faaskeeper.testing.simulator.queues import SimulatedQueue
from faaskeeper.testing.simulator.runtime import SimulatedRuntime
from faaskeeper.testing.simulator.scheduler import Scheduler, Task, Violation
from faaskeeper.testing.simulator.storage import SimulatedObjects, SimulatedTable

_WATCH_MESSAGE_BYTES = 600
"""Most bytes of a message to the watch function: so few that its work is split."""


class World(Ledger):
    """The simulated deployment."""

    def __init__(self, scheduler: Scheduler, plan: Plan) -> None:
        super().__init__(scheduler, plan)
        self.bounds = Bounds(self)
        self.on_commit.append(self.bounds.committed)
        self.tables = {name: SimulatedTable(self, name) for name in TABLES}
        self.objects = SimulatedObjects(self)
        self.mail = SimulatedChannel(self)
        self.worker_queue = self._queue("worker", plan.ordered, plan.writers, self._writer)
        self.distributor_queue = (
            self._queue("distributor", plan.ordered, 2, self._distributor) if plan.own_distributor else None
        )
        self.watch_queue = (
            self._queue("watch", False, 2, self._watcher, _WATCH_MESSAGE_BYTES)
            if plan.watch_function
            else None
        )
        if not plan.cut:
            begin(self.deployment(self.system))

    def _queue(
        self, name: str, ordered: bool, instances: int, make: Callable[[Process], Any], most: int = 1 << 30
    ) -> SimulatedQueue:
        return SimulatedQueue(self, name, ordered, instances, make, self.bounds.invoked, most)

    def deployment(self, process: Process) -> Deployment:
        """The deployment as a process sees it."""
        records: Records = TableRecords(self.tables["records"], self.bytes)
        if self.plan.object_records:
            records = ObjectRecords(self.objects, self.gather)
        small = self.plan.inline_bytes < 1 << 20
        return Deployment(
            log=Log(self.tables["log"], random=self.bytes, stripes=lambda: self.plan.stripes),
            checkpoints=Checkpoints(
                self.tables["checkpoint"], expiring=self.plan.expiring, random=self.bytes
            ),
            records=records,
            leases=Leases(self.tables["lease"]),
            transients=Transients(self.tables["lease"]),
            watches=WatchTable(self.tables["watch"]),
            blobs=self.objects if small else None,
            worker_queue=self.worker_queue,
            distributor_queue=self.distributor_queue,
            watch_queue=self.watch_queue,
            expiring_log=self.plan.expiring,
            channel=self.mail,
            key=KEY,
            super_digest=self.super_digest,
            clock=lambda: self.scheduler.now + process.skew,
            elapsed=lambda: self.scheduler.now,
            wall=lambda: self.scheduler.now + process.skew + process.wall,
            gather=self.gather,
            random=self.bytes,
            limits=self.limits,
            recent_bytes=self.plan.recent_bytes,
            save_every=self.plan.save_every,
            max_nodes=self.plan.max_nodes,
            max_contents=self.plan.max_contents,
            joint=self.joint if self.plan.joint and not self.plan.object_records else None,
        )

    def joint(self, writes: Sequence[Write]) -> None:
        label = ", ".join(f"{each.table} {each.partition} {each.key}" for each in writes)
        # of its own, so that other histories stay what they were
        stale = Random(f"{label} {self.scheduler.now}").random() < self.plan.faults

        def effect() -> None:
            if stale and not self.calm:
                self.reached["a driver had seen another state of a record"] += 1
                raise Conflict(label)
            for write in writes:  # no switch in between: the call is atomic
                there = self.tables[write.table].inner.get(write.partition, write.key)
                if there is None:
                    continue
                stamp = there["stamp"]
                assert isinstance(stamp, int)
                if not isinstance(write.condition, IfOlder) or stamp >= write.condition.stamp:
                    raise Conflict(f"{write.table} {write.partition} {write.key}")
            for write in writes:
                self.tables[write.table].effect(write.partition, write.key, dict(write.item), write.condition)
            self.reached["an entry together with its records"] += 1

        self.call(f"joint.put {label}", True, effect)

    def _writer(self, process: Process) -> Any:
        return Writer(self.deployment(process))

    def _distributor(self, process: Process) -> Any:
        return DistributorFunction(self.deployment(process))

    def _watcher(self, process: Process) -> Any:
        return Watcher(self.deployment(process))

    # ---- set-up --------------------------------------------------------------------------

    def set_up(self) -> None:
        """Set up the deployment by processes that may die in the middle of it, until one has
        finished.
        """
        done: list[bool] = []
        while not done:
            tasks = [self.begin(done) for _ in range(self.random.randint(1, 2))]
            patience = 100
            while not all(task.done for task in tasks) and not done:
                self.scheduler.sleep(patience)
                patience *= 2
        deployment = self.deployment(self.system)
        calm, self.calm = self.calm, True
        if None in deployment.records.get_many(list(genesis())) or deployment.checkpoints.header().txid:
            raise Violation("set-up came to its end, and not all is there")
        self.calm = calm

    def begin(self, done: list[bool]) -> Task:
        """Start set-up in a process that may die in the middle of it; if not, it appends to
        ``done``.
        """
        process = self.process("set-up", True)
        process.fuse = self.random.choice((0, 1, 2, 3, 4, 5))

        def run() -> None:
            try:
                begin(self.deployment(process))
                done.append(True)
            except (DriverError, StaleView) as error:
                self.scheduler.note(f"set-up failed: {error}")

        return self.scheduler.spawn("set-up", run, process)

    # ---- clients and heartbeat -----------------------------------------------------------

    def client(self, process: Process, timeout: float) -> FaaSKeeperClient:
        """A client in a process of its own, not started. ``timeout``: of its session, in s."""
        config = Config.local(name="simulated")
        return FaaSKeeperClient(
            config,
            session_timeout=timeout,
            runtime=SimulatedRuntime(self.scheduler, process),
            random=self.bytes,
            connect=lambda config, port: self._connection(process),
        )

    def _connection(self, process: Process) -> Connection:
        deployment = self.deployment(process)
        return connection_to(deployment, self.mail, ring=self.ring, coalesce=self.plan.coalesce)

    def ring(self) -> None:
        """Have the functions apply what is committed and not applied yet."""
        if self.distributor_queue is not None:
            self.distributor_queue.send("distributor", "ring", wake_up(None, 0, ()))
        else:
            deployment = self.deployment(self.system)
            self.worker_queue.send("writer", "ring", order(deployment, ()))

    def beat(self) -> None:
        """Run heartbeat once, in a process of its own."""
        process = self.process("heartbeat", True)
        heartbeat = Heartbeat(self.deployment(process), self.tables["heartbeat"])

        def run() -> None:
            try:
                heartbeat.run()
                self.bounds.beats += 1
            except (DriverError, StaleView) as error:
                self.reached["heartbeat failed"] += 1
                self.scheduler.note(f"heartbeat failed: {error}")

        self.scheduler.spawn("heartbeat", run, process)


class Watcher:
    """The watch function behind its queue. It has no work for idle times."""

    def __init__(self, deployment: Deployment) -> None:
        self._function = WatchFunction(
            deployment.watches,
            deployment.channel,
            Secrets(deployment.key),
            deployment.gather,
            deployment.key,
        )

    def handle(self, bodies: Sequence[bytes]) -> None:
        self._function.handle(bodies)

    def idle(self) -> None:
        """Nothing to do."""
