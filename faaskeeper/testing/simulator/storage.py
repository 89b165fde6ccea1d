"""Tables and the object store of the simulated deployment: each call may switch and may fail."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from functools import partial

from faaskeeper.core import log
from faaskeeper.core.drivers.storage import Condition, IfStamp, Item, Object, Page
from faaskeeper.core.errors import Conflict
from faaskeeper.core.records import from_object
from faaskeeper.core.wide import WideTable
from faaskeeper.testing.simulator.ledger import Ledger
from faaskeeper.testing.simulator.scheduler import Violation


class SimulatedTable:
    """A table in memory."""

    def __init__(self, ledger: Ledger, name: str) -> None:
        self.inner = ledger.rows[name]
        self.max_item_bytes = self.inner.max_item_bytes
        self._ledger = ledger
        self._name = name

    def get(self, partition: str, key: str) -> Item | None:
        label = f"{self._name}.get {partition} {key}"
        found: Item | None = self._ledger.call(label, False, lambda: self.inner.get(partition, key))
        return found

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        """See :class:`faaskeeper.core.drivers.storage.Table`. The items are read one after the other."""
        return [self.get(partition, key) for partition, key in keys]

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        effect = partial(self.effect, partition, key, dict(item), condition)
        label = f"{self._name}.put {partition} {key} {item.get('stamp')!r}"
        self._ledger.call(label, True, effect)

    def effect(self, partition: str, key: str, item: Item, condition: Condition) -> None:
        """The effect of :meth:`put`, without fault or switch."""
        if self._ledger.foul:
            _check_storable(partition, key, item)
        self.inner.put(partition, key, item, condition)
        if "parts" in item and "named" in item:
            self._check_parts(partition, key, item)
        if self._name == "log" and not partition.startswith("parts "):
            if partition != log.partition(int(key), self._ledger.plan.stripes):
                raise Violation(f"the entry {key} is put under {partition}")
            whole = WideTable(self.inner).get(partition, key)
            if whole is None:
                raise Violation(f"the entry {key} cannot be read")
            self._ledger.committed(key, log.decode(whole))
            self._ledger.reached["an entry in parts"] += "parts" in item
        elif self._name == "watch":
            self._ledger.watch_put(partition, key, item)
        elif self._name == "lease" and partition == "lease":
            self._ledger.lease_put(key, item)
        elif self._name == "records" and "meta" in item:
            self._ledger.model.stored(partition, int(item["stamp"]))  # type: ignore[arg-type]

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        def effect() -> None:
            if self._name == "log" and not partition.startswith("parts "):
                self._ledger.check_trimmed(key)
            self.inner.delete(partition, key, condition)
            if partition.startswith("parts "):
                self._check_part_deleted(partition.removeprefix("parts "), *key.rsplit(" ", 3)[:3])
            if self._name == "records" and isinstance(condition, IfStamp):
                self._ledger.lapse(partition, condition.stamp)

        self._ledger.call(f"{self._name}.delete {partition} {key}", True, effect)

    def _check_parts(self, partition: str, key: str, item: Item) -> None:
        """Check an item in parts that was put: all its parts exist."""
        number, name = int(item["parts"]), str(item["named"])  # type: ignore[arg-type]
        for part in range(number):
            if self.inner.get(f"parts {partition}", f"{key} {name} {part:04d}") is None:
                raise Violation(f"the item {partition} {key} lacks part {part} of {number}")

    def _check_part_deleted(self, partition: str, key: str, stamp: str, token: str) -> None:
        """Check a part that was deleted: no item names it."""
        item = self.inner.get(partition, key)
        if item is not None and item.get("named") == f"{stamp} {token}":
            raise Violation(f"a part of the item {partition} {key} is deleted, which names it")
        self._ledger.reached["a part is left over"] += 1

    def query(self, partition: str, after: str, limit: int) -> Page:
        limit = min(limit, self._ledger.random.choice((1, 2, 100)))
        label = f"{self._name}.query {partition} {after}"
        page: Page = self._ledger.call(label, False, lambda: self.inner.query(partition, after, limit))
        return page


class SimulatedObjects:
    """An object store in memory."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._bucket = ledger.bucket
        self._tags = itertools.count(1)

    def get(self, key: str) -> Object | None:
        found: Object | None = self._ledger.call(f"objects.get {key}", False, lambda: self._bucket.get(key))
        return found

    def put(self, key: str, body: bytes, *, absent: bool = False, match: str | None = None) -> str:
        def effect() -> str:
            found = self._bucket.get(key)
            if (absent and found is not None) or (
                match is not None and (found is None or found.tag != match)
            ):
                raise Conflict(key)
            if key.startswith("b/"):
                self._ledger.blobs.setdefault(key, body)
            return self.write_over(key, body)

        tag: str = self._ledger.call(f"objects.put {key}", True, effect)
        return tag

    def write_over(self, key: str, body: bytes) -> str:
        """Store an object without fault or condition; returns its tag."""
        tag = str(next(self._tags))
        self._bucket[key] = Object(body, tag)
        return tag

    def delete(self, key: str, *, match: str | None = None) -> None:
        def effect() -> None:
            found = self._bucket.get(key)
            if match is not None and (found is None or found.tag != match):
                raise Conflict(key)
            self._bucket.pop(key, None)
            if found is not None and match is not None and key.startswith("r/"):
                self._ledger.lapse(key[1:], from_object(found.body).txid)

        self._ledger.call(f"objects.delete {key}", True, effect)

    def list(self, prefix: str, after: str, limit: int) -> list[str]:
        def effect() -> list[str]:
            keys = sorted(key for key in self._bucket if key.startswith(prefix) and key > after)
            return keys[:limit]

        keys: list[str] = self._ledger.call(f"objects.list {prefix}", False, effect)
        return keys


def _check_storable(partition: str, key: str, item: Item) -> None:
    """Raise for what a store would refuse: numbers of more than 64 bits, text that is not UTF-8."""
    for value in (partition, key, *item.values()):
        if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
            raise Violation(f"the number {value} is to be stored: {partition} {key}")
        for text in value if isinstance(value, list) else (value,):
            if isinstance(text, str):
                try:
                    text.encode()
                except UnicodeEncodeError:
                    raise Violation(f"{text!r} is to be stored: {partition} {key}") from None
