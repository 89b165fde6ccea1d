"""Rows of watches whose session has ended: put too late, they go all the same."""

from __future__ import annotations

from faaskeeper.core.requests import Close, Create, SetData, inline
from faaskeeper.core.sweeping import TOMBSTONE_MS
from faaskeeper.core.watches import Row
from tests.bare import Bare, BareSession


def ended(bare: Bare) -> BareSession:
    """A session that is over and cleared, and whose watches are put only then."""
    session = bare.session("late")
    session.do(Close())
    return session


def put(session: BareSession, path: str, kind: str) -> None:
    watches = session.bare.deployment.watches
    watches.index(session.id, path, kind)
    watches.put(Row(path, kind, session.id, session.rules.seen, session.name))


def left(bare: Bare) -> int:
    return sum(len(items) for items in bare.tables["watch"]._items.values())  # type: ignore[attr-defined]


def test_a_row_of_a_session_that_is_over_goes_when_it_fires_also_one_that_would_stay() -> None:
    bare = Bare()
    writer = bare.session()
    writer.do(Create("/n", inline(b"")))
    late = ended(bare)
    for kind in ("data", "persistent"):
        put(late, "/n", kind)
    put(writer, "/n", "persistent")
    writer.do(SetData("/n", inline(b"1")))
    assert [row.session for row in bare.deployment.watches.rows("/n")] == [writer.id]


def test_the_mark_of_a_session_that_is_over_and_all_its_rows_go_with_the_next_write_anywhere() -> None:
    bare = Bare()
    writer = bare.session()
    writer.do(Create("/n", inline(b"")))
    late = ended(bare)
    put(late, "/elsewhere", "recursive")
    put(late, "/elsewhere", "data")
    writer.do(SetData("/n", inline(b"1")))
    assert left(bare) == 2  # the index stays until nothing may come any more
    assert bare.deployment.watches.rows("/elsewhere") == []
    assert not bare.deployment.watches.recursive(lambda session: False)


def test_a_mark_alone_goes_too() -> None:
    bare = Bare()
    writer = bare.session()
    writer.do(Create("/n", inline(b"")))
    late = ended(bare)
    bare.tables["watch"].put("recursive", str(late.id), {"stamp": 1})
    writer.do(SetData("/n", inline(b"1")))
    assert left(bare) == 0


def test_the_mark_of_a_session_that_lives_stays() -> None:
    bare = Bare()
    writer = bare.session()
    writer.do(Create("/n", inline(b"")))
    writer.drive(writer.rules.add_watch("/elsewhere", "recursive", print))
    writer.do(SetData("/n", inline(b"1")))
    assert bare.deployment.watches.recursive(lambda session: False)


def test_the_mark_of_a_session_that_the_function_does_not_know_yet_stays() -> None:
    bare = Bare(own_distributor=True)
    writer = bare.session()
    writer.do(Create("/n", inline(b"")))
    young = 1_000_000
    bare.tables["watch"].put("recursive", str(young), {"stamp": 1})
    writer.do(SetData("/n", inline(b"1")))
    assert left(bare) == 1


def test_what_was_put_after_a_session_s_end_and_never_fires_is_swept() -> None:
    bare = Bare()
    late = ended(bare)
    for path in ("/a", "/b"):
        put(late, path, "exists")
    assert left(bare) == 4
    for _ in range(4):
        bare.writer.idle()
        bare.heartbeat.sweep()
        bare.clock.now += TOMBSTONE_MS + 1
    assert left(bare) == 0


def test_a_row_that_comes_after_its_session_was_cleared_is_still_in_the_index() -> None:
    bare = Bare()
    session = bare.session("late")
    watches = bare.deployment.watches
    watches.index(session.id, "/a", "exists")
    session.do(Close())
    watches.put(Row("/a", "exists", session.id, session.rules.seen, session.name))
    for _ in range(4):
        bare.writer.idle()
        bare.heartbeat.sweep()
        bare.clock.now += TOMBSTONE_MS + 1
    assert left(bare) == 0
