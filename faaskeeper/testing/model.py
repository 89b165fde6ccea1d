"""What must have happened: the log replayed one request at a time, and checks of all that is shown.

The model watches the log itself. For each entry it judges the requests again, in the order that their
transactions have, on a plain state, with the same pure ``apply`` that is tested against outcomes of a real
server; the entry must say the same. From its history it knows what any read may show.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from faaskeeper.core import paths
from faaskeeper.core.acl import identities
from faaskeeper.core.changes import Closed, Opened, Owned, Resumed, Transaction
from faaskeeper.core.children import (
    PAGE_META,
    page_of,
    page_path,
    paged_in,
    removed_pages,
    writes_of,
)
from faaskeeper.core.errors import Code
from faaskeeper.core.log import Entry
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Close, Message, Outcome, Reap, Reply, Request
from faaskeeper.core.transactions import Context, Limits, apply
from faaskeeper.core.watches import FIRED_BY, STAYING
from faaskeeper.core.znode import Meta, genesis
from faaskeeper.testing.scheduler import Violation
from faaskeeper.watch import WatchedEvent

Key = tuple[int, int, int]
"""(session, incarnation, cxid)."""


class Image(NamedTuple):
    """A path as of a transaction. ``meta`` None: no znode."""

    txid: int
    meta: Meta | None
    data: bytes
    children: tuple[str, ...]

    def stored(self) -> tuple[Meta | None, bytes, tuple[str, ...]]:
        """What the path's own record holds: no names where those are kept in pages."""
        paged = self.meta is not None and self.meta.pages
        return self.meta, self.data, () if paged else self.children


class Session:
    """What the model knows of a session."""

    def __init__(self) -> None:
        self.incarnation = 0
        self.last = 0
        self.closed = False
        self.ephemerals: set[str] = set()


