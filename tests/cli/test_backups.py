"""``fk backup`` and ``fk restore`` on embedded services, as a person runs them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from faaskeeper.backup.file import read
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.testing.patience import PATIENCE_S
from tests.backup.trees import of_backup, plain
from tests.cli.console import FK, ROOT, Fk, Terminal

LARGE = b"\xff" * 100_000


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Callable[..., FaaSKeeperClient]]:
    """Started clients of embedded services in this process."""
    made: list[FaaSKeeperClient] = []

    def connect(directory: Path, storage: str = "key-value") -> FaaSKeeperClient:
        client = FaaSKeeperClient(configured(directory, storage))
        client.start()
        made.append(client)
        return client

    yield connect
    for client in made:
        client.stop()


def configured(directory: Path, storage: str = "key-value") -> Config:
    data = {"cloud-provider": "local", "deployment-name": "x", "directory": str(directory)}
    return Config.deserialize({**data, "user-storage": storage})


def written(folder: Path, storage: str) -> Path:
    """A configuration's file."""
    path = folder / f"{storage}.json"
    path.write_text(
        json.dumps(
            {
                "cloud-provider": "local",
                "deployment-name": "x",
                "directory": str(folder / storage),
                "user-storage": storage,
            }
        )
    )
    return path


def errors(done: subprocess.CompletedProcess[bytes], code: int) -> str:
    assert done.returncode == code, done.stderr.decode()
    return done.stderr.decode()


def test_a_backup_is_restored_into_a_new_directory_and_into_the_old_one(fk: Fk, tmp_path: Path) -> None:
    file = tmp_path / "backup.gz"
    fk.said("create", "/a", "text")
    for _ in range(3):
        fk.said("create", "-s", "/a/item-", "x")
    fk.said("delete", "/a/item-0000000002")
    said = errors(fk.run("backup", "--to", str(file)), 0)
    assert "wrote 7 znodes as of transaction" in said
    assert read(file).digest in said
    stat = fk.said("stat", "/a")
    other = Fk(tmp_path / "other")
    shown = errors(other.run("restore", "--from", str(file), "--dry-run"), 0)
    assert "has 4 znodes and 0 open sessions, as of transaction 0" in shown
    assert not (tmp_path / "other").exists()
    assert "restored 7 znodes" in errors(other.run("restore", "--from", str(file)), 0)
    assert other.said("stat", "/a") == stat
    assert "item-0000000003" in other.said("create", "-s", "/a/item-", "x")
    fk.said("create", "/later")
    fk.said("set", "/a", "changed")
    shown = errors(fk.run("restore", "--from", str(file), "--dry-run"), 0)
    assert "has 8 znodes and 0 open sessions" in shown
    assert "has 7 znodes as of transaction" in shown
    assert "add --yes" in errors(fk.run("restore", "--from", str(file)), 2)
    assert fk.said("get", "/a") == "changed\n"
    fk.said("restore", "--from", str(file), "--yes")
    assert fk.said("stat", "/a") == stat
    assert fk.run("get", "/later").returncode == 3


@pytest.mark.parametrize("storage", ["key-value", "hybrid", "persistent"])
def test_each_layout_is_backed_up_and_restored_into_each(
    tmp_path: Path, storage: str, fk: Fk, connect: Callable[..., FaaSKeeperClient]
) -> None:
    client = connect(tmp_path / storage, storage)
    client.create("/large", LARGE)
    client.create("/small", b"1")
    for number in range(300):
        client.create(f"/small/{number}")
    client.create("/zookeeper/quota/small")
    client.stop()
    file = tmp_path / "backup"
    fk.said("backup", str(written(tmp_path, storage)), "--to", str(file))
    for kind in ("key-value", "hybrid", "persistent"):
        folder = tmp_path / kind / "of"
        folder.mkdir(parents=True)
        fk.said("restore", str(written(folder, kind)), "--from", str(file))
        restored = connect(folder / kind, kind)
        assert restored.get_data("/large").data == LARGE
        assert len(restored.get_children("/small")) == 300
        assert restored.exists("/zookeeper/quota/small") is not None
        restored.set_data("/large", LARGE + b"2")
        restored.create("/small/more")
        restored.stop()
        again = folder / "again"
        fk.said("backup", str(folder / f"{kind}.json"), "--to", str(again))
        here, there = plain(of_backup(read(file))), plain(of_backup(read(again)))
        there.pop("/small/more")
        for path in ("/large", "/small", "/"):  # changed above, or a parent of sessions' doings
            here.pop(path)
            there.pop(path)
        assert here == there


