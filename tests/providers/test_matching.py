"""Files of a directory that do not belong together, or lost their end, are refused; the others open whole."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.errors import Denied
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.testing.patience import PATIENCE_S

STORAGES = ["key-value", "hybrid", "persistent"]
LARGE = b"x" * 70_000  # above the inline limit of the hybrid storage

KILLED = """
    import os, sys, threading
    from faaskeeper.client import FaaSKeeperClient
    from faaskeeper.config import Config
    from faaskeeper.providers.local.services import services
    config = Config.deserialize({"cloud-provider": "local", "deployment-name": "x",
                                 "directory": sys.argv[1], "user-storage": sys.argv[2]})
    client = FaaSKeeperClient(config)
    client.start()
    service = services.owned(sys.argv[1])
    for number in range(5):
        client.create(f"/early{number}", b"0")
    service._queues[0]._handle.__self__.idle()        # mark and checkpoint are saved, and never after
    service._queues[0]._idle = lambda: None
    for number in range(int(sys.argv[3])):
        client.set_data("/early0", b"%d" % number)
        client.create(f"/late{number}", b"%d" % number)
    print("acknowledged", flush=True)
    os._exit(9)
"""


def configured(directory: Path, storage: str = "key-value") -> Config:
    return Config.deserialize(
        {
            "cloud-provider": "local",
            "deployment-name": "x",
            "directory": str(directory),
            "user-storage": storage,
        }
    )


def killed(directory: Path, storage: str = "key-value", writes: int = 10) -> None:
    """A process is killed when its last write is acknowledged, before mark and checkpoint are saved."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(KILLED), str(directory), storage, str(writes)],
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert done.stdout == "acknowledged\n", done.stderr


def written(config: Config, *names: str, data: bytes = b"1") -> None:
    with FaaSKeeperClient(config) as client:
        for name in names:
            client.create(f"/{name}", data)


def contents(directory: Path) -> dict[str, str]:
    """Every file below the directory but the owner's, by a digest of its contents."""
    return {
        str(path.relative_to(directory)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "owner.lock" and not path.name.endswith("-shm")
    }


def refused(config: Config, why: str) -> None:
    """Opening raises an error that says why and what to restore, and changes no byte of the files."""
    directory = Path(config.directory)
    before = contents(directory)
    for _ in range(2):
        with pytest.raises(ProviderException, match=why) as raised:
            FaaSKeeperClient(config).start()
        assert "nothing was changed. Restore the whole directory from one backup" in str(raised.value)
        assert contents(directory) == before


def sql(file: Path, *statements: str) -> list[tuple[object, ...]]:
    database = sqlite3.connect(file, isolation_level=None)
    rows: list[tuple[object, ...]] = []
    for statement in statements:
        rows = database.execute(statement).fetchall()
    database.close()
    return rows


def trim(directory: Path) -> None:
    """What heartbeat does after the retention."""
    sql(directory / "log.db", "DELETE FROM log WHERE key < (SELECT MAX(key) FROM log)")


def lose(directory: Path, *names: str) -> None:
    for name in names:
        for path in directory.glob(f"{name}*"):
            path.unlink()


# ---- what is refused -----------------------------------------------------------------------------


@pytest.mark.parametrize("storage", ["key-value", "persistent"])
def test_a_log_that_lost_its_end_to_damage_is_refused(tmp_path: Path, storage: str) -> None:
    config = configured(tmp_path / "d", storage)
    killed(tmp_path / "d", storage)
    logged = tmp_path / "d" / "log.db-wal"
    frames = (logged.stat().st_size - 32) // (24 + 4096)
    with open(logged, "r+b") as file:
        file.seek(32 + (frames - 8) * (24 + 4096) + 2_000)
        byte = file.read(1)
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte[0] ^ 1]))
    refused(
        config, r"log\.db in .* ends at transaction \d+, but (state\.db holds|it had) transactions up to \d+"
    )


def test_a_log_that_lost_its_end_is_refused_although_no_state_is_left_to_show_it(tmp_path: Path) -> None:
    config = configured(tmp_path / "d")
    written(config, "a")
    shutil.copy(tmp_path / "d" / "log.db", tmp_path / "older")
    written(config, "b")
    lose(tmp_path / "d", "state.db")
    lose(tmp_path / "d", "log.db")
    shutil.copy(tmp_path / "older", tmp_path / "d" / "log.db")
    refused(config, r"log\.db in .* ends at transaction 3, but it had transactions up to \d+")