class Model:
    """The state, its history, and what was promised to whom."""

    def __init__(self, limits: Limits, marked: Callable[[int], bool] = lambda session: True) -> None:
        self.head = 0
        self._marked = marked
        self.sessions: dict[int, Session] = {}
        self.outcomes: dict[Key, Outcome] = {}
        self.requests: dict[Key, Request] = {}
        self.hostile: set[int] = set()
        """Sessions of clients that keep to nothing: a cxid of theirs may have several bodies."""
        self.hostile_nonces: set[str] = set()
        self._candidates: dict[Key, list[Request]] = {}
        self.history: dict[str, list[Image]] = {}
        self.events: dict[str, list[tuple[int, str]]] = {}
        self.happened: list[tuple[int, str, str]] = []
        """Txid, path and letter of everything that happened to znodes, in order."""
        self.entries: list[tuple[int, int]] = []
        self.asked: set[int] = set()
        """Txids that clients' requests were judged at."""
        self._lapsed: dict[str, int] = {}
        self._times: dict[int, int] = {}
        self._nonces: dict[str, int] = {}
        self.trimmed = False
        """The log was trimmed: who was away for so long learns of changes by looking, not one by one."""
        self._limits = limits
        self._now: dict[str, tuple[Meta, bytes, set[str]]] = {}
        for path, (meta, children) in genesis().items():
            self._now[path] = (meta, b"", set(children))
            self.history[path] = [Image(0, meta, b"", children)]

    # ---- State, for the judge ------------------------------------------------------------

    def node(self, path: str) -> Meta | None:
        """See :class:`faaskeeper.core.transactions.State`."""
        found = self._now.get(path)
        return None if found is None else found[0]

    def ephemerals(self, session: int) -> Iterable[str]:
        """See :class:`faaskeeper.core.transactions.State`."""
        return self.sessions[session].ephemerals

    # ---- what is sent ----------------------------------------------------------------------

    def sent(self, message: Message) -> None:
        """A client sends requests: a cxid never gets another body."""
        for request in message.requests:
            if message.session and request.cxid:
                key = (message.session, message.incarnation, request.cxid)
                if self.requests.setdefault(key, request) != request:
                    raise Violation(f"{key} was {self.requests[key]} and is {request}")

    def may_be_asked(self, message: Message) -> None:
        """A hostile client sends requests of its own session, signed as they should be."""
        for request in message.requests:
            key = (message.session, message.incarnation, request.cxid)
            self._candidates.setdefault(key, []).append(request)

    # ---- the log ---------------------------------------------------------------------------

    def append(self, entry: Entry) -> None:
        """An entry was committed."""
        if entry.first != self.head + 1:
            raise Violation(f"Z2: entry {entry.first} was appended, the log ended at {self.head}")
        if entry.time < self._times.get(self.head, 0):
            raise Violation(f"the log's time goes back: {entry.time} after {self._times[self.head]}")
        txids = [transaction.txid for transaction in entry.transactions]
        if txids != list(range(entry.first, entry.last + 1)):
            raise Violation(f"Z2: txids {txids} in the entry {entry.first}..{entry.last}")
        decided: list[tuple[int, int, int, Key, Outcome]] = []
        for group in entry.answers:
            for order, (cxid, outcome) in enumerate(group.outcomes):
                if cxid:
                    error = outcome.code is not Code.OK
                    key = (group.session, group.incarnation, cxid)
                    decided.append((outcome.txid, int(error), order, key, outcome))
        decided.sort(key=lambda each: each[:3])
        self._times.update((txid, entry.time) for txid in txids)
        at = 0
        for transaction in entry.transactions:
            while at < len(decided) and decided[at][:2] < (transaction.txid, 0):
                self._judge(decided[at][3], decided[at][4], None, entry.time, transaction.txid)
                at += 1
            if at < len(decided) and decided[at][:2] == (transaction.txid, 0):
                self._judge(decided[at][3], decided[at][4], transaction, entry.time, transaction.txid)
                at += 1
            else:
                self._unasked(transaction, entry.time)
            self._take(transaction)
        for _, _, _, key, outcome in decided[at:]:
            self._judge(key, outcome, None, entry.time, self.head + 1)
        self.entries.append((entry.first, entry.last))

    def _judge(
        self, key: Key, outcome: Outcome, transaction: Transaction | None, now: int, txid: int
    ) -> None:
        """A request's outcome is what one judge alone, with all before done, would have said."""
        session = self.sessions.get(key[0])
        if session is None or session.closed:
            raise Violation(f"Z1: {key} was decided after its session was closed")
        if key in self.outcomes:
            raise Violation(f"Z1: {key} was decided twice: {self.outcomes[key]}, {outcome}")
        if key[1] != session.incarnation:
            raise Violation(f"Z1: {key} was decided, the session is at incarnation {session.incarnation}")
        if key[2] != session.last + 1:
            raise Violation(f"Z2: {key} was decided after cxid {session.last}")
        session.last = key[2]
        self.outcomes[key] = outcome
        asked = self._candidates.get(key, []) if key[0] in self.hostile else [self.requests.get(key)]
        if not asked or asked[0] is None:
            raise Violation(f"Z1: {key} was decided and never asked")
        self.asked.add(txid)
        for request in asked:
            assert request is not None
            operation, who = request.operation, identities(request.auth)
            expected, changes = apply(Context(self, key[0], now, txid, self._limits, who), operation)
            if expected == outcome and changes == transaction:
                break
        else:
            raise Violation(
                f"Z2: {key} {operation} was decided {outcome} {transaction}, one at a time it is "
                f"{expected} {changes}"
            )

    def _unasked(self, transaction: Transaction, now: int) -> None:
        """A transaction without a client's request: opening, resuming, heartbeat's close, or nothing."""
        if not transaction.changes and not transaction.effects:
            return
        if not any(isinstance(effect, (Opened, Resumed, Closed)) for effect in transaction.effects):
            self._reaped(transaction, now)
            return
        effect = transaction.effects[-1]
        if isinstance(effect, Closed):
            session = self.sessions.get(effect.session)
            if session is None or (session.closed and not session.ephemerals):
                raise Violation(f"session {effect.session} was closed twice")
            _, expected = apply(Context(self, effect.session, now, transaction.txid, self._limits), Close())
            if not session.closed and not self._marked(effect.session):
                raise Violation(f"session {effect.session} was closed, its lease is good")
            if expected != transaction:
                raise Violation(f"closing {effect.session} did {transaction}, must do {expected}")
        elif not isinstance(effect, (Opened, Resumed)) or transaction.changes:
            raise Violation(f"nobody asked for {transaction}")

    def _reaped(self, transaction: Transaction, now: int) -> None:
        """Heartbeat had a container or a znode past its time to live removed."""
        meta = self.node(transaction.changes[0].path)
        if meta is None or meta.children or not meta.ttl:
            raise Violation(f"{transaction} removes {meta}")
        if now - meta.mtime <= meta.ttl or (
            meta.ttl < 0 and now - self._empty_since(transaction.changes[0].path) < 60_000
        ):
            raise Violation(f"{transaction} removes {meta}, which was not due")
        _, expected = apply(
            Context(self, 0, now, transaction.txid, self._limits), Reap(transaction.changes[0].path)
        )
        if expected != transaction:
            raise Violation(f"nobody asked for {transaction}")

    def _empty_since(self, path: str) -> int:
        """When a path was last seen to have got, or lost, its last child."""
        since = 0
        for image in reversed(self.history[path]):
            if image.meta is None or image.children:
                break
            since = self._times[image.txid]
        return since

    def _take(self, transaction: Transaction) -> None:
        self.head = txid = transaction.txid
        for effect in transaction.effects:
            if isinstance(effect, Opened):
                # A copy of an Open that comes when its session is long closed and forgotten opens one
                # that nobody renews; while the session is open, or remembered, it must not.
                earlier = self._nonces.get(effect.nonce)
                if earlier is not None and not self.sessions[earlier].closed:
                    raise Violation(f"Z1: one Open opened {earlier} and {txid}")
                self._nonces[effect.nonce] = txid
                self.sessions[txid] = Session()
                if effect.nonce in self.hostile_nonces:
                    self.hostile.add(txid)
            elif isinstance(effect, Closed):
                closed = self.sessions[effect.session]
                closed.closed = True
                closed.ephemerals.difference_update(
                    path for path, _, meta, _ in transaction.changes if not meta
                )
                if bool(closed.ephemerals) is not effect.partial:
                    raise Violation(f"{transaction} leaves {closed.ephemerals}")
            elif isinstance(effect, Resumed):
                session = self.sessions[effect.session]
                session.incarnation, session.last = effect.incarnation, 0
            elif isinstance(effect, Owned):
                owned = self.sessions[effect.session].ephemerals
                (owned.add if effect.kept else owned.discard)(effect.path)
        for path, letters, meta, data in transaction.changes:
            if meta is None:
                self._now.pop(path, None)
                continue
            before = None if "C" in letters or "D" in letters else self._now.get(path)
            content = data if data is not None else b"" if before is None else before[1]
            self._now[path] = (meta, content, set() if before is None else before[2])
        for path, letters, meta, _ in transaction.changes:
            if "C" in letters or "D" in letters:
                above = self._now.get(paths.parent(path))
                if above is not None:
                    (above[2].discard if meta is None else above[2].add)(paths.name(path))
        for path, _, meta, _ in transaction.changes:
            found = self._now.get(path)
            image = Image(txid, meta, found[1] if found else b"", tuple(sorted(found[2])) if found else ())
            self.history.setdefault(path, []).append(image)
        for path, letters in writes_of(transaction):
            for letter in letters.replace("K", ""):
                self._happened(txid, path, letter)
                if letter in "CD":
                    self._happened(txid, paths.parent(path), "K")
        self._take_pages(transaction)
        for path, (meta, _, _) in self._now.items():
            owner = self.sessions.get(meta.owner)
            if owner is not None and owner.closed and path not in owner.ephemerals:
                raise Violation(f"{path} outlives its session {meta.owner}")

    def _happened(self, txid: int, path: str, letter: str) -> None:
        self.events.setdefault(path, []).append((txid, letter))
        self.happened.append((txid, path, letter))

    def _take_pages(self, transaction: Transaction) -> None:
        """Pages are written too: each of those that a transaction lists has the names that belong to it."""
        listed = {path for path, _ in writes_of(transaction) if "//" in path}
        for path in paged_in(transaction):
            found = self._now.get(path)
            pages = found[0].pages if found else 0
            by_page: dict[int, list[str]] = {number: [] for number in range(pages)}
            for name in sorted(found[2]) if found else ():
                if pages:
                    by_page[page_of(name, pages)].append(name)
            for number, names in by_page.items():
                where = page_path(path, number)
                before = self.history.get(where, [Image(0, None, b"", ())])[-1]
                if where in listed:
                    image = Image(transaction.txid, PAGE_META, b"", tuple(names))
                    self.history.setdefault(where, []).append(image)
                elif before.children != tuple(names) or before.meta is None:
                    raise Violation(f"{transaction} changes the page {where} and does not list it")
            for where in removed_pages(transaction):
                self.history.setdefault(where, []).append(Image(transaction.txid, None, b"", ()))
                if where not in listed:
                    raise Violation(f"{transaction} removes the page {where} and does not list it")

    def lapse(self, path: str, txid: int) -> None:
        """A tombstone is removed from user storage."""
        if self.history[path][-1].meta is not None and self.history[path][-1].txid == txid:
            raise Violation(f"Z5: {path} is removed from user storage, it is there since {txid}")
        self._lapsed[path] = max(txid, self._lapsed.get(path, 0))

    def stored(self, path: str, txid: int) -> None:
        """A record is put into user storage. A lapsed tombstone cannot refuse it any more."""
        if self.lapsed(path, txid):
            raise Violation(f"Z5: {path} of {txid} is brought back, its tombstone has lapsed")

    def lapsed(self, path: str, txid: int) -> bool:
        """Whether the tombstone that a transaction left was removed."""
        return self._lapsed.get(path, -1) >= txid

    def at(self, path: str, txid: int) -> Image:
        """The image of a path as of a transaction."""
        images = self.history.get(path, [])
        at = bisect_right(images, txid, key=lambda image: image.txid)
        return images[at - 1] if at else Image(0, None, b"", ())

    def tree(self) -> dict[str, Image]:
        """Every znode, as of the head."""
        return {path: self.at(path, self.head) for path in self._now}

    # ---- answers -------------------------------------------------------------------------

    def answered(self, reply: Reply, stored: Any) -> None:
        """A reply is delivered. ``stored``: the txid of a path's record in user storage, or None."""
        for cxid, outcome in reply.outcomes:
            if not cxid:
                continue
            key = (reply.session, reply.incarnation, cxid)
            known = self.outcomes.get(key)
            if outcome.code is Code.SESSION_MOVED:
                current = self.sessions[reply.session].incarnation
                # one that keeps to nothing asks as an incarnation that it becomes only later
                if current <= reply.incarnation and reply.session not in self.hostile:
                    raise Violation(f"Z1: {key} was told that another process goes on, none does")
            elif outcome.code is Code.FORGOTTEN:
                if known is None:
                    raise Violation(f"Z1: {key} was told that it was decided, it was not")
            elif outcome.code is Code.SESSION_EXPIRED:
                if not self.sessions[reply.session].closed:
                    raise Violation(f"Z1: {key} was told that its session is over, it is not")
                if known is not None:
                    raise Violation(f"Z1: {key} was told expired, it was decided {known}")
            elif known != outcome:
                raise Violation(f"Z1: {key} was told {outcome}, the log says {known}")
        upto = reply.epoch.upto
        for path, images in self.history.items():
            last = self.at(path, upto)
            there = stored(path)
            if images[0].txid > upto or (there is not None and there >= last.txid):
                continue
            if there is not None or not self.lapsed(path, last.txid):  # of a tombstone, or a later one
                raise Violation(f"Z5: answered as of {upto} before {path} of {last} is in user storage")


