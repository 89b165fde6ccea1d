"""What happens although nobody asks: expiry, forgotten doorbells, checkpoints, sweeping."""

from __future__ import annotations

from pathlib import Path

import pytest

from faaskeeper.core.blobs import blob_name
from faaskeeper.core.errors import Conflict
from faaskeeper.core.heartbeat import BLOB_MS, FORGOTTEN_MS, TOMBSTONE_MS
from faaskeeper.core.log import RETENTION_MS
from faaskeeper.core.requests import Close, Create, Data, Delete, SetData, inline
from faaskeeper.providers.local.objects import DirectoryStore
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
    assert bare.tables["watch"].query(f"session {session.id}", "", 10).items == []
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
    assert bare.heartbeat.ring() is False  # too young to be forgotten
    assert bare.deployment.records.get("/n") is None
    bare.clock.now += FORGOTTEN_MS
    assert bare.heartbeat.ring() is True
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


def test_a_tombstone_lapses_only_when_it_is_old_and_the_mark_has_passed_it() -> None:
    bare = Bare()
    session = bare.session()
    session.do(Create("/n", inline(b"")))
    session.do(Delete("/n"))
    session.do(Create("/again", inline(b"")))
    session.do(Delete("/again"))
    bare.heartbeat.sweep()
    assert bare.deployment.records.get("/n") is not None
    for _ in range(3):
        bare.clock.now += TOMBSTONE_MS
        bare.heartbeat.sweep()
        assert bare.deployment.records.get("/n") is not None  # the mark is still below it
    session.do(Create("/again", inline(b"")))
    bare.writer.idle()
    for _ in range(2):
        bare.heartbeat.sweep()
        assert bare.deployment.records.get("/n") is not None  # the mark has only just passed it
        bare.clock.now += TOMBSTONE_MS
    bare.heartbeat.sweep()
    assert bare.deployment.records.get("/n") is None
    record = bare.deployment.records.get("/again")
    assert record is not None
    assert record.meta is not None


def test_a_log_that_does_not_trim_itself_is_trimmed_after_the_retention_and_not_before() -> None:
    bare = Bare(expiring=False)
    session = bare.session()
    session.do(Create("/n", inline(b"")))
    bare.writer.idle()
    for _ in range(8):
        bare.clock.now += 24 * 3600 * 1000
        bare.recycle()
        session.do(SetData("/n", inline(b"")))
        bare.writer.idle()
        bare.heartbeat.sweep()
    left = bare.tables["log"].query("log", "", 100).items
    assert [item["first"] for _, item in left] == [3, 4, 5, 6, 7, 8, 9, 10]
    young = [item for _, item in left if bare.clock.now - int(item["time"]) < RETENTION_MS]  # type: ignore[arg-type]
    assert len(young) == 7


def test_blobs_go_when_nothing_refers_to_them_and_stay_while_something_does(tmp_path: Path) -> None:
    store = DirectoryStore(tmp_path)
    bare = Bare(blobs=store)
    session = bare.session(timeout=3_600_000)

    def blob(path: str, sequential: bool = False) -> Data:
        name = blob_name(bare.clock(), bare.random(3), session.id, b"large", path, sequential)
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
    bare.heartbeat.sweep()
    assert len(store.list("b/", "", 100)) == 5
    bare.clock.now += TOMBSTONE_MS
    bare.heartbeat.sweep()
    assert replaced.blob not in store.list("b/", "", 100)
    bare.clock.now += BLOB_MS
    bare.heartbeat.sweep()
    assert store.list("b/", "", 100) == sorted([kept.blob, numbered.blob])
    assert orphan.blob not in store.list("b/", "", 100)


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
