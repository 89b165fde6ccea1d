"""Requests on their way to the writer: batched, signed, and sent again until they are answered."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from functools import partial

from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError
from faaskeeper.core.requests import Message, Reply, Request
from faaskeeper.gateway.output import OutputBatch
from faaskeeper.gateway.plain import Asking, PlainReads
from faaskeeper.gateway.receiver import ReplyReceiver
from faaskeeper.gateway.runner import StepRunner
from faaskeeper.gateway.sessions import GatewaySession
from faaskeeper.session import messages
from faaskeeper.session.timing import OPEN_S, doubling
from faaskeeper.session.unheard import Unheard

_log = logging.getLogger(__name__)

_ALONE = 4
"""A connection from which so many events in a row came counts as the only active one."""

Signed = tuple[Message, bytes]
"""A message, and the secret to sign it with."""


class RequestSender:
    """Sends messages to the writer, batched: all requests of one turn of the loop together.

    ``plain``: performs plain reads of near stores or from memory; in each turn they come before the
    writes, which do not wait for them longer than for each other.
    """

    def __init__(
        self,
        connection: Connection,
        runner: StepRunner,
        receiver: ReplyReceiver,
        plain: PlainReads,
        output: OutputBatch,
    ) -> None:
        self._connection = connection
        self._runner = runner
        self._receiver = receiver
        self._plain = plain
        self._output = output
        self._loop = asyncio.get_running_loop()
        self._near = connection.within is not None
        self.address = receiver.address
        self.ordered = connection.worker_queue.ordered
        self._due: dict[int, GatewaySession] = {}
        """Sessions with unsent requests."""
        self._asking: dict[Asking, None] = {}
        """Connections whose next requests are plain reads, each once: it is answered what it asks for
        as often as it stands here, and may ask again while it is being answered."""
        self._scheduled = False
        """:meth:`_flush` is called soon."""
        self._collecting = False
        self._last: object = None
        """The connection that was active last, and for how many events in a row before."""
        self._row = 0

    def post(self, session: GatewaySession) -> None:
        """Send what the session has not sent, together with what others ask for by then."""
        self._due[session.id] = session
        if not self._scheduled and not self._collecting:
            self._flush_soon()

    def read_soon(self, connection: Asking) -> None:
        """Perform the plain reads of a connection, together with those of others."""
        self._asking[connection] = None
        if not self._scheduled and not self._collecting:
            self._flush_soon()

    def collect(self, connection: object, take: Callable[[], None]) -> None:
        """Have a connection take its input, and perform or send the requests that this causes.

        That is done at once where no other connection was active lately, else together with those
        of others in this turn of the loop.
        """
        if connection is self._last:
            self._row += 1
        else:
            self._last, self._row = connection, 0
        with self._output:
            self._collecting = True
            try:
                take()
            finally:
                self._collecting = False
            if (self._due or self._asking) and not self._scheduled:
                if (self._near or self._asking) and self._row >= _ALONE:
                    self._perform()
                else:
                    self._flush_soon()

    def forget(self) -> None:
        """Drop what was posted and not sent, since all sessions were detached."""
        self._due.clear()

    def repeat(self, session: GatewaySession, requests: tuple[Request, ...]) -> None:
        """Send a session's unanswered requests again."""
        if requests:
            self._loop.call_soon(self.send, [(session.message(requests), session.secret)])

    def _flush_soon(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        with self._output:
            self._perform()

    def _perform(self) -> None:
        """Perform what was asked for in this turn of the loop."""
        self._scheduled = False
        receiver = self._receiver
        if receiver.committing:
            return  # the service has ended
        self._collecting = True
        try:
            if self._asking:
                self._read()
            if self._due:
                self._write()
                if self._asking and not receiver.committing:
                    self._read()  # what waited for these writes
        finally:
            self._collecting = False
        if self._due or self._asking:
            self._flush_soon()

    def _read(self) -> None:
        asking, self._asking = self._asking, {}
        self._plain.perform(asking)

    def _write(self) -> None:
        due, self._due = self._due, {}
        if self._near:
            self._commit([message for session in due.values() for message in session.take()])
            return
        for session in due.values():
            if session.sending:
                # It is posted again when those messages are sent: so they keep their order.
                continue
            taken = [(each, session.secret) for each in session.take()]
            if taken:
                session.sending = True
                future = self._runner.submit(self._enqueue, taken)
                future.add_done_callback(partial(self._runner.soon, self._sent, session))

    def _sent(self, session: GatewaySession, _: object) -> None:
        session.sending = False
        if session.unsent:
            self.post(session)

    def send(self, batch: Sequence[Signed]) -> None:
        """Hand messages to the writer. Those that get lost are sent again by their session."""
        if self._near:
            self._commit([message for message, _ in batch])
        else:
            self._runner.submit(self._enqueue, batch)

    def _commit(self, messages: Sequence[Message]) -> None:
        within, receiver = self._connection.within, self._receiver
        if within is None or not messages:
            return
        self._output.flush()  # what is answered does not wait for the writer
        receiver.committing = True
        try:
            within.commit(messages)
        except DriverError as error:
            # The service has ended, perhaps between an early reply and its records: until the server
            # has ended, too, nothing may be read.
            _log.warning("could not send a request: %s", error)
            return
        receiver.committing = False
        receiver.committed()

    def _enqueue(self, batch: Sequence[Signed]) -> None:
        """Send messages in their order, in a thread of the pool."""
        for message, secret in batch:
            try:
                messages.send(self._connection.worker_queue, message, secret)
            except DriverError as error:
                _log.warning("could not send a request, will retry: %s", error)

    async def ask(
        self,
        key: object,
        message: Message,
        secret: bytes,
        timeout: float = 30.0,
        unheard: Unheard | None = None,
    ) -> Reply:
        """Send a message and return its reply. The message is sent again, in growing intervals.

        ``key``: of the reply, as :meth:`ReplyReceiver.expect` says. ``timeout``: seconds.
        ``unheard``: looks for what the message did, if it opens a session. Raises TimeoutError,
        DriverError, and what ``unheard`` raises.
        """
        deadline = self._loop.time() + timeout
        with self._receiver.expect(key, secret) as reply:
            for pause in doubling(OPEN_S):
                self.send([(message, secret)])
                left = deadline - self._loop.time()
                done, _ = await asyncio.wait((reply,), timeout=min(pause, left))
                if done:
                    return reply.result()
                if left <= pause:
                    raise TimeoutError
                if unheard is not None:
                    await self._runner.call(unheard.look, self._loop.time(), self.address)
        raise AssertionError("intervals have no end")
