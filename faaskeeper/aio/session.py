"""A session in an event loop: performs what steps ask for, sends, listens, renews the lease.

Everything here runs in the loop's thread, except calls that may wait for a disk's sync, a lock or a network:
those run in a pool of threads. Records, log and mark are read in the loop where the service runs in this
process, from memory or the page cache.

Requests begin in the order of :class:`~faaskeeper.session.order.Order`. A task that is cancelled takes its
request back if that has not begun. A write that has begun keeps its number, is sent until it is answered, and
its answer is dropped: so no number is left out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple, TypeVar

from faaskeeper.core import forks, trust
from faaskeeper.core.acl import Credential
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Code, DriverError
from faaskeeper.core.requests import Close, Epoch, Message, Notification, Outcome, Reply, Request
from faaskeeper.exceptions import (
    FaaSKeeperException,
    ForkedException,
    ProviderException,
    SessionClosingException,
    SessionExpiredException,
    TimeoutException,
    TooLargeException,
    WatchSetFailureException,
)
from faaskeeper.session import commands, messages
from faaskeeper.session.calls import Write
from faaskeeper.session.commands import Steps
from faaskeeper.session.incarnation import Incarnation, Over, renew
from faaskeeper.session.interpreter import Interpreter
from faaskeeper.session.order import Order
from faaskeeper.session.outbox import size_of
from faaskeeper.session.rules import Rules
from faaskeeper.session.states import SessionState, Ticket, over, unknown
from faaskeeper.session.timing import OPEN_S, RENEWALS, RING_S, WAIT_MOST_S, WAIT_S, Resending, doubling
from faaskeeper.session.upload import largest, upload
from faaskeeper.watch import WatchCallbackType, WatchedEvent

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_THREADS = 8
_READS = 64
"""Reads that are under way at one time; others wait."""
_OVERHEAD = 1024
"""What a message has beside its requests, at most."""
_IN_LOOP = (
    commands.ReadRecord,
    commands.ReadRecords,
    commands.ReadLog,
    commands.ReadLogEnd,
    commands.ReadMark,
)
_SETTLE_S = 1.0
"""How long what must be done before a session ends may wait for a store that does not answer."""

Listener = Callable[[SessionState], None]


class _Asked(NamedTuple):
    """What an outcome is handed to."""

    future: asyncio.Future[Any]
    write: Write


class Turn:
    """A request that waits for its turn, or is under way."""

    __slots__ = ("future", "write")

    def __init__(self, future: asyncio.Future[Any], write: Write | None) -> None:
        self.future = future
        self.write = write


class AsyncSession(forks.Inherited):
    """One session with a deployment, from :meth:`open` to :meth:`close` or the loss of it.

    Belongs to the loop that runs when it is made. ``ticket``: the session to go on with.
    """

    def __init__(
        self,
        connection: Connection,
        pool: ThreadPoolExecutor,
        *,
        timeout: float,
        renewing: bool,
        random: Callable[[int], bytes],
        lock: Callable[[], Any],
        ticket: Ticket | None = None,
    ) -> None:
        self.connection = connection
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._renewing = renewing
        self._random = random
        self._incarnation: Incarnation[_Asked] = Incarnation(
            ticket.session if ticket else 0,
            ticket.incarnation if ticket else 0,
            ticket.secret if ticket else random(trust.KEY_BYTES),
            ticket.timeout if ticket else int(timeout * 1000),
        )
        self.outbox = self._incarnation.outbox
        self._order: Order[Turn] = Order(_READS)
        self._nonce = random(16).hex()
        self._opening: Message | None = None
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._interpreter = Interpreter(connection, lock)
        self.registrations = self._interpreter.registrations
        self._near = connection.within is not None
        self.rules = Rules(0, self._fire)
        self._events: deque[tuple[WatchCallbackType, WatchedEvent]] = deque()
        self._dispatching = False
        self._inbox: deque[Reply | Notification] = deque()
        self._meeting = False
        self._sending = False
        self._lease_version = 1
        self._expires_ms = 0
        """When the lease runs out, by the service's clock."""
        self._state = SessionState.LOST
        self.error: FaaSKeeperException | None = None
        self._over = False
        """It has ended for every process, not for this one alone."""
        self.ended = asyncio.Event()
        self._listeners: list[Listener] = []
        self._tasks: set[asyncio.Task[Any]] = set()
        self._resending = Resending(self._loop.time())
        self._looking = self._loop.call_soon(self._look_again)
        self.auth: tuple[Credential, ...] = ()
        """The credentials under which requests are asked for."""
        self._ear = connection.channel.listen(self._hear)
        self._incarnation.address = self._interpreter.address = self._ear.address
        connection.on_failure(lambda error: self._soon(self._failed, error))
        forks.register(self)

    @property
    def id(self) -> int:
        """The session's id; 0 before it is open."""
        return self._incarnation.session

    @property
    def owned(self) -> set[str]:
        """Paths of the ephemerals that this session is known to have created and not deleted itself."""
        return self._incarnation.owned

    @property
    def ticket(self) -> Ticket:
        """What another process needs to go on with this session."""
        incarnation = self._incarnation
        return Ticket(incarnation.session, incarnation.number, incarnation.secret, incarnation.timeout)

    # ---- the loop and its threads ----------------------------------------------------------

    def _soon(self, call: Callable[..., Any], *args: Any) -> None:
        """Have the loop's thread call something; from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            self._loop.call_soon_threadsafe(call, *args)

    async def call(self, function: Callable[..., _T], *args: Any) -> _T:
        """Call a driver in a thread."""
        return await self._loop.run_in_executor(self._pool, function, *args)

    def _start(self, coroutine: Any, name: str) -> None:
        task = self._loop.create_task(coroutine, name=f"faaskeeper-{name}-{self.id:x}")
        self._tasks.add(task)
        task.add_done_callback(partial(self._stopped, name))

    def _stopped(self, name: str, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        error = None if task.cancelled() else task.exception()
        if error is not None:
            _log.error("the %s of session %x failed", name, self.id, exc_info=error)
            self._failed(error)

    # ---- opening and closing -----------------------------------------------------------------

    async def open(self, timeout: float) -> None:
        """Open the session, or go on with it.

        Raises TimeoutException, ProviderException with the reason, or SessionExpiredException.
        """
        resuming = self.id > 0
        try:
            if resuming:
                lease = await self.call(self.connection.leases.get, self.id)
                if lease is None or lease.marked:
                    raise SessionExpiredException()
                current = max(self._incarnation.number, lease.incarnation)
                self._opening = self._incarnation.resume(current, self._random)
            else:
                self._opening = self._incarnation.open(self._nonce)
            await self._open(timeout)
        except DriverError as error:
            raise ProviderException(str(error)) from error
        if resuming:
            await self.renew()  # and so tell the process before
            self.check()
        self._start(self._keep(), "keeper")

    async def _open(self, timeout: float) -> None:
        deadline = self._loop.time() + timeout
        for pause in doubling(OPEN_S):
            if self._opening is None:
                raise AssertionError("an opening is sent")
            await self.call(self._post, [self._opening])
            left = deadline - self._loop.time()
            done, _ = await asyncio.wait((self._opened,), timeout=min(pause, max(left, 0)))
            if done:
                self._opened.result()
                return
            if self._loop.time() >= deadline:
                raise TimeoutException(timeout, f"the service did not answer within {timeout:g} s")

    async def close(self, timeout: float) -> None:
        """End the session: its ephemerals are deleted. Raises TimeoutException when that is not known."""
        try:
            if self.error is None:
                closing = self._ask(Write(Close(), f"closing session {self.id:x}", lambda outcome: None))
                done, _ = await asyncio.wait((closing,), timeout=timeout)
                if not done:
                    raise TimeoutException(timeout, _unanswered(f"closing session {self.id:x}", timeout))
                closing.result()
        except SessionExpiredException:
            pass  # it was over already
        finally:
            await self.abandon()

    async def abandon(self) -> None:
        """Stop without a word to the service: the session ends when its lease runs out."""
        self.lose(SessionClosingException(), SessionState.LOST)
        tasks = [task for task in self._tasks if task is not asyncio.current_task()]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_SETTLE_S)
        await self.call(self._ear.close)
        self._dispatch()

    def forked(self, why: str) -> None:
        """See :class:`faaskeeper.core.forks.Inherited`."""
        forks.keep(self)
        self.error = ForkedException(why)

    # ---- states --------------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Call ``listener(state)`` on every change."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """No longer call it."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    @property
    def state(self) -> SessionState:
        """What is known of the session now; SUSPENDED also when its lease ran out without our renewing it."""
        if self._state is SessionState.CONNECTED and self.connection.service() > self._expires_ms:
            return SessionState.SUSPENDED
        return self._state

    def _become(self, state: SessionState) -> None:
        if self._state is not state and self.error is None:
            self._state = state
            self._announce(state)

    def _announce(self, state: SessionState) -> None:
        for listener in list(self._listeners):
            self.call_later(partial(listener, state))

    def lose(self, error: FaaSKeeperException, state: SessionState) -> None:
        """The session is over: who waits gets the reason, and that a write's fate is unknown."""
        if self.error is not None:
            return
        self.error = error
        self._state = state
        for asked in self.outbox.abandon():
            _fail(asked.future, unknown(error, asked.write.what))
        for turn in self._order.abandon():
            _fail(turn.future, error)
        if not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()  # who opens it may be gone
        self._looking.cancel()
        self.ended.set()
        self._announce(state)

    def _expired(self, error: SessionExpiredException) -> None:
        """The session has ended, for every process: its rows of watches are removed by name."""
        self._over = True
        self.lose(error, SessionState.LOST)
        self._start(self._clear(), "cleaner")

    async def _clear(self) -> None:
        try:
            await self.call(self.registrations.end, self.id)
        except DriverError as error:
            _log.warning("watches of session %x, which is over, stay: %s", self.id, error)

    def _failed(self, error: BaseException) -> None:
        """The service, or a task of this session, cannot go on."""
        self.lose(ProviderException(str(error) or repr(error)), SessionState.LOST)

    def check(self) -> None:
        """Raise what ended the session, if it has ended."""
        if self.error is not None:
            raise self.error

    # ---- callbacks -------------------------------------------------------------------------------

    def call_later(self, callback: Callable[[], Any]) -> None:
        """Run a callback in the loop, after those before it."""
        self._fire(lambda _: callback(), None)

    def _fire(self, callback: Callable[[Any], Any], event: Any) -> None:
        self._events.append((callback, event))
        if len(self._events) == 1:
            self._loop.call_soon(self._dispatch)

    def _dispatch(self) -> None:
        """Run the callbacks that wait. No read is answered before those of its events were run."""
        if self._dispatching:
            return
        self._dispatching = True
        try:
            while self._events:
                callback, event = self._events.popleft()
                try:
                    callback(event)
                except Exception:
                    _log.exception("a callback of session %x failed", self.id)
        finally:
            self._dispatching = False
            if self._events:
                self._loop.call_soon(self._dispatch)

    # ---- writing -----------------------------------------------------------------------------------

    async def write(self, write: Write) -> Any:
        """Send a request after what was asked for before it; returns its result, or raises its error.

        Cancelled, it takes the request back if that was not begun, or else has a note that says so.
        """
        self.check()
        limit = self.connection.inline_bytes
        if largest(write.operation, limit):
            now = self.connection.service()
            steps = upload(write.operation, limit, self.id, now, self._random)
            write = write._replace(operation=await self._drive(steps))
            self.check()
        future = self._ask(write)
        try:
            return await future
        except asyncio.CancelledError as error:
            if future.cancelled():
                error.add_note(self._taken_back(future, write))
            raise

    def _taken_back(self, future: asyncio.Future[Any], write: Write) -> str:
        for turn in self._order.waiting():
            if turn.future is future and self._order.remove(turn):
                self._advance()
                return f"{write.what}: it was not sent: nothing was changed"
        return f"{write.what}: it was sent: whether it happens is not known"

    def _ask(self, write: Write) -> asyncio.Future[Any]:
        most = self.connection.worker_queue.max_message_bytes - _OVERHEAD
        if (size := size_of(write.operation)) > most:
            raise TooLargeException(f"{write.what}: {size} bytes; a request may have {most} here")
        future: asyncio.Future[Any] = self._loop.create_future()
        turn = Turn(future, write)
        if self._order.may_begin(True):
            self._order.begin(True)
            self._begin(turn)
        else:
            self._order.add(True, turn)
        return future

    def _begin(self, turn: Turn) -> None:
        """Number and send a write, or let a read begin."""
        if turn.write is None:
            if turn.future.done():  # cancelled
                self._order.done(False)
            else:
                turn.future.set_result(None)
            return
        if not len(self.outbox):
            self._resending.restart(self._loop.time())
            self._looking.cancel()
            self._looking = self._loop.call_at(self._resending.at, self._look_again)
        self._incarnation.add(turn.write.operation, _Asked(turn.future, turn.write), self.auth)
        self.rules.observer.asked(turn.write.operation, turn.future)
        self._flush()

    def _advance(self) -> None:
        """Begin what may begin."""
        while (turn := self._order.next()) is not None:
            self._begin(turn)

    def _flush(self) -> None:
        """Send what is not sent yet, in one thread at a time, so that messages keep their order."""
        if not self._sending and self.outbox.unsent:
            self._sending = True
            self._loop.call_soon(self._send_unsent)

    def _send_unsent(self) -> None:
        batch: list[Message] = []
        repeat = not self.connection.worker_queue.ordered
        while requests := self.outbox.take(repeat):
            batch.append(self._incarnation.message(requests))
        self._send(batch)

    def _send(self, batch: list[Message]) -> None:
        self._sending = True
        future = self._loop.run_in_executor(self._pool, self._post, batch)
        future.add_done_callback(self._sent)

    def _post(self, batch: list[Message]) -> None:
        queue = self.connection.prompt_queue or self.connection.worker_queue
        for message in batch:
            messages.send(queue, message, self._incarnation.secret)

    def _sent(self, future: asyncio.Future[None]) -> None:
        self._sending = False
        error = None if future.cancelled() else future.exception()
        if isinstance(error, DriverError):
            _log.warning("a request will be sent again: %s", error)
            self._become(SessionState.SUSPENDED)
        elif error is not None:
            self._failed(error)
        if self.error is None:
            self._flush()

    def _resend(self, requests: tuple[Request, ...]) -> None:
        if requests and not self._sending:
            self._send([self._incarnation.message(requests)])

    def _ring(self, pause: float) -> None:
        """Ask the service to apply what is in the log; through a queue only if that takes long (seconds)."""
        if self.connection.ring is not None:
            self._pool.submit(self.connection.ring)
        elif pause > RING_S and not self._sending:
            self._send([self._incarnation.message(())])

    # ---- being answered ------------------------------------------------------------------------------

    def _hear(self, signed: bytes) -> None:
        """A message from the channel, in any thread."""
        told = messages.verified(signed, lambda _: self._incarnation.secret)
        if told is not None:
            self._soon(self._take_in, told)

    def _take_in(self, told: Reply | Notification) -> None:
        self._inbox.append(told)
        if not self._meeting:
            self._meeting = True
            self._start(self._meet_all(), "reader")

    async def _meet_all(self) -> None:
        """Take in what was heard, one message after the other."""
        try:
            while self._inbox:
                told = self._inbox.popleft()
                try:
                    if isinstance(told, Reply):
                        await self._replied(told)
                    elif told.session == self.id:
                        await self._drive(self.rules.meet(told.epoch, settled=True))
                except (DriverError, ProviderException) as error:
                    # Nothing is lost: the next read or the keeper meets it again, requests are sent again.
                    _log.warning("session %x could not take a message in: %s", self.id, error)
        finally:
            self._meeting = False

    async def _replied(self, reply: Reply) -> None:
        self.connection.heard(reply)
        if reply.nonce:
            if reply.nonce == self._nonce and not self._opened.done():
                self._incarnation.session = reply.session
                self._has_begun(reply)
            return
        if not self._incarnation.is_for_us(reply):
            return
        if not self._opened.done():
            self._resumed(reply)
            return
        await self._drive(self.rules.meet(reply.epoch, settled=True))
        answered = self._incarnation.answered(reply)
        error = None if answered.over is None else over(answered.over)
        moved = answered.over is Code.SESSION_MOVED  # an earlier copy may have been decided
        for each, outcome in answered.ready:
            self._order.done(True)
            self._settle(each.waiter, outcome, error, moved)
        if error is None:
            self._resend(answered.again)
            self._advance()
        elif moved:
            self.lose(error, SessionState.LOST)
        else:
            self._expired(error)

    def _settle(
        self, asked: _Asked, outcome: Outcome, error: SessionExpiredException | None, moved: bool
    ) -> None:
        if error is not None:
            _fail(asked.future, unknown(error, asked.write.what) if moved else error)
            return
        self.rules.observer.answered(asked.future, outcome)
        try:
            result = asked.write.finish(outcome)
        except Exception as failed:
            _fail(asked.future, failed)
        else:
            if not asked.future.done():
                asked.future.set_result(result)

    def _resumed(self, reply: Reply) -> None:
        for cxid, outcome in reply.outcomes:
            if cxid:
                continue
            if outcome.code is Code.SESSION_MOVED:
                self._opening = self._incarnation.resume(reply.current, self._random)
                self._send([self._opening])
            elif outcome.code is Code.OK:
                self.owned.update(outcome.paths)
                self._has_begun(reply)
            else:
                self.lose(SessionExpiredException(), SessionState.LOST)

    def _has_begun(self, reply: Reply) -> None:
        self._interpreter.session = self.id
        self._expires_ms = self.connection.service() + self._incarnation.timeout
        self.rules.seen = self.rules.applied = max(self.rules.seen, reply.epoch.upto)
        self._state = SessionState.CONNECTED
        self._opened.set_result(None)

    # ---- reading -----------------------------------------------------------------------------------

    async def read(self, steps: Steps) -> Any:
        """Perform steps in the session's order: after the writes asked for before, before those after."""
        self.check()
        began = self.rules.observer.reads()
        if self._order.may_begin(False):
            self._order.begin(False)
        else:
            await self._turn()
        try:
            self.check()
            result = await self._drive(steps)
        finally:
            self._order.done(False)
            self._advance()
        self._dispatch()
        self.rules.observer.has_read(began)
        return result

    async def _turn(self) -> None:
        turn = Turn(self._loop.create_future(), None)
        self._order.add(False, turn)
        try:
            await turn.future
        except asyncio.CancelledError:
            if not self._order.remove(turn) and not turn.future.cancelled():
                self._order.done(False)  # its turn had come
            self._advance()
            raise

    async def _drive(self, steps: Steps) -> Any:
        """Perform the commands of steps; closes them if it is cancelled."""
        answer: Any = None
        pauses = doubling(WAIT_S, WAIT_MOST_S)
        try:
            while True:
                try:
                    command = steps.send(answer)
                except StopIteration as done:
                    return done.value
                answer = await self._perform(command, pauses)
        finally:
            steps.close()

    async def _perform(self, command: commands.Command, pauses: Any) -> Any:
        try:
            if isinstance(command, commands.Await):
                pause = next(pauses)
                self._ring(pause)
                await asyncio.sleep(pause)
                self.check()
                return None
            if self._near and isinstance(command, _IN_LOOP):
                answer = self._interpreter.perform(command)
            else:
                answer = await self.call(self._interpreter.perform, command)
        except DriverError as error:
            if isinstance(command, commands.PutWatch):
                what = f"the watch of {command.path} could not be set: {error}"
                raise WatchSetFailureException(what) from error
            raise ProviderException(str(error)) from error
        if self._over and isinstance(command, commands.PutWatch):
            self._start(self._clear(), "cleaner")  # nothing else finds what is put from now on
        self.rules.observer.performed(command, answer)
        return answer

    # ---- the keeper ----------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Renew the lease, remove idle registrations."""
        every = self._incarnation.timeout / 1000 / RENEWALS
        while self.error is None:
            await asyncio.sleep(every)
            if self.registrations.many:
                await self._tidy()
            if self._renewing:
                await self.renew()

    def _look_again(self) -> None:
        """Send unanswered requests again, when that is due."""
        if self.error is None and len(self.outbox):
            if self._resending.due(self._loop.time(), self.outbox):
                self._resend(self.outbox.resend(self.outbox.acked + 1))
            self._looking = self._loop.call_at(self._resending.at, self._look_again)

    async def _tidy(self) -> None:
        idle = self.registrations.idle(self.rules.waits_for)
        try:
            await self.call(self.registrations.forget, self.id, idle)
        except DriverError as error:
            _log.warning("registrations that nothing waits for stay for now: %s", error)

    async def renew(self) -> None:
        """Renew the lease; find out if the session is over. Meets what notifications failed to tell."""
        expires = self.connection.service() + self._incarnation.timeout
        wanted = self._incarnation.lease(self._lease_version, expires)
        try:
            try:
                self._lease_version = (await self.call(renew, self.connection.leases, wanted)).version
            except Over as ended:
                if ended.code is Code.SESSION_MOVED:
                    self.lose(over(ended.code), SessionState.LOST)
                else:
                    self._expired(SessionExpiredException())
                return
            self._expires_ms = expires
            if self.rules.watching:
                mark = await self.call(self.connection.applied)
                await self._drive(self.rules.meet(Epoch(mark, mark, ()), settled=True))
        except (DriverError, ProviderException) as error:
            _log.warning("the lease of session %x was not renewed: %s", self.id, error)
            self._become(SessionState.SUSPENDED)
        else:
            self._become(SessionState.CONNECTED)


def _fail(future: asyncio.Future[Any], error: BaseException) -> None:
    if not future.done():
        future.set_exception(error)
        future.exception()  # its task may be gone


def _unanswered(what: str, timeout: float) -> str:
    return f"{what} was not answered within {timeout:g} s: whether it happened is not known"
