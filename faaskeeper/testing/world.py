"""A deployment in the simulator: in-memory drivers whose every call is a switching point and may fail."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b
from typing import Any

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core import codec, log, trust
from faaskeeper.core.answers import wake_up
from faaskeeper.core.changes import Closed
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.codec import Malformed
from faaskeeper.core.connection import Connection, connection_to
from faaskeeper.core.deployment import MIN_TIMEOUT_MS, Deployment, begin
from faaskeeper.core.distributor import DistributorFunction
from faaskeeper.core.errors import Code, Conflict, DriverError, StaleView, Throttled, Unavailable
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.log import RETENTION_MS, Log
from faaskeeper.core.records import ObjectRecords, Records, TableRecords, from_object
from faaskeeper.core.requests import Reply
from faaskeeper.core.sessions import Leases, Transients
from faaskeeper.core.storage import LATE_MS, Condition, IfOlder, IfStamp, Item, Object, Page, Write
from faaskeeper.core.transactions import Limits
from faaskeeper.core.watches import Secrets, WatchFunction, WatchTable
from faaskeeper.core.wide import WideTable
from faaskeeper.core.writer import Writer, order
from faaskeeper.core.znode import genesis
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.testing.bounds import Bounds
from faaskeeper.testing.hostile import Vault
from faaskeeper.testing.model import Model
from faaskeeper.testing.scheduler import (
    Crashed,
    Scheduler,
    SimulatedRuntime,
    Task,
    Violation,
)

VISIBILITY_MS = 900_000
"""How long an invocation may take before its messages are given to another."""
KEY = b"k" * trust.KEY_BYTES


@dataclass
class Plan:
    """What a history is made of; drawn from its seed, changed to shrink it."""

    clients: int = 3
    operations: int = 12
    writers: int = 2
    own_distributor: bool = False
    ordered: bool = True
    object_records: bool = False
    faults: float = 0.02
    """Chance that a driver call meets a fault."""
    losses: float = 0.05
    """Chance that a message is lost, doubled or late."""
    crashes: int = 2
    """How many processes of clients die."""
    skew_ms: int = 500
    long: bool = False
    """Days pass: stalls past the retention, trimmed logs."""
    recent_bytes: int = 1024
    save_every: int = 4
    max_nodes: int = 1_000
    inline_bytes: int = 1 << 20
    coalesce: bool = False
    page_names: int = 128
    close_changes: int = 1_000
    max_item_bytes: int = 1 << 30
    joint: bool = False
    """Entries and their records may be put in one call."""
    watch_function: bool = False
    """Watchers are told by a function of its own, behind a queue."""
    expiring: bool = True
    """The log's store trims it; otherwise heartbeat does."""
    cut: bool = False
    """Set-up is cut short at any step, and clients die at any step, not only between two operations."""
    max_contents: int = 1_000
    """Most records that a distributor remembers."""
    preempt: bool = False
    """Threads of a client switch between the steps of its rules, too."""
    sharing: bool = False
    """Tickets are used several times, and while the process before lives."""
    servers: bool = False
    """Two servers answer for the leases of other sessions."""
    steps: bool = False
    """Wall clocks of functions are set, by seconds or by years, forwards and back."""
    lead_ms: int = 0
    """How far clocks of clients' machines are off."""
    hostile: int = 0
    """How often a client that keeps to nothing sends something."""
    mass: int = 0
    """Ephemerals that one of the clients makes beside what it does else."""


@dataclass
class Process:
    """What dies together: a function's instance, or a client."""

    name: str
    function: bool
    skew: int = 0
    wall: int = 0
    """How far its wall clock is off its other clock, by now."""
    alive: bool = True
    payload: Any = None
    fuse: int = 0
    """After so many driver calls it dies, in the middle of one; 0: it does not."""
    dies: Callable[[], None] = lambda: None
    """Called when it dies so."""


