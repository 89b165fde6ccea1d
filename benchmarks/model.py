"""A deployment in virtual time: the real client and functions, on drivers with a cloud's latencies.

Nothing fails, and the only CPU time is :data:`OWN_MS`. Calls wait for the services' limits
(:mod:`benchmarks.caps`).
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

from greenlet import GreenletExit

from benchmarks.caps import Caps, Use
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core import trust
from faaskeeper.core.connection import Connection, connection_to
from faaskeeper.core.deployment import Deployment, begin, on_tables
from faaskeeper.core.distribution import DistributorFunction
from faaskeeper.core.drivers.storage import Condition, Item, Object, Page, Write
from faaskeeper.core.log import ENTRY_BYTES, ENTRY_CHANGES, Log
from faaskeeper.core.objects import TableObjects
from faaskeeper.core.records import ObjectRecords, TableRecords
from faaskeeper.core.transactions import Limits
from faaskeeper.core.watches import Secrets, WatchFunction
from faaskeeper.core.wide import size_of
from faaskeeper.core.writer import Writer
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.testing.simulator.latencies import Latencies
from faaskeeper.testing.simulator.runtime import SimulatedRuntime
from faaskeeper.testing.simulator.scheduler import Scheduler

DATA = Path(__file__).parent / "data" / "latencies.json"
OWN_MS = 1.0
"""CPU time of a function's invocation, ms: an assumption."""
BETWEEN_MS = 10.0
"""Time between two invocations by an event source, which deletes and receives: an assumption."""
SENT_SHARE = 0.5
"""The sender's call lasts this part of the time from sender to function."""


class FineScheduler(Scheduler):
    """A scheduler with fractions of milliseconds."""

    def run_until(self, over: Callable[[], bool]) -> None:
        """Run until a condition holds."""
        while not over():
            if not self._ready and not self._pass_time():
                raise AssertionError("all tasks wait")
            task = self._ready[0]
            self._current = task
            task.greenlet.switch()
            self._current = None
            if task in self._ready:  # it continues later, or has ended
                self._ready.remove(task)
                if not task.done:
                    self._ready.append(task)
            if self._error is not None:
                raise self._error

    def block(self, timeout: float | None = None) -> bool:
        """See :class:`Scheduler`."""
        if self.over:
            raise GreenletExit
        task = self.current()
        task.blocked, task.woken = True, False
        self._ready.remove(task)
        task.timer += 1
        if timeout is not None:
            due: Any = self.now + max(timeout, 0.0)
            heapq.heappush(self._timers, (due, next(self._numbers), task, task.timer))
        self._switch()
        return task.woken


@dataclass(frozen=True)
class Cloud:
    """A cloud's name in the data, and the kinds of its table and object store.

    ``between_ms``: time between two invocations. ``bounds``: kinds that were not measured, with the
    published stage that bounds them, less a number of reads of a kind. ``also``: kinds of another
    cloud. ``throttled``: kinds that were throttled when they were measured, from a size in bytes on;
    their limits are modelled instead. ``refuses``: see :class:`benchmarks.caps.Caps`. ``stripes``: of
    the log. ``item_bytes``: most bytes of an item. ``entry_bytes``, ``entry_paths``: of a batch.
    """

    name: str
    table: str
    objects: str
    between_ms: float = BETWEEN_MS
    bounds: Mapping[str, tuple[str, str, str, int]] = field(default_factory=dict)
    also: Mapping[str, str] = field(default_factory=dict)
    throttled: Mapping[str, int] = field(default_factory=dict)
    refuses: bool = False
    stripes: int = 1
    item_bytes: int = 400 * 1024
    entry_bytes: int = ENTRY_BYTES
    entry_paths: int = ENTRY_CHANGES

    def latencies(self, random: Random) -> Latencies:
        """The latencies to draw from."""
        made = Latencies(DATA, self.name, random)
        for kind, cloud in self.also.items():
            made.take(kind, Latencies(DATA, cloud, random))
        for kind, size in self.throttled.items():
            made.leave_out_pauses(kind, size)
        for kind, (stages, stage, less, many) in self.bounds.items():
            made.bound(kind, made.published[stages][stage], less, many)
        return made


