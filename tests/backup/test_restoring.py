"""A restored deployment is the backup and nothing else, whoever writes late and wherever it was cut off."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.backup.file import Backup
from faaskeeper.backup.restoring import base_of, examine, restore
from faaskeeper.core.drivers.storage import Condition, Item
from faaskeeper.core.errors import Code, Denied, Restoring, Unavailable
from faaskeeper.core.requests import NO_DATA, Close, Create, Delete, SetAcl, SetData, inline
from faaskeeper.core.transactions import Limits
from faaskeeper.core.view import load
from faaskeeper.core.writer import Writer, order
from faaskeeper.core.znode import CONTAINER, genesis
from faaskeeper.providers.local.objects import DirectoryStore
from faaskeeper.providers.memory import MemoryTable
from tests.backup.trees import backup_of, blob, of_backup, plain, source_of, stored, target_of
from tests.bare import Bare

SMALL = Limits(inline_bytes=100, page_names=4)
"""Data above 100 bytes is a blob, lists above four names are in pages."""
HOUR_MS = 3600 * 1000


def create(path: str, value: bytes = b"", **more: Any) -> Create:
    return Create(path, inline(value), **more)


def bare_of(folder: Path, **options: Any) -> Bare:
    return Bare(blobs=DirectoryStore(folder), limits=SMALL, expiring=False, **options)


def fill(bare: Bare) -> None:
    """One of everything, and what is left of things."""
    session = bare.session()
    session.do(create("/a", b"text"))
    session.do(create("/a/b", bytes(range(90))))
    for number in range(3):
        session.do(SetData("/a/b", inline(b"%d" % number)))
    for _ in range(11):
        session.do(Create("/a/s-", inline(b""), sequential=True))
    session.do(Delete("/a/s-0000000001"))
    session.do(create("/container", ttl=CONTAINER))
    session.do(create("/container/child"))
    session.do(create("/ttl", ttl=HOUR_MS))
    session.do(SetAcl("/a", ((31, "world", "anyone"), (1, "digest", "u:p"))))
    session.do(create("/lock"))
    for _ in range(5):
        session.do(Create("/lock/l-", inline(b"mine"), ephemeral=True, sequential=True))
    session.do(create("/zookeeper/quota/a"))
    session.do(Create("/none", NO_DATA))
    blob(bare, session, "/blob", bytes(range(256)) * 2)
    blob(bare, session, "/replaced", b"1" * 200)
    assert session.do(SetData("/replaced", inline(b"small"))).code is Code.OK


def change(bare: Bare) -> None:
    """Much of it."""
    session = bare.session("other")
    session.do(SetData("/none", inline(b"changed")))
    session.do(create("/later", b"x" * 10))
    for number in range(9):
        session.do(create(f"/later/{number}"))
    session.do(Delete("/ttl"))
    blob(bare, session, "/blob2", b"2" * 300)


@pytest.fixture
def bare(tmp_path: Path) -> Bare:
    made = bare_of(tmp_path / "blobs")
    fill(made)
    return made


def taken(bare: Bare, file: Path) -> Backup:
    return backup_of(source_of(bare.deployment), file)


def expected(backup: Backup) -> dict[str, Any]:
    """The backup's tree without ephemerals; of what their parents are, only what does not change."""
    tree = plain(of_backup(backup))
    kept = {path: each for path, each in tree.items() if not each[0].owner}
    return {path: each for path, each in kept.items() if path != "/lock"}


def without_lock(tree: dict[str, Any]) -> dict[str, Any]:
    return {path: each for path, each in tree.items() if path != "/lock"}


@pytest.mark.parametrize("into", ["new", "this one", "a used one"])
def test_a_restored_tree_has_every_field_of_each_znode_and_nothing_else(
    bare: Bare, tmp_path: Path, into: str
) -> None:
    backup = taken(bare, tmp_path / "backup")
    target = bare
    if into != "this one":
        target = bare_of(tmp_path / "others")
    if into == "a used one":
        fill(target)
    if into != "new":
        change(target)
    before = target.deployment.log.after(0, 10_000)[0][-1].last if into != "new" else 0
    done = restore(target_of(target.deployment), backup, end_sessions=True)
    after = stored(target.deployment)
    assert without_lock(after) == expected(backup)
    assert done.ephemerals == 5
    lock = after["/lock"][0]
    assert lock.children == 0
    assert lock.creations == 5
    assert lock.pzxid > max(before, backup.zxid)
    tally = load(target.deployment.log, target.deployment.checkpoints, target.clock).tally
    assert tally is not None
    assert tally.nodes == len(after)
    assert tally.ephemerals == 0
    assert tally.size == sum(len(path) + len(data) for path, (_, data) in after.items())
    target.recycle()
    session = target.session("new")
    assert session.id > done.zxid > max(before, backup.zxid)
    made = session.do(Create("/a/s-", inline(b""), sequential=True))
    assert (made.code, made.path) == (Code.OK, "/a/s-0000000012")  # /a/b was the first child
    assert session.do(Create("/lock/l-", inline(b""), sequential=True)).path == "/lock/l-0000000005"
    for number in range(20):
        assert session.do(create(f"/a/more{number}")).code is Code.OK
    stored(target.deployment)


