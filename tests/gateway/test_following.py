"""Reads from memory: what may be in it, until when, and what a server asks of far stores for that."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from faaskeeper.core import codec
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Unavailable
from faaskeeper.core.log import Trimmed
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Create, Delete, Multi, SetData, inline
from faaskeeper.core.transactions import Limits
from faaskeeper.core.znode import OPEN_ACL, Meta
from faaskeeper.gateway.following import LATE_S, Follower, Following, FollowingRules, ReadCounts
from faaskeeper.gateway.memory import Memory
from faaskeeper.session.commands import (
    Await,
    Command,
    PutWatch,
    ReadLogEnd,
    ReadMark,
    ReadRecords,
    RemoveWatch,
    Share,
    Steps,
)
from faaskeeper.session.rules import names_of
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.watch import WatchedEvent
from tests.bare import Bare, BareSession
from tests.gateway import raw
from tests.gateway.raw import Raw, number, string
from tests.gateway.test_server import ask
from tests.gateway.threads import InThread, far

EVERY_S = 0.2
WITHIN_S = EVERY_S + LATE_S


class Server:
    """The rules of a server that reads from memory, without the server; ``asked``: what they asked for."""

    def __init__(self, bare: Bare, memory: int = 1 << 20) -> None:
        self.session = bare.session("server")
        self.now = 0.0
        self.counts = ReadCounts()
        self.fired: list[tuple[str, str]] = []
        self.asked: list[Command] = []
        self.rules = FollowingRules(
            self.session.rules.seen,
            lambda callback, event: callback(event),
            Following(EVERY_S, memory),
            lambda: self.now,
            self.counts,
        )
        self.session.rules = self.rules
        self.between: Callable[[Command], None] = lambda command: None
        """Called after a command was performed, before its answer is taken in."""

    def drive(self, steps: Steps) -> Any:
        answer: Any = None
        while True:
            try:
                command = steps.send(answer)
            except StopIteration as done:
                return done.value
            answer = None
            if isinstance(command, Share):
                self.drive(command.steps())
            elif command == ReadRecords(()):
                answer = []
            elif not isinstance(command, (PutWatch, RemoveWatch)):
                self.asked.append(command)
                answer = self.session.perform(command)
                self.between(command)

    def follow(self) -> None:
        self.drive(self.rules.sync())
        self.asked.clear()

    def read(self, path: str) -> Record | None:
        found: Record | None = self.drive(self.rules.read(path))
        return found

    def data(self, path: str) -> bytes | None:
        record = self.read(path)
        return None if record is None or record.meta is None else record.data

    def watch(self, path: str, kind: str) -> Record | None:
        found: Record | None = self.drive(self.rules.watch(path, kind, self._fired))
        return found

    def _fired(self, event: WatchedEvent) -> None:
        self.fired.append((str(event.event_type), event.path))


Scene = tuple[Bare, BareSession, Server]


@pytest.fixture
def scene() -> Scene:
    """A deployment with /a and /b, another client, and a server that has just looked at the log's end."""
    bare = Bare()
    other = bare.session("other")
    other.do(Multi((Create("/a", inline(b"0")), Create("/b", inline(b"0")))))
    server = Server(bare)
    server.follow()
    return bare, other, server


# ---- what is in memory ---------------------------------------------------------------------------


def test_what_was_read_is_not_read_again(scene: Scene) -> None:
    _, _, server = scene
    assert server.data("/a") == b"0"
    assert server.asked == [ReadRecords(("/a",))]
    server.asked.clear()
    assert server.data("/a") == b"0"
    assert server.asked == []
    assert (server.counts.memory, server.counts.storage) == (2, 1)  # of the first read, too


def test_what_was_absent_is_not_looked_for_again_until_it_is_created(scene: Scene) -> None:
    _, other, server = scene
    assert server.read("/c") is None
    server.asked.clear()
    assert server.read("/c") is None
    assert server.watch("/c", "exists") is None
    assert server.asked == []
    other.do(Create("/c", inline(b"new")))
    server.follow()
    assert server.data("/c") == b"new"
    assert server.fired == [("NodeCreated", "/c")]


