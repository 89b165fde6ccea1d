"""The super user ends other sessions, and a session itself; nobody else does."""

from __future__ import annotations

import pytest

from faaskeeper.core.acl import digest
from faaskeeper.core.changes import Closed
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Create, End, inline
from tests.bare import Bare

SUPER = (("digest", "admin:secret"),)


@pytest.fixture
def bare() -> Bare:
    made = Bare()
    made.deployment.super_digest = digest("admin:secret")
    return made


def test_the_super_user_ends_another_session_with_its_ephemerals(bare: Bare) -> None:
    session, admin = bare.session(), bare.session("admin")
    session.do(Create("/lock", inline(b""), ephemeral=True))
    bare.deployment.leases.grant(session.id, 10**15)
    admin.auth = SUPER
    assert admin.do(End(session.id)).code is Code.OK
    assert bare.deployment.records.get("/lock").meta is None  # type: ignore[union-attr]
    assert bare.deployment.leases.get(session.id) is None
    assert session.do(Create("/b", inline(b""))).code is Code.SESSION_EXPIRED
    assert admin.do(End(session.id)).code is Code.NO_NODE
    entry = bare.deployment.log.after(0)[0][-2]
    assert entry.transactions[-1].by == ("super",)


def test_nobody_else_ends_another_session_or_learns_whether_it_is_open(bare: Bare) -> None:
    session, other = bare.session(), bare.session("other")
    for auth in ((), (("digest", "admin:wrong"),), (("digest", "alice:secret"),)):
        other.auth = auth
        assert other.do(End(session.id)).code is Code.NO_AUTH
        assert other.do(End(10**9)).code is Code.NO_AUTH
    assert session.do(Create("/a", inline(b""), ephemeral=True)).code is Code.OK


def test_a_session_ends_itself_and_is_answered(bare: Bare) -> None:
    session = bare.session()
    session.do(Create("/a", inline(b""), ephemeral=True))
    assert session.do(End(session.id)).code is Code.OK
    assert bare.deployment.records.get("/a").meta is None  # type: ignore[union-attr]
    assert session.do(Create("/b", inline(b""))).code is Code.SESSION_EXPIRED


def test_a_session_with_many_ephemerals_is_ended_in_parts(bare: Bare) -> None:
    bare.deployment.limits = bare.deployment.limits._replace(close_changes=10)
    session, admin = bare.session(), bare.session("admin")
    for each in range(35):
        session.do(Create(f"/e{each}", inline(b""), ephemeral=True))
    admin.auth = SUPER
    assert admin.do(End(session.id)).code is Code.OK
    bare.pump()
    records = [bare.deployment.records.get(f"/e{each}") for each in range(35)]
    assert all(each is not None and each.meta is None for each in records)


def test_a_repeated_message_ends_nothing_twice_and_gets_the_same_answer(bare: Bare) -> None:
    session, admin = bare.session(), bare.session("admin")
    admin.auth = SUPER
    asked = admin.ask(End(session.id))
    bare.worker_queue.held *= 2
    bare.pump()
    admin.receive()
    assert asked.get(0).code is Code.OK
    entries = bare.deployment.log.after(0)[0]
    closed = [each for entry in entries for change in entry.transactions for each in change.effects]
    assert closed.count(Closed(session.id, False)) == 1
