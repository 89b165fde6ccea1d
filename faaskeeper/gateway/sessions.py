"""Sessions of ZooKeeper's clients, and as much of them as a server keeps while it serves them.

A session lives in the service. A server holds what its requests are signed with (made from the password that
ZooKeeper's client keeps), which of them are unanswered, and who is connected: nothing that would be missed.
Whoever knows id and password may come back to the session, here or at another server of the same deployment.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from hashlib import blake2b
from hmac import compare_digest
from typing import NamedTuple, Protocol

from faaskeeper.core import trust
from faaskeeper.core.acl import Credential
from faaskeeper.core.deployment import MAX_TIMEOUT_MS, MIN_TIMEOUT_MS
from faaskeeper.core.errors import Code, Conflict, DriverError
from faaskeeper.core.requests import (
    Close,
    Message,
    Open,
    Operation,
    Outcome,
    Reply,
    Request,
    Resume,
)
from faaskeeper.core.sessions import Lease, next_incarnation
from faaskeeper.gateway.hub import Hub
from faaskeeper.session.incarnation import OVER, Incarnation
from faaskeeper.session.timing import Resending

PASSWORD_BYTES = 16
_TRIES = 5

_log = logging.getLogger(__name__)


class Gone(Exception):
    """The session has ended, or never was, or the password is not its."""


class Busy(Exception):
    """The session cannot be taken over now; the client may try again."""


def secret_of(password: bytes) -> bytes:
    """What requests of a session are signed with, of its password (16 random bytes)."""
    return blake2b(password, digest_size=trust.KEY_BYTES, person=b"fk session").digest()


def proof_of(secret: bytes) -> str:
    """What may be shown of a secret to tell it from others."""
    return blake2b(secret, digest_size=16, person=b"fk proof").hexdigest()


Answer = Callable[[Outcome], None]
"""Called with the outcome of a request, in the order of the requests."""


class Line(Protocol):
    """A session's connection."""

    def moved(self, why: str) -> None:
        """The session is not served by it any more."""


class GatewaySession:
    """A session that is served here. ``timeout`` in ms."""

    def __init__(self, hub: Hub, id: int, password: bytes, timeout: int, incarnation: int) -> None:
        self._hub = hub
        self._incarnation: Incarnation[Answer] = Incarnation(id, incarnation, secret_of(password), timeout)
        self._incarnation.address = hub.address
        self.id = id
        self.password = password
        self.secret = self._incarnation.secret
        self.timeout = timeout
        self.incarnation = incarnation
        self.lease = Lease(id, 1, 0, False)
        self.line: Line | None = None
        self.heard = hub.now()
        self.owned = self._incarnation.owned
        self.sending = False
        """Some of its messages are on their way to the queue."""
        self._outbox = self._incarnation.outbox
        self._resending = Resending(self.heard)

    def submit(self, operation: Operation, auth: tuple[Credential, ...], answered: Answer) -> None:
        """Ask for something; ``answered`` is called with the outcome, in the order of the requests."""
        if not self._outbox:
            self._resending.restart(self._hub.now())
        self._incarnation.add(operation, answered, auth)
        self._hub.post(self)

    def take(self) -> list[Message]:
        """The messages to send."""
        messages: list[Message] = []
        repeat = not self._hub.connection.worker_queue.ordered
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

    def resend(self, now: float) -> None:
        """Have unanswered requests sent again, when they were sent long ago."""
        if self._resending.due(now, self._outbox):
            self._hub.repeat(self, self._outbox.resend(self._outbox.acked + 1))

    def message(self, requests: tuple[Request, ...]) -> Message:
        """Requests as they are sent."""
        return self._incarnation.message(requests)

    def replied(self, reply: Reply) -> None:
        """Outcomes came, whose epoch was met."""
        answered = self._incarnation.answered(reply)
        for each, outcome in answered.ready:
            if outcome.code in OVER:
                self._hub.sessions.pop(self.id, None)
                self.leave(f"session 0x{self.id:x}: {outcome.code.value}")
                return
            if isinstance(each.request.operation, Close) and outcome.code is Code.OK:
                self._hub.sessions.pop(self.id, None)
            each.waiter(outcome)
        self._hub.repeat(self, answered.again)

    def leave(self, why: str) -> None:
        """The session is not served here any more: its client has to connect anew."""
        line, self.line = self.line, None
        self._outbox.abandon()
        if line is not None:
            line.moved(why)


class Bounds(NamedTuple):
    """Bounds of sessions' time-outs, in ms."""

    least: int = MIN_TIMEOUT_MS
    most: int = MAX_TIMEOUT_MS

    def fit(self, timeout: int) -> int:
        """The time-out that is nearest to the one asked for."""
        return min(max(timeout, self.least), self.most)


