"""A backup is the tree as of one transaction, whatever is written while it is taken."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from faaskeeper.backup.driver import Source
from faaskeeper.backup.file import Writer, read
from faaskeeper.backup.restoring import restore
from faaskeeper.backup.taking import replay
from faaskeeper.core.errors import Denied
from faaskeeper.core.records import Record, Records, TableRecords, bootstrap
from faaskeeper.core.requests import Create, Delete, SetData, inline
from faaskeeper.core.transactions import Limits
from faaskeeper.providers.local.objects import DirectoryStore
from faaskeeper.providers.memory import MemoryTable
from tests.backup.trees import Tree, backup_of, blob, of_backup, plain, source_of, stored, target_of
from tests.bare import Bare, BareSession

SMALL = Limits(page_names=4)
DAY_MS = 24 * 3600 * 1000


class Disturbed:
    """Records; something happens before each read of them."""

    def __init__(self, records: Records, happen: Callable[[], None]) -> None:
        self._records = records
        self._happen = happen
        self.put, self.write_of, self.lapse = records.put, records.write_of, records.lapse

    def get(self, path: str) -> Record | None:
        self._happen()
        return self._records.get(path)

    def get_many(self, paths: Sequence[str]) -> list[Record | None]:
        return [self.get(path) for path in paths]


def step(session: BareSession, dice: random.Random) -> None:
    """A random create, set or delete, also in lists that grow and shrink across pages."""
    parent = dice.choice(["/", "/a/", "/a/b/", "/c/"])
    path = parent + dice.choice(["a", "b", "c", *map(str, range(12))])
    kind = dice.choice([Create(path, inline(dice.randbytes(4))), SetData(path, inline(b"s")), Delete(path)])
    session.do(kind)


def from_the_log(bare: Bare, upto: int) -> Tree:
    """The tree at a transaction, made by writing the log's entries to new user storage."""
    other = Bare(limits=SMALL, expiring=False)
    for entry in bare.deployment.log.after(0, 100_000)[0]:
        if entry.last <= upto:
            other.deployment.log.append(entry, 0)
    other.session("applies")
    return stored(other.deployment)


@pytest.mark.parametrize("seed", range(30))
def test_a_backup_under_a_load_of_writes_is_the_tree_at_its_transaction(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    bare = Bare(limits=SMALL, expiring=False, own_distributor=seed % 2 == 1)
    session = bare.session()
    for path in ("/a", "/a/b", "/c"):
        session.do(Create(path, inline(b"")))
    for _ in range(dice.choice([10, 60])):
        step(session, dice)
    source = source_of(bare.deployment)
    left = [dice.choice([5, 40, 150])]

    def happen() -> None:
        if left[0] > 0 and dice.random() < 0.5:
            left[0] -= 1
            step(session, dice)

    source.records = Disturbed(source.records, happen)
    began = bare.deployment.log.after(0, 100_000)[0][-1].last
    backup = backup_of(source, tmp_path / "backup")
    assert backup.zxid >= began
    assert plain(of_backup(backup)) == from_the_log(bare, backup.zxid)


@pytest.mark.parametrize("seed", range(5))
def test_a_backup_and_the_log_after_it_give_any_later_moment(seed: int, tmp_path: Path) -> None:
    dice = random.Random(seed)
    bare = Bare(limits=SMALL, expiring=False)
    session = bare.session()
    for path in ("/a", "/a/b", "/c"):
        session.do(Create(path, inline(b"")))
    step(session, dice)
    backup = backup_of(source_of(bare.deployment), tmp_path / "backup")
    moments: dict[int, Tree] = {}
    for _ in range(20):
        bare.clock.now += 1000
        step(session, dice)
        moments[bare.clock.now] = stored(bare.deployment)
    for moment, tree in moments.items():
        made = tmp_path / "made"
        with open(made, "wb") as file:
            sink = Writer(file, "d", 1)
            found = replay(source_of(bare.deployment, moment + 500), backup, sink)
            sink.end(found.zxid, found.time, len(found.nodes))
        assert plain(of_backup(read(made))) == tree


def test_the_log_alone_gives_any_moment_while_it_has_its_beginning(tmp_path: Path) -> None:
    bare = Bare(expiring=False)
    session = bare.session()
    session.do(Create("/a", inline(b"1")))
    bare.clock.now += 1000
    moment = bare.clock.now
    session.do(SetData("/a", inline(b"2")))
    bare.clock.now += 1000
    session.do(SetData("/a", inline(b"3")))
    empty = TableRecords(MemoryTable())
    bootstrap(empty)
    source = Source("d", bare.deployment.log, empty, None, 0, moment)
    assert of_backup(backup_of(source, tmp_path / "backup"))["/a"][1] == b"2"


def test_a_trimmed_log_and_one_of_another_deployment_are_refused(tmp_path: Path) -> None:
    bare = Bare(expiring=False)
    session = bare.session()
    session.do(Create("/a", inline(b"1")))
    backup = backup_of(source_of(bare.deployment), tmp_path / "backup")
    session.do(Create("/b", inline(b"1")))
    session.do(Create("/c", inline(b"1")))
    bare.deployment.log.trim(bare.deployment.log.after(backup.zxid)[0][:1])
    with open(tmp_path / "out", "wb") as file:
        sink = Writer(file, "d", 1)
        with pytest.raises(Denied, match="trimmed"):
            replay(source_of(bare.deployment, bare.clock.now), backup, sink)
        with pytest.raises(Denied, match="of another deployment"):
            replay(source_of(Bare().deployment, bare.clock.now), backup, sink)


def test_a_moment_beyond_a_restore_is_refused(tmp_path: Path) -> None:
    bare = Bare(expiring=False)
    session = bare.session()
    session.do(Create("/a", inline(b"1")))
    backup = backup_of(source_of(bare.deployment), tmp_path / "backup")
    bare.clock.now += 1000
    before = bare.clock.now - 500
    restore(target_of(bare.deployment), backup, end_sessions=True)
    with open(tmp_path / "out", "wb") as file:
        sink = Writer(file, "d", 1)
        with pytest.raises(Denied, match="cannot be followed beyond"):
            replay(source_of(bare.deployment, bare.clock.now + 1000), backup, sink)
        assert replay(source_of(bare.deployment, before), backup, sink).zxid == backup.zxid


def test_data_that_is_lost_is_named(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path / "blobs")
    bare = Bare(blobs=store, limits=Limits(inline_bytes=10))
    blob(bare, bare.session(), "/blob", b"x" * 100)
    store.delete(store.list("b/", "", 1)[0])
    with pytest.raises(Denied, match="cannot back up: the data of /blob is lost"):
        backup_of(source_of(bare.deployment), tmp_path / "backup")


def test_what_was_committed_before_is_in_it_although_nobody_has_applied_it(tmp_path: Path) -> None:
    bare = Bare(own_distributor=True)
    session = bare.session()
    session.do(Create("/a", inline(b"1")))
    session.ask(SetData("/a", inline(b"2")))
    bare.writer.handle(bare.worker_queue.take())
    assert stored(bare.deployment)["/a"][1] == b"1"
    assert of_backup(backup_of(source_of(bare.deployment), tmp_path / "backup"))["/a"][1] == b"2"
