"""The connection to a ZooKeeper ensemble, and the session that outlives it.

One thread runs an event loop, which alone touches the connection; other threads hand requests to it.
So replies, events and states have one order: the server's.

What a lost connection means:

* A read is sent again on the next one, in its place: the session names the last zxid that it has
  seen, and no server that is behind it accepts it.
* A write that was sent may or may not have taken effect, and nothing tells: it fails with a message
  that says so. It is never sent twice.
* A request that was not sent waits. When no server was reached for the session's time-out, waiting
  requests fail; the session is tried again until a server says that it has expired.

**When a session may expire.** A server counts the time-out from each frame that it gets, and rounds
the end up (``SessionTrackerImpl``). So the session lives for its time-out from when the last frame
that was answered was *sent*: :attr:`Link.left_ms`. A follower of an ensemble answers pings itself
and tells the leader within half a tick. If it is cut off from the leader, its answers promise
nothing, and no client can see that until the follower does (``syncLimit``).
"""

from __future__ import annotations

import asyncio
import errno
import itertools
import os
import random
import ssl
import threading
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from typing import Protocol

from faaskeeper.client.futures import Future
from faaskeeper.clocks import elapsed_s
from faaskeeper.core import logs
from faaskeeper.exceptions import (
    FaaSKeeperException,
    ProviderException,
    SessionClosingException,
    SessionExpiredException,
    TimeoutException,
)
from faaskeeper.gateway import protocol
from faaskeeper.gateway.frames import FrameReader
from faaskeeper.gateway.jute import Decoder, Malformed
from faaskeeper.session.states import SessionState
from faaskeeper.zookeeper import wire
from faaskeeper.zookeeper.address import Address

_log = logs.logger(__name__)

_LONGEST_FRAME = 2**31 - 1
_USUAL_MOST = 1_000_000
"""Bytes: near ``jute.maxbuffer``, above which a server closes the connection without an answer."""
_PAUSES_S = (0.05, 1.0)
"""Between two rounds of attempts: the first one, and the longest."""
_JOIN_S = 5.0


class Owner(Protocol):
    """What a link tells, from its thread."""

    def state_is(self, state: SessionState) -> None:
        """The state changed."""

    def happened(self, kind: int, path: str, zxid: int) -> None:
        """A watch's event came, with its number; ``zxid`` -1: the server does not say it."""

    def greeting(self, zxid: int) -> Iterable[bytes]:
        """Frames to send first on each connection; ``zxid``: the last one seen."""


class Call:
    """A request. ``replied(zxid, error, record)`` or ``failed(error)`` is called once.

    ``what`` names it in errors.
    """

    __slots__ = ("body", "failed", "kind", "replied", "what", "write")

    def __init__(
        self,
        kind: int,
        body: bytes,
        what: str,
        write: bool,
        replied: Callable[[int, int, Decoder], None],
        failed: Callable[[FaaSKeeperException], None],
    ) -> None:
        self.kind = kind
        self.body = body
        self.what = what
        self.write = write
        self.replied = replied
        self.failed = failed


