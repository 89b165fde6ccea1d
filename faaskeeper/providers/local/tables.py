"""The Table driver on SQLite.

An item's strings, integers and lists are one JSON text that the ``sqlite3`` shell shows; its bytes
stand behind each other in a BLOB, and the text says which is how long.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from faaskeeper.core.errors import Conflict
from faaskeeper.core.storage import Condition, IfAbsent, IfOlder, IfStamp, Item, Page
from faaskeeper.providers.local.database import Database

_dumps = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, check_circular=False).encode
_BYTES = "\x00bytes"


def _encode(item: Item) -> tuple[int, str, bytes | None]:
    fields: dict[str, Any] = dict(item)
    stamp = fields.pop("stamp", 0)
    binary = [(name, value) for name, value in fields.items() if isinstance(value, bytes)]
    if not binary:
        return stamp, _dumps(fields), None
    for name, _ in binary:
        del fields[name]
    fields[_BYTES] = [(name, len(value)) for name, value in binary]
    if len(binary) == 1:
        return stamp, _dumps(fields), binary[0][1]
    return stamp, _dumps(fields), b"".join(value for _, value in binary)


def _decode(stamp: int, body: str, data: bytes | None) -> Item:
    item: dict[str, Any] = json.loads(body)
    item["stamp"] = stamp
    if data is not None:
        at = 0
        for name, length in item.pop(_BYTES):
            item[name] = data[at : at + length]
            at += length
    return item


class SqliteTable:
    """One table of a database file."""

    max_item_bytes = 500_000_000  # SQLite's limit of a row is 10^9 bytes; ours leaves room for JSON

    def __init__(self, database: Database, name: str) -> None:
        self._database = database
        where = 'WHERE "partition"=? AND "key"=?'
        self._get = f'SELECT "stamp","body","data" FROM "{name}" {where}'
        self._query = (
            f'SELECT "key","stamp","body","data" FROM "{name}" '
            'WHERE "partition"=? AND "key">? ORDER BY "key" LIMIT ?'
        )
        values = f'INTO "{name}" VALUES (?,?,?,?,?)'
        self._insert = f"INSERT {values}"
        self._replace = f"INSERT OR REPLACE {values}"
        self._upsert = (
            f'INSERT {values} ON CONFLICT DO UPDATE SET "stamp"=excluded."stamp", '
            '"body"=excluded."body", "data"=excluded."data" WHERE "stamp"<?'
        )
        self._update = (
            f'UPDATE "{name}" SET "stamp"=?,"body"=?,"data"=? {where} AND "stamp"=?'
        )
        self._delete = f'DELETE FROM "{name}" {where}'
        self._delete_if = f'DELETE FROM "{name}" {where} AND "stamp"=?'

    def get(self, partition: str, key: str) -> Item | None:
        """See :class:`faaskeeper.core.storage.Table`."""
        rows = self._database.read(self._get, (partition, key))
        return _decode(*rows[0]) if rows else None

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        """See :class:`faaskeeper.core.storage.Table`."""
        return [self.get(partition, key) for partition, key in keys]

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        """See :class:`faaskeeper.core.storage.Table`."""
        stamp, body, data = _encode(item)
        write = self._database.write
        if isinstance(condition, IfOlder):
            done = write(self._upsert, (partition, key, stamp, body, data, condition.stamp))
        elif isinstance(condition, IfAbsent):
            done = write(self._insert, (partition, key, stamp, body, data))
        elif isinstance(condition, IfStamp):
            done = write(self._update, (stamp, body, data, partition, key, condition.stamp))
        else:
            done = write(self._replace, (partition, key, stamp, body, data))
        if not done:
            raise Conflict(f"{partition!r}, {key!r}: {condition}")

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        """See :class:`faaskeeper.core.storage.Table`."""
        if isinstance(condition, IfStamp):
            if not self._database.write(self._delete_if, (partition, key, condition.stamp)):
                raise Conflict(f"{partition!r}, {key!r}: {condition}")
        elif condition is None:
            self._database.write(self._delete, (partition, key))
        else:
            raise ValueError(f"a delete is unconditional or IfStamp, not {condition}")

    def query(self, partition: str, after: str, limit: int) -> Page:
        """See :class:`faaskeeper.core.storage.Table`."""
        rows = self._database.read(self._query, (partition, after, limit))
        return Page([(row[0], _decode(*row[1:])) for row in rows], len(rows) == limit)
