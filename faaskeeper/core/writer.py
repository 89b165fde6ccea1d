"""The writer: judges requests on its view and commits a batch by appending one entry to the log.

The theory of operation, and why each step is where it is, stands in ``docs/architecture/log.md``. In
short: a request is decided by the entry that holds its outcome; only an append that found its key
absent decides; whatever else happens (a lost race, an unknown fate, a crash), the log is read from
our head on, what is found is folded into the view, and the rest is judged again. Queues are trusted
for nothing: what was decided is answered from the session's state, what is ahead of its turn is
answered with "resend".
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Iterator, Sequence
from heapq import nsmallest
from typing import NamedTuple

from faaskeeper.core import admission, codec, paths, trust
from faaskeeper.core.acl import Credential, Identity, identities
from faaskeeper.core.codec import Malformed
from faaskeeper.core.deployment import MAX_TIMEOUT_MS, MIN_TIMEOUT_MS, Deployment
from faaskeeper.core.distributor import Answer, Distributor, Settled, bell
from faaskeeper.core.errors import Code, Conflict, StaleView, Unavailable
from faaskeeper.core.log import ENTRY_BYTES, Answers, Entry, Log
from faaskeeper.core.requests import (
    Close,
    Create,
    Epoch,
    Message,
    Multi,
    Open,
    Operation,
    Outcome,
    Reap,
    Request,
    Resume,
    SetData,
)
from faaskeeper.core.sessions import Session
from faaskeeper.core.transactions import (
    Closed,
    Opened,
    Owned,
    Resumed,
    Transaction,
    acl_weight,
    apply,
    weight,
)
from faaskeeper.core.view import Missing, Node, View, roll
from faaskeeper.core.watches import Secrets
from faaskeeper.core.znode import Meta

_MAX_PENDING = 64
"""Entries that a writer with a distributor of its own function remembers before it asks for the mark."""
_RESUMED_PATHS = 1_000
"""Most ephemerals that the answer to a Resume lists."""

_IDENTITIES = 1_000
"""Credentials whose identities a writer remembers."""
_IDENTITY_BYTES = 4_096
"""Longer credentials are looked at anew for each request."""
_ENTRY_CHANGES = 2_000
"""A batch is closed when it has made about as many changes."""
_AHEAD = 2 * _ENTRY_CHANGES
"""About how many paths are read at once for an order to close sessions: a batch does not come to more."""
_UNACKED = 100_000
"""Outcomes of a session that are kept for it without being acknowledged, at most."""

_CLOSE = Close()
_logger = logging.getLogger(__name__)


class ServiceOrder(NamedTuple):
    """What the service's own functions ask the writer for; signed with the deployment's key.

    ``close``: end these sessions (their leases are marked). ``reap``: remove these containers and znodes past
    their time to live. Without either: settle what is pending, and save.
    """

    close: tuple[int, ...]
    reap: tuple[str, ...] = ()

    @property
    def rings(self) -> bool:
        """Whether it asks for nothing but settling and saving."""
        return not self.close and not self.reap


def order(deployment: Deployment, sessions: Iterable[int] = (), reap: Iterable[str] = ()) -> bytes:
    """A signed order to the writer, to be sent through the worker queue."""
    return trust.sign(deployment.key, codec.frame({"close": list(sessions), "reap": list(reap)}))


class _Tentative:
    """A session as it will be if the batch is committed."""

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
        """The outcome of a request that is decided; None where this batch did it, and tells it.

        One that is not kept is answered too: a client that has the answer ignores this one, and one that
        waits for it would wait for ever.
        """
        session = self.session
        if self.incarnation != session.incarnation or cxid > session.last:
            return None
        return session.outcomes.get(cxid) or Outcome(Code.FORGOTTEN, txid)

    def answers(self) -> Answers:
        """For the entry."""
        outcomes = tuple(self.outcomes)
        return Answers(self.session.id, self.incarnation, self.acked, self.address, outcomes)

    def answer(self) -> Answer:
        """For the client."""
        session = self.session
        return Answer(session.id, self.incarnation, tuple(self.outcomes), self.address, session.sealed)


class _Batch:
    """One attempt at a batch: the state its requests are judged on, and what came out.

    Implements :class:`faaskeeper.core.transactions.State` as the view with the batch's earlier effects.
    """

    def __init__(self, view: View, now: int, judged: int) -> None:
        self.view = view
        self.now = now
        """The log's time."""
        self.judged = judged
        """When it was judged, by the service's clock."""
        self.txid = view.head
        self.transactions: list[Transaction] = []
        self.answers: list[Answers] = []
        self.told: list[Answer] = []
        self.untold: list[Answer] | None = None
        """What is left to tell, once those were told who may be told early."""
        self.uncertain = False
        """Something is answered that is only right at the log's end."""
        self.dead: list[int] = []
        """Sessions that heartbeat wants closed and that are closed: their leases are leftovers."""
        self.unfinished: set[int] = set()
        """Sessions that are closed and of whose ephemerals some are left: more transactions are needed."""
        self.bytes = 0
        self.changes = 0
        self._nodes: dict[str, Meta | None] = {}
        self._sessions: dict[int, _Tentative] = {}
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

    def session(self, id: int) -> _Tentative | None:
        tentative = self._sessions.get(id)
        if tentative is None:
            session = self.view.sessions.get(id)
            if session is not None:
                tentative = self._sessions[id] = _Tentative(session)
        return tentative

    @property
    def full(self) -> bool:
        """Whether nothing more should go into the entry."""
        return self.bytes > ENTRY_BYTES or self.changes > _ENTRY_CHANGES

    def opened_by(self, nonce: str) -> int | None:
        return self._nonces.get(nonce) or self.view.sessions.opened_by(nonce)

    def take(self, transaction: Transaction) -> None:
        """Let the next requests see what this one did."""
        self.txid = transaction.txid
        self.transactions.append(transaction)
        self.bytes += weight(transaction.changes)
        self.changes += len(transaction.changes)
        for path, _, meta, _ in transaction.changes:
            self._nodes[path] = meta
        for effect in transaction.effects:
            if isinstance(effect, Opened):
                self._nonces[effect.nonce] = transaction.txid
                self.bytes += 400 + len(effect.nonce)
                continue
            tentative = self.session(effect.session)
            if tentative is None:
                continue
            if isinstance(effect, Owned):
                tentative.owned[effect.path] = effect.kept
            elif isinstance(effect, Closed):
                tentative.closed = True
                (self.unfinished.add if effect.more else self.unfinished.discard)(effect.session)
                gone = (change.path for change in transaction.changes if change.meta is None)
                tentative.owned.update((path, False) for path in gone)
            elif isinstance(effect, Resumed):
                self._supersede(tentative, effect)

    def _supersede(self, tentative: _Tentative, resumed: Resumed) -> None:
        """What the replaced incarnation asked for earlier in this batch keeps its own answers."""
        if tentative.outcomes:
            self.answers.append(tentative.answers())
            self.told.append(tentative.answer())
        tentative.incarnation = resumed.incarnation
        tentative.outcomes = []
        tentative.last = tentative.acked = 0

    def entry(self) -> Entry | None:
        """The entry to append; None where nothing new was decided."""
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
        """What the sessions of the batch are to be told once the entry is in the log and applied."""
        told = [each.answer() for each in self._sessions.values() if each.outcomes]
        return told + self.told


