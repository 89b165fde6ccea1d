"""Limits that hold at scale, by the calls that are made: a cost that grows with what is there shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

from faaskeeper.core.drivers.storage import Object, Table, in_turn
from faaskeeper.core.errors import Code
from faaskeeper.core.records import ObjectRecords, Records, TableRecords
from faaskeeper.core.requests import Close, Create, Delete, Multi, SetData, inline
from faaskeeper.core.transactions import Limits
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.session.rules import names_of
from tests.bare import Bare, BareSession
from tests.core.test_calls import Counting

ITEM_BYTES = 400 * 1024
"""The smallest limit of an item among the stores: DynamoDB's."""


class CountingObjects:
    """An object store in memory that counts the calls made on it."""

    def __init__(self, calls: Counter[str]) -> None:
        self._objects: dict[str, Object] = {}
        self._calls = calls

    def get(self, key: str) -> Object | None:
        self._calls["objects.get"] += 1
        return self._objects.get(key)

    def put(self, key: str, body: bytes, *, absent: bool = False, match: str | None = None) -> str:
        self._calls["objects.put"] += 1
        assert absent == (key not in self._objects)
        tag = str(len(self._objects) + sum(self._calls.values()))
        self._objects[key] = Object(body, tag)
        return tag

    def delete(self, key: str) -> None:
        self._objects.pop(key, None)

    def list(self, prefix: str, after: str, limit: int) -> list[str]:
        return sorted(key for key in self._objects if key.startswith(prefix) and key > after)[:limit]


def deployment(calls: Counter[str], persistent: bool = False, limited: bool = True) -> Bare:
    """A deployment whose tables refuse what DynamoDB would refuse."""

    def table(name: str) -> Table:
        return Counting(name, calls, MemoryTable(ITEM_BYTES) if limited else MemoryTable())

    objects = CountingObjects(calls)
    records: Callable[[Table], Records] = TableRecords
    if persistent:
        records = lambda table: ObjectRecords(objects, in_turn)  # noqa: E731
    return Bare(table=table, records=records, limits=Limits(inline_bytes=64 * 1024))


def fill(session: BareSession, above: str, number: int, at: int = 0) -> None:
    """Create so many children, a thousand in a transaction."""
    for first in range(at, at + number, 1_000):
        some = range(first, min(first + 1_000, at + number))
        outcome = session.do(Multi(tuple(Create(f"{above}/n{each:06d}", inline(b"")) for each in some)))
        assert outcome.code is Code.OK


def cost(bare: Bare, session: BareSession, calls: Counter[str], operation: Any) -> dict[str, int]:
    """Calls of one operation that succeeds."""
    calls.clear()
    assert session.do(operation).code is Code.OK
    return dict(calls)


def listed(session: BareSession, path: str) -> list[str]:
    return names_of(path, session.drive(session.rules.snapshot([path], [path])))


@pytest.mark.parametrize("many", [10_000, pytest.param(100_000, marks=pytest.mark.simulator)])
@pytest.mark.parametrize("persistent", [False, True], ids=["key-value", "persistent"])
def test_a_parent_with_many_children_costs_what_one_with_a_thousand_does(persistent: bool, many: int) -> None:
    calls: Counter[str] = Counter()
    bare = deployment(calls, persistent)
    session = bare.session(timeout=3_600_000)
    session.do(Create("/p", inline(b"kept")))
    costs = []
    for number in (1_000, many - 1_000):
        fill(session, "/p", number, at=0 if not costs else 1_000)
        for warm in (Create("/p/warm2", inline(b"")), Delete("/p/warm2"), Create("/p/warm", inline(b""))):
            session.do(warm)  # their pages are in the writer's memory
        session.do(SetData("/p/n000007", inline(b"0")))
        costs.append(
            (
                cost(bare, session, calls, Create("/p/warm2", inline(b""))),
                cost(bare, session, calls, Create("/p/s-", inline(b""), sequential=True)),
                cost(bare, session, calls, SetData("/p/n000007", inline(b"1"))),
                cost(bare, session, calls, Delete("/p/warm2")),
            )
        )
        session.do(Delete("/p/warm"))
    assert costs[0] == costs[1]
    create = costs[1][0]
    assert create["log.put"] == 1
    assert (
        create["objects.put" if persistent else "records.put"] == 3
    )  # the child, its parent, a page of names
    calls.clear()
    names = listed(session, "/p")
    if not persistent:
        assert calls == {"records.get_many": 2}  # the parent, then all its pages
    assert len(names) == many + 2
    assert names == sorted(names)
    record = session.read("/p")
    assert record is not None
    assert record.meta is not None
    assert record.meta.children == many + 2
    assert record.data == b"kept"
    assert record.children == []


