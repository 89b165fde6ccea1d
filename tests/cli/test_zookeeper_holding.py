"""``fk watch``, ``lock``, ``who`` and ``top`` on ZooKeeper's own server and on ``fk serve``."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import FK, Fk, Start, starting
from tests.client.test_zookeeper import Between

STUBBORN = 'trap "" TERM; echo $$; while :; do sleep 0.05; done'


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


@pytest.fixture
def start(fk: Fk) -> Iterator[Start]:
    with starting(FK, fk.environment) as run:
        yield run


@pytest.fixture
def at(port: int, request: pytest.FixtureRequest) -> str:
    """The address of a znode of the test's own."""
    path = f"/{request.node.name.partition('[')[0]}"
    with FaaSKeeperClient(Config.load(f"zk://127.0.0.1:{port}")) as client:
        client.create(path)
    return f"zk://127.0.0.1:{port}{path}"


@pytest.fixture
def between(port: int) -> Iterator[Between]:
    made = Between(port)
    yield made
    made.close()


def first_line(process: subprocess.Popen[str], error: bool = False) -> str:
    stream = process.stderr if error else process.stdout
    assert stream is not None
    return stream.readline().strip()


def ended(process: subprocess.Popen[str], words: str | None = None) -> tuple[int, str, str]:
    out, err = process.communicate(words, timeout=PATIENCE_S)
    return process.returncode, out, err


def test_changes_are_watched(start: Start, at: str) -> None:
    watching = start("-c", at, "watch", "/app", "-r", "--data", "--json", "-n", "4")
    assert first_line(watching, error=True) == "fk: watching /app"
    with FaaSKeeperClient(Config.load(at)) as client:
        for write in (
            lambda: client.create("/app", b"one"),
            lambda: client.set_data("/app", b"two"),
            lambda: client.create("/app/x"),
            lambda: client.delete("/app/x"),
        ):
            write()
            shown = json.loads(first_line(watching))
            if shown["event"] == "changed":
                assert (shown["data"], shown["old"]) == ("two", {"version": 0, "data": "one"})
    assert (shown["event"], shown["path"]) == ("deleted", "/app/x")
    assert ended(watching)[0] == 0


def test_children_that_come_and_go_are_changes_of_the_node(start: Start, at: str) -> None:
    watching = start("-c", at, "watch", "/app")
    assert first_line(watching, error=True) == "fk: watching /app"
    with FaaSKeeperClient(Config.load(at)) as client:
        client.create("/app")
        assert first_line(watching).endswith(" created /app")
        client.create("/app/x")
        assert first_line(watching).endswith(" children /app")
        client.delete("/app/x")
        assert first_line(watching).endswith(" children /app")
        client.delete("/app")
        assert first_line(watching).endswith(" deleted /app")
    watching.send_signal(signal.SIGINT)
    assert ended(watching) == (130, "", "fk: interrupted\n")


def test_what_happened_while_the_connection_was_lost_is_shown(
    start: Start, at: str, between: Between
) -> None:
    path = at.rpartition("/")[2]
    through = f"zk://127.0.0.1:{between.port}/{path}"
    watching = start("-c", through, "watch", "/", "-r", "-n", "3")
    assert first_line(watching, error=True) == "fk: watching /"
    with FaaSKeeperClient(Config.load(at)) as client:
        client.create("/a")
        assert first_line(watching).endswith(" created /a")
        between.refuses = True
        between.cut()
        client.delete("/a")
        client.create("/b")
        between.refuses = False
    status, out, _ = ended(watching)
    assert status == 0
    assert [" ".join(line.split()[-2:]) for line in out.splitlines()] == ["deleted /a", "created /b"]


def test_a_position_in_a_log_is_refused(fk: Fk, at: str) -> None:
    done = fk.run("-c", at, "watch", "/", "--since", "0")
    assert (done.returncode, done.stderr) == (
        2,
        b"fk: --since needs a log, and this deployment shows clients none\n",
    )


def test_a_command_runs_under_a_lock_and_others_wait(start: Start, fk: Fk, at: str) -> None:
    script = "echo $FK_FENCING_TOKEN $FK_LOCK_PATH; read a; exit 7"
    first = start("-c", at, "lock", "/jobs/a", "--identifier", "first", "--", "sh", "-c", script)
    token, path = first_line(first).split()
    assert path == "/jobs/a"
    refused = fk.run("-c", at, "lock", "/jobs/a", "--wait", "0", "-E", "9", "--", "true")
    assert (refused.returncode, refused.stderr) == (9, b"fk: /jobs/a was not free within 0 s: first\n")
    (row,) = json.loads(fk.said("-c", at, "who", "/jobs/a", "--json"))
    assert (row["role"], row["identifier"], row["token"]) == ("holds", "first", int(token))
    assert ended(first, "\n")[0] == 7
    later = fk.said("-c", at, "lock", "/jobs/a", "--", "sh", "-c", "echo $FK_FENCING_TOKEN")
    assert int(later) > int(token)
    for kind in (["--read"], ["--write"], ["--semaphore", "2"], ["--election"]):
        assert fk.run("-c", at, "lock", "/jobs/b", *kind, "--", "true").returncode == 0