def test_a_write_that_was_met_is_shown(scene: Scene) -> None:
    _, other, server = scene
    assert server.data("/a") == server.data("/b") == b"0"
    other.do(SetData("/a", inline(b"1")))
    assert server.data("/a") == b"0"  # not met, and not too long ago
    server.follow()
    assert server.data("/a") == b"1"
    assert server.asked == [ReadRecords(("/a",))]
    assert server.data("/b") == b"0"
    assert len(server.asked) == 1


@pytest.mark.parametrize("page_names", [128, 1])
def test_a_create_and_a_delete_change_the_parent_s_names_and_stat(page_names: int) -> None:
    bare = Bare(limits=Limits(page_names=page_names))
    other = bare.session("other")
    server = Server(bare)
    server.follow()

    def names() -> list[str]:
        found = server.drive(server.rules.snapshot(["/"], ["/"]))
        record = found["/"]
        assert record is not None
        assert len(names_of("/", found)) == record.meta.children
        return names_of("/", found)

    for there in (["zookeeper"], ["a", "zookeeper"], ["a", "b", "c", "zookeeper"]):
        for name in there:
            if name not in names():
                other.do(Create(f"/{name}", inline(b"")))
        server.follow()
        assert names() == there
        server.asked.clear()
        assert names() == there
        assert server.asked == []
    other.do(Delete("/b"))
    server.follow()
    assert names() == ["a", "c", "zookeeper"]


def test_a_record_read_before_a_write_that_was_met_meanwhile_does_not_stay(scene: Scene) -> None:
    _, other, server = scene

    def write(command: Command) -> None:
        server.between = lambda command: None
        other.do(SetData("/a", inline(b"1")))
        server.drive(server.rules.sync())

    server.between = write
    assert server.data("/a") == b"1"
    assert server.data("/a") == b"1"


def test_several_paths_are_as_of_one_transaction_wherever_they_come_from(scene: Scene) -> None:
    """One is in memory; the other is read, and tells of a transaction that wrote both."""
    _, other, server = scene
    server.read("/a")
    other.do(Multi((SetData("/a", inline(b"1")), SetData("/b", inline(b"1")))))
    server.rules.note_applied(other.rules.seen)  # it is known to be in storage, and not met yet
    found = server.drive(server.rules.snapshot(["/a", "/b"]))
    assert [found[path].data for path in ("/a", "/b")] == [b"1", b"1"]


def test_one_s_own_writes_are_shown_at_once(scene: Scene) -> None:
    _, _, server = scene
    for value in (b"1", b"2"):
        for path in ("/a", "/b"):
            assert server.data(path) is not None
            server.session.do(SetData(path, inline(value)))
            assert server.data(path) == value


def test_memory_is_emptied_where_the_log_was_trimmed(scene: Scene) -> None:
    bare, other, server = scene
    assert server.data("/a") == b"0"
    after = bare.deployment.log.after
    other.do(SetData("/a", inline(b"1")))
    other.do(SetData("/b", inline(b"1")))
    bare.writer.idle()  # raises the mark

    def trimmed(txid: int, limit: int = 100) -> Any:
        entries, more = after(txid, limit)
        if txid < other.rules.seen:
            raise Trimmed(other.rules.seen)
        return entries, more

    perform = server.session.perform

    def performed(command: Command) -> Any:
        try:
            bare.deployment.log.after = trimmed  # type: ignore[method-assign]
            return perform(command)
        except Trimmed:
            return None
        finally:
            bare.deployment.log.after = after  # type: ignore[method-assign]

    server.session.perform = performed  # type: ignore[method-assign]
    server.drive(server.rules.sync())
    assert server.rules.seen == other.rules.seen
    assert len(server.rules.memory) == 0
    assert server.data("/a") == b"1"


def test_while_there_is_something_in_memory_no_gap_is_skipped(scene: Scene) -> None:
    _, other, server = scene
    assert not server.rules.watching
    server.read("/a")
    assert server.rules.watching
    other.do(SetData("/a", inline(b"1")))
    other.do(SetData("/b", inline(b"1")))
    assert server.data("/b") == b"1"  # its epoch begins after the write of /a
    assert server.data("/a") == b"1"


def test_a_watch_is_set_without_a_call_and_fires_for_the_next_change(scene: Scene) -> None:
    _, other, server = scene
    server.read("/a")
    server.asked.clear()
    assert server.watch("/a", "data") is not None
    assert server.watch("/a", "children") is not None
    assert server.asked == []
    other.do(SetData("/a", inline(b"1")))
    other.do(Create("/a/c", inline(b"")))
    assert server.fired == []
    server.follow()
    assert server.fired == [("NodeDataChanged", "/a"), ("NodeChildrenChanged", "/a")]


