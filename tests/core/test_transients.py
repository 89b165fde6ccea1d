"""Containers and znodes with a time to live: when they go, and what is left of them."""

from __future__ import annotations

from typing import Any

import pytest

from faaskeeper.core.requests import Create, Delete, SetData, inline
from faaskeeper.core.znode import CONTAINER
from tests.bare import Bare, BareSession

HOUR = 3_600_000


def create(path: str, ttl: int = 0) -> Create:
    return Create(path, inline(b""), ttl=ttl)


def beat(bare: Bare) -> list[str]:
    """One beat, and what it asked for done; returns what was asked for."""
    due = bare.heartbeat.reap()
    bare.pump()
    return due


def rows(bare: Bare) -> list[tuple[str, int]]:
    return list(bare.deployment.transients.all())


@pytest.fixture(params=["inline", "own distributor"])
def scene(request: Any) -> tuple[Bare, BareSession]:
    bare = Bare(own_distributor=request.param == "own distributor")
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


def test_the_index_loses_the_rows_of_what_is_gone(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    session.do(create("/t", HOUR))
    session.do(create("/box", CONTAINER))
    session.do(Delete("/t"))
    session.do(create("/t"))  # an ordinary one in its place
    assert [path for path, _ in rows(bare)] == ["/box", "/t"]
    bare.writer.idle()
    bare.distributor.idle()  # the mark
    assert beat(bare) == []
    assert [path for path, _ in rows(bare)] == ["/box"]
    assert session.read("/t") is not None


def test_a_row_that_is_put_before_its_record_stays(scene: tuple[Bare, BareSession]) -> None:
    bare, session = scene
    head = session.do(create("/n")).txid
    bare.deployment.transients.put("/soon", head + 1)  # a distributor that is not done yet
    assert beat(bare) == []
    assert rows(bare) == [("/soon", head + 1)]


def test_an_old_row_that_comes_late_does_not_hide_a_newer_znode() -> None:
    bare = Bare()
    session = bare.session(timeout=HOUR)
    old = session.do(create("/t", HOUR)).txid
    session.do(Delete("/t"))
    new = session.do(create("/t", 5)).txid
    bare.deployment.transients.put("/t", old)
    assert rows(bare) == [("/t", new)]
    bare.clock.now += 6
    assert beat(bare) == ["/t"]
