"""A batch during validation: the state that requests are validated on, and the results."""

from __future__ import annotations

from collections.abc import Iterator

from faaskeeper.core.answers import Answer
from faaskeeper.core.changes import Closed, Opened, Owned, Restored, Resumed, Transaction, acl_bytes, weight
from faaskeeper.core.errors import Code
from faaskeeper.core.log import ENTRY_CHANGES, Answers, Entry
from faaskeeper.core.requests import Outcome
from faaskeeper.core.sessions import Session
from faaskeeper.core.transactions import Limits
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.view import View
from faaskeeper.core.znode import OPEN_ACL, Meta


class ServiceOrder(NamedTuple):
    """An order of the service's own functions to the writer, signed with the deployment's key.

    ``close``: sessions to close (their leases are marked). ``reap``: containers, and znodes past
    their time to live, to remove. With neither, the order is a wake-up: settle pending entries, and
    save.
    """

    close: tuple[int, ...]
    reap: tuple[str, ...] = ()

    @property
    def only_wakes(self) -> bool:
        """Whether the order asks for settling and saving only."""
        return not self.close and not self.reap


class Tentative:
    """The state that a session will have if the batch is committed."""

    __slots__ = ("acked", "address", "closed", "incarnation", "last", "outcomes", "owned", "session")

    def __init__(self, session: Session) -> None:
        self.session = session
        self.incarnation = session.incarnation
        self.last = session.last
        self.closed = bool(session.closed)
        self.owned: dict[str, bool] = {}
        self.outcomes: list[tuple[int, Outcome]] = []
        self.acked = session.acked
        self.address = session.address

    def known(self, cxid: int, txid: int) -> Outcome | None:
        """The outcome that was decided before; None if this batch decides the request.

        If the outcome is no longer kept, the answer is FORGOTTEN, not silence: a client that has
        the answer ignores it, and a client that still waits would otherwise wait forever.
        """
        session = self.session
        if self.incarnation != session.incarnation or cxid > session.last:
            return None
        return session.outcomes.get(cxid) or Outcome(Code.FORGOTTEN, txid)

    def answers(self) -> Answers:
        """The session's part of the entry."""
        outcomes = tuple(self.outcomes)
        return Answers(self.session.id, self.incarnation, self.acked, self.address, outcomes)

    def answer(self) -> Answer:
        """The answer to the client."""
        session = self.session
        return Answer(session.id, self.incarnation, tuple(self.outcomes), self.address, session.sealed)


class Batch:
    """One attempt at a batch: the state that its requests are validated on, and the results.

    Implements :class:`faaskeeper.core.transactions.State`: the view, with the effects of the
    batch's earlier requests.
    """

    def __init__(self, view: View, now: int, validated_at: int, limits: Limits) -> None:
        self.view = view
        self.now = now
        """The time of the entry: the log's own, ms."""
        self.validated_at = validated_at
        """The time of validation, by the service's clock."""
        self.txid = view.head
        self.transactions: list[Transaction] = []
        self.answers: list[Answers] = []
        self.to_deliver: list[Answer] = []
        self.undelivered: list[Answer] | None = None
        """The answers that remain after the early ones were delivered."""
        self.uncertain = False
        """An answer of the batch is right only at the log's end."""
        self.dead: list[int] = []
        """Closed sessions that heartbeat asked to close: their leases are leftovers."""
        self.unfinished: set[int] = set()
        """Closed sessions that still own ephemerals: more transactions are needed."""
        self.bytes = 0
        self.changes = 0
        self._limits = limits
        self._nodes: dict[str, Meta | None] = {}
        self._sessions: dict[int, Tentative] = {}
        self._nonces: dict[str, int] = {}

    def node(self, path: str) -> Meta | None:
        nodes = self._nodes
        return nodes[path] if path in nodes else self.view.node(path)

    def ephemerals(self, session: int) -> Iterator[str]:
        tentative = self._sessions[session]
        for path in tentative.session.ephemerals:
            if path not in tentative.owned:
                yield path
        for path, kept in tentative.owned.items():
            if kept:
                yield path

    def session(self, id: int) -> Tentative | None:
        tentative = self._sessions.get(id)
        if tentative is None:
            session = self.view.sessions.get(id)
            if session is not None:
                tentative = self._sessions[id] = Tentative(session)
        return tentative

    @property
    def full(self) -> bool:
        """Whether the entry should get no more requests."""
        limits = self._limits
        return (
            self.bytes > limits.entry_bytes
            or len(self._nodes) > limits.entry_paths
            or self.changes > ENTRY_CHANGES
        )

    def opened_by(self, nonce: str) -> int | None:
        return self._nonces.get(nonce) or self.view.sessions.opened_by(nonce)

    def take(self, transaction: Transaction) -> None:
        """Add a transaction; the requests that follow see its effects."""
        self.txid = transaction.txid
        self.transactions.append(transaction)
        self.bytes += weight(transaction.changes)
        for was in transaction.replaced:
            if was is not None and was.acl is not OPEN_ACL:
                self.bytes += acl_bytes(was.acl)
        self.changes += len(transaction.changes)
        for path, _, meta, _ in transaction.changes:
            self._nodes[path] = meta
        for effect in transaction.effects:
            if isinstance(effect, Opened):
                self._nonces[effect.nonce] = transaction.txid
                self.bytes += 400 + len(effect.nonce)
                continue
            if isinstance(effect, Restored):
                continue  # no request has this effect
            tentative = self.session(effect.session)
            if tentative is None:
                continue
            if isinstance(effect, Owned):
                tentative.owned[effect.path] = effect.kept
            elif isinstance(effect, Closed):
                tentative.closed = True
                (self.unfinished.add if effect.partial else self.unfinished.discard)(effect.session)
                gone = (change.path for change in transaction.changes if change.meta is None)
                tentative.owned.update((path, False) for path in gone)
            elif isinstance(effect, Resumed):
                self._supersede(tentative, effect)

    def _supersede(self, tentative: Tentative, resumed: Resumed) -> None:
        """Keep the answers to requests of this batch that the replaced incarnation sent."""
        if tentative.outcomes:
            self.answers.append(tentative.answers())
            self.to_deliver.append(tentative.answer())
        tentative.incarnation = resumed.incarnation
        tentative.outcomes = []
        tentative.last = tentative.acked = 0

    def entry(self) -> Entry | None:
        """The entry to append; None if the batch decided nothing new."""
        answers = [each.answers() for each in self._sessions.values() if each.outcomes]
        answers.extend(self.answers)
        if not self.transactions and not answers:
            return None
        if not self.transactions:
            self.txid += 1
            self.transactions.append(Transaction(self.txid, ()))
        first = self.view.head + 1
        return Entry(first, self.txid, self.now, tuple(self.transactions), tuple(answers))

    def decided(self) -> list[Answer]:
        """The answers to deliver once the entry is in the log and applied."""
        answers = [each.answer() for each in self._sessions.values() if each.outcomes]
        return answers + self.to_deliver
