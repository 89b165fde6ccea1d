"""Mass closes and long backlogs: entries stay bounded, and what was done is not begun again."""

from __future__ import annotations

from typing import Any

import pytest

from faaskeeper.core import log
from faaskeeper.core.answers import wake_up
from faaskeeper.core.distributor import GROUP_ENTRIES
from faaskeeper.core.drivers.storage import Check
from faaskeeper.core.errors import Code, Unavailable
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Close, Create, Delete, Multi, SetData, inline
from faaskeeper.core.sessions import CLOSED_KEPT_MS, Session, Sessions
from faaskeeper.core.transactions import Limits
from faaskeeper.core.view import load
from faaskeeper.core.writer import order
from tests.bare import Bare, BareSession

DAY = 24 * 3_600_000


def entries(bare: Bare) -> list[log.Entry]:
    found: list[log.Entry] = []
    more = True
    while more:
        page, more = bare.deployment.log.after(found[-1].last if found else 0)
        found += page
    return found


def changes(entry: log.Entry) -> int:
    return sum(len(each.changes) for each in entry.transactions)


def ephemerals(session: BareSession, number: int) -> None:
    session.do(Multi(tuple(Create(f"/{session.name}-{each}", inline(b""), True) for each in range(number))))


def there(session: BareSession, path: str) -> bool:
    record = session.read(path)
    return record is not None and record.meta is not None


@pytest.fixture(params=["inline", "own distributor"])
def bare(request: pytest.FixtureRequest) -> Bare:
    return Bare(own_distributor=request.param == "own distributor", limits=Limits(close_changes=10))


def fail(patch: pytest.MonkeyPatch, bare: Bare, after: int) -> None:
    """The log's store fails once it took so many entries."""
    append = bare.deployment.log.append
    left = [after]

    def failing(entry: log.Entry, now: int) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise OSError("killed")
        append(entry, now)

    patch.setattr(bare.deployment.log, "append", failing)


def test_an_order_to_close_many_sessions_makes_several_bounded_entries() -> None:
    bare = Bare()
    sessions = [bare.session(f"s{number}") for number in range(60)]
    for session in sessions:
        ephemerals(session, 100)
    before = len(entries(bare))
    bare.worker_queue.send("writer", "beat", order(bare.deployment, [each.id for each in sessions]))
    bare.pump()
    made = entries(bare)[before:]
    assert sum(changes(entry) for entry in made) == 60 * 101
    assert max(changes(entry) for entry in made) <= 2_000
    assert len(made) < 8
    other = bare.session("other")
    assert not there(other, "/s0-0")
    assert not there(other, "/s59-99")


def test_an_order_to_remove_many_znodes_makes_several_bounded_entries() -> None:
    bare = Bare()
    session = bare.session()
    for at in range(0, 3_000, 500):
        session.do(Multi(tuple(Create(f"/n{each}", inline(b""), ttl=1) for each in range(at, at + 500))))
    bare.clock.now += 2
    before = len(entries(bare))
    paths = [f"/n{each}" for each in range(3_000)]
    bare.worker_queue.send("writer", "beat", order(bare.deployment, (), paths))
    bare.pump()
    made = entries(bare)[before:]
    assert sum(len(entry.transactions) for entry in made) == 3_000
    assert max(changes(entry) for entry in made) <= 2_010


def test_a_session_with_few_ephemerals_is_closed_by_one_transaction(bare: Bare) -> None:
    session = bare.session()
    ephemerals(session, 10)
    outcome = session.do(Close())
    assert entries(bare)[-1].last == outcome.txid
    assert changes(entries(bare)[-1]) == 11


