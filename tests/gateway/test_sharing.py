"""``fk serve`` and other processes share an embedded service, whoever has its directory."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests.gateway import raw
from tests.gateway.raw import Raw, number, string
from tests.gateway.servers import Server
from tests.providers.members import Member


def put(client: Raw, path: str, data: bytes) -> None:
    assert client.ask(raw.SET, string(path) + string(data) + number(-1))[0] == 0


@pytest.fixture
def joined(directory: Path) -> Iterator[tuple[Server, Server]]:
    """Two servers of one directory: the first has it."""
    first, second = Server(directory), Server(directory / "other", config=_of(directory))
    yield first, second
    first.kill()
    second.kill()


def _of(directory: Path) -> dict[str, str]:
    return {"directory": str(directory / "data")}


def test_two_servers_share_a_directory_and_one_goes_on_when_the_other_is_killed(
    joined: tuple[Server, Server],
) -> None:
    first, second = joined
    one, two = Raw(first.port), Raw(second.port)
    one.create("/a", b"1")
    two.create("/e", b"", flags=1)
    assert two.ask(raw.GET, string("/a") + b"\1")[0] == 0
    put(one, "/a", b"2")
    while not two.events:
        two.ping()
    assert two.events[0][1] == "/a"
    first.kill()
    put(two, "/a", b"3")
    again = Raw(second.port, session=one.session, password=one.password, timeout=one.timeout)
    assert again.ask(raw.EXISTS, string("/e") + b"\0")[0] == 0
    assert again.session == one.session


def test_what_a_server_has_answered_is_read_by_a_joined_client(directory: Path) -> None:
    server = Server(directory)
    member = Member(directory / "data")
    client = Raw(server.port)
    client.create("/a", b"-1")
    member.do("client.exists('/a') is not None")
    stop = threading.Event()

    def busy() -> None:
        other = Raw(server.port)
        while not stop.is_set():
            put(other, "/zookeeper", b"x" * 1000)

    thread = threading.Thread(target=busy)
    thread.start()
    try:
        for turn in range(300):
            put(client, "/a", b"%d" % turn)
            assert int(member.do("client.get_data('/a').data")) == turn
    finally:
        stop.set()
        thread.join(PATIENCE_S)
        member.kill()
        server.kill()


def test_a_server_joins_a_program_and_takes_over_from_it(directory: Path) -> None:
    member = Member(directory / "data")
    data = {"cloud-provider": "local", "deployment-name": "x", "directory": str(directory / "data")}
    server = Server(directory, config=data, usual=False)
    client = Raw(server.port)
    client.create("/e", b"", flags=1)
    assert member.do("client.exists('/e') is not None")
    member.kill()
    put(client, "/e", b"1")
    later = Member(directory / "data")
    assert later.do("client.get_data('/e').data") == "1"
    assert server.stop() == 0
    assert later.do("client.create('/a').path") == "/a"
    later.kill()
