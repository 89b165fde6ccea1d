"""What a session has seen of paths: its watches, which events they missed, writes met meanwhile."""

from __future__ import annotations

from collections.abc import Iterable

from faaskeeper.core.records import Record
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.session.commands import Writes
from faaskeeper.watch import WatchCallbackType


class Watch(NamedTuple):
    """A watch that is set. ``stamp``: it has seen the znode (``present`` or not) as of this txid.

    A watch that stays keeps the stamp of its row; it has seen everything that its session has.
    """

    path: str
    kind: str
    stamp: int
    present: bool
    callback: WatchCallbackType

    def same(self, other: Watch) -> bool:
        """Whether both are the same watch, whatever each has seen."""
        return self.kind == other.kind and self.callback == other.callback


class Called:
    """The callbacks of an event, each once, in order. Those that cannot be hashed are compared."""

    __slots__ = ("_known", "callbacks")

    def __init__(self) -> None:
        self.callbacks: list[WatchCallbackType] = []
        self._known: set[WatchCallbackType] = set()

    def add(self, callback: WatchCallbackType) -> None:
        """Add a callback, unless it is there already."""
        try:
            if callback in self._known:
                return
            self._known.add(callback)
        except TypeError:
            if callback in self.callbacks:
                return
        self.callbacks.append(callback)


class Track:
    """The known last writes of some paths, since before these are read.

    Unlike the session's table of leasts, it drops nothing when the applied mark is raised: it is
    compared with records that may have been read before that.
    """

    def __init__(self, latest: dict[str, int]) -> None:
        self.latest = latest
        self.lost = False
        """Some writes are unknown: the log was trimmed."""

    @property
    def clean(self) -> bool:
        """Whether no write was noted, of a track that began with zeros."""
        return not self.lost and not any(self.latest.values())

    def note(self, news: Iterable[Writes]) -> None:
        """Take in transactions: the last write of each path counts."""
        for txid, writes in news:
            for path, _ in writes:
                if path in self.latest:
                    self.latest[path] = txid


def unchanged(before: Record | None, after: Record | None, kind: str) -> bool:
    """Whether a path is unchanged, as far as a watch of this kind can see."""
    one = before.meta if before is not None else None
    two = after.meta if after is not None else None
    if one is None or two is None:
        # Absent both times: unchanged only if no transaction created and deleted it in between.
        same = (before.txid if before is not None else 0) == (after.txid if after is not None else 0)
        return one is two and same
    return one.pzxid == two.pzxid if kind == "children" else one.mzxid == two.mzxid


def difference(watch: Watch, record: Record | None) -> str:
    """The letters of the events since a watch saw its path, as far as the record shows them."""
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