class ClientView:
    """One client's promises: what it was shown so far, and what it watches."""

    def __init__(self, model: Model, name: str) -> None:
        self.model = model
        self.name = name
        self.view = 0
        """The newest transaction as of which it was shown anything."""
        self.last_event = 0
        self.watches: list[WatchSeen] = []

    def shown(self, path: str, record: Record | None) -> None:
        """A read returns a record."""
        model = self.model
        meta = None if record is None else record.meta
        if record is None or meta is None:
            view = self.view if record is None else max(self.view, record.txid)
            while view <= model.head and model.at(path, view).meta is not None:
                view += 1
            if view > model.head:
                raise Violation(f"Z3: {self.name} was shown no {path}, there is one since {self.view}")
            self.view = view
        else:
            view = max(self.view, record.txid)
            image = model.at(path, view)
            if image.txid != record.txid:
                raise Violation(
                    f"Z3: {self.name} at {view} was shown {path} of {record.txid}, it is of {image.txid}"
                )
            if (meta, record.data, tuple(record.children)) != image.stored():
                raise Violation(f"{self.name} was shown {path} as {record}, it was {image}")
            self.view = view
        self.ordered(f"{path}")

    def together(self, records: Mapping[str, Record | None], seen: int) -> None:
        """Several paths are shown as of one transaction, the client's ``seen``."""
        for path, record in records.items():
            image = self.model.at(path, seen)
            shown = (None, b"", ()) if record is None else (record.meta, record.data, tuple(record.children))
            if shown != image.stored():
                raise Violation(f"Z3: {self.name} was shown {path} as {record} as of {seen}, it was {image}")
        self.view = max(self.view, seen)
        self.ordered(f"{list(records)}")

    def listed(self, path: str, names: Sequence[str]) -> None:
        """The names of all children are returned, as of what was shown last."""
        image = self.model.at(path, self.view)
        if list(image.children) != list(names):
            raise Violation(f"{self.name} was shown {names} below {path}, there were {image}")

    def told(self, txid: int) -> None:
        """An answer as of a transaction is returned."""
        self.view = max(self.view, txid)
        self.ordered(f"an answer of {txid}")

    def ordered(self, what: str) -> None:
        """Z4: nothing is shown as of a transaction whose events were not announced before."""
        for watch in self.watches:
            if not watch.fired and not watch.over:
                due = watch.due(self.model, self.view)
                if due is not None:
                    raise Violation(
                        f"Z4: {self.name} was shown {what} of {self.view} before the event {due} of {watch}"
                    )

    def watch(self, path: str, kind: str) -> WatchSeen:
        """A watch is about to be set; see :meth:`set`."""
        return StayingSeen(path, kind) if kind in STAYING else WatchSeen(path, kind)

    def set(self, watch: WatchSeen, seen: int) -> None:
        """A watch was set, by the read that was just shown.

        ``seen``: the client's. "Absent" without a tombstone was true at several times; it counts from there.
        """
        watch.since = max(self.view, seen)
        self.watches.append(watch)

    def fire(self, watch: WatchSeen, event: WatchedEvent) -> None:
        """An event is announced."""
        txid = event.timestamp
        if watch.over:
            raise Violation(f"{self.name}: {watch} fired by {txid}, it was removed before")
        if isinstance(watch, StayingSeen):
            self._stayed(watch, event)
            return
        if watch.fired:
            raise Violation(f"{self.name}: {watch} fired twice, by {watch.fired} and {txid}")
        watch.fired = txid
        if watch.since >= 0:
            due = watch.due(self.model, self.model.head)
            if self.model.trimmed and due is not None and txid >= due[0]:
                due = (txid, event.event_type.value)
            if due is None or due[0] != txid:
                raise Violation(f"{self.name}: {watch} fired by {txid}, the first that counts is {due}")
            if event.event_type.value != due[1]:
                raise Violation(f"{self.name}: {watch} told {event}, it was type {due[1]}")
        self._announced(txid)

    def _stayed(self, watch: StayingSeen, event: WatchedEvent) -> None:
        """A watch that stays fires for everything that counts, one after the other."""
        told = (event.timestamp, event.path, event.event_type.value)
        due = watch.next(self.model, self.model.head)
        if self.model.trimmed and due != told:
            watch.skip(self.model, event.timestamp)
        elif due != told:
            raise Violation(f"{self.name}: {watch} told {told}, the next that counts is {due}")
        else:
            watch.told += 1
        self._announced(event.timestamp)

    def _announced(self, txid: int) -> None:
        if txid < self.last_event:
            raise Violation(f"Z4: {self.name} was told the event {txid} after {self.last_event}")
        self.last_event = txid
        self.view = max(self.view, txid)

    def settle(self) -> None:
        """Everything came to rest: every watch that had cause has fired."""
        for watch in self.watches:
            due = watch.due(self.model, self.model.head)
            if due is not None and not watch.fired and not watch.over:
                raise Violation(f"{self.name}: {watch} was never told of {due}")

    def restart(self) -> None:
        """Another process goes on with the session: what its predecessor watched is not watched any more."""
        for watch in self.watches:
            watch.over = True
        self.last_event = 0


