"""Sessions that go from server to server, as often as their clients like."""

from __future__ import annotations

import asyncio
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Conflict, Unavailable
from faaskeeper.core.sessions import Lease, Leases
from faaskeeper.gateway.following import Following
from faaskeeper.testing.patience import PATIENCE_S
from tests.gateway import raw
from tests.gateway.raw import OPEN, Closed, Raw, acls, number, string
from tests.gateway.threads import InThread, far


def back(port: int, before: Raw) -> Raw:
    return Raw(port, session=before.session, password=before.password, timeout=before.timeout)


def count(client: Raw, turn: int) -> None:
    assert client.ask(raw.SET, string("/count") + string(b"%d" % turn) + number(turn - 1))[0] == 0


@pytest.mark.parametrize(
    ("change", "following"), [(lambda each: each, None), (far, None), (far, Following(3600))]
)
def test_a_session_goes_to_and_fro_and_every_request_happens_once(
    directory: Path, change: Callable[[Connection], Connection], following: Following | None
) -> None:
    servers = [InThread(directory, change, following=following) for _ in range(2)]
    client = Raw(servers[0].port)
    client.create("/count", b"0", flags=1)
    for turn in range(1, 9):
        client = back(servers[turn % 2].port, client)
        count(client, turn)
        assert client.ask(raw.EPHEMERALS, string("/"))[1].strings() == ["/count"]
        assert client.ask(raw.GET, string("/count") + b"\0")[1].buffer() == b"%d" % turn
    for server in servers:
        server.stop()


def test_a_connection_whose_session_another_server_took_is_ended_at_its_next_request(directory: Path) -> None:
    servers = [InThread(directory) for _ in range(2)]
    first = Raw(servers[0].port)
    first.create("/count", b"0")
    second = back(servers[1].port, first)
    with pytest.raises(Closed):
        first.ask(raw.SET, string("/count") + string(b"not mine") + number(-1))
    count(second, 1)
    for server in servers:
        server.stop()


def test_a_session_that_a_server_took_over_only_by_half_is_found_again(
    directory: Path,
) -> None:
    server = InThread(directory)
    client = Raw(server.port)
    client.create("/count", b"0")
    leases = server.gateway.hub.connection.leases
    for turn in range(1, 4):
        lease = leases.get(client.session)
        leases.replace(lease._replace(incarnation=lease.incarnation + (1 << 45), under=0))
        client = back(server.port, client)
        count(client, turn)
    server.stop()


def test_a_session_that_was_released_while_a_client_resumed_it_is_not_served(directory: Path) -> None:
    """Nothing keeps it from ending: its lease is not under the server's any more."""
    server = InThread(directory)
    client = Raw(server.port)
    client.create("/count", b"0")
    registry = server.gateway.registry
    resume = registry.resume

    async def late(*args: object) -> object:
        session = await resume(*args)
        registry.release(session, 1.0)
        return session

    registry.resume = late
    with pytest.raises(Closed):
        back(server.port, client)
    registry.resume = resume
    client = back(server.port, client)
    count(client, 1)
    lease = server.gateway.hub.connection.leases.get(client.session)
    assert lease.under == server.gateway.hub.lease.session
    server.stop()


class Lost:
    """Leases of which one put under a server takes effect without an answer, or late."""

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self.lost = False
        self.putting, self.go_on = threading.Event(), threading.Event()

    def __getattr__(self, name: str) -> object:
        return getattr(self._leases, name)

    def replace(self, lease: Lease) -> Lease:
        if not self.lost or not lease.under:
            return self._leases.replace(lease)
        self.lost = False
        self.putting.set()
        assert self.go_on.wait(PATIENCE_S)
        self._leases.replace(lease)
        raise Unavailable("the answer was lost")


