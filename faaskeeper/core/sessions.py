"""Sessions as the log defines them, and the leases that show whether their clients are alive.

A session's state changes only through the log: :meth:`Sessions.fold` is its only writer. Folding is
idempotent: a checkpoint's rows may be newer than its header, and folding the entries in between
again ends in the same state, because every step either sets an absolute value or is repeated by the
entries that follow it (see ``docs/architecture/distribution.md``, *Checkpoint*).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from heapq import heappop, heappush
from typing import Any

from faaskeeper.core.changes import Closed, Effect, Opened, Restored, Resumed, Transaction
from faaskeeper.core.drivers.storage import IfAbsent, IfOlder, IfStamp, Item, Table, every
from faaskeeper.core.errors import Conflict, Restoring
from faaskeeper.core.log import Entry
from faaskeeper.core.requests import Outcome
from faaskeeper.core.tuples import NamedTuple

OUTCOMES_KEPT_MS = 3600 * 1000
"""How long a closed session's outcomes are kept; after that SessionExpired means "unknown"."""
CLOSED_KEPT_MS = 24 * OUTCOMES_KEPT_MS
"""How long a closed session is kept. No invocation lives as long, so none can write an older state
of it back."""
_DRAWN_BYTES = 5


class Session:
    """One session's state as of some txid."""

    __slots__ = (
        "acked",
        "address",
        "closed",
        "ephemerals",
        "id",
        "incarnation",
        "last",
        "nonce",
        "outcomes",
        "sealed",
        "timeout",
    )

    def __init__(self, id: int, nonce: str, sealed: bytes, timeout: int) -> None:
        self.id = id
        self.nonce = nonce
        self.sealed = sealed
        self.timeout = timeout
        self.address = ""
        self.incarnation = 0
        self.last = 0
        self.acked = 0
        self.outcomes: dict[int, Outcome] = {}
        self.ephemerals: set[str] = set()
        self.closed = 0
        """Time of the entry that closed it (ms), 0 while it is open."""

    @property
    def closing(self) -> bool:
        """Whether it is closed and still owns ephemerals: transactions that delete them follow."""
        return bool(self.closed and self.ephemerals)

    def forget_acked(self) -> None:
        """Drop the outcomes that the client acknowledged; they are in the order of their cxids."""
        while self.outcomes and (cxid := next(iter(self.outcomes))) <= self.acked:
            del self.outcomes[cxid]


