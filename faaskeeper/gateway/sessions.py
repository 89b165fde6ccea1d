"""A ZooKeeper client's session, as far as the server that serves it keeps it.

The session lives in the service. A server holds the key that its requests are signed with (derived
from the password that ZooKeeper's client keeps), its unanswered requests and its connection:
nothing that would be missed. A client that knows id and password can resume the session, here or at
another server.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

from faaskeeper.core import trust
from faaskeeper.core.acl import Credential
from faaskeeper.core.deployment import MAX_TIMEOUT_MS, MIN_TIMEOUT_MS
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Close, Message, Operation, Outcome, Reply, Request
from faaskeeper.core.sessions import Lease
from faaskeeper.session.incarnation import OVER, Incarnation
from faaskeeper.session.timing import Resending

PASSWORD_BYTES = 16


class Bounds(NamedTuple):
    """Bounds of sessions' time-outs, in ms."""

    least: int = MIN_TIMEOUT_MS
    most: int = MAX_TIMEOUT_MS

    def fit(self, timeout: int) -> int:
        """The time-out within the bounds that is nearest to ``timeout``."""
        return min(max(timeout, self.least), self.most)


def secret_of(password: bytes) -> bytes:
    """The key that requests of a session are signed with, from its password (16 random bytes)."""
    return blake2b(password, digest_size=trust.KEY_BYTES, person=b"fk session").digest()


def proof_of(secret: bytes) -> str:
    """A hash of the key, which a lease may show."""
    return blake2b(secret, digest_size=16, person=b"fk proof").hexdigest()


class Client(Protocol):
    """A client of the session: the requests of one connection."""

    def written(self, answers: list[tuple[Any, Outcome]]) -> None:
        """Take in outcomes, each with what was passed to ``submit``; in the order of the requests."""


class Sender(Protocol):
    """The way of requests to the writer."""

    address: str
    """Where the answers are sent to."""
    ordered: bool
    """Whether the queue keeps the order of a session's messages."""

    def post(self, session: GatewaySession) -> None:
        """Send what the session has not sent."""

    def repeat(self, session: GatewaySession, requests: tuple[Request, ...]) -> None:
        """Send requests again."""


class SessionConnection(Protocol):
    """The connection by which a session is served."""

    def end(self, why: str) -> None:
        """Close it, with a reason for the log."""


class GatewaySession:
    """A session that this server serves. ``timeout`` in ms.

    ``forget`` is called with the id when the session has ended. ``now``: seconds, by a clock that
    is never set.
    """

    def __init__(
        self,
        sender: Sender,
        now: Callable[[], float],
        forget: Callable[[int], object],
        id: int,
        password: bytes,
        timeout: int,
        incarnation: int,
    ) -> None:
        self._sender = sender
        self._now = now
        self._forget = forget
        self._incarnation: Incarnation[tuple[Client, Any]] = Incarnation(
            id, incarnation, secret_of(password), timeout
        )
        self._incarnation.address = sender.address
        self._outbox = self._incarnation.outbox
        self.id = id
        self.password = password
        self.secret = self._incarnation.secret
        self.timeout = timeout
        self.incarnation = incarnation
        self.lease = Lease(id, 1, 0, False)
        self.connection: SessionConnection | None = None
        self.active = now()
        """When its client last sent something."""
        self.owned = self._incarnation.owned
        self._posted = False
        """The sender knows that it has something to send."""
        self.sending = False
        """Some of its messages are on their way to the queue."""
        self._resending = Resending(self.active)
        self._awaiting: dict[Callable[[], None], None] = {}

    def submit(
        self, operation: Operation, auth: tuple[Credential, ...], client: Client, request: object
    ) -> None:
        """Send a request; ``client`` gets its outcome with ``request``."""
        self._outbox.add(operation, (client, request), auth)
        if not self._posted:
            self._posted = True
            self._sender.post(self)

    def take(self) -> list[Message]:
        """The messages to send."""
        self._posted = False
        if self._outbox.fresh:
            self._resending.restart(self._now())
        messages: list[Message] = []
        repeat = not self._sender.ordered
        while requests := self._outbox.take(repeat):
            messages.append(self._incarnation.message(requests))
        return messages

    @property
    def unsent(self) -> bool:
        """Whether :meth:`take` has something."""
        return self._outbox.unsent

    @property
    def waits(self) -> bool:
        """Whether it has unanswered requests."""
        return len(self._outbox) > 0

    def when_answered(self, call: Callable[[], None]) -> None:
        """Call something when no request is without an answer; nothing if the session ends before."""
        self._awaiting[call] = None

    def resend(self, now: float) -> None:
        """Send unanswered requests again, if they were sent long ago."""
        if self._resending.due(now, self._outbox):
            self._sender.repeat(self, self._outbox.resend(self._outbox.acked + 1))

    def resend_all(self) -> None:
        """Send all unanswered requests again: the service was away."""
        for requests in self._outbox.resend_all():
            self._sender.repeat(self, requests)

    def message(self, requests: tuple[Request, ...]) -> Message:
        """Requests as they are sent."""
        return self._incarnation.message(requests)

    def replied(self, reply: Reply) -> None:
        """Take in a reply whose epoch was met."""
        answered = self._incarnation.answered(reply)
        answers: list[tuple[Any, Outcome]] = []
        before: Client | None = None
        for each, outcome in answered.ready:
            if answered.over is not None and outcome.code in OVER:
                break
            if type(each.request.operation) is Close and outcome.code is Code.OK:
                self._forget(self.id)
            client, request = each.waiter
            if client is not before and before is not None:
                before.written(answers)
                answers = []
            before = client
            answers.append((request, outcome))
        if before is not None:
            before.written(answers)
        if answered.over is not None:
            self._forget(self.id)
            self.detach(f"session 0x{self.id:x}: {answered.over.value}")
        elif answered.again:
            self._sender.repeat(self, answered.again)
        if self._awaiting and not self.waits:
            awaiting, self._awaiting = self._awaiting, {}
            for call in awaiting:
                call()

    def detach(self, why: str) -> None:
        """Stop serving the session here: end its connection, give up its requests."""
        connection, self.connection = self.connection, None
        self._outbox.abandon()
        self._awaiting.clear()
        if connection is not None:
            connection.end(why)
