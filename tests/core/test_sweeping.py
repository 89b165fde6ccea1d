"""What nobody refers to goes when it is old, however clocks step, and in small pieces."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.core import sweeping
from faaskeeper.core.blobs import TOKEN_BYTES, blob_name
from faaskeeper.core.drivers.storage import in_turn
from faaskeeper.core.errors import Denied, Unavailable
from faaskeeper.core.kept import Retention
from faaskeeper.core.log import RETENTION_MS
from faaskeeper.core.records import ObjectRecords
from faaskeeper.core.requests import Create, Data, Delete, SetData, inline
from faaskeeper.core.sweeping import DAY_MS, EVERY_MS
from faaskeeper.providers.local.objects import DirectoryStore
from tests.bare import Bare

YEAR_MS = 365 * DAY_MS


def firsts(bare: Bare) -> list[int]:
    """Where the entries begin that the log still has."""
    return [int(item["first"]) for _, item in bare.tables["log"].query("log", "", 1_000).items]  # type: ignore[arg-type]


@pytest.fixture(params=["table", "objects"])
def bare(request: pytest.FixtureRequest, tmp_path: Path) -> Bare:
    """A deployment whose records are in a table or in objects."""
    store = DirectoryStore(tmp_path)
    if request.param == "table":
        return Bare(blobs=store)
    return Bare(records=lambda table: ObjectRecords(store, in_turn), blobs=store)


def test_a_tombstone_lapses_only_when_it_is_old_and_the_mark_has_passed_it(bare: Bare) -> None:
    session = bare.session()
    session.do(Create("/n", inline(b"")))
    session.do(Delete("/n"))
    session.do(Create("/again", inline(b"")))
    session.do(Delete("/again"))
    bare.heartbeat.sweep()
    bare.days(4)
    assert bare.deployment.records.get("/n") is not None  # the mark is still below it
    session.do(Create("/again", inline(b"")))
    bare.writer.idle()
    bare.heartbeat.sweep()
    bare.days(1)
    bare.days(1)
    assert bare.deployment.records.get("/n") is not None  # the mark has only just passed it
    bare.days(2)
    assert bare.deployment.records.get("/n") is None
    record = bare.deployment.records.get("/again")
    assert record is not None
    assert record.meta is not None


def test_a_tombstone_that_is_written_over_in_the_moment_of_its_lapse_stays_written_over(
    tmp_path: Path,
) -> None:
    store = DirectoryStore(tmp_path)
    bare = Bare(records=lambda table: ObjectRecords(store, in_turn))
    session = bare.session()
    session.do(Create("/n", inline(b"")))
    txid = session.do(Delete("/n")).txid
    records = bare.deployment.records
    found, get = store.get("r/n"), store.get
    session.do(Create("/n", inline(b"new")))
    now, asked = get("r/n"), 0

    def as_before(key: str) -> Any:
        nonlocal asked
        asked += 1
        return found if asked == 1 else get(key)

    store.get = as_before  # type: ignore[method-assign]
    records.lapse("/n", txid)
    assert get("r/n") == now


def test_a_step_of_the_clock_makes_nothing_old() -> None:
    """Neither the sweep that meets it nor an entry that was written meanwhile."""
    bare = Bare(expiring=False)
    session = bare.session(timeout=3_600_000)
    session.do(Create("/n", inline(b"")))
    session.do(Delete("/n"))
    bare.writer.idle()
    bare.heartbeat.sweep()
    bare.clock.now += 10 * YEAR_MS  # the step
    bare.heartbeat.sweep()
    assert bare.deployment.records.get("/n") is not None
    assert firsts(bare) == [1, 2, 3]
    bare.clock.now -= 10 * YEAR_MS
    bare.heartbeat.sweep()
    bare.days(1)
    assert bare.deployment.records.get("/n") is None  # a day was credited for the step, and one passed
    assert firsts(bare) == [1, 2, 3]


def test_an_entry_of_a_clock_that_was_years_ahead_stops_nothing() -> None:
    bare = Bare(expiring=False)
    session = bare.session(timeout=3_600_000)
    bare.clock.now += 10 * YEAR_MS
    session.do(Create("/n", inline(b"")))
    bare.writer.idle()
    bare.clock.now -= 10 * YEAR_MS
    bare.recycle()
    for number in range(20):
        session.do(SetData("/n", inline(b"%d" % number)))
        bare.writer.idle()
        bare.days(1)
    assert len(firsts(bare)) < 12


def test_notes_are_few_and_one_is_nearly_as_old_as_is_asked_for() -> None:
    progress = sweeping.Progress([])
    for hour in range(24 * 60):
        progress.pass_time(hour, (hour + 1) * 3_600_000)
        assert len(progress.notes) <= 11
        for days in range(1, 16):
            note = progress.old(days * DAY_MS)
            if hour >= 24 * days:
                assert note is not None
                assert note.mark <= hour - 24 * days
                assert hour >= 24 * days * 2 or note.mark == 0 or hour - note.mark <= 24 * days * 7 / 5 + 25
            else:
                assert note is None


def test_the_mark_is_noted_before_the_clock_is_looked_at() -> None:
    """A sweep that stands still between the two must not make what came meanwhile older than it is."""
    bare = Bare()
    session = bare.session()
    session.do(Create("/n", inline(b"")))
    bare.writer.idle()
    bare.heartbeat.sweep()
    clock, applied = bare.clock, bare.deployment.checkpoints.applied
    bare.clock.now += DAY_MS
    calls: list[str] = []
    bare.deployment.checkpoints.applied = lambda: calls.append("mark") or applied()  # type: ignore[func-returns-value, method-assign]
    bare.deployment.clock = lambda: calls.append("clock") or clock()  # type: ignore[func-returns-value]
    bare.heartbeat.sweep()
    assert calls[0] == "mark"
    assert "clock" in calls


def test_a_log_that_does_not_trim_itself_is_trimmed_after_the_retention_and_not_before() -> None:
    bare = Bare(expiring=False)
    session = bare.session()
    session.do(Create("/n", inline(b"")))
    bare.writer.idle()
    bare.heartbeat.sweep()
    written: dict[int, int] = {}
    for _ in range(20):
        bare.clock.now += DAY_MS
        bare.recycle()
        written[session.do(SetData("/n", inline(b""))).txid] = bare.clock.now
        bare.writer.idle()
        bare.heartbeat.sweep()
        old = [
            txid for txid, time in written.items() if bare.clock.now - time > RETENTION_MS * 7 // 5 + DAY_MS
        ]
        young = [txid for txid, time in written.items() if bare.clock.now - time < RETENTION_MS]
        left = firsts(bare)
        assert set(young) <= set(left)
        assert len(set(old) & set(left)) <= 1
    assert firsts(bare)[0] > 10


def test_the_last_entry_of_a_log_is_never_trimmed() -> None:
    bare = Bare(expiring=False)
    session = bare.session()
    session.do(Create("/n", inline(b"")))
    bare.writer.idle()
    bare.heartbeat.sweep()
    bare.days(30)
    assert firsts(bare) == [2]
    bare.recycle()
    assert bare.session("late").id == 3


def test_blobs_go_when_nothing_refers_to_them_and_stay_while_something_does(bare: Bare) -> None:
    store = bare.deployment.blobs
    assert store is not None
    session = bare.session(timeout=3_600_000)

    def blob(path: str, sequential: bool = False) -> Data:
        name = blob_name(bare.clock(), bare.random(TOKEN_BYTES), session.id, b"large", path, sequential)
        store.put(name, b"large", absent=True)
        return Data(b"", name, 5)

    kept, replaced, orphan = blob("/kept"), blob("/replaced"), blob("/never-sent")
    numbered, refused = blob("/q/s-", True), blob("/kept")
    session.do(Create("/q", inline(b"")))
    session.do(Create("/kept", kept))
    session.do(Create("/kept", refused))
    session.do(Create("/replaced", replaced))
    session.do(Create("/q/s-", numbered, sequential=True))
    session.do(SetData("/replaced", inline(b"small")))
    bare.writer.idle()
    bare.clock.now += 1_000
    bare.heartbeat.sweep()
    assert len(store.list("b/", "", 100)) == 5
    bare.days(2)
    assert replaced.blob not in store.list("b/", "", 100)
    bare.days(12)
    assert orphan.blob in store.list("b/", "", 100)
    young = blob("/on-its-way")
    bare.days(1)
    assert store.list("b/", "", 100) == sorted([kept.blob, numbered.blob, young.blob])
    bare.days(22)
    assert store.list("b/", "", 100) == sorted([kept.blob, numbered.blob])


class Batching(DirectoryStore):
    """Deletes many objects in one call, but none with a name of ``stuck``."""

    def __init__(self, directory: Path) -> None:
        super().__init__(directory)
        self.calls: list[list[str]] = []
        self.stuck: set[str] = set()
        self.failing: Exception | None = None

    def delete_keys(self, keys: Sequence[str]) -> None:
        self.calls.append(list(keys))
        if self.failing is not None:
            raise self.failing
        for key in keys:
            self.delete(key)

    def delete(self, key: str, *, match: str | None = None) -> None:
        if key in self.stuck:
            raise Denied("not for you")
        super().delete(key, match=match)


def test_blobs_are_deleted_many_in_a_call(tmp_path: Path) -> None:
    store = Batching(tmp_path)
    bare = Bare(blobs=store)
    session = bare.session(timeout=3_600_000)

    def blob(path: str) -> str:
        name = blob_name(bare.clock(), bare.random(TOKEN_BYTES), session.id, b"large", path)
        store.put(name, b"large")
        return name

    written = [blob("/n") for _ in range(30)]
    for _ in range(250):
        blob("/never-sent")
    session.do(Create("/n", Data(b"", written[0], 5)))
    for name in written[1:]:
        session.do(SetData("/n", Data(b"", name, 5)))
    bare.writer.idle()
    bare.clock.now += 1_000
    bare.heartbeat.sweep()
    bare.days(2)
    assert [sorted(each) for each in store.calls] == [sorted(written[:-1])]
    store.calls.clear()
    bare.days(20)
    sizes = [len(each) for each in store.calls]
    assert sum(sizes) == 250
    assert len(sizes) == 3  # a page of a hundred names each
    assert store.list("b/", "", 1_000) == written[-1:]


def test_a_blob_that_cannot_be_deleted_does_not_keep_those_beside_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    store = Batching(tmp_path)
    bare = Bare(blobs=store)
    names = [blob_name(bare.clock() - 1, b"%03d" % number, 1, b"large", "/n") for number in range(10)]
    for name in names:
        store.put(name, b"large")
    store.stuck = {names[3]}
    bare.heartbeat.sweep()
    bare.clock.now += 1_000
    bare.days(14)
    store.failing = Unavailable("no answer")
    with pytest.raises(Unavailable):
        bare.days(8)
    assert store.list("b/", "", 100) == sorted(names)  # the next sweep begins here
    store.failing = None
    bare.days(2)
    assert store.list("b/", "", 100) == [names[3]]
    assert "not for you" in caplog.text


def test_an_object_with_an_odd_name_is_passed_over_with_one_line(
    bare: Bare, caplog: pytest.LogCaptureFixture
) -> None:
    store = bare.deployment.blobs
    assert store is not None
    odd = ["b/", "b/!", "b/0000000000001", "b/0000000000002/x/", "b/no/number/n/a"]
    for name in odd:
        store.put(name, b"?")
    bare.heartbeat.sweep()
    old = [blob_name(bare.clock() - 1 + number, b"abc", 1, b"large", f"/{number}") for number in range(3)]
    for name in old:
        store.put(name, b"large")
    bare.clock.now += 1_000
    bare.days(22)
    assert [name for name in store.list("b/", "", 100) if name in old] == []
    assert {"b/!", "b/0000000000001"} <= set(store.list("b/", "", 100))
    assert len([each for each in caplog.records if "skipped" in each.message]) <= 2


def test_what_cannot_be_deleted_is_passed_over_and_what_is_only_unavailable_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    bare = Bare(expiring=False)
    session = bare.session(timeout=3_600_000)
    for number in range(10):
        session.do(Create(f"/n{number}", inline(b"")))
        session.do(Delete(f"/n{number}"))
    bare.writer.idle()
    bare.heartbeat.sweep()
    lapse = bare.deployment.records.lapse
    down = True

    def failing(path: str, txid: int) -> None:
        if path == "/n3" and down:
            raise Unavailable("no answer")
        if path == "/n5":
            raise Denied("not for you")
        if path == "/n6":
            raise ValueError("what is that?")
        lapse(path, txid)

    bare.deployment.records.lapse = failing  # type: ignore[method-assign]
    bare.clock.now += DAY_MS
    bare.heartbeat.sweep()
    bare.clock.now += DAY_MS
    with pytest.raises(Unavailable), caplog.at_level(logging.WARNING):
        bare.heartbeat.sweep()
    down = False
    bare.heartbeat.sweep()
    left = [number for number in range(10) if bare.deployment.records.get(f"/n{number}") is not None]
    assert left == [5, 6]
    assert "not for you" in caplog.text
    bare.days(8)
    assert len(firsts(bare)) == 1


def test_a_sweep_ends_in_time_and_the_next_goes_on_where_it_stopped() -> None:
    bare = Bare(expiring=False)
    session = bare.session(timeout=3_600_000)
    for number in range(200):
        session.do(Create(f"/n{number}", inline(b"")))
        session.do(Delete(f"/n{number}"))
    bare.writer.idle()
    bare.heartbeat.sweep()
    bare.days(1)
    bare.clock.now += DAY_MS
    gather = bare.deployment.gather
    batches: list[int] = []

    def slow(calls: Sequence[Callable[[], Any]]) -> list[Any]:
        batches.append(len(calls))
        bare.clock.now += 10_000
        return gather(calls)

    bare.deployment.gather = slow
    turns = 0
    while not bare.heartbeat.sweep(25_000):
        turns += 1
        assert len(batches) <= 3
        assert max(batches) <= 100
        assert bare.heartbeat.due()
        batches.clear()
    assert turns >= 2
    assert all(bare.deployment.records.get(f"/n{number}") is None for number in range(200))
    assert not bare.heartbeat.due()
    bare.clock.now += EVERY_MS
    assert bare.heartbeat.due()


def test_a_clock_that_went_back_does_not_put_sweeping_off() -> None:
    bare = Bare()
    bare.heartbeat.sweep()
    assert not bare.heartbeat.due()
    bare.clock.now -= 10 * YEAR_MS
    assert bare.heartbeat.due()


def test_a_sweep_that_stood_still_before_it_read_the_progress_counts_no_time_twice() -> None:
    """Others sweep meanwhile; with the clock from before the pause it would put theirs back."""
    bare = Bare()
    bare.heartbeat.sweep()
    get, row = bare.tables["heartbeat"].get, sweeping._KEY
    begun = bare.clock.now

    def late(partition: str, key: str) -> Any:
        bare.tables["heartbeat"].get = get  # type: ignore[method-assign]
        for _ in range(3):
            bare.clock.now += DAY_MS // 24
            bare.heartbeat.sweep()
        return get(partition, key)

    bare.tables["heartbeat"].get = late  # type: ignore[method-assign]
    bare.heartbeat.sweep()
    bare.heartbeat.sweep()
    found = get(*row)
    assert found is not None
    assert found["counted"] == bare.clock.now - begun


def test_of_two_that_sweep_at_once_one_stops_and_nothing_is_counted_twice() -> None:
    bare = Bare()
    bare.heartbeat.sweep()
    bare.clock.now += DAY_MS // 2
    get = bare.tables["heartbeat"].get
    seen = get(*sweeping._KEY)
    bare.heartbeat.sweep()
    bare.tables["heartbeat"].get = lambda partition, key: seen  # type: ignore[method-assign]
    bare.heartbeat.sweep()
    bare.tables["heartbeat"].get = get  # type: ignore[method-assign]
    found = get(*sweeping._KEY)
    assert found is not None
    assert found["counted"] == DAY_MS // 2


# ---- retention by bytes --------------------------------------------------------------------------


def crowded(*, save: bool = True) -> Bare:
    """A deployment whose log takes more bytes than it may."""
    bare = Bare(expiring=False)
    bare.deployment.retention = Retention(most=0, used=lambda: 1)
    session = bare.session()
    for number in range(120):
        session.do(Create(f"/n{number}", inline(b"x")))
    session.do(Delete("/n7"))
    if save:
        bare.writer.idle()
    return bare


def test_a_log_that_is_too_large_is_trimmed_at_once_up_to_its_last_entry() -> None:
    bare = crowded()
    bare.heartbeat.sweep()
    assert firsts(bare) == [122]
    bare.recycle()
    assert bare.session("late").id == 123


def test_a_log_that_is_too_large_keeps_what_mark_and_checkpoint_lack() -> None:
    bare = crowded(save=False)
    saved = bare.deployment.checkpoints.header().txid
    assert 0 < saved < 122
    bare.heartbeat.sweep()
    assert firsts(bare)[0] == saved
    bare.recycle()
    bare.session("late")
    record = bare.deployment.records.get("/n119")
    assert record is not None
    assert record.meta is not None


def test_what_a_trimmed_entry_deleted_is_swept_when_it_is_old_all_the_same() -> None:
    bare = crowded()
    bare.heartbeat.sweep()
    assert bare.deployment.records.get("/n7") is not None
    bare.days(1)
    assert bare.deployment.records.get("/n7") is not None
    bare.days(3)
    assert bare.deployment.records.get("/n7") is None
    assert bare.tables["heartbeat"].query("swept later", "", 10).items == []
    assert firsts(bare) == [122]


def test_a_sweep_with_nothing_to_trim_reads_as_much_of_a_long_log_as_of_a_short_one() -> None:
    read: list[int] = []
    for entries in (60, 600):
        bare = Bare(expiring=False)
        session = bare.session()
        for number in range(entries):
            session.do(Create(f"/n{number}", inline(b"x")))
        bare.writer.idle()
        query, rows = bare.tables["log"].query, []

        def counted(*args: Any, query: Any = query, rows: list[int] = rows) -> Any:
            page = query(*args)
            rows.append(len(page.items))
            return page

        bare.tables["log"].query = counted  # type: ignore[method-assign]
        bare.heartbeat.sweep()
        read.append(sum(rows))
    assert read[0] == read[1] <= 50