class Writer:
    """The writer's function. One call at a time; any number of instances may run.

    ``tells_time``: whether the clock that it has is the service's, so that clients may follow it.
    """

    def __init__(self, deployment: Deployment, tells_time: bool = True) -> None:
        self._deployment = deployment
        self._log: Log = deployment.log
        self._limits = deployment.limits._replace(blobs=deployment.blobs is not None)
        self._secrets = Secrets(deployment.key)
        self._distributor = Distributor(deployment, self._secrets, tells_time)
        self._view: View | None = None
        self._joined: Settled | None = None
        """What was put into user storage together with the entry that was appended last."""
        self._held: list[Answer] = []
        """Answers to sessions of whose ephemerals some are left: they wait until all are gone."""
        self._anybody: tuple[Identity, ...] = (("ip", deployment.peer),) if deployment.peer else ()
        self._identities: dict[tuple[Credential, ...], tuple[Identity, ...]] = {}

    # ---- one call ----------------------------------------------------------------------

    def handle(self, bodies: Sequence[bytes | Message]) -> None:
        """Decide, commit, apply and answer the requests of some messages.

        After any exception the view is gone: the next call begins with what is in the stores.
        The queue should deliver the messages again; what was decided will be answered as it was.
        """
        view, self._view = self._view, None
        self._joined = None
        self._held = []
        clock = self._deployment.clock
        began = clock()
        begun: set[int] = set()
        if view is None or not view.valid(began):
            view = self._distributor.load(self._deployment.max_nodes)
            begun = view.sessions.closing
        waiting = [message for body in bodies for message in self._admit(view, body)]
        waiting.sort(key=_first)
        rung = any(isinstance(each, ServiceOrder) and each.rings for each in waiting)
        if begun:
            waiting.append(ServiceOrder(tuple(sorted(begun))))
        while waiting:
            batch, waiting = self._commit(view, waiting)
            self._publish(view, batch, began)
        if rung:
            self._save(view)
        self._view = view

    def idle(self) -> None:
        """Save mark and checkpoint, when nothing waits."""
        if self._view is not None:
            self._save(self._view)

    def _save(self, view: View) -> None:
        if self._deployment.distributor_queue is None:
            self._distributor.save(view)

    # ---- who says what -----------------------------------------------------------------

    def _admit(self, view: View, signed: bytes | Message) -> list[Message | ServiceOrder]:
        """The message, if it was made by who it claims to be from; else nothing, and a line in the log.

        One that is not in bytes is of this very process, which is trusted.
        """
        if isinstance(signed, Message):
            return [signed] if self._known(view, signed) else []
        body = trust.body(signed)
        try:
            if body[4:5] == b"{":
                trust.verify(self._deployment.key, signed)
                head, _ = codec.unframe(body)
                return [ServiceOrder(tuple(head["close"]), tuple(head["reap"]))]
            message = codec.to_message(body)
            admission.check(message)
            key = self._key(view, message)
            if key is None:
                return []
            trust.verify(key, signed)
        except (Malformed, trust.Forged, KeyError) as error:
            _logger.warning("dropped a message: %s", error)
            return []
        return [message]

    def _key(self, view: View, message: Message) -> bytes | None:
        if message.session == 0:
            opening = message.requests[0].operation if len(message.requests) == 1 else None
            if not isinstance(opening, Open) or len(opening.secret) != trust.KEY_BYTES:
                raise Malformed("a message without a session must hold one Open, with a secret")
            return opening.secret
        if not self._known(view, message):
            return None
        session = view.sessions.get(message.session)
        return None if session is None else self._secrets.unseal(session.sealed)

    def _known(self, view: View, message: Message) -> bool:
        """Whether a message is of a session that there is, or opens one."""
        if message.session == 0 or view.sessions.get(message.session) is not None:
            return True
        roll(view, self._log, self._deployment.clock)
        if view.sessions.get(message.session) is not None:
            return True
        told = {"session": message.session}
        _logger.warning("dropped a message of the unknown session %d", message.session, extra=told)
        return False

    # ---- judging and committing ---------------------------------------------------------

    def _commit(
        self, view: View, waiting: list[Message | ServiceOrder]
    ) -> tuple[_Batch, list[Message | ServiceOrder]]:
        """Judge as much as fits one entry and append it; returns the batch and what is left."""
        caught_up = False
        most = self._deployment.limits.close_changes
        self._learn(view, set().union(*(_needs_of(message, view, most) for message in waiting)))
        self._learn(view, _numbered(waiting, view))
        while True:
            try:
                batch, left = self._judge(view, waiting)
            except Missing as missing:
                self._learn(view, {missing.path})
                continue
            entry = batch.entry()
            if entry is None:
                if batch.uncertain and not caught_up:
                    caught_up = True
                    if roll(view, self._log, self._deployment.clock):
                        continue
                return batch, left
            if self._append(view, entry, batch):  # which proves that the view was at the log's end
                return batch, left

    def _append(self, view: View, entry: Entry, batch: _Batch) -> bool:
        """Whether the entry is in the log, by this call. If not, the view was rolled forward."""
        clock = self._deployment.clock
        began = clock()
        present = False
        try:
            view.check_age(began)
            age = began - batch.judged
            if not self._append_joined(view, entry, age):
                self._log.append(entry, age)
        except Conflict:
            present = True
        except Unavailable as error:
            _logger.info("the fate of entry %d is unknown: %s", entry.first, error)
        else:
            early = not view.pending and self._joined is None and self._deployment.distributor_queue is None
            view.fold(entry)
            view.asof = began
            if early:
                batch.untold = self._distributor.tell(entry, self._due(view, batch.decided()))
            if self._joined is not None:
                view.settled(entry.last)
            if _logger.isEnabledFor(logging.INFO):
                sessions = [each.session for each in entry.answers]
                _logger.info("committed", extra={"txid": entry.last, "session": sessions})
            return True
        if not roll(view, self._log, clock) and present:
            raise StaleView(f"entry {entry.first} was there and is gone: the log was trimmed")
        return False

    def _append_joined(self, view: View, entry: Entry, age: int) -> bool:
        """Append the entry together with its records, where that can be done in one call.

        Raises what an append raises. False: it was not done, and is to be appended by itself.
        """
        self._joined = None
        joint = self._deployment.joint
        if joint is None or self._deployment.distributor_queue is not None:
            return False
        joined = self._distributor.join(view, entry)
        if joined is None:
            return False
        append = self._log.write_of(entry, age)
        if append is None:
            self._distributor.forget()
            return False
        try:
            joint((append, *joined.writes))
        except Conflict:
            self._distributor.forget()
            if self._log.at(entry.first) is not None:
                raise
            return False  # one of the records is not as it was thought to be: they are put one by one
        except BaseException:
            self._distributor.forget()
            raise
        self._joined = joined.settled
        return True

    def _learn(self, view: View, wanted: set[str]) -> None:
        """Have the view know some paths, by reading those from user storage that it does not, in one call."""
        asked: list[str] = []
        for each in sorted(wanted):
            if len(each) > paths.MAX_PATH_BYTES:
                continue
            if view.known(each) is None and not view.childless(paths.parent(each)):
                if paths.invalid(each) or self._distributor.lacks(view, each):
                    view.learn(each, Node(0, None))
                else:
                    asked.append(each)
        if not asked:
            return
        for each, record in zip(asked, self._deployment.records.get_many(asked), strict=True):
            node = Node(0, None) if record is None else Node(record.txid, record.meta)
            if node.txid > view.head:
                roll(view, self._log, self._deployment.clock)
                if node.txid > view.head:
                    raise StaleView(f"{each} was written at {node.txid}, which the log lacks")
                return
            view.learn(each, node)

    def _judge(
        self, view: View, waiting: list[Message | ServiceOrder]
    ) -> tuple[_Batch, list[Message | ServiceOrder]]:
        deployment = self._deployment
        batch = _Batch(view, deployment.log_clock.now(view.time), deployment.clock())
        left: list[Message | ServiceOrder] = []
        for number, message in enumerate(waiting):
            if batch.full:
                left = waiting[number:]
                break
            rest = self._one(batch, message)
            if rest is not None:
                left = [rest, *waiting[number + 1 :]]
                break
        if batch.unfinished:  # others have their turn first
            left = [*left, ServiceOrder(tuple(sorted(batch.unfinished)))]
        return batch, left

    def _one(self, batch: _Batch, message: Message | ServiceOrder) -> Message | ServiceOrder | None:
        """Judge one message; returns what no longer fits the entry of it."""
        if isinstance(message, ServiceOrder):
            return self._ordered(batch, message)
        batch.bytes += len(message.address)
        if message.session == 0:
            self._open(batch, message)
            return None
        rest = self._requests(batch, message)
        return message._replace(requests=rest) if rest else None

    def _ordered(self, batch: _Batch, wanted: ServiceOrder) -> ServiceOrder | None:
        batch.uncertain = batch.uncertain or wanted.rings
        for number, session in enumerate(wanted.close):
            if batch.full:
                return wanted._replace(close=wanted.close[number:])
            self._close(batch, session)
        for number, path in enumerate(wanted.reap):
            if batch.full:
                return ServiceOrder((), wanted.reap[number:])
            self._unasked(batch, Reap(path), 0)
        return None

    def _open(self, batch: _Batch, message: Message) -> None:
        operation = message.requests[0].operation
        if not isinstance(operation, Open):
            raise AssertionError("admitted as an Open")
        known = batch.opened_by(operation.nonce)
        if known is not None:
            session = batch.view.sessions.get(known)
            if session is not None:
                outcome = Outcome(Code.OK, known)
                batch.told.append(
                    Answer(
                        known,
                        0,
                        ((0, outcome),),
                        message.address,
                        session.sealed,
                        0,
                        operation.nonce,
                    )
                )
            return
        txid = batch.txid + 1
        timeout = min(max(operation.timeout, MIN_TIMEOUT_MS), MAX_TIMEOUT_MS)
        nonce = self._deployment.random(16)
        sealed = trust.seal(self._deployment.key, operation.secret, nonce)
        opened = Opened(operation.nonce, sealed, timeout)
        batch.take(Transaction(txid, (), (opened,)))
        outcomes = ((0, Outcome(Code.OK, txid)),)
        batch.answers.append(Answers(txid, 0, 0, message.address, outcomes))
        batch.told.append(Answer(txid, 0, outcomes, message.address, sealed, 0, operation.nonce))

    def _close(self, batch: _Batch, id: int) -> None:
        """Heartbeat's close, or going on with one: not numbered, and nobody waits for an answer."""
        session = batch.session(id)
        if session is None or (session.closed and not any(batch.ephemerals(id))):
            batch.uncertain = True
            batch.dead.append(id)
            return
        self._unasked(batch, _CLOSE, id)

    def _unasked(self, batch: _Batch, operation: Operation, session: int) -> None:
        """What heartbeat asks for: its outcome is nobody's, and a refusal is not logged."""
        transaction = self._decide(batch, Request(0, operation), session)[1]
        if transaction is None:
            batch.uncertain = True  # from a view that is behind, it would be refused in every beat
        else:
            batch.take(transaction)

    def _requests(self, batch: _Batch, message: Message) -> tuple[Request, ...]:
        """Judge a client's requests; returns those that no longer fit the entry."""
        session = batch.session(message.session)
        if session is None:
            return ()
        sealed = session.session.sealed
        repeated: list[tuple[int, Outcome]] = []
        resend = 0
        rest: tuple[Request, ...] = ()
        requests = sorted(message.requests, key=_cxid)
        if not requests:  # it rings: apply what is in the log
            batch.uncertain = True
        if session.session.closing:
            batch.unfinished.add(message.session)
        for number, request in enumerate(requests):
            cxid, operation, _ = request
            if isinstance(operation, Resume):
                self._resume(batch, session, message, operation.after)
            elif message.incarnation != session.incarnation:
                # Another process goes on with the session; or our view is behind.
                batch.uncertain = True
                repeated.append((cxid, Outcome(Code.SESSION_MOVED, batch.txid)))
            elif cxid <= session.last:
                known = session.known(cxid, batch.txid)
                if known is not None:
                    repeated.append((cxid, known))
            elif session.closed:
                batch.uncertain = True
                repeated.append((cxid, Outcome(Code.SESSION_EXPIRED, batch.txid)))
            elif cxid > session.last + 1 or session.last - message.acked > _UNACKED:
                batch.uncertain = True
                resend = session.last + 1
            elif batch.full:
                rest = tuple(requests[number:])
                break
            else:
                outcome, transaction = self._decide(batch, request, message.session)
                if transaction is not None:
                    batch.take(transaction)
                session.last = cxid
                session.acked = max(session.acked, min(message.acked, cxid - 1))
                session.address = message.address
                session.outcomes.append((cxid, outcome))
                batch.bytes += 200 * (1 + len(outcome.results)) + acl_weight(outcome.meta)
        if repeated or resend:
            batch.told.append(
                Answer(
                    message.session,
                    message.incarnation,
                    tuple(repeated),
                    message.address,
                    sealed,
                    resend,
                )
            )
        return rest

    def _resume(self, batch: _Batch, session: _Tentative, message: Message, after: int) -> None:
        """Go on with a session as ``message.incarnation``, in the place of the one that it names.

        An incarnation is one process: the same again is a repetition. Where another is in its place the
        Resume is refused, and told which: who sent it may draw again, above that, and a copy that comes when
        its sender is gone takes the session from nobody.
        """
        id, asked, current = message.session, message.incarnation, session.incarnation
        owned: tuple[str, ...] = ()
        if session.closed:
            batch.uncertain = True
            code = Code.SESSION_EXPIRED
        elif asked != current and (asked < current or after not in (-1, current)):
            batch.uncertain = True
            code = Code.SESSION_MOVED
        else:
            code = Code.OK
            if asked != current:
                batch.take(Transaction(batch.txid + 1, (), (Resumed(id, asked),)))
                batch.answers.append(Answers(id, asked, 0, message.address, ()))
            owned = tuple(sorted(batch.ephemerals(id)))[:_RESUMED_PATHS]
        outcomes = ((0, Outcome(code, batch.txid, paths=owned)),)
        moved = current if code is Code.SESSION_MOVED else 0
        batch.told.append(Answer(id, asked, outcomes, message.address, session.session.sealed, current=moved))

    def _decide(self, batch: _Batch, request: Request, session: int) -> tuple[Outcome, Transaction | None]:
        try:
            who = self._who(request.auth) if request.auth else self._anybody
            return apply(batch, request.operation, session, batch.now, batch.txid + 1, self._limits, who)
        except Missing:
            raise
        except Exception:
            # A fault of ours: it must be this request's alone, not that of all who wait beside it.
            _logger.exception("request %d of session %d could not be judged: refused", request.cxid, session)
            return Outcome(Code.BAD_ARGUMENTS, batch.txid), None

    def _who(self, auth: tuple[Credential, ...]) -> tuple[Identity, ...]:
        known = self._identities.get(auth)
        if known is None:
            if len(self._identities) >= _IDENTITIES:
                self._identities.clear()
            shown = identities(auth, self._deployment.super_digest, self._deployment.key)
            known = shown if any(scheme == "ip" for scheme, _ in shown) else (*self._anybody, *shown)
            if sum(len(scheme) + len(each) for scheme, each in auth) <= _IDENTITY_BYTES:
                self._identities[auth] = known
        return known

    # ---- after the commit ---------------------------------------------------------------

    def _due(self, view: View, answers: list[Answer]) -> list[Answer]:
        """The answers that may be given now, with those that waited for a session's last ephemeral to go."""
        closing = view.sessions.closing
        if not closing and not self._held:
            return answers
        answers = [*self._held, *answers]
        self._held = [each for each in answers if each.session in closing]
        return [each for each in answers if each.session not in closing]

    def _publish(self, view: View, batch: _Batch, began: int) -> None:
        """Apply and answer, or ring the distributor's function to do it."""
        told = self._due(view, batch.decided()) if batch.untold is None else batch.untold
        for session in batch.dead:
            self._deployment.leases.drop(session)
        queue = self._deployment.distributor_queue
        if queue is None:
            groups = self._distributor.settle(view, began, doubtful=len(view.pending) > 1)
            if self._joined is not None:
                groups, self._joined = [self._joined, *groups], None
            epoch = groups[-1].epoch if groups else Epoch(view.applied, view.applied, ())
            if self._deployment.teller is not None:
                self._deployment.teller.settled()
            self._distributor.answer(told, epoch)
            self._distributor.finish(groups, view)
            return
        view.sessions.left_to_others()
        entry = view.pending[-1] if view.pending else None
        queue.send("distributor", f"{view.head}", bell(entry, view.head, told))
        if len(view.pending) > _MAX_PENDING:
            view.settled(self._deployment.checkpoints.applied())


