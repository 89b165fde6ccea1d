"""The log, and its entries over several partition keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from faaskeeper.core.drivers.storage import Condition, Item, Page
from faaskeeper.core.errors import Conflict
from faaskeeper.core.log import Answers, Entry, Log, Trimmed, key, partition, partitions
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.session.interpreter import read_writes

STRIPES = 5


class Counting(MemoryTable):
    """A table that counts calls, and has something done before a query of a partition."""

    def __init__(self, max_item_bytes: int = 1 << 30) -> None:
        super().__init__(max_item_bytes=max_item_bytes)
        self.calls: Counter[str] = Counter()
        self.before: dict[str, Callable[[], object]] = {}

    def get(self, partition: str, key: str) -> Item | None:
        self.calls["get"] += 1
        return super().get(partition, key)

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        self.calls["put"] += 1
        super().put(partition, key, item, condition)

    def query(self, partition: str, after: str, limit: int) -> Page:
        self.calls["query"] += 1
        self.before.pop(partition, lambda: None)()
        return super().query(partition, after, limit)


def striped(table: MemoryTable, stripes: int = STRIPES) -> Log:
    return Log(table, stripes=lambda: stripes)


def entry(first: int, last: int = 0) -> Entry:
    return Entry(first, last or first, 1_000, (), ())


def filled(log: Log, number: int, size: int = 3) -> list[Entry]:
    entries = [entry(first, first + size - 1) for first in range(1, number * size + 1, size)]
    for each in entries:
        log.append(each, 0)
    return entries


def everything(log: Log, limit: int = 100) -> list[Entry]:
    found: list[Entry] = []
    more = True
    while more:
        some, more = log.after(found[-1].last if found else 0, limit)
        assert some or not more
        assert len(some) <= limit
        found += some
    return found


def put_meanwhile(table: Counting, log: Log, least: int) -> int:
    """Have two entries put while the stripes are read, the first after its stripe was; returns its txid.

    So a query of all stripes shows the second and not the first. ``least``: the txid's.
    """
    read = {name: at for at, name in enumerate(partitions(STRIPES))}
    order = {first: read[partition(first, STRIPES)] for first in range(least, 40)}
    base = next(first for first in range(least, 39) if order[first + 1] > order[first])
    later = partition(base + 1, STRIPES)
    table.before[later] = lambda: [log.append(entry(first), 0) for first in (base, base + 1)]
    return base


@pytest.mark.parametrize("stripes", [1, 2, 5, 8])
@pytest.mark.parametrize("limit", [1, 7, 100])
def test_entries_are_read_in_their_order_over_however_many_stripes(stripes: int, limit: int) -> None:
    log = striped(MemoryTable(), stripes)
    entries = filled(log, 300)
    assert everything(log, limit) == entries
    assert log.at(entries[77].first) == entries[77]
    assert log.at(entries[77].first + 1) is None
    with pytest.raises(Conflict):
        log.append(entry(entries[5].first), 0)


def test_one_stripe_lies_where_the_log_did_before_there_were_any() -> None:
    assert partitions(1) == [partition(7, 1)] == ["log"]


@pytest.mark.parametrize("size", [1, 8, 100])
def test_batches_of_any_constant_size_are_spread_evenly(size: int) -> None:
    counted = Counter(partition(1 + size * number, 8) for number in range(8_000))
    assert set(counted) == set(partitions(8))
    assert max(counted.values()) < 1.2 * 1_000


def test_a_look_at_the_end_is_one_get_and_finds_one_entry_by_another() -> None:
    table = Counting()
    log = striped(table)
    entries = filled(log, 40)
    assert table.calls == {"put": 40}
    table.calls.clear()
    assert log.tail(entries[-1].last) == ([], False)
    assert table.calls == {"get": 1}
    table.calls.clear()
    assert log.tail(entries[-2].last) == (entries[-1:], False)
    assert table.calls == {"get": 2}
    table.calls.clear()
    assert log.tail(entries[-3].last, entries[-2].last) == (entries[-2:-1], True)
    assert table.calls == {"get": 1}
    table.calls.clear()
    assert log.tail(0) == (entries, False)
    assert table.calls == {"get": 2, "query": STRIPES}


def test_nothing_behind_a_gap_is_taken_and_what_was_left_out_is_read_again() -> None:
    """Another writer goes on while the stripes are read: a later entry is seen, one before it is not."""
    table = Counting()
    log = striped(table)
    filled(log, 1, 1)
    base = put_meanwhile(table, log, 2)
    for first in range(2, base):
        log.append(entry(first), 0)
    found, more = log.after(0)
    assert [each.first for each in found] == list(range(1, base))
    assert more
    assert [each.first for each in everything(log)] == list(range(1, base + 2))


def test_a_first_entry_that_was_put_meanwhile_is_not_taken_for_a_trimmed_one() -> None:
    table = Counting()
    log = striped(table)
    base = put_meanwhile(table, log, 1)
    for first in range(1, base):
        log.append(entry(first), 0)
    assert log.after(base - 1) == ([entry(base)], True)
    assert log.after(base) == ([entry(base + 1)], False)


def test_where_a_log_begins_is_right_while_others_write_behind_that() -> None:
    """Who asks from anywhere is told of the first entry that is there, and skips none."""
    table = Counting()
    log = striped(table)
    base = put_meanwhile(table, log, 5)
    with pytest.raises(Trimmed) as trimmed:
        log.after(2)
    assert trimmed.value.first == base


@pytest.mark.parametrize("stripes", [1, STRIPES])
def test_a_reader_of_trimmed_entries_is_told_where_the_log_begins(stripes: int) -> None:
    table = MemoryTable(max_item_bytes=700)
    log = striped(table, stripes)
    entries = filled(log, 20)
    large = entry(61)._replace(answers=(Answers(1, 1, 0, "x" * 3_000, ()),))
    log.append(large, 0)
    log.append(entry(62), 0)
    assert log.at(61) == large
    log.trim([*entries, large])
    log.drop_parts(62)
    with pytest.raises(Trimmed) as trimmed:
        log.after(0)
    assert trimmed.value.first == 62
    assert [name for name, rows in table._items.items() if rows] == [partition(62, stripes)]
    assert log.after(61) == ([entry(62)], False)


def test_what_was_trimmed_in_any_order_is_not_taken_for_the_log_s_end() -> None:
    """A session that has rested for days: 11 is past its time and still there, 12 is gone, 13 is new."""
    log = striped(MemoryTable())
    entries = filled(log, 13, 1)
    log.trim([entries[11]])
    with pytest.raises(Trimmed):
        log.look(10)
    assert read_writes(log, 10, None) is None
    assert read_writes(log, 12, None) == ([], 13)
    assert read_writes(log, 11, None) == ([], 11)  # the mark is above
    log.trim([entries[10]])
    assert log.look(10) == ([], False)


def test_keys_sort_like_txids() -> None:
    assert key(9) < key(10) < key(1 << 40)
