"""What may not grow: rows of what is over, parts that nothing names, memory of functions and clients.

Looked at while a history goes on, and once more when it has come to rest and sessions still live: at the very
end everything is gone, whoever ought to have removed it.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from typing import TYPE_CHECKING, Any

from faaskeeper.core import log
from faaskeeper.core.changes import Closed
from faaskeeper.core.log import RETENTION_MS, Entry
from faaskeeper.core.records import from_object
from faaskeeper.core.sessions import CLOSED_KEPT_MS
from faaskeeper.core.wide import INDEX
from faaskeeper.testing.scheduler import Violation

if TYPE_CHECKING:
    from faaskeeper.client.session import Session
    from faaskeeper.testing.world import World

_DAY_MS = 24 * 3600 * 1000
_BEATS = 40
"""So many runs of heartbeat, with what they lead to, remove whatever they are to remove, faults or not."""


class Bounds:
    """What is looked at in a history."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._ended: dict[int, int] = {}
        """When sessions ended, in runs of heartbeat that came to their end."""
        self.beats = 0
        self._times: deque[tuple[int, int]] = deque()
        """When entries were appended, and the log's time of each; before the first the log's time at
        :attr:`_time`."""
        self._time = 0

    # ---- as it goes on -----------------------------------------------------------------

    def committed(self, entry: Entry) -> None:
        """Note the log's time, and the sessions that an entry ends."""
        self._times.append((self._world.scheduler.now, entry.time))
        for transaction in entry.transactions:
            for effect in transaction.effects:
                if isinstance(effect, Closed):
                    self._ended.setdefault(effect.session, self.beats)

    def middle(self) -> None:
        """At any time, faults or not."""
        for session, since in self._ended.items():
            if self.beats - since > _BEATS and self._leased(session):
                raise Violation(f"the lease of session {session} is there {self.beats - since} beats after")
        self.checkpoint(3 * _DAY_MS)

    def invoked(self, payload: Any, head: int, alone: bool) -> None:
        """After a call of the writer or the distributor; its view had ended at ``head``.

        ``alone``: with one message.
        """
        view = getattr(payload, "_view", None)
        if view is None:
            return
        for session in view.sessions:
            forgotten = [cxid for cxid in session.outcomes if cxid <= session.acked]
            if forgotten:
                raise Violation(f"session {session.id}: outcomes {forgotten} are kept, all have arrived")
        distributor = payload._distributor
        if len(distributor._contents) > distributor._MAX_CONTENTS:
            raise Violation(f"the distributor remembers {len(distributor._contents)} records")
        entries = self._world.model.entries
        one = [last for _, last in entries[bisect_right(entries, (head, head)) :]][:1] == [view.head]
        inline = self._world.distributor_queue is None
        if one and alone and inline and not view.pending:  # what is only looked at comes on top of it
            old = [path for path, node in view._nodes.items() if node.txid <= view.applied]
            if len(old) > view._max_nodes + 8:  # what is judged again is looked at after the eviction
                raise Violation(
                    f"a view for {view._max_nodes} znodes remembers {len(old)} that it may forget"
                )

    # ---- at rest -----------------------------------------------------------------------

    def rows(self, *, swept: bool = False) -> list[str]:
        """Rows of sessions that have ended; none may be there when all has come to rest.

        Until all is ``swept`` there may be their index of watches, and rows that were put after the end.
        """
        world = self._world
        left = [f"the lease of {session}" for session in self._ended if self._leased(session)]
        for partition, items in world.tables["watch"].inner._items.items():
            for key, row in items.items():
                indexed = not row.get("session")
                owner = row.get("session") or (
                    key if partition == "recursive" else partition.removeprefix("session ")
                )
                late = indexed or (partition, key) in world.late
                if int(owner) in self._ended and (swept or not late):  # type: ignore[arg-type]
                    left.append(f"the watch row {partition} {key}")
        return left

    def client(self, session: Session) -> None:
        """What a client remembers when everything is answered."""
        rules, outbox = session.rules, session.outbox
        passed = {path: txid for path, txid in rules._least.items() if txid <= rules.applied}
        if passed:
            raise Violation(f"session {session.id} remembers {passed}, the mark is {rules.applied}")
        if outbox._unanswered or outbox._early or outbox._unsent:
            raise Violation(f"session {session.id} remembers requests that are answered")

    def checkpoint(self, kept: int) -> None:
        """Rows of sessions are gone that had ended a day before what the log was told ``kept`` ms ago."""
        while self._times and self._times[0][0] < self._world.scheduler.now - kept:
            self._time = self._times.popleft()[1]
        world = self._world
        for key, row in world.tables["checkpoint"].inner._items.get("session", {}).items():
            if "closed" not in row:
                continue
            closed = int(row["closed"])  # type: ignore[arg-type]
            if closed and self._time - closed > CLOSED_KEPT_MS:
                raise Violation(f"the checkpoint has a row of session {key}, which ended at {closed}")

    def old(self) -> None:
        """After weeks of rest with a run of heartbeat a day."""
        world = self._world
        self.checkpoint(2 * _DAY_MS)
        if left := self.rows(swept=True):
            raise Violation(f"left of sessions that ended long ago: {left}")
        for key, found in world.objects.objects.items():
            record = from_object(found.body) if key.startswith("r/") else None
            if record is not None and record.meta is None and not world.model.lapsed(key[1:], record.txid):
                raise Violation(f"the tombstone {key} of {record.txid} is there for good")
        for path, items in world.tables["records"].inner._items.items():
            node = items.get("node")
            if node is None or "meta" in node or "parts" in node:
                continue
            # Who comes late may leave one again that had lapsed, and nobody looks for that.
            if not world.model.lapsed(path, int(node["stamp"])):  # type: ignore[arg-type]
                raise Violation(f"the tombstone {node} of {path} is there for good")
        self.parts()
        if not world.plan.expiring:
            entries = world.tables["log"].inner._items.get(log.PARTITION, {})
            ages = {key: world.scheduler.now - world.appended[key] for key in entries}
            old = [key for key, age in ages.items() if age > RETENTION_MS + 3 * _DAY_MS]
            if len(old) > 1:  # one stays, so that the log's end is known for ever
                raise Violation(f"the entries {old} are there after {ages} ms")

    def parts(self) -> None:
        """After weeks of rest there are no parts but of what items name, and of entries that are there."""
        world = self._world
        for name in ("checkpoint", "records"):
            items = world.tables[name].inner._items
            named = {
                str(item["named"]) for some in items.values() for item in some.values() if "named" in item
            }
            left = set(items.get(INDEX, {})) - named
            for partition, parts in items.items():
                if partition.startswith("parts "):
                    left |= {" ".join(part.rsplit(" ", 3)[1:3]) for part in parts} - named
            if left:
                raise Violation(f"parts of replaced versions are left in {name}: {sorted(left)}")
        entries = world.tables["log"].inner._items
        first = min(entries.get(log.PARTITION, {}), default="")
        left = {part for part in entries.get(f"parts {log.PARTITION}", {}) if part.split(" ")[0] < first}
        if left:
            raise Violation(f"parts of entries that were trimmed are left: {sorted(left)}")

    def _leased(self, session: int) -> bool:
        return self._world.tables["lease"].inner.get("lease", f"{session:016d}") is not None
