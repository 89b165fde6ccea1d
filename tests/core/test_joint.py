"""An entry together with its records in one call: how much of it, and what if the store refuses."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

import pytest

from faaskeeper.core.drivers.storage import JOINT_BYTES, JOINT_WRITES, IfAbsent, Write
from faaskeeper.core.errors import Code, Conflict, TooLarge
from faaskeeper.core.requests import Create, SetData, inline
from faaskeeper.core.transactions import Limits
from tests.bare import Bare, BareSession

KB = 1024


class Store:
    """A deployment whose store makes several puts as one, and the calls to it.

    ``refuse``: called before each joint put; what it raises is the store's answer.
    """

    def __init__(self, limits: Limits | None = None) -> None:
        self.bare = Bare(limits=limits)
        self.joined: list[int] = []
        """How many puts each joint call made."""
        self.alone = 0
        """Entries that were put alone."""
        self.refuse: Callable[[Sequence[Write]], None] = lambda writes: None
        put = self.bare.tables["log"].put

        def append(partition: str, key: str, item: object, condition: object = None) -> None:
            self.alone += 1
            put(partition, key, item, condition)  # type: ignore[arg-type]

        self.bare.tables["log"].put = append  # type: ignore[method-assign]
        self._put = put
        self.bare.deployment.joint = self._joint
        self.bare.recycle()
        self.session = self.bare.session()
        self.alone = 0

    def _joint(self, writes: Sequence[Write]) -> None:
        self.refuse(writes)
        tables = self.bare.tables
        for each in writes:
            there = tables[each.table].get(each.partition, each.key)
            if there is None:
                continue
            if isinstance(each.condition, IfAbsent) or there["stamp"] >= each.item["stamp"]:  # type: ignore[operator]
                raise Conflict(f"{each.table} {each.partition} {each.key}")
        for each in writes:
            put = self._put if each.table == "log" else tables[each.table].put
            put(each.partition, each.key, each.item)
        self.joined.append(len(writes))

    def all_at_once(self, *operations: Create | SetData) -> None:
        """Have requests decided together; all must succeed, and be read."""
        futures = [self.session.ask(each) for each in operations]
        self.bare.pump()
        self.session.receive()
        assert {future.get(0).code for future in futures} == {Code.OK}
        shown: dict[str, bytes] = {each.path: each.data.inline for each in operations}
        assert {path: data_of(self.session, path) for path in shown} == shown

    def entries(self) -> int:
        return len(self.bare.deployment.log.after(0)[0])


def data_of(session: BareSession, path: str) -> bytes | None:
    record = session.read(path)
    return None if record is None else record.data


def creations(number: int, data: bytes = b"") -> list[Create | SetData]:
    return [Create(f"/n{each}", inline(data)) for each in range(number)]


def sets(number: int, data: bytes) -> list[Create | SetData]:
    return [SetData(f"/n{each}", inline(data)) for each in range(number)]


def test_hundreds_of_records_are_put_together_with_their_entry() -> None:
    store = Store()
    store.all_at_once(*creations(100))
    store.joined.clear()
    store.all_at_once(*sets(100, b"x" * KB))
    assert (store.joined, store.alone) == ([101], 0)


def test_records_that_are_too_many_for_one_call_follow_their_entry() -> None:
    store = Store(Limits(page_names=10 * JOINT_WRITES, entry_bytes=KB * KB))
    store.all_at_once(*creations(JOINT_WRITES - 2))  # they, their parent, and the entry
    assert (store.joined, store.alone) == ([JOINT_WRITES], 0)
    store.all_at_once(*sets(JOINT_WRITES - 2, b"1"), Create("/more", inline(b"")))
    assert (store.joined, store.alone) == ([JOINT_WRITES], 1)


def test_records_of_too_many_bytes_follow_their_entry() -> None:
    store = Store()
    data = b"x" * 512 * KB
    fits = JOINT_BYTES // len(data) - 1
    for number in range(fits + 1):  # one by one: the data of all does not fit one entry
        store.all_at_once(Create(f"/n{number}", inline(data)))
    store.joined.clear()
    few = [Create(f"/n{number}/a", inline(b"")) for number in range(fits)]
    more = [Create(f"/n{number}/b", inline(b"")) for number in range(fits + 1)]
    store.all_at_once(*few)  # a parent's record has its data, too
    assert (store.joined, store.alone) == ([1 + 2 * fits], 0)
    store.all_at_once(*more)
    assert (store.joined, store.alone) == ([1 + 2 * fits], 1)


def test_a_store_that_refuses_as_too_large_gets_the_entry_first(caplog: pytest.LogCaptureFixture) -> None:
    store = Store()
    store.all_at_once(*creations(30))
    store.joined.clear()

    def refuse(writes: Sequence[Write]) -> None:
        if len(writes) > 25:
            raise TooLarge("too many entity groups")

    store.refuse = refuse
    with caplog.at_level(logging.WARNING):
        store.all_at_once(*sets(30, b"1"))
    assert (store.joined, store.alone) == ([], 1)
    assert "is put before its records: too many entity groups" in caplog.text
    store.all_at_once(*sets(20, b"2"))
    assert (store.joined, store.alone) == ([21], 1)


def test_a_conflict_while_the_entry_s_key_is_free_is_tried_once_more_in_one_call() -> None:
    store = Store()
    store.all_at_once(*creations(3))
    store.joined.clear()
    left = [Conflict("a record is not as this driver saw it last")]

    def refuse(writes: Sequence[Write]) -> None:
        if left:
            raise left.pop()

    store.refuse = refuse
    before = store.entries()
    store.all_at_once(*sets(3, b"1"))
    assert (store.joined, store.alone, store.entries()) == ([4], 0, before + 1)
    left.extend([Conflict("and again")] * 2)
    store.all_at_once(*sets(3, b"2"))
    assert (store.joined, store.alone, store.entries()) == ([4], 1, before + 2)


@pytest.mark.parametrize(
    ("limits", "size", "least", "most"),
    [
        (Limits(entry_bytes=20 * KB), KB, 10, 25),
        (Limits(entry_bytes=5 * KB), KB, 3, 6),
        (Limits(entry_paths=10), 0, 10, 12),
        (Limits(), KB, 150, 250),
    ],
    ids=["20 KB", "5 KB", "10 znodes", "usual"],
)
def test_a_batch_ends_at_the_limits_of_the_deployment(
    limits: Limits, size: int, least: int, most: int
) -> None:
    store = Store(limits)
    number = 2 * most
    before = store.entries()
    store.all_at_once(*creations(number, b"x" * size))
    assert number / most <= store.entries() - before <= number / least + 1


def test_many_changes_of_few_znodes_are_one_entry_where_few_znodes_are_allowed() -> None:
    store = Store(Limits(entry_paths=10))
    store.all_at_once(*creations(5))
    before = store.entries()
    store.all_at_once(*[each for turn in range(50) for each in sets(5, b"%d" % turn)])
    assert store.entries() == before + 1
