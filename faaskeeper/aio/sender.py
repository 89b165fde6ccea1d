"""Sends a session's requests and resends unanswered ones; one call at a time, in a thread."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from typing import Any

from faaskeeper.aio.threads import Threads
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError
from faaskeeper.core.requests import Message, Request
from faaskeeper.session import messages
from faaskeeper.session.incarnation import Incarnation
from faaskeeper.session.timing import Resending

_log = logging.getLogger(__name__)


class Sender:
    """Belongs to the loop that runs at its creation.

    ``suspended`` is called when the queue fails, ``failed`` after any other error.

    One call sends at a time, so messages keep their order. Meanwhile requests gather in the outbox;
    when the call returns, the next takes all of them. So no request remains unsent: each finds a
    call that has not returned, or begins one.
    """

    def __init__(
        self,
        connection: Connection,
        incarnation: Incarnation[Any],
        threads: Threads,
        suspended: Callable[[], None],
        failed: Callable[[BaseException], None],
    ) -> None:
        self._connection = connection
        self._incarnation = incarnation
        self._outbox = incarnation.outbox
        self._threads = threads
        self._suspended = suspended
        self._failed = failed
        self._loop = asyncio.get_running_loop()
        self._over = False
        self.sending = False
        """A call is sending, or :meth:`_send_in_turn` is about to begin one (``_scheduled``)."""
        self._scheduled = False
        self._repeat = 0
        """Resend unanswered requests from this number on, after the present call; 0: none."""
        self._all = False
        """Resend all unanswered requests, after the present call."""
        self._resending = Resending(self._loop.time())
        self._looking: asyncio.TimerHandle | None = None

    def expect(self) -> None:
        """Prepare resends, before a request is numbered: it is resent until it is answered."""
        if not len(self._outbox):
            self._resending.restart(self._loop.time())
        if self._looking is None:
            self._looking = self._loop.call_at(self._resending.at, self._look_again)

    def flush(self) -> None:
        """Send unsent requests at the end of this turn of the loop, or once they fill a message."""
        if self._scheduled and not self._outbox.wait():
            self._send_unsent()
        elif not self.sending and self._outbox.unsent:
            self.sending = self._scheduled = True
            self._loop.call_soon(self._send_in_turn)

    def _send_in_turn(self) -> None:
        if self._scheduled:
            self._send_unsent()

    def _send_unsent(self) -> None:
        self._scheduled = False
        batch: list[Message] = []
        repeat = not self._connection.worker_queue.ordered
        while requests := self._outbox.take(repeat):
            batch.append(self._incarnation.message(requests))
        if batch:
            self._send(batch)
        else:  # the session was lost meanwhile
            self.sending = False

    def _send(self, batch: Sequence[Message]) -> None:
        self.sending = True
        self._threads.run(self.post, batch).add_done_callback(self._sent)

    def post(self, batch: Sequence[Message]) -> None:
        """Send messages. Blocks; any thread may call it. Raises DriverError."""
        queue = self._connection.prompt_queue or self._connection.worker_queue
        for message in batch:
            messages.send(queue, message, self._incarnation.secret)

    def _sent(self, future: asyncio.Future[None]) -> None:
        self.sending = False
        error = None if future.cancelled() else future.exception()
        if isinstance(error, DriverError):
            _log.warning("could not send a request, will retry: %s", error)
            self._suspended()
        elif error is not None:
            self._failed(error)
        if self._over:
            return
        repeat, self._repeat = self._repeat, 0
        if self._all:
            self.resend_all()
        elif repeat and (requests := self._outbox.resend(repeat)):
            self._send([self._incarnation.message(requests)])
        else:
            self.flush()

    def resend(self, requests: tuple[Request, ...]) -> None:
        """Resend requests, after the present call."""
        if requests and self.sending:
            self._repeat = requests[0].cxid
        elif requests:
            self._send([self._incarnation.message(requests)])

    def resend_all(self) -> None:
        """Resend all unanswered requests, after the present call: the service lost them."""
        self._all = self.sending
        if not self.sending:
            batch = [self._incarnation.message(requests) for requests in self._outbox.resend_all()]
            if batch:
                self._send(batch)

    def _look_again(self) -> None:
        """Resend unanswered requests, if that is due."""
        self._looking = None
        if not self._over and len(self._outbox):
            if self._resending.due(self._loop.time(), self._outbox):
                self.resend(self._outbox.resend(self._outbox.acked + 1))
            self._looking = self._loop.call_at(self._resending.at, self._look_again)

    def wake(self) -> None:
        """Make the writer look at the log, by a message without requests or by the present call."""
        if not self.sending:
            self._send([self._incarnation.message(())])

    def stop(self) -> None:
        """Stop all resends: the session is over."""
        self._over = True
        if self._looking is not None:
            self._looking.cancel()