def test_the_command_is_gone_before_another_holds_the_lock_of_a_session_that_is_cut_off(
    start: Start, at: str, between: Between
) -> None:
    path = at.rpartition("/")[2]
    through = f"zk://127.0.0.1:{between.port}/{path}"
    options = ("--session-timeout", "6", "--grace", "0.5")
    first = start("-c", through, "lock", "/l", *options, "--", "sh", "-c", STUBBORN)
    pid = int(first_line(first))
    second = start("-c", at, "lock", "/l", "--", "sh", "-c", f"test ! -e /proc/{pid}/fd/0 && echo gone")
    between.refuses = True
    between.cut()
    status, _, err = ended(first)
    assert (status, "fk: the lock /l was lost: " in err) == (1, True), err
    assert ended(second)[:2] == (0, "gone\n")


def test_a_command_whose_place_was_deleted_while_the_connection_was_lost_is_ended(
    start: Start, at: str, between: Between
) -> None:
    path = at.rpartition("/")[2]
    through = f"zk://127.0.0.1:{between.port}/{path}"
    script = "echo $FK_LOCK_NODE; while :; do sleep 0.05; done"
    first = start("-c", through, "lock", "/l", "--", "sh", "-c", script)
    node = first_line(first)
    with FaaSKeeperClient(Config.load(at)) as client:
        between.refuses = True
        between.cut()
        client.delete(node)
        between.refuses = False
    status, _, err = ended(first)
    assert (status, "a client deleted its node" in err) == (1, True), err


def test_a_grace_that_does_not_fit_what_the_server_grants_is_refused(fk: Fk, real: int) -> None:
    at = f"zk://127.0.0.1:{real}"  # it grants 40 s at most
    done = fk.run("-c", at, "lock", "/l", "--session-timeout", "90", "--grace", "20", "--", "true")
    assert (done.returncode, b"does not fit a session time-out of 40 s" in done.stderr) == (2, True)
    assert fk.run("-c", at, "lock", "/l", "--session-timeout", "90", "--", "true").returncode == 0


def test_a_look_at_a_server_shows_what_it_tells(fk: Fk, at: str, port: int) -> None:
    found = json.loads(fk.said("-c", at, "top", "--once", "--json"))
    (server,) = found["servers"]
    assert (server["server"], server["mode"]) == (f"127.0.0.1:{port}", "standalone")
    assert server["znodes"] == found["znodes"] > 3
    assert found["zxid"] == server["zxid"] > 0
    assert found["writes_per_s"] is None
    lines = fk.said("-c", at, "top").splitlines()
    assert lines[0].startswith("transaction    0x")
    assert any(line.startswith(f"127.0.0.1:{port} standalone, ") for line in lines)


def test_writes_of_a_server_are_counted_from_look_to_look(start: Start, at: str) -> None:
    looking = start("-c", at, "top", "--json", "--interval", "0.1")
    json.loads(first_line(looking))
    with FaaSKeeperClient(Config.load(at)) as client:
        client.create("/hot")
        for _ in range(5):
            client.set_data("/hot", b"x")
        paths: list[object] = []
        while paths != [{"path": "/hot", "writes": 6}]:
            found = json.loads(first_line(looking))
            paths = found["paths"]
    assert found["writes_per_s"] >= 0
    looking.send_signal(signal.SIGINT)
    assert ended(looking)[0] == 0


@pytest.mark.parametrize(
    "words",
    [
        ("history", "/"),
        ("get", "/", "--at", "1"),
        ("diff", "/"),
        ("blame", "/"),
        ("revert", "/", "--at", "1"),
    ],
)
def test_the_past_is_refused_in_a_line(fk: Fk, port: int, words: tuple[str, ...]) -> None:
    done = fk.run("-c", f"zk://127.0.0.1:{port}", *words)
    assert (done.returncode, done.stderr.decode()) == (
        1,
        f"fk: zk://127.0.0.1:{port} is a ZooKeeper server, which keeps no history\n",
    )
