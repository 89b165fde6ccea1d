"""A session's watches: what each has seen, and what it must have missed."""

from __future__ import annotations

from typing import NamedTuple

from faaskeeper.core.records import Record
from faaskeeper.watch import WatchCallbackType


class Watch(NamedTuple):
    """A watch that is set. ``stamp``: it has seen the znode (``present``, or not) as of this txid.

    One that stays keeps its stamp, which is its row's; it has seen what its session has.
    """

    path: str
    kind: str
    stamp: int
    present: bool
    callback: WatchCallbackType

    def same(self, other: Watch) -> bool:
        """Whether both are one, whatever it has seen since."""
        return self.kind == other.kind and self.callback == other.callback


class Called:
    """Callbacks that an event is for, each once, in order. Some cannot be hashed: those are compared."""

    __slots__ = ("_known", "callbacks")

    def __init__(self) -> None:
        self.callbacks: list[WatchCallbackType] = []
        self._known: set[WatchCallbackType] = set()

    def add(self, callback: WatchCallbackType) -> None:
        """Take a callback, unless it is there."""
        try:
            if callback in self._known:
                return
            self._known.add(callback)
        except TypeError:
            if callback in self.callbacks:
                return
        self.callbacks.append(callback)


def unchanged(before: Record | None, after: Record | None, kind: str) -> bool:
    """Whether a path is as it was, as far as a watch of a kind sees."""
    one = before.meta if before is not None else None
    two = after.meta if after is not None else None
    if one is None or two is None:
        # Absent both times: only if no transaction created and deleted it in between.
        same = (before.txid if before is not None else 0) == (after.txid if after is not None else 0)
        return one is two and same
    return one.pzxid == two.pzxid if kind == "children" else one.mzxid == two.mzxid


def difference(watch: Watch, record: Record | None) -> str:
    """Letters of what happened since a watch saw its path, as far as the record tells."""
    meta = record.meta if record is not None else None
    if meta is None:
        again = record is not None and record.txid > watch.stamp
        return "D" if watch.present or again else ""
    if watch.kind == "persistent":
        if meta.czxid > watch.stamp:
            return "DC" if watch.present else "C"
        return ("S" if meta.mzxid > watch.stamp else "") + ("K" if meta.pzxid > watch.stamp else "")
    if watch.kind == "children":
        return "D" if meta.czxid > watch.stamp else "K" if meta.pzxid > watch.stamp else ""
    if meta.mzxid <= watch.stamp:
        return ""
    return "S" if meta.czxid <= watch.stamp else "C" if watch.kind == "exists" else "D"
