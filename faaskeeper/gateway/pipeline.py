"""The requests of one connection: begun in their order, performed, answered in their order.

:class:`~faaskeeper.session.order.Order` says which request may begin: writes are sent on together,
reads wait for the writes before them and are done one at a time. A request goes through these
stages:

=========  =======================================================  ==========================
stage      what happens                                             next
=========  =======================================================  ==========================
waiting    requests before it are not done, the client does not     storing, sent, reading
           read its replies, or the writer runs in this thread
           (which a read waits for)
storing    data too large for a message goes to the blob store; no  sent
           other request begins
sent       a write is with the writer; writes after it may be sent  answered
reading    a read is performed; with far stores, plain reads that   answered
           follow each other are performed together, as one read;
           with near ones, or from memory, see
           :mod:`faaskeeper.gateway.plain`
answered   the reply is in the connection's output
=========  =======================================================  ==========================
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from operator import attrgetter
from typing import Any, NamedTuple, Protocol

from faaskeeper.core.acl import Credential
from faaskeeper.core.errors import DriverError
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Outcome
from faaskeeper.gateway import protocol
from faaskeeper.gateway.frames import PAUSE_BYTES
from faaskeeper.gateway.hub import Hub
from faaskeeper.gateway.identity import ClientIdentity
from faaskeeper.gateway.metrics import ConnectionStats, Metrics
from faaskeeper.gateway.protocol import (
    About,
    Read,
    ReadTogether,
    Refused,
    Request,
    SetWatches,
    Unsupported,
    Write,
)
from faaskeeper.gateway.reads import Reader
from faaskeeper.gateway.sessions import GatewaySession
from faaskeeper.gateway.watches import ConnectionWatches
from faaskeeper.session.commands import Steps
from faaskeeper.session.order import Order
from faaskeeper.session.upload import largest, upload

_log = logging.getLogger(__name__)

_MAX_WAITING = 1_000
_MAX_WAITING_BYTES = 4 * 1024 * 1024
"""Unanswered requests, and bytes of them, above which nothing more is taken from a client."""
_TOGETHER = 64
"""Reads that are performed in one call where stores are far."""
_COUNTING = frozenset((protocol.GET_DATA, protocol.MULTI_READ, protocol.GET_ALL_CHILDREN_NUMBER))
"""Reads that may have to count a subtree."""


class Pending(NamedTuple):
    """A request without a reply.

    ``size``: bytes of its frame. ``came``: when it came, by the server's clock. ``auth``,
    ``reader``: the identities that it is performed with. ``path``: of a read that sets no watch, ""
    for all others.
    """

    xid: int
    request: Request
    auth: tuple[Credential, ...]
    reader: Reader
    size: int
    came: float
    path: str


_plain: Callable[[Pending], str] = attrgetter("path")
"""Whether a request is a read that sets no watch."""


class Client(Protocol):
    """The connection by which requests come."""

    @property
    def held(self) -> bool:
        """Whether it has stopped to take frames."""

    def hold(self) -> None:
        """Take no frames until a request was answered."""

    def writable(self) -> bool:
        """Whether replies may be sent now; if not, :meth:`proceed` is called when they may."""

    def proceed(self) -> None:
        """A request was answered: begin what waits, take the frames that have come."""

    def send(self, frame: bytes) -> None:
        """Send a frame."""

    def end(self, why: str) -> None:
        """End the connection, for a reason that is logged."""

    def close(self) -> None:
        """Close the connection after what was sent."""


class RequestPipeline:
    """Requests of one connection, from when its session is open."""

    def __init__(
        self,
        hub: Hub,
        client: Client,
        session: GatewaySession,
        identity: ClientIdentity,
        watches: ConnectionWatches,
        metrics: Metrics,
        stats: ConnectionStats,
    ) -> None:
        self._hub = hub
        self._near = hub.near
        self._plainly = hub.near or hub.follower is not None
        """Plain reads are performed with those of others."""
        self._sender = hub.sender
        self._receiver = hub.receiver
        self._watches = hub.watches
        self._client = client
        self._send = client.send
        self._drive = hub.runner.drive
        self._session = session
        self._identity = identity
        self._own_watches = watches
        self._metrics = metrics
        self._stats = stats
        self._order: Order[Pending] = Order(1)
        self._bytes = 0
        """Bytes of unanswered requests."""
        self._counting: Steps | None = None
        """Steps of a read that may take long, and leaves no watch."""
        self._joined = 0
        """Reads that are under way as part of another."""
        self._run: list[Pending] = []
        """Plain reads that are being performed, where stores are near."""
        self._asks = False
        """They are to be performed in this turn of the event loop."""
        self._closed = False
        self._advancing = False
        self.authenticated()

    def authenticated(self) -> None:
        """Perform later requests with the identities that the client has by now."""
        self._reader = Reader(
            self._watches.rules, self._own_watches.callback, self._identity.proven, self._session.id
        )

    def close(self) -> None:
        """Begin nothing more, answer nothing more."""
        self._closed = True
        self._order.abandon()
        if self._counting is not None:
            with suppress(ValueError):  # it is at this very step, which ended the connection
                self._counting.close()

    @property
    def unanswered(self) -> int:
        """Number of requests without a reply."""
        return len(self._order) + self._order.writing + self._order.reading + self._joined

    @property
    def full(self) -> bool:
        """Whether no more requests should be taken from the client now."""
        number = len(self._order) + self._order.writing + self._joined
        return number >= _MAX_WAITING or self._bytes >= _MAX_WAITING_BYTES

    # ---- order -----------------------------------------------------------------------------

    def add(self, xid: int, request: Request, size: int) -> None:
        """Take in a request of so many bytes; :meth:`advance` begins it."""
        write = isinstance(request, Write)
        path = request.path if isinstance(request, Read) and not request.watch else ""
        auth, came = self._identity.credentials, self._session.active
        self._order.add(write, Pending(xid, request, auth, self._reader, size, came, path))
        self._bytes += size
        if len(self._order.queue) + self._joined >= _MAX_WAITING or self._bytes >= _MAX_WAITING_BYTES:
            self._client.hold()

    def arrived(self) -> None:
        """Begin the requests that were added and may begin, together with those of others."""
        queue = self._order.queue
        # One that may not begin would ask again in each turn, where part of a frame has come.
        if self._plainly and queue and queue[0][1].path and self._order.may_read():
            self._ask()
        else:
            self.advance()

    def _ask(self) -> None:
        if not self._asks:
            self._asks = True
            self._sender.read_soon(self)

    def advance(self) -> None:
        """Begin the requests that may begin; plain reads from near stores or memory with those of others."""
        if self._advancing:
            return  # a request that is answered at once comes back here
        self._advancing = True
        order, client, receiver = self._order, self._client, self._receiver
        queue = order.queue
        try:
            while queue and client.writable():
                if self._plainly and _plain(queue[0][1]) and order.may_read() and not receiver.committing:
                    self._ask()
                    break
                if not self._begin():
                    break
        finally:
            self._advancing = False

    def _begin(self) -> bool:
        """Begin the next request, if it may begin."""
        receiver, order = self._receiver, self._order
        if order.queue and not order.writing and self._lacks_owned(order.queue[0][1].request):
            self._session.when_answered(self._client.proceed)
            return False
        pending = order.next(not receiver.committing)
        if pending is not None:
            self._BEGIN[type(pending.request)](self, pending, pending.request)
            return True
        if receiver.committing and not order.writing:
            # The next request is a read, which waits for the writer only.
            receiver.after_commit(self._client.proceed)
        return False

    def _lacks_owned(self, request: Request) -> bool:
        """Whether a request asks for ephemerals while creates of an earlier connection have no answer.

        The transaction that the answer is as of may be one of them, and their paths are not known.
        """
        return isinstance(request, About) and request.kind == protocol.GET_EPHEMERALS and self._session.waits

    def _answer(self, pending: Pending, error: int, record: bytes) -> None:
        self._bytes -= pending.size
        if self._closed:
            return
        zxid = self._watches.rules.seen
        self._send(protocol.reply(pending.xid, zxid, error, record))
        self._count({(pending.request.kind, error, pending.came): 1}, pending.xid, zxid)

    def _count(self, counts: dict[tuple[int, int, float], int], xid: int, zxid: int) -> None:
        """Count answers by type, error and time of the request; ``xid``, ``zxid``: of the last one."""
        for (kind, error, came), number in counts.items():
            took = self._metrics.answered(kind, error, came, number)
            self._stats.answered(kind, xid, zxid, took, number)

    # ---- writes ----------------------------------------------------------------------------

    def _write(self, pending: Pending, request: Write) -> None:
        limit = self._hub.connection.inline_bytes
        if pending.size > limit and (large := largest(request.operation, limit)):
            self._store(pending, request, large)
        else:
            self._session.submit(request.operation, pending.auth, self, pending)

    def _store(self, pending: Pending, request: Write, large: int) -> None:
        """Store large data before the write is sent."""
        connection, session = self._hub.connection, self._session
        limit = connection.inline_bytes
        if connection.blobs is None:
            self._client.end(f"data of {large} bytes: this deployment holds at most {limit}")
            return

        def stored(operation: Any, error: BaseException | None) -> None:
            self._order.release()
            if error is not None:
                self._client.end(f"data could not be stored: {error}")
            elif not self._closed:
                self._session.submit(operation, pending.auth, self, pending)
                self._client.proceed()

        self._order.hold()
        steps = upload(request.operation, limit, session.id, connection.service(), self._hub.random)
        self._drive(steps, stored)

    def written(self, answers: list[tuple[Pending, Outcome]]) -> None:
        self._order.done(True, len(answers))
        if self._closed:
            return
        counts: dict[tuple[int, int, float], int] = {}
        seen = self._watches.rules.seen
        xid = zxid = 0
        for (xid, request, _, _, size, came, _), outcome in answers:
            if not isinstance(request, Write):
                raise AssertionError("what is written is a write")
            error, record = protocol.written(request, outcome)
            zxid = outcome.txid or seen
            self._send(protocol.reply(xid, zxid, error, record))
            self._bytes -= size
            answered = request.kind, error, came
            counts[answered] = counts.get(answered, 0) + 1
            if request.kind == protocol.CLOSE_SESSION:
                self._client.close()
                break
        self._count(counts, xid, zxid)
        if not self._closed and (self._order.queue or self._client.held):
            self._client.proceed()

    # ---- reads -----------------------------------------------------------------------------

    def proceed(self) -> None:
        self._client.proceed()

    def plain_paths(self, most: int) -> list[str]:
        self._asks = False
        if self._closed or not self._client.writable():
            return []
        self._run = self._order.reads(_plain, most)
        return [pending.path for pending in self._run]

    def answer_from(self, records: Mapping[str, Record | None], ticket: int) -> bool:
        run, order, rules = self._run, self._order, self._watches.rules
        at = self._answer_some(run, records, ticket)
        if at < len(run):
            self._advancing = True
            try:
                while at < len(run) and self._client.writable():
                    self._begin()  # this one meets something, or takes more than its record
                    at += 1
                    if order.reading or self._closed or rules.ticket != ticket:
                        break
                    while at < len(run) and not order.comes(run[at]):
                        at += 1  # it was performed together with that one
                    at += self._answer_some(run[at:], records, ticket)
            finally:
                self._advancing = False
        if at == len(run) and order.queue and not order.reading:
            return True
        if order.queue or self._client.held:
            self._client.proceed()
        return False

    def _answer_some(self, run: Sequence[Pending], records: Mapping[str, Record | None], ticket: int) -> int:
        """Answer the first of some reads from their records, as far as these may be shown as they are
        and the answers may be sent now; returns how many were answered.
        """
        rules = self._watches.rules
        zxid = rules.seen
        counts: dict[tuple[int, int, float], int] = {}
        number = size = xid = 0
        for xid, request, _, reader, taken, came, path in run:
            if path not in records or size > PAUSE_BYTES:
                break
            record = records[path]
            reply = (
                reader.at_once(request.kind, path, record) if rules.accepts(path, record, ticket) else None
            )
            if reply is None:
                break
            rules.observer.shown(path, record)
            error, body = reply
            self._send(protocol.reply(xid, zxid, error, body))
            self._bytes -= taken
            size += len(body)
            number += 1
            answered = request.kind, error, came
            counts[answered] = counts.get(answered, 0) + 1
        if not self._closed:  # by a client that reads too slowly
            self._order.skip(number)
        self._count(counts, xid, zxid)
        return number

    def _read(self, pending: Pending, request: Read) -> None:
        if request.watch:
            self._own_watches.paths.add(request.path)
        elif not self._near and (
            following := self._order.join(_together_with(pending.reader), _TOGETHER - 1)
        ):
            self._read_run([pending, *following])
            return
        self._perform(pending, pending.reader.read(request))

    def _read_about(self, pending: Pending, request: About) -> None:
        if request.kind == protocol.ADD_WATCH:
            self._own_watches.paths.add(request.path)
        self._perform(pending, pending.reader.about(request, self._session.owned))

    def _read_together(self, pending: Pending, request: ReadTogether) -> None:
        self._perform(pending, pending.reader.read_together(request))

    def _set_watches(self, pending: Pending, request: SetWatches) -> None:
        self._own_watches.paths.update(*request[2:])
        self._perform(pending, pending.reader.set_watches(request))

    def _unsupported(self, pending: Pending, request: Unsupported) -> None:
        self._order.done(False)
        self._answer(pending, request.error, request.record)

    def _perform(self, pending: Pending, steps: Steps) -> None:
        request = pending.request
        if request.kind in _COUNTING and not getattr(request, "watch", False):
            self._counting = steps
        self._drive(steps, lambda record, error: self._was_read(pending, record, error))

    def _was_read(self, pending: Pending, record: Any, error: BaseException | None) -> None:
        self._order.done(False)
        self._counting = None
        if self._closed:
            # The read may have left a watch after the others were removed.
            self._own_watches.release()
            return
        if error is None:
            self._answer(pending, 0, record)
        elif isinstance(error, Refused):
            self._own_watches.forget(getattr(pending.request, "path", ""))
            self._answer(pending, error.error, b"")
        else:
            self._failed(error)
            return
        if self._order.queue or self._client.held:
            self._client.proceed()

    def _read_run(self, run: list[Pending]) -> None:
        """Perform plain reads together."""
        requests = [each.request for each in run if isinstance(each.request, Read)]

        def done(results: Any, error: BaseException | None) -> None:
            self._order.done(False)
            self._joined = 0
            self._counting = None
            if self._closed:
                return
            if error is not None:
                self._failed(error)
                return
            for pending, (code, record) in zip(run, results, strict=True):
                self._answer(pending, code, record)
            self._client.proceed()

        self._joined = len(run) - 1
        self._counting = run[0].reader.read_plainly(requests)
        self._drive(self._counting, done)

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, DriverError):
            _log.error("a request of session 0x%x failed", self._session.id, exc_info=error)
        self._client.end(f"the deployment did not answer: {error}")

    _BEGIN: dict[type, Callable[..., None]] = {  # noqa: RUF012
        Write: _write,
        Read: _read,
        About: _read_about,
        ReadTogether: _read_together,
        SetWatches: _set_watches,
        Unsupported: _unsupported,
    }


def _together_with(reader: Reader) -> Callable[[Pending], bool]:
    """Whether a request is a plain read for the same identities."""

    def fits(pending: Pending) -> bool:
        return pending.reader is reader and pending.path != ""

    return fits
