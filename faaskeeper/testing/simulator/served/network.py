"""Connections between simulated clients and servers: bytes arrive late, in pieces, or never.

The server's end is a transport as asyncio's. How many bytes wait to be sent is multiplied by a
*weight*, so that few bytes are enough to reach the bounds of a slow reader.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, cast

from faaskeeper.testing.simulator.environment import Environment, Process
from faaskeeper.testing.simulator.scheduler import Task

if TYPE_CHECKING:
    from faaskeeper.testing.simulator.served.plan import ServedPlan

_LATENCY_MS = (0, 0, 1, 1, 4, 30)
_FULL_BYTES = 4_096
"""Bytes that arrive at a server which does not read before its client's stay where they are."""


class Gone(Exception):
    """The connection has ended."""


class Flow:
    """One direction: bytes wait at the sender until the network takes them, piece by piece.

    ``arrive`` takes a piece; ``room``: whether the receiver has room; ``taken`` is called after
    each piece.
    """

    def __init__(
        self,
        network: Network,
        arrive: Callable[[bytes], None],
        room: Callable[[], bool],
        taken: Callable[[], None],
    ) -> None:
        self._network = network
        self._arrive = arrive
        self._room = room
        self._taken = taken
        self.waiting = bytearray()
        self._moving = False
        self.cut = False

    def send(self, data: bytes) -> None:
        """Have bytes sent."""
        if not self.cut:
            self.waiting += data
            self.move()

    def move(self) -> None:
        """Move what waits, if there is room."""
        if self.waiting and not self._moving and not self.cut and self._room():
            self._moving = True
            self._network.world.scheduler.spawn("wire", self._move, self._network.world.system)

    def _move(self) -> None:
        random, scheduler = self._network.world.random, self._network.world.scheduler
        while self.waiting and not self.cut and self._room():
            if delay := random.choice(_LATENCY_MS):
                scheduler.sleep(delay)
            many = len(self.waiting)
            if many > 1 and random.random() < 0.25:
                many = random.randint(1, many)
                self._network.world.reached["bytes that come in pieces"] += 1
            piece = bytes(self.waiting[:many])
            del self.waiting[:many]
            if piece and not self.cut:
                self._arrive(piece)
                self._taken()
        self._moving = False

    def drop(self) -> None:
        """Lose what waits, and whatever is sent later."""
        self.cut = True
        self.waiting.clear()


class ServerEnd(asyncio.Transport):
    """The server's end of a connection. Its methods belong to the loop's task."""

    def __init__(self, network: Network, loop: asyncio.AbstractEventLoop, protocol: Any, link: Link) -> None:
        super().__init__()
        self._world = network.world
        self._loop = loop
        self._protocol = protocol
        self._link = link
        self._inbox = bytearray()
        self._eof = False
        self._reading = True
        self._looking = False
        self._high = 64 * 1024
        self._paused = False
        self._late = network.plan.late_pause
        self._closing = False
        self._lost = False

    # ---- from the network, in any task -----------------------------------------------------

    def arrive(self, piece: bytes) -> None:
        """Bytes of the client arrive."""
        self._inbox += piece
        self._look_soon()

    def ended(self) -> None:
        """The client sends nothing more."""
        self._eof = True
        self._look_soon()

    def room(self) -> bool:
        """Whether more bytes may arrive."""
        return self._reading or len(self._inbox) < _FULL_BYTES

    def taken(self) -> None:
        """Bytes were sent."""
        if (self._paused or self._closing) and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._drained)

    def reset(self) -> None:
        """The connection is reset."""
        self._inbox.clear()
        self._loop.call_soon_threadsafe(self._lose, ConnectionResetError("reset by peer"))

    def _look_soon(self) -> None:
        if self._reading and not self._looking and not self._lost:
            self._looking = True
            self._loop.call_soon_threadsafe(self._look)

    # ---- in the loop -----------------------------------------------------------------------

    def _look(self) -> None:
        self._looking = False
        if self._lost or self._closing or not self._reading:
            return
        if self._inbox:
            buffer = self._protocol.get_buffer(-1)
            many = min(len(buffer), len(self._inbox))
            buffer[:many] = self._inbox[:many]
            del self._inbox[:many]
            self._protocol.buffer_updated(many)
            self._link.up.move()
        if self._inbox:
            self._look_soon()
        elif self._eof and not self._closing and not self._protocol.eof_received():
            self.close()

    def _drained(self) -> None:
        if self._lost:
            return
        if self._paused and self.get_write_buffer_size() <= self._high // 4:
            self._paused = False
            self._world.reached["a server goes on to write"] += 1
            self._protocol.resume_writing()
        if self._closing and not self._link.down.waiting:
            self._lose(None)

    def _lose(self, error: Exception | None) -> None:
        if self._lost:
            return
        self._lost = self._closing = True
        self._protocol.connection_lost(error)
        self._link.server_ended()

    # ---- asyncio's transport ---------------------------------------------------------------

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return ("10.0.0.1", self._link.number) if name == "peername" else default

    def is_closing(self) -> bool:
        return self._closing

    def close(self) -> None:
        if not self._closing:
            self._closing = True
            if not self._link.down.waiting:
                self._loop.call_soon(self._lose, None)

    def abort(self) -> None:
        self._closing = True
        self._link.down.drop()
        self._loop.call_soon(self._lose, None)

    def is_reading(self) -> bool:
        return self._reading and not self._closing

    def pause_reading(self) -> None:
        self._world.reached["a server stops to read"] += 1
        self._reading = False

    def resume_reading(self) -> None:
        if not self._closing:
            self._reading = True
            if self._inbox or self._eof:
                self._look_soon()
            self._link.up.move()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        if high is not None:
            self._high = high

    def get_write_buffer_size(self) -> int:
        return len(self._link.down.waiting) * self._link.weight

    def write(self, data: Any) -> None:
        if self._closing:
            return
        self._link.down.send(bytes(data))
        if self.get_write_buffer_size() > self._high and not self._paused:
            self._paused = True
            self._world.reached["a client that reads slowly"] += 1
            if self._late:
                self._loop.call_soon(self._pause)
            else:
                self._protocol.pause_writing()

    def _pause(self) -> None:
        if self._paused and not self._lost:
            self._protocol.pause_writing()