def test_sessions_and_their_requests_do_not_come_back(bare: Bare, tmp_path: Path) -> None:
    session = bare.session("holder")
    session.do(create("/lock/held", ephemeral=True))
    backup = taken(bare, tmp_path / "backup")
    restore(target_of(bare.deployment), backup, end_sessions=True)
    bare.recycle()
    assert "/lock/held" not in stored(bare.deployment)
    assert session.do(create("/late")).code is Code.SESSION_EXPIRED
    assert "/late" not in stored(bare.deployment)
    bare.heartbeat.beat()
    bare.pump()
    assert list(bare.deployment.leases.all()) == []
    view = load(bare.deployment.log, bare.deployment.checkpoints, bare.clock)
    assert all(each.closed for each in view.sessions)
    fresh = bare.session("fresh")
    assert fresh.do(create("/lock/held", ephemeral=True)).code is Code.OK
    assert fresh.do(Close()).code is Code.OK


@pytest.mark.parametrize("own_distributor", [False, True])
def test_no_warm_writer_and_no_late_distributor_gets_anything_in(
    tmp_path: Path, own_distributor: bool
) -> None:
    bare = bare_of(tmp_path / "blobs", own_distributor=own_distributor)
    session = bare.session()
    session.do(create("/a", b"1"))
    backup = taken(bare, tmp_path / "backup")
    session.do(create("/later"))
    warm, late = bare.writer, bare.distributor
    session.ask(create("/a/child"))
    session.ask(Delete("/later"))
    session.ask(create("/later2"))
    held: list[bytes] = []
    if own_distributor:  # committed, and not applied before the restore
        warm.handle(bare.worker_queue.take())
        assert bare.distributor_queue is not None
        held = bare.distributor_queue.take()
    restore(target_of(bare.deployment), backup, end_sessions=True)
    wanted = plain(of_backup(backup))
    assert stored(bare.deployment) == wanted
    if own_distributor:
        late.handle(held)
        late.idle()
    else:
        with pytest.raises(Restoring):
            warm.handle(bare.worker_queue.take())
        assert warm.view is None
    assert stored(bare.deployment) == wanted
    writer = Writer(bare.deployment)
    writer.handle([order(bare.deployment)])
    assert {"/later", "/later2", "/a/child"}.isdisjoint(stored(bare.deployment))
    bare.recycle()
    again = bare.session("again")
    assert again.do(create("/a/child")).code is Code.OK


def test_a_checkpoint_saved_late_brings_no_session_back(bare: Bare, tmp_path: Path) -> None:
    session = bare.session("late")
    session.do(create("/n", b"1"))
    slow = bare.writer  # has not saved what it knows
    backup = taken(bare, tmp_path / "backup")
    restore(target_of(bare.deployment), backup, end_sessions=True)
    slow.idle()
    view = load(bare.deployment.log, bare.deployment.checkpoints, bare.clock)
    assert all(each.closed for each in view.sessions)


def test_what_was_replaced_is_swept_and_what_was_restored_stays(bare: Bare, tmp_path: Path) -> None:
    deployment = bare.deployment
    assert deployment.blobs is not None
    backup = taken(bare, tmp_path / "backup")
    change(bare)
    restore(target_of(deployment), backup, end_sessions=True)
    after = stored(deployment)
    bare.recycle()
    bare.session("busy").do(SetData("/none", inline(b"")))
    bare.writer.idle()
    bare.heartbeat.tend(10**9)
    for _ in range(20):
        bare.days(1)
        bare.heartbeat.refresh()
    assert deployment.records.get("/later") is None
    assert deployment.records.get("/later//0") is None
    now = stored(deployment)
    assert now.keys() == after.keys()
    assert now["/a/b"] == after["/a/b"]
    named = {
        record.meta.blob
        for path in now
        if (record := deployment.records.get(path)) is not None and record.meta is not None
    }
    assert set(deployment.blobs.list("b/", "", 100)) == named - {""}


