"""Sessions that go from server to server, as often as their clients like."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.gateway import raw
from tests.gateway.raw import Closed, Raw, number, string
from tests.gateway.threads import InThread, far


def back(port: int, before: Raw) -> Raw:
    return Raw(port, session=before.session, password=before.password, timeout=before.timeout)


def count(client: Raw, turn: int) -> None:
    assert client.ask(raw.SET, string("/count") + string(b"%d" % turn) + number(turn - 1))[0] == 0


@pytest.mark.parametrize("change", [lambda each: each, far])
def test_a_session_goes_to_and_fro_and_every_request_happens_once(directory: Path, change: object) -> None:
    servers = [InThread(directory, change) for _ in range(2)]  # type: ignore[arg-type]
    client = Raw(servers[0].port)
    client.create("/count", b"0", flags=1)
    for turn in range(1, 9):
        client = back(servers[turn % 2].port, client)
        count(client, turn)
        assert client.ask(raw.EPHEMERALS, string("/"))[1].strings() == ["/count"]
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


def test_a_session_whose_resumption_fails_is_not_left_under_the_server(directory: Path) -> None:
    """If its client is dead, nothing would end it as long as the server lives."""
    servers = [InThread(directory) for _ in range(2)]
    client = Raw(servers[0].port)
    client.create("/count", b"0")
    gateway = servers[1].gateway
    ask = gateway.hub.sender.ask

    async def unanswered(*args: object, **more: object) -> object:
        raise TimeoutError

    async def released() -> None:
        await asyncio.gather(*gateway.registry._releasing)

    gateway.hub.sender.ask = unanswered
    with pytest.raises(Closed):
        back(servers[1].port, client)
    servers[1].wait(released())
    lease = gateway.hub.connection.leases.get(client.session)
    assert (lease.under, lease.marked) == (0, False)
    gateway.hub.sender.ask = ask
    client = back(servers[1].port, client)
    count(client, 1)
    for server in servers:
        server.stop()
