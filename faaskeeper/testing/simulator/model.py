"""A sequential model of the tree: the log replayed one request at a time.

The model gets each entry when it is committed. It judges the entry's requests again, in the order
of their transactions, on a plain state, with the same pure ``apply`` that is tested against the
outcomes of a real server; the entry must have the same outcomes. Its history says what a read may
show.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from faaskeeper.core import paths
from faaskeeper.core.acl import SUPER, Identity, identities, labels, supers
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
from faaskeeper.core.requests import Close, End, Message, Outcome, Reap, Reply, Request
from faaskeeper.core.transactions import Context, Limits, apply
from faaskeeper.core.znode import Meta, genesis
from faaskeeper.testing.simulator.scheduler import Violation

Key = tuple[int, int, int]
"""(session, incarnation, cxid)."""


class Image(NamedTuple):
    """The state of a path as of a transaction. ``meta`` None: no znode."""

    txid: int
    meta: Meta | None
    data: bytes
    children: tuple[str, ...]

    def stored(self) -> tuple[Meta | None, bytes, tuple[str, ...]]:
        """What the path's own record holds: no names of children when those are in pages."""
        paged = self.meta is not None and self.meta.pages
        return self.meta, self.data, () if paged else self.children


class Session:
    """The state of a session."""

    def __init__(self) -> None:
        self.incarnation = 0
        self.last = 0
        self.closed = False
        self.ephemerals: set[str] = set()


