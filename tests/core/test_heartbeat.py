"""What happens although nobody asks: expiry, forgotten doorbells, checkpoints."""

from __future__ import annotations

import pytest

from faaskeeper.core.errors import Conflict
from faaskeeper.core.heartbeat import FORGOTTEN_MS
from faaskeeper.core.requests import Close, Create, inline
from tests.bare import Bare


def test_an_overdue_session_is_closed_and_leaves_nothing() -> None:
    bare = Bare()
    session, other = bare.session("one"), bare.session("two")
    session.do(Create("/e", inline(b""), ephemeral=True))
    session.watch("/e", "data")
    other.watch("/e", "exists")
    bare.clock.now += 10_001
    lease = bare.deployment.leases.get(other.id)
    assert lease is not None
    bare.deployment.leases.renew(other.id, lease.version, bare.clock.now + 10_000)
    assert bare.heartbeat.expire() == [session.id]
    bare.pump()
    other.receive()
    assert [(str(event.event_type), event.path) for event in other.fired] == [("NodeDeleted", "/e")]
    assert bare.deployment.leases.get(session.id) is None
    assert bare.deployment.watches.rows("/e") == []
    index = bare.tables["watch"].query(f"session {session.id}", "", 10).items
    assert [key for key, _ in index] == ["data /e"]  # for the sweep, should a row come late
    assert bare.heartbeat.expire() == []


def test_a_marked_lease_cannot_be_renewed_and_a_renewed_one_not_marked() -> None:
    bare = Bare()
    session = bare.session()
    leases = bare.deployment.leases
    before = leases.get(session.id)
    assert before is not None
    version = leases.renew(session.id, before.version, bare.clock.now + 99_000)
    with pytest.raises(Conflict):
        leases.mark(before)
    after = leases.get(session.id)
    assert after is not None
    assert after.version == version
    leases.mark(after)
    with pytest.raises(Conflict):
        leases.renew(session.id, version, bare.clock.now + 99_000)


def test_a_lease_in_time_is_left_alone() -> None:
    bare = Bare()
    session = bare.session()
    bare.clock.now += 9_999
    assert bare.heartbeat.expire() == []
    assert session.do(Create("/n", inline(b""))).txid == 2


def test_a_lost_close_is_asked_for_again() -> None:
    bare = Bare()
    session = bare.session()
    session.do(Create("/e", inline(b""), ephemeral=True))
    bare.clock.now += 10_001
    assert bare.heartbeat.expire() == [session.id]
    bare.worker_queue.take()
    assert bare.heartbeat.expire() == [session.id]
    bare.pump()
    record = bare.deployment.records.get("/e")
    assert record is not None
    assert record.meta is None
    assert bare.heartbeat.expire() == []


@pytest.mark.parametrize("own_distributor", [False, True])
def test_a_forgotten_doorbell_is_rung(own_distributor: bool) -> None:
    bare = Bare(own_distributor=own_distributor)
    session = bare.session()
    session.ask(Create("/n", inline(b"")))
    if own_distributor:
        bare.writer.handle(bare.worker_queue.take())
        assert bare.distributor_queue is not None
        bare.distributor_queue.take()
    else:
        bare.writer._distributor.settle = lambda *arguments, **options: (_ for _ in ()).throw(
            Conflict("died")
        )  # type: ignore[method-assign]
        with pytest.raises(Conflict):
            bare.pump()
    bare.recycle()
    assert bare.heartbeat.wake() is False  # too young to be forgotten
    assert bare.deployment.records.get("/n") is None
    bare.clock.now += FORGOTTEN_MS
    assert bare.heartbeat.wake() is True
    bare.pump()
    record = bare.deployment.records.get("/n")
    assert record is not None
    assert record.meta is not None


def test_the_checkpoint_is_kept_young_without_any_traffic() -> None:
    bare = Bare()
    bare.session()
    for _ in range(30):
        bare.clock.now += 24 * 3600 * 1000
        assert bare.heartbeat.refresh() is True
        assert bare.heartbeat.refresh() is False
    bare.recycle()
    assert bare.session("late").id == 2


def test_a_session_closed_long_ago_is_forgotten_everywhere() -> None:
    bare = Bare()
    session = bare.session()
    session.do(Close())
    bare.writer.idle()
    assert len(bare.tables["checkpoint"].query("session", "", 10).items) == 1
    bare.clock.now += 25 * 3600 * 1000
    bare.session("late")
    bare.writer.idle()
    rows = bare.tables["checkpoint"].query("session", "", 10).items
    assert [int(key) for key, _ in rows] == [3]


def test_a_part_that_fails_keeps_no_other_from_its_turn() -> None:
    bare = Bare()
    session = bare.session()
    bare.clock.now += 10_001

    def fail() -> list[str]:
        raise ValueError("something odd")

    bare.heartbeat.reap = fail  # type: ignore[method-assign]
    bare.deployment.checkpoints.applied = fail  # type: ignore[assignment, method-assign]
    with pytest.raises(ValueError, match="something odd"):
        bare.heartbeat.beat()
    bare.pump()
    assert bare.deployment.leases.get(session.id) is None
