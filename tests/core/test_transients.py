"""Containers and znodes with a time to live: when they go, and what is left of them."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

import pytest

from faaskeeper.core.answers import wake_up
from faaskeeper.core.distributor import Distributor
from faaskeeper.core.requests import Close, Create, Delete, SetData, inline
from faaskeeper.core.view import load
from faaskeeper.core.znode import CONTAINER
from tests.bare import Bare, BareSession
from tests.core.test_calls import Counting

MINUTE = 60_000
HOUR = 3_600_000
DAY = 24 * HOUR


def create(path: str, ttl: int = 0) -> Create:
    return Create(path, inline(b""), ttl=ttl)


def beat(bare: Bare) -> list[str]:
    """One beat, and what it asked for done; returns what was asked for."""
    due = bare.heartbeat.reap()
    bare.pump()
    return due


def rows(bare: Bare) -> list[str]:
    return [row.path for row in bare.deployment.transients.all()]


@pytest.fixture(params=["inline", "own distributor"])
def scene(request: Any) -> tuple[Bare, BareSession]:
    bare = Bare(own_distributor=request.param == "own distributor", expiring=False)
    return bare, bare.session(timeout=HOUR)


def test_a_container_goes_when_its_last_child_has_gone(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    session.do(create("/box", CONTAINER))
    assert beat(bare) == []  # it never had a child
    session.do(create("/box/a"))
    session.do(create("/box/b"))
    session.do(Delete("/box/a"))
    assert beat(bare) == []
    session.do(Delete("/box/b"))
    assert beat(bare) == []
    bare.clock.now += MINUTE
    assert beat(bare) == ["/box"]
    record = session.read("/box")
    assert record is None or record.meta is None


def test_a_time_to_live_counts_from_the_last_change_of_data(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    session.do(create("/t", HOUR))
    bare.clock.now += HOUR
    session.do(SetData("/t", inline(b"1")))
    bare.clock.now += HOUR
    assert beat(bare) == []
    bare.clock.now += 1
    assert beat(bare) == ["/t"]
    record = session.read("/t")
    assert record is None or record.meta is None


def test_a_znode_with_children_outlives_its_time(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    session.do(create("/t", 1))
    session.do(create("/t/c"))
    bare.clock.now += HOUR
    assert beat(bare) == []
    session.do(Delete("/t/c"))
    assert beat(bare) == ["/t"]


def test_what_is_not_due_any_more_when_the_writer_is_asked_stays(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    session.do(create("/t", HOUR))
    bare.clock.now += HOUR + 1
    assert bare.heartbeat.reap() == ["/t"]
    asked = bare.worker_queue.take()
    session.do(SetData("/t", inline(b"in time")))
    for body in asked:
        bare.worker_queue.send("writer", "late", body)
    bare.pump()
    record = session.read("/t")
    assert record is not None
    assert record.data == b"in time"


def test_a_watch_of_what_heartbeat_removes_fires(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    session.do(create("/t", 1))
    session.watch("/t", "data")
    bare.clock.now += 2
    beat(bare)
    session.receive()
    assert [str(event.event_type) for event in session.fired] == ["NodeDeleted"]


def test_a_container_waits_until_it_was_empty_for_a_minute(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    session.do(create("/box", CONTAINER))
    for _ in range(3):
        session.do(create("/box/a"))
        session.do(Delete("/box/a"))
        bare.clock.now += MINUTE - 1
        assert beat(bare) == []
    session.do(create("/box/a"))
    bare.clock.now += HOUR
    assert beat(bare) == []
    session.do(Delete("/box/a"))
    assert beat(bare) == []
    bare.clock.now += MINUTE
    assert beat(bare) == ["/box"]


def test_the_writer_does_not_remove_a_container_that_was_filled_and_emptied_again(
    scene: tuple[Bare, BareSession],
) -> None:
    bare, session = scene
    session.do(create("/box", CONTAINER))
    session.do(create("/box/a"))
    session.do(Delete("/box/a"))
    bare.clock.now += MINUTE
    assert bare.heartbeat.reap() == ["/box"]
    asked = bare.worker_queue.take()
    session.do(create("/box/a"))
    session.do(Delete("/box/a"))
    for body in asked:
        bare.worker_queue.send("writer", "late", body)
    bare.pump()
    record = session.read("/box")
    assert record is not None
    assert record.meta is not None
    bare.clock.now += MINUTE
    assert beat(bare) == ["/box"]


def test_a_container_whose_last_children_end_with_their_session_goes(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    owner = bare.session("owner")
    session.do(create("/box", CONTAINER))
    for number in range(200):  # in pages
        owner.ask(Create(f"/box/{number}", inline(b""), ephemeral=True))
    owner.do(Close())
    bare.clock.now += MINUTE
    assert beat(bare) == ["/box"]


def test_the_index_loses_the_rows_of_what_is_gone_when_their_time_comes(
    scene: tuple[Bare, BareSession],
) -> None:
    bare, session = scene
    session.do(create("/t", 10 * DAY))
    session.do(create("/box", CONTAINER))
    session.do(create("/box/a"))
    session.do(Delete("/box/a"))
    session.do(Delete("/t"))
    session.do(Delete("/box"))
    session.do(create("/t"))  # an ordinary one in its place
    assert sorted(rows(bare)) == ["/box", "/t"]
    bare.writer.idle()
    bare.distributor.idle()  # the mark
    bare.clock.now += DAY + 1
    assert beat(bare) == []
    assert rows(bare) == []
    assert session.read("/t") is not None


def test_a_writer_that_is_behind_looks_before_it_refuses_what_is_due(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    session.do(create("/t", HOUR))
    session.do(create("/t/c"))
    behind = bare.writer
    bare.recycle()
    session.do(Delete("/t/c"))
    bare.clock.now += HOUR + 1
    assert bare.heartbeat.reap() == ["/t"]
    bare.writer = behind
    bare.pump()
    record = session.read("/t")
    assert record is None or record.meta is None


def test_a_row_that_is_put_before_its_record_stays(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    head = session.do(create("/n")).txid
    bare.deployment.transients.put("/soon", bare.clock.now, head + 1)  # a distributor that is not done yet
    bare.deployment.transients.put("/n", bare.clock.now, head + 1)
    assert beat(bare) == []
    assert rows(bare) == ["/n", "/soon"]


def test_a_row_noted_anew_is_not_dropped_for_what_was_seen_before(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    transients = bare.deployment.transients
    txid = session.do(create("/t", HOUR)).txid
    row = next(transients.all())
    transients.put("/t", row.due, txid + 5)
    transients.drop(row)
    assert [each.stamp for each in transients.all()] == [txid + 5]
    transients.put("/t", row.due, txid)  # a slow distributor's
    assert [each.stamp for each in transients.all()] == [txid + 5]


def test_a_time_to_live_of_years_is_looked_at_once_a_day(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    session.do(create("/t", 5 * DAY))
    days = 0
    while not beat(bare):
        (row,) = bare.deployment.transients.all()
        assert bare.clock.now < row.due <= bare.clock.now + DAY + 1
        bare.clock.now = row.due
        days += 1
    assert days == 6


def test_a_beat_looks_at_nothing_that_is_not_due() -> None:
    calls: Counter[str] = Counter()
    bare = Bare(table=lambda name: Counting(name, calls))
    session = bare.session(timeout=HOUR)
    for number in range(1_000):
        session.ask(create(f"/t{number}", HOUR))
        session.ask(create(f"/box{number}", CONTAINER))
    session.do(create("/box0/a"))
    calls.clear()
    assert beat(bare) == []
    assert calls == {"lease.query": 1}
    session.do(Delete("/box0/a"))
    bare.clock.now += MINUTE
    calls.clear()
    assert bare.heartbeat.reap() == ["/box0"]
    assert calls == {"lease.query": 1, "records.get_many": 1}


def test_rows_of_an_earlier_release_are_replaced_and_nothing_is_lost(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    table = bare.tables["lease"]
    session.do(create("/old", HOUR))
    session.do(create("/full", CONTAINER))
    session.do(create("/full/a"))
    session.do(create("/due", 1))
    session.do(create("/gone", HOUR))
    session.do(Delete("/gone"))
    bare.writer.idle()
    bare.distributor.idle()
    for row in list(bare.deployment.transients.all()):
        bare.deployment.transients.drop(row)
    for path in ("/old", "/full", "/due", "/gone"):
        table.put("transient", path, {"stamp": 2})
    bare.clock.now += 2
    assert beat(bare) == ["/due"]
    assert beat(bare) == []
    assert sorted((row.path, row.due > 0) for row in bare.deployment.transients.all()) == [
        ("/full", True),
        ("/old", True),
    ]
    session.do(Delete("/full/a"))
    bare.clock.now += HOUR
    assert sorted(beat(bare)) == ["/full", "/old"]


@pytest.mark.parametrize("seed", range(20))
def test_no_znode_that_goes_by_itself_is_lost_whoever_applies_what_when(seed: int) -> None:
    """Groups of every size are applied again in any order, and heartbeat beats in between, also late ones."""
    dice = Random(seed)
    bare = Bare(own_distributor=True, expiring=False)
    session = bare.session(timeout=100 * DAY)
    names = ["/box", "/box/a", "/box/b", "/t", "/t/a"]

    def somebody() -> None:
        """A distributor begins anew, from a mark that is lost, applies some, and is killed."""
        bare.clock.now += dice.choice((0, 0, 1, 30_000))
        view = load(bare.deployment.log, bare.deployment.checkpoints, bare.clock)
        view.pending = bare.deployment.log.after(0, 1_000)[0]
        view.pending = view.pending[: dice.randrange(len(view.pending) + 1)]
        view.applied = 0
        Distributor(bare.deployment).settle(view, bare.clock())

    for _ in range(60):
        path = dice.choice(names)
        ttl = {"/box": CONTAINER, "/t": dice.choice((1, 50_000, 5 * DAY))}.get(path, 0)
        ask = dice.choice((create(path, ttl), create(path, ttl), Delete(path), SetData(path, inline(b""))))
        session.ask(ask)
        if dice.random() < 0.7:
            bare.writer.handle(bare.worker_queue.take())
        if dice.random() < 0.3:
            somebody()
        if dice.random() < 0.3 and bare.distributor_queue is not None:
            bare.distributor.handle(bare.distributor_queue.take() or [wake_up(None, 0, ())])
        if dice.random() < 0.5:
            bare.heartbeat.reap()
    bare.pump()
    for path in ("/box", "/t"):
        record = session.read(path)
        if record is not None and (at := record.meta and record.meta.due_at()) is not None:
            assert any(row.path == path and row.due <= at for row in bare.deployment.transients.all())
            bare.clock.now = max(bare.clock.now, at)
            for _ in range(7):
                beat(bare)
            left = session.read(path)
            assert left is None or left.meta is None
