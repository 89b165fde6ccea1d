"""The drivers of the embedded provider pass the suites that every provider's must."""

from __future__ import annotations

import os
import socket
import struct
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from faaskeeper.core import trust
from faaskeeper.core.drivers.storage import IfAbsent, Table
from faaskeeper.core.errors import Conflict
from faaskeeper.core.objects import TableObjects
from faaskeeper.providers.local.channels import LocalChannel
from faaskeeper.providers.local.database import Database
from faaskeeper.providers.local.objects import DirectoryStore
from faaskeeper.providers.local.tables import NumberedTable, SqliteTable
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.providers.tcp import MAX_FRAME_BYTES, TcpChannel, TcpClientChannel
from faaskeeper.testing.conformance.drivers import ChannelSuite, ObjectStoreSuite, TableSuite
from faaskeeper.testing.patience import PATIENCE_S


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    database = Database(tmp_path / "some.db", synced=False)
    database.open({"table": SqliteTable.SCHEMA, "log": NumberedTable.SCHEMA})
    yield database
    database.close()


class TestMemoryTable(TableSuite):
    @pytest.fixture
    def table(self) -> Table:
        return MemoryTable()


class TestSqliteTable(TableSuite):
    @pytest.fixture
    def table(self, database: Database) -> Table:
        return SqliteTable(database, "table")


class TestDirectoryStore(ObjectStoreSuite):
    @pytest.fixture
    def store(self, tmp_path: Path) -> DirectoryStore:
        return DirectoryStore(tmp_path / "objects")


class TestTableObjects(ObjectStoreSuite):
    @pytest.fixture(params=[400 * 1024, 1 << 40])
    def store(self, request: pytest.FixtureRequest) -> TableObjects:
        return TableObjects(MemoryTable(request.param))


class TestLocalChannel(ChannelSuite):
    @pytest.fixture
    def channel(self) -> LocalChannel:
        return LocalChannel()

    @pytest.fixture
    def client_channel(self, channel: LocalChannel) -> LocalChannel:
        return channel


class TestTcpChannel(ChannelSuite):
    @pytest.fixture
    def channel(self) -> Iterator[TcpChannel]:
        channel = TcpChannel()
        yield channel
        channel.close()

    @pytest.fixture
    def client_channel(self) -> TcpClientChannel:
        return TcpClientChannel()


def test_a_walk_of_many_objects_reads_their_directory_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = DirectoryStore(tmp_path / "objects")
    assert store.list("b/", "", 100) == []
    names = [f"b/{number:03d}" for number in range(300)]
    for name in names:
        (tmp_path / "objects" / f"b%2F{name[2:]}").mkdir(parents=True)
        (tmp_path / "objects" / f"b%2F{name[2:]}" / "%o").touch()
    (tmp_path / "objects" / "b%2F100" / "%o").unlink()  # somebody was killed before he wrote it
    read: list[object] = []
    scan = os.scandir
    monkeypatch.setattr(os, "scandir", lambda path: read.append(path) or scan(path))  # type: ignore[func-returns-value]
    seen: list[str] = []
    while page := store.list("b/", seen[-1] if seen else "", 25):
        seen += page
        if len(seen) == 50:
            store.put("b/049x", b"")
            store.put("b/0001", b"")  # behind the walk
            store.delete("b/299")
    assert seen == sorted([*names[:100], "b/049x", *names[101:299]])
    assert len(read) == 1
    assert store.list("b/", "", 1_000) == sorted([*seen, "b/0001"])


def test_the_log_s_table_keeps_entries_by_number(database: Database) -> None:
    table = NumberedTable(database, "log")
    for number in (1, 3, 10):
        table.put("log", f"{number:016d}", {"stamp": number, "data": b"x"}, IfAbsent())
    with pytest.raises(Conflict):
        table.put("log", f"{3:016d}", {"stamp": 3}, IfAbsent())
    keys = [key for key, _ in table.query("log", f"{1:016d}", 10).items]
    assert keys == [f"{3:016d}", f"{10:016d}"]
    assert table.query("log", "", 2).more is True
    table.delete("log", f"{3:016d}")
    assert table.get("log", f"{3:016d}") is None


def test_calls_made_together_happen_all_or_none(database: Database) -> None:
    table = SqliteTable(database, "table")
    table.put("/p", "taken", {"stamp": 1})
    with pytest.raises(Conflict):
        database.together(
            [
                lambda: table.put("/p", "new", {"stamp": 1}),
                lambda: table.put("/p", "taken", {"stamp": 1}, IfAbsent()),
            ]
        )
    assert table.get("/p", "new") is None
    database.together([partial(table.put, "/p", f"{n}", {"stamp": n}) for n in range(3)])
    assert len(table.query("/p", "", 10).items) == 4


@pytest.mark.parametrize(
    "garbage", [b"GET / HTTP/1.1\r\n\r\n", struct.pack(">I", MAX_FRAME_BYTES + 1), b"\0\0\0\5abc"]
)
def test_a_stranger_on_a_client_s_port_wastes_no_more_than_its_connection(garbage: bytes) -> None:
    heard: list[bytes] = []
    arrived = threading.Event()

    def hear(message: bytes) -> None:
        heard.append(message)
        arrived.set()

    listener = TcpClientChannel().listen(hear)
    host, port = listener.address.removeprefix("tcp:").split(":")
    with socket.create_connection((host, int(port))) as stranger:
        stranger.sendall(garbage)
        stranger.shutdown(socket.SHUT_WR)
        assert stranger.recv(1) == b""  # the connection was ended
    channel = TcpChannel()
    assert channel.deliver(listener.address, b"hello")
    assert arrived.wait(PATIENCE_S)
    assert heard == [b"hello"]
    channel.close()
    listener.close()


def test_a_client_in_another_process_is_answered_and_knows_by_whom() -> None:
    secret = b"s" * trust.KEY_BYTES
    script = """
        import sys, threading
        from faaskeeper.core import trust
        from faaskeeper.providers.tcp import TcpClientChannel
        done = threading.Event()
        def hear(message):
            try:
                trust.verify(b"s" * trust.KEY_BYTES, message)
            except trust.Forged:
                print("forged", flush=True)
            else:
                print(trust.body(message).decode(), flush=True)
                done.set()
        print(TcpClientChannel().listen(hear).address, flush=True)
        done.wait()
    """
    client = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    assert client.stdout is not None
    address = client.stdout.readline().strip()
    channel = TcpChannel()
    assert channel.deliver(address, trust.sign(b"x" * trust.KEY_BYTES, b"a stranger's"))
    assert channel.deliver(address, trust.sign(secret, b"the service's"))
    assert client.communicate(timeout=PATIENCE_S)[0] == "forged\nthe service's\n"
    channel.close()


def test_a_client_that_came_back_on_its_port_is_reached_again() -> None:
    channel = TcpChannel()
    first = TcpClientChannel().listen(lambda message: None)
    assert channel.deliver(first.address, b"1")
    port = int(first.address.rsplit(":", 1)[1])
    first.close()
    heard: list[bytes] = []
    arrived = threading.Event()

    def hear(message: bytes) -> None:
        heard.append(message)
        arrived.set()

    second = TcpClientChannel(port=port).listen(hear)
    while not arrived.is_set():
        channel._avoid.clear()
        channel.deliver(second.address, b"2")  # the first may go into the connection that broke
        arrived.wait(0.05)
    assert heard[0] == b"2"
    channel.close()
    second.close()
