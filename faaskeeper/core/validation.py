"""Validation: what each request of a batch does, on the view and the batch's earlier effects."""

from __future__ import annotations

from enum import Enum, auto
from operator import itemgetter

from faaskeeper.core import logs, trust
from faaskeeper.core.acl import SUPER, Credential, Identity, identities, labels, supers
from faaskeeper.core.answers import Answer
from faaskeeper.core.batch import Batch, ServiceOrder, Tentative
from faaskeeper.core.changes import Opened, Resumed, Transaction, acl_weight
from faaskeeper.core.deployment import MAX_TIMEOUT_MS, MIN_TIMEOUT_MS, Deployment
from faaskeeper.core.errors import Code
from faaskeeper.core.log import Answers
from faaskeeper.core.requests import Close, End, Message, Open, Operation, Outcome, Reap, Request, Resume
from faaskeeper.core.transactions import Context, apply
from faaskeeper.core.view import Missing, View
from faaskeeper.core.znode import OPEN_ACL

_RESUMED_PATHS = 1_000
"""Most ephemerals in the answer to a Resume."""
_IDENTITIES = 1_000
"""Most credentials whose identities a writer caches."""
_IDENTITY_BYTES = 4_096
"""Longer credentials are not cached."""
_UNACKED = 100_000
"""Most outcomes of a session that are kept without being acknowledged."""

_CLOSE = Close()
_cxid = itemgetter(0)
"""Of a request: its first field."""
_logger = logs.logger(__name__)


class _Status(Enum):
    """How a request relates to what its session has decided."""

    RESUMES = auto()
    """It continues the session, as another incarnation."""
    MOVED = auto()
    """Another incarnation continues the session."""
    DECIDED = auto()
    """It was decided before, and gets the same answer again."""
    EXPIRED = auto()
    """The session is closed."""
    EARLY = auto()
    """An earlier request is missing, or the client acknowledges nothing: the client must resend."""
    FULL = auto()
    """It is the next request, but the entry is full."""
    NEXT = auto()
    """It is the next request."""


_REFUSED = {_Status.MOVED: Code.SESSION_MOVED, _Status.EXPIRED: Code.SESSION_EXPIRED}


def _status_of(batch: Batch, session: Tentative, message: Message, request: Request) -> _Status:
    cxid, operation, _ = request
    if isinstance(operation, Resume):
        return _Status.RESUMES
    if message.incarnation != session.incarnation:
        return _Status.MOVED
    if cxid <= session.last:
        return _Status.DECIDED
    if session.closed:
        return _Status.EXPIRED
    if cxid > session.last + 1 or session.last - message.acked > _UNACKED:
        return _Status.EARLY
    return _Status.FULL if batch.full else _Status.NEXT


def _may_end(batch: Batch, wanted: int, session: int, who: tuple[Identity, ...]) -> Code:
    """Whether a session may end another one, or itself.

    Who may not is not told whether the other is open.
    """
    if wanted != session and SUPER not in who:
        return Code.NO_AUTH
    there = batch.session(wanted)
    return Code.NO_NODE if there is None or there.closed else Code.OK


class _UnloggedAnswer:
    """The answer to those requests of a message that this batch does not decide."""

    def __init__(self, sealed: bytes, message: Message) -> None:
        self._sealed = sealed
        self._message = message
        self._outcomes: list[tuple[int, Outcome]] = []
        self.resend = 0

    def add(self, request: Request, outcome: Outcome | None) -> None:
        """Add the outcome of a request, if there is one."""
        if outcome is not None:
            self._outcomes.append((request.cxid, outcome))

    def give_to(self, batch: Batch) -> None:
        """Add the answer to the batch, unless it is empty."""
        if self._outcomes or self.resend:
            message, outcomes = self._message, tuple(self._outcomes)
            answer = Answer(
                message.session, message.incarnation, outcomes, message.address, self._sealed, self.resend
            )
            batch.to_deliver.append(answer)


