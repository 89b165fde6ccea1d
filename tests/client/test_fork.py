"""Forked processes: what they inherit is the parent's alone, and they may have their own."""

from __future__ import annotations

import json
import multiprocessing
import os
import select
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.config import Config
from faaskeeper.core.errors import DriverError
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.providers.inprocess import LocalQueue, PromptQueue
from faaskeeper.providers.local.database import Database, InUse, Owner
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.recipes import Counter, DataWatch, Lock, Queue
from faaskeeper.testing.patience import PATIENCE_S

pytestmark = pytest.mark.threads

Start = Callable[..., FaaSKeeperClient]


def embedded(directory: Path, **more: str) -> Config:
    data = {"cloud-provider": "local", "deployment-name": "test", "directory": str(directory)}
    return Config.deserialize({**data, **more})


def in_child(act: Callable[[], Any]) -> Any:
    """What a forked child makes of it; it ends without Python's own end."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.write(writing, json.dumps(act()).encode())
        except BaseException as error:
            os.write(writing, json.dumps(f"failed: {error!r}").encode())
        finally:
            os._exit(0)
    os.close(writing)
    try:
        ready, _, _ = select.select([reading], [], [], PATIENCE_S)
        if not ready:
            os.kill(child, signal.SIGKILL)
        assert ready, "the child hangs"
        return json.loads(os.read(reading, 1 << 20))
    finally:
        os.close(reading)
        os.waitpid(child, 0)


def error_of(act: Callable[[], object]) -> str:
    try:
        act()
    except FaaSKeeperException as error:
        return f"{type(error).__name__}: {error}"
    return "nothing"


def calls_of(client: FaaSKeeperClient) -> dict[str, Callable[[], object]]:
    lock = Lock(client, "/lock")
    return {
        "create": lambda: client.create("/n"),
        "create a large one": lambda: client.create("/n", b"x" * 500_000),
        "create_async": lambda: client.create_async("/n"),
        "get_data": lambda: client.get_data("/"),
        "get_data_async": lambda: client.get_data_async("/"),
        "watch": lambda: client.get_data("/", print),
        "exists": lambda: client.exists("/"),
        "get_children": lambda: client.get_children("/", True),
        "set_data": lambda: client.set_data("/", b""),
        "delete": lambda: client.delete("/n"),
        "sync": client.sync,
        "transaction": lambda: client.transaction().commit(),
        "multi_read": lambda: client.read_together([("data", "/")]),
        "add_watch": lambda: client.add_watch("/", print),
        "remove_watches": lambda: client.remove_watches("/"),
        "check_watches": lambda: client.check_watches("/"),
        "set_acls": lambda: client.set_acls("/", []),
        "get_acls": lambda: client.get_acls("/"),
        "get_ephemerals": client.get_ephemerals,
        "who_am_i": client.who_am_i,
        "ticket": lambda: client.ticket,
        "lock": lock.acquire,
        "counter": lambda: Counter(client, "/counter").value,
        "queue": lambda: Queue(client, "/queue").put(b""),
        "data watch": lambda: DataWatch(client, "/", print),
    }


@pytest.mark.parametrize("storage", ["key-value", "hybrid"])
def test_every_call_of_an_inherited_client_names_the_process_that_opened_it(
    tmp_path: Path, storage: str
) -> None:
    config = embedded(tmp_path / "service", **{"user-storage": storage})
    with FaaSKeeperClient(config) as client:
        seen = in_child(lambda: {name: error_of(call) for name, call in calls_of(client).items()})
        assert set(seen) == set(calls_of(client))
        for error in seen.values():
            assert error.startswith(f"ForkedException: this was opened by process {os.getpid()}, of which ")
            assert "open another in this process" in error
        assert client.exists("/n") is None
        assert client.create("/n").path == "/n"


def test_an_inherited_client_is_stopped_at_once_and_its_parent_s_goes_on(client: FaaSKeeperClient) -> None:
    states: list[SessionState] = []
    client.add_listener(states.append)
    client.create("/e", ephemeral=True)

    def act() -> list[str]:
        return [client.stop(), client.session_status, str(client.session_id), client.stop()]

    assert in_child(act) == ["closed", "DISCONNECTED", "None", "closed"]
    assert client.exists("/e") is not None
    assert client.state is SessionState.CONNECTED
    assert states == []


def test_what_was_asked_for_before_the_fork_is_given_up_in_the_child_alone(client: FaaSKeeperClient) -> None:
    session = client._session
    assert session is not None
    called: list[object] = []
    with session.connection.within._queue._running:  # type: ignore[union-attr]  # the service is busy
        writing = client.create_async("/n", b"1")
        reading = client.get_data_async("/n")
        writing.add_callback(called.append)
        errors = in_child(lambda: [error_of(writing.get), error_of(reading.get), len(called)])
        assert errors[0].startswith("ForkedException: create /n: this was opened by process")
        assert errors[1].startswith("ForkedException: this was opened by process")
        assert errors[2] == 0
        assert not writing.done()
        session.connection.worker_queue._signal.release()  # type: ignore[attr-defined]
    assert reading.get(PATIENCE_S).data == b"1"


def test_a_child_may_start_its_own_and_the_inherited_client_again(
    client: FaaSKeeperClient, config: Config, tmp_path: Path
) -> None:
    client.create("/parent")

    def act() -> list[str]:
        with FaaSKeeperClient(Config.local(tmp_path / "other")) as own:
            made = own.create("/own").path
        with FaaSKeeperClient(config) as joined:  # the parent's service
            parent = joined.get_children("/parent")
        client.start()
        client.create("/parent/child")
        client.stop()
        return [made, *parent]

    assert in_child(act) == ["/own"]
    assert client.exists("/own") is None
    assert [node.path for node in client.get_children("/parent")] == ["/parent/child"]


def test_children_of_a_busy_process_never_hang(connect: Start, tmp_path: Path) -> None:
    clients = [connect() for _ in range(3)]
    clients[0].create("/n")
    over = threading.Event()

    def work(client: FaaSKeeperClient) -> int:
        done = 0
        while not over.is_set():
            client.set_data("/n", b"x")
            for _ in range(20):
                client.get_data("/n")
            done += 1
        return done

    def act(turn: int) -> str:
        with FaaSKeeperClient(Config.local(tmp_path / f"own{turn}")) as own:
            return f"{own.create('/n').path} {error_of(lambda: clients[0].get_data('/n'))[:15]}"

    with ThreadPoolExecutor(3) as pool:
        working = [pool.submit(work, client) for client in clients]
        try:
            for turn in range(8):
                assert in_child(lambda turn=turn: act(turn)) == "/n ForkedException"  # type: ignore[misc]
        finally:
            over.set()
        written = sum(each.result(PATIENCE_S) for each in working)
    assert clients[0].get_data("/n").stat.version == written


def test_a_service_that_is_inherited_refuses_and_is_stopped_at_once(config: Config, tmp_path: Path) -> None:
    service = EmbeddedService(config, tmp_path / "own")

    def refused(call: Callable[[], object]) -> str:
        try:
            call()
        except DriverError as error:
            return str(error)
        return "nothing"

    deployment = service.deployment
    calls: list[Callable[[], object]] = [
        lambda: service.connection(0, lambda: None),
        service.ring,
        lambda: deployment.records.get("/"),
        lambda: deployment.leases.grant(77, 1),
        lambda: deployment.log.after(0),
        lambda: deployment.worker_queue.send("writer", "x", b""),
        service.heartbeat.run,
        lambda: deployment.blobs.put("k", b"") if deployment.blobs else deployment.records.get("/"),
    ]

    def act() -> list[str]:
        errors = [refused(call) for call in calls]
        service.stop()
        return errors

    for error in in_child(act):
        assert f"opened by process {os.getpid()}, of which" in error
    assert deployment.records.get("/") is not None
    service.stop()


def test_a_child_s_sockets_are_closed_and_the_parent_s_are_not_shut_down(tmp_path: Path) -> None:
    config = embedded(tmp_path / "service", **{"client-channel": "tcp"})
    with FaaSKeeperClient(config) as client:
        client.create("/n")
        session = client._session
        assert session is not None
        listener: Any = session._listener
        port = int(listener.address.rsplit(":", 1)[1])
        mine = {os.fstat(each.fileno()).st_ino for each in (listener._socket, *listener._connections)}
        assert len(mine) > 1

        def act() -> list[int]:
            client.stop()
            there = []
            for each in os.listdir("/dev/fd"):
                try:
                    there.append(os.fstat(int(each)).st_ino)
                except OSError:
                    continue  # of the listing itself
            return there

        assert not mine & set(in_child(act))
        client.create("/m")
        socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S).close()


def test_a_queue_whose_function_runs_in_the_parent_refuses_in_the_child(tmp_path: Path) -> None:
    served: list[object] = []
    queue = LocalQueue("writer", served.extend, lambda: None, served.append, "the writer in this process")

    def act() -> str:
        try:
            PromptQueue(queue).send("writer", "x", b"child")
        except DriverError as error:
            return str(error)
        return f"served {len(served)}"

    error = in_child(act)
    assert error.startswith(f"the writer in this process: this was opened by process {os.getpid()}")
    PromptQueue(queue).send("writer", "x", b"parent")
    assert served == [b"parent"]
    queue.stop()


def test_a_fork_waits_until_no_thread_is_within_sqlite(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faaskeeper.providers.local.database._QUIET_S", PATIENCE_S)
    database = Database(tmp_path / "state.db", synced=False)
    database.open({"t": '("n" INTEGER)'})
    slow = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r WHERE n<?) SELECT max(n) FROM r"
    database.read(slow, (1,))
    inside = threading.Event()
    (reader,) = database._readers  # type: ignore[misc]
    reader.set_progress_handler(inside.set, 1000)
    with ThreadPoolExecutor(2) as pool:
        reading = pool.submit(database.read, slow, (300_000,))
        assert inside.wait(PATIENCE_S)
        database.fork_begins()
        assert len(database._readers._back) == 1  # type: ignore[union-attr]
        blocked = pool.submit(database.read, slow, (2,))
        database.fork_ends()
        assert reading.result(PATIENCE_S) == [(300_000,)]
        assert blocked.result(PATIENCE_S) == [(2,)]
    database.close()


def _work(client: FaaSKeeperClient, pipe: Any) -> None:
    pipe.send(error_of(lambda: client.create("/from-child")))


def test_a_process_of_multiprocessing_is_a_child_like_others(client: FaaSKeeperClient) -> None:
    fork = multiprocessing.get_context("fork")
    here, there = fork.Pipe()
    process = fork.Process(target=_work, args=(client, there))
    process.start()
    assert here.poll(PATIENCE_S)
    assert here.recv().startswith("ForkedException")
    process.join(PATIENCE_S)
    assert process.exitcode == 0
    assert client.exists("/from-child") is None


_FORKING = """
import os, sys, threading
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
client = FaaSKeeperClient(Config.local(sys.argv[1]))
client.start()
for number in range(30):
    client.create(f"/before{number}")