class Sessions:
    """All sessions that are open or were closed recently."""

    def __init__(self) -> None:
        self._by_id: dict[int, Session] = {}
        self._by_nonce: dict[str, int] = {}
        self.changed: set[int] = set()
        """Sessions changed since the last checkpoint that was loaded or saved here."""
        self.forgotten: dict[int, int] = {}
        """Forgotten sessions that still have a row in the checkpoint: by id, when it was closed
        (ms)."""
        self.closing: set[int] = set()
        """Closed sessions that still own ephemerals."""
        self._closed: list[tuple[int, int]] = []
        """A heap of (when a session was closed, its id)."""

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Session]:
        return iter(self._by_id.values())

    def get(self, id: int) -> Session | None:
        """The session, or None if it never existed or was closed long ago."""
        return self._by_id.get(id)

    def ended(self, id: int) -> bool:
        """Whether nothing is left of a session that was opened: no request of it, no ephemeral."""
        session = self._by_id.get(id)
        return session is None or bool(session.closed and not session.ephemerals)

    def opened_by(self, nonce: str) -> int | None:
        """Id of the session that an Open with this nonce began."""
        return self._by_nonce.get(nonce)

    def add(self, session: Session) -> None:
        """Add a session of a checkpoint."""
        self._by_id[session.id] = session
        self._by_nonce[session.nonce] = session.id
        if session.closed:
            self._note_closed(session)

    def forget(self, id: int) -> None:
        """Drop a session that was closed long ago."""
        session = self._by_id.pop(id, None)
        if session is not None and self._by_nonce.get(session.nonce) == id:
            del self._by_nonce[session.nonce]
        self.changed.discard(id)

    def discard_changes(self) -> None:
        """Discard the record of what changed: another process saves the checkpoint."""
        self.changed.clear()
        self.forgotten.clear()

    def fold(self, entry: Entry) -> None:
        """Fold one entry, and forget sessions that were closed a day before it.

        Raises Restoring: the entry replaces everything that was before it.
        """
        for transaction in entry.transactions:
            for effect in transaction.effects:
                self._effect(effect, transaction, entry.time)
        for answers in entry.answers:
            session = self._by_id.get(answers.session)
            if session is None or session.incarnation != answers.incarnation:
                continue
            self.changed.add(session.id)
            session.address = answers.address
            for cxid, outcome in answers.outcomes:
                if cxid:
                    if cxid > session.last:
                        session.last = cxid
                    if cxid > session.acked:  # otherwise folded again, over a newer row
                        session.outcomes[cxid] = outcome
            if answers.acked > session.acked:
                session.acked = answers.acked
            session.forget_acked()
        while self._closed and entry.time - self._closed[0][0] > CLOSED_KEPT_MS:
            self._forget_closed(heappop(self._closed)[1], entry.time)

    def _note_closed(self, session: Session) -> None:
        heappush(self._closed, (session.closed, session.id))
        self._note_closing(session)

    def _note_closing(self, session: Session) -> None:
        (self.closing.add if session.ephemerals else self.closing.discard)(session.id)

    def _forget_closed(self, id: int, now: int) -> None:
        if id in self.closing:
            heappush(self._closed, (now, id))  # its ephemerals are found by it: check later
        elif (session := self._by_id.get(id)) is not None:
            self.forgotten[id] = session.closed
            self.forget(id)

    def _effect(self, effect: Effect, transaction: Transaction, time: int) -> None:
        txid = transaction.txid
        if isinstance(effect, Opened):
            if txid not in self._by_id:
                self.add(Session(txid, effect.nonce, effect.sealed, effect.timeout))
            else:  # from a checkpoint; an earlier session of this nonce was folded after that
                self._by_nonce[effect.nonce] = txid
            self.changed.add(txid)
            return
        if isinstance(effect, Restored):
            raise Restoring(txid, effect.of)
        session = self._by_id.get(effect.session)
        if session is None:
            return
        self.changed.add(session.id)
        if isinstance(effect, Closed):
            if effect.partial:
                session.ephemerals.difference_update(
                    change.path for change in transaction.changes if change.meta is None
                )
            else:
                session.ephemerals.clear()
            if session.closed:
                self._note_closing(session)
            else:
                session.closed = time
                self._note_closed(session)
        elif isinstance(effect, Resumed):
            if effect.incarnation > session.incarnation:
                session.incarnation = effect.incarnation
                session.last = session.acked = 0
                session.outcomes = {}
        elif effect.kept:
            session.ephemerals.add(effect.path)
        else:
            session.ephemerals.discard(effect.path)
        if session.closed:
            self._note_closing(session)


def next_incarnation(above: int, random: Callable[[int], bytes]) -> int:
    """Draw an incarnation for a process that continues a session: above all before, and unique.

    It is drawn from 2^40 numbers, so two processes that begin at the same number differ. After a
    million reattachments it is still below :data:`~faaskeeper.core.requests.MAX_INCARNATION`.
    """
    return above + 1 + int.from_bytes(random(_DRAWN_BYTES), "big")


# ---- leases ----------------------------------------------------------------------------------

_LEASES = "lease"


class Lease(NamedTuple):
    """A session's lease.

    ``expires``: ms, by the service's clock. ``marked``: overdue, being closed. ``incarnation``: of
    the process that renewed it last. ``under``: the session of a server that answers for this one,
    and whose lease counts instead (0: none). ``timeout``: ms; for a server's lease, how long before
    ``expires`` it was renewed; for others, the session's time-out (0: unknown). ``proof``: by which
    a server recognizes clients that may come back to the session (hexadecimal; "": none).
    """

    session: int
    version: int
    expires: int
    marked: bool
    incarnation: int = 0
    under: int = 0
    timeout: int = 0
    proof: str = ""


def served_ms(timeout: int) -> int:
    """How long a server may serve after a renewal (ms), of its lease's time-out (ms)."""
    return timeout * 2 // 3


def _lease(session: int, item: Item) -> Lease:
    fields: dict[str, Any] = item
    lease = Lease(session, fields["stamp"], fields["expires"], bool(fields["marked"]), fields["incarnation"])
    if "timeout" not in fields:
        return lease
    return lease._replace(under=fields["under"], timeout=fields["timeout"], proof=fields["proof"])


def _lease_key(session: int) -> str:
    return f"{session:016d}"


