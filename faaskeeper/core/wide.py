"""Items larger than a store's items may be: kept in parts.

The parts are written first, under a name of their own, then the item that names them, on its condition. So
whoever finds the item finds its parts, unless it was replaced in between: then it is read again. Who
replaces an item deletes the parts of what lies below it by stamp; a writer that loses deletes its own. After
a crash in between, parts that nothing names may stay until the item is replaced again.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import blake2b

from faaskeeper.core import codec
from faaskeeper.core.errors import Conflict, TooLarge, Unavailable
from faaskeeper.core.storage import Condition, IfAbsent, IfOlder, Item, Page, Table, every

_OVERHEAD = 300
"""What a part has beside its piece of the item, at most, keys of 1,000 bytes aside."""
_NO_LIMIT = 100_000_000
_TRIES = 5


def size_of(partition: str, key: str, item: Item) -> int:
    """About how many bytes an item takes; not less than what the known stores count."""
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
    """A table whose items, put under IfAbsent or IfOlder, may be of any size."""

    max_item_bytes = 1 << 40

    def __init__(self, table: Table) -> None:
        self._table = table
        self._wide: set[tuple[str, str]] = set()
        """Items that were seen in parts and not replaced since, as far as is known here."""

    # ---- reading -----------------------------------------------------------------------

    def get(self, partition: str, key: str) -> Item | None:
        """See :class:`faaskeeper.core.storage.Table`."""
        return self._whole(partition, key, self._table.get(partition, key))

    def get_many(self, keys: Sequence[tuple[str, str]]) -> list[Item | None]:
        """See :class:`faaskeeper.core.storage.Table`."""
        found = self._table.get_many(keys)
        return [self._whole(*key, item) for key, item in zip(keys, found, strict=True)]

    def query(self, partition: str, after: str, limit: int) -> Page:
        """See :class:`faaskeeper.core.storage.Table`."""
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
            self._wide.add((partition, key))
            number, name = item["parts"], item["named"]
            if not isinstance(number, int) or not isinstance(name, str):
                raise codec.Malformed(f"the item {partition} {key} has parts {number!r} {name!r}")
            parts = self._table.get_many(
                [(_parts(partition), f"{key} {name} {part:04d}") for part in range(number)]
            )
            pieces = [part["piece"] for part in parts if part is not None]
            if len(pieces) == number:
                return codec.to_item(b"".join(piece for piece in pieces if isinstance(piece, bytes)))
            item = self._table.get(partition, key)  # replaced meanwhile
        raise Unavailable(f"the item {partition} {key} is replaced faster than it can be read")

    # ---- writing -----------------------------------------------------------------------

    def single(self, partition: str, key: str, item: Item) -> bool:
        """Whether to put the item is one put of the table's: it has no parts, nor had it any."""
        return self._fits(partition, key, item) and (partition, key) not in self._wide

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        """See :class:`faaskeeper.core.storage.Table`."""
        wide = (partition, key) in self._wide
        if self._fits(partition, key, item):
            self._table.put(partition, key, item, condition)
            if wide:
                self._clean(partition, key, item)
            return
        if not isinstance(condition, (IfAbsent, IfOlder)):
            raise TooLarge(f"the item {partition} {key} is too large, and not one that may be kept in parts")
        body = codec.item(item)
        room = self._table.max_item_bytes - _OVERHEAD - len(partition.encode()) - len(key.encode())
        pieces = [body[at : at + room] for at in range(0, len(body), room)]
        name = f"{_stamp(item)} {blake2b(body, digest_size=8).hexdigest()}"
        names = [f"{key} {name} {number:04d}" for number in range(len(pieces))]
        for each, piece in zip(names, pieces, strict=True):
            self._table.put(_parts(partition), each, {"stamp": 0, "piece": piece})
        numbers: Item = {field: value for field, value in item.items() if isinstance(value, int)}
        try:
            self._table.put(partition, key, {**numbers, "parts": len(pieces), "named": name}, condition)
        except Conflict:
            there = self._table.get(partition, key)
            if there is None or there.get("named") != name:  # else another wrote the same
                for each in names:
                    self._table.delete(_parts(partition), each)
            if there is not None and "parts" in there:
                self._wide.add((partition, key))
            raise
        self._wide.add((partition, key))
        if wide:
            self._clean(partition, key, item)

    def delete(self, partition: str, key: str, condition: Condition = None) -> None:
        """See :class:`faaskeeper.core.storage.Table`."""
        self._table.delete(partition, key, condition)
        if (partition, key) in self._wide:
            self._clean(partition, key, None)

    def _clean(self, partition: str, key: str, item: Item | None) -> None:
        """Delete the parts of an item's earlier versions: nothing names them, and nothing will."""
        below = f"{key} {_stamp(item)}" if item is not None else f"{key} ~"
        for each, _ in every(self._table, _parts(partition), f"{key} "):
            if each >= below:
                break
            self._table.delete(_parts(partition), each)
        if item is None or self._fits(partition, key, item):
            self._wide.discard((partition, key))

    def _fits(self, partition: str, key: str, item: Item) -> bool:
        most = self._table.max_item_bytes
        return most >= _NO_LIMIT or size_of(partition, key, item) <= most


def _stamp(item: Item) -> str:
    stamp = item["stamp"]
    if not isinstance(stamp, int):
        raise codec.Malformed(f"a stamp is a number, not {stamp!r}")
    return f"{stamp:016d}"


def _parts(partition: str) -> str:
    return f"parts {partition}"
