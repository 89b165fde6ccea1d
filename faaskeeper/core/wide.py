"""Items larger than a store allows: kept in parts.

A version of an item in parts has a name that no other version has, not even one with equal
contents. Its parts are put under that name first, then the item that names it, on its condition. So
a process that finds the item finds its parts, unless the item was replaced in between: then it
reads the item again. A process that replaces or deletes an item need not know whether it was in
parts, and deletes no parts.

**Garbage.** Parts of versions that were replaced, and parts of versions that no item ever named,
because their writer lost to another or crashed. Before the first part, the writer puts a row with
the version's name into an index, a partition of the same table. Sweeping reads the item of each
row. If the item is gone or names another version, the sweep marks the row with the time. When it
finds the same again and the mark is old, it deletes the version's parts, then the row.

*A sweep deletes nothing that an item names, or will name.* Only one put names a version: the last
call of the writer that made up its name, which began before the row was marked. A mark is old after
more time than an invocation lives and a call stays under way, so that put took effect before the
last read, or never will; and a version that was replaced is never named again. (A client that
sleeps for days in the middle of a put stores what nothing needs: its session is over.)

*A sweep finds all garbage.* The row exists before the first part and is deleted after the last one;
after a crash in between, the next sweep begins again at the row. A writer that is suspended, for
any time shorter than an invocation's, changes nothing: its row stays until the mark is old.

An item that fits costs one put, whatever was stored before. One in parts costs a put for itself,
one for each part, and one for its row. The log has no index: its parts are deleted by age, like its
entries.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

from faaskeeper.core import codec
from faaskeeper.core.drivers.storage import (
    Check,
    Condition,
    Gather,
    IfAbsent,
    IfOlder,
    IfStamp,
    Item,
    Page,
    Table,
    delete_all,
    every,
    in_any_case,
    in_turn,
)
from faaskeeper.core.errors import Conflict, TooLarge, Unavailable

_OVERHEAD = 300
"""Most bytes of a part beside its piece of the item; partition and key are counted apart."""
_NO_LIMIT = 100_000_000
_TRIES = 5
_TOKEN_BYTES = 8
_ROWS = 100
_MOST_PARTS = 10_000
INDEX = "wide"
"""The index of a table with items of different partitions."""


def size_of(partition: str, key: str, item: Item) -> int:
    """Approximate size of an item in bytes; an upper bound of what the known stores count."""
    total = len(partition.encode()) + len(key.encode()) + 100
    for name, value in item.items():
        total += len(name) + 12
        if isinstance(value, str):
            total += len(value.encode())
        elif isinstance(value, bytes):
            total += len(value)
        elif isinstance(value, list):
            total += sum(len(each.encode()) + 4 for each in value)
    return total


class WideTable:
    """A table whose items, put under IfAbsent or IfOlder, may have any size.

    ``index``: the partition with a row for each version in parts; "": none, and parts are deleted
    by :meth:`drop_parts` or by the store's time to live. ``random``: makes names of versions.
    """

    max_item_bytes = 1 << 40

    def __init__(self, table: Table, index: str = INDEX, random: Callable[[int], bytes] = os.urandom) -> None:
        self._table = table
        self.index = index
        self._random = random

    # ---- reading -----------------------------------------------------------------------

    def get(self, partition: str, key: str) -> Item | None:
        item = self._table.get(partition, key)
        return item if item is None or "parts" not in item else self._whole(partition, key, item)

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        found = self._table.get_many(keys)
        for at, item in enumerate(found):
            if item is not None and "parts" in item:
                found[at] = self._whole(*keys[at], item)
        return found

    def query(self, partition: str, after: str, limit: int) -> Page:
        page = self._table.query(partition, after, limit)
        if not any("parts" in item for _, item in page.items):
            return page
        items: list[tuple[str, Item]] = []
        for key, item in page.items:
            whole = self._whole(partition, key, item)
            if whole is not None:
                items.append((key, whole))
        return Page(items, page.more)

    def _whole(self, partition: str, key: str, item: Item | None) -> Item | None:
        for _ in range(_TRIES):
            if item is None or "parts" not in item:
                return item
            number, name = item["parts"], item["named"]
            if not isinstance(number, int) or not isinstance(name, str):
                raise codec.Malformed(f"the item {partition} {key} has parts {number!r} {name!r}")
            parts = self._table.get_many(_parts(partition, key, name, number))
            pieces = [part["piece"] for part in parts if part is not None]
            if len(pieces) == number:
                return codec.to_item(b"".join(piece for piece in pieces if isinstance(piece, bytes)))
            item = self._table.get(partition, key)  # replaced meanwhile
        raise Unavailable(f"the item {partition} {key} was replaced {_TRIES} times while it was read")

    # ---- writing -----------------------------------------------------------------------

    def single(self, partition: str, key: str, item: Item) -> bool:
        """Whether putting the item takes a single put: it has no parts."""
        return self._fits(partition, key, item)

    def put(
        self, partition: str, key: str, item: Item, condition: Condition = None, check: Check = in_any_case
    ) -> None:
        """Put an item. Calls ``check`` before the last put if it takes several."""
        if self._fits(partition, key, item):
            self._table.put(partition, key, item, condition)
            return
        if not isinstance(condition, (IfAbsent, IfOlder)):
            raise TooLarge(f"the item {partition} {key} is too large, and its condition allows no parts")
        body = codec.item(item)
        room = self._table.max_item_bytes - _OVERHEAD - len(partition.encode()) - len(key.encode())
        pieces = [body[at : at + room] for at in range(0, len(body), room)]
        name = f"{_stamp(item)} {self._random(_TOKEN_BYTES).hex()}"
        if self.index:
            row: Item = {"stamp": 0, "partition": partition, "key": key, "parts": len(pieces)}
            self._table.put(self.index, name, row)
        for part, piece in zip(_parts(partition, key, name, len(pieces)), pieces, strict=True):
            self._table.put(*part, {"stamp": 0, "piece": piece})
        check()
        numbers: Item = {field: value for field, value in item.items() if isinstance(value, int)}
        self._table.put(partition, key, {**numbers, "parts": len(pieces), "named": name}, condition)

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        self._table.delete(partition, key, condition)

    def delete_many(self, keys: Sequence[tuple[str, str]], gather: Gather[Any] = in_turn) -> None:
        """Delete items without conditions, in as few calls as the table allows."""
        delete_all(self._table, keys, gather)

    # ---- what is left ------------------------------------------------------------------

    def sweep(self, now: int, age: int) -> Iterator[list[Callable[[], object]]]:
        """Calls that examine the versions in the index and delete garbage, in lists.

        ``now``: ms, by a clock that never counts more than the time passed; ``age``: of an old mark
        (ms).
        """
        after, more = "", bool(self.index)
        while more:
            rows, more = self._table.query(self.index, after, _ROWS)
            if not rows:
                return
            after = rows[-1][0]
            yield [partial(self._look, name, row, now, age) for name, row in rows]

    def _look(self, name: str, row: Item, now: int, age: int) -> None:
        mark, partition, key, number = row["stamp"], row["partition"], row["key"], row["parts"]
        if not (
            isinstance(mark, int)
            and isinstance(partition, str)
            and isinstance(key, str)
            and isinstance(number, int)
            and 0 <= number < _MOST_PARTS
        ):
            raise codec.Malformed(f"the row {name} of items in parts is {row!r}")
        item = self._table.get(partition, key)
        if item is not None and item.get("named") == name:
            return
        if not mark:
            try:
                self._table.put(self.index, name, {**row, "stamp": now + 1}, IfStamp(0))
            except Conflict:
                pass  # another sweep has marked or deleted it
        elif now + 1 - mark >= age:
            self.delete_many(_parts(partition, key, name, number))
            self._table.delete(self.index, name)  # last: by it the next sweep finds parts that remain

    def drop_parts(self, partition: str, below: str, gather: Gather[Any] = in_turn) -> None:
        """Delete the parts of all items with keys below one; these are gone and will not be put."""
        going: list[tuple[str, str]] = []
        for part, _ in every(self._table, _parts_of(partition)):
            if part >= below:
                break
            going.append((_parts_of(partition), part))
            if len(going) == _ROWS:
                self.delete_many(going, gather)
                going = []
        if going:
            self.delete_many(going, gather)

    def _fits(self, partition: str, key: str, item: Item) -> bool:
        most = self._table.max_item_bytes
        return most >= _NO_LIMIT or size_of(partition, key, item) <= most


def _stamp(item: Item) -> str:
    stamp = item["stamp"]
    if not isinstance(stamp, int):
        raise codec.Malformed(f"a stamp must be an integer, not {stamp!r}")
    return f"{stamp:016d}"


def _parts_of(partition: str) -> str:
    return f"parts {partition}"


def _parts(partition: str, key: str, name: str, number: int) -> list[tuple[str, str]]:
    return [(_parts_of(partition), f"{key} {name} {part:04d}") for part in range(number)]
