"""The past, read from the log: what a path was as of a transaction, and what happened to paths.

Steps as those of :mod:`faaskeeper.session.reads`. Reading the past needs READ then and now. *Then* is
the ACL of what is shown; of a deletion, that of the version deleted. *Now* is the znode's ACL; where
there is none any more, its last one. An ACL that an entry of an earlier release does not tell counts
as one that permits the super user alone.

**The state as of T** is the last image of the path in the log up to T. If the log has none, or that
image lacks the data (only children or the ACL changed), the rest is older than the log: it is in the
record, unless something replaced it after T; then it is *kept* (:mod:`faaskeeper.core.kept`), or
unknown. What comes first after T tells whether something is unknown: before a creation there was
nothing. Trimming may go on meanwhile, so the horizon is read last: below it nothing is answered, and
from it on everything that was read before is complete.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Union

from faaskeeper.core import acl as acls
from faaskeeper.core import codec
from faaskeeper.core.acl import Identity
from faaskeeper.core.changes import NOTHING, Change, Closed, Opened, Replaced, Restored, Transaction
from faaskeeper.core.errors import Code
from faaskeeper.core.kept import Kept
from faaskeeper.core.log import Entry
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Outcome
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import OPEN_ACL, Acl, Meta, genesis, wrapped
from faaskeeper.exceptions import BeforeHistoryException, MalformedInputException
from faaskeeper.session.commands import FindEntry, FindMoment, ReadBlob, ReadEntries, ReadKept, Steps
from faaskeeper.session.reads import Found, Lost, Refused
from faaskeeper.session.rules import Rules

Moment = Union[int, datetime]
"""A transaction, or a time: then the last transaction at or before it, by the log's clock."""
_PIECE = 256
"""Entries that one command reads."""
_FULL = 8 * _PIECE
"""Entries in a window above which it is made smaller; a large one counts as several."""
_FENCE = '["restore",'


class Revision(NamedTuple):
    """One change of one node.

    ``kind``: created, set, deleted or acl. ``time``: ms since 1970. ``session``: the id of the
    session in hexadecimal; None: the service itself (a time to live), or unknown. ``by``: the
    client's identities without hashes, as "scheme:name"; () for none, None if the entry is of an
    earlier release. ``version``: None for a deletion. ``replaced``: the version before; None if
    there was none, or it is unknown. ``replaces``: the transaction that wrote that. ``size``: bytes
    of data. ``data``: None if it was not written, or is kept apart (``get_data(path, at=txid)``
    reads it).
    """

    path: str
    txid: int
    time: int
    kind: str
    session: str | None
    by: tuple[str, ...] | None
    version: int | None
    replaced: int | None
    replaces: int | None
    size: int | None
    data: bytes | None


# ---- entries as revisions ------------------------------------------------------------------------


class Scope(NamedTuple):
    """A path, or (``recursive``) it and everything below it."""

    path: str
    recursive: bool = False

    def has(self, path: str) -> bool:
        """Whether a path is within."""
        if path == self.path:
            return True
        return self.recursive and (self.path == "/" or path.startswith(f"{self.path}/"))

    @property
    def words(self) -> tuple[str, ...]:
        """Texts of which a transaction that changes something within has one."""
        exact = codec.text(self.path)
        if not self.recursive:
            return (exact,)
        return ("",) if self.path == "/" else (exact, f"{exact[:-1]}/")


def sessions_of(entry: Entry) -> dict[int, int]:
    """The session of each transaction, as far as the entry tells.

    The outcome of a check alone names the next transaction, which its session did not make, and is
    like that of a deletion. So those that tell what they wrote come first; others count for
    deletions only, and if no two sessions claim one.
    """
    sure: dict[int, int] = {}
    unsure: dict[int, set[int]] = {}
    for answers in entry.answers:
        for _, outcome in answers.outcomes:
            if outcome.code is Code.OK:
                if _wrote(outcome):
                    sure[outcome.txid] = answers.session
                else:
                    unsure.setdefault(outcome.txid, set()).add(answers.session)
    found: dict[int, int] = {}
    for transaction in entry.transactions:
        claims = unsure.get(transaction.txid, set())
        if transaction.txid in sure:
            found[transaction.txid] = sure[transaction.txid]
        elif len(claims) == 1 and any(change.meta is None for change in transaction.changes):
            (found[transaction.txid],) = claims
        for effect in transaction.effects:
            if isinstance(effect, Closed):
                found[transaction.txid] = effect.session
            elif isinstance(effect, Opened):
                found[transaction.txid] = transaction.txid
    return found


