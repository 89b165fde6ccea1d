"""The embedded service: who owns it, what it keeps, and what it says when its files are not right."""

from __future__ import annotations

import hashlib
import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from faaskeeper import clocks
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core import codec, trust
from faaskeeper.core.drivers.storage import Check
from faaskeeper.core.log import RETENTION_MS
from faaskeeper.core.records import Record
from faaskeeper.core.sweeping import DAY_MS
from faaskeeper.exceptions import NodeExistsException, ProviderException
from faaskeeper.providers.local.service import EmbeddedService, clock
from faaskeeper.testing.patience import PATIENCE_S

Start = Callable[..., FaaSKeeperClient]


def child(script: str, *arguments: str, **options: object) -> subprocess.Popen[str]:
    """A Python process of its own that runs a script."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        stdout=subprocess.PIPE,
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        **options,  # type: ignore[call-overload]
    )


def digests(directory: Path) -> dict[str, str]:
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in directory.iterdir()
        if path.suffix == ".db"
    }


def filled(config: Config, nodes: int = 50) -> Path:
    """A directory with a tree in it, whose service has stopped."""
    with FaaSKeeperClient(config) as client:
        for number in range(nodes):
            client.create(f"/n{number}", b"x" * 1000)
    return Path(config.directory)


def test_what_was_written_is_there_when_the_service_starts_again(config: Config) -> None:
    with FaaSKeeperClient(config) as client:
        client.create("/a", b"1")
        client.set_data("/a", b"2")
        node = client.create("/a/s-", b"", sequential=True)
        client.create("/e", b"", ephemeral=True)
        before = client.get_data("/a")
    with FaaSKeeperClient(config) as client:
        after = client.get_data("/a")
        assert (after.data, after.stat) == (before.data, before.stat)
        assert client.exists(node.path) is not None
        assert client.exists("/e") is None
        assert client.create("/a/s-", b"", sequential=True).path == "/a/s-0000000001"


def test_clients_of_one_process_share_the_service(connect: Start) -> None:
    one, two = connect(), connect()
    one.create("/a", b"1")
    assert two.get_data("/a").data == b"1"
    one.stop()
    assert two.set_data("/a", b"2").stat.version == 1


def test_a_second_process_is_told_who_restores_the_database_and_what_to_do(config: Config) -> None:
    service = EmbeddedService(config, Path(config.directory), beat=False, functions=False)
    script = """
        import sys
        from faaskeeper.client import FaaSKeeperClient
        from faaskeeper.config import Config
        from faaskeeper.exceptions import ProviderException
        try:
            FaaSKeeperClient(Config.local(sys.argv[1])).start()
        except ProviderException as error:
            print(error)
    """
    said, wrong = child(script, config.directory).communicate(timeout=PATIENCE_S)
    service.stop()
    assert f"in use by process {os.getpid()} (" in said, wrong
    assert "end that process" in said


def test_a_killed_owner_does_not_keep_the_database(config: Config) -> None:
    script = """
        import sys, time
        from faaskeeper.client import FaaSKeeperClient
        from faaskeeper.config import Config
        FaaSKeeperClient(Config.local(sys.argv[1])).start()
        print("up", flush=True)
        sys.stdin.read()
    """
    owner = child(script, config.directory)
    assert owner.stdout is not None
    assert owner.stdout.readline() == "up\n"
    owner.kill()
    owner.communicate()
    with FaaSKeeperClient(config) as client:
        client.create("/a")


def test_a_file_that_is_no_database_is_named_and_left_alone(config: Config) -> None:
    directory = Path(config.directory)
    directory.mkdir()
    (directory / "log.db").write_text("This is somebody's letter, not a database." * 10)
    before = digests(directory)
    with pytest.raises(ProviderException, match=r"log\.db is not a database"):
        FaaSKeeperClient(config).start()
    assert digests(directory) == before


def test_another_program_s_database_is_named_and_left_alone(config: Config) -> None:
    directory = Path(config.directory)
    directory.mkdir()
    other = sqlite3.connect(directory / "log.db")
    other.execute("CREATE TABLE log (key INTEGER PRIMARY KEY, stamp, body, data)")
    other.commit()
    other.close()
    before = digests(directory)
    with pytest.raises(ProviderException, match=r"log\.db is a database of another program"):
        FaaSKeeperClient(config).start()
    assert digests(directory) == before
    assert sorted(path.name for path in directory.iterdir()) == ["log.db", "owner.lock"]


def test_another_layout_of_ours_is_named_and_left_alone(config: Config) -> None:
    directory = filled(config)
    with sqlite3.connect(directory / "log.db") as database:
        database.execute("PRAGMA user_version=99")
    database.close()
    before = digests(directory)
    with pytest.raises(ProviderException, match="another version of FaaSKeeper"):
        FaaSKeeperClient(config).start()
    assert digests(directory) == before


@pytest.mark.parametrize("name", ["log.db", "state.db"])
@pytest.mark.parametrize("how", ["cut short", "scribbled over", "emptied"])
def test_a_damaged_database_is_named_and_left_alone(config: Config, name: str, how: str) -> None:
    directory = filled(config)
    path = directory / name
    whole = path.read_bytes()
    if how == "cut short":
        path.write_bytes(whole[: len(whole) // 2 + 100])
    elif how == "emptied":
        path.write_bytes(b"\0" * 50)
    else:
        path.write_bytes(whole[:4096] + os.urandom(len(whole) - 4096))
    before = digests(directory)
    with pytest.raises(ProviderException, match=rf"{name} is (damaged|not a database)"):
        FaaSKeeperClient(config).start()
    assert digests(directory) == before


def test_a_directory_that_may_not_be_written_to_is_an_error_that_says_so(tmp_path: Path) -> None:
    directory = tmp_path / "service"
    filled(Config.local(directory))
    before = digests(directory)
    for path in (directory, *directory.iterdir()):
        path.chmod(0o555 if path.is_dir() else 0o444)
    tmp_path.chmod(0o755)
    for above in tmp_path.parents:
        if above.stat().st_uid == os.getuid() and above != above.parent:
            above.chmod(above.stat().st_mode | 0o055)
    script = """
        import os, sys
        # Before the rights to read the installation are given up:
        import faaskeeper.client.session, faaskeeper.providers.local.service
        from faaskeeper.client import FaaSKeeperClient
        from faaskeeper.config import Config
        from faaskeeper.exceptions import ProviderException
        if os.getuid() == 0:
            os.setgid(65534)
            os.setuid(65534)
        try:
            FaaSKeeperClient(Config.local(sys.argv[1])).start()
        except ProviderException as error:
            print(error)
    """
    said, wrong = child(script, str(directory)).communicate(timeout=PATIENCE_S)
    assert f"cannot use the directory {directory}: Permission denied" in said, wrong
    assert digests(directory) == before


FULL = """
    import os, signal, sys, resource
    from faaskeeper.client import FaaSKeeperClient
    from faaskeeper.config import Config
    from faaskeeper.exceptions import FaaSKeeperException
    client = FaaSKeeperClient(Config.local(sys.argv[1]))
    client.start()
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    number = 0
    try:
        while True:
            client.create(f"/n{number}", b"x" * 100_000)
            print(number, flush=True)
            number += 1
    except FaaSKeeperException as error:
        print("error", error, flush=True)
    os._exit(0)