def test_a_parent_that_has_lost_its_many_children_is_as_it_was_and_can_be_deleted() -> None:
    calls: Counter[str] = Counter()
    bare = deployment(calls)
    session = bare.session(timeout=3_600_000)
    session.do(Create("/p", inline(b"")))
    fill(session, "/p", 5_000)
    for first in range(0, 5_000, 1_000):
        gone = tuple(Delete(f"/p/n{each:06d}") for each in range(first, first + 1_000))
        assert session.do(Multi(gone)).code is Code.OK
        assert len(listed(session, "/p")) == 4_000 - first
    assert cost(bare, session, calls, Create("/p/c", inline(b"")))["records.put"] == 2
    assert session.do(Delete("/p/c")).code is Code.OK
    assert session.do(Delete("/p")).code is Code.OK
    alive = [
        path
        for path, items in bare.tables["records"]._table._items.items()  # type: ignore[attr-defined]
        if path.startswith("/p") and "meta" in items["node"]
    ]
    assert alive == []


@pytest.mark.parametrize("many", [2_000, pytest.param(10_000, marks=pytest.mark.simulator)])
def test_many_watchers_of_a_znode_are_told_with_a_message_and_a_delete_each(many: int) -> None:
    calls: Counter[str] = Counter()
    bare = deployment(calls)
    session = bare.session(timeout=3_600_000)
    session.do(Create("/n", inline(b"")))
    others = [bare.session(f"s{number}", timeout=3_600_000) for number in range(many)]
    for other in others:
        other.watch("/n", "data")
    total = cost(bare, session, calls, SetData("/n", inline(b"1")))
    assert total["watch.delete"] == many
    assert total["watch.query"] <= many // 500 + 2
    assert total["log.put"] == total["records.put"] == 1
    for other in others:
        other.receive()
        assert len(other.fired) == 1


def test_10_000_sessions_cost_a_write_what_one_does_and_heartbeat_a_query_a_page() -> None:
    calls: Counter[str] = Counter()
    bare = deployment(calls)
    session = bare.session(timeout=3_600_000)
    session.do(Create("/n", inline(b"")))
    alone = cost(bare, session, calls, SetData("/n", inline(b"1")))
    for number in range(10_000):
        bare.session(f"s{number}", timeout=3_600_000)
    bare.writer.idle()
    assert cost(bare, session, calls, SetData("/n", inline(b"1"))) == alone
    calls.clear()
    bare.heartbeat.run()
    assert calls["lease.query"] <= 10_000 // 500 + 2
    assert calls["lease.put"] == 0
    bare.recycle()
    calls.clear()
    session.do(SetData("/n", inline(b"2")))  # by a cold writer
    assert calls["checkpoint.query"] <= 10_000 // 500 + 1
    assert calls["log.put"] == 1


@pytest.mark.parametrize("cold", [False, True])
def test_a_session_with_10_000_ephemerals_is_closed_in_ten_transactions(cold: bool) -> None:
    calls: Counter[str] = Counter()
    bare = deployment(calls)
    session, other = bare.session("one", timeout=3_600_000), bare.session("two", timeout=3_600_000)
    for first in range(0, 10_000, 500):
        some = tuple(
            Create(f"/ephemeral-with-a-long-name-{each:06d}", inline(b""), ephemeral=True)
            for each in range(first, first + 500)
        )
        assert session.do(Multi(some)).code is Code.OK
    bare.writer.idle()  # the checkpoint's row of this session is larger than an item
    if cold:
        bare.recycle()
    calls.clear()
    outcome = session.do(Close())
    assert outcome.code is Code.OK
    assert calls["log.put"] <= 10
    assert calls["records.get_many"] <= 30
    assert calls["records.put"] <= 10_000 + 10 * 100  # and those with the names of the root's children
    assert listed(other, "/") == ["zookeeper"]
    assert bare.deployment.leases.get(session.id) is None
    bare.recycle()
    assert other.do(Create("/n", inline(b""))).txid == outcome.txid + 10


def test_a_transaction_of_1_000_operations_is_one_append() -> None:
    calls: Counter[str] = Counter()
    bare = deployment(calls)
    session = bare.session(timeout=3_600_000)
    session.do(Create("/p", inline(b"")))
    parts = [Create(f"/p/n{number}", inline(b"x" * 100), sequential=number % 2 == 0) for number in range(990)]
    parts += [Create(f"/q{number}", inline(b"")) for number in range(10)]
    total = cost(bare, session, calls, Multi(tuple(parts)))
    assert total["log.put"] == 1
    assert total["records.get_many"] <= 3
    assert total["records.put"] <= 1_002 + 16


def test_a_batch_of_sequential_creates_by_a_writer_that_does_not_distribute_reads_once() -> None:
    calls: Counter[str] = Counter()
    bare = Bare(table=lambda name: Counting(name, calls), own_distributor=True)
    session = bare.session()
    session.do(Create("/p", inline(b"")))
    calls.clear()
    for _ in range(300):
        session.ask(Create("/p/s-", inline(b""), sequential=True))
    bare.pump()
    session.receive()
    assert calls["records.get_many"] <= 2  # one by the writer, one by the distributor
    assert session.do(Create("/p/s-", inline(b""), sequential=True)).path == "/p/s-0000000300"


def test_data_over_a_stores_limit_is_refused_before_it_is_logged() -> None:
    calls: Counter[str] = Counter()
    bare = deployment(calls)
    session = bare.session()
    calls.clear()
    assert session.do(Create("/n", inline(b"x" * (64 * 1024 + 1)))).code is Code.TOO_LARGE
    assert session.do(Create("/n", inline(b"x" * (64 * 1024)))).code is Code.OK