def _wrote(outcome: Outcome) -> bool:
    """Whether an outcome is of a request that wrote an image."""
    return bool(outcome.path) or outcome.meta is not None or any(map(_wrote, outcome.results))


def kind_of(change: Change) -> str:
    """What happened to the path itself; "" if only its children changed."""
    if change.meta is None:
        return "deleted"
    if "C" in change.letters:
        return "created"
    if "S" in change.letters:
        return "set"
    return "" if "K" in change.letters else "acl"


def pairs(transaction: Transaction) -> Iterator[tuple[Change, Replaced | None]]:
    """Each change with what it replaced, if the entry tells."""
    replaced = transaction.replaced
    for place, change in enumerate(transaction.changes):
        yield change, replaced[place] if place < len(replaced) else None


def revisions_of(entry: Entry, scope: Scope) -> Iterator[tuple[Revision, tuple[Acl, ...] | None]]:
    """The revisions of an entry within a scope, in order, each with the ACL then (None: unknown)."""
    sessions: dict[int, int] | None = None
    for transaction in entry.transactions:
        for change, was in pairs(transaction):
            kind = kind_of(change)
            if not kind or not scope.has(change.path):
                continue
            if sessions is None:
                sessions = sessions_of(entry)
            session = sessions.get(transaction.txid, 0)
            yield _revision(entry, transaction, change, was, kind, session), acl_of(change, was)


def _revision(
    entry: Entry, transaction: Transaction, change: Change, was: Replaced | None, kind: str, session: int
) -> Revision:
    meta = change.meta
    there = None if was is None or was == NOTHING else was
    by = transaction.by or (None if was is None else ())
    replaced = None if there is None else there.version
    if kind == "set" and meta is not None:
        replaced = wrapped(meta.version - 1)
    elif kind == "acl" and meta is not None:
        replaced = meta.version
    return Revision(
        change.path,
        transaction.txid,
        entry.time,
        kind,
        f"{session:08x}" if session else None,
        by,
        None if meta is None else meta.version,
        replaced,
        None if there is None else there.mzxid,
        None if meta is None else max(meta.length, 0),
        None if meta is None or meta.blob or kind == "acl" else change.data,
    )


def acl_of(change: Change, was: Replaced | None) -> tuple[Acl, ...] | None:
    """The ACL of a change's image; of a deletion, the last one. None: unknown."""
    if change.meta is not None:
        return acls.effective(change.path, change.meta.acl)
    return None if was is None or was == NOTHING else was.acl


# ---- steps ---------------------------------------------------------------------------------------


