"""Drivers in memory, for state of one process, and for tests of a provider's other parts."""

from __future__ import annotations

import threading
from bisect import bisect_right, insort
from collections.abc import Mapping, Sequence

from faaskeeper.core.drivers.storage import Condition, IfAbsent, IfOlder, IfStamp, Item, Page
from faaskeeper.core.errors import Conflict, TooLarge
from faaskeeper.core.wide import size_of


class MemoryTable:
    """A table in a dictionary. ``max_item_bytes``: limit of an item, as in a cloud's store."""

    def __init__(self, max_item_bytes: int = 1 << 30) -> None:
        self.max_item_bytes = max_item_bytes
        self._items: dict[str, dict[str, Item]] = {}
        self._keys: dict[str, list[str]] = {}
        self._lock = threading.Lock()

    @property
    def partitions(self) -> Mapping[str, Mapping[str, Item]]:
        """Every item, by partition and key; not a copy."""
        return self._items

    def get(self, partition: str, key: str) -> Item | None:
        found = self._items.get(partition, {}).get(key)
        return None if found is None else dict(found)

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        return [self.get(partition, key) for partition, key in keys]

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        if self.max_item_bytes < 1 << 30 and (size := size_of(partition, key, item)) > self.max_item_bytes:
            raise TooLarge(f"the item {partition} {key} has {size} bytes, the limit is {self.max_item_bytes}")
        with self._lock:
            self._check(self._items.get(partition, {}).get(key), condition)
            items = self._items.setdefault(partition, {})
            if key not in items:
                insort(self._keys.setdefault(partition, []), key)
            items[key] = dict(item)

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        with self._lock:
            items = self._items.get(partition, {})
            self._check(items.get(key), condition)
            if key in items:
                del items[key]
                self._keys[partition].remove(key)
                if not items:
                    del self._items[partition]
                    del self._keys[partition]

    def query(self, partition: str, after: str, limit: int) -> Page:
        if partition not in self._items:
            return Page([], False)
        with self._lock:
            keys = self._keys.get(partition, [])
            at = bisect_right(keys, after)
            items = self._items.get(partition, {})
            found = [(key, dict(items[key])) for key in keys[at : at + limit]]
        return Page(found, len(found) == limit)

    @staticmethod
    def _check(found: Item | None, condition: Condition) -> None:
        if condition is None:
            return
        stamp = None if found is None else found.get("stamp", 0)
        if isinstance(condition, IfAbsent):
            holds = found is None
        elif isinstance(condition, IfOlder):
            holds = not isinstance(stamp, int) or stamp < condition.stamp
        elif isinstance(condition, IfStamp):
            holds = stamp == condition.stamp
        else:
            raise ValueError(f"not a condition: {condition!r}")
        if not holds:
            raise Conflict(f"{condition} does not hold: the stamp is {stamp!r}")