@pytest.mark.parametrize("noted", [b"0", b"x" * 16, b"0" * 15 + b"-"])
def test_a_note_of_the_log_s_end_that_is_damaged_is_refused(tmp_path: Path, noted: bytes) -> None:
    config = configured(tmp_path / "d")
    written(config, "a")
    (tmp_path / "d" / "log.end").write_bytes(noted)
    refused(config, r"log\.end is damaged")


def test_a_log_without_a_note_of_its_end_opens_and_gets_one(tmp_path: Path) -> None:
    config = configured(tmp_path / "d")
    written(config, "a")
    end = (tmp_path / "d" / "log.end").read_bytes()
    for noted in (None, b""):
        (tmp_path / "d" / "log.end").unlink()
        if noted is not None:
            (tmp_path / "d" / "log.end").write_bytes(noted)
        written(config, f"b{noted!r}")
        assert (tmp_path / "d" / "log.end").read_bytes() > end


@pytest.mark.parametrize("storage", STORAGES)
def test_a_log_that_is_missing_beside_its_state_is_refused(tmp_path: Path, storage: str) -> None:
    config = configured(tmp_path / "d", storage)
    written(config, "a", data=LARGE)
    lose(tmp_path / "d", "log.db")
    refused(config, r"log\.db is missing in .*, but state\.db holds transactions up to 3")


@pytest.mark.parametrize("emptied", [False, True])
def test_a_write_ahead_log_without_its_log_is_refused(tmp_path: Path, emptied: bool) -> None:
    config = configured(tmp_path / "d")
    killed(tmp_path / "d")
    lose(tmp_path / "d", "state.db")
    (tmp_path / "d" / "log.db").unlink()
    if emptied:
        (tmp_path / "d" / "log.db").touch()
    refused(config, r"log\.db-wal exists, but its database log\.db is missing")


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("idle", [True, False], ids=["stopped", "killed"])
def test_an_older_log_beside_a_newer_state_is_refused(tmp_path: Path, storage: str, idle: bool) -> None:
    config = configured(tmp_path / "d", storage)
    written(config, "a")
    shutil.copy(tmp_path / "d" / "log.db", tmp_path / "older")
    if idle:
        written(config, "b")
    else:
        killed(tmp_path / "d", storage, 1)
    lose(tmp_path / "d", "log.db")
    shutil.copy(tmp_path / "older", tmp_path / "d" / "log.db")
    refused(
        config, r"log\.db in .* ends at transaction 3, but (state\.db holds|it had) transactions up to \d+"
    )


@pytest.mark.parametrize("missing", [True, False])
def test_a_state_that_ends_before_a_trimmed_log_begins_is_refused(tmp_path: Path, missing: bool) -> None:
    config = configured(tmp_path / "d")
    written(config, "a")
    shutil.copy(tmp_path / "d" / "state.db", tmp_path / "older")
    written(config, "b", "c")
    trim(tmp_path / "d")
    lose(tmp_path / "d", "state.db")
    if not missing:
        shutil.copy(tmp_path / "older", tmp_path / "d" / "state.db")
    why = "is missing" if missing else "is complete only up to transaction 3"
    refused(config, rf"state\.db {why} in .*, but log\.db starts at transaction \d+")


@pytest.mark.parametrize("name", ["log.db", "state.db"])
def test_files_of_different_directories_are_refused(tmp_path: Path, name: str) -> None:
    config = configured(tmp_path / "d")
    written(config, "a")
    written(configured(tmp_path / "other"), "b", "c")
    shutil.copy(tmp_path / "other" / name, tmp_path / "d" / name)
    refused(config, r"log\.db and state\.db in .* belong to different directories")


def test_files_of_copies_that_went_different_ways_are_refused(tmp_path: Path) -> None:
    config = configured(tmp_path / "d")
    written(config, "a")
    shutil.copytree(tmp_path / "d", tmp_path / "copy")
    written(config, "b")
    written(configured(tmp_path / "copy"), "c", "d")
    shutil.copy(tmp_path / "copy" / "log.db", tmp_path / "d" / "log.db")
    refused(config, r"belong to two copies that diverged")


