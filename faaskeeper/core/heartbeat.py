"""Heartbeat: what must happen although nobody asks. Run on a schedule, any number at once.

It ends sessions whose leases ran out, rings a doorbell that was forgotten, keeps the checkpoint young,
and sweeps what nobody refers to any more. Each part is independent, may be cut short anywhere, and
is finished by the next run.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

from faaskeeper.core import paths
from faaskeeper.core.blobs import PREFIX, parse_blob_name
from faaskeeper.core.children import page_path, removed_pages
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.distributor import LOOK_WITHIN_MS, bell
from faaskeeper.core.errors import Conflict, Unavailable
from faaskeeper.core.log import RETENTION_MS, Entry, Trimmed
from faaskeeper.core.records import Record
from faaskeeper.core.sessions import Lease, Transient, served_ms
from faaskeeper.core.storage import Table
from faaskeeper.core.view import load
from faaskeeper.core.writer import order

FORGOTTEN_MS = 5_000
"""How old an entry above the mark must be before its doorbell counts as forgotten."""
CHECKPOINT_EVERY_MS = 24 * 3600 * 1000
TOMBSTONE_MS = 24 * 3600 * 1000
"""How long a tombstone stays: longer than any invocation or read that began before it lives."""
BLOB_MS = 15 * 24 * 3600 * 1000
"""How long an unreferenced blob stays: longer than queues and dead letters keep the request that names it."""
_ORDERS = 100
_OLD_ROW_MS = 3600 * 1000
"""How long a znode in use that an earlier release noted keeps a row: no distributor of that lives longer."""
_TRIES = 10

_logger = logging.getLogger(__name__)


class Heartbeat:
    """The heartbeat's function. ``state``: the table in which it keeps how far its sweeps have come."""

    def __init__(self, deployment: Deployment, state: Table) -> None:
        self._deployment = deployment
        self._state = state

    def run(self) -> None:
        """One beat."""
        self.expire()
        self.reap()
        self.ring()
        self.refresh()
        self.sweep()

    # ---- sessions ----------------------------------------------------------------------

    def expire(self) -> list[int]:
        """Mark overdue leases, then have the writer close their sessions; returns those.

        A lease that was marked before is asked for again: the request to close it may be lost.
        """
        deployment = self._deployment
        now = deployment.clock()
        overdue: list[int] = []
        attached: list[Lease] = []
        for lease in deployment.leases.all():
            if lease.under:
                attached.append(lease)
            elif self._ended(lease, now):
                overdue.append(lease.session)
        overdue.extend(lease.session for lease in self._orphans_of(attached, now) if self._ended(lease, now))
        for at in range(0, len(overdue), _ORDERS):
            self._order(order(deployment, overdue[at : at + _ORDERS]))
        return overdue

    def readmit(self) -> None:
        """Give sessions that servers answered for their whole time-out again.

        For a service that was down itself, with all its servers: nobody could come back to it meanwhile.
        """
        leases = self._deployment.leases
        for lease in list(leases.all()):
            if not lease.proof or lease.marked:
                continue
            expires = max(lease.expires, self._deployment.clock() + lease.timeout)
            try:
                leases.replace(lease._replace(under=0, expires=expires))
            except Conflict:
                continue  # it has changed, so somebody lives

    def _ended(self, lease: Lease, now: int) -> bool:
        """Whether a lease is marked, by this call if it is overdue."""
        if lease.marked:
            return True
        if lease.expires >= now:
            return False
        try:
            self._deployment.leases.mark(lease)
        except Conflict:
            return False  # renewed meanwhile: alive
        return True

    def _orphans_of(self, attached: Sequence[Lease], now: int) -> Iterator[Lease]:
        """Free the leases whose server's is marked or gone, so that it can never answer for them again.

        Each gets its own time-out from when that server may last have served its session. Looked at after
        all leases that stand for themselves: servers' that are overdue are marked by then.
        """
        leases = self._deployment.leases
        servers: dict[int, Lease | None] = {}
        for lease in attached:
            if lease.under not in servers:
                servers[lease.under] = leases.get(lease.under)
            server = servers[lease.under]
            if server is not None and not server.marked:
                continue
            served = now if server is None else server.expires - server.timeout + served_ms(server.timeout)
            try:
                yield leases.replace(lease._replace(under=0, expires=served + lease.timeout))
            except Conflict:
                continue  # another server answers for it by now, or it is closed

    def _order(self, body: bytes) -> None:
        identity = self._deployment.random(8).hex()
        self._deployment.worker_queue.send("writer", identity, body)

    # ---- znodes that end by themselves ---------------------------------------------------

    def reap(self) -> list[str]:
        """Have the writer remove containers that are empty and znodes past their time to live.

        Returns their paths. Looks at the znodes whose row in the index says so, and at no other: what is
        not due gets a row for later, or none where it can only come to be due by a write that puts one.
        """
        deployment = self._deployment
        now = self._log_now()
        due: dict[str, None] = {}
        rows = deployment.transients.due(now)
        while some := list(islice(rows, _ORDERS)):
            records = deployment.records.get_many([row.path for row in some])
            for row, record in zip(some, records, strict=True):
                if self._goes(row, record, now):
                    due[row.path] = None
        asked = list(due)
        for at in range(0, len(asked), _ORDERS):
            self._order(order(deployment, (), asked[at : at + _ORDERS]))
        return asked

    def _log_now(self) -> int:
        """The time by which znodes are due (ms)."""
        return self._deployment.clock()

    def _goes(self, row: Transient, record: Record | None, now: int) -> bool:
        """Whether a znode whose row's time has come is due. If not, the row is replaced or dropped.

        A record from before the row says nothing: what made the row needed is being written. Nor does none at
        all, unless the mark has reached the row: else user storage may not show it yet.
        """
        transients = self._deployment.transients
        if record is None:
            if self._deployment.checkpoints.applied() >= row.stamp:
                transients.drop(row)
            return False
        if record.txid < row.stamp:
            return False
        at = None if record.meta is None else record.meta.due_at()
        if at is None and not row.due and record.meta is not None and record.meta.ttl:
            at = now + _OLD_ROW_MS
        if at is not None and at <= now:
            return True
        if at is not None:
            transients.put(row.path, min(at, now + LOOK_WITHIN_MS), record.txid)
        transients.drop(row)
        return False

    # ---- the log -----------------------------------------------------------------------

    def ring(self) -> bool:
        """Ring for entries that nobody applied; returns whether there were any."""
        deployment = self._deployment
        applied = deployment.checkpoints.applied()
        entry = deployment.log.at(applied + 1)
        if entry is None or deployment.clock() - entry.time < FORGOTTEN_MS:
            return False
        if deployment.distributor_queue is None:
            self._order(order(deployment))
        else:
            identity = f"heartbeat {applied}"
            deployment.distributor_queue.send("distributor", identity, bell(None, 0, ()))
        return True

    def refresh(self) -> bool:
        """Save a checkpoint when the last is a day old, idle or not; returns whether it did."""
        deployment = self._deployment
        now = deployment.clock()
        header = deployment.checkpoints.header()
        if now - header.asof < CHECKPOINT_EVERY_MS:
            return False
        view = load(deployment.log, deployment.checkpoints, deployment.clock, max_nodes=0)
        deployment.checkpoints.save(view.header(), view.sessions, deployment.clock)
        return True

    # ---- sweeping ----------------------------------------------------------------------

    def sweep(self) -> None:
        """Walk the part of the log that is applied and old: it is the index of what is garbage.

        Tombstones lapse and replaced blobs go a day after the mark has passed the transaction that left
        them; a store that does not trim the log by itself is trimmed after the retention.
        """
        deployment = self._deployment
        now = deployment.clock()
        applied = deployment.checkpoints.applied()
        position = self._position("sweep")
        for entry in self._entries(position, self._passed(applied, now)):
            self._collect(entry)
            position = entry.last
        self._advance("sweep", position)
        if deployment.blobs is not None:
            self._orphans(now)
        if not deployment.expiring_log:
            self._trim(now, min(applied, deployment.checkpoints.header().txid, position))

    def _passed(self, applied: int, now: int) -> int:
        """A mark that was passed at least :data:`TOMBSTONE_MS` ago, by what earlier beats noted.

        The age of the *entry* would not do: one that is applied late may be applied by two invocations, of
        which the slower must not bring back what the tombstone of the faster has just ended.
        """
        item = self._state.get("heartbeat", "passed")
        noted: dict[str, Any] = item or {"stamp": 0, "next": applied, "time": now}
        if item is None or now - noted["time"] >= TOMBSTONE_MS:
            passed = noted["stamp"] if item is None else noted["next"]
            self._state.put("heartbeat", "passed", {"stamp": passed, "next": applied, "time": now})
            return int(passed)
        return int(noted["stamp"])

    def _entries(self, position: int, upto: int) -> Iterator[Entry]:
        more = True
        while more and position < upto:
            try:
                entries, more = self._deployment.log.after(position)
            except Trimmed as trimmed:
                _logger.warning("the log was trimmed before it was swept: from %d", trimmed.first)
                position = trimmed.first - 1
                continue
            for entry in entries:
                if entry.last > upto:
                    return
                yield entry
                position = entry.last

    def _collect(self, entry: Entry) -> None:
        for transaction in entry.transactions:
            for change in transaction.changes:
                if change.meta is None:
                    self._deployment.records.lapse(change.path, transaction.txid)
            for path in removed_pages(transaction):
                self._deployment.records.lapse(path, transaction.txid)
            if self._deployment.blobs is not None:
                for blob in transaction.garbage:
                    self._deployment.blobs.delete(blob)

    def _orphans(self, now: int) -> None:
        """Delete blobs whose request was refused or never came. Each blob is looked at once, when old."""
        blobs = self._deployment.blobs
        if blobs is None:
            return
        after = self._cursor("blobs")
        while True:
            names = blobs.list(PREFIX, after, 100)
            for name in names:
                made, path, sequential = parse_blob_name(name)
                if now - made < BLOB_MS:
                    return
                if not self._refers(name, path, sequential):
                    blobs.delete(name)
                after = name
                self._state.put("heartbeat", "blobs", {"stamp": 0, "after": after})
            if not names:
                return

    def _refers(self, blob: str, path: str, sequential: bool) -> bool:
        """Whether user storage refers to a blob. Raises Unavailable where a list is too busy to tell."""
        records = self._deployment.records
        if not sequential:
            return _names(records.get(path), blob)
        above = paths.parent(path)
        prefix = paths.name(path)
        digits = len(prefix) + 10
        names = self._children(above)
        same = [each for each in names if each.startswith(prefix) and len(each) == digits]
        found = records.get_many([paths.child(above, each) for each in same])
        return any(_names(record, blob) for record in found)

    def _children(self, path: str) -> list[str]:
        """Names of a znode's children, as of one transaction."""
        records, applied = self._deployment.records, self._deployment.checkpoints.applied
        for _ in range(_TRIES):
            parent = records.get(path)
            if parent is None or parent.meta is None:
                return []
            if not parent.meta.pages:
                return parent.children
            if applied() < parent.txid:
                continue  # not all of its pages need be there
            pages = records.get_many([page_path(path, number) for number in range(parent.meta.pages)])
            names: list[str] = []
            for page in pages:
                if page is None or page.meta is None or page.txid > parent.txid:
                    break
                names.extend(page.children)
            else:
                if len(names) == parent.meta.children:
                    return names
        raise Unavailable(f"the children of {path} change too fast to be listed: the next beat tries again")

    def _trim(self, now: int, upto: int) -> None:
        position = self._position("trim")
        old: list[Entry] = []
        for entry in self._entries(position, upto):
            if now - entry.time < RETENTION_MS:
                break
            old.append(entry)
            position = entry.last
        self._deployment.log.trim(old)
        self._advance("trim", position)

    def _position(self, name: str) -> int:
        item = self._state.get("heartbeat", name)
        return 0 if item is None else int(item["stamp"])  # type: ignore[arg-type]

    def _advance(self, name: str, position: int) -> None:
        if position > self._position(name):
            self._state.put("heartbeat", name, {"stamp": position})

    def _cursor(self, name: str) -> str:
        item = self._state.get("heartbeat", name)
        return "" if item is None else str(item["after"])


def _names(record: Record | None, blob: str) -> bool:
    return record is not None and record.meta is not None and record.meta.blob == blob
