"""A session in threads: performs the commands of the rules, sends, listens, renews the lease.

Threads and what they may block on:

* The callers' threads read storage and send.
* The channel's thread delivers answers (:meth:`Session._heard`), and may read the log.
* One *keeper* renews the lease, resends unanswered requests, and sends what other threads left.
* Callbacks run in their own thread, started when first needed: they never block the session.
* Asynchronous reads run in another thread, in their turn.

Lock order: ``_sending`` before ``_lock``. ``_lock`` guards the rules and the outbox and is never
held during I/O.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeVar

from faaskeeper.client.callbacks import Callbacks
from faaskeeper.client.futures import Future
from faaskeeper.client.keeper import NEVER, Keeper
from faaskeeper.client.runtime import THREADS, Runtime, Thread
from faaskeeper.client.turns import Turns
from faaskeeper.core import forks, trust
from faaskeeper.core.acl import Credential
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Code, DriverError
from faaskeeper.core.records import Record
from faaskeeper.core.requests import (
    Close,
    Epoch,
    Message,
    Notification,
    Operation,
    Outcome,
    Reply,
    Request,
)
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
from faaskeeper.session.commands import Steps
from faaskeeper.session.incarnation import Incarnation, Over, renew
from faaskeeper.session.interpreter import Interpreter
from faaskeeper.session.observer import NOBODY
from faaskeeper.session.opening import Opening, Step
from faaskeeper.session.outbox import Outbox, size_of
from faaskeeper.session.rules import Rules
from faaskeeper.session.states import SessionState, Ticket, over, unknown
from faaskeeper.session.timing import OPEN_S, RENEWALS, RING_S, WAIT_MOST_S, WAIT_S, doubling
from faaskeeper.session.unheard import Unheard
from faaskeeper.session.upload import largest, upload
from faaskeeper.watch import WatchCallbackType, WatchedEvent

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_MESSAGES_AT_ONCE = 4
"""The messages that a thread sends, including its own, before it leaves the rest to the keeper."""
_JOIN_S = 5.0
_OVERHEAD = 1024
"""The maximum bytes of a message apart from its requests."""
Listener = Callable[[SessionState], None]
Finish = Callable[[Outcome], Any]
"""Converts an outcome to the operation's result; raises the operation's error."""


class Asked(NamedTuple):
    """The receiver of an outcome."""

    future: Future[Any]
    finish: Finish

    def complete(self, outcome: Outcome) -> None:
        """Settle the future."""
        try:
            result = self.finish(outcome)
        except Exception as error:
            self.future.set_exception(error)
        else:
            self.future.set_result(result)


class Session(forks.Inherited):
    """One session with a deployment, from :meth:`open` to :meth:`close` or its loss.

    ``ticket``: the session to resume, instead of opening one.
    """

    def __init__(
        self,
        connection: Connection,
        *,
        timeout: float,
        renew: bool,
        random: Callable[[int], bytes],
        runtime: Runtime = THREADS,
        ticket: Ticket | None = None,
    ) -> None:
        self.connection = connection
        self._incarnation: Incarnation[Asked] = Incarnation(
            ticket.session if ticket else 0,
            ticket.incarnation if ticket else 0,
            ticket.secret if ticket else random(trust.KEY_BYTES),
            ticket.timeout if ticket else int(timeout * 1000),
        )
        self._opening = Opening(self._incarnation, random)
        self._random = random
        self._runtime = runtime
        self._lock = runtime.lock()
        self._sending = runtime.lock()
        self._wake = runtime.condition(self._lock)
        self.outbox: Outbox[Asked] = self._incarnation.outbox
        self.rules = Rules(0, self._fired)
        self._opened: Future[Reply] = Future("opening the session", True, None, runtime.lock())
        self._callbacks = Callbacks(runtime, self._thread)
        self._turns = Turns(runtime, self._lock, self._wake, self._thread)
        every = self._incarnation.timeout / 1000 / RENEWALS if renew else NEVER
        self._keeper = Keeper(self, self.outbox, runtime, self._lock, self._wake, every)
        self._keeping: Thread | None = None
        self._interpreter = Interpreter(connection, runtime.lock)
        self.registrations = self._interpreter.registrations
        self._listeners: list[Listener] = []
        self._lease = self._incarnation.lease(1, 0)
        self.expires_ms = 0
        """When the lease expires, in ms of the service's clock."""
        self.error: FaaSKeeperException | None = None
        self._over = False
        """The session has ended for every process, not for this one alone."""
        self.auth: tuple[Credential, ...] = ()
        """The credentials that requests carry."""
        self._state = SessionState.LOST
        within = connection.within if connection.objects else None
        self._signs = within is None
        """Whether messages are signed.

        The opening message always is: its signature proves that a ticket's owner knows the secret.
        """
        self._ear = within.listen_late(self._heard) if within else connection.channel.listen(self._heard)
        self._incarnation.address = self._interpreter.address = self._ear.address
        connection.on_failure(self._failed)
        forks.register(self)

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

    # ---- opening and closing -----------------------------------------------------------

    def open(self, timeout: float) -> None:
        """Open or resume the session, within ``timeout`` seconds.

        Raises TimeoutException, ProviderException with the reason, or SessionExpiredException.
        """
        resuming = self._opening.resumes
        try:
            if resuming:
                self._opening.resume(self.connection.leases.get(self.id))
            else:
                self._opening.open()
        except Over:
            raise SessionExpiredException() from None
        except DriverError as error:
            raise ProviderException(str(error)) from error
        deadline = self._runtime.monotonic() + timeout
        unheard = Unheard(self.connection, self._opening.caused, self.id)
        for pause in doubling(OPEN_S):
            self._put_opening()
            if self._opened.wait(min(pause, max(deadline - self._runtime.monotonic(), 0))):
                break
            unheard.look(self._runtime.monotonic(), self._ear.address)
            if self._runtime.monotonic() >= deadline:
                raise TimeoutException(timeout, f"the service did not answer within {timeout:g} s")
        self._opened.get()
        if resuming:
            self.renew()  # the process that had the session learns of the loss from the lease
            self.check()
        self._keeping = self._thread(self._keeper.run, "keeper")

    def _put_opening(self) -> None:
        if self._opening.message is not None:
            self._put(self._opening.message)

    @property
    def ticket(self) -> Ticket:
        """What another process needs to resume this session."""
        incarnation = self._incarnation
        return Ticket(incarnation.session, incarnation.number, incarnation.secret, incarnation.timeout)

    def _thread(self, run: Callable[[], None], name: str) -> Thread:
        def guarded() -> None:
            try:
                run()
            except Exception as error:
                _log.exception("the %s of session %x failed", name, self.id)
                self._failed(error)

        return self._runtime.spawn(guarded, f"faaskeeper-{name}-{self.id}")

    def close(self, timeout: float) -> None:
        """End the session: its ephemerals are deleted.

        Raises TimeoutException if the service did not confirm it within ``timeout`` seconds.
        """
        try:
            if self.error is None:
                what = f"closing session {self.id:x}"
                closing = self.submit(Close(), what, lambda outcome: None, prompt=True)
                closing.get(timeout)
        except SessionExpiredException:
            pass  # the session was over already
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop without a message to the service: the session ends when its lease expires."""
        self._lose(SessionClosingException(), SessionState.LOST)
        self._ear.close()
        if self._keeping is not None and self._keeping != self._runtime.current():
            self._keeping.join(_JOIN_S)  # one that hangs in a call of a store ends with the call
        self._turns.join(_JOIN_S)
        self._callbacks.stop(_JOIN_S)

    def forked(self, why: str) -> None:
        """In a forked child: everything that waits for this session fails; ``why``: the reason."""
        forks.keep(self)
        runtime = self._runtime
        self._lock, self._sending = runtime.lock(), runtime.lock()
        self._wake = runtime.condition(self._lock)
        self._listeners = []
        self._turns.forked(self._lock, self._wake)
        self._keeper.forked(self._lock, self._wake)
        self._callbacks.forked()
        self._lose(ForkedException(why), SessionState.LOST)

    # ---- states ------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Call ``listener(state)`` on every change, from the callback thread."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """Stop calling a listener."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    @property
    def state(self) -> SessionState:
        """The session's known state; SUSPENDED also if its lease expired without a renewal."""
        if self._state is SessionState.CONNECTED and self.connection.service() > self.expires_ms:
            return SessionState.SUSPENDED
        return self._state

    def _become(self, state: SessionState) -> None:
        with self._lock:
            if self._state is state or self.error is not None:
                return
            self._state = state
        self._tell(state)

    def _tell(self, state: SessionState) -> None:
        for listener in list(self._listeners):
            self.call_later(partial(listener, state))

    def _lose(self, error: FaaSKeeperException, state: SessionState) -> None:
        """End the session: requests fail with ``error``; the fate of sent writes is unknown."""
        with self._lock:
            if self.error is not None:
                return
            self.error = error
            self._state = state
            given_up = self.outbox.abandon()
            turns = self._turns.end()
            self._keeper.end()
        self._tell(state)
        for asked in given_up:
            asked.future.set_exception(unknown(error, asked.future.what))
        for turn in turns:
            turn()  # check() makes it fail at once
        if not self._opened.done():
            self._opened.set_exception(error)

    def _expired(self, error: SessionExpiredException) -> None:
        """The session has ended, for every process. Raises DriverError.

        Rows of watches that were put after the service cleared the session are removed now, one by
        one; otherwise only a sweep would remove them.
        """
        self._over = True
        self._lose(error, SessionState.LOST)
        self.registrations.end(self.id)

    def _failed(self, error: Exception) -> None:
        """The service, or a thread of this session, has failed."""
        self._lose(ProviderException(str(error) or repr(error)), SessionState.LOST)

    def check(self) -> None:
        """Raise the error that ended the session, if it has ended."""
        if self.error is not None:
            raise self.error

    # ---- callbacks ---------------------------------------------------------------------

    def call_later(self, callback: Callable[[], None]) -> None:
        """Run a callback in the callback thread, after those before it."""
        self._callbacks.later(callback)

    @property
    def in_callback(self) -> bool:
        """Whether the caller runs in the callback thread."""
        return self._callbacks.current

    def _fired(self, callback: WatchCallbackType, event: WatchedEvent) -> None:
        self._callbacks.put(partial(callback, event))

    # ---- writing -----------------------------------------------------------------------

    def ask(self, operation: Operation, what: str, finish: Finish, prompt: bool = False) -> Future[Any]:
        """Upload the request's data first if it is large; then send it as :meth:`submit` does."""
        limit = self.connection.inline_bytes
        if largest(operation, limit):
            now = self.connection.service()
            operation = self.drive(upload(operation, limit, self.id, now, self._random))
        return self.submit(operation, what, finish, prompt)

    def submit(self, operation: Operation, what: str, finish: Finish, prompt: bool = False) -> Future[Any]:
        """Send a request, after earlier asynchronous reads; returns its future.

        ``prompt``: the caller will wait for the answer.
        """
        most = self.connection.worker_queue.max_message_bytes
        if (size := size_of(operation)) > most - _OVERHEAD:
            raise TooLargeException(f"{what}: {size} bytes; a request may have {most - _OVERHEAD} here")
        future: Future[Any] = Future(what, True, self.call_later, self._runtime.lock())
        with self._lock:
            if self.error is not None:
                raise self.error
            if len(self._turns):
                self._turns.add(lambda: self._submit_in_turn(operation, future, finish))
                return future
            under_way = len(self.outbox)
            self._add(operation, future, finish)
        if not (under_way and self.connection.coalesce and not prompt and self.outbox.wait()):
            self.flush(prompt)
        return future

    def _submit_in_turn(self, operation: Operation, future: Future[Any], finish: Finish) -> None:
        with self._lock:
            error = self.error
            if error is None:
                self._add(operation, future, finish)
        if error is not None:
            future.set_exception(error)
        else:
            self.flush()

    def _add(self, operation: Operation, future: Future[Any], finish: Finish) -> None:
        """Number a request. The caller holds the lock."""
        self._incarnation.add(operation, Asked(future, finish), self.auth)
        self.rules.observer.asked(operation, future)
        self._keeper.asked()

    def flush(self, prompt: bool = False) -> None:
        """Send the unsent requests. If another thread is sending, leave them to that thread.

        Other threads may add requests for ever, and the sending thread has to return to its caller:
        after a few messages it leaves the rest to the keeper.
        """
        repeat = not self.connection.worker_queue.ordered
        for _ in range(_MESSAGES_AT_ONCE):
            if not self._sending.acquire(blocking=False):
                return  # the thread that holds it checks for unsent requests after its release
            try:
                with self._lock:
                    requests = self.outbox.take(repeat)
                    acked = self.outbox.acked
                if requests:
                    self.send(requests, acked, prompt)
            finally:
                self._sending.release()
            with self._lock:
                if not self.outbox.unsent:
                    return
            prompt = False  # this thread does not wait for the other threads' requests
        self._keeper.hand_over()

    def send(self, requests: tuple[Request, ...], acked: int, prompt: bool = False) -> None:
        try:
            self._put(self._incarnation.message(requests, acked), prompt)
        except ProviderException as error:
            _log.warning("could not send a request, will retry: %s", error)
            self._become(SessionState.SUSPENDED)

    def _put(self, message: Message, prompt: bool = False) -> None:
        queue = self.connection.worker_queue
        if prompt:
            queue = self.connection.prompt_queue or queue
        signed = self._signs or message is self._opening.message
        try:
            messages.send(queue, message, self._incarnation.secret if signed else None)
        except DriverError as error:
            raise ProviderException(str(error)) from error

    def _ring(self, pause: float) -> None:
        """Ask the service to apply the log; by a queue only if the ``pause`` (in s) is long."""
        if self.connection.ring is not None:
            self.connection.ring()
        elif pause > RING_S:
            with self._lock:
                message = self._incarnation.message(())
            self._put(message)

    # ---- receiving ---------------------------------------------------------------------

    def _heard(self, message: bytes | Reply) -> None:
        """Process a message of the channel.

        Its sender knew the session's secret, or is the service in this process.
        """
        told = message if isinstance(message, Reply) else self._verified(message)
        try:
            if isinstance(told, Reply):
                self._replied(told)
            elif told is not None and told.session == self.id:
                self.drive(self.rules.meet(told.epoch, settled=True))
        except (DriverError, ProviderException) as error:
            # Nothing is lost: the next read or the keeper meets the epoch, and requests are resent.
            _log.warning("session %x could not process a message: %s", self.id, error)

    def _verified(self, signed: bytes) -> Reply | Notification | None:
        return messages.verified(signed, lambda _: self._incarnation.secret)

    def _replied(self, reply: Reply) -> None:
        self.connection.heard(reply)
        if not self._opening.done or reply.nonce:
            self._take_opening(reply)
            return
        if not self._incarnation.is_for_us(reply):
            return
        self.drive(self.rules.meet(reply.epoch, settled=True))
        with self._lock:
            answered = self._incarnation.answered(reply)
            acked = self.outbox.acked
            unsent = self.outbox.unsent
        error = None if answered.over is None else over(answered.over)
        # An earlier copy of a request may have been committed.
        moved = answered.over is Code.SESSION_MOVED
        for each, outcome in answered.ready:
            if error is None:
                self.rules.observer.answered(each.waiter.future, outcome)
                each.waiter.complete(outcome)
            else:
                future = each.waiter.future
                future.set_exception(unknown(error, future.what) if moved else error)
        if error is not None and not moved:
            self._expired(error)
        elif error is not None:
            self._lose(error, SessionState.LOST)
        elif answered.again:
            self.send(answered.again, acked)
        elif unsent:
            self.flush()

    def _take_opening(self, reply: Reply) -> None:
        step = self._opening.answered(reply)
        if step is Step.BEGUN:
            self._begin(reply)
        elif step is Step.AGAIN:
            self._put_opening()
        elif step is Step.OVER:
            self._lose(SessionExpiredException(), SessionState.LOST)

    def _begin(self, reply: Reply) -> None:
        self._interpreter.session = self.id
        self._lease = self._incarnation.lease(1, 0)
        self.expires_ms = self.connection.service() + self._incarnation.timeout
        with self._lock:
            self.rules.seen = self.rules.applied = max(self.rules.seen, reply.epoch.upto)
            self._state = SessionState.CONNECTED
        self._opened.set_result(reply)

    # ---- reading -----------------------------------------------------------------------

    def get(self, path: str) -> Record | None:
        """A path's record (a tombstone, or None) once it may be shown; after earlier writes."""
        rules = self.rules
        if self.error is not None:
            raise self.error
        observed = rules.observer is not NOBODY
        began = rules.observer.reads() if observed else None
        if not len(self._turns) and not len(self.outbox):
            ticket = rules.ticket
            try:
                record = self.connection.records.get(path)
            except DriverError as error:
                raise ProviderException(str(error)) from error
            if rules.accepts(path, record, ticket):
                if observed:
                    rules.observer.shown(path, record)
                    rules.observer.has_read(began)
                return record
        found: Record | None = self.run(rules.read(path))
        return found

    def prepare_callbacks(self) -> None:
        """Start the thread for the events of :meth:`Rules.watch`, unless it runs."""
        self._callbacks.prepare()

    def run(self, steps: Steps) -> Any:
        """Read in the session's order: after earlier writes and asynchronous reads."""
        began = self.rules.observer.reads()
        with self._lock:
            queued = len(self._turns) > 0
            before = self.outbox.last()
        if queued and not self._turns.current:
            return self.later(steps, "the read").get()
        if before is not None:
            before.future.wait()
        self.check()
        result = self.drive(steps)
        self.rules.observer.has_read(began)
        return result

    def later(self, steps: Steps, what: str) -> Future[Any]:
        """Read in the reader thread, in the session's order; returns the future."""
        future: Future[Any] = Future(what, False, self.call_later, self._runtime.lock())

        def turn() -> None:
            try:
                with self._lock:
                    before = self.outbox.last()
                if before is not None:
                    before.future.wait()
                self.check()
                future.set_result(self.drive(steps))
            # Any kind: the future's waiters get it, and the next turn begins.
            except Exception as error:
                future.set_exception(error)

        with self._lock:
            if self.error is not None:
                raise self.error
            self._turns.add(turn)
        return future

    def drive(self, steps: Steps) -> Any:
        """Perform the commands of steps; the steps themselves run under the lock."""
        answer: Any = None
        pauses = doubling(WAIT_S, WAIT_MOST_S)
        while True:
            try:
                with self._lock:
                    command = steps.send(answer)
            except StopIteration as done:
                return done.value
            try:
                if isinstance(command, commands.Await):
                    pause = next(pauses)
                    self._ring(pause)
                    self._runtime.sleep(pause)
                    self.check()
                    answer = None
                else:
                    answer = self._perform(command)
            except DriverError as error:
                steps.close()
                if isinstance(command, commands.PutWatch):
                    what = f"the watch of {command.path} could not be set: {error}"
                    raise WatchSetFailureException(what) from error
                raise ProviderException(str(error)) from error

    def _perform(self, command: commands.Command) -> Any:
        answer = self._interpreter.perform(command)
        self.rules.observer.performed(command, answer)
        if isinstance(command, commands.PutWatch):
            if self._over:
                self.registrations.end(self.id)  # the service has cleared all earlier rows
            elif self.registrations.many:
                self._keeper.hand_over()
        return answer

    # ---- the keeper --------------------------------------------------------------------

    def tidy(self) -> None:
        """Remove the registrations without a watch, once there are many."""
        registrations = self.registrations
        if not registrations.many:
            return
        with self._lock:
            idle = registrations.idle(self.rules.waits_for)
        try:
            registrations.forget(self.id, idle)
        except DriverError as error:
            _log.warning("could not remove registrations without a watch, will retry: %s", error)

    def renew(self) -> None:
        """Renew the lease; detect the session's end; meet epochs whose notifications were lost."""
        expires = self.connection.service() + self._incarnation.timeout
        try:
            wanted = self._incarnation.lease(self._lease.version, expires)
            try:
                self._lease = renew(self.connection.leases, wanted)
            except Over as ended:
                if ended.code is Code.SESSION_MOVED:
                    self._lose(over(ended.code), SessionState.LOST)
                else:
                    self._expired(SessionExpiredException())
                return
            self.expires_ms = expires
            if self.rules.watching:
                mark = self.connection.applied()
                self.drive(self.rules.meet(Epoch(mark, mark, ()), settled=True))
        except (DriverError, ProviderException) as error:
            _log.warning("the lease of session %x was not renewed: %s", self.id, error)
            self._become(SessionState.SUSPENDED)
        else:
            self._become(SessionState.CONNECTED)