@pytest.mark.parametrize("storage", ["hybrid", "persistent"])
@pytest.mark.parametrize("another", [False, True])
def test_objects_that_are_gone_or_another_s_are_refused(tmp_path: Path, storage: str, another: bool) -> None:
    config = configured(tmp_path / "d", storage)
    written(config, "a", data=LARGE)
    shutil.rmtree(tmp_path / "d" / "objects")
    if another:
        written(configured(tmp_path / "other", storage), "a", data=LARGE)
        shutil.copytree(tmp_path / "other" / "objects", tmp_path / "d" / "objects")
    refused(
        config,
        "the folder objects in .* belongs to another" if another else "the folder objects is missing in",
    )


def test_a_name_that_no_directory_can_have_is_one_clear_error() -> None:
    with pytest.raises(Denied, match="is not a valid directory name"):
        EmbeddedService(configured(Path("/tmp/a")), Path("/tmp/a\0b"))
    with pytest.raises(ProviderException, match="give a directory without ~"):
        FaaSKeeperClient(configured(Path("~nobody-of-this-name/x"))).start()


# ---- what opens ----------------------------------------------------------------------------------


def whole(config: Config, writes: int) -> None:
    """Everything that :func:`killed` was acknowledged is there."""
    with FaaSKeeperClient(config) as client:
        assert client.get_data("/early0").data == b"%d" % (writes - 1)
        names = {node.path for node in client.get_children("/")}
        assert names >= {f"/late{number}" for number in range(writes)}
        for number in range(writes):
            assert client.get_data(f"/late{number}").data == b"%d" % number
        before = client.get_data("/early0").stat
        assert client.set_data("/early0", b"again").stat.version == before.version + 1
        client.set_data("/early0", b"%d" % (writes - 1))


@pytest.mark.parametrize("storage", STORAGES)
def test_a_state_that_is_lost_is_made_again_from_an_untrimmed_log(tmp_path: Path, storage: str) -> None:
    killed(tmp_path / "d", storage)
    lose(tmp_path / "d", "state.db")
    whole(configured(tmp_path / "d", storage), 10)
    whole(configured(tmp_path / "d", storage), 10)


