"""Heartbeat: work that no request triggers. It runs on a schedule, any number of instances at once.

It expires sessions whose leases ran out, repeats lost wake-ups, saves the checkpoint before it
becomes too old, and runs garbage collection (:mod:`faaskeeper.core.sweeping`). The parts are
independent. Each may be interrupted anywhere, and the next run finishes it; a part that fails does
not stop the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import islice
from typing import Any

from faaskeeper.core import logs
from faaskeeper.core.answers import wake_up
from faaskeeper.core.clocks import carried
from faaskeeper.core.deployment import MAX_TIMEOUT_MS, Deployment
from faaskeeper.core.drivers.storage import Table
from faaskeeper.core.errors import Conflict
from faaskeeper.core.images import CHECK_WITHIN_MS
from faaskeeper.core.records import Record
from faaskeeper.core.sessions import Lease, Transient, served_ms
from faaskeeper.core.sweeping import WITHIN_MS, Sweeper
from faaskeeper.core.view import load
from faaskeeper.core.writer import order

CLOCKS_DIFFER_MS = 10_000
"""How far apart correct clocks may be."""
FORGOTTEN_MS = 5_000
"""How old an entry above the mark must be before its wake-up counts as lost."""
CHECKPOINT_EVERY_MS = 24 * 3600 * 1000
_ORDERS = 100
_OLD_ROW_MS = 3600 * 1000
"""How long a row stays that an earlier release put for a znode in use: its distributors do not live
longer."""

_logger = logs.logger(__name__)


class Heartbeat:
    """The heartbeat's function. ``state``: the table for the progress of its sweeps."""

    def __init__(self, deployment: Deployment, state: Table) -> None:
        self._deployment = deployment
        self._state = state
        self._sweeper = Sweeper(deployment, state)

    def run(self) -> None:
        """Run all parts once."""
        self._in_turn(self.expire, self.reap, self.wake, self.refresh, self.sweep)

    def beat(self) -> dict[str, Any]:
        """Run what is due every minute; returns counts of what was done."""
        expired, reaped, woken = self._in_turn(self.expire, self.reap, self.wake)
        return {"expired": len(expired), "reaped": len(reaped), "woken": woken}

    def tend(self, within: int = WITHIN_MS) -> bool:
        """Run what is due every hour, the checkpoint and sweeping, for about ``within`` ms.

        Returns whether sweeping was completed; if not, call again soon.
        """
        return bool(self._in_turn(self.refresh, partial(self.sweep, within))[1])

    def due(self) -> bool:
        """Whether sweeping is due: the last sweep is old or was not completed. Costs a read."""
        return self._sweeper.due()

    def sweep(self, within: int = WITHIN_MS) -> bool:
        """Sweep for about ``within`` ms; see :meth:`faaskeeper.core.sweeping.Sweeper.sweep`."""
        return self._sweeper.sweep(within)

    @staticmethod
    def _in_turn(*parts: Callable[[], Any]) -> list[Any]:
        """Run independent parts. Raises the first error, after all parts have run."""
        done: list[Any] = []
        errors: list[Exception] = []
        for part in parts:
            try:
                done.append(part())
            except Exception as error:
                errors.append(error)
        for also in errors[1:]:
            _logger.error("another part of heartbeat failed: %s: %s", type(also).__name__, also)
        if errors:
            raise errors[0]
        return done

    # ---- sessions ----------------------------------------------------------------------

    def expire(self) -> list[int]:
        """Mark overdue leases, then order the writer to close their sessions; returns the sessions.

        Repeats the order for leases that were marked before: it may have been lost.
        """
        deployment = self._deployment
        now = deployment.clock()
        noted: dict[int, tuple[int, int]] = {}
        overdue: list[int] = []
        attached: list[Lease] = []
        for lease in deployment.leases.all():
            if lease.under:
                attached.append(lease)
            elif self._ended(lease, now, noted):
                overdue.append(lease.session)
        orphans = self._detached(attached, now)
        overdue.extend(lease.session for lease in orphans if self._ended(lease, now, noted))
        deployment.leases.noted = noted
        for at in range(0, len(overdue), _ORDERS):
            self._order(order(deployment, overdue[at : at + _ORDERS]))
        return overdue

    def readmit(self) -> None:
        """Renew the leases of sessions that servers held, and shorten leases that reach too far.

        For a service that was down together with all its servers: no client could resume its
        session meanwhile. The service's clock starts anew with each start of the system, so leases
        counted by the earlier clock may be years ahead. Each lease gets its whole time-out.
        """
        leases = self._deployment.leases
        for lease in list(leases.all()):
            now = self._deployment.clock()
            if lease.marked or not (lease.proof or _overlong(lease, now)):
                continue
            expires = now + (lease.timeout or MAX_TIMEOUT_MS)
            try:
                leases.replace(lease._replace(under=0, expires=expires))
            except Conflict:
                continue  # it has changed, so its client or server is alive

    def _ended(self, lease: Lease, now: int, noted: dict[int, tuple[int, int]]) -> bool:
        """Whether a lease is marked; marks it if it is overdue.

        ``noted``: see :attr:`Leases.noted`.
        """
        if lease.marked:
            return True
        if lease.expires >= now and not (_overlong(lease, now) and self._not_renewed(lease, noted)):
            return False
        try:
            self._deployment.leases.mark(lease)
        except Conflict:
            return False  # renewed meanwhile: alive
        return True

    def _not_renewed(self, lease: Lease, noted: dict[int, tuple[int, int]]) -> bool:
        """Whether a lease was not renewed for its time-out while this process watched it.

        For leases whose expiry says nothing, because a clock is wrong.
        """
        deployment = self._deployment
        now = (deployment.elapsed or deployment.clock)()
        version, since = deployment.leases.noted.get(lease.session, (0, now))
        if version != lease.version:
            since = now
        noted[lease.session] = lease.version, since
        return now - since > (lease.timeout or MAX_TIMEOUT_MS)

    def _detached(self, attached: Sequence[Lease], now: int) -> Iterator[Lease]:
        """Detach the leases whose server's lease is marked or gone; yield them.

        Such a server can never answer for them again. Each lease gets its own time-out from the
        moment at which the server may last have served its session. Called after all leases without
        a server were examined: the overdue leases of servers are marked by then.
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
                continue  # another server answers for it now, or it is closed

    def _order(self, body: bytes) -> None:
        identity = self._deployment.random(8).hex()
        self._deployment.worker_queue.send("writer", identity, body)

    # ---- containers and znodes with a time to live ---------------------------------------

    def reap(self) -> list[str]:
        """Order the writer to remove empty containers and znodes past their time to live.

        Returns their paths. Examines only znodes whose row in the index is due. A znode that is not
        due gets a row for later, or none if it can only become due by a write that puts one.
        """
        deployment = self._deployment
        now = self._log_now()
        due: dict[str, None] = {}
        rows = deployment.transients.due(now)
        while some := list(islice(rows, _ORDERS)):
            records = deployment.records.get_many([row.path for row in some])
            for row, record in zip(some, records, strict=True):
                if self._is_due(row, record, now):
                    due[row.path] = None
        asked = list(due)
        for at in range(0, len(asked), _ORDERS):
            self._order(order(deployment, (), asked[at : at + _ORDERS]))
        return asked

    def _is_due(self, row: Transient, record: Record | None, now: int) -> bool:
        """Whether a znode whose row is due is due itself. If not, replaces or deletes the row.

        A record older than the row says nothing: the one that made the row necessary is still being
        written. An absent record says nothing either, unless the mark has reached the row: user
        storage may not have it yet.
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
            transients.put(row.path, min(at, now + CHECK_WITHIN_MS), record.txid)
        transients.drop(row)
        return False

    def _log_now(self) -> int:
        """The log's own time now (ms), which measures times to live; the writer decides."""
        deployment = self._deployment
        known = deployment.checkpoints.latest()
        return deployment.log_clock.now(carried(known.time, known.asof, deployment.clock()))

    # ---- the log -----------------------------------------------------------------------

    def wake(self) -> bool:
        """Send a wake-up for entries that nothing has applied; returns whether there were any."""
        deployment = self._deployment
        applied = deployment.checkpoints.applied()
        entry = deployment.log.at(applied + 1)
        if entry is None or abs(self._log_now() - entry.time) < FORGOTTEN_MS:
            return False  # an entry from the future gets a wake-up too: a needless one costs little
        if deployment.distributor_queue is None:
            self._order(order(deployment))
        else:
            identity = f"heartbeat {applied}"
            deployment.distributor_queue.send("distributor", identity, wake_up(None, 0, ()))
        return True

    def refresh(self) -> bool:
        """Save a checkpoint when the last is a day old, even if idle; returns whether it did."""
        deployment = self._deployment
        now = deployment.clock()
        header = deployment.checkpoints.header()
        if now - header.asof < CHECKPOINT_EVERY_MS:
            return False
        view = load(deployment.log, deployment.checkpoints, deployment.clock, max_nodes=0)
        deployment.checkpoints.save(view.header(), view.sessions, deployment.clock)
        return True


def _overlong(lease: Lease, now: int) -> bool:
    """Whether a lease reaches further than any renewal: a clock is or was wrong."""
    return lease.expires > now + (lease.timeout or MAX_TIMEOUT_MS) + CLOCKS_DIFFER_MS