_TYPES = {"C": 0, "D": 1, "S": 2, "K": 3}


class WatchSeen:
    """A watch as the checker sees it. ``since``: as of which transaction it was set; -1: not yet."""

    def __init__(self, path: str, kind: str) -> None:
        self.path = path
        self.kind = kind
        self.since = -1
        self.fired = 0
        self.over = False
        """It was removed."""

    def due(self, model: Model, upto: int) -> tuple[int, int] | None:
        """The first event after it was set, at or below ``upto``: txid and type."""
        for txid, letters in model.events.get(self.path, ()):
            if self.since < txid <= upto:
                for letter in letters:
                    if letter in FIRED_BY[self.kind]:
                        return txid, _TYPES[letter]
        return None

    def __repr__(self) -> str:
        return f"the {self.kind} watch of {self.path} since {self.since}"


class StayingSeen(WatchSeen):
    """A persistent or recursive watch. ``told``: how many events it was told since it was set."""

    def __init__(self, path: str, kind: str) -> None:
        super().__init__(path, kind)
        self.told = 0

    def _events(self, model: Model, upto: int) -> list[tuple[int, str, int]]:
        below = "/" if self.path == "/" else f"{self.path}/"
        return [
            (txid, path, _TYPES[letter])
            for txid, path, letter in model.happened
            if self.since < txid <= upto
            and letter in FIRED_BY[self.kind]
            and (path == self.path or (self.kind == "recursive" and path.startswith(below)))
        ]

    def next(self, model: Model, upto: int) -> tuple[int, str, int] | None:
        """The first event that it was not told."""
        events = self._events(model, upto)
        return events[self.told] if self.told < len(events) else None

    def skip(self, model: Model, upto: int) -> None:
        """What happened up to a transaction is not told one by one."""
        self.told = len(self._events(model, upto))

    def due(self, model: Model, upto: int) -> tuple[int, int] | None:
        """See :class:`WatchSeen`."""
        found = self.next(model, upto) if self.since >= 0 else None
        return None if found is None else (found[0], found[2])
