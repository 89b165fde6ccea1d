"""Curator in Java against ``fk serve``: a killed leader is replaced, a killed server is not missed."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from pathlib import Path
from shutil import which

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.recipes import ChildrenWatch
from faaskeeper.testing.patience import PATIENCE_S
from tests.backends import CURATOR, CURATOR_WHERE, needs
from tests.examples.running import Program, copied, heard
from tests.gateway.servers import Server

Lines = list[tuple[str, str]]


@pytest.fixture
def said() -> Iterator[queue.Queue[tuple[str, str]]]:
    needs("Curator", CURATOR.exists() and which("java"), CURATOR_WHERE)
    yield queue.Queue()
    for program in list(Program.running):
        program.kill()
    for server in list(Server.made):
        server.kill()
        Server.made.remove(server)


def owners(port: int, number: int) -> dict[str, int]:
    """The candidates, once there are so many, and the sessions that own their nodes."""
    there = threading.Event()
    with FaaSKeeperClient(Config.load(f"zk://127.0.0.1:{port}")) as client:
        ChildrenWatch(client, "/app/leader", lambda names: there.set() if len(names) == number else None)
        assert there.wait(PATIENCE_S)
        children = client.get_children("/app/leader", include_data=True)
        return {child.data.decode(): child.stat.ephemeralOwner for child in children}


def test_sessions_outlive_their_server_and_a_leader_s_death_elects_the_next(
    tmp_path: Path, said: queue.Queue[tuple[str, str]]
) -> None:
    folder = copied("curator", tmp_path)
    lines: Lines = []
    server = Server(tmp_path / "server")
    address = f"127.0.0.1:{server.port}"
    programs = {"A": Program(folder, said, "A", "./run.sh", "A", address)}
    heard(said, lambda name, line: line == "A leads", lines)
    programs["B"] = Program(folder, said, "B", "./run.sh", "B", address)
    heard(said, lambda name, line: line.startswith("B (") and line.endswith("is a candidate"), lines)
    with FaaSKeeperClient(Config.load(f"zk://{address}")) as client:
        client.create("/app/settings", b"blue")
    for _ in range(2):
        heard(said, lambda name, line: line.endswith("sees the settings blue"), lines)

    before = owners(server.port, 2)
    server.kill()
    heard(said, lambda name, line: line == "A leads no more", lines)  # while it is not reached
    server.start()
    leader, _ = heard(said, lambda name, line: line.endswith(" leads"), lines)
    assert set(owners(server.port, 2).values()) == set(before.values())  # the sessions go on

    programs[leader].kill()
    (other,) = programs.keys() - {leader}
    heard(said, lambda name, line: line == f"{other} leads", lines)
    assert set(owners(server.port, 1)) == {other}
