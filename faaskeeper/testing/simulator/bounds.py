"""What must not grow: rows of ended sessions, unnamed parts, the memory of functions and clients.

Checked during a history, and once more at rest while sessions still live. At the very end
everything is gone, so that a check there could not show which part had failed to remove it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import Any

from faaskeeper.client.session import Session
from faaskeeper.core import log
from faaskeeper.core.changes import Closed
from faaskeeper.core.log import RETENTION_MS, Entry
from faaskeeper.core.records import from_object
from faaskeeper.core.sessions import CLOSED_KEPT_MS
from faaskeeper.core.wide import INDEX
from faaskeeper.testing.simulator.ledger import Ledger
from faaskeeper.testing.simulator.scheduler import Violation

_DAY_MS = 24 * 3600 * 1000
_BEATS = 40
"""After so many runs of heartbeat the lease of an ended session is deleted, despite faults."""


class Bounds:
    """The bounds of one history."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._ended: dict[int, int] = {}
        """When each session ended, as a value of :attr:`beats`."""
        self.beats = 0
        """Runs of heartbeat that finished."""
        self._times: deque[tuple[int, int]] = deque()
        """When each recent entry was appended, and its time in the log, both in ms."""
        self._time = 0
        """The log's time before the first of them."""

    # ---- during a history--------------------------------------------------------------

    def committed(self, entry: Entry) -> None:
        """Note the log's time, and the sessions that an entry ends."""
        self._times.append((self._ledger.scheduler.now, entry.time))
        for transaction in entry.transactions:
            for effect in transaction.effects:
                if isinstance(effect, Closed):
                    self._ended.setdefault(effect.session, self.beats)

    def middle(self) -> None:
        """Check what holds at any time, with or without faults."""
        for session, since in self._ended.items():
            if self.beats - since > _BEATS and self._leased(session):
                raise Violation(f"the lease of session {session} is there {self.beats - since} beats after")
        self.checkpoint(3 * _DAY_MS)

    def invoked(self, function: Any, head: int, alone: bool) -> None:
        """Check the memory of a function after an invocation.

        ``head``: the txid at which its view had ended before; ``alone``: it had a single message.
        """
        view = getattr(function, "view", None)
        if view is None:
            return
        for session in view.sessions:
            forgotten = [cxid for cxid in session.outcomes if cxid <= session.acked]
            if forgotten:
                raise Violation(f"session {session.id}: outcomes {forgotten} are kept, all have arrived")
        if len(function.contents) > self._ledger.plan.max_contents:
            raise Violation(f"the distributor remembers {len(function.contents)} records")
        entries = self._ledger.model.entries
        one = [last for _, last in entries[bisect_right(entries, (head, head)) :]][:1] == [view.head]
        inline = not self._ledger.plan.own_distributor
        if one and alone and inline and not view.pending:  # znodes that are only read are added later
            old = view.evictable
            # Requests that are judged again read znodes after the eviction; a mass of them comes at once.
            if old > view.max_nodes + 8 + self._ledger.plan.mass:
                raise Violation(f"a view for {view.max_nodes} znodes remembers {old} that it may forget")

    # ---- at rest -----------------------------------------------------------------------

    def rows(self, *, swept: bool = False) -> list[str]:
        """Rows of ended sessions; at rest there must be none.

        Unless all is ``swept``, their index of watches and watch rows that were put after the end
        may remain. Rows that were put days after the end stay until they fire.
        """
        ledger = self._ledger
        left = [f"the lease of {session}" for session in self._ended if self._leased(session)]
        for partition, items in ledger.rows["watch"].partitions.items():
            for key, row in items.items():
                late = not row.get("session") or (partition, key) in ledger.late
                if (partition, key) in ledger.too_late:
                    continue
                if ledger.watcher(partition, key, row) in self._ended and (swept or not late):
                    left.append(f"the watch row {partition} {key}")
        return left

    def client(self, session: Session) -> None:
        """Check the memory of a client all of whose requests are answered."""
        rules = session.rules
        passed = {path: txid for path, txid in session.rules.leasts.items() if txid <= rules.applied}
        if passed:
            raise Violation(f"session {session.id} remembers {passed}, the mark is {rules.applied}")
        if not session.outbox.empty:
            raise Violation(f"session {session.id} remembers requests that are answered")

    def checkpoint(self, kept: int) -> None:
        """Check that sessions have no row which ended a day before the log's time ``kept`` ms ago."""
        while self._times and self._times[0][0] < self._ledger.scheduler.now - kept:
            self._time = self._times.popleft()[1]
        ledger = self._ledger
        for key, row in ledger.rows["checkpoint"].partitions.get("session", {}).items():
            if "closed" not in row:
                continue
            closed = int(row["closed"])  # type: ignore[arg-type]
            if closed and self._time - closed > CLOSED_KEPT_MS:
                raise Violation(f"the checkpoint has a row of session {key}, which ended at {closed}")

    def old(self) -> None:
        """Check what must be gone after weeks of rest with a run of heartbeat each day."""
        ledger = self._ledger
        self.checkpoint(2 * _DAY_MS)
        if left := self.rows(swept=True):
            raise Violation(f"left of sessions that ended long ago: {left}")
        for key, found in ledger.bucket.items():
            record = from_object(found.body) if key.startswith("r/") else None
            if record is None or ledger.scheduler.now - ledger.decided(record.txid) < 3 * _DAY_MS:
                continue
            if record.meta is None and not ledger.model.lapsed(key[1:], record.txid):
                raise Violation(f"the tombstone {key} of {record.txid} is there for good")
        for path, items in ledger.rows["records"].partitions.items():
            node = items.get("node")
            if node is None or "meta" in node or "parts" in node:
                continue
            stamp = int(node["stamp"])  # type: ignore[arg-type]
            if ledger.scheduler.now - ledger.decided(stamp) < 3 * _DAY_MS:
                continue  # a time to live may end in the last days of rest
            # A late invocation may write one again that had lapsed; nothing looks for those.
            if not ledger.model.lapsed(path, stamp):
                raise Violation(f"the tombstone {node} of {path} is there for good")
        self.parts()
        if not ledger.plan.expiring:
            ages = {key: ledger.scheduler.now - ledger.appended[key] for key in self._entries()}
            old = [key for key, age in ages.items() if age > RETENTION_MS + 3 * _DAY_MS]
            if len(old) > 1:  # the last one stays: it says where the log ends
                raise Violation(f"the entries {old} are there after {ages} ms")

    def parts(self) -> None:
        """Check after weeks of rest that each part is named by an item, or belongs to an entry."""
        ledger = self._ledger
        for name in ("checkpoint", "records"):
            items = ledger.rows[name].partitions
            named = {
                str(item["named"]) for some in items.values() for item in some.values() if "named" in item
            }
            left = set(items.get(INDEX, {})) - named
            for partition, parts in items.items():
                if partition.startswith("parts "):
                    left |= {" ".join(part.rsplit(" ", 3)[1:3]) for part in parts} - named
            if left:
                raise Violation(f"parts of replaced versions are left in {name}: {sorted(left)}")
        first = min(self._entries(), default="")
        for name in log.partitions(ledger.plan.stripes):
            parts = ledger.rows["log"].partitions.get(f"parts {name}", {})
            left = {part for part in parts if part.split(" ")[0] < first}
            if left:
                raise Violation(f"parts of entries that were trimmed are left: {sorted(left)}")

    def _entries(self) -> list[str]:
        rows = self._ledger.rows["log"].partitions
        return [key for name in log.partitions(self._ledger.plan.stripes) for key in rows.get(name, {})]

    def _leased(self, session: int) -> bool:
        return self._ledger.lease(session) is not None
