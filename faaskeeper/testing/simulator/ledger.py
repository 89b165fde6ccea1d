"""What the stores of the simulated deployment hold, and the checks of each change."""

from __future__ import annotations

from collections.abc import Callable

from faaskeeper.core import codec, log
from faaskeeper.core.acl import digest
from faaskeeper.core.changes import Closed
from faaskeeper.core.deployment import MIN_TIMEOUT_MS
from faaskeeper.core.drivers.storage import Item, Object
from faaskeeper.core.errors import Code
from faaskeeper.core.log import RETENTION_MS
from faaskeeper.core.sweeping import DAY_MS
from faaskeeper.core.transactions import Limits
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.testing.simulator.environment import KEY, SUPER_USER, Environment
from faaskeeper.testing.simulator.model import Model
from faaskeeper.testing.simulator.plan import Plan
from faaskeeper.testing.simulator.scheduler import Scheduler, Violation

TABLES = ("log", "checkpoint", "records", "lease", "watch", "heartbeat")
_HEARTBEAT_BYTES = 4_000
"""Heartbeat's own item is of a bounded size, and is never stored in parts."""


class Ledger(Environment):
    """The contents of all stores, and when they were put; drivers report each change here."""

    def __init__(self, scheduler: Scheduler, plan: Plan) -> None:
        super().__init__(scheduler, plan)
        blobs = plan.inline_bytes < 1 << 20
        self.limits = Limits(plan.inline_bytes, plan.page_names, plan.close_changes, blobs, plan.entry_bytes)
        self.super_digest = digest(SUPER_USER) if plan.ending else ""
        self.model = Model(self.limits, self._lease_marked, KEY, self.super_digest)
        self.rows = {
            name: MemoryTable(max(plan.max_item_bytes, _HEARTBEAT_BYTES if name == "heartbeat" else 0))
            for name in TABLES
        }
        """What each table holds."""
        self.bucket: dict[str, Object] = {}
        """What the object store holds."""
        self.blobs: dict[str, bytes] = {}
        """The data of each blob as it was put first."""
        self.appended: dict[str, int] = {}
        """When an entry was appended, by its key, in ms; the time in the entry is the log's own."""
        self.renewed: dict[str, int] = {}
        """When a lease was last renewed, by its key, in ms."""
        self.served: dict[int, int] = {}
        """When a server last served a session, in ms."""
        self.gateways = False
        """Servers are the gateway's, which serve no session longer than its lease is good."""
        self.marked: dict[int, int] = {}
        """When each session's lease was marked, in ms."""
        self.late: set[tuple[str, str]] = set()
        """Watch rows, by partition and key, that were put after their session's end."""
        self.too_late: set[tuple[str, str]] = set()
        """Those of them that were put by a process that had slept for days."""
        self.closed: dict[int, int] = {}
        """When each session was closed, in ms."""
        self.foul: set[bytes] = set()
        """Messages of the hostile client."""
        self.overheard: list[bytes] = []
        """Messages of others in the worker queue, which the hostile client may copy."""
        self.hostile_address: str | None = None
        """Where the hostile client listens."""
        self.on_commit: list[Callable[[log.Entry], None]] = []
        """Called with each entry when it is in the log and in the model."""

    # ---- the log -------------------------------------------------------------------------

    def decided(self, txid: int) -> int:
        """When the entry with a transaction was appended, in ms; 0 if there is none."""
        key = max((key for key in self.appended if key <= log.key(txid)), default="")
        return self.appended.get(key, 0)

    def committed(self, key: str, entry: log.Entry) -> None:
        """An entry is in the log."""
        self.appended[key] = self.scheduler.now
        self.model.append(entry)
        for listener in self.on_commit:
            listener(entry)
        self._check_garbage(entry)
        for answers in entry.answers:
            for _, outcome in answers.outcomes:
                if outcome.code is Code.NO_AUTH:
                    self.reached["an ACL refused"] += 1
        for transaction in entry.transactions:
            if transaction.resized:
                self.reached["a list changed its number of pages"] += 1
            if transaction.changes and transaction.txid not in self.model.asked:
                self.reached["a znode that was due is gone"] += not transaction.effects
            for effect in transaction.effects:
                if isinstance(effect, Closed):
                    self.closed[effect.session] = self.scheduler.now
                    self.reached["a session closed by several transactions"] += effect.partial

    def _check_garbage(self, entry: log.Entry) -> None:
        """Check that no blob which an entry declares garbage belongs to a znode."""
        named: dict[str, str] | None = None
        for transaction in entry.transactions:
            for blob in transaction.garbage:
                if named is None:
                    images = self.model.tree().items()
                    named = {
                        image.meta.blob: path for path, image in images if image.meta and image.meta.blob
                    }
                if blob in named:
                    raise Violation(f"the data {blob} of {named[blob]} is to be deleted by {transaction}")

    def check_trimmed(self, key: str) -> None:
        """Heartbeat is about to delete an entry: it must be old, and applied, and saved."""
        item = self.rows["log"].get(log.partition(int(key), self.plan.stripes), key)
        if item is None:
            return
        if self.plan.expiring:
            raise Violation(f"entry {key} is deleted, of a log whose store trims it")
        last, age = int(item["stamp"]), self.scheduler.now - self.appended[key]  # type: ignore[arg-type]
        for name in ("applied", "header"):
            needed = self.rows["checkpoint"].get("checkpoint", name)
            if needed is None or int(needed["stamp"]) < last:  # type: ignore[arg-type]
                raise Violation(f"entry {key}..{last} is deleted, {name} stands at {needed}")
        if age < RETENTION_MS - 2 * self.plan.skew_ms:
            raise Violation(f"entry {key} is deleted at an age of {age} ms")
        self.reached["log trimmed by heartbeat"] += 1
        self.model.trimmed = True

    def expire(self) -> None:
        """Delete the log's entries that are past the retention, as its store does by itself.

        It takes its time with some, in no order.
        """
        table = self.rows["log"]
        gone = 0
        for name in log.partitions(self.plan.stripes):
            for key, _ in table.query(name, "", 10_000).items:
                later = 2 * DAY_MS if int(key) % 3 == 0 else 0
                if self.scheduler.now - self.appended[key] > RETENTION_MS + later:
                    table.delete(name, key)
                    for part, _ in table.query(f"parts {name}", f"{key} ", 1_000).items:
                        if part.startswith(f"{key} "):
                            table.delete(f"parts {name}", part)
                    gone += 1
        if gone:
            self.reached["log trimmed"] += gone
            self.model.trimmed = True

    # ---- records -------------------------------------------------------------------------

    def record_txid(self, path: str) -> int | None:
        """The txid of a path's record in user storage, if there is one."""
        if self.plan.object_records:
            found = self.bucket.get("r" + path)
            return None if found is None else int(codec.unframe(found.body)[0]["stamp"])
        item = self.rows["records"].get(path, "node")
        return None if item is None else int(item["stamp"])  # type: ignore[arg-type]

    def lapse(self, path: str, txid: int) -> None:
        """A tombstone was removed from user storage."""
        self.reached["tombstone lapsed"] += 1
        self.model.lapse(path, txid)

    # ---- leases and watches --------------------------------------------------------------

    def lease_put(self, key: str, item: Item) -> None:
        """A lease was put. It must not be marked within its time-out after a renewal."""
        if not item["marked"]:
            self.renewed[key] = self.scheduler.now
            return
        self.marked.setdefault(int(key), self.scheduler.now)
        served = self.served.get(int(key), 0) if item.get("proof") else self.renewed[key]
        passed = self.scheduler.now - served
        timeout = int(item.get("timeout") or MIN_TIMEOUT_MS)  # type: ignore[arg-type]
        sure = self.sure or (self.gateways and bool(item.get("proof")))
        if sure and passed < timeout - self.leeway:
            raise Violation(f"the lease of session {key} is marked {passed} ms after it was good: {item}")

    @property
    def sure(self) -> bool:
        """Whether calls and messages meet no fault, so that renewals get through."""
        return not self.plan.faults and not self.plan.losses

    @property
    def leeway(self) -> int:
        """By how much a lease may be marked too early, because clocks differ (ms).

        A client's estimate of the service's clock lags by the time that a late message takes.
        """
        return 2 * self.plan.skew_ms + (1_000 if self.sure else 3_000)

    def _lease_marked(self, session: int) -> bool:
        item = self.lease(session)
        return item is None or bool(item["marked"])

    def lease(self, session: int) -> Item | None:
        """The row of a session's lease."""
        return self.rows["lease"].get("lease", f"{session:016d}")

    def watch_put(self, partition: str, key: str, item: Item) -> None:
        """A watch's row or index was put, possibly after its session was closed."""
        session = self.watcher(partition, key, item)
        if self.model.sessions[session].closed:
            self.late.add((partition, key))
            if self.scheduler.now - self.closed[session] > 2 * DAY_MS:
                self.too_late.add((partition, key))
            self.reached["watch put after its session's end"] += 1

    @staticmethod
    def watcher(partition: str, key: str, row: Item) -> int:
        """The session to which a row of the table of watches belongs."""
        indexed = key if partition == "recursive" else partition.removeprefix("session ")
        return int(row.get("session") or indexed)  # type: ignore[arg-type]