def test_whatever_end_of_the_state_s_commits_a_power_cut_takes_it_opens_and_is_whole(tmp_path: Path) -> None:
    killed(tmp_path / "d", writes=6)
    logged = tmp_path / "d" / "state.db-wal"
    size = logged.stat().st_size
    for left in [0, 20, *range(32, size, (size - 32) // 12)]:
        shutil.copytree(tmp_path / "d", tmp_path / "cut", ignore=shutil.ignore_patterns("*.sock"))
        os.truncate(tmp_path / "cut" / "state.db-wal", left)
        whole(configured(tmp_path / "cut"), 6)
        shutil.rmtree(tmp_path / "cut")


@pytest.mark.parametrize("trimmed", ["no entry", "most", "all"])
def test_a_directory_of_an_earlier_version_opens_and_is_checked_from_then_on(
    tmp_path: Path, trimmed: str
) -> None:
    config = configured(tmp_path / "d")
    written(config, "a", "b")
    sql(
        tmp_path / "d" / "state.db",
        "DROP TRIGGER high_water_INSERT",
        "DROP TRIGGER high_water_UPDATE",
        "DROP TABLE high_water",
        "DROP TABLE deployment",
    )
    sql(tmp_path / "d" / "log.db", "DELETE FROM deployment WHERE key <> 'settings'")
    if trimmed == "most":
        trim(tmp_path / "d")
    elif trimmed == "all":
        sql(tmp_path / "d" / "log.db", "DELETE FROM log")
    (tmp_path / "d" / "log.end").unlink()
    shutil.copy(tmp_path / "d" / "log.db", tmp_path / "older")
    with FaaSKeeperClient(config) as client:
        assert {node.path for node in client.get_children("/")} == {"/a", "/b", "/zookeeper"}
    if trimmed == "all":
        with FaaSKeeperClient(config):  # nothing was written in between
            pass
    assert sql(tmp_path / "d" / "state.db", "SELECT stamp FROM high_water")[0][0] == 3
    written(config, "c")
    shutil.copy(tmp_path / "older", tmp_path / "d" / "log.db")
    refused(config, r"log\.db")


def test_the_high_water_is_in_the_transaction_of_the_record(tmp_path: Path) -> None:
    killed(tmp_path / "d", writes=3)
    for left in range(1, 40):
        shutil.copytree(tmp_path / "d", tmp_path / "cut", ignore=shutil.ignore_patterns("*.sock"))
        os.truncate(tmp_path / "cut" / "state.db-wal", 32 + left * (24 + 4096))
        (tmp_path / "cut" / "state.db-shm").unlink()
        state = tmp_path / "cut" / "state.db"
        assert sql(state, "SELECT stamp FROM high_water") == sql(
            state, "SELECT COALESCE(MAX(stamp), 0) FROM records"
        )
        shutil.rmtree(tmp_path / "cut")


# ---- the first opening ---------------------------------------------------------------------------

FIRST = """
    import os, resource, shutil, signal, sqlite3, sys
    from pathlib import Path
    import faaskeeper.providers.local.service
    from faaskeeper.client import FaaSKeeperClient
    from faaskeeper.config import Config
    from faaskeeper.exceptions import FaaSKeeperException

    directory, storage = Path(sys.argv[1]), sys.argv[2]
    config = Config.deserialize({"cloud-provider": "local", "deployment-name": "x",
                                 "directory": str(directory), "user-storage": storage})
    left = [-1]

    def step():
        left[0] -= 1
        if not left[0]:
            os._exit(9)

    def counted(function):
        def call(*arguments, **options):
            step()
            return function(*arguments, **options)
        return call

    class Connection(sqlite3.Connection):
        def execute(self, *arguments):
            step()
            return super().execute(*arguments)

    def forked(function):
        pid = os.fork()
        if not pid:
            try:
                os._exit(function())
            except BaseException as error:
                print(repr(error), flush=True)
                os._exit(1)
        status = os.waitpid(pid, 0)[1]
        return os.waitstatus_to_exitcode(status)

    def first():
        connect = sqlite3.connect
        sqlite3.connect = counted(lambda *a, **o: connect(*a, factory=Connection, **o))
        for name in ("replace", "fsync", "open", "unlink", "mkdir"):
            setattr(os, name, counted(getattr(os, name)))
        FaaSKeeperClient(config).start()
        return 0

    def limited(signalled):
        def run():
            resource.setrlimit(resource.RLIMIT_FSIZE, (left[0], left[0]))
            if not signalled:
                signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            try:
                FaaSKeeperClient(config).start()
            except FaaSKeeperException:
                return 2
            return 0
        return run

    def again():
        with FaaSKeeperClient(config) as client:
            assert [node.path for node in client.get_children("/")] == ["/zookeeper"]
            for path in ("/zookeeper/quota", "/zookeeper/config"):
                assert client.exists(path), path
            client.create("/a", b"1")
        assert not list(directory.glob("*.new*"))
        return 0

    def tried(what, which, count):
        shutil.rmtree(directory, ignore_errors=True)
        left[0] = which
        ended = forked(what)
        left[0] = -1
        if forked(again):
            print("failed after", count, which, sorted(each.name for each in directory.iterdir()), flush=True)
        return ended

    number = 1
    while tried(first, number, "step") == 9:
        number += int(sys.argv[3])
    print(number, "steps", flush=True)
    for limit in range(0, 60_000, 9_800):
        tried(limited(True), limit, "killed at size")
        tried(limited(False), limit, "full at size")
    print("done", flush=True)
"""


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """A directory in memory, if there can be one: a kill takes nothing that was written, synced or not."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else tmp_path) as made:
        yield Path(made)


@pytest.mark.parametrize(("storage", "stride"), [("key-value", "1"), ("persistent", "6")])
def test_a_first_opening_cut_short_anywhere_is_done_again_by_the_next(
    memory: Path, storage: str, stride: str
) -> None:
    """Killed at each statement and call, by a signal in the middle of a write, and stopped by a full disk."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(FIRST), str(memory / "d"), storage, stride],
        capture_output=True,
        text=True,
        timeout=300,
    )
    lines = done.stdout.splitlines()
    assert lines[-1:] == ["done"], done.stdout + done.stderr
    assert len(lines) == 2, done.stdout
    assert int(lines[0].split()[0]) > 60
