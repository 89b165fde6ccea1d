"""A session in an event loop: performs the commands of steps, sends, listens, renews the lease.

Everything here runs in the loop's thread, except calls that may wait for a disk's sync, a lock or a
network: those run in threads. If the service runs in this process, records, log and mark are read
in the loop, from memory or the page cache. Two groups of threads make the calls: one for users'
requests, one for the session itself (sending, its lease, its end), so that many slow reads do not
delay the session's own calls.

**Order.** Requests begin in the order of :class:`~faaskeeper.session.order.Order`. Each has its
place from the first step of its coroutine on. A write with data in a blob keeps its place during
the upload: if its turn comes before the upload ends, it *holds* the order, and no later request
begins.

**Cancellation.** Each await of a request is in one of three states, each with its own cleanup:

* It waits for its turn or its upload: it is removed from the order, which goes on. It has no
  number.
* It reads: its steps are closed, which undoes what they registered (a watch that is being set, a
  track), and the order advances. Only ``finally`` blocks do that, so the command at which the
  cancellation comes does not matter.
* It is numbered: nothing is undone. The request is resent until it is answered, and its answer
  is dropped because the future is done. So numbers have no gaps, and the order counts the request
  until it is answered.

A turn may come at the moment of its cancellation: the future has a result, or was cancelled, but
its task has not run since. :attr:`Turn.begun`, which only :meth:`AsyncSession._begin` sets,
distinguishes the two cases.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from faaskeeper.aio.callbacks import Callbacks
from faaskeeper.aio.sender import Sender
from faaskeeper.aio.threads import Threads, through
from faaskeeper.core import forks, trust
from faaskeeper.core.acl import Credential
from faaskeeper.core.connection import Connection
from faaskeeper.core.drivers.channel import Listener as Ear
from faaskeeper.core.errors import Code, DriverError
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Close, Epoch, Notification, Outcome, Reply
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
from faaskeeper.session.opening import Opening, Step
from faaskeeper.session.order import Order
from faaskeeper.session.outbox import size_of
from faaskeeper.session.reads import TOGETHER
from faaskeeper.session.rules import Rules
from faaskeeper.session.states import SessionState, Ticket, over, unknown
from faaskeeper.session.timing import OPEN_S, RENEWALS, RING_S, WAIT_MOST_S, WAIT_S, doubling
from faaskeeper.session.unheard import Unheard
from faaskeeper.session.upload import largest, upload

_log = logging.getLogger(__name__)

_CALLS = 8
"""The number of threads for users' requests."""
_OWN = 4
"""The number of threads for the session itself: it sends, renews, removes registrations, closes."""
_READS = 64
"""The maximum number of concurrent reads; others wait."""
_OVERHEAD = 1024
"""The maximum bytes of a message apart from its requests."""
_IN_LOOP = frozenset(
    (
        commands.ReadRecord,
        commands.ReadRecords,
        commands.ReadLog,
        commands.ReadLogEnd,
        commands.ReadMark,
    )
)
_TURN_S = 0.002
"""How long reads that never wait may occupy the loop."""
_SETTLE_S = 1.0
"""How long the work before a session's end may wait for a store that does not answer."""

Listener = Callable[[SessionState], None]


class _Asked(NamedTuple):
    """The receiver of an outcome."""

    future: asyncio.Future[Any]
    write: Write


class Turn:
    """A request in the session's order: it waits for its turn, or is in flight.

    ``write`` None: a read. ``auth``: the credentials at the time of the request. ``ready`` False:
    its data is being uploaded. ``begun``: a read may run, a write is numbered.
    """

    __slots__ = ("auth", "begun", "future", "ready", "write")

    def __init__(
        self, future: asyncio.Future[Any], write: Write | None = None, auth: tuple[Credential, ...] = ()
    ) -> None:
        self.future = future
        self.write = write
        self.auth = auth
        self.ready = True
        self.begun = False


class Later:
    """The type of LATER, which stands for a record that cannot be shown at once."""


LATER = Later()


