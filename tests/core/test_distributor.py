"""User storage as the distributor leaves it, whoever else writes to it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from faaskeeper.core import paths
from faaskeeper.core.answers import wake_up
from faaskeeper.core.distribution import DistributorFunction
from faaskeeper.core.distributor import Distributor
from faaskeeper.core.drivers.storage import Check, Condition, Item, in_any_case, in_turn
from faaskeeper.core.errors import Code, StaleView
from faaskeeper.core.records import ObjectRecords, Record, TableRecords
from faaskeeper.core.requests import Close, Create, Delete, Multi, SetData, inline
from faaskeeper.core.sessions import CLOSED_KEPT_MS, Session, Sessions
from faaskeeper.core.transactions import Limits
from faaskeeper.core.view import load
from faaskeeper.core.writer import Writer, order
from faaskeeper.core.znode import genesis
from faaskeeper.providers.local.objects import DirectoryStore
from faaskeeper.providers.memory import MemoryTable
from tests.bare import Bare, BareSession


def create(path: str, value: bytes = b"") -> Create:
    return Create(path, inline(value))


def history(session: BareSession, seed: int, steps: int) -> None:
    """Random creates, sets, deletes and multis over a few paths, several at a time."""
    dice = random.Random(seed)
    names = ["/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/1"]
    for _ in range(steps):
        operations: list[Any] = []
        for _ in range(dice.randint(1, 4)):
            path = dice.choice(names)
            value = dice.randbytes(3)
            operations.append(dice.choice([create(path, value), SetData(path, inline(value)), Delete(path)]))
        if dice.random() < 0.3:
            session.ask(Multi(tuple(operations)))
        else:
            for operation in operations:
                session.ask(operation)
        if dice.random() < 0.7:
            session.bare.pump()
            session.receive()
    session.bare.pump()
    session.receive()


def tree(bare: Bare) -> dict[str, tuple[Any, bytes, list[str]]]:
    """Every znode that can be reached from the root."""
    found: dict[str, tuple[Any, bytes, list[str]]] = {}
    level = ["/"]
    while level:
        path = level.pop()
        record = bare.deployment.records.get(path)
        assert record is not None, path
        assert record.meta is not None, path
        assert record.meta.children == len(record.children)
        found[path] = (record.meta, record.data, record.children)
        level.extend(paths.child(path, name) for name in record.children)
    return found


@pytest.mark.parametrize("seed", range(20))
def test_the_tree_is_the_same_whatever_is_batched_and_whoever_distributes(seed: int) -> None:
    trees = []
    for own in (False, True):
        bare = Bare(own_distributor=own)
        history(bare.session(), seed, 60)
        trees.append(tree(bare))
    assert trees[0] == trees[1]


@pytest.mark.parametrize("seed", range(10))
def test_replaying_any_part_of_the_log_again_changes_nothing(seed: int) -> None:
    bare = Bare()
    history(bare.session(), seed, 60)
    before = {key: dict(items) for key, items in bare.tables["records"]._items.items()}  # type: ignore[attr-defined]
    dice = random.Random(seed)
    log = bare.deployment.log.after(0, 1000)[0]
    for _ in range(5):
        start = dice.randrange(len(log))
        view = load(bare.deployment.log, bare.deployment.checkpoints, bare.clock)
        view.pending = log[start:]
        distributor = Distributor(bare.deployment)
        groups = distributor.settle(view, bare.clock())
        distributor.finish(groups, view)
    assert before == bare.tables["records"]._items  # type: ignore[attr-defined]


def test_a_distributor_that_slept_does_not_bring_the_tree_back() -> None:
    bare = Bare(own_distributor=True)
    session = bare.session()
    slow = DistributorFunction(bare.deployment)
    slow.handle([wake_up(None, 0, ())])
    for number in range(20):
        session.do(create(f"/n{number}"))
        session.do(SetData(f"/n{number}", inline(b"new")))
    before = tree(bare)
    slow.handle([wake_up(None, 0, ())])
    assert tree(bare) == before


def test_data_set_while_a_znode_had_no_children_is_kept_when_it_has_some_again() -> None:
    bare = Bare()
    session = bare.session()
    for operation in (
        create("/p", b"old"),
        create("/p/1"),
        Delete("/p/1"),
        SetData("/p", inline(b"new")),
        create("/p/2"),
    ):
        session.do(operation)
    record = session.read("/p")
    assert record is not None
    assert (record.data, record.children) == (b"new", ["2"])


def test_a_checkpoint_that_stands_below_the_mark_is_no_reason_to_apply_again() -> None:
    bare = Bare()
    session = bare.session()
    session.do(create("/p", b"1"))
    bare.deployment.checkpoints.mark(2)  # saved, and then the process died
    bare.recycle()
    session.do(SetData("/p", inline(b"2")))
    record = session.read("/p")
    assert record is not None
    assert record.data == b"2"


def test_what_a_distributor_remembers_goes_with_its_view() -> None:
    bare = Bare()
    session = bare.session()
    session.do(create("/p", b"old"))
    session.do(create("/p/1"))
    first, bare.writer = bare.writer, Writer(bare.deployment)
    session.do(SetData("/p", inline(b"new")))
    session.do(create("/p/2"))
    bare.writer.idle()
    first._view = None  # as after an exception
    bare.writer = first
    session.do(create("/p/3"))
    record = session.read("/p")
    assert record is not None
    assert (record.data, record.children) == (b"new", ["1", "2", "3"])


def test_a_delete_leaves_a_tombstone_also_for_what_was_created_in_the_same_batch() -> None:
    bare = Bare()
    session = bare.session()
    session.ask(create("/n"))
    session.ask(Delete("/n"))
    bare.pump()
    session.receive()
    record = bare.deployment.records.get("/n")
    assert record is not None
    assert record.meta is None
    assert record.txid == 3


def test_every_record_of_a_group_carries_its_end_and_all_that_it_wrote() -> None:
    bare = Bare()
    session = bare.session()
    session.ask(create("/a", b"1"))
    session.ask(SetData("/a", inline(b"2")))
    session.ask(create("/a/b"))
    bare.pump()
    session.receive()
    for path in ("/", "/a", "/a/b"):
        record = bare.deployment.records.get(path)
        assert record is not None
        epoch = record.epoch()
        assert (epoch.floor, epoch.upto) == (1, 4)
        assert epoch.recent == (
            (2, (("/a", "C"), ("/", "K"))),
            (3, (("/a", "S"),)),
            (4, (("/a/b", "C"), ("/a", "K"))),
        )


def test_an_epoch_that_would_be_too_big_names_the_log() -> None:
    bare = Bare()
    session = bare.session()
    for number in range(100):
        session.ask(create(f"/n{number}"))
    bare.pump()
    session.receive()
    record = bare.deployment.records.get("/n7")
    assert record is not None
    assert record.epoch().recent is None


def test_the_mark_never_passes_what_is_not_applied() -> None:
    bare = Bare()
    session = bare.session()
    for number in range(300):
        session.do(create(f"/n{number}"))
        applied = bare.deployment.checkpoints.applied()
        assert applied <= number + 2
    assert applied > 200
    bare.writer.idle()
    assert bare.deployment.checkpoints.applied() == 301


def test_object_storage_holds_the_same_records_as_a_table(tmp_path: Any) -> None:
    store = DirectoryStore(tmp_path)
    objects = Bare(records=lambda table: ObjectRecords(store, in_turn))
    table = Bare(records=TableRecords)
    for bare in (objects, table):
        history(bare.session(), 3, 80)
    assert tree(objects) == tree(table)


def test_object_storage_keeps_the_newer_of_two_records_whoever_comes_last(tmp_path: Any) -> None:
    store = DirectoryStore(tmp_path)
    one, two = ObjectRecords(store, in_turn), ObjectRecords(store, in_turn)
    newest = 0
    for txid, records in ((1, one), (3, two), (2, one), (3, one), (4, two), (5, one), (4, two)):
        written = records.put("/a", Record(txid, None, b"", [], 0, txid, "[]"))
        assert written == (txid > newest)
        newest = max(newest, txid)
        found = one.get("/a")
        assert found is not None
        assert found.txid == newest


@pytest.mark.parametrize("storage", ["objects", "items in parts"])
def test_a_stall_between_the_calls_of_one_put_writes_nothing(tmp_path: Any, storage: str) -> None:
    """A tombstone may have lapsed meanwhile, and an older record would bring the znode back."""

    def late() -> None:
        raise StaleView("too late")

    store, table = DirectoryStore(tmp_path), MemoryTable(1000)
    records = ObjectRecords(store, in_turn) if storage == "objects" else TableRecords(table)
    large = Record(1, genesis()["/"][0], b"x" * 2000, [], 0, 1, "[]")
    with pytest.raises(StaleView):
        records.put("/a", large, late)
    assert records.get("/a") is None


def test_who_was_stalled_for_hours_writes_nothing_more() -> None:
    """A tombstone may have lapsed meanwhile, and an older record would bring the znode back."""
    bare = Bare()
    session = bare.session()
    session.do(create("/n"))
    stalled = load(bare.deployment.log, bare.deployment.checkpoints, bare.clock)
    stalled.pending = bare.deployment.log.after(0)[0]
    began = bare.clock()
    session.do(Delete("/n"))
    bare.writer.idle()
    bare.heartbeat.sweep()
    bare.days(2)
    assert bare.deployment.records.get("/n") is None
    with pytest.raises(StaleView, match="suspended for hours"):
        Distributor(bare.deployment).settle(stalled, began)
    assert bare.deployment.records.get("/n") is None


def test_a_view_that_was_loaded_days_ago_and_confirmed_now_brings_nothing_back() -> None:
    """A call that had nothing to decide ended with it; the next one must not apply what is pending."""
    bare = Bare()
    session = bare.session()
    session.do(create("/n"))
    get = bare.deployment.checkpoints.applied
    applied = get()
    session.do(Delete("/n"))
    bare.writer.idle()
    bare.heartbeat.sweep()

    def early() -> int:
        """The mark from before the create; the caller goes on days later."""
        bare.deployment.checkpoints.applied = get  # type: ignore[method-assign]
        bare.days(2)
        return applied

    bare.deployment.checkpoints.applied = early  # type: ignore[method-assign]
    stalled = load(bare.deployment.log, bare.deployment.checkpoints, bare.clock)
    assert stalled.pending
    assert stalled.valid(bare.clock())
    with pytest.raises(StaleView, match="suspended for hours"):
        Distributor(bare.deployment).settle(stalled, bare.clock())
    assert bare.deployment.records.get("/n") is None


def test_who_was_stalled_for_hours_saves_no_session_that_may_be_forgotten() -> None:
    bare = Bare()
    session = bare.session()
    bare.writer.idle()
    stalled = load(bare.deployment.log, bare.deployment.checkpoints, bare.clock)
    stalled.sessions.changed.add(session.id)
    header = stalled.header()
    session.do(Close())
    bare.writer.idle()
    bare.clock.now += CLOSED_KEPT_MS + 1
    bare.session("later")
    bare.writer.idle()
    assert len(bare.tables["checkpoint"].query("session", "", 10).items) == 1
    with pytest.raises(StaleView, match="half a day"):
        bare.deployment.checkpoints.save(header, stalled.sessions, bare.clock)
    assert len(bare.tables["checkpoint"].query("session", "", 10).items) == 1


class Noting(TableRecords):
    """Records that note which znodes were put."""

    def __init__(self, table: Any) -> None:
        super().__init__(table)
        self.put_there: list[str] = []

    def put(self, path: str, record: Record, check: Check = in_any_case) -> bool:
        done = super().put(path, record, check)
        if done and record.meta is not None:
            self.put_there.append(path)
        return done


@pytest.mark.parametrize("own", [False, True])
def test_who_was_idle_for_days_does_not_bring_back_what_others_applied_and_deleted(own: bool) -> None:
    """Not for a moment: the tombstone that would have refused the record has lapsed."""
    bare = Bare(own_distributor=own, records=Noting)
    session = bare.session()
    session.do(create("/a"))
    idle: Any = bare.distributor if own else bare.writer
    bare.recycle()
    session.do(create("/gone"))
    for number in range(20):  # so that creation and deletion are not in one group
        session.do(SetData("/a", inline(b"%d" % number)))
    session.do(Delete("/gone"))
    (bare.distributor if own else bare.writer).idle()
    bare.heartbeat.sweep()
    bare.days(4)
    assert bare.deployment.records.get("/gone") is None, "its tombstone has lapsed"
    records: Any = bare.deployment.records
    records.put_there.clear()
    idle.handle([wake_up(None, 0, ())] if own else [order(bare.deployment)])
    assert "/gone" not in records.put_there


class Granting(MemoryTable):
    """A table that notes which leases were put into it."""

    def __init__(self) -> None:
        super().__init__()
        self.leased: list[str] = []

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        super().put(partition, key, item, condition)
        if partition == "lease":
            self.leased.append(key)


@pytest.mark.parametrize("late", ["a wake-up", "a process"])
def test_the_lease_of_a_session_that_has_ended_is_not_granted_again(late: str) -> None:
    """Not for a moment: whoever opened the session would renew it."""
    bare = Bare(own_distributor=True, table=lambda name: Granting())
    table: Any = bare.tables["lease"]
    queue: Any = bare.distributor_queue
    bare.session("other")
    idle = bare.distributor
    bare.recycle()
    delayed: list[bytes] = []
    pump = bare.distributor.handle

    def noting(bodies: Any) -> None:
        delayed.extend(bodies)
        pump(bodies)

    bare.distributor.handle = noting  # type: ignore[method-assign]
    session = bare.session()
    session.do(Close())
    assert bare.deployment.leases.get(session.id) is None
    assert not queue.held
    table.leased.clear()
    idle.handle(delayed[:1] if late == "a wake-up" else [wake_up(None, 0, ())])
    assert table.leased == []


def test_a_session_has_ended_when_nothing_is_left_of_it() -> None:
    """Until then it has a lease, by which heartbeat finds the rest."""
    sessions, session = Sessions(), Session(7, "nonce", b"", 10_000)
    sessions.add(session)
    assert sessions.ended(8)
    assert not sessions.ended(7)
    session.closed = 1
    session.ephemerals.add("/mine")
    assert not sessions.ended(7)
    session.ephemerals.clear()
    assert sessions.ended(7)


@pytest.mark.parametrize("kept", range(8))
def test_a_name_that_another_writer_moved_to_another_page_is_not_taken_for_absent(kept: int) -> None:
    """The writer has pages at hand from before; where the name lies now follows from what is pending."""
    bare = Bare(limits=Limits(page_names=1))
    bare.deployment.max_nodes = 3
    bare.recycle()
    session = bare.session()
    session.do(Create("/p", inline(b"")))
    names = [f"/p/c{number}" for number in range(8)]
    for path in names:
        session.do(Create(path, inline(b"")))
    for path in ("/x", "/y", "/z"):  # so that the view forgets /p and its children, and not their names
        session.do(Create(path, inline(b"")))
    mine, bare.writer = bare.writer, Writer(bare.deployment)
    for path in names:
        if path != names[kept]:
            assert session.do(Delete(path)).code is Code.OK
    bare.writer = mine
    assert session.do(Delete(names[kept])).code is Code.OK