# ---- until when ----------------------------------------------------------------------------------


def test_memory_is_not_used_longer_than_it_says(scene: Scene) -> None:
    _, other, server = scene
    assert server.data("/a") == b"0"
    other.do(SetData("/a", inline(b"1")))
    server.now = WITHIN_S
    assert server.data("/a") == b"0"
    assert server.counts.late == 0
    server.now = WITHIN_S + 0.001
    assert server.data("/a") == b"1"
    assert server.counts.late > 0


def test_a_look_counts_from_its_beginning(scene: Scene) -> None:
    """What is committed while a look lasts may not be seen by it."""
    _, other, server = scene
    assert server.data("/a") == b"0"

    def slowly(command: Command) -> None:
        server.now += 3
        other.do(SetData("/a", inline(b"1")))

    server.between = slowly
    server.drive(server.rules.sync())
    server.between = lambda command: None
    assert server.rules.behind == 3
    assert server.data("/a") == b"1"


def test_an_earlier_look_that_ends_later_takes_nothing_back(scene: Scene) -> None:
    _, _, server = scene
    slow = server.rules.sync()
    command = slow.send(None)
    server.now = 1.0
    server.drive(server.rules.sync())
    with pytest.raises(StopIteration):
        slow.send(server.session.perform(command))
    assert server.rules.behind == 0


def test_a_look_that_fails_counts_for_nothing(scene: Scene) -> None:
    _, _, server = scene
    server.now = 1.0
    steps = server.rules.sync()
    steps.send(None)
    steps.close()  # as the shell does when a call fails
    assert server.rules.behind == 1.0


def test_the_mark_is_read_only_where_the_log_s_end_was_not_known_for_long(scene: Scene) -> None:
    bare, _, _ = scene
    server = Server(bare)
    server.drive(server.rules.sync())
    seen = server.rules.seen
    assert server.asked == [ReadLogEnd(seen, True), ReadMark()]
    server.asked.clear()
    server.now = 3600
    server.drive(server.rules.sync())
    assert server.asked == [ReadLogEnd(seen, False)]
    server.asked.clear()
    server.now = 7201
    server.drive(server.rules.sync())
    assert server.asked == [ReadLogEnd(seen, True), ReadMark()]


def test_what_is_wrong_with_following_is_logged_when_it_begins_and_when_it_ends(
    caplog: pytest.LogCaptureFixture,
) -> None:
    took: list[float | None] = [0.1, WITHIN_S + 1, WITHIN_S + 2, 0.1, None, None, WITHIN_S + 1, 0.1]
    """How long (s) each look takes; None: it fails."""
    clock = 0.0

    class Looks:
        async def perform(self, steps: object) -> None:
            nonlocal clock
            if not took:
                raise asyncio.CancelledError
            lasted = took.pop(0)
            clock += lasted or 0
            if lasted is None:
                raise Unavailable("no route")

    runner: Any = Looks()
    watches: Any = SimpleNamespace(rules=SimpleNamespace(sync=lambda: None))
    follower = Follower(runner, watches, Following(0.001), lambda: clock, ReadCounts())
    with pytest.raises(asyncio.CancelledError):
        asyncio.run(follower.keep())
    assert [each.getMessage() for each in caplog.records] == [
        "a look at the log took 2.2 s: reads went to storage meanwhile",
        "the log is followed again",
        "the log cannot be followed now, reads go to storage: no route",
        "the log is followed again",
    ]


# ---- how much ------------------------------------------------------------------------------------


def test_memory_is_bounded_and_keeps_what_was_read_last() -> None:
    memory = Memory(12_000)
    record = Record(1, None, bytes(1_000), [], 0, 1, "")
    for each in range(20):
        memory.put(f"/{each}", record)
        assert memory["/0"] is record
    assert memory.used <= 12_000
    assert [path for path in (f"/{each}" for each in range(20)) if path in memory] == [
        "/0",
        "/15",
        "/16",
        "/17",
        "/18",
        "/19",
    ]
    memory.put("/0", None)
    memory.drop("/19")
    memory.drop("/19")
    before = memory.used
    memory.put("/0", None)
    assert memory.used == before
    memory.put("/large", record._replace(data=bytes(50_000)))
    assert len(memory) == 1
    assert "/large" in memory
    memory.clear()
    assert (len(memory), memory.used) == (0, 0)