"""


def test_when_no_more_can_be_written_the_error_says_so_and_what_was_acknowledged_is_kept(
    config: Config,
) -> None:
    """The limit on a file's size stands in for a full disk: writes fail in the same places."""
    limit = 3_000_000

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    process = child(FULL, config.directory, preexec_fn=limited)
    said, wrong = process.communicate(timeout=PATIENCE_S)
    lines = said.splitlines()
    acknowledged = [int(line) for line in lines if line.isdigit()]
    assert acknowledged, wrong
    error = next(line for line in lines if line.startswith("error"))
    assert "log.db" in error or "state.db" in error
    assert "check the disk" in error or "free some space" in error
    assert process.returncode == 0
    with FaaSKeeperClient(config) as client:
        for number in acknowledged:
            assert len(client.get_data(f"/n{number}").data) == 100_000


def test_a_layout_of_storage_is_chosen_once(config: Config) -> None:
    directory = filled(config, 1)
    other = {
        "cloud-provider": "local",
        "deployment-name": "x",
        "directory": str(directory),
        "user-storage": "hybrid",
    }
    with pytest.raises(ProviderException, match="was set up with user-storage 'key-value'"):
        FaaSKeeperClient(Config.deserialize(other)).start()


@pytest.mark.parametrize("storage", ["key-value", "hybrid", "persistent"])
def test_data_of_every_size_is_kept_on_every_storage(tmp_path: Path, storage: str) -> None:
    config = Config.deserialize(
        {
            "cloud-provider": "local",
            "deployment-name": "x",
            "directory": str(tmp_path),
            "user-storage": storage,
        }
    )
    sizes = [0, 1, 65_536, 65_537, 1_048_576]
    with FaaSKeeperClient(config) as client:
        for size in sizes:
            client.create(f"/n{size}", os.urandom(size) if size else b"")
            client.create(f"/n{size}/child")
        contents = {size: client.get_data(f"/n{size}").data for size in sizes}
        client.set_data("/n0", contents[1_048_576])
    with FaaSKeeperClient(config) as client:
        for size in sizes[1:]:
            assert client.get_data(f"/n{size}").data == contents[size]
        assert client.get_data("/n0").data == contents[1_048_576]
        assert client.exists("/n0/child") is not None


