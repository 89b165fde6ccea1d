"""An object store in a table, for deployments that keep everything in tables."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

from faaskeeper.core.drivers.storage import IfAbsent, IfOlder, IfStamp, Object, Table
from faaskeeper.core.errors import Conflict
from faaskeeper.core.wide import INDEX, WideTable

_PARTITION = "objects"
_PAGE = 500
_FIRST_BYTES = 6
"""Tags of an object count up from a random number, so an object put again after its deletion has
other tags."""


class TableObjects:
    """Objects as items, in parts if too large for one item; the tag is the item's stamp.

    A new object costs one put (and one for each part). ``match`` works for objects that fit an
    item.
    """

    def __init__(self, table: Table, random: Callable[[int], bytes] = os.urandom) -> None:
        self.wide = self._table = WideTable(table, f"{INDEX} {_PARTITION}", random)
        self._bare = table
        self._random = random

    def get(self, key: str) -> Object | None:
        item = self._table.get(_PARTITION, key)
        return None if item is None else Object(bytes(item["body"]), str(item["stamp"]))  # type: ignore[arg-type]

    def put(self, key: str, body: bytes, *, absent: bool = False, match: str | None = None) -> str:
        if match is not None:
            known = int(match) if match.isdigit() else -1
            self._table.put(_PARTITION, key, {"stamp": known + 1, "body": body}, IfStamp(known))
            return str(known + 1)
        first = int.from_bytes(self._random(_FIRST_BYTES), "big")
        try:
            self._table.put(_PARTITION, key, {"stamp": first, "body": body}, IfAbsent())
        except Conflict:
            if absent:
                raise
        else:
            return str(first)
        while True:
            found = self.get(key)
            stamp = first if found is None else int(found.tag) + 1
            try:
                self._table.put(_PARTITION, key, {"stamp": stamp, "body": body}, IfOlder(stamp))
            except Conflict:
                continue  # another put came between: ours is the later one
            return str(stamp)

    def delete(self, key: str, *, match: str | None = None) -> None:
        condition = None if match is None else IfStamp(int(match) if match.isdigit() else -1)
        self._table.delete(_PARTITION, key, condition)

    def delete_keys(self, keys: Sequence[str]) -> None:
        self._table.delete_many([(_PARTITION, key) for key in keys])

    def list(self, prefix: str, after: str, limit: int) -> list[str]:
        keys: list[str] = []
        # just below the first key with the prefix
        position = max(after, f"{prefix[:-1]}{chr(ord(prefix[-1]) - 1)}\U0010ffff" if prefix else "")
        more = True
        while more and len(keys) < limit:
            items, more = self._bare.query(_PARTITION, position, min(limit - len(keys), _PAGE))
            for key, _ in items:
                position = key
                if not key.startswith(prefix):
                    return keys
                keys.append(key)
        return keys
