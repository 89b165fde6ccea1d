"""One client's connection: its socket, its state, how much is taken from it.

A request whose record is malformed is answered with an error. Any other error in a frame ends the
connection that it came by, with a line in the log that says what is wrong, and affects no other.

==========  =================================  ==================================================
state       left by                            next state
==========  =================================  ==================================================
NEW         a four-letter word                 COMMAND
..          a ConnectRequest                   CONNECTING
COMMAND     the answer was sent                CLOSED
CONNECTING  the session is open, or resumed    OPEN
..          there is none for the client       CLOSED
OPEN        the session is closed, has ended,  CLOSED
            or is served elsewhere
any         an error; the client has gone      CLOSED
==========  =================================  ==================================================

Back-pressure: the connection is *held* while too many of its requests have no reply, or too many
bytes wait to be sent to it. A held connection takes no frames and does not read from its socket.
"""

from __future__ import annotations

import asyncio
import logging
import time
from enum import Enum, auto
from typing import Protocol, cast

from faaskeeper.core.errors import DriverError
from faaskeeper.gateway import admin, protocol
from faaskeeper.gateway.errors import ServerError, SessionBusy, SessionExpired
from faaskeeper.gateway.frames import PAUSE_BYTES, FrameReader, FrameTooLong, FrameWriter
from faaskeeper.gateway.hub import Hub
from faaskeeper.gateway.identity import AuthFailed, ClientIdentity
from faaskeeper.gateway.jute import Malformed
from faaskeeper.gateway.metrics import ConnectionStats, Metrics
from faaskeeper.gateway.pipeline import RequestPipeline
from faaskeeper.gateway.protocol import Auth, Connect, Ping
from faaskeeper.gateway.registry import SessionRegistry
from faaskeeper.gateway.sessions import PASSWORD_BYTES, GatewaySession
from faaskeeper.gateway.usual import to_request
from faaskeeper.gateway.watches import ConnectionWatches
from faaskeeper.watch import WatchedEvent

_log = logging.getLogger(__name__)

FIRST_FRAME_BYTES = 4096
"""Most bytes of a frame before there is a session."""
CONNECT_S = 30.0
"""How long a client may take to ask for a session, and to read the last frames sent to it."""

_PING = b"\x00\x00\x00\x08\xff\xff\xff\xfe\x00\x00\x00\x0b"


class State(Enum):
    """Of a connection; the module has the transitions."""

    NEW = auto()
    COMMAND = auto()
    CONNECTING = auto()
    OPEN = auto()
    CLOSED = auto()


class _NoSession(Exception):
    """A client gets no session, and why."""


class Server(Protocol):
    """The server that a connection belongs to."""

    hub: Hub
    registry: SessionRegistry
    metrics: Metrics
    buffer: memoryview
    """Receives the bytes of all connections; each takes its own at once."""
    max_buffer: int
    """Most bytes of a frame."""

    def admit(self, connection: ClientConnection) -> bool:
        """Whether there is room for a connection."""

    def forget(self, connection: ClientConnection) -> None:
        """A connection has ended."""

    async def command(self, word: str) -> str:
        """The answer to a four-letter word."""