LOAD = """
    import sys
    from faaskeeper.client import FaaSKeeperClient
    from faaskeeper.config import Config
    config = Config.deserialize(
        {"cloud-provider": "local", "deployment-name": "x", "directory": sys.argv[1], **eval(sys.argv[2])})
    client = FaaSKeeperClient(config)
    client.start()
    turn = sys.argv[3]
    client.create(f"/turn{turn}", b"")
    client.create(f"/turn{turn}/e", b"", ephemeral=True)
    print("ready", flush=True)
    number = 0
    waiting = []
    while True:
        transaction = client.transaction()
        if number % 5 == 4:
            path = f"/turn{turn}/t{number}"
            transaction.create(path + "-left", b"%d" % number).create(path + "-right", b"%d" % number)
            transaction.commit()
            print("multi", number, flush=True)
        else:
            waiting.append((number, client.create_async(f"/turn{turn}/n{number}", b"%d" % number)))
            client.set_data_async("/counter", b"%s:%d" % (turn.encode(), number))
            while len(waiting) > 8:
                done, future = waiting.pop(0)
                future.get()
                print("create", done, flush=True)
        number += 1
"""


@pytest.mark.parametrize(
    "options",
    [{}, {"distributor-queue": "local", "user-storage": "persistent"}],
    ids=["default", "own distributor, persistent"],
)
def test_a_process_killed_in_the_middle_of_a_load_loses_nothing_it_acknowledged(
    tmp_path: Path, options: dict[str, str]
) -> None:
    directory = tmp_path / "service"
    config = Config.deserialize(
        {"cloud-provider": "local", "deployment-name": "x", "directory": str(directory), **options}
    )
    with FaaSKeeperClient(config) as client:
        client.create("/counter")
    acknowledged: dict[int, list[tuple[str, int]]] = {}
    turns = 20 if not options else 6
    for turn in range(turns):
        process = child(LOAD, str(directory), repr(options), str(turn))
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        assert lines[0] == "ready\n", process.communicate()[1]
        wanted = 1 + (turn * 37) % 90  # killed at ever other moments of a batch
        while len(lines) < wanted:
            lines.append(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.read().splitlines(keepends=True)
        process.communicate()
        # A last line that the kill cut short was not said.
        said = [line.split() for line in lines[1:] if line.endswith("\n")]
        acknowledged[turn] = [(kind, int(number)) for kind, number in said]
    with FaaSKeeperClient(config) as client:
        for turn, writes in acknowledged.items():
            names = {node.path.rsplit("/", 1)[1] for node in client.get_children(f"/turn{turn}")}
            for kind, number in writes:
                if kind == "create":
                    assert client.get_data(f"/turn{turn}/n{number}").data == b"%d" % number
                else:
                    assert {f"t{number}-left", f"t{number}-right"} <= names
            halves = {name.split("-")[0] for name in names if name.startswith("t")}
            assert all({f"{half}-left", f"{half}-right"} <= names for half in halves)
            created = sorted(int(name[1:]) for name in names if name.startswith("n"))
            expected = [n for n in range(max(created, default=-1) + 1) if n % 5 != 4]
            assert created == expected  # in the order sent, without a hole
            with pytest.raises(NodeExistsException):
                client.create(f"/turn{turn}")
    assert sum(len(writes) for writes in acknowledged.values()) > turns


def test_ephemerals_of_a_killed_process_go_with_its_session(config: Config) -> None:
    script = """
        import os, sys
        from faaskeeper.client import FaaSKeeperClient
        from faaskeeper.config import Config
        client = FaaSKeeperClient(Config.local(sys.argv[1]), session_timeout=4)
        client.start()
        client.create("/e", b"", ephemeral=True)
        os.kill(os.getpid(), 9)
    """
    child(script, config.directory).communicate(timeout=PATIENCE_S)
    fast = Config.deserialize(
        {
            "cloud-provider": "local",
            "deployment-name": "x",
            "directory": config.directory,
            "heartbeat-frequency": 1,
        }
    )
    with FaaSKeeperClient(fast) as client:
        gone = threading.Event()
        if client.exists("/e", lambda event: gone.set()) is not None:
            assert gone.wait(PATIENCE_S)
        assert client.exists("/e") is None


def test_the_tables_can_be_read_with_sqlite_s_own_shell(config: Config) -> None:
    directory = filled(config, 1)
    database = sqlite3.connect(directory / "state.db")
    row = database.execute("SELECT stamp, body, data FROM records WHERE partition='/n0'").fetchone()
    assert row[0] == 2
    assert json.loads(row[1])["upto"] == 2
    assert row[2] == b"x" * 1000
    database.close()


def test_a_service_that_runs_for_a_moment_each_day_keeps_its_directory_small(tmp_path: Path) -> None:
    config = Config.deserialize(
        {
            "cloud-provider": "local",
            "deployment-name": "x",
            "directory": str(tmp_path),
            "user-storage": "persistent",
        }
    )
    now = clock()
    for day in range(25):
        now += DAY_MS
        service = EmbeddedService(config, tmp_path, clock=lambda now=now: now, steady=lambda now=now: now)  # type: ignore[misc]
        client = FaaSKeeperClient(
            config, connect=lambda config, port, service=service: service.connection(port, lambda: None)
        )
        with client:
            client.delete(client.create(f"/day-{day}").path)
        service.stop()
    database = sqlite3.connect(tmp_path / "log.db")
    ((entries, oldest),) = database.execute("SELECT COUNT(*), MIN(key) FROM log")
    ((times,),) = database.execute("SELECT MIN(json_extract(body, '$.time')) FROM log")
    database.close()
    assert entries <= 4 * 11
    assert oldest > 4 * 12
    assert now - times >= RETENTION_MS
    left = [path.name for path in (tmp_path / "objects").iterdir() if "day-" in path.name]
    assert len(left) <= 5  # tombstones of the last days


class Time:
    """Time that passes when somebody waits, and says that a service stops when it is over.

    ``more``: how much longer a wait takes at a time: the process stands still then.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch, until: float, more: dict[int, float]) -> None:
        self.now = 0.0
        self._until = until
        self._more = more
        monkeypatch.setattr(clocks, "elapsed_s", lambda: self.now)

    def wait(self, seconds: float) -> bool:
        self.now += seconds + self._more.pop(int(self.now), 0)
        return self.now > self._until


def test_a_heartbeat_is_put_off_whenever_the_process_stood_still_before_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    every = 60
    data = {"cloud-provider": "local", "deployment-name": "x", "heartbeat-frequency": every}
    service = EmbeddedService(Config.deserialize(data), tmp_path, beat=False)
    stop = service._stop
    beats: list[float] = []
    stood = {every - 13: 12.0, 2 * every + 30: 3.0, 3 * every + 20: 1000.0}
    try:
        time = Time(monkeypatch, 3 * every + 1100, dict(stood))
        monkeypatch.setattr(service.heartbeat, "beat", lambda: beats.append(time.now))
        service._stop = time  # type: ignore[assignment]
        service._beat()
    finally:
        service._stop = stop
        service.stop()
    for at, long in stood.items():
        assert not [beat for beat in beats if at < beat < at + long + 8], beats
    assert len(beats) >= 3


def test_whatever_fails_in_a_beat_heartbeat_goes_on(
    config: Config, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = EmbeddedService(config, Path(config.directory), beat=False)
    beats: list[int] = []

    def fail(*arguments: object) -> bool:
        beats.append(1)
        raise ValueError("something odd")

    stop = service._stop
    for act, name in ((service._beat, "beat"), (service._tend, "due")):
        beats.clear()
        setattr(service.heartbeat, name, fail)
        service._stop = Time(monkeypatch, 200, {})  # type: ignore[assignment]
        act()
        assert len(beats) >= 3
    assert "something odd" in caplog.text
    service._stop = stop
    service.stop()


def test_a_write_within_the_process_is_neither_signed_nor_decoded(
    connect: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    calls: list[str] = []

    def counted(module: object, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: calls.append(name) or function(*args))

    for name in ("sign", "verify"):
        counted(trust, name)
    for name in ("message", "to_message", "reply", "to_delivery"):
        counted(codec, name)
    client.create("/a", b"1")
    client.set_data_async("/a", b"2").get()
    client.delete("/a")
    assert calls == []


def test_a_client_is_told_of_its_write_when_it_can_be_read(
    config: Config, connect: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    client.create("/a")
    session = client._session
    assert session is not None
    records = session.connection.records
    put, done = records.put, []

    def putting(path: str, record: Record, *check: Check) -> bool:
        done.append(writing.done())
        return put(path, record, *check)

    monkeypatch.setattr(records, "put", putting)
    with session.connection.worker_queue._running:  # type: ignore[attr-defined]  # the writer, which is held
        writing = client.set_data_async("/a", b"1")
    session.connection.worker_queue._signal.release()  # type: ignore[attr-defined]
    writing.get()
    assert done == [False]


def test_a_directory_may_have_a_name_that_means_something_in_an_address(tmp_path: Path) -> None:
    directory = tmp_path / "50% of #1?mode=memory"
    filled(Config.local(directory), 1)
    with FaaSKeeperClient(Config.local(directory)) as client:
        assert len(client.get_data("/n0").data) == 1000
    assert {path.name for path in tmp_path.iterdir()} == {directory.name}


def test_clients_share_the_service_of_a_directory_however_its_path_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    with FaaSKeeperClient(Config.local(tmp_path / "d")) as first:
        first.create("/a", b"shared")
        for spelling in ("d", "./d/", f"{tmp_path}//d", "~/d"):
            with FaaSKeeperClient(Config.local(spelling)) as second:
                assert second.get_data("/a").data == b"shared"


def test_a_directory_of_a_home_that_is_not_known_is_refused() -> None:
    with pytest.raises(ProviderException, match="give a directory without ~"):
        FaaSKeeperClient(Config.local("~nobody-has-this-name/d")).start()