class Reception:
    """Opens sessions and finds them again; lets go of those whose clients are silent."""

    def __init__(self, hub: Hub, bounds: Bounds) -> None:
        self._hub = hub
        self._bounds = bounds
        self._leaving: set[asyncio.Task[None]] = set()

    async def open(self, timeout: int) -> GatewaySession:
        """A new session. Raises DriverError, TimeoutError, Busy."""
        hub = self._hub
        timeout = self._bounds.fit(timeout)
        await hub.answer_for(timeout)
        password = hub.random(PASSWORD_BYTES)
        nonce = hub.random(16).hex()
        secret = secret_of(password)
        reply = await hub.ask(nonce, hub.message(0, 0, Open(nonce, secret, timeout)), secret)
        session = GatewaySession(hub, reply.session, password, timeout, 0)
        await self._attach(session, Lease(session.id, 1, 0, False))
        hub.sessions[session.id] = session
        await hub.answer_for(timeout)  # it may have been renewed for longer meanwhile
        return session

    async def come_back(self, id: int, password: bytes, timeout: int) -> GatewaySession:
        """The session of a client that was connected before. Raises Gone, Busy, DriverError, TimeoutError."""
        hub = self._hub
        lease = await hub.call(hub.connection.leases.get, id) if 0 < id < 1 << 62 else None
        if lease is None or lease.marked or not lease.proof:
            known = hub.sessions.pop(id, None)
            if known is not None:
                known.leave(f"session 0x{id:x} has expired")
            raise Gone
        if not compare_digest(lease.proof, proof_of(secret_of(password))):
            raise Gone
        known = hub.sessions.get(id)
        if known is not None and lease.version == known.lease.version:
            known.heard = hub.now()
            return known
        if known is not None:
            hub.sessions.pop(id, None)
            known.leave(f"session 0x{id:x} was moved to another server")
        timeout = self._bounds.fit(timeout)
        await hub.answer_for(timeout)
        return await self._take_over(lease, password, timeout)

    async def _take_over(self, lease: Lease, password: bytes, timeout: int) -> GatewaySession:
        """Have the lease say that this server answers for the session, then go on as its next incarnation.

        In this order: a session whose lease is ours does not expire in between.
        """
        hub = self._hub
        current = lease.incarnation  # as far as is known: a server that took it over may not have got further
        for _ in range(_TRIES):
            incarnation = next_incarnation(max(lease.incarnation, current), hub.random)
            session = GatewaySession(hub, lease.session, password, timeout, incarnation)
            await self._attach(session, lease)
            resuming = hub.message(session.id, incarnation, Resume(current))
            reply = await hub.ask((session.id, incarnation, 0), resuming, session.secret, 10.0)
            outcome = reply.outcomes[0][1]
            if outcome.code is Code.OK:
                session.owned.update(outcome.paths)
                if session.id in hub.sessions:
                    raise Busy(f"session 0x{session.id:x} is being taken over by another connection")
                hub.sessions[session.id] = session
                await hub.answer_for(timeout)
                return session
            if outcome.code is Code.SESSION_EXPIRED:
                raise Gone
            lease, current = session.lease, reply.current
        raise Busy(f"other servers take session 0x{lease.session:x} over at the same time")

    async def _attach(self, session: GatewaySession, lease: Lease) -> None:
        """Have the server's lease answer for the session's. Raises Gone, Busy."""
        hub = self._hub
        wanted = lease._replace(
            expires=hub.service_time() + session.timeout,
            incarnation=session.incarnation,
            under=hub.session,
            timeout=session.timeout,
            proof=proof_of(session.secret),
        )
        try:
            session.lease = await hub.call(hub.connection.leases.replace, wanted)
        except Conflict:
            current = await hub.call(hub.connection.leases.get, session.id)
            if current is None or current.marked:
                raise Gone from None
            raise Busy(f"another server takes session 0x{session.id:x} over") from None

    def look(self) -> None:
        """Let go of sessions whose clients were silent for too long, and send again what got no answer."""
        now = self._hub.now()
        sessions = self._hub.sessions.values()
        for session in [each for each in sessions if now > each.heard + each.timeout / 1000]:
            self.let_go(session, now - session.heard)
        for session in [each for each in sessions if each.waits]:
            session.resend(now)

    def let_go(self, session: GatewaySession, silent: float) -> None:
        """Leave a session to heartbeat: its client was last heard so many seconds ago."""
        hub = self._hub
        hub.sessions.pop(session.id, None)
        session.leave(f"session 0x{session.id:x}: nothing was heard for {silent:.1f} s")
        heard = hub.service_time() - int(silent * 1000)
        lease = session.lease._replace(under=0, expires=heard + session.timeout)
        task = asyncio.get_running_loop().create_task(self._free(lease))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _free(self, lease: Lease) -> None:
        hub = self._hub
        pause = 0.5
        while True:
            try:
                await hub.call(hub.connection.leases.replace, lease)
                return
            except Conflict:
                return  # another server has it, or it is over, or an earlier try took effect
            except DriverError as error:
                _log.warning("session 0x%x is not let go yet: %s", lease.session, error)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 10.0)

    async def let_all_go(self) -> None:
        """The server stops: leave every session to whichever its client finds next."""
        now = self._hub.now()
        for session in list(self._hub.sessions.values()):
            self.let_go(session, now - session.heard)
        await asyncio.gather(*self._leaving)
