"""What a session decides, whether threads or an event loop perform it: the shells inherit this.

No I/O, no threads, no event loop. A shell performs the commands of steps, sends messages, and waits.
Steps, and the methods that say so, change the session's state: in threads, the shell runs them
under its lock.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, TypeVar, Union

from faaskeeper.core import trust
from faaskeeper.core.acl import Credential
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Close, Epoch, Notification, Reply
from faaskeeper.core.sessions import Lease
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.exceptions import FaaSKeeperException, SessionExpiredException, TooLargeException
from faaskeeper.session import commands, messages
from faaskeeper.session.calls import Write
from faaskeeper.session.commands import Steps
from faaskeeper.session.incarnation import Answered, Incarnation, Over
from faaskeeper.session.interpreter import Interpreter
from faaskeeper.session.opening import Opening, Step
from faaskeeper.session.outbox import size_of
from faaskeeper.session.rules import Rules
from faaskeeper.session.states import Listener, SessionState, Ticket, over, unknown
from faaskeeper.session.upload import largest, upload
from faaskeeper.watch import WatchCallbackType, WatchedEvent

if TYPE_CHECKING:
    from faaskeeper.core.connection import Connection

F = TypeVar("F")

_OVERHEAD = 1024
"""The maximum bytes of a message apart from its requests."""


class Asked(NamedTuple, Generic[F]):
    """The receiver of an outcome. ``F``: the shell's type of future."""

    future: F
    write: Write


Received = Union[Step, Answered[Asked[F]], None]
"""What a message leads to: a step of the opening, answers, or nothing more."""


