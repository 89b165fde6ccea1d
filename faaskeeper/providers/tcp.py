"""The TCP channel, for every provider: the service connects to its clients.

It connects only to addresses within its networks (:mod:`faaskeeper.providers.networks`). A frame is
a length (4 bytes, big-endian) and a message. The session's secret authenticates messages
(:mod:`faaskeeper.core.trust`), so a stranger on a client's port can only waste a connection. The
listener refuses frames above :data:`MAX_FRAME_BYTES`, and more than :data:`MAX_CONNECTIONS`
connections at a time.
"""

from __future__ import annotations

import os
import socket
import threading
import time

from faaskeeper.core import logs
from faaskeeper.core.drivers.channel import Handler
from faaskeeper.core.errors import Denied
from faaskeeper.core.forks import Inherited, register
from faaskeeper.providers.networks import LOOPBACK, Networks

MAX_FRAME_BYTES = 8 * 1024 * 1024
MAX_CONNECTIONS = 64
_CONNECT_S = 1.0
_SEND_S = 2.0
_AVOID_S = 5.0
_MOST_AVOIDED = 1_000
"""Number of addresses that are avoided at a time."""

_log = logs.logger(__name__)


class TcpChannel(Inherited):
    """Service side: keeps a connection to each client within ``networks`` (None: on this machine).

    It avoids an unreachable client for some seconds, so that this client does not delay others.
    """

    def __init__(self, networks: Networks | None = None) -> None:
        self._networks = Networks(LOOPBACK) if networks is None else networks
        self._connections: dict[str, socket.socket] = {}
        self._avoid: dict[str, float] = {}
        self._lock = threading.Lock()
        register(self)

    def forked(self, why: str) -> None:
        self._lock = threading.Lock()
        while self._connections:
            _release(self._connections.popitem()[1])

    def deliver(self, address: str, message: bytes) -> bool:
        frame = len(message).to_bytes(4, "big") + message
        with self._lock:
            connection = self._connections.pop(address, None)
            if connection is not None and self._send(address, connection, frame):
                return True
            if self._avoid.get(address, 0) > time.monotonic():
                return False
            self._avoid.pop(address, None)
            connection = self._connect(address)
            if connection is not None and self._send(address, connection, frame):
                return True
            self._shun(address)
            return False

    def _shun(self, address: str) -> None:
        """Avoid an address for a while.

        Requests may name any number of addresses, so the list is bounded.
        """
        now = time.monotonic()
        if len(self._avoid) >= _MOST_AVOIDED:
            self._avoid = {each: until for each, until in self._avoid.items() if until > now}
        if len(self._avoid) < _MOST_AVOIDED:
            self._avoid[address] = now + _AVOID_S

    def _connect(self, address: str) -> socket.socket | None:
        try:
            host, port = address.removeprefix("tcp:").rsplit(":", 1)
            refusal = self._networks.refusal(host)
            if refusal:
                _log.warning("refused to answer a client at %s: %s", address, refusal)
                return None
            connection = socket.create_connection((host, int(port)), timeout=_CONNECT_S)
            connection.settimeout(_SEND_S)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        except (OSError, ValueError, OverflowError) as error:  # the last: a huge port
            _log.info("cannot reach the client at %s: %s", address, error)
            return None
        return connection

    def _send(self, address: str, connection: socket.socket, frame: bytes) -> bool:
        """Send a frame; closes a connection that fails."""
        try:
            connection.sendall(frame)
        except OSError as error:
            _log.info("the connection to the client at %s failed: %s", address, error)
            connection.close()
            return False
        self._connections[address] = connection
        return True

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            for connection in self._connections.values():
                connection.close()
            self._connections.clear()


class TcpListener(Inherited):
    """Receives a client's messages: a port, and a thread per connection."""

    def __init__(self, host: str, port: int, handler: Handler, advertise: str = "") -> None:
        self._handler = handler
        self._hearing = threading.Lock()
        self._open = True
        self._connections: set[socket.socket] = set()
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            self._socket = socket.create_server((host, max(port, 0)), family=family)
        except OSError as error:
            raise Denied(f"cannot listen on {host}:{port}: {error.strerror}; choose another port") from error
        bound = self._socket.getsockname()[1]
        self.address = f"tcp:{advertise or host}:{bound}"
        self._thread = threading.Thread(target=self._accept, name="faaskeeper-tcp", daemon=True)
        self._thread.start()
        register(self)

    def forked(self, why: str) -> None:
        self._open = False
        self._hearing = threading.Lock()
        _release(self._socket)
        while self._connections:
            _release(self._connections.pop())

    def _accept(self) -> None:
        while self._open:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            if len(self._connections) >= MAX_CONNECTIONS:
                _log.warning("refused a connection to %s: too many connections", self.address)
                connection.close()
                continue
            self._connections.add(connection)
            receiver = threading.Thread(
                target=self._receive, args=(connection,), name="faaskeeper-tcp-from", daemon=True
            )
            try:
                receiver.start()
            except RuntimeError as error:
                _log.error("closed a connection to %s: %s", self.address, error)
                self._connections.discard(connection)
                connection.close()

    def _receive(self, connection: socket.socket) -> None:
        try:
            with connection, connection.makefile("rb") as stream:
                while self._open:
                    head = stream.read(4)
                    if len(head) < 4:
                        return
                    length = int.from_bytes(head, "big")
                    if length > MAX_FRAME_BYTES:
                        _log.warning("closed a connection: a frame has %d bytes", length)
                        return
                    message = stream.read(length)
                    if len(message) < length:
                        return
                    self._hear(message)
        except OSError as error:
            _log.info("a connection to %s failed: %s", self.address, error)
        finally:
            self._connections.discard(connection)

    def _hear(self, message: bytes) -> None:
        with self._hearing:
            if self._open:
                try:
                    self._handler(message)
                except Exception:
                    _log.exception("the client at %s failed to process a message", self.address)

    def close(self) -> None:
        self._open = False
        try:
            self._socket.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # the listening socket has no peer
        self._socket.close()
        for connection in list(self._connections):
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # the peer closed it first
        with self._hearing:
            return


def _release(inherited: socket.socket) -> None:
    """Close a forked child's descriptor of a socket; shutdown() would also affect the parent."""
    descriptor = inherited.detach()
    if descriptor >= 0:
        os.close(descriptor)


class TcpClientChannel:
    """Client side."""

    def __init__(self, host: str = "127.0.0.1", port: int = 0, advertise: str = "") -> None:
        self._host = host
        self._port = port
        self._advertise = advertise

    def listen(self, handler: Handler) -> TcpListener:
        return TcpListener(self._host, self._port, handler, self._advertise)
