"""User storage: the records that clients read, over :class:`Table` and :class:`ObjectStore`.

A record is the image of one path as of the txid that wrote it, or a tombstone if the znode was
deleted, always with the epoch of its group. A record replaces only older ones, so processes that
replay the log in any order end with the same images.

Three layouts: *key-value* (records in a table), *persistent* (records in an object store), *hybrid*
(records in a table; data above the inline limit stays in the blob that its client wrote).
"""

from __future__ import annotations

import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Protocol

from faaskeeper.core import codec
from faaskeeper.core.children import PAGE_META
from faaskeeper.core.drivers.storage import (
    Check,
    Gather,
    IfOlder,
    IfStamp,
    Item,
    ObjectStore,
    Table,
    Write,
    in_any_case,
)
from faaskeeper.core.errors import Conflict
from faaskeeper.core.requests import Epoch
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.wide import WideTable
from faaskeeper.core.znode import Meta, genesis

NODE = "node"
"""The key of a record; its path is the partition."""
_OF_PAGE = codec.text(codec.meta(PAGE_META))


class Record(NamedTuple):
    """The contents of user storage for a path. ``meta`` None: a tombstone.

    ``floor``, ``upto``, ``recent``: the epoch; ``recent`` is JSON, or "" for None.
    """

    txid: int
    meta: Meta | None
    data: bytes
    children: list[str]
    floor: int
    upto: int
    recent: str

    def epoch(self) -> Epoch:
        """Decode the epoch."""
        recent = codec.recent(codec.parse(self.recent)) if self.recent else None
        return Epoch(self.floor, self.upto, recent)


def meta_text(meta: Meta) -> str:
    """Metadata as JSON; that of a page is not encoded again for each of them."""
    return _OF_PAGE if meta is PAGE_META else codec.text(codec.meta(meta))


def encode(record: Record) -> Item:
    """Encode a record as an item of a table."""
    item: Item = {"stamp": record.txid, "floor": record.floor, "upto": record.upto}
    if record.recent:
        item["recent"] = record.recent
    meta = record.meta
    if meta is not None:
        item["meta"] = meta_text(meta)
        if record.data:
            item["data"] = record.data
        if record.children:
            item["children"] = record.children
    return item


def decode(item: Item) -> Record:
    """Decode a record."""
    fields: dict[str, Any] = item
    meta = fields.get("meta")
    return Record(
        fields["stamp"],
        None if meta is None else codec.to_meta(codec.parse(meta)),
        fields.get("data", b""),
        fields.get("children", []),
        fields["floor"],
        fields["upto"],
        fields.get("recent", ""),
    )


class Records(Protocol):
    """Records by path. Errors: those of the drivers below."""

    def get(self, path: str) -> Record | None:
        """The path's record; None if there was none, or its tombstone lapsed."""

    def get_many(self, paths: Sequence[str]) -> list[Record | None]:
        """Many ``get``, in the order of the paths."""

    def put(self, path: str, record: Record, check: Check = in_any_case) -> bool:
        """Write a record over an older one. False: an equal or newer one exists, which is as good.

        If that takes several calls, ``check`` is called before the one that decides.
        """

    def write_of(self, path: str, record: Record) -> Write | None:
        """:meth:`put` as one of several joint puts; None if that is impossible."""

    def lapse(self, path: str, txid: int) -> None:
        """Delete the tombstone that this txid wrote; leave anything else."""


def bootstrap(records: Records) -> None:
    """Put the records of the tree as of txid 0, unless newer ones exist."""
    for path, (meta, children) in genesis().items():
        records.put(path, Record(0, meta, b"", list(children), 0, 0, "[]"))


class TableRecords:
    """Records in a table: one item for each path, under (path, "node"), in parts if too large."""

    def __init__(self, table: Table, random: Callable[[int], bytes] = os.urandom) -> None:
        self.wide = self._table = WideTable(table, random=random)

    def get(self, path: str) -> Record | None:
        item = self._table.get(path, NODE)
        return None if item is None else decode(item)

    def get_many(self, paths: Sequence[str]) -> list[Record | None]:
        items = self._table.get_many([(path, NODE) for path in paths])
        return [None if item is None else decode(item) for item in items]

    def put(self, path: str, record: Record, check: Check = in_any_case) -> bool:
        try:
            self._table.put(path, NODE, encode(record), IfOlder(record.txid), check)
        except Conflict:
            return False
        return True

    def write_of(self, path: str, record: Record) -> Write | None:
        item = encode(record)
        if not self._table.single(path, NODE, item):
            return None
        return Write("records", path, NODE, item, IfOlder(record.txid))

    def lapse(self, path: str, txid: int) -> None:
        try:
            self._table.delete(path, NODE, IfStamp(txid))
        except Conflict:
            pass  # a later transaction wrote the path again


class ObjectRecords:
    """Records in an object store, under ``r`` and the path.

    An object store compares tags, not txids. This process caches the tags of the objects that it
    wrote or read last, so that writing a path that no other process writes is one call.
    """

    _MAX_TAGS = 10_000

    def __init__(self, store: ObjectStore, gather: Gather[Any]) -> None:
        self._store = store
        self._gather = gather
        self._tags: OrderedDict[str, tuple[int, str | None]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, path: str) -> Record | None:
        found = self._store.get("r" + path)
        return None if found is None else from_object(found.body)

    def get_many(self, paths: Sequence[str]) -> list[Record | None]:
        return list(self._gather([partial(self.get, path) for path in paths]))

    def put(self, path: str, record: Record, check: Check = in_any_case) -> bool:
        body = _to_object(record)
        known = self._tags.get(path)
        while True:
            if known is None:
                known = self._look(path)
                check()
            txid, tag = known
            if tag is not None and txid >= record.txid:
                return False
            try:
                tag = self._store.put("r" + path, body, absent=tag is None, match=tag)
            except Conflict:
                known = None
                continue
            self._remember(path, record.txid, tag)
            return True

    def write_of(self, path: str, record: Record) -> Write | None:
        """None: object stores have no joint puts."""
        return None

    def lapse(self, path: str, txid: int) -> None:
        """Delete a tombstone, on condition of the tag with which it was read."""
        found = self._store.get("r" + path)
        if found is None:
            return
        record = from_object(found.body)
        if record.txid != txid or record.meta is not None:
            return  # a later transaction wrote the path again
        try:
            self._store.delete("r" + path, match=found.tag)
        except Conflict:
            pass  # written again, or deleted, in this moment

    def _look(self, path: str) -> tuple[int, str | None]:
        found = self._store.get("r" + path)
        if found is None:
            return (-1, None)
        return (from_object(found.body).txid, found.tag)

    def _remember(self, path: str, txid: int, tag: str) -> None:
        with self._lock:
            self._tags[path] = (txid, tag)
            self._tags.move_to_end(path)
            if len(self._tags) > self._MAX_TAGS:
                self._tags.popitem(last=False)


def _to_object(record: Record) -> bytes:
    item = encode(record)
    item.pop("data", None)
    return codec.frame(item, (record.data,))


def from_object(body: bytes) -> Record:
    """Decode the record of an object."""
    item, at = codec.unframe(body)
    item["data"] = body[at:]
    return decode(item)