class Engine(ABC, Generic[F]):
    """One session with a deployment, or a process' part in it.

    ``listeners``: the functions to call with each new state. ``fire``: see :class:`Rules`.
    ``lock``: see :class:`Interpreter`. ``timeout``: seconds. ``ticket``: the session to resume,
    instead of opening one.
    """

    def __init__(
        self,
        connection: Connection,
        listeners: list[Listener],
        fire: Callable[[WatchCallbackType, WatchedEvent], None],
        lock: Callable[[], AbstractContextManager[Any]],
        *,
        timeout: float,
        random: Callable[[int], bytes],
        ticket: Ticket | None,
    ) -> None:
        self.connection = connection
        self._listeners = listeners
        self._random = random
        self._incarnation: Incarnation[Asked[F]] = Incarnation(
            ticket.session if ticket else 0,
            ticket.incarnation if ticket else 0,
            ticket.secret if ticket else random(trust.KEY_BYTES),
            ticket.timeout if ticket else int(timeout * 1000),
        )
        self._opening = Opening(self._incarnation, random)
        self.outbox = self._incarnation.outbox
        self.rules = Rules(0, fire)
        self._interpreter = Interpreter(connection, lock)
        self.registrations = self._interpreter.registrations
        self.auth: tuple[Credential, ...] = ()
        """The credentials that requests carry."""
        self._version = 1
        """The version of the lease that this process knows; a new lease has the first."""
        self._asked = 0
        """When it began to open the session, in ms of its own clock."""
        self.expires_ms = 0
        """When the lease expires, in ms of the service's clock."""
        self._opening_ms = 0
        """How much earlier the first lease may end: it was granted while the session was opened."""
        self.error: FaaSKeeperException | None = None
        """The error that ended the session."""
        self._over = False
        """The session has ended for every process, not for this one alone."""
        self._state = SessionState.LOST

    # ---- what the shell performs -------------------------------------------------------

    @abstractmethod
    def call_later(self, callback: Callable[[], Any]) -> None:
        """Run a callback of the user, after those before it."""

    @abstractmethod
    def _succeed(self, future: F, result: Any) -> None:
        """Give a future its result, unless it is done."""

    @abstractmethod
    def _fail(self, future: F, error: BaseException) -> None:
        """Give a future an error, unless it is done."""

    # ---- identity ----------------------------------------------------------------------

    @property
    def id(self) -> int:
        """The session's id; 0 before it is open."""
        return self._incarnation.session

    @property
    def incarnation(self) -> int:
        """The number of this process' incarnation."""
        return self._incarnation.number

    @property
    def timeout_ms(self) -> int:
        """The session's time-out, in ms."""
        return self._incarnation.timeout

    @property
    def owned(self) -> set[str]:
        """The ephemerals that this session is known to have created and has not deleted itself."""
        return self._incarnation.owned

    @property
    def ticket(self) -> Ticket:
        """What another process needs to resume this session."""
        incarnation = self._incarnation
        return Ticket(incarnation.session, incarnation.number, incarnation.secret, incarnation.timeout)

    # ---- states and the end ------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        """The session's known state; SUSPENDED also if its lease expired without a renewal."""
        if self._state is SessionState.CONNECTED and self.connection.service() > self.expires_ms:
            return SessionState.SUSPENDED
        return self._state

    @property
    def lease_left_ms(self) -> int:
        """How long the lease lasts from now, ms, as of its last renewal; 0 once it or the session has ended.

        By the estimate of the service's clock, which is behind by less than the way of one reply.
        The first lease counts from when its opening was asked for.
        """
        if self.error is not None:
            return 0
        return max(self.expires_ms - self._opening_ms - self.connection.service(), 0)

    def check(self) -> None:
        """Raise the error that ended the session, if it has ended."""
        if self.error is not None:
            raise self.error.with_traceback(None)  # each raise would lengthen the traceback

    def _changed(self, state: SessionState) -> bool:
        """Set the state; whether to announce it. Changes the session's state."""
        if self._state is state or self.error is not None:
            return False
        self._state = state
        return True

    def _announce(self, state: SessionState) -> None:
        for listener in list(self._listeners):
            self.call_later(partial(listener, state))

    def _end(self, error: FaaSKeeperException) -> list[Asked[F]] | None:
        """End the session; returns what :meth:`_abandon` takes, or None if it had ended before.

        Changes the session's state.
        """
        if self.error is not None:
            return None
        self.error = error
        self._state = SessionState.LOST
        return self.outbox.abandon()

    def _abandon(self, unanswered: list[Asked[F]], error: FaaSKeeperException) -> None:
        """Fail the requests without an answer. Their fate is unknown."""
        for asked in unanswered:
            self._fail(asked.future, unknown(error, asked.write.what))

    def _ends_for_all(self, code: Code) -> bool:
        """Whether a code in :data:`~faaskeeper.session.incarnation.OVER` ends it for every process.

        If so, the shell removes the rows of its watches, one by one, after it has ended: only a
        sweep would find those that were put after the service cleared the session. A row whose put
        returns later is removed by :meth:`perform`.
        """
        for_all = code is not Code.SESSION_MOVED
        self._over = self._over or for_all
        return for_all

    # ---- opening and the lease ---------------------------------------------------------

    def _listens_at(self, address: str) -> None:
        """Have the service send answers and notifications to an address."""
        self._incarnation.address = self._interpreter.address = address

    def prepare(self) -> Steps:
        """Prepare the opening's message. Raises SessionExpiredException if it cannot be resumed."""
        opening = self._opening
        self._asked = self.connection.service.own()
        if not opening.resumes:
            opening.open()
            return
        lease: Lease | None = yield commands.ReadLease(self.id)
        try:
            opening.resume(lease)
        except Over:
            raise SessionExpiredException() from None

    def _begin(self, reply: Reply) -> None:
        """The session is open."""
        self._interpreter.session = self.id
        self.expires_ms = self.connection.service() + self.timeout_ms
        self._opening_ms = max(self.connection.service.own() - self._asked, 0)
        self.rules.seen = self.rules.applied = max(self.rules.seen, reply.epoch.upto)
        self._state = SessionState.CONNECTED

    def renewal(self) -> Steps:
        """Renew the lease, then meet the epochs whose notifications were lost.

        Returns None, or the code in OVER that ended this process' part in the session.
        """
        expires = self.connection.service() + self.timeout_ms
        lease: Lease | Code = yield commands.RenewLease(self._incarnation.lease(self._version, expires))
        if isinstance(lease, Code):
            return lease
        self._version = lease.version
        self.expires_ms, self._opening_ms = expires, 0
        if self.rules.watching:
            mark: int = yield commands.ReadMark()
            yield from self.rules.meet(Epoch(mark, mark, ()), settled=True)
        return None

    # ---- requests ----------------------------------------------------------------------

    def closing(self) -> Write:
        """The request that closes the session."""
        return Write(Close(), f"closing session {self.id:x}", lambda outcome: None)

    def must_upload(self, write: Write) -> bool:
        """Whether data of a request is too large for a message: :meth:`uploaded` is due."""
        return largest(write.operation, self.connection.inline_bytes) > 0

    def uploaded(self, write: Write) -> Steps:
        """Put large data of a request into the blob store; returns the request to send."""
        now, limit = self.connection.service(), self.connection.inline_bytes
        return write._replace(
            operation=(yield from upload(write.operation, limit, self.id, now, self._random))
        )

    def check_size(self, write: Write) -> None:
        """Raise TooLargeException if a request does not fit into a message."""
        most = self.connection.worker_queue.max_message_bytes - _OVERHEAD
        if (size := size_of(write.operation)) > most:
            raise TooLargeException(f"{write.what}: {size} bytes; a request may have {most} here")

    def add(self, write: Write, future: F, auth: tuple[Credential, ...]) -> None:
        """Number a request, for the outbox. Changes the session's state."""
        self._incarnation.add(write.operation, Asked(future, write), auth)
        self.rules.observer.asked(write.operation, future)

    # ---- messages ----------------------------------------------------------------------

    def _verified(self, signed: bytes) -> Reply | Notification | None:
        """A message of the channel; None unless its sender knew the session's secret."""
        return messages.verified(signed, lambda _: self._incarnation.secret)

    def received(self, message: Reply | Notification) -> Steps:
        """Meet a message's epoch; returns what it leads to (:data:`Received`)."""
        if isinstance(message, Notification):
            if message.session == self.id:
                yield from self.rules.meet(message.epoch, settled=True)
            return None
        self.connection.note_time(message)
        if not self._opening.done or message.nonce:
            step = self._opening.answered(message)
            if step is Step.BEGUN:
                self.connection.note_time(message, self.connection.service.own() - self._asked)
                self._begin(message)
            return step
        if not self._incarnation.is_for_us(message):
            return None
        yield from self.rules.meet(message.epoch, settled=True)
        return self._incarnation.answered(message)

    def _settle(self, answered: Answered[Asked[F]]) -> None:
        """Give requests their outcomes."""
        code = answered.over
        for each, outcome in answered.ready:
            asked = each.waiter
            if code is not None:
                error = over(code)
                # An earlier copy of a request may have been committed before the session moved.
                moved = code is Code.SESSION_MOVED
                self._fail(asked.future, unknown(error, asked.write.what) if moved else error)
                continue
            self.rules.observer.answered(asked.future, outcome)
            try:
                result = asked.write.finish(outcome)
            except Exception as failed:
                self._fail(asked.future, failed)
            else:
                self._succeed(asked.future, result)

    # ---- commands ----------------------------------------------------------------------

    def perform(self, command: commands.Command) -> Any:
        """Perform a command, except Await; returns its answer. Any thread may call this.

        May block. Raises DriverError.
        """
        answer = self._interpreter.perform(command)
        if self._over and isinstance(command, commands.PutWatch):
            self.registrations.end(self.id)  # the service has cleared all earlier rows
        return answer

    def must_tidy(self, command: commands.Command) -> bool:
        """Whether :meth:`tidying` is due after a command."""
        return isinstance(command, commands.PutWatch) and self.registrations.many

    def tidying(self) -> Steps:
        """Remove the registrations without a watch, once there are many."""
        while self.registrations.many:
            yield commands.Forget(self.registrations.idle(self.rules.waits_for))
