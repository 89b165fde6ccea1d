"""Tables on SQLite.

An item's strings, integers and lists are one JSON text, readable in the ``sqlite3`` shell. Its
bytes are concatenated in a BLOB; the text contains their lengths.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from faaskeeper.core.codec import parse, text
from faaskeeper.core.drivers.storage import Condition, IfAbsent, IfOlder, IfStamp, Item, Page
from faaskeeper.core.errors import Conflict
from faaskeeper.providers.local.database import Database, Look

_BYTES = "\x00bytes"
_TOGETHER = 64
"""Items that one statement reads."""
_WRITTEN_TOGETHER = 128
"""Rows that one statement writes: within it other threads run, between two it waits for them."""

Row = tuple[int, str, "bytes | None"]
"""An item as the last columns of a row: stamp, JSON text, bytes."""


def encode(item: Item) -> Row:
    """The columns of an item."""
    fields: dict[str, Any] = dict(item)
    stamp = fields.pop("stamp", 0)
    types = list(map(type, fields.values()))
    number = types.count(bytes)
    if not number:
        return stamp, text(fields), None
    if number == 1:  # nearly all have one, and none is of a class derived from bytes
        name = list(fields)[types.index(bytes)]
        data: bytes = fields.pop(name)
        fields[_BYTES] = ((name, len(data)),)
        return stamp, text(fields), data
    binary = [(name, value) for name, value in fields.items() if isinstance(value, bytes)]
    for name, _ in binary:
        del fields[name]
    fields[_BYTES] = [(name, len(value)) for name, value in binary]
    return stamp, text(fields), b"".join([value for _, value in binary])


def _decode(stamp: int, body: str, data: bytes | None) -> Item:
    item: dict[str, Any] = parse(body)
    item["stamp"] = stamp
    if data is not None:
        layout = item.pop(_BYTES)
        if len(layout) == 1:
            item[layout[0][0]] = data
            return item
        at = 0
        for name, length in layout:
            item[name] = data[at : at + length]
            at += length
    return item


class SqliteTable:
    """One table of a database file."""

    max_item_bytes = 500_000_000  # SQLite's limit of a row is 10^9 bytes; this leaves room for JSON
    SCHEMA = (
        '("partition" TEXT NOT NULL, "key" TEXT NOT NULL, "stamp" INTEGER NOT NULL, '
        '"body" TEXT NOT NULL, "data" BLOB, PRIMARY KEY ("partition", "key"))'
    )
    _WHERE = '"partition"=? AND "key"=?'
    _AFTER = '"partition"=? AND "key">?'
    _VALUES = "(?,?,?,?,?)"

    def __init__(self, database: Database | Look, name: str) -> None:
        self._database = database
        where, values = f"WHERE {self._WHERE}", f'INTO "{name}" VALUES {self._VALUES}'
        self._get = f'SELECT "stamp","body","data" FROM "{name}" {where}'
        self._get_some = (
            f'SELECT "partition","stamp","body","data" FROM "{name}" WHERE "key"=? AND "partition" IN'
        )
        self._query = (
            f'SELECT "key","stamp","body","data" FROM "{name}" WHERE {self._AFTER} ORDER BY "key" LIMIT ?'
        )
        self._insert = f"INSERT {values}"
        self._replace = f"INSERT OR REPLACE {values}"
        self._replace_many = self._replace + f",{self._VALUES}" * (_WRITTEN_TOGETHER - 1)
        self._upsert = (
            f'INSERT {values} ON CONFLICT DO UPDATE SET "stamp"=excluded."stamp", '
            '"body"=excluded."body", "data"=excluded."data" WHERE "stamp"<?'
        )
        self._update = f'UPDATE "{name}" SET "stamp"=?,"body"=?,"data"=? {where} AND "stamp"=?'
        self._delete = f'DELETE FROM "{name}" {where}'
        self._delete_if = f'DELETE FROM "{name}" {where} AND "stamp"=?'

    def _at(self, partition: str, key: str) -> tuple[str | int, ...]:
        """The columns that identify an item."""
        return (partition, key)

    def _key(self, stored: str | int) -> str:
        """The key of a row."""
        return str(stored)

    def get(self, partition: str, key: str) -> Item | None:
        rows = self._database.read(self._get, (partition, key))
        return _decode(*rows[0]) if rows else None

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        if len(keys) < 2 or len({key for _, key in keys}) > 1:
            return [self.get(partition, key) for partition, key in keys]
        found: dict[str, Item] = {}
        partitions = [partition for partition, _ in keys]
        for at in range(0, len(keys), _TOGETHER):
            some = partitions[at : at + _TOGETHER]
            # Few lengths, so that few statements are prepared.
            places = 1 << (len(some) - 1).bit_length()
            some.extend(some[-1:] * (places - len(some)))
            statement = f"{self._get_some} ({','.join('?' * places)})"
            for row in self._database.read(statement, (keys[0][1], *some)):
                found[row[0]] = _decode(*row[1:])
        return [found.get(partition) for partition in partitions]

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        at = self._at(partition, key)
        stamp, body, data = encode(item)
        write = self._database.write
        if isinstance(condition, IfOlder):
            done = write(self._upsert, (*at, stamp, body, data, condition.stamp))
        elif isinstance(condition, IfAbsent):
            done = write(self._insert, (*at, stamp, body, data))
        elif isinstance(condition, IfStamp):
            done = write(self._update, (stamp, body, data, *at, condition.stamp))
        else:
            done = write(self._replace, (*at, stamp, body, data))
        if not done:
            raise Conflict(f"{partition!r}, {key!r}: {condition}")

    def replace_all(self, rows: Sequence[tuple[str, str, Row]]) -> None:
        """Put items of partitions and keys without a condition, in a transaction."""

        def statements() -> Iterable[tuple[str, list[Any]]]:
            for at in range(0, len(rows), _WRITTEN_TOGETHER):
                some = rows[at : at + _WRITTEN_TOGETHER]
                columns = [each for partition, key, row in some for each in (*self._at(partition, key), *row)]
                if len(some) == _WRITTEN_TOGETHER:
                    yield self._replace_many, columns
                else:
                    width = len(columns) // len(some)
                    for start in range(0, len(columns), width):
                        yield self._replace, columns[start : start + width]

        self._database.write_all(statements())

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        at = self._at(partition, key)
        if isinstance(condition, IfStamp):
            if not self._database.write(self._delete_if, (*at, condition.stamp)):
                raise Conflict(f"{partition!r}, {key!r}: {condition}")
        elif condition is None:
            self._database.write(self._delete, at)
        else:
            raise ValueError(f"a delete must be unconditional or IfStamp, not {condition}")

    def query(self, partition: str, after: str, limit: int) -> Page:
        rows = self._database.read(self._query, (*self._at(partition, after), limit))
        return Page([(self._key(row[0]), _decode(*row[1:])) for row in rows], len(rows) == limit)


class NumberedTable(SqliteTable):
    """A table of one partition whose keys are 16-digit numbers: the log.

    The key is SQLite's row id, so an append changes one page and no index.
    """

    SCHEMA = '("key" INTEGER PRIMARY KEY, "stamp" INTEGER NOT NULL, "body" TEXT NOT NULL, "data" BLOB)'
    _WHERE = '"key"=?'
    _AFTER = '"key">?'
    _VALUES = "(?,?,?,?)"

    def _at(self, partition: str, key: str) -> tuple[str | int, ...]:
        return (int(key or -1),)

    def get(self, partition: str, key: str) -> Item | None:
        rows = self._database.read(self._get, self._at(partition, key))
        return _decode(*rows[0]) if rows else None

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        return [self.get(partition, key) for partition, key in keys]

    def _key(self, stored: str | int) -> str:
        return f"{stored:016d}"
