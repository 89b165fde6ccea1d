"""A session in an event loop: opens, receives, renews the lease, ends.

Everything here runs in the loop's thread, except calls that may wait for a disk's sync, a lock or a
network: those run in threads. If the service runs in this process, records, log and mark are read
in the loop, from memory or the page cache. Two groups of threads make the calls: one for users'
requests, one for the session itself (sending, its lease, its end), so that many slow reads do not
delay the session's own calls.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import partial
from typing import Any

from faaskeeper.aio.callbacks import Callbacks
from faaskeeper.aio.driver import Driver
from faaskeeper.aio.requests import Future, Requests, fail
from faaskeeper.aio.sender import Sender
from faaskeeper.aio.threads import Threads, through
from faaskeeper.core import forks
from faaskeeper.core.connection import Connection
from faaskeeper.core.drivers.channel import Listener as ChannelListener
from faaskeeper.core.errors import Code, DriverError
from faaskeeper.core.requests import Notification, Reply
from faaskeeper.exceptions import (
    FaaSKeeperException,
    ForkedException,
    ProviderException,
    SessionClosingException,
    SessionExpiredException,
    TimeoutException,
)
from faaskeeper.loops import soon
from faaskeeper.session import commands
from faaskeeper.session.commands import Steps
from faaskeeper.session.engine import Engine, Received
from faaskeeper.session.incarnation import Answered
from faaskeeper.session.opening import Step
from faaskeeper.session.states import Listener, SessionState, Ticket, over, unanswered, unopened
from faaskeeper.session.timing import RENEWALS, attempts
from faaskeeper.session.unheard import Unheard

_log = logging.getLogger(__name__)

_CALLS = 8
"""The number of threads for users' requests."""
_OWN = 4
"""The number of threads for the session itself: it sends, renews, removes registrations, closes."""
_SETTLE_S = 1.0
"""How long the work before a session's end may wait for a store that does not answer."""


