"""What all connections of a server share: the reading rules, the server's own session, the way to the writer.

A server is one client of the deployment to the reading rules (:mod:`faaskeeper.session.rules`): what one of
its connections was shown, none of them goes behind, as on a ZooKeeper server. It has a session of its own,
under which its watches are registered, once however many connections wait for the same, and whose lease
answers for those of its clients (``docs/architecture/gateway.md``).

Everything here belongs to the event loop's thread. Stores that answer within microseconds are called in it;
calls to others run in a pool of threads, and come back to it.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

from faaskeeper.core import trust
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.core.requests import Close, Epoch, Message, Notification, Open, Operation, Reply, Request
from faaskeeper.core.sessions import Lease, served_ms
from faaskeeper.providers.clocks import elapsed_s
from faaskeeper.session import commands, messages
from faaskeeper.session.commands import Steps
from faaskeeper.session.incarnation import Over, renew
from faaskeeper.session.interpreter import Interpreter
from faaskeeper.session.registrations import Registrations
from faaskeeper.session.rules import Rules
from faaskeeper.session.timing import OPEN_S, RENEWALS, WAIT_MOST_S, WAIT_S, doubling
from faaskeeper.watch import WatchCallbackType, WatchedEvent

if TYPE_CHECKING:
    from faaskeeper.gateway.server import Saying
    from faaskeeper.gateway.sessions import GatewaySession

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

LEASE_MS = 60_000
"""Longest time-out of a server's own lease; shorter as soon as one of its sessions' is."""
_STEPS = 100
"""Commands performed in the event loop's thread before others get their turn; of records that are
read in one command, each counts."""
_THREADS = 32
_ALONE = 4
"""After how many times in a row that only one connection had something it counts as alone."""
_TOGETHER = 100
_REGISTERED = 5_000
"""Registrations that are kept before those that nobody waits for any more are removed."""


class Failed(Exception):
    """The deployment cannot be used, and why."""


class _Asked(NamedTuple):
    """A question to the service, and the secret that the answer is signed with."""

    future: asyncio.Future[Reply]
    secret: bytes


class SharedRules(Rules):
    """Reading rules of many sessions.

    Others raise ``seen`` all the time, so a read is not repeated for that, but only where what was met
    meanwhile wrote its path: it is a snapshot of one path.
    """

    def __init__(
        self, seen: int, fire: Callable[[WatchCallbackType, WatchedEvent], None], near: bool
    ) -> None:
        super().__init__(seen, fire)
        self._near = near

    def read(self, path: str) -> commands.Steps:
        """See :meth:`Rules.read`."""
        if self._near:
            return (yield from super().read(path))
        found = yield from self.snapshot((path,))
        return found[path]

    def count(self) -> tuple[int, int]:
        """How many watches there are, and of how many paths."""
        lists = [*self._watches.values(), *self._recursive.values()]
        return sum(map(len, lists)), len(self._watches.keys() | self._recursive.keys())


Done = Callable[[Any, BaseException | None], None]


class Hub:
    """One server's way to its deployment.

    What connections say while ``saying`` is entered is sent when it is left. ``on_lost`` is called when
    clients may not be served any more, because the server's own lease is not good;
    ``on_failure`` when the deployment cannot be used at all.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        saying: Saying,
        on_lost: Callable[[str], None],
        on_failure: Callable[[Exception], None],
        random: Callable[[int], bytes] = os.urandom,
        now: Callable[[], float] = elapsed_s,
    ) -> None:
        self.connection = connection
        self.now = now
        """Seconds, by a clock that nobody sets."""
        self.near = connection.within is not None
        self.random = random
        self.session = 0
        self.sessions: dict[int, GatewaySession] = {}
        self.rules = SharedRules(0, self._fire, self.near)
        self._loop = asyncio.get_running_loop()
        self._saying = saying
        self._on_lost = on_lost
        self._pool = None if self.near else ThreadPoolExecutor(_THREADS, "faaskeeper-gateway")
        self._inbox: deque[bytes | Reply] = deque()
        self._early: list[Reply] = []
        self._meeting = False
        self._draining = False
        self.committing = False
        """The writer runs: what it has told of may not be read yet."""
        self._after: list[Callable[[], None]] = []
        self._thread = threading.get_ident()
        self._last: object = None
        self._run = 0
        self._receiving = False
        self._asked: dict[object, _Asked] = {}
        self._due: dict[int, GatewaySession] = {}
        self._flushing = False
        self._interpreter = Interpreter(connection, threading.Lock, _REGISTERED)
        self._secret = b""
        self._lease = Lease(0, 0, 0, False)
        self._lease_ms = LEASE_MS
        self._renewing = asyncio.Lock()
        self._sooner = asyncio.Event()
        self._good_until = 0.0
        within = connection.within
        if within is None:
            self._ear = connection.channel.listen(self._hear)
        else:
            self._ear = within.listen(self._hear, self._settled)
        self._interpreter.address = self._ear.address
        connection.on_failure(lambda error: self._soon(on_failure, error))

    @property
    def registrations(self) -> Registrations:
        """The watches that this server has registered."""
        return self._interpreter.registrations

    @property
    def address(self) -> str:
        """Where answers are sent to."""
        return self._ear.address

    def _soon(self, call: Callable[..., None], *args: Any) -> None:
        with suppress(RuntimeError):  # the loop is closed: nobody is served any more
            self._loop.call_soon_threadsafe(call, *args)

    # ---- the server's own session --------------------------------------------------------

    async def start(self) -> None:
        """Open the server's session. Raises Failed, with the reason."""
        self._secret = self.random(trust.KEY_BYTES)
        nonce = self.random(16).hex()
        opening = Open(nonce, self._secret, LEASE_MS)
        try:
            reply = await self.ask(nonce, self.message(0, 0, opening), self._secret)
            self.session = reply.session
            self._met(reply)
            self._lease = Lease(self.session, 1, 0, False)
            self._interpreter = Interpreter(self.connection, threading.Lock, _REGISTERED)
            self._interpreter.session, self._interpreter.address = self.session, self._ear.address
            await self.renew()
        except TimeoutError:
            raise Failed("the service did not answer: are its functions deployed?") from None
        except (DriverError, StaleView) as error:
            raise Failed(str(error)) from error
        if not self.serving:
            raise Failed("the server's own lease could not be renewed")

    def message(self, session: int, incarnation: int, operation: Operation) -> Message:
        """A message that opens a session, or goes on with one."""
        return Message(session, incarnation, 0, self._ear.address, (Request(0, operation),))

    def _met(self, reply: Reply) -> None:
        """Of an Open, or a Resume: where the session begins."""
        self.connection.heard(reply)
        if not self.rules.seen:
            self.rules.seen = self.rules.applied = reply.epoch.upto

    def serves(self, now: float) -> bool:
        """Whether the server's lease is good at a time (of :attr:`now`): it may tell its clients that their
        sessions live.
        """
        return now < self._good_until

    @property
    def serving(self) -> bool:
        """The same, now."""
        return self.serves(self.now())

    async def answer_for(self, timeout: int) -> None:
        """Make the lease as short as that of a session which it is to answer for (ms)."""
        if timeout < self._lease_ms:
            await self.renew(timeout)
            self._sooner.set()

    async def renew(self, timeout: int = LEASE_MS) -> None:
        """Renew the server's lease, for at most ``timeout`` ms; meet what notifications failed to tell.

        Raises Failed where the server's session has ended: :meth:`restart` it.
        """
        async with self._renewing:
            began = self.now()
            timeout = min(timeout, *(each.timeout for each in self.sessions.values()), LEASE_MS)
            self._lease_ms = timeout
            expires = self.service_time() + timeout
            wanted = self._lease._replace(expires=expires, timeout=timeout)
            try:
                self._lease = await self.call(renew, self.connection.leases, wanted)
            except Over:
                self._good_until = 0.0
                raise Failed("the server's session has expired") from None
            self._good_until = began + served_ms(timeout) / 1000
            mark = await self.call(self.connection.applied)
        if self.rules.watching:
            await self.perform(self.rules.meet(Epoch(mark, mark, ()), settled=True))

    async def restart(self) -> None:
        """Begin again with a new session of the server's, after all its clients were let go."""
        seen = self.rules.seen
        self.rules = SharedRules(seen, self._fire, self.near)
        self.sessions.clear()
        self._due.clear()
        self.session = 0
        await self.start()

    async def keep(self) -> None:
        """Renew the lease for ever; let all clients go when that fails for too long."""
        pause = self._lease_ms / 1000 / RENEWALS
        while True:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._sooner.wait(), pause)
                self._sooner.clear()
                pause = self._lease_ms / 1000 / RENEWALS
                continue  # it was just renewed, for a shorter time
            try:
                await self.renew()
                pause = self._lease_ms / 1000 / RENEWALS
            except DriverError as error:
                _log.warning("the server's lease was not renewed: %s", error)
                pause = min(pause, 1.0)
            except Failed as error:
                self._on_lost(str(error))
                await self._restarted()

    async def _restarted(self) -> None:
        while True:
            try:
                await self.restart()
                return
            except Failed as error:
                _log.warning("the server cannot begin again yet: %s", error)
                await asyncio.sleep(1.0)

    def service_time(self) -> int:
        """The service's clock, as far as its last answers tell (ms)."""
        return self.connection.service()

    async def close(self) -> None:
        """Close the server's session, so that its watches go."""
        if self.session and self.serving:
            with suppress(DriverError, TimeoutError):
                closing = Message(self.session, 0, 0, self._ear.address, (Request(1, Close()),))
                await self.ask((self.session, 0, 1), closing, self._secret)

    def release(self) -> None:
        """Give back what was taken."""
        self._ear.close()
        if self._pool is not None:
            self._pool.shutdown()
        self.connection.close()

    # ---- calls ---------------------------------------------------------------------------

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call a driver."""
        if self._pool is None:
            return function(*args)
        return await self._loop.run_in_executor(self._pool, function, *args)

    async def perform(self, steps: Steps) -> Any:
        """Perform the commands of some steps; returns what they return."""
        future: asyncio.Future[Any] = self._loop.create_future()

        def done(result: Any, error: BaseException | None) -> None:
            if future.cancelled():
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        self.drive(steps, done)
        return await future

    def drive(
        self, steps: Steps, done: Done, answer: Any = None, pauses: Iterator[float] | None = None
    ) -> None:
        """Perform the commands of some steps, then call ``done(result, error)``, at once if it can.

        What they raise, and a driver's error at a command, is the error.
        """
        left = _STEPS
        while left > 0:
            try:
                command = steps.send(answer)
            except StopIteration as stopped:
                done(stopped.value, None)
                return
            except Exception as error:
                done(None, error)
                return
            if isinstance(command, commands.Await):
                self._ring()
                pauses = pauses or doubling(WAIT_S, WAIT_MOST_S)
                self._loop.call_later(next(pauses), self.drive, steps, done, None, pauses)
                return
            if self._pool is not None:
                future = self._pool.submit(self._interpreter.perform, command)
                future.add_done_callback(lambda each: self._soon(self._performed, each, steps, done, pauses))
                return
            try:
                answer = self._interpreter.perform(command)
            except DriverError as error:
                steps.close()
                done(None, error)
                return
            left -= len(command.paths) if isinstance(command, commands.ReadRecords) else 1
        self._loop.call_soon(self.drive, steps, done, answer, pauses)

    def _performed(
        self, future: Future[Any], steps: Steps, done: Done, pauses: Iterator[float] | None
    ) -> None:
        error = future.exception()
        if error is not None:
            steps.close()
            done(None, error)
        else:
            self.drive(steps, done, future.result(), pauses)

    def _ring(self) -> None:
        """Ask the service to apply what is in the log."""
        if self.connection.ring is not None:
            self.connection.ring()
        else:
            self._send([(Message(self.session, 0, 0, self._ear.address, ()), self._secret)])

    # ---- the writer ----------------------------------------------------------------------

    def post(self, session: GatewaySession) -> None:
        """Send what the session has not sent, together with what others have by then."""
        self._due[session.id] = session
        if not self._flushing and not self._receiving:
            self._flush_soon()

    def _flush_soon(self) -> None:
        self._flushing = True
        self._loop.call_soon(self._flush)

    def receive(self, wire: object, take: Callable[[], None]) -> None:
        """Have a connection take what has come. What it asks of the writer goes at once where no other
        connection has lately had something, else with what others ask for in this turn of the loop.
        """
        if wire is self._last:
            self._run += 1
        else:
            self._last, self._run = wire, 0
        with self._saying:
            self._receiving = True
            try:
                take()
            finally:
                self._receiving = False
            if self._due and not self._flushing:
                if self.near and self._run >= _ALONE:
                    self._flush()
                else:
                    self._flush_soon()

    def _flush(self) -> None:
        self._flushing = False
        due, self._due = self._due, {}
        batch: list[tuple[Message, bytes]] = []
        for session in due.values():
            if session.sending:
                continue  # it is posted again when what it sends is sent: so its messages keep their order
            taken = [(each, session.secret) for each in session.take()]
            if self._pool is None:
                batch.extend(taken)
            elif taken:
                session.sending = True
                future = self._pool.submit(self._enqueue, taken)
                future.add_done_callback(partial(self._soon, self._sent, session))
        if batch:
            self._send(batch)

    def _sent(self, session: GatewaySession, _: object) -> None:
        session.sending = False
        if session.unsent:
            self.post(session)

    def repeat(self, session: GatewaySession, requests: tuple[Request, ...]) -> None:
        """Send a session's unanswered requests again."""
        if requests:
            self._loop.call_soon(self._send, [(session.message(requests), session.secret)])

    def _send(self, batch: Sequence[tuple[Message, bytes]]) -> None:
        """Hand messages to the writer, with the secrets to sign them with; what gets lost is sent again."""
        within = self.connection.within
        try:
            if within is not None:
                self.committing = True
                try:
                    within.commit([message for message, _ in batch])
                finally:
                    self.committing = False
                self._committed()
            elif self._pool is not None:
                self._pool.submit(self._enqueue, batch)
        except DriverError as error:
            _log.warning("a request will be sent again: %s", error)

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call something when the writer that runs is done."""
        self._after.append(call)

    def _committed(self) -> None:
        with self._saying:
            self._drain()
            after, self._after = self._after, []
            for call in after:
                call()

    def _enqueue(self, batch: Sequence[tuple[Message, bytes]]) -> None:
        """Send messages in their order, in a thread of the pool."""
        for message, secret in batch:
            try:
                messages.send(self.connection.worker_queue, message, secret)
            except DriverError as error:
                _log.warning("a request will be sent again: %s", error)

    async def ask(self, key: object, message: Message, secret: bytes, timeout: float = 30.0) -> Reply:
        """Send a message and wait for the answer.

        ``key`` tells which that is: a nonce, or (session, incarnation, cxid). The message is sent again, in
        growing intervals. Raises TimeoutError, DriverError.
        """
        future: asyncio.Future[Reply] = self._loop.create_future()
        self._asked[key] = _Asked(future, secret)
        deadline = time.monotonic() + timeout
        try:
            for pause in doubling(OPEN_S):
                self._send([(message, secret)])
                left = deadline - time.monotonic()
                done, _ = await asyncio.wait((future,), timeout=min(pause, left))
                if done:
                    return future.result()
                if left <= pause:
                    raise TimeoutError
        finally:
            self._asked.pop(key, None)
        raise AssertionError("intervals have no end")

    # ---- being told ----------------------------------------------------------------------

    def _hear(self, told: bytes | Reply) -> None:
        """A message from the channel, in any thread.

        In the loop's it comes from the writer that :meth:`_send` runs: clients are answered before the writer
        goes on to what they need not wait for, and nothing is read before that is done.
        """
        if threading.get_ident() == self._thread:
            self._inbox.append(told)
            self._drain()
        elif isinstance(told, bytes):
            self._inbox.append(told)
            self._soon(self._drain)
        else:
            self._early.append(told)

    def _settled(self) -> None:
        """Replies that came in another thread are in user storage."""
        if threading.get_ident() != self._thread:
            self._inbox.extend(self._early)
            self._early.clear()
            self._soon(self._drain)

    def _drain(self) -> None:
        """Take in what was heard, one message after the other."""
        draining, self._draining = self._draining, True
        try:
            with self._saying:
                while self._inbox and not self._meeting:
                    told = self._verified(self._inbox.popleft())
                    if told is not None:
                        self._meeting = True
                        self.drive(self.rules.meet(told.epoch, settled=True), partial(self._taken, told))
        finally:
            self._draining = draining
        if self.committing:
            self._saying.send()  # whoever waits need not wait for what is left to do

    def _taken(self, told: Reply | Notification, _: object, error: BaseException | None) -> None:
        """An epoch was met: hand the answer on."""
        self._meeting = False
        if error is not None:
            # Nothing is lost: requests are sent again, and reads meet it.
            _log.warning("what the service told could not be taken in: %s", error)
        elif isinstance(told, Reply):
            self._replied(told)
        if self._inbox and not self._draining:
            self._loop.call_soon(self._drain)

    def _verified(self, signed: bytes | Reply) -> Reply | Notification | None:
        """The message, if whoever made it knew the session's secret."""
        if not isinstance(signed, bytes):
            return signed
        return messages.verified(signed, self._secret_of)

    def _secret_of(self, told: Reply | Notification) -> bytes | None:
        if isinstance(told, Notification) or told.session == self.session:
            return self._secret
        known = self.sessions.get(told.session)
        if known is not None:
            return known.secret
        asked = self._question(told)
        return None if asked is None else asked.secret

    def _question(self, reply: Reply) -> _Asked | None:
        """What a reply answers, where it is no session's that is served here."""
        if reply.nonce:
            return self._asked.get(reply.nonce)
        keys = ((reply.session, reply.incarnation, cxid) for cxid, _ in reply.outcomes)
        return next((self._asked[key] for key in keys if key in self._asked), None)

    def _replied(self, reply: Reply) -> None:
        session = self.sessions.get(reply.session)
        if session is not None and session.incarnation == reply.incarnation and not reply.nonce:
            self.connection.heard(reply)
            session.replied(reply)
            return
        asked = self._question(reply)
        if asked is not None and not asked.future.done():
            asked.future.set_result(reply)

    # ---- watches -------------------------------------------------------------------------

    @staticmethod
    def _fire(callback: WatchCallbackType, event: WatchedEvent) -> None:
        try:
            callback(event)
        except Exception:
            _log.exception("a connection could not be told of %s", event)  # the others are

    async def tidy(self) -> None:
        """Remove registrations of paths that nobody waits for any more, when there are many."""
        registrations = self.registrations
        if registrations.many:
            idle = registrations.idle(self.rules.waits_for)
            for at in range(0, len(idle), _TOGETHER):
                await self.call(registrations.forget, self.session, idle[at : at + _TOGETHER])
                await asyncio.sleep(0)  # where stores are near, others get their turn in between
