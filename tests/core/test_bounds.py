"""What is over leaves nothing behind, whichever of several processes comes last."""

from __future__ import annotations

import pytest

from faaskeeper.core.changes import Change, Transaction
from faaskeeper.core.drivers.storage import Condition, IfAbsent, IfOlder, Item
from faaskeeper.core.errors import Code, Conflict, Unavailable
from faaskeeper.core.log import Answers, Entry, Log
from faaskeeper.core.requests import Outcome
from faaskeeper.core.sessions import Session, Sessions
from faaskeeper.core.wide import WideTable
from faaskeeper.providers.memory import MemoryTable

WIDE = {"stamp": 1, "data": b"x" * 2_000}
NARROW = {"stamp": 2, "data": b"small"}


def _names(table: MemoryTable, partition: str) -> set[str]:
    return {" ".join(key.split()[1:3]) for key, _ in table.query(f"parts {partition}", "", 100).items}


def _sweep(table: WideTable, now: int) -> None:
    for calls in table.sweep(now, 10):
        for call in calls:
            call()


def _lose(table: WideTable) -> None:
    with pytest.raises(Conflict):
        table.put("p", "k", dict(WIDE), IfOlder(1))


def test_parts_that_no_item_names_go_when_that_was_so_for_long_enough() -> None:
    table = MemoryTable(max_item_bytes=500)
    one, other = WideTable(table), WideTable(table)
    one.put("p", "k", dict(WIDE), IfOlder(1))
    _lose(other)
    assert len(_names(table, "p")) == 2
    _sweep(one, 0)
    _sweep(one, 9)
    assert len(_names(table, "p")) == 2
    _sweep(one, 10)
    assert _names(table, "p") == {str(table.get("p", "k")["named"])}  # type: ignore[index]
    assert one.get("p", "k") == WIDE
    WideTable(table).put("p", "k", dict(NARROW), IfOlder(2))  # it never saw that the item was in parts
    _sweep(one, 11)
    _sweep(one, 21)
    assert table._items.get("parts p", {}) == table._items.get("wide", {}) == {}


def test_a_writer_that_stands_still_between_parts_and_item_is_not_overtaken_by_a_sweep() -> None:
    table = MemoryTable(max_item_bytes=500)
    one, other = WideTable(table), WideTable(table)
    put = table.put

    def still(partition: str, key: str, item: Item, condition: Condition = None) -> None:
        if (partition, key) == ("p", "k"):
            for now in (0, 5, 9):
                _sweep(other, now)
        put(partition, key, item, condition)

    table.put = still  # type: ignore[method-assign]
    one.put("p", "k", dict(WIDE), IfOlder(1))
    _sweep(other, 100)  # marked long ago, and named since
    assert other.get("p", "k") == WIDE


def test_parts_of_a_writer_that_crashed_go_too() -> None:
    table = MemoryTable(max_item_bytes=500)
    put = table.put

    def crash(partition: str, key: str, item: Item, condition: Condition = None) -> None:
        if key.endswith("0002"):
            raise Unavailable("gone")
        put(partition, key, item, condition)

    table.put = crash  # type: ignore[method-assign]
    with pytest.raises(Unavailable):
        WideTable(table).put("p", "k", dict(WIDE), IfAbsent())
    assert len(_names(table, "p")) == 1
    for now in (0, 10):
        _sweep(WideTable(table), now)
    assert table._items.get("parts p", {}) == table._items.get("wide", {}) == {}


def test_an_item_that_fits_is_one_put_also_over_one_in_parts() -> None:
    table = MemoryTable(max_item_bytes=500)
    WideTable(table).put("p", "k", dict(WIDE), IfOlder(1))
    puts: list[str] = []
    put = table.put

    def counted(partition: str, key: str, item: Item, condition: Condition = None) -> None:
        puts.append(partition)
        put(partition, key, item, condition)

    table.put = counted  # type: ignore[method-assign]
    table.get = table.query = table.delete = None  # type: ignore[method-assign, assignment]
    WideTable(table).put("p", "k", dict(NARROW), IfOlder(2))
    assert puts == ["p"]


def test_trimming_the_log_deletes_the_parts_of_what_is_trimmed_whoever_put_them() -> None:
    table = MemoryTable(max_item_bytes=500)
    first, second, last = (
        Entry(txid, txid, 0, (Transaction(txid, (Change(f"/{'x' * 900}", "", None, None),)),), ())
        for txid in (1, 2, 3)
    )
    for entry in (first, second, last):
        Log(table).append(entry, 0)
    with pytest.raises(Conflict):
        Log(table).append(second, 0)
    assert len(_names(table, "log")) == 4
    Log(table).trim([first, second])
    Log(table).drop_parts(last.first)
    assert len(_names(table, "log")) == 1
    assert Log(table).at(3) == last


def test_outcomes_that_a_session_is_known_to_have_do_not_come_back_when_the_log_is_folded_again() -> None:
    sessions = Sessions()
    session = Session(1, "nonce", b"", 10_000)
    session.last, session.acked = 5, 4
    session.outcomes = {5: Outcome(Code.OK, 9)}
    sessions.add(session)  # a checkpoint's row, which has gone on beyond its header
    answers = Answers(1, 0, 1, "here", ((2, Outcome(Code.OK, 6)), (3, Outcome(Code.OK, 6))))
    sessions.fold(Entry(6, 6, 0, (Transaction(6, ()),), (answers,)))
    assert list(session.outcomes) == [5]
    assert (session.last, session.acked) == (5, 4)