class AsyncSession(Engine[Future], forks.Inherited):
    """One session with a deployment, from :meth:`open` to :meth:`close` or its loss.

    Belongs to the loop that runs at its creation. The listeners that are in ``listeners`` at the
    time of a change are called with the new state. ``renewing``: whether to renew the lease.
    ``ticket``: the session to resume.
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
        self.loop = asyncio.get_running_loop()
        self._callbacks = Callbacks()
        super().__init__(
            connection,
            listeners,
            self._callbacks.put,
            threading.Lock,
            timeout=timeout,
            random=random,
            ticket=ticket,
        )
        self._calls = Threads(_CALLS, "faaskeeper-aio")
        self._own = Threads(_OWN, "faaskeeper-aio-session")
        self._renewing = renewing
        self.sender = Sender(
            connection,
            self._incarnation,
            self._own,
            lambda: self._become(SessionState.SUSPENDED),
            self._failed,
        )
        self._driver = Driver(self, self.sender, self._calls, self._tidy_soon)
        self.requests = Requests(self, self._driver, self.sender, self._callbacks)
        self._opened: asyncio.Future[None] = self.loop.create_future()
        self._inbox: deque[Reply | Notification] = deque()
        self._receiving = False
        """A task processes a message; later messages wait in the inbox."""
        self._tidying = False
        self._back = asyncio.Event()
        """The service was away and is back, since the last renewal."""
        self._tasks: dict[asyncio.Task[Any], bool] = {}
        """The session's own tasks, and whether its end waits for them (or else cancels them)."""
        self._listener: ChannelListener | None = None
        connection.on_failure(partial(soon, self.loop, self._failed))
        connection.on_return(partial(soon, self.loop, self._returned))
        forks.register(self)

    # ---- tasks and callbacks -----------------------------------------------------------

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

    def call_later(self, callback: Callable[[], Any]) -> None:
        """Run a callback in the loop, after earlier ones."""
        self._callbacks.put(lambda _: callback(), None)

    def _succeed(self, future: Future, result: Any) -> None:
        if not future.done():
            future.set_result(result)

    def _fail(self, future: Future, error: BaseException) -> None:
        fail(future, error)

    # ---- opening and closing -----------------------------------------------------------

    async def open(self, timeout: float) -> None:
        """Open or resume the session, within ``timeout`` seconds.

        Raises TimeoutException, ProviderException with the reason, or SessionExpiredException.
        """
        resuming = self._opening.resumes
        try:
            await through(self._listen())
            await self._driver.drive(self.prepare(), threads=self._own)
            await self._open(timeout)
        except DriverError as error:
            raise ProviderException(str(error)) from error
        if resuming:
            await self.renew()  # the process that had the session learns of the loss from the lease
            self.check()
        self.start(self._keep(), "keeper")

    async def _listen(self) -> None:
        self._listener = await self._own.run(self.connection.channel.listen, self._receive)
        self._listens_at(self._listener.address)

    async def _open(self, timeout: float) -> None:
        unheard = Unheard(self.connection, self._opening.caused, self.id)
        for pause in attempts(timeout, self.loop.time):
            await self._own.run(self.sender.post, self._opening.messages)
            done, _ = await asyncio.wait((self._opened,), timeout=pause)
            if done:
                self._opened.result()
                return
            await self._own.run(unheard.look, self.loop.time(), self._incarnation.address)
        raise unopened(timeout)

    async def close(self, timeout: float) -> None:
        """End the session: its ephemerals are deleted.

        Raises TimeoutException if the service did not confirm it within ``timeout`` seconds. If the
        caller is cancelled, this does not wait for the answer; it does everything else.
        """
        try:
            if self.error is None:
                write = self.closing()
                closing = self.requests.ask(write)
                done, _ = await asyncio.wait((closing,), timeout=timeout)
                if not done:
                    raise TimeoutException(timeout, unanswered(write.what, timeout))
                closing.result()
        except SessionExpiredException:
            pass  # the session was over already
        finally:
            await through(self.abandon())

    async def abandon(self) -> None:
        """Stop without a message to the service: the session ends when its lease expires.

        When this returns, no task of the session runs, and threads only wait for calls that hang in
        a store.
        """
        self._lose(SessionClosingException())
        for wait in (True, False):
            tasks = [task for task, waits in self._tasks.items() if waits is wait]
            if tasks and wait:
                await asyncio.wait(tasks, timeout=_SETTLE_S)
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks, timeout=_SETTLE_S)
        self._callbacks.run()
        listener, self._listener = self._listener, None
        if listener is not None:
            await self._own.run(listener.close)
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
        if self._listener is not None:
            self._listener.close()
        self.connection.close()
        self._calls.end()
        self._own.end()

    def forked(self, why: str) -> None:
        """In a forked child: the session is over; ``why``: the reason."""
        forks.keep(self)
        self.error = ForkedException(why)

    # ---- states ------------------------------------------------------------------------

    def _become(self, state: SessionState) -> None:
        if self._changed(state):
            self._announce(state)

    def _lose(self, error: FaaSKeeperException) -> None:
        """End the session: requests fail with ``error``; the fate of sent writes is unknown."""
        unanswered = self._end(error)
        if unanswered is None:
            return
        self._abandon(unanswered, error)
        self.requests.abandon(error)
        self._fail(self._opened, error)
        self.sender.stop()
        self._announce(SessionState.LOST)

    def _ended_by(self, code: Code) -> None:
        """The session has ended, or another process has resumed it."""
        for_all = self._ends_for_all(code)
        self._lose(over(code))
        if for_all:
            self.start(self._clear(), "cleaner", wait=True)

    async def _clear(self) -> None:
        try:
            await self._own.run(self.registrations.end, self.id)
        except DriverError as error:
            _log.warning("could not remove the watches of session %x, which is over: %s", self.id, error)

    def _failed(self, error: BaseException) -> None:
        """The service, or a task of this session, has failed."""
        self._lose(ProviderException(str(error) or repr(error)))

    # ---- receiving ---------------------------------------------------------------------

    def _receive(self, signed: bytes) -> None:
        """Receive a message from the channel, in any thread."""
        message = self._verified(signed)
        if message is not None:
            soon(self.loop, self._take_in, message)

    def _take_in(self, message: Reply | Notification) -> None:
        """Process messages one after the other; at once if that needs no call."""
        if self.error is not None:
            return
        if self._receiving:
            self._inbox.append(message)
            return
        steps = self.received(message)
        try:
            try:
                command = steps.send(None)
            except StopIteration as done:
                self._proceed(done.value)
                return
        except Exception as error:
            _log.exception("the reader of session %x failed", self.id)
            self._failed(error)
            return
        self._receiving = True
        self.start(self._take_in_all(steps, command), "reader")

    async def _take_in_all(self, steps: Steps, command: commands.Command | None) -> None:
        """Finish a message, and process those that arrived meanwhile.

        No message remains in the inbox: between the check that finds it empty and the reset of
        ``_receiving``, no other code runs.
        """
        try:
            while True:
                try:
                    self._proceed(await self._driver.drive(steps, command))
                except ProviderException as error:
                    # Nothing is lost: the next read or the keeper meets the epoch, and requests are
                    # resent.
                    _log.warning("session %x could not process a message: %s", self.id, error)
                if self.error is not None or not self._inbox:
                    return
                steps, command = self.received(self._inbox.popleft()), None
        finally:
            self._receiving = False

    def _proceed(self, received: Received[Future]) -> None:
        """Do what a message leads to."""
        if isinstance(received, Answered):
            self.requests.answered(len(received.ready))
            self._settle(received)
            if received.over is not None:
                self._ended_by(received.over)
            else:
                self.sender.resend(received.again)
                self.requests.advance()
        elif received is Step.BEGUN:
            self._succeed(self._opened, None)
        elif received is Step.AGAIN:
            # Not by flush(): while this is under way there are no requests.
            self._own.run(self.sender.post, self._opening.messages).add_done_callback(_heed)
        elif received is Step.OVER:
            self._lose(SessionExpiredException())

    # ---- the keeper --------------------------------------------------------------------

    async def _keep(self) -> None:
        """Renew the lease periodically, and when the service is back; one renewal at a time."""
        every = self.timeout_ms / 1000 / RENEWALS
        while self.error is None:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._back.wait(), every)
            returned = self._back.is_set()
            self._back.clear()
            if self._renewing:
                await self.renew(returned)

    def _returned(self) -> None:
        """The service was away and is back: send all again, renew, and meet what was missed."""
        if self.error is None and self._opening.done:
            self.sender.resend_all()
            self._back.set()

    async def renew(self, returned: bool = False) -> None:
        """Renew the lease; detect the session's end; meet epochs whose notifications were lost."""
        try:
            code = await self._driver.drive(self.renewal(returned), threads=self._own)
            if code is not None:
                self._ended_by(code)
                return
        except ProviderException as error:
            _log.warning("the lease of session %x was not renewed: %s", self.id, error)
            self._become(SessionState.SUSPENDED)
        else:
            self._become(SessionState.CONNECTED)

    def _tidy_soon(self) -> None:
        if not self._tidying:
            self._tidying = True
            self.start(self._tidy(), "tidier")

    async def _tidy(self) -> None:
        """Remove the registrations without a watch."""
        try:
            await self._driver.drive(self.tidying(), threads=self._own)
        except ProviderException as error:
            _log.warning("could not remove registrations without a watch, will retry: %s", error)
        finally:
            self._tidying = False


def _heed(future: asyncio.Future[None]) -> None:
    """Log a failure to send: the task that waits for the answer resends the message."""
    if not future.cancelled() and (error := future.exception()) is not None:
        _log.warning("could not send a request, will retry: %s", error)