def test_heartbeat_finds_restored_znodes_that_are_due(bare: Bare, tmp_path: Path) -> None:
    backup = taken(bare, tmp_path / "backup")
    other = bare_of(tmp_path / "other")
    restore(target_of(other.deployment), backup)
    other.recycle()
    session = other.session()
    assert session.read("/ttl") is not None
    other.clock.now += 2 * HOUR_MS
    assert "/ttl" in other.heartbeat.reap()
    other.pump()
    found = other.deployment.records.get("/ttl")
    assert found is not None
    assert found.meta is None


# ---- where it is cut off ---------------------------------------------------------------------------


class _Cut(BaseException):
    """The process has died."""


class Mortal(MemoryTable):
    """A table in which a process dies before or after one of its writes."""

    def __init__(self, left: list[int], after: bool) -> None:
        super().__init__()
        self._left = left
        self._after = after

    def _step(self, write: Callable[[], None]) -> None:
        self._left[0] -= 1
        if self._left[0] == 0 and not self._after:
            raise _Cut
        write()
        if self._left[0] == 0:
            raise _Cut

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        self._step(lambda: MemoryTable.put(self, partition, key, item, condition))

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        self._step(lambda: MemoryTable.delete(self, partition, key, condition))


@pytest.mark.parametrize("after", [False, True])
def test_a_restore_that_dies_anywhere_leaves_the_old_tree_or_a_refusal_and_is_completed(
    bare: Bare, tmp_path: Path, after: bool
) -> None:
    backup = taken(bare, tmp_path / "backup")
    refused = untouched = 0
    for step in range(1, 1000):
        left = [0]

        def mortal(name: str, left: list[int] = left) -> Mortal:
            return Mortal(left, after)

        target = bare_of(tmp_path / f"blobs{step}", table=mortal)
        fill(target)
        change(target)
        old = stored(target.deployment)
        left[0] = step
        try:
            restore(target_of(target.deployment), backup, end_sessions=True)
        except _Cut:
            left[0] = 0
        else:
            break
        try:
            load(target.deployment.log, target.deployment.checkpoints, target.clock)
        except Restoring as error:
            refused += 1
            assert error.of == backup.digest
            assert examine(target_of(target.deployment)).unfinished == backup.digest
            target.recycle()
            with pytest.raises(Restoring):
                target.writer.handle([order(target.deployment)])
            with pytest.raises(Denied, match="was begun and not completed"):
                restore(target_of(target.deployment), taken_again(bare, tmp_path), end_sessions=True)
        else:
            untouched += 1
            assert stored(target.deployment) == old or without_lock(stored(target.deployment)) == expected(
                backup
            )
            target.clock.now += 1
        restore(target_of(target.deployment), backup, end_sessions=True)
        assert without_lock(stored(target.deployment)) == expected(backup)
        target.recycle()
        assert target.session("new").do(create("/works")).code is Code.OK
    assert refused > 40
    assert untouched <= 2  # before the fence, and after the last step all is done


def taken_again(bare: Bare, folder: Path) -> Backup:
    """Another backup, with another digest."""
    source = source_of(bare.deployment)
    source.name = "another"
    return backup_of(source, folder / "another")


class Doubtful(MemoryTable):
    """A log whose next append takes effect without an answer."""

    def __init__(self) -> None:
        super().__init__()
        self.unanswered = False

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        super().put(partition, key, item, condition)
        if self.unanswered:
            self.unanswered = False
            raise Unavailable("no answer")


def test_a_fence_of_unknown_fate_is_found(bare: Bare, tmp_path: Path) -> None:
    backup = taken(bare, tmp_path / "backup")
    log = Doubtful()
    target = bare_of(tmp_path / "t", table=lambda name: log if name == "log" else MemoryTable())
    target.session().do(create("/old"))
    log.unanswered = True
    restore(target_of(target.deployment), backup, end_sessions=True)
    assert without_lock(stored(target.deployment)) == expected(backup)
    firsts = [int(item["first"]) for _, item in log.query("log", "", 100).items]  # type: ignore[arg-type]
    assert firsts == sorted(firsts)
    assert sum(1 for each in firsts if each < backup.zxid) == 3