class Link:
    """A connection; the methods are the client's end, and belong to tasks of one client."""

    def __init__(self, network: Network, number: int, weight: int) -> None:
        self._world = network.world
        self.number = number
        self.weight = weight
        self.server: ServerEnd | None = None
        self.up = Flow(network, self._to_server, self._server_room, lambda: None)
        self.down = Flow(network, self._to_client, self._client_room, self._taken)
        self.slow = False
        """The client takes nothing from the network while it has something to read."""
        self._inbox = bytearray()
        self._over = False
        self._eof = False
        self._vanished = False
        self._reader: Task | None = None

    # ---- the network -----------------------------------------------------------------------

    def _to_server(self, piece: bytes) -> None:
        if self.server is not None:
            self.server.arrive(piece)
            if self._eof and not self.up.waiting:
                self.server.ended()

    def _server_room(self) -> bool:
        return self.server is not None and self.server.room()

    def _to_client(self, piece: bytes) -> None:
        self._inbox += piece
        self._wake()

    def _client_room(self) -> bool:
        return not (self._vanished or (self.slow and self._inbox))

    def _taken(self) -> None:
        if self.server is not None:
            self.server.taken()

    def server_ended(self) -> None:
        """The server has closed its end, after all that it has sent."""
        self.up.drop()
        self.down.drop()
        self._over = True
        self._wake()

    def reset(self) -> None:
        """Both ends find the connection broken, and bytes under way are lost."""
        if not self._over:
            self._inbox.clear()
            self.server_ended()
            if self.server is not None:
                self.server.reset()

    def _wake(self) -> None:
        if self._reader is not None:
            self._world.scheduler.wake(self._reader)

    # ---- the client's end ------------------------------------------------------------------

    @property
    def over(self) -> bool:
        """Whether nothing more can be sent."""
        return self._over

    def send(self, data: bytes) -> None:
        """Send bytes. Raises Gone."""
        if self._over or self._eof:
            raise Gone
        self.up.send(data)

    def receive(self, timeout: float | None = None) -> bytes:
        """The bytes that have come; waits for some, for at most so many ms. Raises Gone."""
        if not self._inbox and not self._over:
            self._reader = self._world.scheduler.current()
            self._world.scheduler.block(timeout)
            self._reader = None
        if not self._inbox and self._over:
            raise Gone
        data = bytes(self._inbox)
        self._inbox.clear()
        self.down.move()
        return data

    def close(self) -> None:
        """Send nothing more; the server is told."""
        self._eof = True
        if not self.up.waiting and self.server is not None:
            self.server.ended()

    def vanish(self) -> None:
        """Take part in nothing more; the server is not told."""
        self._over = True
        self._vanished = True
        self.up.drop()
        self._inbox.clear()
        self._wake()


class _Socket:
    def __init__(self, host: str, port: int) -> None:
        self._name = host, port

    def getsockname(self) -> tuple[str, int]:
        return self._name


class SimulatedServer:
    """A listening socket, as :class:`asyncio.Server`."""

    def __init__(
        self, network: Network, host: str, port: int, loop: asyncio.AbstractEventLoop, factory: Any
    ) -> None:
        self.sockets = [_Socket(host, port)]
        self.loop = loop
        self.factory = factory
        self.process = network.world.scheduler.current().process
        self._network = network
        self._host = host

    async def start_serving(self) -> None:
        self._network.listening[self._host] = self

    def close(self) -> None:
        if self._network.listening.get(self._host) is self:
            del self._network.listening[self._host]


class Network:
    """All connections of a history."""

    def __init__(self, world: Environment, plan: ServedPlan) -> None:
        self.world = world
        self.plan = plan
        self.listening: dict[str, SimulatedServer] = {}
        self.links: list[tuple[Link, Process]] = []
        self._number = 0

    def listen(self, host: str, port: int, loop: asyncio.AbstractEventLoop, factory: Any) -> SimulatedServer:
        """A socket that does not listen yet."""
        return SimulatedServer(self, host, port, loop, factory)

    def connect(self, host: str) -> Link:
        """Connect to a server. Raises Gone if none listens."""
        server = self.listening.get(host)
        if server is None:
            raise Gone
        self._number += 1
        link = Link(self, self._number, self.plan.weight)
        self.links = [(each, process) for each, process in self.links if not each.over]
        self.links.append((link, cast(Process, server.process)))
        server.loop.call_soon_threadsafe(self._accept, server, link)
        return link

    def _accept(self, server: SimulatedServer, link: Link) -> None:
        protocol = server.factory()
        link.server = ServerEnd(self, server.loop, protocol, link)
        protocol.connection_made(link.server)
        if link.over:  # the client has given up meanwhile
            link.server.reset()
        link.up.move()
        if link._eof and not link.up.waiting:
            link.server.ended()

    def died(self, process: Process, silent: bool) -> None:
        """A server's process is dead. ``silent``: its clients are not told by the network."""
        for host, server in list(self.listening.items()):
            if server.process is process:
                del self.listening[host]
        for link, other in self.links:
            if other is process:
                if silent:
                    link.up.drop()
                    link.down.drop()
                else:
                    link.server = None
                    link.reset()