class ClientConnection(asyncio.BufferedProtocol):
    """One client's connection, from its first bytes to its end."""

    def __init__(self, server: Server) -> None:
        hub = server.hub
        self._server = server
        self._hub = hub
        self._now = hub.now
        self._lease = hub.lease
        self._watches = hub.watches
        self._metrics = server.metrics
        self.state = State.NEW
        self.peer = ""
        """HOST:PORT"""
        self.session: GatewaySession | None = None
        self.since = time.time()
        self.received = 0
        """Number of requests received."""
        self.stats = ConnectionStats()
        self.watches = ConnectionWatches(hub.watches, self._fired)
        self.held = False
        """No frames are taken."""
        self._frames = FrameReader()
        self._output = FrameWriter(hub.output, self._overflow)
        self.send = self._output.send
        """Sends a frame, together with others."""
        self._transport: asyncio.Transport | None = None
        self._identity = ClientIdentity(hub.connection)
        self._requests: RequestPipeline | None = None
        self._paused = False
        """The transport's buffer is above its limit."""
        self._retry: asyncio.Handle | None = None
        """Looks again whether the connection is writable."""
        self._taking = False
        self._giving_way = False
        """It reads on in the loop's next turn."""
        self._deadline: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    @property
    def sent(self) -> int:
        """Number of frames sent."""
        return self._output.sent

    @property
    def waiting(self) -> int:
        """Number of requests without a reply."""
        return 0 if self._requests is None else self._requests.unanswered

    @property
    def watching(self) -> bool:
        """Whether it has watches."""
        return bool(self.watches.paths)

    # ---- the socket ----------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        address = transport.get_extra_info("peername")
        self.peer = f"{address[0]}:{address[1]}" if address else "?"
        if not self._server.admit(self):
            self.state = State.CLOSED
            self._transport.abort()
            return
        self._output.attach(self._transport)
        self._deadline = asyncio.get_running_loop().call_later(
            CONNECT_S, self.end, f"no session was asked for within {CONNECT_S:g} s"
        )
        self._identity.connected(address[0] if address else "", transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self._server.buffer

    def buffer_updated(self, nbytes: int) -> None:
        received = self._server.buffer[:nbytes]
        if nbytes == 12 and received == _PING and not self._frames and self._output.empty and self._live():
            # The short way for idle clients, which send nothing else.
            self.received += 1
            self._output.send_now(protocol.reply(protocol.PING_XID, self._watches.rules.seen, 0))
            return
        self._frames.feed(received)
        if nbytes == len(self._server.buffer):
            self._give_way()
        self._hub.sender.collect(self, self._take)

    def _give_way(self) -> None:
        """Read on in the loop's next turn, since more may have come than fits the buffer.

        uvloop would read on at once, up to 32 times, before timers and other connections: for
        seconds, while a client sends writes without waiting, and the server's lease would run out.
        """
        transport = self._transport
        if transport is not None and transport.is_reading():
            self._giving_way = True
            transport.pause_reading()
            asyncio.get_running_loop().call_soon(self._read_on)

    def _read_on(self) -> None:
        self._giving_way = False
        self._flow()

    def pause_writing(self) -> None:
        self._paused = True
        self._flow()

    def resume_writing(self) -> None:
        with self._hub.output:
            self._live()  # no frames were taken meanwhile: that it reads shows that it lives
            self._paused = False
            self.proceed()

    def eof_received(self) -> bool:
        """See :class:`asyncio.BufferedProtocol`. After a four-letter word a client may send EOF."""
        return self.state is State.COMMAND

    def connection_lost(self, error: Exception | None) -> None:
        if self.state is State.OPEN:
            _log.info("connection %s was lost", self._name())
        self._release()

    def _name(self) -> str:
        session = self.session
        return self.peer if session is None else f"{self.peer} of session 0x{session.id:x}"

    # ---- the end -------------------------------------------------------------------------

    def end(self, why: str) -> None:
        """End the connection, for a reason that is logged."""
        if self.state is State.CLOSED:
            return
        _log.warning("ended connection %s: %s", self._name(), why)
        self._metrics.ended()
        self.close()
        if self._transport is not None and self._transport.get_write_buffer_size() > PAUSE_BYTES:
            self._transport.abort()  # it does not read

    def close(self) -> None:
        """Close the connection after what was sent."""
        if self.state is State.CLOSED:
            return
        self._output.flush()
        self._release()
        transport = self._transport
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                asyncio.get_running_loop().call_later(CONNECT_S, transport.abort)

    def _release(self) -> None:
        """Give up everything that is done for the connection."""
        if self.state is State.CLOSED:
            return
        self.state = State.CLOSED
        self._output.detach()
        if self._deadline is not None:
            self._deadline.cancel()
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        if self._requests is not None:
            self._requests.close()
        session, self.session = self.session, None
        if session is not None and session.connection is self:
            session.connection = None
        self._server.forget(self)
        self.watches.release()

    def _overflow(self, waiting: int) -> None:
        self.end(f"it reads too slowly: {waiting} bytes wait for it")

    # ---- frames in -----------------------------------------------------------------------

    def _take(self) -> None:
        """Take the frames that are complete, until the connection is held."""
        if self._taking:
            return  # a frame's effects came back here: the frames after it are taken where it was
        self._taking = True
        try:
            self._take_frames()
            while self.held:
                self._flow()
                if self.held:
                    break  # goes on when a request is answered, or the client has read
                self._take_frames()
        finally:
            self._taking = False
        if self.state is not State.OPEN:
            self._flow()

    def _take_frames(self) -> None:
        frames = self._frames
        try:
            if self.state is State.OPEN:
                self._take_requests()
            elif self.state is State.COMMAND:
                frames.clear()
            elif self.state is not State.NEW:
                pass  # they are taken when the session is open
            elif (word := frames.head()) in admin.COMMANDS:
                self._command(word)
            elif (frame := next(frames.take(FIRST_FRAME_BYTES), None)) is not None:
                self._connect(frame)
        except FrameTooLong as error:
            self.end(str(error))
        except Malformed as error:
            self.end(f"malformed frame: {error}")

    def _take_requests(self) -> None:
        """Take in requests until the connection is held, then begin those that may begin."""
        requests = self._requests
        if requests is None or not self._live():
            return
        try:
            for frame in self._frames.take(self._server.max_buffer):
                xid, request = to_request(frame)
                self.received += 1
                if isinstance(request, (Ping, Auth)):
                    self._at_once(xid, request, requests)
                    if self.state is not State.OPEN:
                        return
                else:
                    requests.add(xid, request, len(frame))
                    if self.held:
                        break
        except Malformed:
            requests.advance()  # those before it begin nevertheless
            raise
        requests.arrived()

    def _at_once(self, xid: int, request: Ping | Auth, requests: RequestPipeline) -> None:
        """Answer a request that does not wait for those before it."""
        if isinstance(request, Ping):
            self.send(protocol.reply(xid, self._watches.rules.seen, 0))
        else:
            requests.advance()
            self._authenticate(xid, request, requests)

    def _authenticate(self, xid: int, request: Auth, requests: RequestPipeline) -> None:
        try:
            self._identity.authenticate(request)
        except AuthFailed as error:
            self.send(protocol.reply(xid, 0, protocol.AUTH_FAILED))
            self.end(str(error))
            return
        requests.authenticated()
        self.send(protocol.reply(xid, 0, 0))

    def _live(self) -> bool:
        """Note that the session's client is alive; False where there is no session.

        Ends the connection, and returns False, while the server's lease is not good.
        """
        session = self.session
        if session is None:
            return False
        now = self._now()
        if not self._lease.serves(now):
            self.end("the deployment cannot be reached now")
            return False
        session.active = now
        return True

    def _flow(self) -> None:
        """Find out whether the connection is held; read from the socket, or stop to."""
        self.held = self._paused or (self._requests is not None and self._requests.full)
        transport = self._transport
        if transport is None or self.state is State.CLOSED:
            return
        early = self.state is State.CONNECTING and len(self._frames) > FIRST_FRAME_BYTES
        stop = self.held or early or self._giving_way
        if stop and transport.is_reading():
            transport.pause_reading()
        elif not stop and not transport.is_reading():
            transport.resume_reading()

    def hold(self) -> None:
        """Take no frames until a request was answered."""
        self.held = True

    def proceed(self) -> None:
        """Begin requests that wait and take frames that have come, as far as they may."""
        requests = self._requests
        if requests is None or self.state is not State.OPEN:
            return
        if (self.held or self._paused) and not self._live():
            return
        requests.advance()
        self._flow()
        if self._frames and not self.held:
            self._take()

    # ---- frames out ------------------------------------------------------------------------

    def writable(self) -> bool:
        """Whether replies may be sent now. If not, :meth:`proceed` is called when they may.

        The event loop may call ``pause_writing`` only after its turn, so the transport is asked.
        """
        transport = self._transport
        if self._paused or transport is None:
            return False
        if transport.get_write_buffer_size() <= PAUSE_BYTES:
            return True
        if self._retry is None:
            self._retry = asyncio.get_running_loop().call_soon(self._look_again)
        return False

    def _look_again(self) -> None:
        self._retry = None
        with self._hub.output:
            self.proceed()

    def _fired(self, event: WatchedEvent) -> None:
        """A watch of the connection's fired."""
        if self.state is State.OPEN:
            self.send(protocol.event(event.event_type, event.path))
            self.watches.forget(event.path)

    # ---- four-letter words -----------------------------------------------------------------

    def _command(self, word: bytes) -> None:
        self.state = State.COMMAND
        self._frames.clear()
        self._task = asyncio.get_running_loop().create_task(self._answer_command(word.decode()))

    async def _answer_command(self, word: str) -> None:
        self.send((await self._server.command(word)).encode())
        self.close()

    # ---- the session -----------------------------------------------------------------------

    def _connect(self, frame: bytes) -> None:
        request = protocol.to_connect(frame)
        self.state = State.CONNECTING
        self._task = asyncio.get_running_loop().create_task(self._connecting(request))

    async def _connecting(self, request: Connect) -> None:
        """Open or resume the session that the client asks for."""
        try:
            session = await self._session_for(request)
        except SessionExpired:
            _log.info("session 0x%x is over, answered %s", request.session & (1 << 64) - 1, self.peer)
            self.send(protocol.connected(0, 0, bytes(PASSWORD_BYTES), request.aware))
            self.close()
        except (_NoSession, SessionBusy) as error:
            self.end(str(error))
        except (DriverError, ServerError, TimeoutError) as error:
            self.end(f"no session: {error or 'the service did not answer'}")
        except Exception as error:
            _log.exception("connection %s failed", self.peer)
            self.end(f"no session: {error!r}")
        else:
            if self.state is State.CONNECTING:  # else the client has gone meanwhile
                self._opened(session, request.aware)

    async def _session_for(self, request: Connect) -> GatewaySession:
        """Open or resume a session. Raises _NoSession, and what the registry raises."""
        hub, registry = self._hub, self._server.registry
        if not self._lease.serving:
            raise _NoSession("the deployment cannot be reached now")
        if request.session:
            session = await registry.resume(request.session, request.password, request.timeout)
        else:
            session = await registry.open(request.timeout)
        if request.last_zxid > hub.watches.rules.seen:
            await hub.runner.perform(hub.watches.rules.sync())
            if request.last_zxid > hub.watches.rules.seen:
                raise _NoSession(
                    f"its client has seen zxid 0x{request.last_zxid:x}, this deployment is at "
                    f"0x{hub.watches.rules.seen:x}: it was a client of another"
                )
        return session

    def _opened(self, session: GatewaySession, aware: bool) -> None:
        if self._hub.sessions.get(session.id) is not session:
            # This took so long that the client counted as silent, or another connection was faster.
            self.end(f"session 0x{session.id:x} was released before it was resumed")
            return
        if self._deadline is not None:
            self._deadline.cancel()
        before, session.connection = session.connection, self
        if before is not None:
            before.end(f"session 0x{session.id:x} has connected again")
        session.active = self._now()
        self.session = session
        self.state = State.OPEN
        self._requests = RequestPipeline(
            self._hub, self, session, self._identity, self.watches, self._metrics, self.stats
        )
        self.send(protocol.connected(session.timeout, session.id, session.password, aware))
        _log.info("connection %s is open, time-out %d ms", self._name(), session.timeout)
        with self._hub.output:
            self._take()
            self._flow()