class World:
    """The simulated deployment."""

    def __init__(self, scheduler: Scheduler, plan: Plan) -> None:
        self.scheduler = scheduler
        self.plan = plan
        self.random = scheduler.random
        self.calm = False
        """Faults are over: everything is to come to rest."""
        self.calm_since = 0
        self.late: set[tuple[str, str]] = set()
        """Watch rows, by partition and key, that were put after their session's end."""
        self.reached: Counter[str] = Counter()
        """How often each fault and rare branch was really reached."""
        self.bounds = Bounds(self)
        self.vault = Vault(self)
        self.served: dict[int, int] = {}
        """When a server last served a session."""
        self.functions: list[Process] = []
        self.appended: dict[str, int] = {}
        """When an entry was appended, by its key: what it says itself is the log's own time."""
        self.renewed: dict[str, int] = {}
        """When a lease was last renewed, by its key."""
        self.stored: dict[str, bytes] = {}
        """The data of blobs, as it was put first."""
        self.foul: set[bytes] = set()
        """Messages of a client that keeps to nothing."""
        blobs = plan.inline_bytes < 1 << 20
        self.limits = Limits(plan.inline_bytes, plan.page_names, plan.close_changes, blobs)
        self.model = Model(self.limits, self._lease_marked)
        self._numbers = itertools.count(1)
        self.tables = {
            name: SimulatedTable(self, name)
            for name in ("log", "checkpoint", "records", "lease", "watch", "heartbeat")
        }
        self.objects = SimulatedObjects(self)
        self.mail = SimulatedChannel(self)
        self.system = Process("system", False)
        self.worker_queue = SimulatedQueue(self, "worker", plan.ordered, plan.writers, self._writer)
        self.distributor_queue = (
            SimulatedQueue(self, "distributor", plan.ordered, 2, self._distributor)
            if plan.own_distributor
            else None
        )
        self.watch_queue = (
            SimulatedQueue(self, "watch", False, 2, self._watcher, most=600) if plan.watch_function else None
        )
        if not plan.cut:
            begin(self.deployment(self.system))

    def bytes(self, length: int) -> bytes:
        """Random bytes, never the same twice where there is room for that."""
        number = next(self._numbers).to_bytes(8, "big")
        if length < 8:  # what is drawn so short is added to others: it must look random, too
            return blake2b(number, digest_size=length).digest()
        return number.rjust(length, b"\x01")

    def process(self, name: str, function: bool) -> Process:
        """A new process, with a clock of its own."""
        skew = self.plan.skew_ms
        process = Process(name, function, self.random.randint(-skew, skew) if skew else 0)
        if function:
            if self.plan.steps:
                self.functions.append(process)
        elif self.plan.lead_ms:
            process.skew += self.random.choice((-1, 1)) * self.plan.lead_ms
        return process

    def set_clocks(self) -> None:
        """Set wall clocks, again and again, until all comes to rest."""
        second, day = 1_000, 86_400_000
        far = (31 * second, 600 * second, day, 20 * day, 40 * day, 3_650 * day)
        while not self.calm:
            self.scheduler.sleep(self.random.choice((10, 500, 5_000, 60_000)))
            if self.functions:
                process = self.random.choice(self.functions[-6:])
                process.wall = self.random.choice((0, *far, *(-each for each in far)))
                self.scheduler.note(f"the clock of {process.name} is set: off by {process.wall} ms")
                self.reached["a clock was set"] += 1

    def deployment(self, process: Process) -> Deployment:
        """The deployment as a process sees it."""
        records: Records = TableRecords(self.tables["records"], self.bytes)
        if self.plan.object_records:
            records = ObjectRecords(self.objects, self.gather)
        small = self.plan.inline_bytes < 1 << 20
        return Deployment(
            log=Log(self.tables["log"], random=self.bytes),
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
            clock=lambda: self.scheduler.now + process.skew,
            elapsed=lambda: self.scheduler.now,
            wall=lambda: self.scheduler.now + process.skew + process.wall,
            gather=self.gather,
            random=self.bytes,
            limits=self.limits,
            recent_bytes=self.plan.recent_bytes,
            save_every=self.plan.save_every,
            max_nodes=self.plan.max_nodes,
            joint=self.joint if self.plan.joint and not self.plan.object_records else None,
        )

    def joint(self, writes: Sequence[Write]) -> None:
        """See :data:`faaskeeper.core.storage.Joint`."""

        def effect() -> None:
            for write in writes:  # nobody comes in between
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

        label = ", ".join(f"{each.table} {each.partition} {each.key}" for each in writes)
        self.call(f"joint.put {label}", True, effect)

    def gather(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Calls side by side: in an order of the seed's, others running in between."""
        results: list[Any] = [None] * len(calls)
        numbers = list(range(len(calls)))
        self.random.shuffle(numbers)
        error: Exception | None = None
        for number in numbers:
            try:
                results[number] = calls[number]()
            except Exception as failed:
                error = error or failed
        if error is not None:
            raise error
        return results

    def _writer(self, process: Process) -> Any:
        return self._small(Writer(self.deployment(process)))

    def _distributor(self, process: Process) -> Any:
        return self._small(DistributorFunction(self.deployment(process)))

    def _small(self, function: Any) -> Any:
        function._distributor._MAX_CONTENTS = self.plan.max_contents
        return function

    def _watcher(self, process: Process) -> Any:
        return Watcher(self.deployment(process))

    # ---- faults ------------------------------------------------------------------------

    def call(self, label: str, writes: bool, effect: Callable[[], Any]) -> Any:
        """A driver call: a switching point, at which the seed may let something go wrong."""
        scheduler = self.scheduler
        if scheduler._current is None:
            return effect()
        process = scheduler._current.process
        if process is not None and process.fuse:
            self._burn(process, label)
        scheduler.point(label)
        if self.calm or self.random.random() >= self.plan.faults:
            result = effect()
            if self.random.random() < 0.3:
                scheduler.point(f"  back from {label}")
            return result
        kind = self.random.choice(_FAULTS)
        if kind in ("crash before", "crash after") and not process.function:
            kind = "time-out before"
        if not writes and kind in ("time-out after", "lands late"):
            kind = "time-out before"
        self.reached[kind] += 1
        scheduler.note(f"  fault: {kind} {label}")
        if kind == "throttled":
            raise Throttled("try again")
        if kind == "time-out before":
            raise Unavailable("no answer")
        if kind == "stall":
            began = scheduler.now
            self._stall()
            if writes and scheduler.now - began > LATE_MS:
                self.reached["refused as too late"] += 1
                raise Unavailable("the request's signature has expired")
            return effect()
        if kind == "crash before":
            raise Crashed
        if kind == "lands late":
            scheduler.spawn(f"late {label}", lambda: self._land(label, effect), self.system)
            raise Unavailable("no answer; it is still on its way")
        result = effect()
        if kind == "crash after":
            raise Crashed
        if kind == "time-out after":
            raise Unavailable("the answer was lost")
        return result

    def _burn(self, process: Process, label: str) -> None:
        process.fuse -= 1
        if not process.fuse:
            self.scheduler.note(f"  dies before {label}")
            self.reached["cut short at a step"] += 1
            process.alive = False
            process.dies()
            self.scheduler.kill(process)
            raise Crashed

    def set_up(self) -> None:
        """Set-up by processes that die in the middle of it, until one comes to its end."""
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
        """Set-up, begun by a process that may die in the middle of it; ``done`` grows when it did not."""
        process = self.process("set-up", True)
        process.fuse = self.random.choice((0, 1, 2, 3, 4, 5))

        def run() -> None:
            try:
                begin(self.deployment(process))
                done.append(True)
            except (DriverError, StaleView) as error:
                self.scheduler.note(f"set-up failed: {error}")

        return self.scheduler.spawn("set-up", run, process)

    def _stall(self) -> None:
        hour = 3_600_000
        lengths = [10, 1_000, 20_000]
        if self.plan.long:
            lengths += [hour, 24 * 4 * hour, 24 * 8 * hour]
        length = self.random.choice(lengths)
        if length > hour:
            self.reached["stalled for days"] += 1
        self.scheduler.sleep(length)

    def _land(self, label: str, effect: Callable[[], Any]) -> None:
        self.scheduler.sleep(self.random.choice((0, 5, 100, 3_000)))
        self.scheduler.point(f"lands: {label}")
        try:
            effect()
        except DriverError:
            self.reached["landed late in vain"] += 1
        else:
            self.reached["landed late"] += 1

    # ---- clients -----------------------------------------------------------------------

    def client(self, process: Process, timeout: float) -> FaaSKeeperClient:
        """A client in a process of its own."""
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

    def _lease_marked(self, session: int) -> bool:
        item = self.tables["lease"].inner.get("lease", f"{session:016d}")
        return item is None or bool(item["marked"])

    def committed(self, entry: log.Entry) -> None:
        """An entry is in the log."""
        self.model.append(entry)
        self.vault.committed(entry)
        self.bounds.committed(entry)
        for answers in entry.answers:
            for _, outcome in answers.outcomes:
                if outcome.code is Code.NO_AUTH:
                    self.reached["an ACL refused"] += 1
        for transaction in entry.transactions:
            if transaction.resized:
                self.reached["a list changed its number of pages"] += 1
            if transaction.changes and transaction.txid not in self.model.asked:
                self.reached["a znode that was due is gone"] += not transaction.effects
            if any(isinstance(effect, Closed) and effect.partial for effect in transaction.effects):
                self.reached["a session closed by several transactions"] += 1

    def trimmed(self, key: str) -> None:
        """Heartbeat deletes an entry of the log: one that is old, and that nobody needs any more."""
        item = self.tables["log"].inner.get(log.PARTITION, key)
        if item is None:
            return
        if self.plan.expiring:
            raise Violation(f"entry {key} is deleted, of a log whose store trims it")
        last, age = int(item["stamp"]), self.scheduler.now - self.appended[key]  # type: ignore[arg-type]
        rows = self.tables["checkpoint"].inner
        for name in ("applied", "header"):
            needed = rows.get("checkpoint", name)
            if needed is None or int(needed["stamp"]) < last:  # type: ignore[arg-type]
                raise Violation(f"entry {key}..{last} is deleted, {name} stands at {needed}")
        if age < RETENTION_MS - 2 * self.plan.skew_ms:
            raise Violation(f"entry {key} is deleted at an age of {age} ms")
        self.reached["log trimmed by heartbeat"] += 1
        self.model.trimmed = True

    def leased(self, key: str, item: Item) -> None:
        """A lease was put. One that was renewed within its time-out is not marked, however clocks are."""
        if not item["marked"]:
            self.renewed[key] = self.scheduler.now
            return
        served = self.served.get(int(key), 0) if item.get("proof") else self.renewed[key]
        passed = self.scheduler.now - served
        timeout = int(item.get("timeout") or MIN_TIMEOUT_MS)  # type: ignore[arg-type]
        sure = not self.plan.faults and not self.plan.losses
        if sure and passed < timeout - 2 * self.plan.skew_ms - 1_000:
            raise Violation(f"the lease of session {key} is marked {passed} ms after it was good: {item}")

    def watch_put(self, partition: str, key: str, item: Item) -> None:
        """A watch's row or index was put: perhaps for a session that is over, and whose rows are cleared."""
        owner = item.get("session") or (
            key if partition == "recursive" else partition.removeprefix("session ")
        )
        if self.model.sessions[int(owner)].closed:  # type: ignore[arg-type]
            self.late.add((partition, key))
            self.reached["watch put after its session's end"] += 1

    def ring(self) -> None:
        """Ask for what waits to be applied."""
        if self.distributor_queue is not None:
            self.distributor_queue.send("distributor", "ring", wake_up(None, 0, ()))
        else:
            deployment = self.deployment(self.system)
            self.worker_queue.send("writer", "ring", order(deployment, ()))

    def beat(self) -> None:
        """One run of heartbeat, as a process of its own."""
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


_FAULTS = (
    "crash before",
    "crash after",
    "time-out before",
    "time-out after",
    "lands late",
    "throttled",
    "stall",
)


class SimulatedTable:
    """A table in memory, behind :meth:`World.call`."""

    def __init__(self, world: World, name: str) -> None:
        # what heartbeat keeps in one item is of a bounded size, and need not be in parts
        self.max_item_bytes = max(world.plan.max_item_bytes, 4_000 if name == "heartbeat" else 0)
        self.inner = MemoryTable(self.max_item_bytes)
        self._world = world
        self._name = name

    def get(self, partition: str, key: str) -> Item | None:
        """See :class:`faaskeeper.core.storage.Table`."""
        label = f"{self._name}.get {partition} {key}"
        found: Item | None = self._world.call(label, False, lambda: self.inner.get(partition, key))
        return found

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        """See :class:`faaskeeper.core.storage.Table`: not as of one moment."""
        return [self.get(partition, key) for partition, key in keys]

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        """See :class:`faaskeeper.core.storage.Table`."""
        effect = partial(self.effect, partition, key, dict(item), condition)
        label = f"{self._name}.put {partition} {key} {item.get('stamp')!r}"
        self._world.call(label, True, effect)

    def effect(self, partition: str, key: str, item: Item, condition: Condition) -> None:
        """The effect of :meth:`put`, at once."""
        if self._world.foul:
            _storable(partition, key, item)
        self.inner.put(partition, key, item, condition)
        if "parts" in item and "named" in item:
            self._in_parts(partition, key, item)
        if self._name == "log" and partition == log.PARTITION:
            whole = WideTable(self.inner).get(partition, key)
            if whole is None:
                raise Violation(f"the entry {key} cannot be read")
            self._world.appended[key] = self._world.scheduler.now
            self._world.committed(log.decode(whole))
            self._world.reached["an entry in parts"] += "parts" in item
        elif self._name == "watch":
            self._world.watch_put(partition, key, item)
        elif self._name == "lease" and partition == "lease":
            self._world.leased(key, item)
        elif self._name == "records" and "meta" in item:
            self._world.model.stored(partition, int(item["stamp"]))  # type: ignore[arg-type]

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        """See :class:`faaskeeper.core.storage.Table`."""

        def effect() -> None:
            if self._name == "log" and partition == log.PARTITION:
                self._world.trimmed(key)
            self.inner.delete(partition, key, condition)
            if partition.startswith("parts "):
                self._part_deleted(partition.removeprefix("parts "), *key.rsplit(" ", 3)[:3])
            if self._name == "records" and isinstance(condition, IfStamp):
                self._world.reached["tombstone lapsed"] += 1
                self._world.model.lapse(partition, condition.stamp)

        self._world.call(f"{self._name}.delete {partition} {key}", True, effect)

    def _in_parts(self, partition: str, key: str, item: Item) -> None:
        """An item in parts was put: they are all there."""
        number, name = int(item["parts"]), str(item["named"])  # type: ignore[arg-type]
        for part in range(number):
            if self.inner.get(f"parts {partition}", f"{key} {name} {part:04d}") is None:
                raise Violation(f"the item {partition} {key} lacks part {part} of {number}")

    def _part_deleted(self, partition: str, key: str, stamp: str, token: str) -> None:
        """A part was deleted: no item names it."""
        item = self.inner.get(partition, key)
        if item is not None and item.get("named") == f"{stamp} {token}":
            raise Violation(f"a part of the item {partition} {key} is deleted, which names it")
        self._world.reached["a part is left over"] += 1

    def query(self, partition: str, after: str, limit: int) -> Page:
        """See :class:`faaskeeper.core.storage.Table`."""
        limit = min(limit, self._world.random.choice((1, 2, 100)))
        label = f"{self._name}.query {partition} {after}"
        page: Page = self._world.call(label, False, lambda: self.inner.query(partition, after, limit))
        return page


class SimulatedObjects:
    """An object store in memory, behind :meth:`World.call`."""

    def __init__(self, world: World) -> None:
        self.objects: dict[str, Object] = {}
        self._world = world
        self._tags = itertools.count(1)

    def get(self, key: str) -> Object | None:
        """See :class:`faaskeeper.core.storage.ObjectStore`."""
        found: Object | None = self._world.call(f"objects.get {key}", False, lambda: self.objects.get(key))
        return found

    def put(self, key: str, body: bytes, *, absent: bool = False, match: str | None = None) -> str:
        """See :class:`faaskeeper.core.storage.ObjectStore`."""

        def effect() -> str:
            found = self.objects.get(key)
            if (absent and found is not None) or (
                match is not None and (found is None or found.tag != match)
            ):
                raise Conflict(key)
            if key.startswith("b/"):
                self._world.stored.setdefault(key, body)
            return self.write_over(key, body)

        tag: str = self._world.call(f"objects.put {key}", True, effect)
        return tag

    def write_over(self, key: str, body: bytes) -> str:
        """Store an object at once; returns its tag."""
        tag = str(next(self._tags))
        self.objects[key] = Object(body, tag)
        return tag

    def delete(self, key: str, *, match: str | None = None) -> None:
        """See :class:`faaskeeper.core.storage.ObjectStore`."""

        def effect() -> None:
            found = self.objects.get(key)
            if match is not None and (found is None or found.tag != match):
                raise Conflict(key)
            self.objects.pop(key, None)
            if found is not None and match is not None and key.startswith("r/"):
                self._world.reached["tombstone lapsed"] += 1
                self._world.model.lapse(key[1:], from_object(found.body).txid)

        self._world.call(f"objects.delete {key}", True, effect)

    def list(self, prefix: str, after: str, limit: int) -> list[str]:
        """See :class:`faaskeeper.core.storage.ObjectStore`."""

        def effect() -> list[str]:
            keys = sorted(key for key in self.objects if key.startswith(prefix) and key > after)
            return keys[:limit]

        keys: list[str] = self._world.call(f"objects.list {prefix}", False, effect)
        return keys


class SimulatedQueue:
    """A queue and the instances of the function behind it.

    Ordered: one invocation at a time, messages in order unless a fault redelivers. Unordered: as
    many at once as there are instances, in any order.
    """

    _TRIES = 5

    def __init__(
        self,
        world: World,
        name: str,
        ordered: bool,
        instances: int,
        make: Callable[[Process], Any],
        most: int = 1 << 30,
    ) -> None:
        self.ordered = ordered
        self.max_message_bytes = most
        self.waiting: list[tuple[int, bytes]] = []
        self.running = 0
        self._taken: set[int] = set()
        self._world = world
        self._name = name
        self._make = make
        self._idle: list[Process] = []
        self._instances = 1 if ordered else instances
        self._spare = instances
        self._numbers = itertools.count(1)
        self._turns = itertools.count(1)

    def send(self, group: str, identity: str, body: bytes) -> None:
        """See :class:`faaskeeper.core.queue.Queue`."""
        self._world.call(f"{self._name}.send", True, lambda: self._accept(body))

    def _accept(self, body: bytes) -> None:
        world = self._world
        if self._name == "worker" and body not in world.foul:
            self._sniff(body)
        chance = 0.0 if world.calm else world.plan.losses
        if world.random.random() < chance:
            kind = world.random.choice(("queue lost", "queue doubled", "queue late"))
            world.reached[kind] += 1
            if kind == "queue lost":
                return
            if kind == "queue doubled":
                self.waiting.append((0, body))
            else:
                world.scheduler.spawn("late message", lambda: self._later(body), world.system)
                return
        self.waiting.append((0, body))
        self._serve()

    def _sniff(self, signed: bytes) -> None:
        body = trust.body(signed)
        if body[4:5] != b"{":
            try:
                self._world.model.sent(codec.to_message(body))
            except Malformed as error:
                raise Violation(f"a client sent what cannot be read: {error}") from error

    def _later(self, body: bytes) -> None:
        self._world.scheduler.sleep(self._world.random.choice((1, 50, 5_000)))
        self.waiting.append((0, body))
        self._serve()

    def _serve(self) -> None:
        """Start an invocation, if there is something to do and an instance may run."""
        world = self._world
        while self.waiting and self.running < self._instances:
            many = world.random.randint(1, min(len(self.waiting), 5))
            batch: list[tuple[int, bytes]] = []
            for _ in range(many):
                at = 0 if self.ordered else world.random.randrange(len(self.waiting))
                batch.append(self.waiting.pop(at))
            if not self._idle or (len(self._idle) < self._spare and world.random.random() < 0.15):
                name = f"{self._name}#{next(self._numbers)}"
                process = world.process(name, True)
                process.payload = self._make(process)
            else:
                process = self._idle.pop(world.random.randrange(len(self._idle)))
            self.running += 1
            turn = next(self._turns)
            self._taken.add(turn)
            world.scheduler.spawn("visibility", partial(self._watch, turn, batch), world.system)
            world.scheduler.spawn(process.name, partial(self._invoke, process, turn, batch), process)

    def _invoke(self, process: Process, turn: int, batch: list[tuple[int, bytes]]) -> None:
        world = self._world
        world.scheduler.note(f"gets {len(batch)} messages")
        done = dead = False
        view = getattr(process.payload, "_view", None)
        head = 0 if view is None else view.head
        try:
            process.payload.handle([body for _, body in batch])
            world.bounds.invoked(process.payload, head, alone=len(batch) == 1)
            if world.random.random() < 0.3 and not self.waiting:
                process.payload.idle()
            done = True
        except (DriverError, StaleView) as error:
            world.scheduler.note(f"fails: {error!r}")
            world.reached[f"{self._name} failed"] += 1
        except Crashed:
            dead = True
            world.scheduler.note("dies")
        if not dead:
            self._idle.append(process)
        if turn in self._taken:  # else it took so long that the queue gave the batch to another
            self._end(turn, batch, done)

    def _end(self, turn: int, batch: list[tuple[int, bytes]], done: bool) -> None:
        world = self._world
        self._taken.remove(turn)
        self.running -= 1
        if not done:
            again = [(tries + 1, body) for tries, body in batch if tries < self._TRIES]
            if len(again) < len(batch):
                world.reached["dead letter"] += 1
            self.waiting[:0] = again
            world.scheduler.sleep(world.random.choice((1, 20, 500)))
        self._serve()

    def _watch(self, turn: int, batch: list[tuple[int, bytes]]) -> None:
        """A batch that is not done in time is given to another instance."""
        self._world.scheduler.sleep(VISIBILITY_MS)
        if turn in self._taken:
            self._world.reached["taken for dead"] += 1
            self._end(turn, batch, False)

    def rest(self) -> None:
        """Have an instance that is idle save what it puts off."""
        for process in self._idle:
            process.payload.idle()


class Watcher:
    """The watch function as a queue's function: it puts nothing off."""

    def __init__(self, deployment: Deployment) -> None:
        self._function = WatchFunction(
            deployment.watches,
            deployment.channel,
            Secrets(deployment.key),
            deployment.gather,
            deployment.key,
        )

    def handle(self, bodies: Sequence[bytes]) -> None:
        """See :meth:`faaskeeper.core.watches.WatchFunction.handle`."""
        self._function.handle(bodies)

    def idle(self) -> None:
        """Nothing is left to do."""


class SimulatedListener:
    """A client's ear."""

    def __init__(self, channel: SimulatedChannel, address: str, handler: Any, process: Any) -> None:
        self.address = address
        self.handler = handler
        self.process = process
        self.busy = False
        self.box: list[bytes] = []
        self._channel = channel

    def close(self) -> None:
        """See :class:`faaskeeper.core.channel.Listener`."""
        self._channel.ears.pop(self.address, None)


class SimulatedChannel:
    """Both sides of the channel. Messages may be lost, doubled, late."""

    def __init__(self, world: World) -> None:
        self.ears: dict[str, SimulatedListener] = {}
        self._world = world
        self._numbers = itertools.count(1)

    def listen(self, handler: Any) -> SimulatedListener:
        """See :class:`faaskeeper.core.channel.ClientChannel`."""
        address = f"ear{next(self._numbers)}"
        process = self._world.scheduler.current().process
        self.ears[address] = SimulatedListener(self, address, handler, process)
        return self.ears[address]

    def deliver(self, address: str, message: bytes) -> bool:
        """See :class:`faaskeeper.core.channel.Channel`."""
        world = self._world
        world.scheduler.point(f"deliver to {address}")
        told = codec.to_delivery(trust.body(message))
        if isinstance(told, Reply):
            world.model.answered(told, self._stored)
            if told.resend:
                world.reached["told to resend"] += 1
            for _, outcome in told.outcomes:
                if outcome.code is Code.SESSION_EXPIRED:
                    world.reached["told that the session is over"] += 1
            if told.epoch.recent is None:
                world.reached["an epoch that names the log"] += 1
        copies = 1
        if not world.calm and world.random.random() < world.plan.losses:
            kind = world.random.choice(("message lost", "message doubled", "message late"))
            world.reached[kind] += 1
            if kind == "message lost":
                return True
            copies = 2 if kind == "message doubled" else 1
            if kind == "message late":
                world.scheduler.spawn("late mail", lambda: self._later(address, message), world.system)
                return True
        for _ in range(copies):
            self._hand(address, message)
        return address in self.ears

    def _stored(self, path: str) -> int | None:
        world = self._world
        if world.plan.object_records:
            found = world.objects.objects.get("r" + path)
            return None if found is None else int(codec.unframe(found.body)[0]["stamp"])
        item = world.tables["records"].inner.get(path, "node")
        return None if item is None else int(item["stamp"])  # type: ignore[arg-type]

    def _later(self, address: str, message: bytes) -> None:
        self._world.scheduler.sleep(self._world.random.choice((1, 30, 2_000)))
        self._hand(address, message)

    def _hand(self, address: str, message: bytes) -> None:
        ear = self.ears.get(address)
        if ear is None or not ear.process.alive:
            return
        ear.box.append(message)
        if not ear.busy:
            ear.busy = True
            self._world.scheduler.spawn(f"mail of {address}", lambda: self._read(ear), ear.process)

    def _read(self, ear: SimulatedListener) -> None:
        while ear.box and ear.address in self.ears:
            self._world.scheduler.point("mail")
            if ear.box:
                ear.handler(ear.box.pop(0))
        ear.busy = False


def _storable(partition: str, key: str, item: Item) -> None:
    """Raise what a store would not take: numbers of more than 64 bits, text that is not UTF-8."""
    for value in (partition, key, *item.values()):
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise Violation(f"the number {value} is to be stored: {partition} {key}")
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str):
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise Violation(f"{text!r} is to be stored: {partition} {key}") from None


def trim(world: World) -> int:
    """What the log's store does by itself: entries past the retention go. Returns how many."""
    table = world.tables["log"].inner
    gone = 0
    for key, _ in table.query("log", "", 10_000).items:
        if world.scheduler.now - world.appended[key] > RETENTION_MS:
            table.delete("log", key)
            for part, _ in table.query("parts log", f"{key} ", 1_000).items:
                if part.startswith(f"{key} "):
                    table.delete("parts log", part)
            gone += 1
    if gone:
        world.reached["log trimmed"] += gone
        world.model.trimmed = True
    return gone