def _first(message: Message | ServiceOrder) -> int:
    """Sorts an unordered queue's batch into the order of each session, and costs an ordered one nothing."""
    if isinstance(message, ServiceOrder) or not message.requests:
        return 0
    return message.requests[0].cxid


def _cxid(request: Request) -> int:
    return request.cxid


def _needs_of(message: Message | ServiceOrder, view: View, most: int) -> set[str]:
    """Paths that judging a message will ask for, as far as the message and the view's sessions tell.

    ``most``: how many ephemerals go at once when a session is closed.
    """
    if isinstance(message, ServiceOrder):
        needed = {path for each in message.reap[:_AHEAD] for path in (paths.parent(each), each)}
        for session in message.close:
            if len(needed) > _AHEAD:
                break
            needed |= _owned(view, session, most)
        return needed
    needed = {path for request in message.requests for path in _needs(request.operation)}
    if any(isinstance(request.operation, Close) for request in message.requests):
        needed |= _owned(view, message.session, most)
    return needed


def _owned(view: View, session: int, most: int) -> set[str]:
    """The ephemerals of a session that go in one transaction when it is closed, and their parents."""
    known = view.sessions.get(session)
    if known is None:
        return set()
    owned: Collection[str] = known.ephemerals
    if len(owned) > most:
        owned = nsmallest(most, owned)
    return {*owned, *(paths.parent(path) for path in owned)}


def _numbered(waiting: Sequence[Message | ServiceOrder], view: View) -> set[str]:
    """Paths that sequential creates will ask for, if all creates before them succeed: all in one read."""
    creations: dict[str, int] = {}
    numbered: set[str] = set()
    for message in waiting:
        if isinstance(message, ServiceOrder):
            continue
        for request in message.requests:
            operation = request.operation
            for each in operation.operations if isinstance(operation, Multi) else (operation,):
                if not isinstance(each, Create):
                    continue
                above = paths.parent(each.path)
                if above not in creations:
                    known = view.known(above)
                    creations[above] = known.meta.creations if known and known.meta else 0
                if each.sequential:
                    numbered.add(f"{each.path}{creations[above]:010d}")
                creations[above] += 1
    return numbered


def _needs(operation: Operation) -> tuple[str, ...]:
    if isinstance(operation, SetData):
        return (operation.path,)
    if isinstance(operation, Create):
        above = paths.parent(operation.path)
        return (above,) if operation.sequential else (above, operation.path)
    if isinstance(operation, Multi):
        return tuple(path for each in operation.operations for path in _needs(each))
    path = getattr(operation, "path", "")
    return (paths.parent(path), path) if path else ()