class AsyncSession(forks.Inherited):
    """One session with a deployment, from :meth:`open` to :meth:`close` or its loss.

    Belongs to the loop that runs at its creation. The listeners that are in ``listeners`` at the
    time of a change are called with the new state. ``ticket``: the session to resume.
    """

    def __init__(
        self,
        connection: Connection,
        listeners: list[Listener],
        *,
        timeout: float,
        renewing: bool,
        random: Callable[[int], bytes],
        ticket: Ticket | None = None,
    ) -> None:
        self.connection = connection
        self.loop = asyncio.get_running_loop()
        self._calls = Threads(_CALLS, "faaskeeper-aio")
        self._own = Threads(_OWN, "faaskeeper-aio-session")
        self._renewing = renewing
        self._random = random
        self._incarnation: Incarnation[_Asked] = Incarnation(
            ticket.session if ticket else 0,
            ticket.incarnation if ticket else 0,
            ticket.secret if ticket else random(trust.KEY_BYTES),
            ticket.timeout if ticket else int(timeout * 1000),
        )
        self.outbox = self._incarnation.outbox
        self.sender = Sender(
            connection,
            self._incarnation,
            self._own,
            lambda: self._become(SessionState.SUSPENDED),
            self._failed,
        )
        self._order: Order[Turn] = Order(_READS)
        self._held: Turn | None = None
        """A write whose turn has come before its upload is done: no request begins before it."""
        self._opening = Opening(self._incarnation, random)
        self._opened: asyncio.Future[None] = self.loop.create_future()
        self._interpreter = Interpreter(connection, threading.Lock)
        self.registrations = self._interpreter.registrations
        self._near = connection.within is not None
        self._callbacks = Callbacks()
        self.rules = Rules(0, self._callbacks.put)
        self._inbox: deque[Reply | Notification] = deque()
        self._meeting = False
        """A task processes a message; later messages wait in the inbox."""
        self._tidying = False
        self._gave_way = 0.0
        self._lease_version = 1
        self._expires_ms = 0
        """When the lease expires, in ms of the service's clock."""
        self._state = SessionState.LOST
        self.error: FaaSKeeperException | None = None
        self._over = False
        """The session has ended for every process, not for this one alone."""
        self._listeners = listeners
        self._tasks: dict[asyncio.Task[Any], bool] = {}
        """The session's own tasks, and whether its end waits for them (or else cancels them)."""
        self.auth: tuple[Credential, ...] = ()
        """The credentials that requests carry."""
        self._ear: Ear | None = None
        connection.on_failure(lambda error: self._soon(self._failed, error))
        forks.register(self)

    @property
    def id(self) -> int:
        """The session's id; 0 before it is open."""
        return self._incarnation.session

    @property
    def owned(self) -> set[str]:
        """The ephemerals that this session is known to have created and has not deleted itself."""
        return self._incarnation.owned

    @property
    def ticket(self) -> Ticket:
        """What another process needs to resume this session."""
        incarnation = self._incarnation
        return Ticket(incarnation.session, incarnation.number, incarnation.secret, incarnation.timeout)

    # ---- the loop and its threads ----------------------------------------------------------

    def _soon(self, call: Callable[..., Any], *args: Any) -> None:
        """Call a function in the loop's thread; any thread may use this."""
        with suppress(RuntimeError):  # the loop is closed: no task waits
            self.loop.call_soon_threadsafe(call, *args)

    def start(self, coroutine: Coroutine[Any, Any, Any], name: str, wait: bool = False) -> asyncio.Task[Any]:
        """Start a task of the session, whose end cancels the task, or waits for it a short time."""
        task = self.loop.create_task(coroutine, name=f"faaskeeper-{name}-{self.id:x}")
        self._tasks[task] = wait
        task.add_done_callback(partial(self._stopped, name))
        return task

    def _stopped(self, name: str, task: asyncio.Task[Any]) -> None:
        self._tasks.pop(task, None)
        error = None if task.cancelled() else task.exception()
        if error is not None and self.error is None:
            _log.error("the %s of session %x failed", name, self.id, exc_info=error)
            self._failed(error)

    # ---- opening and closing -----------------------------------------------------------------

    async def open(self, timeout: float) -> None:
        """Open or resume the session, within ``timeout`` seconds.

        Raises TimeoutException, ProviderException with the reason, or SessionExpiredException.
        """
        opening, resuming = self._opening, self._opening.resumes
        try:
            await through(self._listen())
            if resuming:
                opening.resume(await self._own.run(self.connection.leases.get, self.id))
            else:
                opening.open()
            await self._open(timeout)
        except Over:
            raise SessionExpiredException() from None
        except DriverError as error:
            raise ProviderException(str(error)) from error
        if resuming:
            await self.renew()  # the process that had the session learns of the loss from the lease
            self.check()
        self.start(self._keep(), "keeper")

    async def _listen(self) -> None:
        self._ear = await self._own.run(self.connection.channel.listen, self._hear)
        self._incarnation.address = self._interpreter.address = self._ear.address

    async def _open(self, timeout: float) -> None:
        deadline = self.loop.time() + timeout
        unheard = Unheard(self.connection, self._opening.caused, self.id)
        for pause in doubling(OPEN_S):
            await self._own.run(self.sender.post, self._opening.messages)
            left = deadline - self.loop.time()
            done, _ = await asyncio.wait((self._opened,), timeout=min(pause, max(left, 0)))
            if done:
                self._opened.result()
                return
            await self._own.run(unheard.look, self.loop.time(), self._incarnation.address)
            if self.loop.time() >= deadline:
                raise TimeoutException(timeout, f"the service did not answer within {timeout:g} s")

    async def close(self, timeout: float) -> None:
        """End the session: its ephemerals are deleted.

        Raises TimeoutException if the service did not confirm it within ``timeout`` seconds. If the
        caller is cancelled, this does not wait for the answer; it does everything else.
        """
        try:
            if self.error is None:
                closing = Turn(
                    self.loop.create_future(),
                    Write(Close(), f"closing session {self.id:x}", lambda outcome: None),
                    self.auth,
                )
                self._ask(closing)
                done, _ = await asyncio.wait((closing.future,), timeout=timeout)
                if not done:
                    raise TimeoutException(timeout, _unanswered(f"closing session {self.id:x}", timeout))
                closing.future.result()
        except SessionExpiredException:
            pass  # the session was over already
        finally:
            await through(self.abandon())

    async def abandon(self) -> None:
        """Stop without a message to the service: the session ends when its lease expires.

        When this returns, no task of the session runs, and threads only wait for calls that hang in
        a store.
        """
        self.lose(SessionClosingException(), SessionState.LOST)
        for wait in (True, False):
            tasks = [task for task, waits in self._tasks.items() if waits is wait]
            if tasks and wait:
                await asyncio.wait(tasks, timeout=_SETTLE_S)
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=_SETTLE_S)
        self._callbacks.run()
        ear, self._ear = self._ear, None
        if ear is not None:
            await self._own.run(ear.close)
        await self._calls.quiet(_SETTLE_S)  # do not close a store during reads

    async def release(self) -> None:
        """Close the connection, after :meth:`abandon`, and end the threads."""
        try:
            await self._own.run(self.connection.close)
        finally:
            self._calls.end()
            self._own.end()

    def desert(self) -> None:
        """Release the resources after the loop has ended without :meth:`close`. May block."""
        self.error = SessionClosingException()
        if self._ear is not None:
            self._ear.close()
        self.connection.close()
        self._calls.end()
        self._own.end()

    def forked(self, why: str) -> None:
        """In a forked child: the session is over; ``why``: the reason."""
        forks.keep(self)
        self.error = ForkedException(why)

    # ---- states --------------------------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        """The session's known state; SUSPENDED also if its lease expired without a renewal."""
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
        """End the session: requests fail with ``error``; the fate of sent writes is unknown."""
        if self.error is not None:
            return
        self.error = error
        self._state = state
        for asked in self.outbox.abandon():
            _fail(asked.future, unknown(error, asked.write.what))
        for turn in self._order.abandon():
            _fail(turn.future, error)
        self._held = None  # its upload checks for the error itself
        if not self._opened.done():
            self._opened.set_exception(error)
            self._opened.exception()  # its task may be gone
        self.sender.stop()
        self._announce(state)

    def _expired(self, error: SessionExpiredException) -> None:
        """The session has ended for every process: remove the rows of its watches, one by one."""
        self._over = True
        self.lose(error, SessionState.LOST)
        self.start(self._clear(), "cleaner", wait=True)

    async def _clear(self) -> None:
        try:
            await self._own.run(self.registrations.end, self.id)
        except DriverError as error:
            _log.warning("could not remove the watches of session %x, which is over: %s", self.id, error)

    def _failed(self, error: BaseException) -> None:
        """The service, or a task of this session, has failed."""
        self.lose(ProviderException(str(error) or repr(error)), SessionState.LOST)

    def check(self) -> None:
        """Raise the error that ended the session, if it has ended."""
        if self.error is not None:
            raise self.error.with_traceback(None)  # each raise would lengthen the traceback

    def _check_loop(self) -> None:
        """Raise the error that ended the session, or RuntimeError outside the session's loop."""
        self.check()
        if asyncio.get_running_loop() is not self.loop:
            raise RuntimeError("this client was started in another event loop: start() it in this one")

    def call_later(self, callback: Callable[[], Any]) -> None:
        """Run a callback in the loop, after earlier ones."""
        self._callbacks.put(lambda _: callback(), None)

    # ---- writing
    # -----------------------------------------------------------------------------------

    async def write(self, write: Write) -> Any:
        """Send a request after all earlier requests; returns its result, or raises its error.

        A cancellation withdraws the request if it has not begun. The CancelledError has a note that
        says so, or that the request was sent, or what its answer was.
        """
        self._check_loop()
        turn = Turn(self.loop.create_future(), write, self.auth)
        if largest(write.operation, self.connection.inline_bytes):
            await self._upload(turn, write)
        else:
            self._ask(turn)
        try:
            return await turn.future
        except asyncio.CancelledError as error:
            error.add_note(f"{write.what}: {self._withdraw(turn)}")
            raise

    def ask(self, write: Write) -> asyncio.Future[Any]:
        """Send a request whose data is small; cancelling the future drops the answer."""
        turn = Turn(self.loop.create_future(), write, self.auth)
        self._ask(turn)
        return turn.future

    def _ask(self, turn: Turn) -> None:
        """Begin a write, or queue it in the order."""
        if turn.ready:
            self._fits(turn.write)
        if self._held is None and self._order.may_begin(True):
            self._order.begin(True)
            self._begin(turn)
        else:
            self._order.add(True, turn)

    def _fits(self, write: Write | None) -> None:
        most = self.connection.worker_queue.max_message_bytes - _OVERHEAD
        if write is not None and (size := size_of(write.operation)) > most:
            raise TooLargeException(f"{write.what}: {size} bytes; a request may have {most} here")

    async def _upload(self, turn: Turn, write: Write) -> None:
        """Upload a write's data to a blob. The write keeps its place before later requests."""
        turn.ready = False
        self._ask(turn)
        try:
            now = self.connection.service()
            limit = self.connection.inline_bytes
            operation = await self._drive(upload(write.operation, limit, self.id, now, self._random))
            self.check()
            turn.write = write._replace(operation=operation)
            self._fits(turn.write)
        except BaseException as error:
            note = self._withdraw(turn)
            if isinstance(error, asyncio.CancelledError):
                error.add_note(f"{write.what}: {note}")
            raise
        turn.ready = True
        if self._held is turn:
            self._held = None
            self._begin(turn)
            self._advance()

    def _withdraw(self, turn: Turn) -> str:
        """Withdraw a write if it has not begun; returns what is known about it."""
        future = turn.future
        if future.done() and not future.cancelled():  # between its answer and its task's next step
            error = future.exception()
            return "it was answered: it happened" if error is None else f"it was answered: {error}"
        if turn.begun:
            return "it was sent: whether it happens is not known"
        future.cancel()
        if self._held is turn:
            self._held = None
            self._order.done(True)
        else:
            self._order.remove(turn)
        self._advance()
        return "it was not sent: nothing was changed"

    def _begin(self, turn: Turn) -> None:
        """Number and send a write whose turn has come, or let a read begin."""
        write = turn.write
        if turn.future.done():  # cancelled, and its task has not run since
            self._order.done(write is not None)
        elif write is None:
            turn.begun = True
            turn.future.set_result(None)
        elif not turn.ready:
            self._held = turn
        else:
            turn.begun = True
            self.sender.expect()
            self._incarnation.add(write.operation, _Asked(turn.future, write), turn.auth)
            self.rules.observer.asked(write.operation, turn.future)
            self.sender.flush()

    def _advance(self) -> None:
        """Begin all requests that may begin."""
        while self._held is None and (turn := self._order.next()) is not None:
            self._begin(turn)

    # ---- receiving
    # -----------------------------------------------------------------------------------

    def _hear(self, signed: bytes) -> None:
        """Receive a message from the channel, in any thread."""
        told = messages.verified(signed, lambda _: self._incarnation.secret)
        if told is not None:
            self._soon(self._take_in, told)

    def _take_in(self, told: Reply | Notification) -> None:
        """Process messages one after the other; at once if that needs no call."""
        if self.error is not None:
            return
        if self._meeting:
            self._inbox.append(told)
            return
        steps = self._meet(told)
        try:
            command = steps.send(None)
        except StopIteration:
            return
        except Exception as error:
            _log.exception("the reader of session %x failed", self.id)
            self._failed(error)
            return
        self._meeting = True
        self.start(self._meet_all(steps, command), "reader")

    async def _meet_all(self, steps: Steps, command: commands.Command | None) -> None:
        """Finish a message, and process those that arrived meanwhile.

        No message remains in the inbox: between the check that finds it empty and the reset of
        ``_meeting``, no other code runs.
        """
        try:
            while True:
                try:
                    await self._drive(steps, command)
                except ProviderException as error:
                    # Nothing is lost: the next read or the keeper meets the epoch, and requests are
                    # resent.
                    _log.warning("session %x could not process a message: %s", self.id, error)
                if self.error is not None or not self._inbox:
                    return
                steps, command = self._meet(self._inbox.popleft()), None
        finally:
            self._meeting = False

    def _meet(self, told: Reply | Notification) -> Steps:
        if isinstance(told, Notification):
            if told.session == self.id:
                yield from self.rules.meet(told.epoch, settled=True)
            return
        self.connection.heard(told)
        if not self._opening.done or told.nonce:
            self._take_opening(told)
        elif self._incarnation.is_for_us(told):
            yield from self.rules.meet(told.epoch, settled=True)
            self._answered(told)

    def _answered(self, reply: Reply) -> None:
        answered = self._incarnation.answered(reply)
        error = None if answered.over is None else over(answered.over)
        # An earlier copy of a request may have been committed.
        moved = answered.over is Code.SESSION_MOVED
        for each, outcome in answered.ready:
            self._order.done(True)
            self._settle(each.waiter, outcome, error, moved)
        if error is None:
            self.sender.resend(answered.again)
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

    def _take_opening(self, reply: Reply) -> None:
        step = self._opening.answered(reply)
        if step is Step.BEGUN:
            self._has_begun(reply)
        elif step is Step.AGAIN:
            # Not by flush(): while this is under way there are no requests.
            self._own.run(self.sender.post, self._opening.messages).add_done_callback(_heed)
        elif step is Step.OVER:
            self.lose(SessionExpiredException(), SessionState.LOST)

    def _has_begun(self, reply: Reply) -> None:
        self._interpreter.session = self.id
        self._expires_ms = self.connection.service() + self._incarnation.timeout
        self.rules.seen = self.rules.applied = max(self.rules.seen, reply.epoch.upto)
        self._state = SessionState.CONNECTED
        if not self._opened.done():
            self._opened.set_result(None)

    # ---- reading
    # -----------------------------------------------------------------------------------

    def at_once(self, path: str) -> Record | Later | None:
        """A path's record, a tombstone or None, if it may be shown without waiting; else LATER.

        It takes no place in the order: nothing that it would wait for is in flight, and it is done
        before any other code runs.
        """
        self._check_loop()
        if (
            not self._near
            or self._held is not None
            or not self._order.may_begin(False)
            or self.loop.time() - self._gave_way > _TURN_S
        ):
            return LATER
        rules = self.rules
        began, ticket = rules.observer.reads(), rules.ticket
        try:
            record = self.connection.records.get(path)
        except DriverError as error:
            raise ProviderException(str(error)) from error
        if not rules.accepts(path, record, ticket):
            return LATER
        rules.observer.shown(path, record)
        if self._callbacks:
            self._callbacks.run()
        rules.observer.has_read(began)
        return record

    async def read(self, steps: Steps) -> Any:
        """Perform steps in the session's order: after earlier writes, and before later ones."""
        self._check_loop()
        began = self.rules.observer.reads()
        if self._held is None and self._order.may_begin(False):
            self._order.begin(False)
        else:
            await self._turn()
        try:
            self.check()
            result = await self._drive(steps)
        finally:
            self._order.done(False)
            self._advance()
            if self._callbacks:  # after an error too: "no such node" shows a deletion
                self._callbacks.run()
        self.rules.observer.has_read(began)
        return result

    async def _turn(self) -> None:
        turn = Turn(self.loop.create_future())
        self._order.add(False, turn)
        try:
            await turn.future
        except BaseException:  # cancelled, or the session was lost
            if turn.begun:
                self._order.done(False)
            else:
                self._order.remove(turn)
            self._advance()
            raise

    async def _drive(self, steps: Steps, command: commands.Command | None = None) -> Any:
        """Perform the commands of steps, from ``command`` on if they have begun; closes steps."""
        pauses: Iterator[float] | None = None
        try:
            if command is None:
                command = steps.send(None)
            while True:
                if self._near and type(command) in _IN_LOOP and not _many(command):
                    await self._give_way()
                    try:
                        answer = self._interpreter.perform(command)
                    except DriverError as error:
                        raise ProviderException(str(error)) from error
                elif isinstance(command, commands.Await):
                    pauses = pauses or doubling(WAIT_S, WAIT_MOST_S)
                    await self._wait(next(pauses))
                    answer = None
                else:
                    answer = await self._call(command)
                self.rules.observer.performed(command, answer)
                command = steps.send(answer)
        except StopIteration as done:
            return done.value
        finally:
            steps.close()

    async def _give_way(self) -> None:
        """Let the rest of the loop run, unless it ran recently.

        A task whose reads never wait would block the loop: no answer would be processed, and not
        even the task's own time-out would fire.
        """
        if self.loop.time() - self._gave_way > _TURN_S:
            await asyncio.sleep(0)
            self._gave_way = self.loop.time()
            self.check()

    async def _wait(self, pause: float) -> None:
        """Ask the service to apply the log, by a queue only after long waits; wait ``pause`` s."""
        if self.connection.ring is not None:
            try:
                await self._calls.run(self.connection.ring)
            except DriverError as error:
                raise ProviderException(str(error)) from error
        elif pause > RING_S:
            self.sender.wake()
        await asyncio.sleep(pause)
        self.check()

    async def _call(self, command: commands.Command) -> Any:
        """Perform a command in a thread."""
        self.check()
        try:
            answer = await self._calls.run(self._perform, command)
        except DriverError as error:
            if isinstance(command, commands.PutWatch):
                what = f"the watch of {command.path} could not be set: {error}"
                raise WatchSetFailureException(what) from error
            raise ProviderException(str(error)) from error
        if isinstance(command, commands.PutWatch) and self.registrations.many and not self._tidying:
            self._tidying = True
            self.start(self._tidy(), "tidier")
        return answer

    def _perform(self, command: commands.Command) -> Any:
        """Perform a command, in any thread; its task may be gone by the end."""
        answer = self._interpreter.perform(command)
        if self._over and isinstance(command, commands.PutWatch):
            self.registrations.end(self.id)  # only a sweep would find rows put from now on
        return answer

    # ---- the keeper
    # ----------------------------------------------------------------------------------

    async def _keep(self) -> None:
        """Renew the lease periodically."""
        every = self._incarnation.timeout / 1000 / RENEWALS
        while self.error is None:
            await asyncio.sleep(every)
            if self._renewing:
                await self.renew()

    async def _tidy(self) -> None:
        """Remove the registrations without a watch."""
        try:
            while self.registrations.many:
                idle = self.registrations.idle(self.rules.waits_for)
                await self._own.run(self.registrations.forget, self.id, idle)
        except DriverError as error:
            _log.warning("could not remove registrations without a watch, will retry: %s", error)
        finally:
            self._tidying = False

    async def renew(self) -> None:
        """Renew the lease; detect the session's end; meet epochs whose notifications were lost."""
        expires = self.connection.service() + self._incarnation.timeout
        wanted = self._incarnation.lease(self._lease_version, expires)
        try:
            try:
                self._lease_version = (await self._own.run(renew, self.connection.leases, wanted)).version
            except Over as ended:
                if ended.code is Code.SESSION_MOVED:
                    self.lose(over(ended.code), SessionState.LOST)
                else:
                    self._expired(SessionExpiredException())
                return
            self._expires_ms = expires
            if self.rules.watching:
                mark = await self._own.run(self.connection.applied)
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


def _heed(future: asyncio.Future[None]) -> None:
    """Log a failure to send: the task that waits for the answer resends the message."""
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.warning("could not send a request, will retry: %s", error)


def _many(command: commands.Command) -> bool:
    return isinstance(command, commands.ReadRecords) and len(command.paths) > TOGETHER
