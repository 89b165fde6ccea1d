"""``fk who`` shows the contenders of recipes, of kazoo's too, with what the deployment knows of them."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from kazoo.client import KazooClient

from faaskeeper.cli.contenders import contenders, duration
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.servers import numbers, peers
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes import Lock, LockingQueue
from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import Fk
from tests.gateway.servers import Server

Start = Callable[..., FaaSKeeperClient]


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


def test_contenders_are_shown_in_order_with_their_sessions(connect: Start) -> None:
    first, second = connect(), connect()
    lock, other = Lock(first, "/l", "alice"), Lock(second, "/l", "bob")
    lock.acquire()
    thread = threading.Thread(target=other.acquire)
    thread.start()
    while len(lock.contenders()) < 2:
        lock.contenders()
    rows = contenders(first, "/l")
    assert [(each["role"], each["identifier"], each["session"]) for each in rows] == [
        ("holds", "alice", first.session_id),
        ("waits", "bob", second.session_id),
    ]
    assert rows[0]["token"] == lock.token
    assert 0 < rows[0]["lease_s"] <= first.session_timeout
    lock.release()
    thread.join()
    other.release()


def test_holders_of_values_of_a_queue_are_shown(connect: Start) -> None:
    client = connect()
    queue = LockingQueue(client, "/q")
    queue.put(b"value")
    queue.get()
    (row,) = contenders(client, "/q")
    assert (row["role"], row["recipe"], row["session"]) == ("holds", "LockingQueue", client.session_id)


def test_identities_are_shown_without_hashes(connect: Start) -> None:
    client = connect()
    client.add_auth("digest", "alice:secret")
    client.create("/l")
    client.create("/l/lock-01234567-", b"x", ephemeral=True, sequential=True, acl=[(31, "auth", "")])
    (row,) = contenders(client, "/l")
    assert row["identities"] == ["digest:alice"]


def test_nobody_is_said_with_a_status_of_its_own(fk: Fk) -> None:
    fk.said("create", "/l")
    done = fk.run("who", "/l")
    assert (done.returncode, done.stderr) == (1, b"fk: nobody holds /l or waits for it\n")
    assert fk.run("who", "/absent").returncode == 3


def test_kazoo_s_contenders_are_known_also_when_their_server_was_killed(tmp_path: Path) -> None:
    server = Server(tmp_path, "--commands", "*")
    clients = [KazooClient(f"127.0.0.1:{server.port}", timeout=60) for _ in range(2)]
    for each in clients:
        each.start(PATIENCE_S)
    assert clients[0].Lock("/l", "alice").acquire(timeout=PATIENCE_S)
    assert clients[0].Semaphore("/s", "carol", max_leases=1).acquire(timeout=PATIENCE_S)
    waiting = threading.Thread(target=_in_vain, args=(clients[1].Lock("/l", "bob"),))
    waiting.start()
    while len(clients[0].get_children("/l")) < 2:
        clients[0].sync("/l")
    sessions = [f"{each.client_id[0]:08x}" for each in clients]
    known = peers(("127.0.0.1", server.port))
    assert {f"{each:08x}" for each in known} >= set(sessions)
    assert all(each.startswith("127.0.0.1:") for each in known.values())
    assert numbers(("127.0.0.1", server.port))["num_alive_connections"] >= 2
    server.kill()
    fk = Fk(tmp_path)
    rows = json.loads(fk.said("--config", str(tmp_path / "config.json"), "who", "/l", "--json"))
    assert [(each["role"], each["identifier"], each["session"]) for each in rows] == [
        ("holds", "alice", sessions[0]),
        ("waits", "bob", sessions[1]),
    ]
    rows = json.loads(fk.said("--config", str(tmp_path / "config.json"), "who", "/s", "--json"))
    assert [(each["role"], each["identifier"]) for each in rows] == [("holds", "carol")]
    for each in clients:
        each.stop()
        each.close()
    waiting.join(PATIENCE_S)


def _in_vain(lock: object) -> None:
    try:
        lock.acquire(timeout=PATIENCE_S)  # type: ignore[attr-defined]
    except Exception:
        return  # its client was stopped


def test_a_server_that_is_not_there_or_does_not_allow_it_is_named(tmp_path: Path) -> None:
    server = Server(tmp_path)
    with pytest.raises(
        Failed, match=rf"127.0.0.1:{server.port} does not answer 'cons': fk serve does with --commands"
    ):
        peers(("127.0.0.1", server.port))
    server.kill()
    with pytest.raises(Failed, match="does not answer"):
        peers(("127.0.0.1", server.port))


@pytest.mark.parametrize(
    ("ms", "shown"),
    [(-5, "0s"), (59_999, "59s"), (192_000, "3m12s"), (18_420_000, "5h07m"), (183_600_000, "2d03h")],
)
def test_durations_are_short(ms: float, shown: str) -> None:
    assert duration(ms) == shown
