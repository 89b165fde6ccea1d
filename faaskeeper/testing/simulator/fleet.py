"""Servers that hold other sessions' leases, as the gateway does: they take over, stop and die.

No lease may be marked within its time-out after a server last served the session, and no session
stays open that no server serves.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from faaskeeper.core import codec, trust
from faaskeeper.core.errors import Conflict, DriverError
from faaskeeper.core.requests import Create, Message, Open, Reply, Request, inline
from faaskeeper.core.sessions import Lease, served_ms
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.testing.simulator.world import World

SESSION_MS = 8_000
"""Time-out of the sessions whose leases the servers hold."""
_ROUNDS = 12


class Server:
    """A server: a session of its own, and the sessions whose leases are under it."""

    def __init__(self, world: World, name: str, fleet: Fleet) -> None:
        self._world = world
        self._fleet = fleet
        self.name = name
        self.process = world.process(name, False)
        self.done = False
        self._client: Any = None
        self._attached: dict[int, Lease] = {}

    def run(self) -> None:
        """Serve for some rounds; then die, or free the leases and stop."""
        random, scheduler = self._world.random, self._world.scheduler
        try:
            self._client = self._world.client(self.process, 10.0)
            self._client.start()
            for _ in range(_ROUNDS):
                self._round()
                scheduler.sleep(random.choice((100, 1_000, 3_000)))
            if random.random() < 0.6:
                self._world.reached["a server died"] += 1
                self.done, self.process.alive = True, False
                scheduler.kill(self.process)
                return
            for session in list(self._attached):
                self._free(session, 0)
            self._client.stop()
        except FaaSKeeperException:
            if self._client is not None and (own := self._client.session) is not None:
                own.abandon()
        self.done = True

    @property
    def _session(self) -> Any:
        return self._client.session

    @property
    def _serving(self) -> bool:
        """Whether its own lease is young enough to serve, by the gateway's rule."""
        session = self._session
        began = session.expires_ms - session.timeout_ms
        young: bool = session.connection.service() < began + served_ms(session.timeout_ms)
        return young and session.error is None

    def _round(self) -> None:
        fleet, random = self._fleet, self._world.random
        if not self._serving:
            self._attached.clear()
            return
        kind = random.random()
        if random.random() < 0.15:
            self._world.reached["renewals of a server's lease do not get through"] += 1
            self._session.renew = lambda returned=False: None
        try:
            if kind < 0.3:
                fleet.open(self._session)
            elif kind < 0.6 and fleet.sessions:
                self._attach(random.choice(list(fleet.sessions)))
            elif kind < 0.7 and self._attached:
                self._free(random.choice(list(self._attached)), random.choice((0, SESSION_MS)))
        except DriverError:
            return  # the store did not answer
        for session in self._attached:
            if self._fleet.at[session] is self and self._serving and random.random() < 0.7:
                self._world.served[session] = self._world.scheduler.now
                self._world.reached["a session was served"] += 1

    def _attach(self, session: int) -> None:
        connection = self._session.connection
        lease = connection.leases.get(session)
        if lease is None or lease.marked:
            return
        wanted = lease._replace(
            expires=connection.service() + SESSION_MS,
            under=self._session.id,
            timeout=SESSION_MS,
            proof="proof",
        )
        try:
            self._attached[session] = connection.leases.replace(wanted)
            self._fleet.at[session] = self
        except Conflict:
            self._attached.pop(session, None)

    def _free(self, session: int, silent: int) -> None:
        connection = self._session.connection
        lease = self._attached.pop(session)
        now = connection.service()
        served = self._world.scheduler.now - self._world.served.get(session, 0)
        expires = now - min(silent, served) + SESSION_MS
        try:
            connection.leases.replace(lease._replace(under=0, expires=expires))
        except (Conflict, DriverError):
            return  # another server has it, or heartbeat finds it without one


class Fleet:
    """Two servers and their clients' sessions."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._secret = world.bytes(trust.KEY_BYTES)
        self.sessions: list[int] = []
        self.at: dict[int, Server] = {}
        """The server that attached each session last."""
        self.servers = [Server(world, f"server{number}", self) for number in (1, 2)]

    def begin(self) -> None:
        """Start the servers."""
        for server in self.servers:
            self._world.scheduler.spawn(server.name, server.run, server.process)

    @property
    def done(self) -> bool:
        """Whether all servers have stopped or died."""
        return all(server.done for server in self.servers)

    def open(self, session: Any) -> None:
        """Open a session for a client of a server."""
        world = self._world
        connection = session.connection
        listener = world.mail.listen(partial(self._receive, connection))
        opening = Open(world.bytes(16).hex(), self._secret, SESSION_MS)
        message = Message(0, 0, 0, listener.address, (Request(0, opening),))
        connection.worker_queue.send("writer", "fleet", trust.sign(self._secret, codec.message(message)))

    def _receive(self, connection: Any, signed: bytes) -> None:
        delivered = codec.to_delivery(trust.body(signed))
        if not isinstance(delivered, Reply) or not delivered.nonce or delivered.session in self.sessions:
            return
        self.sessions.append(delivered.session)
        create = Create(f"/of-{delivered.session}", inline(b""), ephemeral=True)
        message = Message(delivered.session, 0, 0, "", (Request(1, create),))
        try:
            connection.worker_queue.send("writer", "fleet", trust.sign(self._secret, codec.message(message)))
        except DriverError:
            return
