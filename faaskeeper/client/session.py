"""A session in threads: performs the commands of the rules, receives, renews the lease.

Threads and what they may block on:

* The callers' threads read storage and send.
* The channel's thread delivers messages (:meth:`Session._receive`), and may read the log.
* One *keeper* renews the lease, resends unanswered requests, and sends what other threads left.
* Callbacks run in their own thread, started when first needed: they never block the session.
* Asynchronous reads run in another thread, in their turn.

Lock order: the sender's lock before ``_lock``. ``_lock`` guards the state of the
:class:`~faaskeeper.session.engine.Engine` and is never held during I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from faaskeeper.client.callbacks import Callbacks
from faaskeeper.client.futures import Future
from faaskeeper.client.keeper import NEVER, Keeper
from faaskeeper.client.runtime import THREADS, Runtime, Thread
from faaskeeper.client.sender import Sender
from faaskeeper.client.turns import Turns
from faaskeeper.core import forks, logs
from faaskeeper.core.errors import Code, DriverError
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Reply
from faaskeeper.exceptions import (
    FaaSKeeperException,
    ForkedException,
    ProviderException,
    SessionClosingException,
    SessionExpiredException,
)
from faaskeeper.session import commands
from faaskeeper.session.calls import Write
from faaskeeper.session.commands import Steps
from faaskeeper.session.engine import Engine, Received
from faaskeeper.session.incarnation import Answered
from faaskeeper.session.interpreter import failure
from faaskeeper.session.observer import NOBODY
from faaskeeper.session.opening import Step
from faaskeeper.session.states import Listener, SessionState, Ticket, over, unopened
from faaskeeper.session.timing import RENEWALS, WAIT_MOST_S, WAIT_S, attempts, doubling
from faaskeeper.session.unheard import Unheard
from faaskeeper.watch import WatchCallbackType, WatchedEvent

if TYPE_CHECKING:
    from faaskeeper.core.connection import Connection

_log = logs.logger(__name__)

_JOIN_S = 5.0


class Session(Engine[Future[Any]], forks.Inherited):
    """One session with a deployment, from :meth:`open` to :meth:`close` or its loss.

    ``listeners``: the functions to call, from the callback thread, with each new state. ``renew``:
    whether to renew the lease. ``ticket``: the session to resume, instead of opening one.
    """

    def __init__(
        self,
        connection: Connection,
        listeners: list[Listener],
        *,
        timeout: float,
        renew: bool,
        random: Callable[[int], bytes],
        runtime: Runtime = THREADS,
        ticket: Ticket | None = None,
    ) -> None:
        super().__init__(
            connection, listeners, self._fired, runtime.lock, timeout=timeout, random=random, ticket=ticket
        )
        self._runtime = runtime
        self._lock = runtime.lock()
        self._wake = runtime.condition(self._lock)
        self._opened: Future[None] = Future("opening the session", True, None, runtime.lock())
        self._callbacks = Callbacks(runtime, self._thread)
        self._turns = Turns(runtime, self._lock, self._wake, self._thread)
        within = connection.within if connection.objects else None
        self._sender = Sender(
            connection,
            self._incarnation,
            runtime,
            self._lock,
            within is None,
            lambda: self._become(SessionState.SUSPENDED),
            lambda: self._keeper.hand_over(),
        )
        every = self.timeout_ms / 1000 / RENEWALS if renew else NEVER
        self._keeper = Keeper(self, self._sender, self.outbox, runtime, self._lock, self._wake, every)
        self._keeping: Thread | None = None
        self._listener = (
            within.listen_late(self._receive) if within else connection.channel.listen(self._receive)
        )
        self._listens_at(self._listener.address)
        connection.on_failure(self._failed)
        connection.on_return(self._keeper.returned)
        forks.register(self)

    # ---- opening and closing -----------------------------------------------------------

    def open(self, timeout: float) -> None:
        """Open or resume the session, within ``timeout`` seconds.

        Raises TimeoutException, ProviderException with the reason, or SessionExpiredException.
        """
        resuming = self._opening.resumes
        self.drive(self.prepare())
        unheard = Unheard(self.connection, self._opening.caused, self.id)
        for pause in attempts(timeout, self._runtime.monotonic):
            self._put_opening()
            if self._opened.wait(pause):
                break
            unheard.look(self._runtime.monotonic(), self._incarnation.address)
        else:
            raise unopened(timeout)
        self._opened.get()
        if resuming:
            self.renew()  # the process that had the session learns of the loss from the lease
            self.check()
        self._keeping = self._thread(self._keeper.run, "keeper")

    def _put_opening(self) -> None:
        """Send the opening's message.

        It is always signed: the signature proves that a ticket's owner knows the secret.
        """
        for message in self._opening.messages:
            self._sender.put(message, sign=True)

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
                self.submit(self.closing(), prompt=True).get(timeout)
        except SessionExpiredException:
            pass  # the session was over already
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop without a message to the service: the session ends when its lease expires."""
        self._lose(SessionClosingException())
        self._listener.close()
        if self._keeping is not None and self._keeping != self._runtime.current():
            self._keeping.join(_JOIN_S)  # one that hangs in a call of a store ends with the call
        self._turns.join(_JOIN_S)
        self._callbacks.stop(_JOIN_S)

    def forked(self, why: str) -> None:
        """In a forked child: everything that waits for this session fails; ``why``: the reason."""
        forks.keep(self)
        runtime = self._runtime
        self._lock = runtime.lock()
        self._wake = runtime.condition(self._lock)
        self._listeners = []
        self._sender.forked(runtime, self._lock)
        self._turns.forked(self._lock, self._wake)
        self._keeper.forked(self._lock, self._wake)
        self._callbacks.forked()
        self._lose(ForkedException(why))

    # ---- states ------------------------------------------------------------------------

    def _become(self, state: SessionState) -> None:
        with self._lock:
            changed = self._changed(state)
        if changed:
            self._announce(state)

    def _lose(self, error: FaaSKeeperException) -> None:
        """End the session: requests fail with ``error``; the fate of sent writes is unknown."""
        with self._lock:
            unanswered = self._end(error)
            if unanswered is None:
                return
            turns = self._turns.end()
            self._keeper.end()
        self._announce(SessionState.LOST)
        self._abandon(unanswered, error)
        for turn in turns:
            turn()  # check() makes it fail at once
        if not self._opened.done():
            self._opened.set_exception(error)

    def _ended_by(self, code: Code) -> None:
        """The session has ended, or another process has resumed it. Raises DriverError."""
        for_all = self._ends_for_all(code)
        self._lose(over(code))
        if for_all:
            self.registrations.end(self.id)

    def _failed(self, error: Exception) -> None:
        """The service, or a thread of this session, has failed."""
        self._lose(ProviderException(str(error) or repr(error)))

    # ---- callbacks ---------------------------------------------------------------------

    def call_later(self, callback: Callable[[], Any]) -> None:
        """Run a callback in the callback thread, after those before it."""
        self._callbacks.later(callback)

    @property
    def in_callback(self) -> bool:
        """Whether the caller runs in the callback thread."""
        return self._callbacks.current

    def prepare_callbacks(self) -> None:
        """Start the thread for the events of :meth:`Rules.watch`, unless it runs."""
        self._callbacks.prepare()

    def _fired(self, callback: WatchCallbackType, event: WatchedEvent) -> None:
        self._callbacks.put(partial(callback, event))

    # ---- writing -----------------------------------------------------------------------

    def ask(self, write: Write, prompt: bool = False) -> Future[Any]:
        """Upload the request's data first if it is large; then send it as :meth:`submit` does."""
        if self.must_upload(write):
            write = self.drive(self.uploaded(write))
        return self.submit(write, prompt)

    def submit(self, write: Write, prompt: bool = False) -> Future[Any]:
        """Send a request, after earlier asynchronous reads; returns its future.

        ``prompt``: the caller will wait for the answer.
        """
        self.check_size(write)
        future: Future[Any] = Future(write.what, True, self.call_later, self._runtime.lock())
        with self._lock:
            self.check()
            if len(self._turns):
                self._turns.add(lambda: self._submit_in_turn(write, future))
                return future
            under_way = len(self.outbox)
            self._add(write, future)
        if not (under_way and self.connection.coalesce and not prompt and self.outbox.wait()):
            self._sender.flush(prompt)
        return future

    def _submit_in_turn(self, write: Write, future: Future[Any]) -> None:
        with self._lock:
            error = self.error
            if error is None:
                self._add(write, future)
        if error is not None:
            future.set_exception(error)
        else:
            self._sender.flush()

    def _add(self, write: Write, future: Future[Any]) -> None:
        """Number a request. The caller holds the lock."""
        self.add(write, future, self.auth)
        self._keeper.asked()

    def _succeed(self, future: Future[Any], result: Any) -> None:
        future.set_result(result)

    def _fail(self, future: Future[Any], error: BaseException) -> None:
        future.set_exception(error)

    # ---- receiving ---------------------------------------------------------------------

    def _receive(self, message: bytes | Reply) -> None:
        """Process a message of the channel.

        Its sender knew the session's secret, or is the service in this process.
        """
        delivered = message if isinstance(message, Reply) else self._verified(message)
        if delivered is None:
            return
        try:
            self._proceed(self.drive(self.received(delivered)))
        except (DriverError, ProviderException) as error:
            # Nothing is lost: the next read or the keeper meets the epoch, and requests are resent.
            _log.warning("session %x could not process a message: %s", self.id, error)

    def _proceed(self, received: Received[Future[Any]]) -> None:
        """Do what a message leads to. Raises DriverError, ProviderException."""
        if isinstance(received, Answered):
            self._settle(received)
            if received.over is not None:
                self._ended_by(received.over)
            elif received.again:
                self._sender.send(received.again, received.acked)
            elif self.outbox.unsent:
                self._sender.flush()
        elif received is Step.BEGUN:
            self._opened.set_result(None)
        elif received is Step.AGAIN:
            self._put_opening()
        elif received is Step.OVER:
            self._lose(SessionExpiredException())

    # ---- reading -----------------------------------------------------------------------

    def get(self, path: str) -> Record | None:
        """A path's record (a tombstone, or None) once it may be shown; after earlier writes."""
        rules = self.rules
        if self.error is not None:
            self.check()
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
            self.check()
            self._turns.add(turn)
        return future

    def drive(self, steps: Steps) -> Any:
        """Perform the commands of steps; the steps themselves run under the lock."""
        answer: Any = None
        pauses = doubling(WAIT_S, WAIT_MOST_S)
        try:
            while True:
                try:
                    with self._lock:
                        command = steps.send(answer)
                except StopIteration as done:
                    return done.value
                try:
                    if isinstance(command, commands.Await):
                        self._wait(pauses)
                        answer = None
                    else:
                        answer = self.perform(command)
                except DriverError as error:
                    raise failure(command, error) from error
                self.rules.observer.performed(command, answer)
                if self.must_tidy(command):
                    self._keeper.hand_over()
        except BaseException:
            with self._lock:
                steps.close()  # which undoes what they registered
            raise

    def _wait(self, pauses: Iterator[float]) -> None:
        """Ask the service to apply the log, and wait a little. Raises DriverError."""
        pause = next(pauses)
        self._sender.ring(pause)
        self._runtime.sleep(pause)
        self.check()

    # ---- the keeper --------------------------------------------------------------------

    def tidy(self) -> None:
        """Remove the registrations without a watch, once there are many."""
        try:
            self.drive(self.tidying())
        except ProviderException as error:
            _log.warning("could not remove registrations without a watch, will retry: %s", error)

    def renew(self, returned: bool = False) -> None:
        """Renew the lease; detect the session's end; meet epochs whose notifications were lost."""
        try:
            code = self.drive(self.renewal(returned))
            if code is not None:
                self._ended_by(code)
                return
        except (DriverError, ProviderException) as error:
            _log.warning("the lease of session %x was not renewed: %s", self.id, error)
            self._become(SessionState.SUSPENDED)
        else:
            self._become(SessionState.CONNECTED)