class History:
    """The past as one client may see it. The caller runs the steps in the session's order."""

    def __init__(self, rules: Rules, who: tuple[Identity, ...]) -> None:
        self._rules = rules
        self._who = who

    def may(self, acl: tuple[Acl, ...] | None, permission: int = acls.READ) -> bool:
        """Whether an ACL permits this client to read, or to do something else."""
        if acl is None:
            return acls.SUPER in self._who
        return acl is OPEN_ACL or acls.permits(acl, permission, self._who)

    def end(self) -> Steps:
        """The log's last transaction."""
        yield from self._rules.sync()
        return self._rules.seen

    def txid_of(self, at: Moment, end: int) -> Steps:
        """The transaction of a moment. Raises MalformedInputException, BeforeHistoryException."""
        if isinstance(at, datetime):
            found: int | None = yield FindMoment(ms_of(at), end)
            if found is None:
                raise (yield from self._before())
            return found
        if at > end:
            raise MalformedInputException(f"there is no transaction {at} yet: the last one is {end}")
        return at

    def _before(self, why: str = "") -> Steps:
        entry: Entry | None = yield FindEntry(1)
        kept = yield ReadKept("/")
        oldest = max((0 if entry is None else entry.first - 1), 0 if kept is None else kept.horizon)
        time = 0 if entry is None else entry.time
        if kept is not None and kept.horizon == oldest and kept.time:
            time = kept.time
        return BeforeHistoryException(oldest, time, why)

    # ---- one znode -----------------------------------------------------------------------

    def data(self, path: str, at: Moment) -> Steps:
        """The znode with its data as of a moment, as Found; the names of its children are left out.

        Raises Refused, Lost, BeforeHistoryException or MalformedInputException.
        """
        found, _ = yield from self._found(path, at)
        blob = found.meta.blob
        if not blob:
            return found
        data: bytes | None = yield ReadBlob(blob, found.meta.length)
        if data is None:
            now: Record | None = yield from self._rules.read(path)
            if now is not None and now.meta is not None and now.meta.blob == blob:
                raise Lost(path, blob)
            raise (yield from self._before(f"the data of transaction {found.meta.mzxid} is not retained"))
        return found._replace(data=data)

    def acl(self, path: str, at: Moment) -> Steps:
        """The znode's ACL, as this client may see it, and its metadata as of a moment.

        Hashes of passwords are shown to who had ADMIN then and has it now. Raises as :meth:`data`
        does, but never Lost.
        """
        found, now = yield from self._found(path, at)
        then = acls.effective(path, found.meta.acl)
        shown = acls.masked(then, self._who) if self.may(now, acls.ADMIN) else acls.hidden(then)
        return shown, found.meta

    def _found(self, path: str, at: Moment) -> Steps:
        end: int = yield from self.end()
        txid: int = yield from self.txid_of(at, end)
        return (yield from self._as_of(path, txid, end))

    def _as_of(self, path: str, txid: int, end: int) -> Steps:
        record: Record | None = yield from self._rules.read(path)
        past = _Past(path, txid, record)
        if not past.unchanged:
            yield from self._scan(past, max(end, 0 if record is None else record.txid))
        past.kept = yield ReadKept(path)
        entry: Entry | None = yield FindEntry(1)
        first = end if entry is None else entry.first - 1
        if txid < max(first, past.begin, 0 if past.kept is None else past.kept.horizon):
            raise (yield from self._before())
        found = past.found()
        if found is None:
            raise (yield from self._before(f"the state of the node at transaction {txid} is not retained"))
        if found.meta is None:
            raise Refused(Code.NO_NODE, path)
        then = acls.effective(path, found.meta.acl)
        now = past.acl_now
        if not (self.may(then) and self.may(now)):
            raise Refused(Code.NO_AUTH, path)
        return Found(found.meta, found.data, ()), now

    def _scan(self, past: _Past, upto: int) -> Steps:
        """Fold the log over a path, up to the first change after the moment (or to the end)."""
        entry: Entry | None = yield FindEntry(1)
        after = past.begin = upto if entry is None else entry.first - 1
        past.whole = entry is not None and after == 0
        words = (*Scope(past.path).words, _FENCE)
        while after < upto and not past.done:
            entries, position, _, begin = yield ReadEntries(after, upto, words, _PIECE)
            if begin > after:  # entries in between have expired: stores trim in no order
                past.forget(begin)
            for entry in entries:
                if entry.first > begin:
                    past.fold(entry)
            after = position

    # ---- many ----------------------------------------------------------------------------

    def walk(
        self,
        scope: Scope,
        since: Moment | None,
        until: Moment | None,
        session: int | None,
        newest_first: bool,
    ) -> Steps:
        """Begin to read revisions; returns a :class:`Walk`. Raises MalformedInputException."""
        end: int = yield from self.end()
        low, high = 0, end
        if isinstance(since, datetime):
            low = (yield FindMoment(ms_of(since) - 1, end)) or 0
        elif since is not None:
            low = yield from self.txid_of(since, end)
        if isinstance(until, datetime):
            high = (yield FindMoment(ms_of(until), end)) or 0
        elif until is not None:
            high = until
        entry: Entry | None = yield FindEntry(low + 1)
        begin = end if entry is None else min(entry.first - 1, end)
        return Walk(self, scope, (low, high), (begin, end), session, newest_first)