@dataclass(frozen=True)
class Setting:
    """One configuration.

    ``hop``, ``distributor_hop``: kinds of the queues to the functions ("": none). ``answer``: of
    the channel to a client. ``tell``: of the queue to the watch function ("": the distributor
    notifies watchers). ``joint``: entry and records are written in one call.
    """

    name: str
    user_storage: str
    hop: str
    distributor_hop: str = ""
    answer: str = "tcp.round_trip"
    tell: str = "lambda_direct.send_to_function"
    batch: int = 10
    inline_bytes: int = 16 * 1024
    joint: bool = False


class Virtual:
    """A deployment with one setting, and its scheduler."""

    def __init__(self, setting: Setting, cloud: Cloud, seed: int = 1) -> None:
        self.setting = setting
        self.cloud = cloud
        self.scheduler = FineScheduler(seed)
        self.random = Random(seed)
        self.latencies = cloud.latencies(self.random)
        self.caps = Caps(cloud.name, cloud.refuses, Random(seed))
        self._table_kind = cloud.table
        self._objects_kind = cloud.objects
        self._quiet = True
        self._tables = {
            name: _Table(self, name) for name in ("log", "checkpoint", "records", "lease", "watch")
        }
        self._objects = _Objects(self)
        self._ears: dict[str, Callable[[bytes], None]] = {}
        self.calls: list[tuple[str, int]] = []
        self.base = self._deployment()
        begin(self.base)
        self._quiet = False
        self.writer_queue = _Queue(self, "worker", setting.hop, lambda: Writer(self._functions()).handle)
        self.distributor_queue = _Queue(
            self,
            "distributor",
            setting.distributor_hop,
            lambda: DistributorFunction(self._functions()).handle,
        )
        self.watch_queue = _Queue(self, "watch", setting.tell, self._watch)

    def _watch(self) -> Callable[[Sequence[bytes]], None]:
        made = self._functions()
        watch = WatchFunction(made.watches, made.channel, Secrets(made.key), made.gather, made.key)
        return watch.handle

    def spend(
        self, kind: str, size: int, effect: Callable[[], Any], name: str, uses: Sequence[Use] = ()
    ) -> Any:
        """Make a call of a random duration, once limits let it through; its effect happens halfway."""
        if self._quiet:
            return effect()
        self.calls.append((name, size))
        self.let_through(uses)
        took = self.latencies.draw(kind, size)
        self.scheduler.sleep(took / 2)
        try:
            return effect()
        finally:
            self.scheduler.sleep(took / 2)

    def let_through(self, uses: Sequence[Use]) -> None:
        """Wait until the services' limits allow a call."""
        self.caps.pass_through(uses, lambda: self.scheduler.now, self.scheduler.sleep)

    def gather(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Concurrent calls: as long as the longest."""
        if len(calls) <= 1 or self._quiet:
            return [call() for call in calls]
        results: list[Any] = [None] * len(calls)
        failed: list[Exception] = []

        def run(number: int) -> None:
            try:
                results[number] = calls[number]()
            except Exception as error:
                failed.append(error)

        runtime = SimulatedRuntime(self.scheduler, None)
        threads = [runtime.spawn(partial(run, number), "call") for number in range(len(calls))]
        for thread in threads:
            thread.join()
        if failed:
            raise failed[0]
        return results

    def _deployment(self, **fields: Any) -> Deployment:
        objects = self._objects
        made: dict[str, Any] = {
            "log": Log(self._tables["log"], self.gather, stripes=lambda: self.cloud.stripes),
            "records": TableRecords(self._tables["records"]),
            "blobs": objects,
            "worker_queue": None,
            "channel": self,
            "key": b"k" * trust.KEY_BYTES,
            "clock": lambda: int(self.scheduler.now),
            "gather": self.gather,
            "random": self.random.randbytes,
            "limits": Limits(
                self.setting.inline_bytes,
                entry_bytes=self.cloud.entry_bytes,
                entry_paths=self.cloud.entry_paths,
            ),
            "joint": self.joint if self.setting.joint else None,
        }
        if self.setting.user_storage == "persistent":
            made["records"] = ObjectRecords(objects, self.gather)
        if self.setting.user_storage == "key-value":
            made["blobs"] = TableObjects(self._tables["records"])
        return on_tables(self._tables.__getitem__, expiring_log=True, **{**made, **fields})

    def joint(self, writes: Sequence[Write]) -> None:
        """Puts to tables in one call, which takes as long as one put of their total size."""
        size = sum(size_of(each.partition, each.key, each.item) for each in writes)

        def effect() -> None:
            for each in writes:
                self._tables[each.table].inner.put(each.partition, each.key, each.item, each.condition)

        uses = [
            use
            for each in writes
            for use in self._tables[each.table].writes(
                each.partition, size_of(each.partition, each.key, each.item)
            )
        ]
        self.spend(f"{self._table_kind}.write", size, effect, "joint.put", uses)

    def _functions(self) -> Deployment:
        return self._deployment(
            worker_queue=self.writer_queue,
            distributor_queue=self.distributor_queue if self.setting.distributor_hop else None,
            watch_queue=self.watch_queue if self.setting.tell else None,
        )

    # ---- the channel -------------------------------------------------------------------

    def deliver(self, address: str, message: bytes) -> bool:
        """Deliver to a client after a latency."""
        hear = self._ears.get(address)
        if hear is None:
            return False
        after = self.latencies.draw(self.setting.answer, len(message)) if self.setting.hop else 0.0

        def arrive() -> None:
            self.scheduler.sleep(after)
            hear(message)

        self.scheduler.spawn("message", arrive)
        return True

    def listen(self, handler: Callable[[bytes], None]) -> Any:
        """Register a client's listener."""
        return _Ear(self._ears, handler)

    # ---- clients -----------------------------------------------------------------------

    def client(self) -> FaaSKeeperClient:
        """A client, to be started in a task."""
        return FaaSKeeperClient(
            Config.local(name="virtual"),
            session_timeout=3600,
            runtime=SimulatedRuntime(self.scheduler, None),
            random=self.random.randbytes,
            connect=lambda config, port: self._connection(),
        )

    def _connection(self) -> Connection:
        queue = self.writer_queue
        return connection_to(self._functions(), self, worker_queue=queue, prompt_queue=queue, coalesce=True)

    def run(self, *tasks: Callable[[], None]) -> None:
        """Run tasks to their end, then abandon all others."""
        made = [self.scheduler.spawn(f"task {number}", task) for number, task in enumerate(tasks)]
        self.scheduler.run_until(lambda: all(task.done for task in made))

    def close(self) -> None:
        """Abandon the waiting tasks."""
        self.scheduler.end()


class _Ear:
    def __init__(self, ears: dict[str, Callable[[bytes], None]], handler: Callable[[bytes], None]) -> None:
        self.address = f"ear {len(ears) + 1}"
        self._ears = ears
        ears[self.address] = handler

    def close(self) -> None:
        self._ears.pop(self.address, None)


class _Table:
    def __init__(self, world: Virtual, name: str) -> None:
        self._world = world
        self.max_item_bytes = world.cloud.item_bytes
        self.inner = MemoryTable(self.max_item_bytes)
        self._name = name

    def writes(self, partition: str, size: int) -> list[Use]:
        """What a put or delete takes of the limits. ``size``: of the item, bytes."""
        units = max(-(-size // 1024), 1)
        return [*self._uses("write", partition, units), *self._sequential()]

    def _uses(self, what: str, partition: str, units: float) -> list[Use]:
        return [
            Use(f"dynamodb.key.{what}", f"{self._name} {partition}", units),
            Use(f"dynamodb.table.{what}", self._name, units),
        ]

    def _sequential(self) -> list[Use]:
        return [Use("datastore.sequential.write", "log", 1)] if self._name == "log" else []

    def _write(self, method: str, partition: str, size: int, effect: Callable[[], Any]) -> None:
        uses = self.writes(partition, size)
        self._world.spend(f"{self._world._table_kind}.write", size, effect, f"{self._name}.{method}", uses)

    def _read(self, method: str, sizes: Mapping[str, Sequence[int]], effect: Callable[[], Any]) -> Any:
        """``sizes``: of the items, by partition; each counts for itself."""
        uses = [
            use
            for partition, some in sizes.items()
            for use in self._uses("read", partition, sum(max(-(-size // 4096), 1) for size in some))
        ]
        size = sum(map(sum, sizes.values()))
        return self._world.spend(
            f"{self._world._table_kind}.read", size, effect, f"{self._name}.{method}", uses
        )

    def _sized(self, partition: str, key: str) -> int:
        item = self.inner.get(partition, key)
        return 0 if item is None else size_of(partition, key, item)

    def get(self, partition: str, key: str) -> Item | None:
        sizes = {partition: [self._sized(partition, key)]}
        found: Item | None = self._read("get", sizes, lambda: self.inner.get(partition, key))
        return found

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        sizes: dict[str, list[int]] = {}
        for partition, key in keys:
            sizes.setdefault(partition, []).append(self._sized(partition, key))
        found: list[Item | None] = self._read("get_many", sizes, lambda: self.inner.get_many(keys))
        return found

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        size = size_of(partition, key, item)
        self._write("put", partition, size, lambda: self.inner.put(partition, key, item, condition))

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        self._write("delete", partition, 0, lambda: self.inner.delete(partition, key, condition))

    def query(self, partition: str, after: str, limit: int) -> Page:
        page = self.inner.query(partition, after, limit)
        size = sum(size_of(partition, key, item) for key, item in page.items)
        found: Page = self._read(
            "query", {partition: [size]}, lambda: self.inner.query(partition, after, limit)
        )
        return found


class _Objects:
    def __init__(self, world: Virtual) -> None:
        self._world = world
        self._inner = TableObjects(MemoryTable())
        self._sizes: dict[str, int] = {}

    def get(self, key: str) -> Object | None:
        kind = self._world._objects_kind + ".read"
        uses = (Use("s3.prefix.read", "records", 1),)
        found: Object | None = self._world.spend(
            kind, self._sizes.get(key, 0), lambda: self._inner.get(key), "objects.get", uses
        )
        return found

    def put(self, key: str, body: bytes, *, absent: bool = False, match: str | None = None) -> str:
        kind = self._world._objects_kind + ".write"
        self._sizes[key] = len(body)
        put = partial(self._inner.put, key, body, absent=absent, match=match)
        uses = (Use("s3.prefix.write", "records", 1), Use("cloud_storage.object.write", key, 1))
        return str(self._world.spend(kind, len(body), put, "objects.put", uses))

    def delete(self, key: str) -> None:
        self._inner.delete(key)

    def list(self, prefix: str, after: str, limit: int) -> list[str]:
        return self._inner.list(prefix, after, limit)


class _Queue:
    """Triggers a function. ``hop`` "": it runs in the sender's process as soon as it is free."""

    ordered = True
    max_message_bytes = 786_432

    def __init__(
        self, world: Virtual, name: str, hop: str, make: Callable[[], Callable[[Sequence[bytes]], None]]
    ) -> None:
        self._world = world
        self._name = name
        self._hop = hop
        self._make = make
        self._handle: Callable[[Sequence[bytes]], None] | None = None
        self._waiting: list[bytes] = []
        self._running = False

    def send(self, group: str, identity: str, body: bytes) -> None:
        world = self._world
        world.calls.append((f"{self._hop or 'direct'}.send", len(body)))
        if not self._hop:
            self._waiting.append(body)
            self._serve()
            return
        world.let_through(self._uses(group, len(body)))
        took = world.latencies.draw(self._hop, len(body))

        def arrive() -> None:
            world.scheduler.sleep(took * (1 - SENT_SHARE))
            self._waiting.append(body)
            self._serve()

        world.scheduler.sleep(took * SENT_SHARE)
        world.scheduler.spawn("message", arrive)

    def _uses(self, group: str, size: int) -> list[Use]:
        if self._hop.startswith("sqs_fifo"):
            return [Use("sqs_fifo.queue.send", self._name, 1)]
        if self._hop.startswith("pubsub_ordered"):
            return [Use("pubsub.key.publish", group, max(size / 1000, 1))]
        return []

    def _serve(self) -> None:
        if not self._running and self._waiting:
            self._running = True
            self._world.scheduler.spawn("function", self._function)

    def _function(self) -> None:
        world = self._world
        if self._handle is None:
            self._handle = self._make()
        while self._waiting:
            most = world.setting.batch if self._hop else 1000
            batch, self._waiting = self._waiting[:most], self._waiting[most:]
            world.scheduler.sleep(OWN_MS)
            self._handle(batch)
            if self._hop:
                world.scheduler.sleep(world.cloud.between_ms)
        self._running = False
