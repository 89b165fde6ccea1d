"""Leases that a server's answers for: no session ends within its time-out from when it was last served."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.errors import Conflict
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.sessions import Lease, Leases, served_ms
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.providers.memory import MemoryTable
from tests.bare import Bare

SERVER_MS = 4_000
SESSION_MS = 6_000
SESSION = 7


class Server:
    """A server's own session, and what it believes."""

    def __init__(self, leases: Leases, session: int, now: int) -> None:
        self.leases = leases
        leases.grant(session, now + 60_000)
        self.lease = Lease(session, 1, 0, False)
        self.renewed = -(10**9)
        self.attached: Lease | None = None
        self.renew(now)

    def renew(self, now: int) -> None:
        wanted = self.lease._replace(expires=now + SERVER_MS, timeout=SERVER_MS)
        try:
            self.lease = self.leases.replace(wanted)
        except Conflict:
            self.attached = None  # it is over: its connections are ended
        else:
            self.renewed = now

    def serving(self, now: int) -> bool:
        return now < self.renewed + served_ms(SERVER_MS)

    def attach(self, now: int) -> bool:
        lease = self.leases.get(SESSION)
        if lease is None or lease.marked:
            return False
        try:
            self.attached = self.leases.replace(
                lease._replace(
                    expires=now + SESSION_MS, under=self.lease.session, timeout=SESSION_MS, proof="p"
                )
            )
        except Conflict:
            return False
        return True

    def let_go(self, heard: int) -> None:
        attached, self.attached = self.attached, None
        if attached is not None:
            try:
                self.leases.replace(attached._replace(under=0, expires=heard + SESSION_MS))
            except Conflict:
                return


class Leasing(RuleBasedStateMachine):
    """One session, two servers that stall and die, and heartbeat."""

    def __init__(self) -> None:
        super().__init__()
        bare = Bare()
        self.clock = bare.clock
        self.leases = bare.deployment.leases
        self.heartbeat = Heartbeat(bare.deployment, MemoryTable())
        self.servers = [Server(self.leases, number, self.clock.now) for number in (100, 200)]
        self.leases.grant(SESSION, self.clock.now + SESSION_MS)
        self.at: Server | None = None
        self.served = self.clock.now
        self.closed = False

    @rule(ms=st.integers(1, 2_500))
    def time_passes(self, ms: int) -> None:
        self.clock.now += ms

    @rule(number=st.integers(0, 1))
    def a_server_renews(self, number: int) -> None:
        self.servers[number].renew(self.clock.now)

    @precondition(lambda self: not self.closed)
    @rule(number=st.integers(0, 1))
    def the_client_connects(self, number: int) -> None:
        server = self.servers[number]
        if server.serving(self.clock.now) and server.attach(self.clock.now):
            self.at = server
            self.served = self.clock.now

    @rule()
    def the_client_pings(self) -> None:
        at = self.at
        if at is not None and at.attached is not None and at.serving(self.clock.now):
            self.served = self.clock.now

    @rule()
    def the_server_finds_the_client_silent(self) -> None:
        at = self.at
        if at is not None and self.clock.now > self.served + SESSION_MS:
            at.let_go(self.served)
            self.at = None

    @rule()
    def the_server_dies(self) -> None:
        self.at = None  # and renews no more unless another rule says so

    @rule()
    def heartbeat_beats(self) -> None:
        if SESSION in self.heartbeat.expire():
            assert self.clock.now >= self.served + SESSION_MS, "it ended within its time-out"
            self.closed = True

    @invariant()
    def a_session_that_has_ended_is_served_by_nobody(self) -> None:
        if self.closed and self.at is not None and self.at.attached is not None:
            assert not self.at.serving(self.clock.now) or self.clock.now >= self.served + SESSION_MS


TestLeasing = Leasing.TestCase
TestLeasing.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)


def test_a_session_ends_when_its_server_has_died_and_nobody_takes_it_over() -> None:
    bare = Bare()
    leases, clock = bare.deployment.leases, bare.clock
    heartbeat = Heartbeat(bare.deployment, MemoryTable())
    server = Server(leases, 100, clock.now)
    leases.grant(SESSION, clock.now)
    assert server.attach(clock.now)
    clock.now += SERVER_MS - 1
    assert heartbeat.expire() == []
    clock.now += 2
    assert heartbeat.expire() == [100]
    freed: Any = leases.get(SESSION)
    assert (freed.under, freed.marked) == (0, False)
    assert freed.expires == server.renewed + served_ms(SERVER_MS) + SESSION_MS
    clock.now = freed.expires
    assert heartbeat.expire() == [100]
    clock.now += 1
    assert sorted(heartbeat.expire()) == [SESSION, 100]


def test_the_lease_of_a_session_whose_server_is_forgotten_gets_its_whole_time_again() -> None:
    bare = Bare()
    leases, clock = bare.deployment.leases, bare.clock
    heartbeat = Heartbeat(bare.deployment, MemoryTable())
    server = Server(leases, 100, clock.now)
    leases.grant(SESSION, clock.now)
    assert server.attach(clock.now)
    leases.drop(100)
    clock.now += 10 * SESSION_MS
    assert heartbeat.expire() == []
    freed: Any = leases.get(SESSION)
    assert (freed.under, freed.expires) == (0, clock.now + SESSION_MS)


def test_sessions_stay_under_a_server_that_may_outlive_the_service() -> None:
    bare = Bare()
    leases, clock = bare.deployment.leases, bare.clock
    server = Server(leases, 100, clock.now)
    leases.grant(SESSION, clock.now)
    assert server.attach(clock.now)
    leases.replace(leases.get(SESSION)._replace(proof="p"))  # type: ignore[union-attr]
    clock.now += SERVER_MS - 1
    Heartbeat(bare.deployment, MemoryTable()).readmit()
    kept: Any = leases.get(SESSION)
    assert kept.under == 100
    clock.now += 2
    Heartbeat(bare.deployment, MemoryTable()).readmit()
    freed: Any = leases.get(SESSION)
    assert (freed.under, freed.expires) == (0, clock.now + freed.timeout)


def test_sessions_of_servers_get_their_time_again_when_the_whole_service_was_down(tmp_path: Path) -> None:
    now = [1_000_000]
    config = Config.local(tmp_path)
    service = EmbeddedService(config, tmp_path, clock=lambda: now[0], steady=lambda: now[0], beat=False)
    with FaaSKeeperClient(config, connect=lambda _, port: service.connection(port, lambda: None)) as client:
        for number in range(9):  # an opening refuses leases of sessions that the log does not have
            client.create(f"/n{number}")
    leases = service.deployment.leases
    for session, under in ((7, 100), (8, 0)):
        leases.grant(session, now[0])
        proven = Lease(session, 1, now[0] + SESSION_MS, False, 0, under, SESSION_MS, "p")
        leases.replace(proven)
    leases.grant(9, now[0] + SESSION_MS)  # of a client of this process, which is gone with it
    service.stop()
    now[0] += 100 * SESSION_MS
    service = EmbeddedService(config, tmp_path, clock=lambda: now[0], steady=lambda: now[0], beat=False)
    found = {
        lease.session: (lease.expires - now[0], lease.under) for lease in service.deployment.leases.all()
    }
    assert found == {7: (SESSION_MS, 0), 8: (SESSION_MS, 0), 9: (-99 * SESSION_MS, 0)}
    assert service.heartbeat.expire() == [9]
    service.stop()