class _Past:
    """A path as of a transaction, as far as its record, the log and the keeper tell."""

    def __init__(self, path: str, txid: int, record: Record | None) -> None:
        self.path = path
        self.txid = txid
        self.record = record
        self.begin = 0
        """Below this the log tells nothing."""
        self.fence = 0
        """The last restore. A keeper whose horizon is below it was not told: by an earlier release."""
        self.whole = False
        """Whether the log has its beginning."""
        self.kept: Kept | None = None
        self._image: tuple[int, Meta | None, bytes | None] | None = None
        self._next = ""
        """Letters of the first change after the moment, or a blank for the lack of them."""
        self._last: tuple[Acl, ...] | None = None

    @property
    def unchanged(self) -> bool:
        """Whether the record is as of the moment, or older."""
        return self.record is not None and self.record.txid <= self.txid

    @property
    def done(self) -> bool:
        """Whether later entries tell nothing more. Those of a deleted znode tell its last ACL."""
        return bool(self._next) and self.record is not None and self.record.meta is not None

    def forget(self, begin: int) -> None:
        """Begin anew after a transaction: what was before does not lead there."""
        self.begin, self.whole = begin, False
        if begin <= self.txid:
            self._image = None

    def fold(self, entry: Entry) -> None:
        """Take in an entry."""
        for transaction in entry.transactions:
            if any(isinstance(effect, Restored) for effect in transaction.effects):
                self.forget(transaction.txid)
                self.fence = transaction.txid
            for change, was in pairs(transaction):
                if change.path == self.path:
                    self._change(transaction.txid, change, was)

    def _change(self, txid: int, change: Change, was: Replaced | None) -> None:
        acl = acl_of(change, was)
        self._last = self._last if acl is None else acl
        if txid > self.txid:
            self._next = self._next or change.letters or " "
            return
        _, letters, meta, data = change
        if meta is not None and data is None and "C" not in letters and self._image is not None:
            data = self._image[2]
        self._image = txid, meta, data

    @property
    def acl_now(self) -> tuple[Acl, ...] | None:
        """The znode's ACL; of a deleted one, its last."""
        if self.record is not None and self.record.meta is not None:
            return acls.effective(self.path, self.record.meta.acl)
        return self._last

    def found(self) -> _State | None:
        """The state as of the moment; None: it is unknown."""
        record = self.record
        if record is not None and record.txid <= self.txid:
            return _State(record.meta, record.data)
        kept = None if self.kept is None else self.kept.image
        if self.kept is not None and self.kept.horizon < self.fence:
            kept = None
        if kept is not None and (self._image is None or kept.txid >= self._image[0]):
            return _State(kept.meta, kept.data)
        if self._image is None:
            return self._before_all()
        _, meta, data = self._image
        if meta is None or data is not None or meta.blob or meta.length <= 0:
            return _State(meta, data or b"")
        for other in (kept, record):  # the data is older than the log
            if other is not None and other.meta is not None and other.meta.mzxid == meta.mzxid:
                return _State(meta, other.data)
        return None

    def _before_all(self) -> _State | None:
        """The state before the path's first change in the log."""
        if self.whole:
            there = genesis().get(self.path)
            return _State(None if there is None else there[0], b"")
        if self._next.replace("K", "")[:1] == "C" or (not self._next and self.record is None):
            return _State(None, b"")
        return None


class _State(NamedTuple):
    meta: Meta | None
    data: bytes