class Refusing(MemoryTable):
    """A store of records that refuses a put."""

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        if partition == "/blob":
            raise Unavailable("no answer")
        super().put(partition, key, item, condition)


def test_a_restore_that_fails_says_how_to_go_on(bare: Bare, tmp_path: Path) -> None:
    backup = taken(bare, tmp_path / "backup")
    records = Refusing()
    target = bare_of(tmp_path / "t", table=lambda name: records if name == "records" else MemoryTable())
    with pytest.raises(Denied, match=r"no answer\. .*repeat the same command"):
        restore(target_of(target.deployment), backup)
    records.__class__ = MemoryTable  # type: ignore[assignment]
    restore(target_of(target.deployment), backup)
    assert without_lock(stored(target.deployment)) == expected(backup)


class Raced(MemoryTable):
    """A log in which another writer appends just before the fence."""

    def __init__(self) -> None:
        super().__init__()
        self.before: Callable[[], None] | None = None

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        before, self.before = self.before, None
        if before is not None:
            before()
        super().put(partition, key, item, condition)


def test_a_fence_that_loses_the_race_is_put_after_the_winner(bare: Bare, tmp_path: Path) -> None:
    backup = taken(bare, tmp_path / "backup")
    log = Raced()
    target = bare_of(tmp_path / "t", table=lambda name: log if name == "log" else MemoryTable())
    session = target.session()

    def win() -> None:
        session.do(create("/won"))

    log.before = win
    restore(target_of(target.deployment), backup, end_sessions=True)
    assert "/won" not in stored(target.deployment)
    assert without_lock(stored(target.deployment)) == expected(backup)


# ---- what is refused, and transaction numbers --------------------------------------------------------


def test_open_sessions_keep_a_restore_from_beginning(bare: Bare, tmp_path: Path) -> None:
    backup = taken(bare, tmp_path / "backup")
    before = stored(bare.deployment)
    with pytest.raises(Denied, match=r"1 session is open.*--end-sessions"):
        restore(target_of(bare.deployment), backup)
    assert stored(bare.deployment) == before
    bare.clock.now += HOUR_MS  # its lease has run out: nobody is there
    restore(target_of(bare.deployment), backup)


def test_clients_know_that_their_sessions_ended_before_a_record_changes(bare: Bare, tmp_path: Path) -> None:
    backup = taken(bare, tmp_path / "backup")
    change(bare)
    before = stored(bare.deployment)
    leases = list(bare.deployment.leases.all())
    waited: list[float] = []

    def pause(seconds: float) -> None:
        assert stored(bare.deployment) == before
        assert all(each.marked for each in bare.deployment.leases.all())
        waited.append(seconds)
        bare.clock.now += int(seconds * 1000)

    target = target_of(bare.deployment)
    target.alone = False
    restore(target, backup, end_sessions=True, pause=pause)
    assert bare.clock.now > max(each.expires for each in leases)
    assert len(waited) == 1


def test_each_restore_begins_above_all_that_any_deployment_gave_out(bare: Bare, tmp_path: Path) -> None:
    backup = taken(bare, tmp_path / "backup")
    ends: list[int] = []
    for number in range(3):
        target = bare_of(tmp_path / f"t{number}")
        target.clock.now += number * 1000
        done = restore(target_of(target.deployment), backup)
        assert not ends or done.zxid > ends[-1] + 1000
        target.recycle()
        session = target.session()
        for name in range(10):
            session.do(create(f"/n{name}"))
        ends.append(target.deployment.log.after(done.zxid)[0][-1].last)


def test_a_clock_that_is_behind_or_far_ahead_is_refused(bare: Bare, tmp_path: Path) -> None:
    backup = taken(bare, tmp_path / "backup")
    restore(target_of(bare.deployment), backup, end_sessions=True)
    bare.clock.now -= HOUR_MS
    with pytest.raises(Denied, match="correct the clock of this machine"):
        restore(target_of(bare.deployment), backup, end_sessions=True)
    with pytest.raises(Denied, match="2120"):
        base_of(5_000_000_000_000, 1)


def test_what_is_as_new_is_empty(tmp_path: Path) -> None:
    bare = bare_of(tmp_path)
    assert examine(target_of(bare.deployment)).empty
    session = bare.session()
    assert not examine(target_of(bare.deployment)).empty
    session.do(Close())
    assert examine(target_of(bare.deployment)).empty
    assert stored(bare.deployment).keys() == genesis().keys()
