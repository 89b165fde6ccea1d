"""One client's connection: frames in and out, in order.

A connection goes through the states of :class:`State`. Requests are answered in the order in which they were
sent: writes that follow each other are sent on together; a read waits until the writes before it are
answered, and what follows a read waits for it. A request whose record is wrong is answered with an error.
Whatever else is wrong with a frame ends the connection that it came by, with a line in the log that says
what, and touches nobody else.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from contextlib import suppress
from enum import Enum, auto
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from faaskeeper.core import acl as acls
from faaskeeper.core.acl import Credential, Identity
from faaskeeper.core.errors import DriverError
from faaskeeper.core.requests import Close, Outcome
from faaskeeper.gateway import admin, protocol
from faaskeeper.gateway.hub import Failed
from faaskeeper.gateway.jute import Malformed, text
from faaskeeper.gateway.metrics import Spent
from faaskeeper.gateway.protocol import (
    About,
    Auth,
    Connect,
    NotHere,
    Ping,
    Read,
    ReadTogether,
    Refused,
    Request,
    SetWatches,
    Write,
)
from faaskeeper.gateway.reads import Reader
from faaskeeper.gateway.sessions import PASSWORD_BYTES, Busy, GatewaySession, Gone
from faaskeeper.session.commands import Steps
from faaskeeper.session.upload import largest, upload
from faaskeeper.watch import WatchedEvent

if TYPE_CHECKING:
    from faaskeeper.gateway.server import Gateway

_log = logging.getLogger(__name__)

FIRST_FRAME_BYTES = 4096
"""Most bytes of a frame before there is a session."""
CONNECT_S = 30.0
"""How long a client may take to ask for a session, and to read the last that it is told."""
OUT_BYTES = 16 * 1024 * 1024
"""Most bytes that wait for a client that reads slowly; above it the connection is ended."""
_PAUSE_BYTES = 256 * 1024
"""Bytes to a client above which nothing more is taken from it."""
_WAITING = 1_000
_WAITING_BYTES = 4 * 1024 * 1024
"""Requests, and bytes of them, that wait to be answered before nothing more is taken from a client."""
_TOGETHER = 64
"""Reads that are done in one call where stores are far."""


_PING = b"\x00\x00\x00\x08\xff\xff\xff\xfe\x00\x00\x00\x0b"


class State(Enum):
    """Of a connection."""

    NEW = auto()
    CONNECTING = auto()
    OPEN = auto()
    CLOSED = auto()


class _Waiting(NamedTuple):
    """A request that is not begun: when it came, under which credentials, and how long its frame was."""

    xid: int
    request: Request
    auth: tuple[Credential, ...]
    reader: Reader
    size: int
    came: float


class Wire(asyncio.BufferedProtocol):
    """See the module."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._hub = gateway.hub
        self._metrics = gateway.metrics
        self.state = State.NEW
        self.peer = ""
        self.session: GatewaySession | None = None
        self.since = time.time()
        self.received = 0
        self.sent = 0
        self.spent = Spent()
        self.watched: set[str] = set()
        self._in = bytearray()
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._transport: asyncio.Transport | None = None
        self._paused = False
        self._choked = False
        self._waiting: deque[_Waiting] = deque()
        self._waiting_bytes = 0
        self._writing = 0
        self._reading = False
        self._counting: Steps | None = None
        self._advancing = False
        self._looking = False
        self._word = False
        self._taking = False
        self._auth: tuple[Credential, ...] = ()
        self._who: tuple[Identity, ...] = ()
        self._reader: Reader | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._watcher = self.fired

    # ---- the socket ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        self._transport = cast(asyncio.Transport, transport)
        address = transport.get_extra_info("peername")
        self.peer = f"{address[0]}:{address[1]}" if address else "?"
        if not self._gateway.admit(self):
            self.state = State.CLOSED
            self._transport.abort()
            return
        self._transport.set_write_buffer_limits(high=_PAUSE_BYTES)
        self._deadline = asyncio.get_running_loop().call_later(
            CONNECT_S, self.end, f"no session was asked for within {CONNECT_S:g} s"
        )
        self._identify(address[0] if address else "")

    def _identify(self, host: str) -> None:
        """Who is there before it shows anything: an address, and whose certificate it has."""
        connection = self._hub.connection
        if host and host != connection.peer and connection.vouch is not None:
            self._auth = (connection.vouch(host, "ip"),)
        self._who = (("ip", host),) if host else ()
        name = _subject(self._transport)
        if name and connection.vouch is not None:
            self._auth = (*self._auth, connection.vouch(name))
            self._who = (*self._who, ("x509", name))

    def get_buffer(self, sizehint: int) -> memoryview:
        """See :class:`asyncio.BufferedProtocol`: all connections share one, which is emptied at once."""
        return self._gateway.buffer

    def buffer_updated(self, nbytes: int) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        received = self._gateway.buffer[:nbytes]
        if nbytes == 12 and received == _PING and not self._in and not self._out and self._live():
            self.received += 1  # all that idle clients say
            self._write_now(protocol.reply(protocol.PING_XID, self._hub.rules.seen, 0))
            return
        self._in += received
        self._hub.receive(self, self._take)

    def _take(self) -> None:
        """Take the frames that are complete, as long as they may wait."""
        if self._taking:
            return  # what a frame caused came back here: the frames after it are taken where it was
        self._taking = True
        try:
            self._take_frames()
            while self._choked:
                self._flow()
                if self._choked:
                    break  # an answer, or room for one, goes on
                self._take_frames()
        finally:
            self._taking = False
        if self.state is State.CONNECTING:
            self._flow()

    def _take_frames(self) -> None:
        received = self._in
        at = 0
        most = self._gateway.max_buffer if self.state is State.OPEN else FIRST_FRAME_BYTES
        while len(received) - at >= 4 and self.state is not State.CLOSED and not self._choked:
            head = bytes(received[at : at + 4])
            if self.state is State.NEW and head in admin.COMMANDS:
                self._command(head)
                return
            length = int.from_bytes(head, "big", signed=True)
            if not 0 <= length <= most:
                self.end(f"a frame of {length} bytes; there may be {most}")
                return
            if len(received) - at - 4 < length:
                break
            body = bytes(received[at + 4 : at + 4 + length])
            at += 4 + length
            try:
                self._frame(body)
            except Malformed as error:
                self.end(f"malformed frame: {error}")
                return
            if self.state is State.CONNECTING:
                break  # what follows may be said in a session only
        if at:
            del received[:at]

    def _flow(self) -> None:
        """Take more from the client, or nothing for now."""
        many = len(self._waiting) + self._writing >= _WAITING or self._waiting_bytes >= _WAITING_BYTES
        self._choked = many or self._paused
        transport = self._transport
        if transport is None or self.state is State.CLOSED:
            return
        stop = self._choked or (self.state is State.CONNECTING and len(self._in) > FIRST_FRAME_BYTES)
        if stop and transport.is_reading():
            transport.pause_reading()
        elif not stop and not transport.is_reading():
            transport.resume_reading()

    def _go_on(self) -> None:
        """Something was answered: begin what waits, take what has come."""
        if (self._choked or self._paused) and not self._live():
            return
        self._advance()
        self._flow()
        if self._in and not self._choked:
            self._take()

    def pause_writing(self) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        self._paused = True
        self._flow()

    def resume_writing(self) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        with self._gateway.saying:
            self._live()  # it was not listened to: that it reads is what shows that it lives
            self._paused = False
            self._go_on()

    def eof_received(self) -> bool:
        """See :class:`asyncio.BufferedProtocol`: who asks by a word may say at once that this is all."""
        return self._word

    def connection_lost(self, error: Exception | None) -> None:
        """See :class:`asyncio.BufferedProtocol`."""
        if self.state is State.OPEN:
            _log.info("connection %s was lost", self._name())
        self._released()

    def _name(self) -> str:
        session = self.session
        return self.peer if session is None else f"{self.peer} of session 0x{session.id:x}"

    def end(self, why: str) -> None:
        """Close the connection, for a reason that is logged."""
        if self.state is State.CLOSED:
            return
        _log.warning("ended connection %s: %s", self._name(), why)
        self._metrics.ended()
        self.close()
        if self._transport is not None and self._transport.get_write_buffer_size() > _PAUSE_BYTES:
            self._transport.abort()  # it does not read

    def close(self) -> None:
        """Close the connection, after what was said."""
        if self.state is State.CLOSED:
            return
        self.flush()
        self._released()
        transport = self._transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(CONNECT_S, transport.abort)

    def _released(self) -> None:
        """Nothing is done for the connection any more."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        if self._deadline is not None:
            self._deadline.cancel()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._waiting.clear()
        if self._counting is not None:
            with suppress(ValueError):  # it is at this very step, which ended the connection
                self._counting.close()  # it may take long, and nobody waits for it any more
        session, self.session = self.session, None
        if session is not None and session.line is self:
            session.line = None
        self._gateway.left(self)

    @property
    def waiting(self) -> int:
        """How many requests have no answer yet."""
        return len(self._waiting) + self._writing + int(self._reading)

    def unwatch(self) -> Steps:
        """Steps that forget the connection's watches."""
        for path in list(self.watched):
            yield from self._hub.rules.remove_watches(path, _ALL_KINDS, self._watcher)

    # ---- saying ----------------------------------------------------------------------------

    def say(self, frame: bytes) -> None:
        """Send a frame, with others, soon."""
        if not self._out:
            self._gateway.saying.heard(self)
        self._out.append(frame)
        self._out_bytes += len(frame)
        if self._out_bytes > _PAUSE_BYTES:
            self.flush()

    def flush(self) -> None:
        """Send what was said."""
        transport = self._transport
        if not self._out or transport is None:
            return
        self._out_bytes = 0
        if self.state is State.CLOSED:
            self._out.clear()
            return
        self.sent += len(self._out)
        data = self._out[0] if len(self._out) == 1 else b"".join(self._out)
        self._out.clear()
        transport.write(data)
        if transport.get_write_buffer_size() > OUT_BYTES:
            waiting = transport.get_write_buffer_size()
            self.end(f"it reads too slowly: {waiting} bytes wait for it")

    def _write_now(self, frame: bytes) -> None:
        if self._transport is not None:
            self.sent += 1
            self._transport.write(frame)

    def fired(self, event: WatchedEvent) -> None:
        """A watch of the connection's fired."""
        if self.state is not State.OPEN:
            return
        self.say(protocol.event(event.event_type, event.path))
        self._unwatched(event.path)

    def _unwatched(self, path: str) -> None:
        """Forget that a path was watched, unless it is still."""
        if path in self.watched and not self._hub.rules.found(path, _ALL_KINDS, self._watcher):
            self.watched.discard(path)

    # ---- four-letter words -----------------------------------------------------------------

    def _command(self, word: bytes) -> None:
        self.state = State.CONNECTING  # not twice
        self._word = True
        self._in.clear()
        self._task = asyncio.get_running_loop().create_task(self._tell(word.decode()))

    async def _tell(self, word: str) -> None:
        self.say((await self._gateway.command(word)).encode())
        self.close()

    # ---- a session -------------------------------------------------------------------------

    def _frame(self, body: bytes) -> None:
        if self.state is State.NEW:
            request = protocol.to_connect(body)
            self.state = State.CONNECTING
            self._task = asyncio.get_running_loop().create_task(self._connect(request))
            return
        if self.session is None:
            raise Malformed("a request without a session")
        xid, request_ = protocol.to_request(body)
        self.received += 1
        self._hear(xid, request_, len(body))

    async def _connect(self, request: Connect) -> None:
        """Open a session, or find it again."""
        hub, reception = self._hub, self._gateway.reception
        try:
            if not hub.serving:
                self.end("the deployment cannot be reached now")
                return
            if request.session:
                session = await reception.come_back(request.session, request.password, request.timeout)
            else:
                session = await reception.open(request.timeout)
            if request.last_zxid > hub.rules.seen:
                await hub.perform(hub.rules.sync())
                if request.last_zxid > hub.rules.seen:
                    self.end(
                        f"its client has seen zxid 0x{request.last_zxid:x}, this deployment is at "
                        f"0x{hub.rules.seen:x}: it was a client of another"
                    )
                    return
        except Gone:
            _log.info("session 0x%x is over: %s is told", request.session & (1 << 64) - 1, self.peer)
            self.say(protocol.connected(0, 0, bytes(PASSWORD_BYTES), request.aware))
            self.close()
            return
        except Busy as error:
            self.end(str(error))
            return
        except (DriverError, Failed, TimeoutError) as error:
            self.end(f"no session: {error or 'the service did not answer'}")
            return
        except Exception as error:
            _log.exception("connection %s failed", self.peer)
            self.end(f"no session: {error!r}")
            return
        if self.state is not State.CONNECTING:
            return  # the client has gone meanwhile
        self._opened(session, request.aware)

    def _opened(self, session: GatewaySession, aware: bool) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
        before, session.line = session.line, self
        if before is not None:
            before.moved(f"session 0x{session.id:x} has connected again")
        session.heard = self._hub.now()
        self.session = session
        self.state = State.OPEN
        self._reader = Reader(self._hub.rules, self._watcher, self._who, session.id)
        self.say(protocol.connected(session.timeout, session.id, session.password, aware))
        _log.info("connection %s is open, time-out %d ms", self._name(), session.timeout)
        with self._gateway.saying:
            self._take()
            self._flow()

    def moved(self, why: str) -> None:
        """See :class:`faaskeeper.gateway.sessions.Line`."""
        self.end(why)

    # ---- requests ----------------------------------------------------------------------------

    def _hear(self, xid: int, request: Request, size: int) -> None:
        session = self.session
        if session is None or self._reader is None:
            raise AssertionError("open")
        if not self._live():
            return
        if isinstance(request, Ping):
            self.say(protocol.reply(xid, self._hub.rules.seen, 0))
            return
        if isinstance(request, Auth):
            self._show(xid, request, session)
            return
        self._waiting.append(_Waiting(xid, request, self._auth, self._reader, size, session.heard))
        self._waiting_bytes += size
        if len(self._waiting) >= _WAITING or self._waiting_bytes >= _WAITING_BYTES:
            self._choked = True
        self._advance()

    def _live(self) -> bool:
        """Note that the client lives, if it has a session; end the connection if it may not be served."""
        session = self.session
        if session is None:
            return False
        now = self._hub.now()
        if not self._hub.serves(now):
            self.end("the deployment cannot be reached now")
            return False
        session.heard = now
        return True

    def _show(self, xid: int, request: Auth, session: GatewaySession) -> None:
        """Take a credential in; it counts for the requests after it."""
        shown = text(request.shown)
        if request.scheme == "digest":
            if ("digest", shown) not in self._auth:
                if acls.size_of((*self._auth, ("digest", shown))) > acls.MAX_CREDENTIALS_BYTES:
                    self.say(protocol.reply(xid, 0, protocol.AUTH_FAILED))
                    self.end(f"its credentials have more than {acls.MAX_CREDENTIALS_BYTES} bytes")
                    return
                self._auth = (*self._auth, ("digest", shown))
                super_digest = self._hub.connection.super_digest
                self._who = (*self._who, *acls.identities([("digest", shown)], super_digest))
            self._reader = Reader(self._hub.rules, self._watcher, self._who, session.id)
            self.say(protocol.reply(xid, 0, 0))
            return
        if request.scheme == "ip":  # it is known without being shown
            self.say(protocol.reply(xid, 0, 0))
            return
        self.say(protocol.reply(xid, 0, protocol.AUTH_FAILED))
        self.end(f"authentication by the scheme {request.scheme!r} failed")

    def _advance(self) -> None:
        """Begin what may begin."""
        if self._advancing:
            return
        self._advancing = True
        try:
            while self._waiting and not self._reading and not self._paused and self.state is State.OPEN:
                if self._full():
                    return
                waiting = self._waiting[0]
                if isinstance(waiting.request, Write):
                    self._waiting.popleft()
                    self._write(waiting, waiting.request)
                elif self._writing:
                    return
                elif self._hub.committing:
                    self._hub.after_commit(self._go_on)
                    return
                else:
                    self._waiting.popleft()
                    self._read(waiting)
        finally:
            self._advancing = False

    def _full(self) -> bool:
        """Whether so much waits to be sent that nothing more should be begun now.

        Event loops may say so (``pause_writing``) only after this turn: it is looked at again in the next.
        """
        transport = self._transport
        if transport is None or transport.get_write_buffer_size() <= _PAUSE_BYTES:
            return False
        if not self._looking:
            self._looking = True
            asyncio.get_running_loop().call_soon(self._look_again)
        return True

    def _look_again(self) -> None:
        self._looking = False
        self._word = False
        if self.state is State.OPEN:
            with self._gateway.saying:
                self._go_on()

    def _write(self, waiting: _Waiting, request: Write) -> None:
        limit = self._hub.connection.inline_bytes
        if waiting.size > limit and (large := largest(request.operation, limit)):
            self._store(waiting, request, large)
            return
        self._submit(waiting, request)

    def _store(self, waiting: _Waiting, request: Write, large: int) -> None:
        """Put large data into the store of blobs first."""
        if self._hub.connection.blobs is None:
            most = self._hub.connection.inline_bytes
            self.end(f"data of {large} bytes: this deployment holds at most {most}")
            return
        session = self.session
        if session is None:
            return
        self._reading = True
        connection = self._hub.connection
        steps = upload(
            request.operation,
            connection.inline_bytes,
            session.id,
            connection.service(),
            self._hub.random,
        )

        def done(operation: Any, error: BaseException | None) -> None:
            self._reading = False
            if error is not None:
                self.end(f"data could not be stored: {error}")
            elif self.state is State.OPEN:
                self._submit(waiting, request._replace(operation=operation))
                self._go_on()

        self._hub.drive(steps, done)

    def _submit(self, waiting: _Waiting, request: Write) -> None:
        session = self.session
        if session is None:
            return
        self._writing += 1
        session.submit(request.operation, waiting.auth, lambda each: self._written(waiting, request, each))

    def _written(self, waiting: _Waiting, request: Write, outcome: Outcome) -> None:
        self._writing -= 1
        if self.state is not State.OPEN:
            return
        error, record = protocol.written(request, outcome)
        self._answer(waiting, error, record, outcome.txid)
        if isinstance(request.operation, Close):
            self.close()
            return
        if self._waiting or self._choked:
            self._go_on()

    def _read(self, waiting: _Waiting) -> None:
        request, reader = waiting.request, waiting.reader
        if isinstance(request, Read):
            if not self._hub.near and not request.watch and self._read_on(waiting, request):
                return
            steps = reader.read(request)
            if request.watch:
                self.watched.add(request.path)
        elif isinstance(request, About):
            session = self.session
            if request.kind == protocol.ADD_WATCH:
                self.watched.add(request.path)
            steps = reader.about(request, session.owned if session is not None else ())
        elif isinstance(request, ReadTogether):
            steps = reader.read_together(request)
        elif isinstance(request, SetWatches):
            self.watched.update(*request[2:])
            steps = reader.set_watches(request)
        elif isinstance(request, NotHere):
            self._answer(waiting, request.error, request.record)
            return
        else:
            raise AssertionError(f"not a read: {request!r}")
        self._reading = True
        if request.kind in _COUNTING and not getattr(request, "watch", False):
            self._counting = steps
        self._hub.drive(steps, lambda result, error: self._was_read(waiting, result, error))

    def _read_on(self, first: _Waiting, request: Read) -> bool:
        """Do a run of plain reads in one call; False where there is but one."""
        run = [first]
        reads = [request]
        while self._waiting and len(run) < _TOGETHER:
            following = self._waiting[0].request
            if (
                not isinstance(following, Read)
                or following.watch
                or self._waiting[0].reader is not first.reader
            ):
                break
            reads.append(following)
            run.append(self._waiting.popleft())
        if len(run) == 1:
            return False
        self._reading = True

        def done(results: Any, error: BaseException | None) -> None:
            self._reading = False
            self._counting = None
            if self.state is State.CLOSED:
                return
            if error is not None:
                self._failed(error)
                return
            for waiting, (code, record) in zip(run, results, strict=True):
                self._answer(waiting, code, record)
            self._go_on()

        self._counting = first.reader.read_plainly(reads)
        self._hub.drive(self._counting, done)
        return True

    def _was_read(self, waiting: _Waiting, record: Any, error: BaseException | None) -> None:
        self._reading = False
        self._counting = None
        if self.state is State.CLOSED:
            self._gateway.unwatch(self)  # what was left by a read that was under way when it ended
        elif error is None:
            self._answer(waiting, 0, record)
        elif isinstance(error, Refused):
            self._unwatched(getattr(waiting.request, "path", ""))
            self._answer(waiting, error.error, b"")
        else:
            self._failed(error)
            return
        if self._waiting or self._choked:
            self._go_on()

    def _failed(self, error: BaseException) -> None:
        if not isinstance(error, DriverError):
            _log.error("a request of connection %s failed", self._name(), exc_info=error)
        self.end(f"the deployment did not answer: {error}")

    def _answer(self, waiting: _Waiting, error: int, record: bytes, txid: int = 0) -> None:
        self._waiting_bytes -= waiting.size
        if self.state is not State.OPEN:
            return
        zxid = txid or self._hub.rules.seen
        self.say(protocol.reply(waiting.xid, zxid, error, record))
        kind = waiting.request.kind
        self.spent.answered(kind, waiting.xid, zxid, self._metrics.answered(kind, error, waiting.came))


_COUNTING = frozenset((protocol.GET_DATA, protocol.MULTI_READ, protocol.GET_ALL_CHILDREN_NUMBER))
"""Reads that may have to count a subtree."""
_ALL_KINDS = ("data", "exists", "children", "persistent", "recursive")


def _subject(transport: asyncio.Transport | None) -> str:
    """The subject of the client's certificate, which was verified, as RFC 2253 writes it."""
    certificate: Any = None if transport is None else transport.get_extra_info("peercert")
    if not certificate:
        return ""
    parts = [f"{_SHORT.get(key, key)}={value}" for rdn in certificate["subject"] for key, value in rdn]
    return ",".join(reversed(parts))


_SHORT = {
    "commonName": "CN",
    "organizationName": "O",
    "organizationalUnitName": "OU",
    "countryName": "C",
    "localityName": "L",
    "stateOrProvinceName": "ST",
    "domainComponent": "DC",
    "userId": "UID",
    "streetAddress": "STREET",
}