class Leases:
    """Lease rows: clients renew them, heartbeat marks them, both by compare-and-set.

    Each write is conditional on the version that was read. A marked lease cannot be renewed,
    because the renewal's condition names an older version. So a close that heartbeat sends after
    marking never affects a client that holds a valid lease.
    """

    def __init__(self, table: Table) -> None:
        self._table = table
        self.noted: dict[int, tuple[int, int]] = {}
        """Kept by heartbeat for leases that reach too far: by session, the version and since when
        it has not changed."""

    def grant(self, session: int, expires: int, timeout: int = 0) -> None:
        """Put the first lease of a session; an existing one stays."""
        try:
            self._put(Lease(session, 1, expires, False, timeout=timeout), IfAbsent())
        except Conflict:
            pass  # granted before: this is a repetition

    def renew(self, session: int, version: int, expires: int, incarnation: int = 0, timeout: int = 0) -> int:
        """Renew the lease read as ``version``; returns the new version.

        Raises Conflict if it is marked or gone. ``expires``, ``timeout``: ms.
        """
        return self.replace(Lease(session, version, expires, False, incarnation, 0, timeout)).version

    def replace(self, lease: Lease) -> Lease:
        """Write a lease over the version that it names; returns it with the new version.

        Raises Conflict.
        """
        new = lease._replace(version=lease.version + 1)
        self._put(new, IfStamp(lease.version))
        return new

    def mark(self, lease: Lease) -> None:
        """Mark an overdue lease. Raises Conflict if it was renewed meanwhile."""
        self.replace(lease._replace(marked=True))

    def drop(self, session: int) -> None:
        """Delete the lease of a closed session."""
        self._table.delete(_LEASES, _lease_key(session))

    def get(self, session: int) -> Lease | None:
        """The session's lease, or None."""
        item = self._table.get(_LEASES, _lease_key(session))
        return None if item is None else _lease(session, item)

    def all(self) -> Iterator[Lease]:
        """Every lease, page by page."""
        for name, item in every(self._table, _LEASES):
            yield _lease(int(name), item)

    def _put(self, lease: Lease, condition: IfAbsent | IfStamp) -> None:
        item: dict[str, Any] = {
            "stamp": lease.version,
            "expires": lease.expires,
            "marked": int(lease.marked),
            "incarnation": lease.incarnation,
        }
        if lease.timeout:
            item.update(under=lease.under, timeout=lease.timeout, proof=lease.proof)
        self._table.put(_LEASES, _lease_key(lease.session), item, condition)


# ---- containers and znodes with a time to live -----------------------------------------------

_TRANSIENTS = "transient"
_FIRST_PAGE = 10
_PAGE = 500


class Transient(NamedTuple):
    """A row of the index: heartbeat is to examine a path at ``due`` (ms) or later.

    ``stamp``: the transaction that put the row. ``due`` 0: a row of an earlier release, which had
    one for each such znode, keyed by path.
    """

    key: str
    path: str
    due: int
    stamp: int


def _transient(key: str, item: Item) -> Transient:
    stamp: Any = item["stamp"]
    if key.startswith("/"):
        return Transient(key, key, 0, stamp)
    due, path = key.split(" ", 1)
    return Transient(key, path, int(due), stamp)


class Transients:
    """An index of containers and znodes with a time to live, by when heartbeat is to examine them.

    A row is a hint, early rather than late: heartbeat examines the znode, and the writer decides.
    """

    def __init__(self, table: Table) -> None:
        self._table = table

    def put(self, path: str, due: int, stamp: int) -> None:
        """Note when to examine a znode (ms), as of a transaction; a later note stays."""
        try:
            self._table.put(_TRANSIENTS, f"{due:016d} {path}", {"stamp": stamp}, IfOlder(stamp))
        except Conflict:
            pass  # noted before

    def due(self, now: int) -> Iterator[Transient]:
        """The due rows, page by page; the first page is small, since usually there are none."""
        after, limit, more = "", _FIRST_PAGE, True
        while more:
            items, more = self._table.query(_TRANSIENTS, after, limit)
            for key, item in items:
                row = _transient(key, item)
                if row.due > now:
                    return
                yield row
            if not items:
                return
            after, limit = items[-1][0], _PAGE

    def all(self) -> Iterator[Transient]:
        """Every row."""
        for key, item in every(self._table, _TRANSIENTS):
            yield _transient(key, item)

    def drop(self, row: Transient) -> None:
        """Delete a row; leave a later one in its place."""
        try:
            self._table.delete(_TRANSIENTS, row.key, IfStamp(row.stamp))
        except Conflict:
            pass  # noted anew
