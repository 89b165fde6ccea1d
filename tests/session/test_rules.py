"""The reading rules, over storage that a distributor is in the middle of writing.

Each test stops a distributor at a chosen point and reads then; the rule's name is in the test's.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from faaskeeper.core.drivers.storage import Check
from faaskeeper.core.log import Trimmed
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Create, Delete, Epoch, Multi, SetData, inline
from faaskeeper.core.transactions import Limits
from faaskeeper.session.commands import Await, PutWatch, ReadLog, ReadMark, ReadRecord
from faaskeeper.session.rules import Rules, names_of
from tests.bare import Bare, BareSession


class Halting:
    """Keeps writes of user storage back, path by path, until they are let through."""

    def __init__(self, bare: Bare) -> None:
        self.bare = bare
        self.put = bare.deployment.records.put
        self.held: dict[str, Any] = {}
        self.hold: set[str] = set()
        bare.deployment.records.put = self._put  # type: ignore[method-assign]

    def _put(self, path: str, record: Record, *check: Check) -> bool:
        if path in self.hold:
            self.held[path] = partial(self.put, path, record)
            return True
        return self.put(path, record, *check)

    def release(self) -> None:
        self.hold = set()
        for put in self.held.values():
            put()
        self.held.clear()


def create(path: str, value: bytes = b"") -> Create:
    return Create(path, inline(value))


def bring(bare: Bare, session: BareSession, *operations: Any) -> None:
    """Commit operations in one batch; what they wrote may be held back, their answers are not read."""
    for operation in operations:
        session.ask(operation)
    bare.pump()
    bare.mail.boxes[session.name].clear()


@pytest.fixture
def scene() -> tuple[Bare, BareSession, BareSession, Halting]:
    bare = Bare()
    writer, reader = bare.session("writer"), bare.session("reader")
    writer.do(Multi((create("/a", b"0"), create("/b", b"0"))))
    reader.read("/")
    return bare, writer, reader, Halting(bare)


def awaited(session: BareSession, path: str) -> int:
    """Read; returns the transaction that the rules wait for instead of answering."""
    steps = session.rules.read(path)
    answer: Any = None
    while True:
        try:
            command = steps.send(answer)
        except StopIteration:
            return 0
        if isinstance(command, Await):
            steps.close()
            return command.txid
        answer = session.perform(command)


def test_a_record_older_than_what_was_seen_is_not_shown(scene: Any) -> None:
    bare, writer, reader, halting = scene
    halting.hold = {"/a"}
    bring(bare, writer, Multi((SetData("/a", inline(b"1")), SetData("/b", inline(b"1")))))
    assert reader.read("/a").data == b"0"  # nothing of the transaction was seen yet
    assert reader.read("/b").data == b"1"
    assert awaited(reader, "/a") == reader.rules.seen
    halting.release()
    assert reader.read("/a").data == b"1"


def test_absent_counts_as_older_than_a_creation_that_was_seen(scene: Any) -> None:
    bare, writer, reader, halting = scene
    halting.hold = {"/a/new"}
    bring(bare, writer, create("/a/new"), SetData("/b", inline(b"1")))
    assert reader.read("/b").data == b"1"
    assert awaited(reader, "/a/new") > 0
    halting.release()
    assert reader.read("/a/new") is not None


def test_a_watch_of_what_was_never_there_counts_from_the_mark(scene: Any) -> None:
    """Something may have been created and deleted so long ago that even its tombstone is gone."""
    bare, writer, reader, _ = scene
    bring(bare, writer, create("/a/c"), Delete("/a/c"))
    bare.writer.idle()  # the mark passes the tombstone, so that it may lapse
    bare.tables["records"].delete("/a/c", "node")
    assert reader.watch("/a/c", "exists") is None
    bring(bare, writer, SetData("/b", inline(b"1")))
    reader.read("/b")
    assert reader.fired == []
    bring(bare, writer, create("/a/c"))
    reader.read("/a/c")
    assert [str(event.event_type) for event in reader.fired] == ["NodeCreated"]


def test_a_write_of_which_one_s_own_reply_told_is_shown_by_every_later_read(scene: Any) -> None:
    _, writer, _, _ = scene
    for number in range(5):
        writer.do(SetData("/a", inline(b"%d" % number)))
        assert writer.read("/a").data == b"%d" % number


def test_events_of_all_transactions_met_come_before_the_state(scene: Any) -> None:
    bare, writer, reader, _ = scene
    reader.watch("/a", "data")
    reader.watch("/b", "data")
    for number in range(3):
        bring(bare, writer, SetData("/a", inline(b"%d" % number)))
    bring(bare, writer, SetData("/b", inline(b"x")))
    bare.mail.boxes["reader"].clear()  # no notification arrived
    reader.fired.clear()
    record = reader.read("/b")
    assert record.data == b"x"
    assert [event.path for event in reader.fired] == ["/a", "/b"]


def test_what_sync_saw_in_the_log_is_not_taken_for_applied(scene: Any) -> None:
    bare, writer, reader, halting = scene
    halting.hold = {"/a"}
    bring(bare, writer, SetData("/a", inline(b"1")))
    reader.drive(reader.rules.sync())
    bring(bare, writer, SetData("/b", inline(b"1")))
    reader.drive(reader.rules.sync())
    assert awaited(reader, "/a") > 0
    halting.release()
    assert reader.read("/a").data == b"1"


def test_the_log_is_read_only_by_sessions_that_hold_watches(scene: Any) -> None:
    bare, writer, reader, _ = scene
    for number in range(3):
        bring(bare, writer, SetData("/a", inline(b"%d" % number)))
    read: list[ReadLog] = []
    perform = reader.perform

    def noting(command: Any) -> Any:
        if isinstance(command, ReadLog):
            read.append(command)
        return perform(command)

    reader.perform = noting
    reader.read("/a")
    assert read == []
    reader.watch("/b", "data")
    for number in range(3):
        bring(bare, writer, SetData("/a", inline(b"%d" % number)))
    reader.read("/a")
    assert len(read) == 1


def test_a_read_that_began_before_something_newer_was_seen_is_repeated(scene: Any) -> None:
    _, writer, reader, _ = scene
    steps = reader.rules.read("/a")
    command = next(steps)
    assert command == ReadRecord("/a")
    old = reader.perform(command)
    writer.do(Multi((SetData("/a", inline(b"1")), SetData("/b", inline(b"1")))))
    assert reader.read("/b").data == b"1"  # another thread of the same client
    again = steps.send(old)
    assert again == ReadRecord("/a")
    with pytest.raises(StopIteration) as done:
        steps.send(reader.perform(again))
    assert done.value.value.data == b"1"


def test_a_change_between_the_two_reads_of_a_registration_is_not_missed(scene: Any) -> None:
    bare, writer, reader, _ = scene
    events: list[Any] = []
    steps = reader.rules.watch("/a", "data", events.append)
    answer: Any = None
    reads = 0
    while True:
        try:
            command = steps.send(answer)
        except StopIteration as done:
            record = done.value
            break
        if isinstance(command, ReadRecord) and command.path == "/a":
            reads += 1
            if reads == 2:
                bring(bare, writer, SetData("/a", inline(b"between")))
        answer = reader.perform(command)
    assert record.data == b"between"
    assert events == []
    bring(bare, writer, SetData("/a", inline(b"after")))
    reader.receive()
    assert [event.path for event in events] == ["/a"]


def test_a_creation_and_deletion_between_the_reads_of_an_exists_watch_is_noticed(scene: Any) -> None:
    bare, writer, reader, _ = scene
    events: list[Any] = []
    steps = reader.rules.watch("/new", "exists", events.append)
    answer: Any = None
    asked: list[Any] = []
    while True:
        try:
            command = steps.send(answer)
        except StopIteration:
            break
        if isinstance(command, ReadRecord) and command.path == "/new":
            asked.append(command)
            if len(asked) == 2:
                bring(bare, writer, create("/new"), Delete("/new"))
        answer = reader.perform(command)
    assert len(asked) >= 3  # it read, and registered, once more
    bring(bare, writer, create("/new"))
    reader.receive()
    assert [str(event.event_type) for event in events] == ["NodeCreated"]


def test_a_notification_that_comes_twice_or_late_fires_nothing_twice(scene: Any) -> None:
    bare, writer, reader, _ = scene
    reader.watch("/a", "data")
    bring(bare, writer, SetData("/a", inline(b"1")))
    told = list(bare.mail.boxes["reader"])
    reader.receive()
    assert len(reader.fired) == 1
    reader.watch("/a", "data")
    bare.mail.boxes["reader"] = told * 2
    reader.receive()
    assert len(reader.fired) == 1


def test_without_any_notification_the_mark_tells_what_was_missed(scene: Any) -> None:
    bare, writer, reader, _ = scene
    reader.watch("/a", "data")
    bring(bare, writer, SetData("/a", inline(b"1")))
    bare.mail.boxes["reader"].clear()
    bare.writer.idle()
    mark = bare.deployment.checkpoints.applied()
    reader.drive(reader.rules.meet(Epoch(mark, mark, ()), settled=True))
    assert [event.path for event in reader.fired] == ["/a"]


@pytest.mark.parametrize(
    ("kind", "change", "event"),
    [
        ("data", SetData("/a", inline(b"1")), "NodeDataChanged"),
        ("data", Delete("/a"), "NodeDeleted"),
        ("exists", Delete("/a"), "NodeDeleted"),
        ("children", create("/a/c"), "NodeChildrenChanged"),
        ("children", Delete("/a"), "NodeDeleted"),
    ],
)
def test_when_the_log_between_was_trimmed_the_watched_znodes_are_looked_at(
    scene: Any, kind: str, change: Any, event: str
) -> None:
    bare, writer, reader, _ = scene
    reader.watch("/a", kind)
    reader.watch("/b", "data")
    bring(bare, writer, change)
    bring(bare, writer, create("/later"))
    bare.mail.boxes["reader"].clear()
    bare.writer.idle()
    bare.deployment.log.trim(bare.deployment.log.after(0)[0])
    perform = reader.perform

    def trimmed(command: Any) -> Any:
        try:
            return None if isinstance(command, ReadLog) else perform(command)
        except Trimmed:
            return None

    reader.perform = trimmed
    reader.read("/later")
    assert [(str(each.event_type), each.path) for each in reader.fired] == [(event, "/a")]


def test_two_watches_with_one_callback_are_told_an_event_once() -> None:
    told: list[Any] = []
    rules = Rules(5, lambda callback, event: callback(event))
    for kind in ("data", "exists"):
        steps = rules.watch("/a", kind, told.append)
        answer: Any = None
        record = Record(3, Create("/a", inline(b"")) and _meta(), b"", [], 2, 3, "[]")
        try:
            while True:
                command = steps.send(answer)
                answer = record if isinstance(command, ReadRecord) else None
        except StopIteration:
            pass
    for _ in rules.meet(Epoch(5, 6, ((6, (("/a", "S"),)),)), settled=True):
        pass
    assert len(told) == 1


def _meta() -> Any:
    from faaskeeper.core.znode import Meta

    return Meta(3, 3, 3, 0, 0)


# ---- several paths as of one transaction -----------------------------------------------------


def stepwise(session: BareSession, steps: Any, between: dict[int, Any]) -> Any:
    """Perform steps; before the command of a number, something happens."""
    answer: Any = None
    for number in range(100):
        try:
            command = steps.send(answer)
        except StopIteration as done:
            return done.value
        if isinstance(command, Await):
            raise AssertionError(f"waits for {command.txid}")
        answer = session.perform(command)
        between.get(number, lambda: None)()
    raise AssertionError("no end")


def test_what_was_read_before_a_write_that_is_met_is_read_again(scene: Any) -> None:
    bare, writer, reader, _ = scene

    class Between:
        """The second read of a batch comes after a transaction that wrote both paths."""

        def get_many(self, paths: Any) -> list[Record | None]:
            one = get(paths[0])
            bring(bare, writer, Multi((SetData("/a", inline(b"1")), SetData("/b", inline(b"1")))))
            bare.deployment.records.get_many = get_many  # type: ignore[method-assign]
            return [one, *(get(path) for path in paths[1:])]

    get, get_many = bare.deployment.records.get, bare.deployment.records.get_many
    bare.deployment.records.get_many = Between().get_many  # type: ignore[method-assign]
    found = reader.drive(reader.rules.snapshot(["/a", "/b"]))
    assert [found[path].data for path in ("/a", "/b")] == [b"1", b"1"]
    assert reader.rules.seen == found["/a"].upto


def test_what_must_not_be_shown_older_stays_so_when_the_mark_is_raised_meanwhile(scene: Any) -> None:
    bare, writer, reader, halting = scene
    halting.hold = {"/a"}
    bring(bare, writer, SetData("/a", inline(b"1")))
    reader.drive(reader.rules.sync())  # the write is met, and not in user storage yet

    def applied() -> None:
        halting.release()
        bare.writer.idle()

    # The mark is looked at for the sake of the path that is not there, after /a was read too early.
    found = stepwise(reader, reader.rules.snapshot(["/a", "/none"]), {0: applied})
    assert found["/a"].data == b"1"
    assert found["/none"] is None


def test_absent_among_several_paths_is_as_of_the_same_transaction(scene: Any) -> None:
    bare, writer, reader, _ = scene
    seen = reader.rules.seen
    gone = writer.do(Multi((Delete("/b"), SetData("/a", inline(b"without b"))))).txid
    bare.writer.idle()
    bare.deployment.records.lapse("/b", gone)  # a day later
    assert reader.rules.seen == seen
    found = reader.drive(reader.rules.snapshot(["/b", "/a"]))
    assert found["/b"] is None
    assert found["/a"].data == b"without b"
    reader.drive(reader.rules.snapshot(["/none"]))
    assert reader.rules.seen >= gone


def test_pages_that_belong_to_a_list_are_found_again_when_their_number_changes() -> None:
    bare = Bare(limits=Limits(page_names=2))
    writer, reader = bare.session("writer"), bare.session("reader")
    writer.do(create("/p"))
    for number in range(5):
        writer.do(create(f"/p/c{number}"))
    more = {0: lambda: bring(bare, writer, *(create(f"/p/d{number}") for number in range(9)))}
    found = stepwise(reader, reader.rules.snapshot(["/p"], ["/p"]), more)
    assert names_of("/p", found) == [f"c{n}" for n in range(5)] + [f"d{n}" for n in range(9)]
    record = found["/p"]
    assert record is not None
    assert record.meta is not None
    assert len(found) == 1 + record.meta.pages


def test_a_page_that_was_to_be_read_again_and_is_gone_is_left_out() -> None:
    bare = Bare(limits=Limits(page_names=2))
    writer, reader = bare.session("writer"), bare.session("reader")
    writer.do(create("/p"))
    for number in range(11):
        writer.do(create(f"/p/c{number:02}"))

    def shorten(left: int) -> None:
        there = reader.bare.deployment.records.get("/p")
        assert there is not None
        assert there.meta is not None
        gone = range(left, there.meta.children)
        writer.do(Multi(tuple(Delete(f"/p/c{number:02}") for number in gone)))

    steps = reader.rules.snapshot(["/p"], ["/p"])
    found = stepwise(reader, steps, {0: lambda: shorten(5), 2: lambda: shorten(2)})
    assert names_of("/p", found) == ["c00", "c01"]


# ---- watches that stay -----------------------------------------------------------------------


def test_a_watch_that_stays_counts_from_when_it_is_asked_for(scene: Any) -> None:
    _, writer, reader, _ = scene
    change = {0: lambda: writer.do(SetData("/a", inline(b"1")))}  # before its row is there
    stepwise(reader, reader.rules.add_watch("/a", "persistent", reader.fired.append), change)
    reader.read("/a")
    assert [event.path for event in reader.fired] == ["/a"]


def test_a_recursive_watch_is_told_to_look_when_the_log_between_was_trimmed(scene: Any) -> None:
    bare, writer, reader, _ = scene
    reader.drive(reader.rules.add_watch("/a", "recursive", reader.fired.append))
    reader.drive(reader.rules.add_watch("/b", "persistent", reader.fired.append))
    writer.do(create("/a/x"))
    writer.do(SetData("/b", inline(b"1")))
    writer.do(create("/b/y"))
    bare.mail.boxes["reader"].clear()
    perform = reader.perform
    reader.perform = lambda command: None if isinstance(command, ReadLog) else perform(command)  # type: ignore[method-assign]
    mark = writer.rules.seen
    reader.drive(reader.rules.meet(Epoch(mark, mark, ()), settled=True))
    told = [(str(event.event_type), event.path) for event in reader.fired]
    assert told == [
        ("NodeChildrenChanged", "/a"),
        ("NodeDataChanged", "/b"),
        ("NodeChildrenChanged", "/b"),
    ]


def test_an_exists_watch_of_a_path_without_a_record_counts_from_the_mark_not_from_what_was_seen() -> None:
    """Its tombstone may have lapsed; a deletion before that must not fire it."""
    rules = Rules(3, lambda callback, event: None)
    steps = rules.watch("/a", "exists", lambda event: None)
    assert steps.send(None) == ReadRecord("/a")
    assert steps.send(None) == ReadMark()
    assert steps.send(7) == ReadLog(3, 7)
    put = steps.send([])
    assert isinstance(put, PutWatch)
    assert put.stamp == 7
