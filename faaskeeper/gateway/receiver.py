"""Replies and notifications from the service: verified, met by the rules, handed to their sessions.

Where the service runs in this process, its writer passes replies on before their records are in
user storage. Nothing is read before the writer is done (``docs/architecture/gateway.md``, Early
replies): such reads wait by :meth:`ReplyReceiver.after_commit`.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from faaskeeper.core.connection import Connection
from faaskeeper.core.requests import Notification, Reply
from faaskeeper.gateway.output import OutputBatch
from faaskeeper.gateway.sessions import GatewaySession
from faaskeeper.gateway.watches import SharedWatches
from faaskeeper.session import messages

_log = logging.getLogger(__name__)


class _Question(NamedTuple):
    """A request outside of any served session, and the secret that its reply is signed with."""

    reply: asyncio.Future[Reply]
    secret: bytes


class ReplyReceiver:
    """Listens to the deployment's channel. ``sessions``: those served here, by id."""

    def __init__(
        self,
        connection: Connection,
        watches: SharedWatches,
        output: OutputBatch,
        sessions: Mapping[int, GatewaySession],
    ) -> None:
        self._connection = connection
        self._watches = watches
        self._runner = watches.runner
        self._output = output
        self._sessions = sessions
        self._loop = asyncio.get_running_loop()
        self._session = 0
        self._secret = b""
        self._questions: dict[object, _Question] = {}
        self._inbox: deque[bytes | Reply] = deque()
        self._early: list[Reply] = []
        """Replies from a writer in another thread, whose records may not be in user storage."""
        self._meeting = False
        """The epoch of a message is being met; the messages after it wait."""
        self._draining = False
        self.committing = False
        """The writer runs in this thread, or has failed: nothing may be read."""
        self._after_commit: list[Callable[[], None]] = []
        within = connection.within
        if within is None:
            self._listener = connection.channel.listen(self._received)
        else:
            self._listener = within.listen(self._received, self._settled)

    @property
    def address(self) -> str:
        """Where replies are sent to."""
        return self._listener.address

    def close(self) -> None:
        """Stop to listen."""
        self._listener.close()

    def identify(self, session: int, secret: bytes) -> None:
        """Accept what is signed for the server's own session. ``session`` 0: it is not open yet."""
        self._session, self._secret = session, secret

    # ---- questions -----------------------------------------------------------------------

    @contextmanager
    def expect(self, key: object, secret: bytes) -> Iterator[asyncio.Future[Reply]]:
        """A future of the reply with a key: a nonce, or (session, incarnation, cxid)."""
        reply: asyncio.Future[Reply] = self._loop.create_future()
        self._questions[key] = _Question(reply, secret)
        try:
            yield reply
        finally:
            self._questions.pop(key, None)

    def _question(self, reply: Reply) -> _Question | None:
        if reply.nonce:
            return self._questions.get(reply.nonce)
        keys = ((reply.session, reply.incarnation, cxid) for cxid, _ in reply.outcomes)
        return next((self._questions[key] for key in keys if key in self._questions), None)

    # ---- commits in this thread ----------------------------------------------------------

    def after_commit(self, call: Callable[[], None]) -> None:
        """Call something when the writer that runs now is done."""
        self._after_commit.append(call)

    def committed(self) -> None:
        """The writer is done: take in what is left, and do what waited for it."""
        if self._inbox or self._after_commit:
            with self._output:
                self._drain()
                waiting, self._after_commit = self._after_commit, []
                for call in waiting:
                    call()

    # ---- messages ------------------------------------------------------------------------

    def _received(self, message: bytes | Reply) -> None:
        """A message of the channel, in any thread.

        In the loop's thread it comes from the writer that runs in it: clients are answered before
        the writer goes on to what they need not wait for.
        """
        if self._runner.inside:
            self._inbox.append(message)
            self._drain()
        elif isinstance(message, bytes):
            self._inbox.append(message)
            self._runner.soon(self._drain)
        else:
            self._early.append(message)

    def _settled(self) -> None:
        """The records of replies that came in another thread are in user storage."""
        if not self._runner.inside:
            self._inbox.extend(self._early)
            self._early.clear()
            self._runner.soon(self._drain)

    def _drain(self) -> None:
        """Take messages in, one after the other."""
        draining, self._draining = self._draining, True
        try:
            with self._output:
                while self._inbox and not self._meeting:
                    message = self._verified(self._inbox.popleft())
                    if message is not None:
                        self._meeting = True
                        steps = self._watches.rules.meet(message.epoch, settled=True)
                        self._runner.drive(steps, partial(self._met, message))
        finally:
            self._draining = draining
        if self.committing:
            # Clients need not wait for what the writer does after it has answered.
            self._output.flush()

    def _met(self, message: Reply | Notification, _: object, error: BaseException | None) -> None:
        """An epoch was met: hand the reply on."""
        self._meeting = False
        if error is not None:
            # Nothing is lost: requests are sent again, and reads meet the epoch.
            _log.warning("a message of the service could not be taken in: %s", error)
        elif isinstance(message, Reply):
            self._deliver(message)
        if self._inbox and not self._draining:
            self._loop.call_soon(self._drain)

    def _verified(self, message: bytes | Reply) -> Reply | Notification | None:
        """The message, or None where its sender did not know the session's secret."""
        if not isinstance(message, bytes):
            return message
        return messages.verified(message, self._secret_of)

    def _secret_of(self, message: Reply | Notification) -> bytes | None:
        if isinstance(message, Notification) or message.session == self._session:
            return self._secret
        session = self._sessions.get(message.session)
        if session is not None:
            return session.secret
        question = self._question(message)
        return None if question is None else question.secret

    def _deliver(self, reply: Reply) -> None:
        self._connection.note_time(reply)
        session = self._sessions.get(reply.session)
        if session is not None and session.incarnation == reply.incarnation and not reply.nonce:
            session.replied(reply)
            return
        question = self._question(reply)
        if question is not None and not question.reply.done():
            question.reply.set_result(reply)
