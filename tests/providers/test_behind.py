"""Records that are read from memory and written behind the log: no reader and no crash can tell."""

from __future__ import annotations

import random
import sqlite3
import sys
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core import records
from faaskeeper.core.children import PAGE_META
from faaskeeper.core.drivers.storage import Item
from faaskeeper.core.errors import DriverError, Unavailable
from faaskeeper.core.records import Record, decode
from faaskeeper.core.sessions import Sessions
from faaskeeper.core.znode import Meta
from faaskeeper.providers.local import behind
from faaskeeper.providers.local.behind import RecordsBehind, Saved
from faaskeeper.providers.local.database import Database
from faaskeeper.providers.local.matching import HIGH_WATER
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.providers.local.tables import Row, SqliteTable, encode
from faaskeeper.testing.patience import PATIENCE_S
from tests.providers.test_matching import configured, killed


def record(txid: int, data: bytes = b"", children: tuple[str, ...] = ()) -> Record:
    return Record(txid, Meta(txid, txid, 0, 0, 0), data, list(children), txid - 1, txid, "[]")


def tombstone(txid: int) -> Record:
    return Record(txid, None, b"", [], txid - 1, txid, "[]")


class Files:
    """A state file, and the records on it."""

    def __init__(self, directory: Path, most: int = behind.MEMORY_BYTES) -> None:
        self.path = directory / "state.db"
        self.database = Database(self.path, synced=False)
        self.database.open(dict.fromkeys(("records", "checkpoint"), SqliteTable.SCHEMA), HIGH_WATER)
        high = self.database.read("SELECT stamp FROM high_water", ())[0][0]
        self.table = SqliteTable(self.database, "records")
        self.records = RecordsBehind(self.database, self.table, high, most)

    def finish(self) -> None:
        """Wait for a flush that is under way."""
        with self.records._flush:
            pass

    def stored(self) -> dict[str, Record]:
        """What another process would find."""
        rows = self.database.read("SELECT DISTINCT partition FROM records", ())
        found = {path: self.table.get(path, "node") for (path,) in rows}
        return {path: decode(item) for path, item in found.items() if item is not None}


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    made = Files(tmp_path)
    yield made
    made.database.close()


def test_a_put_is_read_at_once_and_stored_by_the_next_flush(files: Files) -> None:
    assert files.records.put("/a", record(1, b"1"))
    assert files.records.get("/a") == record(1, b"1")
    assert files.stored() == {}
    files.records.flush()
    assert files.stored() == {"/a": record(1, b"1")}
    assert files.database.read("SELECT stamp FROM high_water", ()) == [(1,)]


def test_a_path_that_is_put_many_times_is_stored_once(files: Files) -> None:
    before = files.database.read("SELECT total_changes()", ())
    for txid in range(1, 100):
        files.records.put("/a", record(txid))
    assert files.database.read("SELECT total_changes()", ()) == before
    files.records.flush()
    assert files.stored() == {"/a": record(99)}


@pytest.mark.parametrize("where", ["not flushed", "flushed", "dropped from memory", "of an earlier process"])
def test_an_equal_or_older_record_is_refused(tmp_path: Path, where: str) -> None:
    files = Files(tmp_path, most=0 if where == "dropped from memory" else behind.MEMORY_BYTES)
    files.records.put("/a", record(7, b"7"))
    if where != "not flushed":
        files.records.flush()
    if where == "of an earlier process":
        files.database.close()
        files = Files(tmp_path)
    for txid in (7, 6, 1):
        assert not files.records.put("/a", record(txid, b"older"))
    assert files.records.put("/b", record(3))  # nothing newer is there
    files.records.flush()
    assert files.stored() == {"/a": record(7, b"7"), "/b": record(3)}
    files.database.close()


def test_mark_and_checkpoint_are_never_stored_before_the_records_that_they_cover(files: Files) -> None:
    stored_at: list[set[str]] = []

    class Watched(SqliteTable):
        def put(self, *args: object) -> None:  # type: ignore[override]
            stored_at.append(set(files.stored()))
            super().put(*args)  # type: ignore[arg-type]

    checkpoints = Saved(files.records.flush, Watched(files.database, "checkpoint"), files.database.together)
    checkpoints.begin(0)
    stored_at.clear()
    files.records.put("/a", record(1))
    checkpoints.mark(1)
    files.records.put("/b", record(2))
    checkpoints.save(checkpoints.header()._replace(txid=2), Sessions(), lambda: 0)
    assert stored_at == [{"/a"}, {"/a", "/b"}]


