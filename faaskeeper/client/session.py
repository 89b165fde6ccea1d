"""A session in threads: performs what the rules ask for, sends, listens, renews the lease.

Threads and what they may block on: the caller's threads read storage and send; the channel's thread
hands answers over (:meth:`Session._heard`), and may read the log; one *keeper* renews the lease,
sends again what is not answered, and sends what others left to it; callbacks run in a thread of their
own, made when first needed, so that they never hold the session up. Asynchronous reads run in another,
in their turn.

Lock order: ``_sending`` before ``_lock``. ``_lock`` guards rules and outbox and is never held during I/O.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Sequence
from enum import StrEnum
from functools import partial
from typing import Any, NamedTuple, TypeVar

from faaskeeper.client import rules as commands
from faaskeeper.client.futures import Future
from faaskeeper.client.outbox import Finish, Outbox, Unanswered, size_of
from faaskeeper.client.registrations import Registrations
from faaskeeper.client.rules import Allowed, Rules, Steps
from faaskeeper.client.runtime import THREADS, Runtime, Thread
from faaskeeper.core import codec, forks, trust
from faaskeeper.core.acl import Credential
from faaskeeper.core.children import writes_of
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Code, Conflict, DriverError
from faaskeeper.core.log import Log, Trimmed
from faaskeeper.core.records import Record
from faaskeeper.core.requests import (
    Close,
    Epoch,
    Message,
    Notification,
    Open,
    Operation,
    Outcome,
    Reply,
    Request,
    Resume,
)
from faaskeeper.core.sessions import Lease, next_incarnation
from faaskeeper.core.watches import Row
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
from faaskeeper.watch import WatchCallbackType, WatchedEvent

_T = TypeVar("_T")
_log = logging.getLogger(__name__)

_RESEND_S = 2.0
_RESEND_MOST_S = 30.0
_MESSAGES_AT_ONCE = 4
"""Messages that a thread sends, its own among them, before it leaves what others ask for to the keeper."""
_JOIN_S = 5.0
_OVERHEAD = 1024
"""What a message has beside its requests, at most."""
_PAUSE_S = 0.01
_PAUSE_MOST_S = 0.5
_RING_S = 0.015
"""How long what is about to be applied may take before somebody is asked through a queue to do it."""
_OVER = {
    Code.SESSION_EXPIRED: "the session has expired: start() a new one",
    Code.SESSION_MOVED: "another process goes on with this session: this one may not",
}


class SessionState(StrEnum):
    """What is known of a session.

    ``CONNECTED``: its lease is good. ``SUSPENDED``: the service was not reached; the session may have
    ended without our knowing. ``LOST``: it has ended, its ephemerals are gone.
    """

    CONNECTED = "CONNECTED"
    SUSPENDED = "SUSPENDED"
    LOST = "LOST"


Listener = Callable[[SessionState], None]


class Ticket(NamedTuple):
    """What another process needs to go on with a session. Whoever has it can act for the session.

    ``timeout`` in ms.
    """

    session: int
    incarnation: int
    secret: bytes
    timeout: int


class _Absent:
    """Stands for a thread that there is not, in a forked child."""

    def join(self, timeout: float | None = None) -> None:
        """See :class:`Thread`."""


class Session(forks.Inherited):
    """One session with a deployment, from :meth:`open` to :meth:`close` or the loss of it.

    ``ticket``: the session to go on with, instead of opening one.
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
        self._connection = connection
        self._timeout_ms = ticket.timeout if ticket else int(timeout * 1000)
        self._renewing = renew
        self._secret = ticket.secret if ticket else random(trust.KEY_BYTES)
        self._nonce = random(16).hex()
        self._random = random
        self._runtime = runtime
        self._lock = runtime.lock()
        self._sending = runtime.lock()
        self._starting = runtime.lock()
        self._wake = runtime.condition(self._lock)
        self._outbox = Outbox()
        self.rules = Rules(0, self._fired)
        self._opened: Future[Reply] = Future("opening the session", True, None, runtime.lock())
        self._later = runtime.line()
        self._dispatcher: Thread | None = None
        self._keeper: Thread | None = None
        self._reader: Thread | None = None
        self._turns: deque[Callable[[], None]] = deque()
        self._turning: Callable[[], None] | None = None
        self._registrations = Registrations(connection.watches, runtime.lock)
        self._listeners: list[Listener] = []
        self._lease_version = 1
        self._expires_ms = 0
        """When the lease runs out, by the service's clock."""
        self._error: FaaSKeeperException | None = None
        self._ending = False
        self._over = False
        """It has ended for every process, not for this one alone."""
        self._dozing = False
        self._handed_over = False
        """Something is left to the keeper."""
        self.auth: tuple[Credential, ...] = ()
        """The credentials under which requests are asked for."""
        self.owned: set[str] = set()
        """Paths of the ephemerals that this session is known to have created and not deleted itself."""
        self.id = ticket.session if ticket else 0
        self.incarnation = ticket.incarnation if ticket else 0
        self._state = SessionState.LOST
        within = connection.within if connection.objects else None
        self._signs = within is None
        """Whether messages are signed; the opening one always is: it proves that a ticket has the secret."""
        self._ear = within.listen_late(self._heard) if within else connection.channel.listen(self._heard)
        connection.on_failure(self._failed)
        forks.register(self)

    # ---- opening and closing -----------------------------------------------------------

    def open(self, timeout: float) -> None:
        """Open the session, or go on with it.

        Raises TimeoutException, ProviderException with the reason, or SessionExpiredException.
        """
        resuming = self.id > 0
        if resuming:
            self._go_on_from(max(self.incarnation, self._must_live().incarnation))
        else:
            self._asks_with(Open(self._nonce, self._secret, self._timeout_ms))
        deadline = self._runtime.monotonic() + timeout
        pause = 1.0
        while True:
            self._put(self._opening)
            if self._opened.wait(min(pause, max(deadline - self._runtime.monotonic(), 0))):
                break
            if self._runtime.monotonic() >= deadline:
                raise TimeoutException(timeout, f"the service did not answer within {timeout:g} s")
            pause *= 2
        self._opened.get()
        if resuming:
            self.renew()  # and so tell the process before
            self.check()
        self._keeper = self._thread(self._keep, "keeper")

    def _asks_with(self, operation: Open | Resume) -> None:
        """Begin the session with a request, which is sent until it is answered."""
        self._opening = Message(self.id, self.incarnation, 0, self._ear.address, (Request(0, operation),))

    def _go_on_from(self, current: int) -> None:
        """Take the place of an incarnation, as one of our own, whose number is drawn anew each time."""
        self.incarnation = next_incarnation(max(self.incarnation, current), self._random)
        self._asks_with(Resume(current))

    def _must_live(self) -> Lease:
        """The session's lease. Raises SessionExpiredException where there is no good one: a session that is
        long over has nobody to say so.
        """
        try:
            lease = self._connection.leases.get(self.id)
        except DriverError as error:
            raise ProviderException(str(error)) from error
        if lease is None or lease.marked:
            raise SessionExpiredException()
        return lease

    @property
    def ticket(self) -> Ticket:
        """What another process needs to go on with this session."""
        return Ticket(self.id, self.incarnation, self._secret, self._timeout_ms)

    def _thread(self, run: Callable[[], None], name: str) -> Thread:
        def guarded() -> None:
            try:
                run()
            except Exception as error:
                _log.exception("the %s of session %x failed", name, self.id)
                self._failed(error)

        return self._runtime.spawn(guarded, f"faaskeeper-{name}-{self.id}")

    def close(self, timeout: float) -> None:
        """End the session: its ephemerals go. Raises TimeoutException when that is not known."""
        try:
            if self._error is None:
                what = f"closing session {self.id:x}"
                closing = self.submit(Close(), what, lambda outcome: None, prompt=True)
                closing.get(timeout)
        except SessionExpiredException:
            pass  # it was over already
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Stop without telling the service: the session ends when its lease runs out."""
        self._lose(SessionClosingException(), SessionState.LOST)
        self._ear.close()
        for thread in (self._keeper, self._reader):
            if thread is not None and thread != self._runtime.current():
                thread.join(_JOIN_S)  # one that hangs in a store's call ends with that
        dispatcher = self._dispatcher
        if dispatcher is not None:
            self._later.put(None)
            if dispatcher != self._runtime.current():
                dispatcher.join(_JOIN_S)

    def forked(self, why: str) -> None:
        """See :class:`faaskeeper.core.forks.Inherited`: whoever waits for something in the child is told."""
        forks.keep(self)
        runtime = self._runtime
        self._lock, self._sending, self._starting = runtime.lock(), runtime.lock(), runtime.lock()
        self._wake = runtime.condition(self._lock)
        self._listeners = []
        self._turning = None
        self._dispatcher = _Absent()
        self._later = runtime.line()
        self._later.put(None)  # where a callback forked, its thread is the child's
        self._lose(ForkedException(why), SessionState.LOST)

    # ---- states ------------------------------------------------------------------------

    def listen(self, listener: Listener) -> None:
        """Call ``listener(state)`` on every change, from the callback thread."""
        self._listeners.append(listener)

    def unlisten(self, listener: Listener) -> None:
        """No longer call it."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    @property
    def state(self) -> SessionState:
        """What is known of the session now; SUSPENDED also when its lease ran out without our renewing it."""
        if self._state is SessionState.CONNECTED and self._connection.service() > self._expires_ms:
            return SessionState.SUSPENDED
        return self._state

    def _become(self, state: SessionState) -> None:
        with self._lock:
            if self._state is state or self._error is not None:
                return
            self._state = state
        self._tell(state)

    def _tell(self, state: SessionState) -> None:
        for listener in list(self._listeners):
            self.call_later(partial(listener, state))

    def _lose(self, error: FaaSKeeperException, state: SessionState) -> None:
        """The session is over: whoever waits is told why, and that its write's fate is unknown."""
        with self._lock:
            if self._error is not None:
                return
            self._error = error
            self._state = state
            self._ending = True
            given_up = self._outbox.abandon()
            turns = [turn for turn in self._turns if turn is not self._turning]
            self._turns.clear()
            self._wake.notify_all()
        self._tell(state)
        for waiting in given_up:
            waiting.future.set_exception(_unknown(error, waiting.future.what))
        for turn in turns:
            turn()  # fails at once, by check()
        if not self._opened.done():
            self._opened.set_exception(error)

    def _expired(self, error: SessionExpiredException) -> None:
        """The session has ended, for every process. Rows of watches that were put after the service cleared
        them are in no index, so they go by name. Raises DriverError.
        """
        self._over = True
        self._lose(error, SessionState.LOST)
        self._registrations.end(self.id)

    def _failed(self, error: Exception) -> None:
        """The service, or a thread of this session, cannot go on."""
        self._lose(ProviderException(str(error) or repr(error)), SessionState.LOST)

    def check(self) -> None:
        """Raise what ended the session, if it has ended."""
        if self._error is not None:
            raise self._error

    # ---- callbacks ---------------------------------------------------------------------

    def call_later(self, callback: Callable[[], None]) -> None:
        """Run a callback in the callback thread, after those before it."""
        if self._dispatcher is None:
            with self._starting:
                if self._dispatcher is None:
                    self._dispatcher = self._thread(self._dispatch, "callbacks")
        self._later.put(callback)

    @property
    def in_callback(self) -> bool:
        """Whether the thread that asks is the one that callbacks run in."""
        return self._dispatcher is not None and self._dispatcher == self._runtime.current()

    def _dispatch(self) -> None:
        while (callback := self._later.get()) is not None:
            try:
                callback()
            except BaseException:  # SystemExit, too: the thread is ours, and others' callbacks wait for it
                _log.exception("a callback of session %x failed", self.id)

    def _fired(self, callback: WatchCallbackType, event: WatchedEvent) -> None:
        self._later.put(partial(callback, event))

    # ---- writing -----------------------------------------------------------------------

    def submit(self, operation: Operation, what: str, finish: Finish, prompt: bool = False) -> Future[Any]:
        """Send a request, after the asynchronous reads asked for before it; returns its future.

        ``prompt``: the caller is going to wait for the answer.
        """
        most = self._connection.worker_queue.max_message_bytes
        if (size := size_of(operation)) > most - _OVERHEAD:
            raise TooLargeException(f"{what}: {size} bytes; a request may have {most - _OVERHEAD} here")
        future: Future[Any] = Future(what, True, self.call_later, self._runtime.lock())
        with self._lock:
            if self._error is not None:
                raise self._error
            if self._turns:
                self._turns.append(lambda: self._submit_in_turn(operation, future, finish))
                return future
            under_way = len(self._outbox)
            self._add(operation, future, finish)
        if not (under_way and self._connection.coalesce and not prompt and self._outbox.wait()):
            self._flush(prompt)
        return future

    def _submit_in_turn(self, operation: Operation, future: Future[Any], finish: Finish) -> None:
        with self._lock:
            error = self._error
            if error is None:
                self._add(operation, future, finish)
        if error is not None:
            future.set_exception(error)
        else:
            self._flush()

    def _add(self, operation: Operation, future: Future[Any], finish: Finish) -> None:
        """Number a request; with the lock held."""
        self._outbox.add(operation, future, finish, self.auth)
        if self._dozing:
            self._dozing = False
            self._wake.notify_all()

    def _flush(self, prompt: bool = False) -> None:
        """Send what is not sent yet. Whoever comes while another sends leaves its request to that one.

        Others may go on asking for ever, and the thread that sends wants to go: after a few messages it
        leaves the rest to the keeper.
        """
        repeat = not self._connection.worker_queue.ordered
        for _ in range(_MESSAGES_AT_ONCE):
            if not self._sending.acquire(blocking=False):
                return  # who has it looks again when it gave it back
            try:
                with self._lock:
                    requests = self._outbox.take(repeat)
                    acked = self._outbox.acked
                if requests:
                    self._send(requests, acked, prompt)
            finally:
                self._sending.release()
            with self._lock:
                if not self._outbox.unsent:
                    return
            prompt = False  # what others ask for, this thread does not wait for
        self._wake_keeper()

    def _wake_keeper(self) -> None:
        """Leave to the keeper what is unsent, and the registrations that nobody waits for."""
        with self._lock:
            self._handed_over = True
            self._wake.notify_all()

    def _send(self, requests: tuple[Request, ...], acked: int, prompt: bool = False) -> None:
        message = Message(self.id, self.incarnation, acked, self._ear.address, requests)
        try:
            self._put(message, prompt)
        except ProviderException as error:
            _log.warning("a request will be sent again: %s", error)
            self._become(SessionState.SUSPENDED)

    def _put(self, message: Message, prompt: bool = False) -> None:
        body: Any = message
        if self._signs or message is self._opening:
            body = trust.sign(self._secret, codec.message(message))
        identity = f"{message.session} {message.incarnation}"
        try:
            queue = self._connection.worker_queue
            if prompt:
                queue = self._connection.prompt_queue or queue
            queue.send("writer", identity, body)
        except DriverError as error:
            raise ProviderException(str(error)) from error

    def _ring(self, pause: float) -> None:
        """Ask the service to apply what is in the log; through a queue only if that takes long (seconds)."""
        if self._connection.ring is not None:
            self._connection.ring()
        elif pause > _RING_S:
            with self._lock:
                acked = self._outbox.acked
            self._put(Message(self.id, self.incarnation, acked, self._ear.address, ()))

    # ---- being told --------------------------------------------------------------------

    def _heard(self, message: bytes | Reply) -> None:
        """A message from the channel: whoever made it must have known our secret, or be of this process."""
        try:
            told = message if isinstance(message, Reply) else self._verified(message)
        except (trust.Forged, codec.Malformed) as error:
            _log.warning("dropped a message to session %x: %s", self.id, error)
            return
        try:
            if isinstance(told, Reply):
                self._replied(told)
            elif told.session == self.id:
                self._drive(self.rules.meet(told.epoch, settled=True))
        except (DriverError, ProviderException) as error:
            # Nothing is lost: the next read or the keeper meets it again, requests are sent again.
            _log.warning("session %x could not take in what it was told: %s", self.id, error)

    def _verified(self, signed: bytes) -> Reply | Notification:
        trust.verify(self._secret, signed)
        return codec.to_told(trust.body(signed))

    def _replied(self, reply: Reply) -> None:
        self._connection.heard(reply)
        if reply.nonce:
            self._on_open(reply)
            return
        if reply.session != self.id or reply.incarnation != self.incarnation:
            return
        if not self._opened.done():
            self._on_resume(reply)
            return
        self._drive(self.rules.meet(reply.epoch, settled=True))
        with self._lock:
            ready = self._outbox.answered(reply.outcomes)
            again = self._outbox.resend(reply.resend) if reply.resend else ()
            acked = self._outbox.acked
            unsent = self._outbox.unsent
        over: SessionExpiredException | None = None
        moved = False
        for waiting, outcome in ready:
            if outcome.code in _OVER:
                over = SessionExpiredException(_OVER[outcome.code])
                moved = outcome.code is Code.SESSION_MOVED  # an earlier copy may have been decided
                waiting.future.set_exception(_unknown(over, waiting.future.what) if moved else over)
            else:
                _complete(waiting, outcome)
        if over is not None and not moved:
            self._expired(over)
        elif over is not None:
            self._lose(over, SessionState.LOST)
        elif again:
            self._send(again, acked)
        elif unsent:
            self._flush()

    def _on_open(self, reply: Reply) -> None:
        if reply.nonce != self._nonce or self._opened.done():
            return
        self.id = reply.session
        self._begin(reply)

    def _on_resume(self, reply: Reply) -> None:
        for cxid, outcome in reply.outcomes:
            if cxid:
                continue
            if outcome.code is Code.SESSION_MOVED:
                self._go_on_from(reply.current)
                self._put(self._opening)
            elif outcome.code is Code.OK:
                self.owned.update(outcome.paths)
                self._begin(reply)
            else:
                self._lose(SessionExpiredException(), SessionState.LOST)

    def _begin(self, reply: Reply) -> None:
        self._expires_ms = self._connection.service() + self._timeout_ms
        with self._lock:
            self.rules.seen = self.rules.applied = max(self.rules.seen, reply.epoch.upto)
            self._state = SessionState.CONNECTED
        self._opened.set_result(reply)

    # ---- reading -----------------------------------------------------------------------

    def get(self, path: str) -> Record | None:
        """A path's record (its tombstone, or None), as it may be shown now; after earlier writes."""
        rules = self.rules
        if self._error is not None:
            raise self._error
        if not self._turns and not len(self._outbox):
            ticket = rules.ticket
            try:
                record = self._connection.records.get(path)
            except DriverError as error:
                raise ProviderException(str(error)) from error
            if rules.accepts(path, record, ticket):
                return record
        found: Record | None = self.run(lambda: rules.read(path))
        return found

    def watch(
        self, path: str, kind: str, callback: WatchCallbackType, allowed: Allowed | None = None
    ) -> Record | None:
        """Read a path and leave a watch; see :meth:`Rules.watch`."""
        self.prepare_callbacks()
        found: Record | None = self.run(lambda: self.rules.watch(path, kind, callback, allowed))
        return found

    def add_watch(self, path: str, kind: str, callback: WatchCallbackType) -> None:
        """Leave a watch that stays; see :meth:`Rules.add_watch`."""
        self.prepare_callbacks()
        self.run(lambda: self.rules.add_watch(path, kind, callback))

    def remove_watches(self, path: str, kinds: Sequence[str], callback: WatchCallbackType | None) -> int:
        """Forget watches; see :meth:`Rules.remove_watches`."""
        removed: int = self.run(lambda: self.rules.remove_watches(path, kinds, callback))
        return removed

    def snapshot(self, paths: Sequence[str], listed: Sequence[str] = ()) -> dict[str, Record | None]:
        """Read several paths as of one transaction; see :meth:`Rules.snapshot`."""
        found: dict[str, Record | None] = self.run(lambda: self.rules.snapshot(paths, listed))
        return found

    def prepare_callbacks(self) -> None:
        """Make sure that there is a thread for what :meth:`Rules.watch` will fire."""
        if self._dispatcher is None:
            self.call_later(lambda: None)

    def run(self, steps: Callable[[], Steps]) -> Any:
        """Read in the session's order: after the writes and asynchronous reads asked for before."""
        with self._lock:
            queued = bool(self._turns)
            before = self._outbox.last()
        if queued and self._runtime.current() != self._reader:
            return self.later(steps, "the read").get()
        if before is not None:
            before.wait()
        self.check()
        return self._drive(steps())

    def later(
        self, steps: Callable[[], Steps], what: str, finish: Callable[[Any], _T] | None = None
    ) -> Future[_T]:
        """Read in a thread of its own, in the session's order; returns the future."""
        future: Future[_T] = Future(what, False, self.call_later, self._runtime.lock())

        def turn() -> None:
            try:
                with self._lock:
                    before = self._outbox.last()
                if before is not None:
                    before.wait()
                self.check()
                result = self._drive(steps())
                future.set_result(result if finish is None else finish(result))
            except Exception as error:  # of whatever kind: whoever waits is told, and others have their turn
                future.set_exception(error)

        with self._lock:
            if self._error is not None:
                raise self._error
            self._turns.append(turn)
            if self._reader is None:
                self._reader = self._thread(self._read_in_turn, "reader")
            self._wake.notify_all()
        return future

    def _read_in_turn(self) -> None:
        """Take turns. A turn leaves the queue when it is over: until then later writes wait behind it."""
        while True:
            with self._lock:
                while not self._turns:
                    if self._ending:
                        return
                    self._wake.wait()
                turn = self._turning = self._turns[0]
            turn()
            with self._lock:
                if self._turns and self._turns[0] is turn:
                    self._turns.popleft()

    def _drive(self, steps: Steps) -> Any:
        """Perform the commands of the rules' steps, the steps themselves under the lock."""
        answer: Any = None
        pause = _PAUSE_S
        while True:
            try:
                with self._lock:
                    command = steps.send(answer)
            except StopIteration as done:
                return done.value
            try:
                if isinstance(command, commands.Await):
                    self._ring(pause)
                    self._runtime.sleep(pause)
                    pause = min(pause * 2, _PAUSE_MOST_S)
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
        connection = self._connection
        if isinstance(command, commands.ReadRecord):
            return connection.records.get(command.path)
        if isinstance(command, commands.ReadLog):
            found = read_writes(connection.log, command.after, command.upto)
            return None if found is None or found[1] < command.upto else found[0]
        if isinstance(command, commands.ReadLogEnd):
            return read_writes(connection.log, command.after, None)
        if isinstance(command, commands.ReadMark):
            return connection.applied()
        if isinstance(command, commands.ReadRecords):
            return connection.records.get_many(command.paths)
        if isinstance(command, (commands.PutWatch, commands.RemoveWatch)):
            row = Row(command.path, command.kind, self.id, command.stamp, self._ear.address)
            if isinstance(command, commands.RemoveWatch):
                self._registrations.remove(row)
            else:
                self._registrations.put(row)
                if self._over:
                    self._registrations.end(self.id)  # nobody else finds what is put from now on
                elif self._registrations.many:
                    self._wake_keeper()
            return None
        raise AssertionError(f"not a command: {command!r}")

    def sync(self) -> None:
        """Make every read from now on show at least what is committed now."""
        self.run(self.rules.sync)

    # ---- the keeper --------------------------------------------------------------------

    def _keep(self) -> None:
        """Renew the lease, send unanswered requests again, and those that were left to it.

        While nothing is asked it sleeps until the lease is due, and the next request wakes it.
        """
        renew_every = self._timeout_ms / 3000
        clock = self._runtime.monotonic
        renew_at = clock() + renew_every if self._renewing else float("inf")
        resend_after = _RESEND_S
        resend_at = clock() + resend_after
        acked = 0
        while True:
            with self._lock:
                if self._ending:
                    return
                quiet = not len(self._outbox) and self._outbox.acked == acked
                self._dozing = quiet
                due = renew_at if quiet else min(renew_at, resend_at)
                unsent, self._handed_over = self._handed_over, False
                if due > clock() and not unsent:
                    self._wake.wait(None if due == float("inf") else due - clock())
                    if self._dozing != quiet:  # woken by a request
                        resend_at = clock() + resend_after
                    continue
                again: tuple[Request, ...] = ()
                if clock() >= resend_at:
                    if self._outbox.acked != acked:
                        resend_after = _RESEND_S
                    elif len(self._outbox):
                        again = self._outbox.resend(acked + 1)
                        resend_after = min(resend_after * 2, _RESEND_MOST_S)
                    acked = self._outbox.acked
                    resend_at = clock() + resend_after
            if again:
                self._send(again, acked)
            if unsent:
                self._flush()
                self._tidy()
            if clock() >= renew_at:
                renew_at = clock() + renew_every
                self.renew()

    def _tidy(self) -> None:
        """Remove the registrations that nobody waits for, once there are many."""
        registrations = self._registrations
        if not registrations.many:
            return
        with self._lock:
            idle = registrations.idle(self.rules.waits_for)
        try:
            registrations.forget(self.id, idle)
        except DriverError as error:
            _log.warning("registrations that nobody waits for stay for now: %s", error)

    def renew(self) -> None:
        """Renew the lease; find out if the session is over. Meets what notifications failed to tell."""
        leases = self._connection.leases
        expires = self._connection.service() + self._timeout_ms
        renew = partial(leases.renew, self.id)
        try:
            try:
                self._lease_version = renew(self._lease_version, expires, self.incarnation, self._timeout_ms)
            except Conflict:
                lease = leases.get(self.id)
                if lease is None or lease.marked:
                    self._expired(SessionExpiredException())
                    return
                if lease.incarnation > self.incarnation:
                    self._lose(SessionExpiredException(_OVER[Code.SESSION_MOVED]), SessionState.LOST)
                    return
                # An earlier renewal took effect although it seemed to fail, or it was the process before us.
                self._lease_version = renew(lease.version, expires, self.incarnation, self._timeout_ms)
            self._expires_ms = expires
            if self.rules.watching:
                mark = self._connection.applied()
                self._drive(self.rules.meet(Epoch(mark, mark, ()), settled=True))
        except (DriverError, ProviderException) as error:
            _log.warning("the lease of session %x was not renewed: %s", self.id, error)
            self._become(SessionState.SUSPENDED)
        else:
            self._become(SessionState.CONNECTED)


def read_writes(log: Log, after: int, upto: int | None) -> tuple[list[commands.Writes], int] | None:
    """The writes of transactions in (after, upto], None: to the end, and the last txid read.

    ``after`` is the end of some entry. None where the log was trimmed.
    """
    writes: list[commands.Writes] = []
    more = True
    while more and (upto is None or after < upto):
        try:
            entries, more = log.after(after)
        except Trimmed:
            return None
        for entry in entries:
            for transaction in entry.transactions:
                if upto is None or transaction.txid <= upto:
                    writes.append((transaction.txid, writes_of(transaction)))
            after = entry.last
    return writes, after


def _complete(waiting: Unanswered, outcome: Outcome) -> None:
    try:
        result = waiting.finish(outcome)
    except Exception as error:
        waiting.future.set_exception(error)
    else:
        waiting.future.set_result(result)


def _unknown(error: FaaSKeeperException, what: str) -> FaaSKeeperException:
    message = f"{what}: {error}; whether it happened is not known"
    if isinstance(error, (SessionExpiredException, SessionClosingException)):
        return type(error)(message)
    return ProviderException(message)