class _Connection(asyncio.Protocol):
    """One connection: frames in both directions."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self._reader = FrameReader()
        self.transport: asyncio.Transport | None = None
        self.sent: deque[tuple[int, Call, float]] = deque()
        """Requests without an answer: their number, and when they were sent."""
        self.pings: deque[float] = deque()
        self.asked = 0.0
        """When it asked for the session."""
        self.greeted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if not isinstance(transport, asyncio.Transport):
            raise AssertionError("a stream")
        self.transport = transport
        self._link.made(self)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(memoryview(data))
        try:
            for frame in self._reader.take(_LONGEST_FRAME):
                self._link.received(self, frame)
        except Malformed as error:
            _log.warning("%s: %s", self._link.address, error)
            self.end()

    def connection_lost(self, exc: Exception | None) -> None:
        self._link.lost(self, exc)

    def write(self, frame: bytes) -> None:
        if self.transport is not None:
            self.transport.write(frame)

    def end(self) -> None:
        if self.transport is not None:
            self.transport.abort()


class Link:
    """A session with an ensemble. ``timeout_ms``: asked for; the servers decide.

    Raises ProviderException if files of the address cannot be used.
    """

    def __init__(self, address: Address, timeout_ms: int, owner: Owner) -> None:
        self.address = address
        self._tls = _context(address)
        self.session = 0
        self.timeout_ms = timeout_ms
        self._password = bytes(16)
        self._asked_ms = timeout_ms
        self._owner = owner
        self._zxid = 0
        self._xids = itertools.cycle(range(1, 2**31 - 1))
        self._waiting: deque[Call] = deque()
        self._open: set[_Connection] = set()
        self._connection: _Connection | None = None
        self._over: FaaSKeeperException | None = None
        self._opened: Future[None] = Future("opening the session", True)
        self._away_since = 0.0
        self._heard = self._wrote = 0.0
        self._touched = 0.0
        """When the last frame was sent that a server has answered, by :func:`elapsed_s`."""
        self._gone = asyncio.Event()
        self._settled = asyncio.Event()
        self._ending = threading.Lock()
        self._ended = False
        """Whether the loop takes nothing over any more: what it was given would never be answered."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="zookeeper", daemon=True)
        self._keeping: asyncio.Task[None] | None = None

    # ---- other threads -------------------------------------------------------------------------

    def open(self, timeout: float) -> None:
        """Open the session. Raises ProviderException if no server answers, TimeoutException."""
        self._thread.start()
        self._opened.get(timeout)

    @property
    def error(self) -> FaaSKeeperException | None:
        """Why the session is over; None: it is not."""
        return self._over

    @property
    def left_ms(self) -> int:
        """For how long the session cannot expire; 0 if it is over."""
        if self._over is not None:
            return 0
        return max(self.timeout_ms - round(1000 * (elapsed_s() - self._touched)), 0)

    def send(self, call: Call) -> None:
        """Send a request after those before it."""
        self._in_loop(partial(self._send, call))

    def greet(self, frame: bytes) -> None:
        """Send a frame of a greeting now, if there is a connection."""
        self._in_loop(partial(self._greet, frame))

    def stop(self) -> None:
        """End the connection and the thread; requests without an answer fail."""
        self._in_loop(self._stop)
        if self._thread is not threading.current_thread() and self._thread.is_alive():
            self._thread.join(_JOIN_S)

    def _in_loop(self, function: Callable[[], None]) -> None:
        with self._ending:
            if not self._ended:
                self._loop.call_soon_threadsafe(function)
                return
        raise self._over or SessionClosingException()

    # ---- the loop's thread ---------------------------------------------------------------------

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._keeping = self._loop.create_task(self._keep())
        try:
            self._loop.run_until_complete(self._keeping)
        except asyncio.CancelledError:
            pass
        except BaseException as error:
            _log.exception("the connection to %s failed", self.address)
            self._end(ProviderException(f"the connection to {self.address} failed: {error}"))
        finally:
            self._loop.run_until_complete(self._close())
            with self._ending:
                self._ended = True
            self._loop.run_until_complete(asyncio.sleep(0))  # what was handed over before that
            self._loop.close()

    async def _close(self) -> None:
        """End every connection, and wait until none is left."""
        while self._open:
            for each in list(self._open):
                each.end()
            await asyncio.sleep(0)

    async def _keep(self) -> None:
        """Connect, again after each loss, until the session is over."""
        self._away_since = self._loop.time()
        servers = list(self.address.servers)
        random.shuffle(servers)
        pause = _PAUSES_S[0]
        while self._over is None:
            reasons: list[str] = []
            for host, port in servers:
                reason = await self._connected(host, port)
                if not reason:
                    pause = _PAUSES_S[0]
                    reasons = []
                    break
                reasons.append(f"{host}:{port}: {reason}")
            if self._over is not None:
                break
            if reasons:
                self._unreachable("; ".join(reasons))
                if self._over is None:
                    await asyncio.sleep(pause * random.uniform(0.5, 1))
                pause = min(2 * pause, _PAUSES_S[1])

    async def _connected(self, host: str, port: int) -> str:
        """Use a server until the connection is lost; why it could not be used, "" if it was."""
        limit = max(self._asked_ms / 3000, 1.0)
        connection = _Connection(self)
        self._gone, self._settled = asyncio.Event(), asyncio.Event()
        try:
            made = self._loop.create_connection(
                lambda: connection, host, port, ssl=self._tls, server_hostname=None
            )
            await asyncio.wait_for(made, limit)
            await asyncio.wait_for(self._settled.wait(), limit)
        except TimeoutError:
            connection.end()
            return f"no answer within {limit:g} s"
        except ssl.SSLError as error:
            return f"TLS: {error.reason or error}"
        except OSError as error:
            number = error.errno or 0
            return str(error) if number not in errno.errorcode else os.strerror(number).lower()
        if not connection.greeted:
            return "it closed the connection: it does not serve yet, or is no ZooKeeper server"
        while not self._gone.is_set():
            await self._beat(connection)
        return ""

    async def _tick(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._gone.wait(), seconds)
        except TimeoutError:
            pass

    async def _beat(self, connection: _Connection) -> None:
        """Ping a third of the time-out after the last frame; give up after two thirds of silence."""
        third = self.timeout_ms / 3000
        now = self._loop.time()
        if now - self._heard > 2 * third:
            _log.info("%s is silent: another connection is made", self.address)
            connection.end()
        elif now - self._wrote >= third:
            connection.pings.append(elapsed_s())
            self._write(wire.PING)
        await self._tick(max(0.01, third - (self._loop.time() - self._wrote)))

    def made(self, connection: _Connection) -> None:
        """A connection stands: open the session, or go on with it."""
        self._open.add(connection)
        if self._over is not None:
            connection.end()
            return
        connection.asked = elapsed_s()
        connection.write(wire.connect(self._zxid, self._asked_ms, self.session, self._password))

    def received(self, connection: _Connection, frame: bytes) -> None:
        """A frame came."""
        self._heard = self._loop.time()
        if not connection.greeted:
            self._begin(connection, wire.to_connected(frame))
            return
        decoder = Decoder(frame)
        xid, zxid, error = decoder.number(), decoder.long(), decoder.number()
        if zxid > 0:
            self._zxid = zxid
        if xid == protocol.EVENT_XID:
            kind, _, path = decoder.number(), decoder.number(), decoder.text()
            self._owner.happened(kind, path, zxid)
        elif xid == wire.AUTH_XID:
            if error:
                self._end(ProviderException(f"{self.address} refuses the credential"))
                connection.end()
        elif xid == protocol.PING_XID:
            if connection.pings:
                self._touched = max(self._touched, connection.pings.popleft())
        elif xid != wire.WATCHES_XID:
            self._reply(connection, xid, zxid, error, decoder)

    def _reply(self, connection: _Connection, xid: int, zxid: int, error: int, decoder: Decoder) -> None:
        if not connection.sent or connection.sent[0][0] != xid:
            raise Malformed(f"an answer to request {xid}, which is not the oldest")
        _, call, sent = connection.sent.popleft()
        self._touched = max(self._touched, sent)
        try:
            call.replied(zxid, error, decoder)
        except Malformed as wrong:
            call.failed(ProviderException(f"{call.what}: {self.address} answered with {wrong}"))

    def _begin(self, connection: _Connection, answer: wire.Connected) -> None:
        connection.greeted = True
        self._settled.set()
        if answer.timeout <= 0:
            self._end(SessionExpiredException())
            connection.end()
            return
        self.session, self._password = answer.session & (2**64 - 1), answer.password
        self.timeout_ms = answer.timeout
        self._touched = max(self._touched, connection.asked)
        self._connection = connection
        self._heard = self._wrote = self._loop.time()
        for frame in self._owner.greeting(self._zxid):
            self._write(frame)
        self._owner.state_is(SessionState.CONNECTED)
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            self._send(call)
        self._opened.set_result(None)

    def _greet(self, frame: bytes) -> None:
        if self._connection is not None:
            self._write(frame)

    def _write(self, frame: bytes) -> None:
        if self._connection is not None:
            self._wrote = self._loop.time()
            self._connection.write(frame)

    def _send(self, call: Call) -> None:
        if self._over is not None:
            call.failed(self._over)
            return
        connection = self._connection
        if connection is None:
            self._waiting.append(call)
            return
        xid = next(self._xids)
        connection.sent.append((xid, call, elapsed_s()))
        self._write(wire.frame(xid, call.kind, call.body))

    def lost(self, connection: _Connection, error: Exception | None) -> None:
        """A connection ended."""
        self._open.discard(connection)
        self._gone.set()
        self._settled.set()
        sent = [call for _, call, _ in connection.sent]
        connection.sent.clear()
        if connection is not self._connection:
            return
        self._connection = None
        self._away_since = self._loop.time()
        if self._over is not None:
            for call in sent:
                call.failed(self._over)
            return
        self._waiting.extendleft(reversed([call for call in sent if not call.write]))
        self._owner.state_is(SessionState.SUSPENDED)
        for call in sent:
            if call.write:
                call.failed(_unknown(call, self.address))

    def _unreachable(self, why: str) -> None:
        """No server could be used in a round."""
        if not self._opened.done():
            self._end(ProviderException(f"no server of {self.address} answers: {why}"))
        elif self._loop.time() - self._away_since > self._asked_ms / 1000:
            waiting, self._waiting = self._waiting, deque()
            for call in waiting:
                message = f"{call.what} was not sent, nothing was changed: no server answers: {why}"
                call.failed(TimeoutException(self._asked_ms / 1000, message))

    def _end(self, error: FaaSKeeperException) -> None:
        """The session is over: everything that waits for it fails."""
        if self._over is not None:
            return
        self._over = error
        self._gone.set()
        waiting, self._waiting = self._waiting, deque()
        for call in waiting:
            call.failed(error)
        opened = self._opened.done()
        self._opened.set_exception(error)
        if opened:
            self._owner.state_is(SessionState.LOST)

    def _stop(self) -> None:
        connection = self._connection
        self._end(SessionClosingException())
        if connection is not None:
            for _, call, _ in connection.sent:
                call.failed(SessionClosingException())
            connection.sent.clear()
            connection.end()
        if self._keeping is not None:
            self._keeping.cancel()


def _context(address: Address) -> ssl.SSLContext | None:
    """How to speak TLS, if at all. Raises ProviderException that names a file that does not do."""
    if not address.tls:
        return None
    name = address.ca
    try:
        context = ssl.create_default_context(cafile=address.ca or None)
        name = address.certificate
        if address.certificate:
            context.load_cert_chain(address.certificate)
    except OSError as error:
        raise ProviderException(f"TLS: {name} cannot be used: {error.strerror or error}") from error
    return context


def _unknown(call: Call, address: Address) -> FaaSKeeperException:
    """The error of a write that was sent and not answered."""
    size = len(call.body)
    hint = (
        f"; the server may have refused its {size} bytes (see jute.maxbuffer)" if size > _USUAL_MOST else ""
    )
    return TimeoutException(
        0,
        f"{call.what}: the connection to {address} was lost before the answer: whether it happened is "
        f"not known{hint}",
    )