def test_a_backup_of_a_service_in_use_is_as_of_one_transaction(
    tmp_path: Path, fk: Fk, connect: Callable[..., FaaSKeeperClient]
) -> None:
    """Another process writes all the time; it must not notice."""
    client = connect(tmp_path / "data")
    client.create("/a", b"0")
    stop = threading.Event()
    written: list[int] = []

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with client.transaction() as transaction:
                transaction.set_data("/a", b"%d" % number)
                transaction.create(f"/a/{number}", b"%d" % number)
            written.append(number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for turn in range(3):
            before = len(written)
            file = tmp_path / f"backup{turn}"
            assert "wrote" in errors(fk.run("backup", "--to", str(file)), 0)
            tree = of_backup(read(file))
            count = int(tree["/a"][1])
            assert count >= before
            assert {path for path in tree if path.startswith("/a/")} == {
                f"/a/{number}" for number in range(1, count + 1)
            }
            assert tree["/a"][0].version == count
    finally:
        stop.set()
        thread.join(PATIENCE_S)
    assert "is in use by process" in errors(
        fk.run("restore", "--from", str(tmp_path / "backup0"), "--yes"), 1
    )


def test_a_restore_that_is_killed_refuses_everything_until_it_is_repeated(tmp_path: Path, fk: Fk) -> None:
    file = tmp_path / "backup"
    lines = [f"create /n{number:05d} x" for number in range(400)]
    fk.said("shell", stdin="\n".join(lines).encode())
    fk.said("backup", "--to", str(file))
    fk.said("create", "/later")
    killed = subprocess.Popen(
        [*FK, "restore", "--from", str(file), "--yes"],
        stderr=subprocess.PIPE, env=fk.environment, cwd=ROOT, text=True,
    )  # fmt: skip
    assert killed.stderr is not None
    for line in killed.stderr:
        if line.startswith("restoring as of transaction"):
            os.kill(killed.pid, signal.SIGKILL)
            break
    killed.stderr.close()
    assert killed.wait(PATIENCE_S) == -signal.SIGKILL
    refused = errors(fk.run("ls", "/"), 1)
    assert refused.count("\n") == 1
    assert "is being restored from the backup" in refused
    assert "repeat 'fk restore'" in refused
    assert "is being restored" in errors(fk.run("backup", "--to", str(tmp_path / "no")), 1)
    assert not (tmp_path / "no").exists()
    assert "is not completed" in errors(fk.run("restore", "--from", str(file), "--dry-run"), 0)
    fk.said("restore", "--from", str(file), "--yes")
    assert "later" not in fk.said("ls", "/")
    assert fk.said("ls", "/").count("n0") == 400


def test_a_moment_comes_from_the_log_alone_or_with_an_earlier_backup(tmp_path: Path, fk: Fk) -> None:
    file = tmp_path / "backup"
    fk.said("create", "/a", "1")
    fk.said("backup", "--to", str(file))
    fk.said("set", "/a", "2")
    moment = datetime.now(UTC).isoformat()
    fk.said("set", "/a", "3")
    fk.said("create", "/later")
    for number, given in enumerate(([], ["--from", str(file)])):
        other = Fk(tmp_path / f"other{number}")
        config = tmp_path / "of.json"
        config.write_text(
            json.dumps(
                {
                    "cloud-provider": "local",
                    "deployment-name": "x",
                    "directory": fk.environment["FK_DIRECTORY"],
                }
            )
        )
        other.said("restore", *given, "--at", moment, "--of", str(config))
        assert other.said("get", "/a") == "2\n"
        assert other.run("get", "/later").returncode == 3
    at = tmp_path / "at"
    said = json.loads(fk.said("backup", "--at", moment, "--to", str(at), "--json"))
    assert said["digest"] == read(at).digest
    assert of_backup(read(at))["/a"][1] == b"2"
    fk.said("restore", "--at", moment, "--yes")
    assert fk.said("get", "/a") == "2\n"
    early = errors(fk.run("restore", "--from", str(at), "--at", "2020-01-01", "--yes"), 2)
    assert "give an earlier one" in early


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["backup"], 2, "Missing option"),
        (["backup", "--to", "OUT"], 1, "there is no embedded service in"),
        (["backup", "--to", "/nowhere/at/all"], 1, "/nowhere/at/all: No such file"),
        (["backup", "--to", "OUT", "--at", "yesterday"], 2, "is not a time"),
        (["backup", "--to", "OUT", "--at", "2999-01-01"], 2, "is in the future"),
        (["restore"], 2, "say what to restore"),
        (["restore", "--from", "OUT", "--of", "OUT"], 2, "--of requires --at"),
        (["restore", "--from", "/nowhere"], 1, "/nowhere: No such file"),
        (["restore", "--from", "setup.cfg"], 1, "this is not a backup of 'fk backup'"),
    ],
)
def test_a_mistake_gets_one_clear_line(
    tmp_path: Path, fk: Fk, arguments: list[str], code: int, said: str
) -> None:
    given = [str(tmp_path / "out") if each == "OUT" else each for each in arguments]
    refused = errors(fk.run(*given), code)
    assert said in refused
    assert "Traceback" not in refused
    assert not (tmp_path / "data" / "log.db").exists()


def test_a_provider_without_backups_says_what_works_there(tmp_path: Path, fk: Fk) -> None:
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"cloud-provider": "nobody", "deployment-name": "x"}))
    assert errors(fk.run("backup", str(config), "--to", str(tmp_path / "out")), 2)


def test_at_a_terminal_it_asks(tmp_path: Path, fk: Fk) -> None:
    file = tmp_path / "backup"
    fk.said("create", "/a", "1")
    fk.said("backup", "--to", str(file))
    fk.said("set", "/a", "2")
    terminal = Terminal([*FK, "restore", "--from", str(file)], fk.environment)
    terminal.wait_for("will be replaced. Restore the backup?")
    terminal.type("n\n")
    assert terminal.wait() == 1
    assert fk.said("get", "/a") == "2\n"
    terminal = Terminal([*FK, "restore", "--from", str(file)], fk.environment)
    terminal.wait_for("will be replaced. Restore the backup?")
    terminal.type("y\n")
    assert terminal.wait() == 0
    assert fk.said("get", "/a") == "1\n"