def test_a_flush_that_fails_keeps_what_it_would_have_written(files: Files) -> None:
    files.records.put("/a", record(1))
    size = files.database.read("PRAGMA page_count", ())[0][0]
    files.database.write(f"PRAGMA max_page_count={size}", ())
    files.records.put("/large", record(2, b"x" * 100_000))
    with pytest.raises(DriverError, match="disk is full"):
        files.records.flush()
    assert files.records.get("/large") is not None
    assert files.stored() == {}
    files.database.write("PRAGMA max_page_count=100000", ())
    files.records.flush()
    assert files.stored().keys() == {"/a", "/large"}


def test_a_failing_flush_at_the_stop_is_a_line_in_the_log(
    files: Files, caplog: pytest.LogCaptureFixture
) -> None:
    files.records.put("/a", record(1))
    files.database.close()
    files.records.flush_at_last()
    assert "the next start writes them" in caplog.text


def test_many_records_are_flushed_without_being_asked(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(behind, "UNFLUSHED", 10)
    for txid in range(1, 26):
        files.records.put(f"/{txid}", record(txid))
        files.finish()
    assert len(files.stored()) == 20
    monkeypatch.setattr(behind, "UNFLUSHED_BYTES", 1_000)
    files.records.put("/large", record(26, b"x" * 1_000))
    files.finish()
    assert len(files.stored()) == 26


class Stuck:
    """A flush that is under way until it is let go."""

    def __init__(self, files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
        self.began, self.go = threading.Event(), threading.Event()
        self.fails = False
        self._write = files.table.replace_all
        self._thread = threading.get_ident()
        monkeypatch.setattr(files.table, "replace_all", self)
        monkeypatch.setattr(behind, "UNFLUSHED", 2)

    def __call__(self, rows: Sequence[tuple[str, str, Row]]) -> None:
        if threading.get_ident() != self._thread:
            self.began.set()
            assert self.go.wait(PATIENCE_S)
            if self.fails:
                raise Unavailable("the disk is away")
        self._write(rows)


def test_the_writer_goes_on_during_a_flush_that_was_due(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Stuck(files, monkeypatch)
    files.records.put("/a", record(1))
    files.records.put("/b", record(2))
    assert stuck.began.wait(PATIENCE_S)
    assert files.records.put("/a", record(3))
    assert not files.records.put("/b", record(2))
    assert files.records.get_many(["/a", "/b"]) == [record(3), record(2)]
    assert files.stored() == {}
    stuck.go.set()
    files.finish()
    assert files.stored() == {"/a": record(1), "/b": record(2)}
    files.records.flush()
    assert files.stored() == {"/a": record(3), "/b": record(2)}


def test_what_flushes_waits_for_the_flush_before_it(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck = Stuck(files, monkeypatch)
    files.records.put("/a", record(1))
    files.records.put("/b", record(2))
    assert stuck.began.wait(PATIENCE_S)
    files.records.put("/a", record(3))
    marked = threading.Thread(target=files.records.flush)
    marked.start()
    assert files.stored() == {}
    stuck.go.set()
    marked.join(PATIENCE_S)
    assert files.stored() == {"/a": record(3), "/b": record(2)}


def test_a_flush_behind_that_fails_is_repeated_by_the_writer_which_learns_of_it(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Stuck(files, monkeypatch)
    stuck.fails = True
    files.records.put("/a", record(1, b"1"))
    files.records.put("/b", record(2))
    assert stuck.began.wait(PATIENCE_S)
    files.records.put("/a", record(3, b"3"))
    stuck.go.set()
    files.finish()
    assert files.stored() == {}
    monkeypatch.setattr(stuck, "_write", raising)
    with pytest.raises(Unavailable, match="no disk"):
        files.records.put("/c", record(4))
    monkeypatch.undo()
    files.records.flush()
    assert files.stored() == {"/a": record(3, b"3"), "/b": record(2), "/c": record(4)}


def test_without_a_thread_the_writer_flushes(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(behind, "UNFLUSHED", 1)
    monkeypatch.setattr(threading.Thread, "start", none)
    files.records.put("/a", record(1))
    assert files.stored() == {"/a": record(1)}


def test_a_slow_disk_holds_the_writer_before_memory_fills(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    stuck = Stuck(files, monkeypatch)
    flush = files.records.flush

    def waits() -> None:
        stuck.go.set()  # the flush before may end only when the writer waits for it
        flush()

    monkeypatch.setattr(files.records, "flush", waits)
    unflushed = []
    for txid in range(1, 20):
        files.records.put(f"/{txid}", record(txid))
        unflushed.append(len(files.records._unflushed))
    stuck.go.set()
    files.finish()
    assert max(unflushed) < 4


def test_calls_that_only_touch_memory_do_not_wait_for_the_file(files: Files) -> None:
    writing, go = threading.Event(), threading.Event()

    def hold() -> None:
        with files.database.lock:
            writing.set()
            assert go.wait(PATIENCE_S)

    holder = threading.Thread(target=hold)
    holder.start()
    assert writing.wait(PATIENCE_S)
    files.database.together([lambda: files.records.put("/a", record(1)), lambda: files.records.get("/a")])
    go.set()
    holder.join(PATIENCE_S)


def raising(_: object) -> None:
    raise Unavailable("no disk")


META = Meta(1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 0, "")


@pytest.mark.parametrize(
    "made",
    [
        record(7, b"data"),
        tombstone(8),
        record(9, '\x00\xff\u20ac"\\'.encode(), ("a", 'quo"ted', "\u20ac", "back\\slash")),
        Record(10, META._replace(acl=((31, "digest", 'a:"b'),), ttl=5, pages=3), b"", [], 9, 10, ""),
        Record(11, META._replace(blob="b/1"), b"", ["c"], 9, 11, '[[11,[["/\u20ac","C"]]]]'),
        Record(12, PAGE_META, b"", ["x", "y"], 11, 12, "[]"),
    ],
)
def test_a_row_is_what_a_table_makes_of_the_records_item(made: Record) -> None:
    assert behind.row(made) == encode(records.encode(made))


def test_nothing_is_flushed_within_a_transaction_that_may_be_undone(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(behind, "UNFLUSHED", 1)

    def fail() -> None:
        raise Unavailable("no")

    with pytest.raises(Unavailable):
        files.database.together([lambda: files.records.put("/a", record(1)), fail])
    assert files.stored() == {}
    assert files.records.get("/a") == record(1)
    files.records.flush_if_full()
    files.finish()
    assert files.stored() == {"/a": record(1)}


def test_a_lapsed_tombstone_takes_older_records_with_it(files: Files) -> None:
    files.records.put("/a", record(1))
    files.records.flush()
    files.records.put("/a", tombstone(2))
    files.records.lapse("/a", 1)
    assert files.records.get("/a") == tombstone(2)
    files.records.lapse("/a", 2)
    assert files.records.get("/a") is None
    assert files.stored() == {}
    assert files.records.put("/a", record(3))


def test_memory_stays_within_its_bound_and_keeps_what_is_read(tmp_path: Path) -> None:
    files = Files(tmp_path, most=100_000)
    for txid in range(1, 1_000):
        files.records.put(f"/{txid}", record(txid, b"x" * 100))
        files.records.get("/1")
        if not txid % 20:
            files.records.flush()
            assert files.records.used <= 100_000
    files.records.flush()
    assert "/1" in files.records.held
    assert "/2" not in files.records.held
    assert files.records.get_many(["/1", "/2", "/none"]) == [
        record(1, b"x" * 100),
        record(2, b"x" * 100),
        None,
    ]
    files.database.close()


def test_a_service_keeps_as_many_records_as_its_configuration_allows(tmp_path: Path) -> None:
    config = configured(tmp_path / "small").caching(20_000)
    service = EmbeddedService(config, tmp_path / "small", beat=False)
    for txid in range(1, 200):
        service.deployment.records.put(f"/{txid}", record(txid, b"x" * 100))
    service._behind.flush()
    assert 10_000 < service._behind.used <= 20_000
    service.stop()


@pytest.mark.parametrize("size", [-1, "64MB", True, 1.5])
def test_a_cache_of_no_size_is_refused(tmp_path: Path, size: object) -> None:
    data = {"cloud-provider": "local", "deployment-name": "d", "local": {"cache-bytes": size}}
    with pytest.raises(DriverError, match="'cache-bytes' in the section 'local' is "):
        EmbeddedService(Config.deserialize(data), tmp_path / "none", beat=False)
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("seed", range(20))
def test_random_programs_read_what_a_dictionary_would(tmp_path: Path, seed: int) -> None:
    choose = random.Random(seed)
    files = Files(tmp_path, most=choose.choice((0, 5_000, 1_000_000)))
    there: dict[str, Record] = {}
    txid = 0
    for _ in range(400):
        path = f"/{choose.randrange(8)}"
        act = choose.randrange(10)
        if act < 4:
            txid += 1
            made = choose.choice((tombstone, record))(max(txid - choose.choice((0, 0, 0, 3)), 1))
            newer = path not in there or there[path].txid < made.txid
            assert files.records.put(path, made) is newer
            if newer:
                there[path] = made
        elif act < 7:
            some = [f"/{choose.randrange(8)}" for _ in range(choose.randrange(1, 5))]
            assert files.records.get(path) == there.get(path)
            assert files.records.get_many(some) == [there.get(each) for each in some]
        elif act == 7:
            files.records.flush()
            assert files.stored() == there
        elif act == 8:
            files.records.lapse(path, there[path].txid if path in there else 1)
            there.pop(path, None)
        elif choose.random() < 0.3:
            files.records.flush()
            files.database.close()
            files = Files(tmp_path, most=choose.choice((0, 5_000, 1_000_000)))
    files.database.close()


def test_a_read_that_was_overtaken_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = Files(tmp_path, most=10_000)
    files.records.put("/a", record(1))
    files.records.flush()

    def crowd_out(first: int) -> None:
        for txid in range(first, first + 40):
            files.records.put(f"/{txid}", record(txid))
            files.records.flush()

    crowd_out(2)
    assert "/a" not in files.records.held
    read = files.table.get_many

    def overtaken(keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        found = read(keys)
        monkeypatch.undo()
        files.records.put("/a", record(100))
        files.records.flush()
        crowd_out(101)
        assert "/a" not in files.records.held
        return found

    monkeypatch.setattr(files.table, "get_many", overtaken)
    files.records.get("/a")
    assert files.records.get("/a") == record(100)
    files.database.close()


def test_readers_beside_a_writer_never_see_a_path_go_back(tmp_path: Path) -> None:
    files = Files(tmp_path, most=3_000)  # a handful of the paths fit
    paths = [f"/{number}" for number in range(12)]
    stop = threading.Event()
    faults: list[str] = []
    rounds = [0] * 3

    def read(reader: int) -> None:
        last = dict.fromkeys(paths, 0)
        while not stop.is_set():
            found = files.records.get_many(paths) if reader else [files.records.get(each) for each in paths]
            for path, each in zip(paths, found, strict=True):
                txid = 0 if each is None else each.txid
                if txid < last[path]:
                    faults.append(f"{path} went back from {last[path]} to {txid}")
                last[path] = txid
            rounds[reader] += 1

    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    threads = [threading.Thread(target=read, args=(number,)) for number in range(3)]
    try:
        for each in threads:
            each.start()
        txid = 0
        while min(rounds) < 200 and not faults:
            txid += 1
            files.records.put(paths[txid % len(paths)], record(txid))
            if not txid % 7:
                files.records.flush()
    finally:
        stop.set()
        for each in threads:
            each.join(PATIENCE_S)
        sys.setswitchinterval(before)
    assert faults == []
    files.database.close()


def test_a_kill_before_any_flush_loses_nothing_acknowledged(tmp_path: Path) -> None:
    directory = tmp_path / "killed"
    killed(directory, "hybrid", writes=10)
    with sqlite3.connect(directory / "state.db") as state:
        stored = {path for (path,) in state.execute("SELECT partition FROM records")}
    state.close()
    assert not any(path.startswith("/late") for path in stored)  # they were in memory and in the log
    with FaaSKeeperClient(configured(directory, "hybrid")) as client:
        assert client.get_data("/early0").data == b"9"
        assert [client.get_data(f"/late{number}").data for number in range(10)] == [
            b"%d" % number for number in range(10)
        ]


def test_a_service_that_stops_leaves_every_record_in_its_file(tmp_path: Path) -> None:
    config = configured(tmp_path / "stopped")
    with FaaSKeeperClient(config) as client:
        client.create("/a", b"1")
        client.set_data("/a", b"2")
    service = EmbeddedService(config, tmp_path / "stopped", beat=False)
    table = SqliteTable(service._state_file, "records")
    item = table.get("/a", "node")
    assert item is not None
    assert decode(item).data == b"2"
    service.stop()


def test_the_memory_of_records_counts_their_acls(files: Files) -> None:
    plain, guarded = record(1), record(1)
    assert guarded.meta is not None
    acl = tuple((31, "digest", f"user{each}:hash") for each in range(20))
    files.records.put("/a", plain)
    before = files.records.used
    files.records.put("/b", guarded._replace(meta=guarded.meta._replace(acl=acl)))
    assert files.records.used - 2 * before > 20 * 100