threading.Thread(target=lambda: [client.get_data("/before0") for _ in range(200)]).start()
for turn in range(3):
    child = os.fork()
    if not child:
        del client              # and then Python's own end destroys all that there is
        import gc
        gc.collect()
        sys.exit(0)
    for number in range(30):
        client.create(f"/during{turn}-{number}")
    os.waitpid(child, 0)
    for number in range(30):
        client.create(f"/after{turn}-{number}")
print("written", flush=True)
sys.stdin.read()
os._exit(9)                     # as if it were killed: what is in the write-ahead log stays there
"""


def running(program: str, directory: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", program, str(directory)], stdin=pipe, stdout=pipe, text=True
    )


def test_what_a_child_destroys_at_its_end_is_not_its_parent_s_data(tmp_path: Path) -> None:
    directory = tmp_path / "service"
    with running(_FORKING, directory) as parent:
        assert parent.stdout is not None
        assert parent.stdout.readline() == "written\n"
        with pytest.raises(InUse, match=f"in use by process {parent.pid}"):
            Owner(directory).acquire()
        parent.communicate(timeout=PATIENCE_S)
        assert parent.returncode == 9
    with FaaSKeeperClient(Config.local(directory)) as client:
        names = {node.path for node in client.get_children("/")}
    numbers = range(30)
    expected = {f"/before{number}" for number in numbers}
    for when in ("during", "after"):
        expected |= {f"/{when}{turn}-{number}" for turn in range(3) for number in numbers}
    assert expected <= names


_ORPHAN = """
import os, sys
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
client = FaaSKeeperClient(Config.local(sys.argv[1]))
client.start()
client.create("/n")
here, there = os.pipe()
if os.fork():
    os.read(here, 1)            # until the child is there
    os._exit(9)