class Model:
    """The tree, the sessions, their history, and the outcomes of all requests.

    ``marked``: whether a session's lease is marked. ``key``: the deployment's, by which a server
    vouches for its clients. ``super_digest``: the super user's id.
    """

    def __init__(
        self,
        limits: Limits,
        marked: Callable[[int], bool] = lambda session: True,
        key: bytes = b"",
        super_digest: str = "",
    ) -> None:
        self.head = 0
        self._marked = marked
        self._key = key
        self._super_digest = super_digest
        self.sessions: dict[int, Session] = {}
        self.outcomes: dict[Key, Outcome] = {}
        self.requests: dict[Key, Request] = {}
        self.hostile: set[int] = set()
        """Sessions of the hostile client: a cxid of theirs may have several bodies."""
        self.hostile_nonces: set[str] = set()
        self._candidates: dict[Key, list[Request]] = {}
        self.history: dict[str, list[Image]] = {}
        self.events: dict[str, list[tuple[int, str]]] = {}
        self.happened: list[tuple[int, str, str]] = []
        """Txid, path and letter of each change of a znode, in order."""
        self.entries: list[tuple[int, int]] = []
        self.decided: dict[int, list[Key]] = {}
        """Each session's requests, in the order in which they were decided."""
        self.asked: set[int] = set()
        """Txids at which clients' requests were judged."""
        self._lapsed: dict[str, int] = {}
        self._times: dict[int, int] = {}
        self._nonces: dict[str, int] = {}
        self.trimmed = False
        """The log was trimmed: a client that is behind learns of changes from records only."""
        self._limits = limits
        self._now: dict[str, tuple[Meta, bytes, set[str]]] = {}
        for path, (meta, children) in genesis().items():
            self._now[path] = (meta, b"", set(children))
            self.history[path] = [Image(0, meta, b"", children)]

    # ---- State, for the judge ------------------------------------------------------------

    def node(self, path: str) -> Meta | None:
        found = self._now.get(path)
        return None if found is None else found[0]

    def ephemerals(self, session: int) -> Iterable[str]:
        return self.sessions[session].ephemerals

    # ---- what is sent ----------------------------------------------------------------------

    def sent(self, message: Message) -> None:
        """A client sends requests: check that each cxid has one body."""
        for request in message.requests:
            if message.session and request.cxid:
                key = (message.session, message.incarnation, request.cxid)
                if self.requests.setdefault(key, request) != request:
                    raise Violation(f"{key} was {self.requests[key]} and is {request}")

    def may_be_asked(self, message: Message) -> None:
        """The hostile client sends requests of its own session with the right signature."""
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
        """Check the outcome of a request: it is that of a single, sequential writer."""
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
        self.decided.setdefault(key[0], []).append(key)
        asked = self._candidates.get(key, []) if key[0] in self.hostile else [self.requests.get(key)]
        if not asked or asked[0] is None:
            raise Violation(f"Z1: {key} was decided and never asked")
        self.asked.add(txid)
        for request in asked:
            assert request is not None
            operation, who = request.operation, identities(request.auth, key=self._key)
            who = (*supers(who, self._super_digest, key[0]), *who)
            if isinstance(operation, End):
                expected, changes = self._end(operation.session, key[0], now, txid, who)
            else:
                expected, changes = apply(Context(self, key[0], now, txid, self._limits, who), operation)
            if changes is not None:
                changes = changes._replace(by=labels(request.auth, who))
            if expected == outcome and changes == transaction:
                break
        else:
            raise Violation(
                f"Z2: {key} {operation} was decided {outcome} {transaction}, one at a time it is "
                f"{expected} {changes}"
            )

    def _end(
        self, wanted: int, by: int, now: int, txid: int, who: tuple[Identity, ...]
    ) -> tuple[Outcome, Transaction | None]:
        """End a session: it goes as if it had been closed by itself, if who asks may do that."""
        there = self.sessions.get(wanted)
        if wanted != by and SUPER not in who:
            return Outcome(Code.NO_AUTH, txid - 1), None
        if there is None or there.closed:
            return Outcome(Code.NO_NODE, txid - 1), None
        return apply(Context(self, wanted, now, txid, self._limits, who), Close())

    def _unasked(self, transaction: Transaction, now: int) -> None:
        """Check a transaction that no client asked for: it opens, resumes, closes or reaps."""
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
            raise Violation(f"no request asked for {transaction}")

    def _reaped(self, transaction: Transaction, now: int) -> None:
        """Check a removal by heartbeat: of an empty container or an expired znode."""
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
            raise Violation(f"no request asked for {transaction}")

    def _empty_since(self, path: str) -> int:
        """When a path lost its last child, or was created without one, in ms of the log's time."""
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
                # A copy of an Open that arrives after its session was closed and forgotten opens
                # one that no client renews. While the session is open it must not.
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
        """Check that a transaction lists each page of names that it changes; take their images."""
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
        """A tombstone was removed from user storage."""
        if self.history[path][-1].meta is not None and self.history[path][-1].txid == txid:
            raise Violation(f"Z5: {path} is removed from user storage, it is there since {txid}")
        self._lapsed[path] = max(txid, self._lapsed.get(path, 0))

    def stored(self, path: str, txid: int) -> None:
        """A record was put into user storage. Its tombstone must not have lapsed before."""
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
        """A reply is delivered. ``stored``: gives the txid of a path's record in user storage."""
        self.told(reply)
        upto = reply.epoch.upto
        for path, images in self.history.items():
            last = self.at(path, upto)
            there = stored(path)
            if images[0].txid > upto or (there is not None and there >= last.txid):
                continue
            if there is not None or not self.lapsed(path, last.txid):  # of a tombstone, or a later one
                raise Violation(f"Z5: answered as of {upto} before {path} of {last} is in user storage")

    def told(self, reply: Reply) -> None:
        """A reply is delivered, perhaps before its records are in user storage."""
        for cxid, outcome in reply.outcomes:
            if not cxid:
                continue
            key = (reply.session, reply.incarnation, cxid)
            known = self.outcomes.get(key)
            if outcome.code is Code.SESSION_MOVED:
                current = self.sessions[reply.session].incarnation
                # the hostile client sends requests of incarnations that it becomes only later
                if current <= reply.incarnation and reply.session not in self.hostile:
                    raise Violation(f"Z1: {key} was answered that its session was resumed, it was not")
            elif outcome.code is Code.FORGOTTEN:
                if known is None:
                    raise Violation(f"Z1: {key} was answered that it was decided, it was not")
            elif outcome.code is Code.SESSION_EXPIRED:
                if not self.sessions[reply.session].closed:
                    raise Violation(f"Z1: {key} was answered that its session is over, it is not")
                if known is not None:
                    raise Violation(f"Z1: {key} was answered with an expiry, it was decided {known}")
            elif known != outcome:
                raise Violation(f"Z1: {key} was answered {outcome}, the log says {known}")