def test_a_session_with_many_is_closed_by_several_and_answered_when_all_are_gone(bare: Bare) -> None:
    session, other = bare.session(), bare.session("other")
    ephemerals(session, 35)
    dropped: list[bool] = []
    drop = bare.deployment.leases.drop
    bare.deployment.leases.drop = lambda id: (  # type: ignore[method-assign]
        dropped.append(any(there(other, f"/s-{each}") for each in range(35))),
        drop(id),
    )[1]
    closing = session.ask(Close())
    late = session.ask(Create("/late", inline(b"")))
    deliver = bare.mail.deliver

    def delivering(address: str, message: bytes) -> bool:
        if address == "s":
            assert not any(there(other, f"/s-{each}") for each in range(35))
        return deliver(address, message)

    bare.mail.deliver = delivering  # type: ignore[method-assign]
    first = entries(bare)[-1].last + 1
    bare.pump()
    session.receive()
    assert closing.get(0).txid == first
    assert late.get(0).code is Code.SESSION_EXPIRED
    assert [len(each.changes) for each in entries(bare)[-4].transactions] == [11]
    assert len({entry.first for entry in entries(bare) if entry.first >= first}) == 4
    assert dropped == [False]


@pytest.mark.parametrize("saved", [False, True])
@pytest.mark.parametrize("asked_by", ["client", "heartbeat", "anybody"])
def test_a_closing_that_is_cut_short_is_finished_by_whoever_comes_next(
    bare: Bare, saved: bool, asked_by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bare.deployment.save_every = 1 if saved else 1_000
    session, other = bare.session(), bare.session("other", timeout=DAY)
    ephemerals(session, 35)
    closing = session.ask(Close())
    message = bare.worker_queue.held[0]
    with monkeypatch.context() as patch:
        fail(patch, bare, 2)
        with pytest.raises(OSError, match="killed"):
            bare.pump()
    bare.distributor_queue and bare.distributor.handle(bare.distributor_queue.take())
    session.receive()
    assert not closing.done()
    assert there(other, "/s-9")
    assert bare.deployment.leases.get(session.id) is not None
    bare.recycle()
    if asked_by == "client":
        bare.worker_queue.held = [message]
    elif asked_by == "heartbeat":
        bare.clock.now += 60_000
        assert bare.heartbeat.expire() == [session.id]
    else:
        other.ask(Create("/n", inline(b"")))
    bare.pump()
    other.receive()
    assert not any(there(other, f"/s-{each}") for each in range(35))
    assert bare.deployment.leases.get(session.id) is None
    bare.worker_queue.held = [message]
    bare.pump()
    session.receive()
    assert closing.get(0).code is Code.OK


def test_what_others_delete_meanwhile_does_not_keep_a_closing_open(
    bare: Bare, monkeypatch: pytest.MonkeyPatch
) -> None:
    session, other = bare.session(), bare.session("other", timeout=DAY)
    ephemerals(session, 12)
    session.ask(Close())
    with monkeypatch.context() as patch:
        fail(patch, bare, 1)
        with pytest.raises(OSError, match="killed"):
            bare.pump()
    view = load(bare.deployment.log, bare.deployment.checkpoints, bare.clock)
    left = sorted(view.sessions.get(session.id).ephemerals)  # type: ignore[union-attr]
    assert len(left) == 2
    bare.recycle()
    other.do(Multi(tuple(Delete(path) for path in left)))
    bare.clock.now += 60_000
    bare.heartbeat.expire()
    bare.pump()
    assert bare.deployment.leases.get(session.id) is None


def test_folding_any_part_of_a_closing_again_ends_in_the_same_state(bare: Bare) -> None:
    session = bare.session()
    ephemerals(session, 35)
    session.do(Close())
    history = entries(bare)

    def state(sessions: Sessions) -> list[Any]:
        return [(each.id, each.closed, sorted(each.ephemerals), each.last, each.closing) for each in sessions]

    for row_at in range(1, len(history) + 1):
        for header_at in range(row_at):
            row, again = Sessions(), Sessions()
            for entry in history[:row_at]:
                row.fold(entry)
            for each in row:
                again.add(each)
            for entry in history[header_at:]:
                again.fold(entry)
            for entry in history[row_at:]:
                row.fold(entry)
            assert state(again) == state(row)
            assert not again.closing


def test_a_session_is_not_forgotten_while_it_owns_ephemerals() -> None:
    sessions = Sessions()
    session = Session(1, "n", b"", 4_000)
    session.closed, session.ephemerals = 1_000, {"/e"}
    sessions.add(session)
    sessions.fold(log.Entry(2, 2, 1_000 + 2 * CLOSED_KEPT_MS, (), ()))
    assert sessions.get(1) is session
    session.ephemerals.clear()
    sessions.closing.clear()
    sessions.fold(log.Entry(3, 3, 1_000 + 4 * CLOSED_KEPT_MS, (), ()))
    assert sessions.get(1) is None


def test_a_multi_whose_acls_would_fill_the_log_is_refused() -> None:
    bare = Bare()
    session = bare.session()
    names = tuple((31, "digest", f"user{number}:{'x' * 100}") for number in range(500))
    assert session.do(Create("/n", inline(b""), acl=(*names, (31, "world", "anyone")))).code is Code.OK
    before = len(entries(bare))
    outcome = session.do(Multi((SetData("/n", inline(b"1")),) * 1_000))
    assert outcome.code is Code.TOO_LARGE
    assert [each.code for each in outcome.results].count(Code.TOO_LARGE) == 1
    assert len(entries(bare)) == before + 1
    assert session.do(Multi((SetData("/n", inline(b"1")),) * 10)).code is Code.OK


def test_a_session_that_acknowledges_nothing_is_kept_no_more_than_so_many_outcomes(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("faaskeeper.core.validation._UNACKED", 5)
    bare = Bare()
    session = bare.session()
    for number in range(20):
        future = session.ask(Create(f"/n{number}", inline(b"")))
    bare.pump()
    view = load(bare.deployment.log, bare.deployment.checkpoints, bare.clock)
    assert len(view.sessions.get(session.id).outcomes) == 6  # type: ignore[union-attr]
    session.receive()
    assert not future.done()
    for _ in range(3):  # it acknowledges what it was told, and asks again
        session.send(session.message(*session.outbox.resend(session.resend)))
        bare.pump()
        session.receive()
    assert future.get(0).code is Code.OK


def test_a_view_forgets_sessions_that_were_closed_a_day_before_whoever_saves(bare: Bare) -> None:
    for day in range(4):
        for number in range(5):
            bare.session(f"{day} {number}").do(Close())
        bare.clock.now += DAY + 1
    last = bare.session("last")
    last.do(Create("/n", inline(b"")))
    view = bare.writer._view
    assert view is not None
    assert [each.id for each in view.sessions] == [last.id]
    assert list(view.sessions._by_nonce.values()) == [last.id]
    bare.writer.idle()
    bare.distributor.idle()
    assert len(view.sessions._closed) == 0
    assert not view.sessions.changed
    rows = bare.tables["checkpoint"].query("session", "", 100).items
    assert [int(key) for key, _ in rows] == [last.id]


def test_a_long_backlog_is_marked_as_it_is_applied_and_not_begun_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    bare = Bare(own_distributor=True)
    session = bare.session()
    for number in range(10 * GROUP_ENTRIES):
        session.ask(Create(f"/n{number}", inline(b"")))
        bare.writer.handle(bare.worker_queue.take())
    written: list[str] = []
    put = bare.deployment.records.put

    def slow(path: str, record: Record, *check: Check) -> bool:
        if len(written) == 100:
            raise Unavailable("the invocation is at its time's end")
        written.append(path)
        bare.clock.now += 1_000
        return put(path, record, *check)

    monkeypatch.setattr(bare.deployment.records, "put", slow)
    bare.recycle()
    with pytest.raises(Unavailable):
        bare.distributor.handle([wake_up(None, 0, ())])
    done, written[:] = set(written), []
    monkeypatch.setattr(bare.deployment.records, "put", lambda *it: (written.append(it[0]), put(*it))[1])
    bare.recycle()
    bare.distributor.handle([wake_up(None, 0, ())])
    assert len(done & set(written) - {"/"}) <= GROUP_ENTRIES  # the group that was cut short
    assert {f"/n{number}" for number in range(10 * GROUP_ENTRIES)} <= done | set(written)