os.write(there, b"1")
sys.stdin.readline()
try:
    FaaSKeeperClient(Config.local(sys.argv[1])).start()
except Exception as error:
    print(error, flush=True)
with FaaSKeeperClient(Config.local(sys.argv[1] + "-own")) as own:
    print(own.create("/m").path, flush=True)
"""


def test_a_child_that_outlives_its_parent_does_not_keep_the_directory_and_says_why_it_cannot_open_it(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "service"
    with running(_ORPHAN, directory) as parent:
        assert parent.wait(PATIENCE_S) == 9
        with FaaSKeeperClient(Config.local(directory)) as client:  # the child lives, and does not have it
            assert client.create("/between").path == "/between"
        output, _ = parent.communicate("\n", PATIENCE_S)
    refused, made = output.splitlines()
    assert refused.startswith(f"this process is a fork of one that had {directory}/log.db open")
    assert made == "/m"
    with FaaSKeeperClient(Config.local(directory)) as client:
        assert {"/n", "/between"} <= {node.path for node in client.get_children("/")}


_KILLED = """
import os, sys
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
client = FaaSKeeperClient(Config.local(sys.argv[1]))
client.start()
client.create("/acknowledged")
os._exit(9)
"""


def test_a_child_that_ends_after_its_parent_leaves_alone_what_others_wrote_since(tmp_path: Path) -> None:
    directory = tmp_path / "service"
    with running(_ORPHAN, directory) as parent:
        assert parent.wait(PATIENCE_S) == 9
        with FaaSKeeperClient(Config.local(directory)) as client:
            client.create("/between")
        with running(_KILLED, directory) as killed:  # what it wrote is in the write-ahead log alone
            assert killed.wait(PATIENCE_S) == 9
        parent.communicate("\n", PATIENCE_S)  # and only now does the child end
    with FaaSKeeperClient(Config.local(directory)) as client:
        assert {"/n", "/between", "/acknowledged"} <= {node.path for node in client.get_children("/")}