class Walk:
    """Revisions of a scope, a page at a time: :meth:`page` until it returns None.

    Newest first, the log is read in windows of txids from its end, since it can only be read
    forwards; a window has about as many entries as one command reads. The first change of a path
    that comes tells its ACL now. Oldest first, the ACLs of now are read beforehand. Either begins
    after the last restore, and after the last gap (stores trim in no order): what was before it does
    not tell what is there now.
    """

    def __init__(
        self,
        history: History,
        scope: Scope,
        wanted: tuple[int, int],
        log: tuple[int, int],
        session: int | None,
        newest_first: bool,
    ) -> None:
        self._history = history
        self._scope = scope
        self._wanted = wanted
        self._low, self._high = log
        self._words = (*scope.words, _FENCE)
        self._session = None if session is None else f"{session:08x}"
        self._newest_first = newest_first
        self._window = _PIECE
        self._now: dict[str, tuple[Acl, ...] | None] | None = None
        """ACLs of now by path. Oldest first, one that is missing is open."""

    def page(self) -> Steps:
        """Some revisions, at least one; None: there are no more."""
        while self._low < self._high:
            if self._newest_first:
                rows: list[Revision] = yield from self._window_back()
            else:
                rows = yield from self._piece()
            if rows:
                return rows
        return None

    def _window_back(self) -> Steps:
        now = self._now = {} if self._now is None else self._now
        after = max(self._high - self._window, self._low)
        astride: Entry | None = yield FindEntry(after + 1)
        if astride is not None and astride.first <= after:
            after = max(astride.first - 1, self._low)
        entries: list[Entry] = []
        position, scanned, hole = after, 0, 0
        while position < self._high:
            begin = position
            some, position, number, gap = yield ReadEntries(begin, self._high, self._words, _PIECE)
            hole = gap if gap > begin else hole
            entries += some
            scanned += number
            if scanned > _FULL and self._window > 1:
                self._window = max(self._window // 16, 1)
                return []
        fence = max([hole, *map(_restored, entries)])
        if fence:
            self._low = after = max(fence, self._low)
        self._high = after
        if scanned < _PIECE // 4:
            self._window *= 4
        rows: list[Revision] = []
        for entry in reversed(entries):
            for path, acl in reversed(list(_acls(entry, self._scope, after=self._low))):
                if now.get(path) is None:
                    now[path] = acl
            rows += reversed(self._rows(entry, now))
        return rows

    def _piece(self) -> Steps:
        if self._now is None:
            self._now = yield from self._protected()
        now = self._now or {}
        entries, position, _, _ = yield ReadEntries(self._low, self._high, self._scope.words, _PIECE)
        rows = [row for entry in entries for row in self._rows(entry, now)]
        self._low = position
        return rows

    def _rows(self, entry: Entry, now: dict[str, tuple[Acl, ...] | None]) -> list[Revision]:
        return [row for row, then in revisions_of(entry, self._scope) if self._shown(row, then, now)]

    def _protected(self) -> Steps:
        """The ACLs of now, of all paths in the scope that have another than the open one.

        The open one stands among them where an earlier release has written it: such a release does
        not tell the ACL of what it deletes.
        """
        found: dict[str, tuple[Acl, ...] | None] = {}
        after = self._low
        while after < self._high:
            begin = after
            entries, after, _, gap = yield ReadEntries(begin, self._high, self._words, _PIECE)
            if gap > begin:
                self._low = max(self._low, gap)
                found.clear()
            for entry in entries:
                fence = _restored(entry)
                if fence > self._low:
                    self._low = fence
                    found.clear()
                old = not any(transaction.replaced for transaction in entry.transactions)
                for path, acl in _acls(entry, self._scope, after=self._low):
                    if acl is OPEN_ACL and not old:
                        found.pop(path, None)
                    elif acl is not None or path not in found:
                        found[path] = acl
        return found

    def _shown(
        self, row: Revision, then: tuple[Acl, ...] | None, now: dict[str, tuple[Acl, ...] | None]
    ) -> bool:
        low, high = self._wanted
        if not max(low, self._low) < row.txid <= high or (
            self._session is not None and row.session != self._session
        ):
            return False
        may = self._history.may
        return may(then) and may(now.get(row.path, OPEN_ACL))


def _acls(entry: Entry, scope: Scope, after: int) -> Iterator[tuple[str, tuple[Acl, ...] | None]]:
    """The ACL of each change within a scope after a transaction, those of children included."""
    for transaction in entry.transactions:
        if transaction.txid > after:
            for change, was in pairs(transaction):
                made = change.meta is not None or was != NOTHING  # else it came and went within it
                if made and scope.has(change.path):
                    yield change.path, acl_of(change, was)


def _restored(entry: Entry) -> int:
    """The last transaction of an entry that marks a restore; 0: none."""
    return max(
        (
            transaction.txid
            for transaction in entry.transactions
            if any(isinstance(effect, Restored) for effect in transaction.effects)
        ),
        default=0,
    )


def check_moment(at: Moment) -> None:
    """Raise MalformedInputException for what is neither a transaction nor a time."""
    if isinstance(at, bool) or not isinstance(at, (int, datetime)) or (isinstance(at, int) and at < 0):
        raise MalformedInputException(f"a moment must be a transaction's number or a datetime, not {at!r}")


def session_of(session: str | int) -> int:
    """The number of a session's id, which may be hexadecimal. Raises MalformedInputException."""
    try:
        return session if isinstance(session, int) else int(session, 16)
    except ValueError:
        raise MalformedInputException(f"{session!r} is not a session's id, a hexadecimal number") from None


def ms_of(at: datetime) -> int:
    """A time as ms since 1970; one without a zone is local."""
    return int(at.timestamp() * 1000)