@pytest.mark.parametrize(
    ("acls", "size", "children"), [(0, 0, 0), (0, 1024, 0), (1, 100, 0), (20, 100, 0), (0, 0, 100)]
)
def test_the_bound_counts_what_records_take(acls: int, size: int, children: int) -> None:
    """Within a quarter: what an object takes depends on the interpreter."""
    memory = Memory(1 << 30)
    count = 500
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for each in range(10**9, 10**9 + count):
            acl = tuple((31, "digest", f"user{each}-{entry}:{'h' * 28}") for entry in range(acls))
            meta = Meta(each, each + 1, each + 2, each + 3, each + 4, each, each, length=size)
            encoded = codec.text(codec.meta(meta._replace(acl=acl or OPEN_ACL)))
            meta = codec.to_meta(codec.parse(encoded))
            names = [f"{each}-{name}" for name in range(children)]
            record = Record(
                each + 5, meta, bytes(size), names, each + 6, each + 7, f'[[{each},[["/a","S"]]]]'
            )
            memory.put(f"/app/some/path/{each}", record)
            del acl, encoded, meta, names, record
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert 0.8 < memory.used / taken < 1.25


# ---- servers -------------------------------------------------------------------------------------


class Gate:
    """Records that count who asks for them, and can be held."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self.asked: Counter[str] = Counter()
        self.open = threading.Event()
        self.open.set()
        self.failing = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def get_many(self, paths: Any) -> Any:
        self.asked.update(paths)
        assert self.open.wait(PATIENCE_S)
        if self.failing:
            self.failing -= 1
            raise Unavailable("the records cannot be read")
        return self._records.get_many(paths)


@pytest.fixture
def served(tmp_path: Path) -> Iterator[tuple[InThread, Gate]]:
    gates: list[Gate] = []

    def gated(connection: Connection) -> Connection:
        gates.append(Gate(connection.records))
        return replace(far(connection), records=gates[0])  # type: ignore[arg-type]

    server = InThread(tmp_path, gated, following=Following(0.02), commands=frozenset(("mntr", "conf")))
    yield server, gates[0]
    server.stop()
    while Raw.made:
        Raw.made.pop().close()


def get(client: Raw, path: str, watch: bool = False) -> bytes:
    error, body = client.ask(raw.GET, string(path) + bytes([watch]))
    assert error == 0
    return body.buffer()


def test_clients_that_read_one_path_at_once_have_it_read_once(served: tuple[InThread, Gate]) -> None:
    server, gate = served
    clients = [Raw(server.port) for _ in range(20)]
    clients[0].create("/hot", b"x")
    gate.asked.clear()
    gate.open.clear()
    sent = [client.send(raw.GET, string("/hot") + bytes([each % 2])) for each, client in enumerate(clients)]
    waiting = server.gateway.hub.runner._shared
    while sum(map(len, server.call(lambda: list(waiting.values())))) < len(clients):
        pass
    gate.open.set()
    for xid, client in zip(sent, clients, strict=True):
        got, _, error, body = client.next()
        assert (got, error, body.buffer()) == (xid, 0, b"x")
    assert gate.asked["/hot"] == 1
    clients[0].ask(raw.SET, string("/hot") + string(b"y") + number(-1))
    for each, client in enumerate(clients):
        client.ping()
        assert list(client.events) == ([(3, "/hot")] if each % 2 else [])


def test_a_look_that_fails_fails_for_who_asked_first_only(served: tuple[InThread, Gate]) -> None:
    server, gate = served
    first, second = Raw(server.port), Raw(server.port)
    first.create("/hot", b"x")
    gate.open.clear()
    gate.failing = 1
    waiting = server.gateway.hub.runner._shared
    for number_, client in enumerate((first, second)):
        client.send(raw.GET, string("/hot") + b"\0")
        while sum(map(len, server.call(lambda: list(waiting.values())))) <= number_:
            pass
    gate.open.set()
    with pytest.raises(raw.Closed):
        first.next()
    assert second.next()[3].buffer() == b"x"


def test_pipelined_reads_are_answered_in_their_order_from_memory_and_storage(
    served: tuple[InThread, Gate],
) -> None:
    """A path that none can have takes steps, which are those of the reads behind it, too."""
    server, gate = served
    client, other = Raw(server.port), Raw(server.port)
    for each in range(6):
        client.create(f"/{each}", b"%d" % each)
    for path in ("/0", "/2", "/3"):
        get(client, path)
    gate.asked.clear()
    for plan in (["/0", "bad", "/2", "/3"], ["/0", "/1", "/2", "bad", "/3", "/none", "/4", "/0", "/5"]):
        sent = [client.send(raw.GET, string(path) + b"\0") for path in plan]
        for path, xid in zip(plan, sent, strict=True):
            got, _, error, body = client.next()
            assert (got, error) == (xid, -101 if path in ("bad", "/none") else 0)
            if not error:
                assert body.buffer() == path[1:].encode()
    assert not gate.asked.keys() & {"/0", "/2", "/3"}
    assert get(other, "/5") == b"5"


def test_a_server_tells_how_far_behind_it_is_and_where_it_has_read(served: tuple[InThread, Gate]) -> None:
    server, _ = served
    client = Raw(server.port)
    client.create("/a", b"x")
    ends = time.monotonic() + PATIENCE_S
    while "zk_behind_ms" not in ask(server.port, "mntr") and time.monotonic() < ends:
        get(client, "/a")  # the first look at the log is not done yet
    for _ in range(3):
        get(client, "/a")
    rows = dict(line.split("\t") for line in ask(server.port, "mntr").splitlines())
    assert int(rows["zk_behind_ms"]) < 1000 * PATIENCE_S
    assert int(rows["zk_records_from_memory"]) >= 2
    assert int(rows["zk_records_from_storage"]) >= 1
    assert int(rows["zk_memory_bytes"]) > 0
    conf = dict(line.split("=") for line in ask(server.port, "conf").splitlines())
    assert (conf["reads"], conf["follow"]) == ("memory", "20")


def test_a_server_on_near_stores_follows_nothing(tmp_path: Path) -> None:
    server = InThread(tmp_path, following=Following(), commands=frozenset(("conf",)))
    assert server.gateway.hub.follower is None
    assert "reads=storage" in ask(server.port, "conf")
    server.stop()


def test_a_list_that_shrinks_while_it_is_read_is_as_of_what_is_seen() -> None:
    """The record of the list is put before its last page goes: a read between both waits for nothing."""
    bare = Bare(limits=Limits(page_names=2))
    other, server = bare.session("other"), Server(bare)
    other.do(Create("/l", inline(b"")))
    for each in range(6):
        other.do(Create(f"/l/{each}", inline(b"")))
    server.follow()
    records = bare.deployment.records
    put, steps, perform = records.put, server.rules.snapshot(["/l"], ["/l"]), server.session.perform
    told: list[Any] = [next(steps)]
    told.append(steps.send(perform(told[0])))
    old = perform(told[1])

    def go_on(answer: Any) -> None:
        try:
            told.append(steps.send(answer))
        except StopIteration:
            told.append(None)

    def between(path: str, record: Record, *more: Any) -> Any:
        if "//" in path and record.meta is None and len(told) == 2:
            server.follow()
            go_on(old)
            for _ in range(2):
                if told[-1] is not None and not isinstance(told[-1], Await):
                    go_on(perform(told[-1]))
        return put(path, record, *more)

    records.put = between  # type: ignore[method-assign]
    deleted = 0
    while len(told) == 2:
        other.do(Delete(f"/l/{deleted}"))
        deleted += 1
        if len(told) == 2:
            server.follow()
            steps = server.rules.snapshot(["/l"], ["/l"])
            told = [next(steps)]
            told.append(steps.send(perform(told[0])))
            old = perform(told[1])
    records.put = put  # type: ignore[method-assign]
    other.do(Create("/l/x", inline(b"")))
    server.follow()
    while told[-1] is not None:
        go_on(None if isinstance(told[-1], Await) else perform(told[-1]))
    left = sorted([*map(str, range(deleted, 6)), "x"])
    assert names_of("/l", server.drive(server.rules.snapshot(["/l"], ["/l"]))) == left