class Validator:
    """Validates messages. Keeps no state but caches of what credentials prove, and of its names."""

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._limits = deployment.limits._replace(blobs=deployment.blobs is not None)
        self._anybody: tuple[Identity, ...] = (("ip", deployment.peer),) if deployment.peer else ()
        self._identities: dict[tuple[Credential, ...], tuple[Identity, ...]] = {}
        self._labels: dict[tuple[Identity, ...], tuple[str, ...]] = {}

    def validate(
        self, view: View, waiting: list[Message | ServiceOrder]
    ) -> tuple[Batch, list[Message | ServiceOrder]]:
        """Validate messages in order; returns the batch, and what is left for the next one.

        Raises Missing when the view lacks a znode.
        """
        deployment = self._deployment
        batch = Batch(view, deployment.log_clock.now(view.time), deployment.clock(), self._limits)
        left: list[Message | ServiceOrder] = []
        for number, message in enumerate(waiting):
            if batch.full:
                left = waiting[number:]
                break
            rest = self._validate_one(batch, message)
            if rest is not None:
                left = [rest, *waiting[number + 1 :]]
                break
        if batch.unfinished:  # other messages come first
            left = [*left, ServiceOrder(tuple(sorted(batch.unfinished)))]
        return batch, left

    def _validate_one(self, batch: Batch, message: Message | ServiceOrder) -> Message | ServiceOrder | None:
        """Validate one message; returns the part that does not fit the entry."""
        if isinstance(message, ServiceOrder):
            return self._service_order(batch, message)
        batch.bytes += len(message.address)
        if message.session == 0:
            self._open(batch, message)
            return None
        rest = self._requests(batch, message)
        return message._replace(requests=rest) if rest else None

    def _service_order(self, batch: Batch, wanted: ServiceOrder) -> ServiceOrder | None:
        batch.uncertain = batch.uncertain or wanted.only_wakes
        for number, session in enumerate(wanted.close):
            if batch.full:
                return wanted._replace(close=wanted.close[number:])
            self._close(batch, session)
        for number, path in enumerate(wanted.reap):
            if batch.full:
                return ServiceOrder((), wanted.reap[number:])
            self._apply_order(batch, Reap(path), 0)
        return None

    def _open(self, batch: Batch, message: Message) -> None:
        operation = message.requests[0].operation
        if not isinstance(operation, Open):
            raise AssertionError("a message without a session must be an Open")
        known = batch.opened_by(operation.nonce)
        if known is not None:
            session = batch.view.sessions.get(known)
            if session is not None:
                outcome = Outcome(Code.OK, known)
                batch.to_deliver.append(
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
        batch.to_deliver.append(Answer(txid, 0, outcomes, message.address, sealed, 0, operation.nonce))

    def _close(self, batch: Batch, id: int) -> None:
        """Close a session by order of heartbeat, or continue closing it: no cxid, no answer."""
        session = batch.session(id)
        if session is None or (session.closed and not any(batch.ephemerals(id))):
            batch.uncertain = True
            batch.dead.append(id)
            return
        self._apply_order(batch, _CLOSE, id)

    def _apply_order(self, batch: Batch, operation: Operation, session: int) -> None:
        """Apply an operation of heartbeat. Nothing awaits the outcome; a refusal is not logged."""
        transaction = self._decide(batch, Request(0, operation), session)[1]
        if transaction is None:
            batch.uncertain = True  # a view that is behind would refuse it in every beat
        else:
            batch.take(transaction)

    def _requests(self, batch: Batch, message: Message) -> tuple[Request, ...]:
        """Validate a client's requests; returns those that do not fit the entry."""
        session = batch.session(message.session)
        if session is None:
            return ()
        requests = sorted(message.requests, key=_cxid) if len(message.requests) > 1 else message.requests
        if not requests:  # a wake-up: apply the log
            batch.uncertain = True
        if session.session.closing:
            batch.unfinished.add(message.session)
        unlogged = _UnloggedAnswer(session.session.sealed, message)
        rest: tuple[Request, ...] = ()
        for number, request in enumerate(requests):
            status = _status_of(batch, session, message, request)
            if status is _Status.FULL:
                rest = tuple(requests[number:])
                break
            if status is _Status.NEXT:
                self._next(batch, session, message, request)
            elif status is _Status.RESUMES:
                self._resume(batch, session, message, request)
            elif status is _Status.DECIDED:
                unlogged.add(request, session.known(request.cxid, batch.txid))
            else:
                batch.uncertain = True  # right only at the log's end, and our view may be behind
                if status is _Status.EARLY:
                    unlogged.resend = session.last + 1
                else:
                    unlogged.add(request, Outcome(_REFUSED[status], batch.txid))
        unlogged.give_to(batch)
        return rest

    def _next(self, batch: Batch, session: Tentative, message: Message, request: Request) -> None:
        """Decide the session's next request."""
        outcome, transaction = self._decide(batch, request, message.session)
        if transaction is not None:
            batch.take(transaction)
        session.last = request.cxid
        if message.acked > session.acked:
            session.acked = min(message.acked, request.cxid - 1)
        session.address = message.address
        session.outcomes.append((request.cxid, outcome))
        batch.bytes += 200
        if outcome.results or (outcome.meta is not None and outcome.meta.acl is not OPEN_ACL):
            batch.bytes += 200 * len(outcome.results) + acl_weight(outcome.meta)

    def _resume(self, batch: Batch, session: Tentative, message: Message, request: Request) -> None:
        """Continue a session as ``message.incarnation``, in place of the incarnation that it names.

        An incarnation is one process, so the same incarnation is a repetition. If another one has
        taken that place, the Resume is refused and the answer names it. The sender may then draw a
        higher one; and a copy of the message that arrives after its sender has gone takes the
        session from no process.
        """
        if not isinstance(request.operation, Resume):
            raise AssertionError("the request must be a Resume")
        after = request.operation.after
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
        batch.to_deliver.append(
            Answer(id, asked, outcomes, message.address, session.session.sealed, current=moved)
        )

    def _decide(self, batch: Batch, request: Request, session: int) -> tuple[Outcome, Transaction | None]:
        try:
            who = self._identities_of(request.auth, session) if request.auth else self._anybody
            operation = request.operation
            if isinstance(operation, End):
                code = _may_end(batch, operation.session, session, who)
                if code is not Code.OK:
                    return Outcome(code, batch.txid), None
                session, operation = operation.session, _CLOSE
            context = Context(batch, session, batch.now, batch.txid + 1, self._limits, who)
            outcome, transaction = apply(context, operation)
            if request.auth and transaction is not None:
                transaction = transaction._replace(by=self._labels_of(request.auth, who))
            return outcome, transaction
        except Missing:
            raise
        except Exception:
            # A bug of ours must affect this request alone, not the requests beside it.
            _logger.exception("validation of request %d of session %d failed: refused", request.cxid, session)
            return Outcome(Code.BAD_ARGUMENTS, batch.txid), None

    def _identities_of(self, auth: tuple[Credential, ...], session: int) -> tuple[Identity, ...]:
        known = self._proven(auth)
        return (*supers(known, self._deployment.super_digest, session), *known)

    def _labels_of(self, auth: tuple[Credential, ...], who: tuple[Identity, ...]) -> tuple[str, ...]:
        found = self._labels.get(who)
        if found is None:
            if len(self._labels) >= _IDENTITIES:
                self._labels.clear()
            found = labels(auth, [each for each in who if each not in self._anybody])
            if auth in self._identities:  # not too long to be cached
                self._labels[who] = found
        return found

    def _proven(self, auth: tuple[Credential, ...]) -> tuple[Identity, ...]:
        known = self._identities.get(auth)
        if known is None:
            if len(self._identities) >= _IDENTITIES:
                self._identities.clear()
            shown = identities(auth, key=self._deployment.key)
            known = shown if any(scheme == "ip" for scheme, _ in shown) else (*self._anybody, *shown)
            if sum(len(scheme) + len(each) for scheme, each in auth) <= _IDENTITY_BYTES:
                self._identities[auth] = known
        return known