@pytest.mark.parametrize("how", ["the resumption has no answer", "the put has no answer", "its client goes"])
def test_a_session_whose_resumption_fails_is_not_left_under_the_server(directory: Path, how: str) -> None:
    """If its client is dead, nothing would end it as long as the server lives."""
    made: list[Any] = []

    def lossy(connection: Connection) -> Connection:
        made.append(Lost(connection.leases))
        return replace(far(connection), leases=made[0])

    servers = [InThread(directory), InThread(directory, lossy)]
    client = Raw(servers[0].port)
    client.create("/count", b"0")
    gateway, (leases,) = servers[1].gateway, made
    ask = gateway.hub.sender.ask

    async def unanswered(*args: object, **more: object) -> object:
        raise TimeoutError

    async def released() -> None:
        await asyncio.gather(*gateway.registry._releasing)

    leases.lost = how != "the resumption has no answer"
    if how == "its client goes":
        with socket.create_connection(("127.0.0.1", servers[1].port)) as going:
            record = struct.pack(">iqiqi", 0, 0, client.timeout, client.session, 16) + client.password
            going.sendall(number(len(record)) + record)
            assert leases.putting.wait(PATIENCE_S)
        while servers[1].call(lambda: len(gateway.connections)):
            threading.Event().wait(0.01)
        leases.go_on.set()
    else:
        leases.go_on.set()
        gateway.hub.sender.ask = unanswered
        with pytest.raises(Closed):
            back(servers[1].port, client)
        gateway.hub.sender.ask = ask
    servers[1].wait(released())
    lease = leases.get(client.session)
    assert (lease.under, lease.marked) == (0, False)
    client = back(servers[1].port, client)
    count(client, 1)
    for server in servers:
        server.stop()


def test_a_put_of_another_server_that_is_late_takes_no_session_away_from_where_its_client_went_back(
    directory: Path,
) -> None:
    servers = [InThread(directory) for _ in range(2)]
    client = Raw(servers[0].port)
    client.create("/count", b"0")
    leases = servers[0].gateway.hub.connection.leases
    late = leases.get(client.session)._replace(under=servers[1].gateway.hub.lease.session, incarnation=77)
    client = back(servers[0].port, client)
    with pytest.raises(Conflict):
        leases.replace(late)
    count(client, 1)
    assert leases.get(client.session).under == servers[0].gateway.hub.lease.session
    for server in servers:
        server.stop()


def test_of_two_connections_that_resume_a_session_at_once_one_does(directory: Path) -> None:
    """Otherwise the lease would be the one's, and the other be served."""
    servers = [InThread(directory) for _ in range(2)]
    client = Raw(servers[0].port)
    client.create("/count", b"0")
    hub = servers[1].gateway.hub
    ask, asked, go_on = hub.sender.ask, threading.Event(), asyncio.Event()

    async def late(*args: Any, **more: Any) -> object:
        asked.set()
        await go_on.wait()
        return await ask(*args, **more)

    hub.sender.ask = late
    first: list[Raw] = []
    thread = threading.Thread(target=lambda: first.append(back(servers[1].port, client)))
    thread.start()
    assert asked.wait(PATIENCE_S)
    with pytest.raises(Closed):
        back(servers[1].port, client)
    servers[1].call(go_on.set)
    thread.join(PATIENCE_S)
    count(first[0], 1)
    lease = hub.connection.leases.get(client.session)
    assert lease == servers[1].call(lambda: hub.sessions[client.session].lease)
    for server in servers:
        server.stop()


def test_ephemerals_are_listed_with_those_that_an_earlier_connection_created_last(directory: Path) -> None:
    """The answer is as of a transaction that may be that create."""
    server = InThread(directory, far)
    client = Raw(server.port)
    hub = server.gateway.hub
    session = server.call(lambda: hub.sessions[client.session])
    replied, kept, came = session.replied, list[Any](), threading.Event()

    def late(reply: Any) -> None:
        kept.append(reply)
        came.set()

    session.replied = late
    client.send(raw.CREATE2, string("/e") + string("") + acls(OPEN) + number(1))
    assert came.wait(PATIENCE_S)
    client = back(server.port, client)
    asked = client.send(raw.EPHEMERALS, string("/"))
    client.send(raw.PING, xid=-2)
    assert client.next()[0] == -2  # it is answered at once, the other waits

    def take_in() -> None:
        session.replied = replied
        for each in kept:
            replied(each)

    server.call(take_in)
    xid, _, error, record = client.next()
    assert (xid, error, record.strings()) == (asked, 0, ["/e"])
    server.stop()
