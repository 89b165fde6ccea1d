"""The watches of a session with a ZooKeeper server.

A server sends an event once for a path and type, whoever watches it; which watches it fires is the
client's to know (``ZKWatchManager.materialize`` of release 3.8). A watch is registered with the
reply that set it, so no event comes before it. After a reconnect the client names its watches, and
the server sends at once what the one-time ones have missed; persistent ones are only set again: a
client that must know of every change reads anew when the state becomes CONNECTED.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from faaskeeper.core import paths
from faaskeeper.watch import WatchCallbackType, WatchEventType

KINDS = ("data", "exists", "children", "persistent", "recursive")
"""In the order of setWatches2."""
_ONCE = {
    WatchEventType.NODE_CREATED: ("data", "exists"),
    WatchEventType.NODE_DELETED: ("data", "exists", "children"),
    WatchEventType.NODE_DATA_CHANGED: ("data", "exists"),
    WatchEventType.NODE_CHILDREN_CHANGED: ("children",),
}
_FRAME_BYTES = 128 * 1024
"""Bytes of paths in one setWatches (``ClientCnxn.SET_WATCHES_MAX_LENGTH``)."""

Watched = tuple[str, str, WatchCallbackType]
"""Kind, path, callback."""


class Watches:
    """Callbacks by kind and path. Used by one thread, but for :meth:`found`."""

    def __init__(self) -> None:
        self._by_kind: dict[str, dict[str, list[WatchCallbackType]]] = {kind: {} for kind in KINDS}

    def add(self, watched: Watched) -> None:
        """Register a watch; the same one twice is one."""
        kind, path, callback = watched
        callbacks = self._by_kind[kind].setdefault(path, [])
        if callback not in callbacks:
            callbacks.append(callback)

    def fire(self, event: WatchEventType, path: str) -> list[WatchCallbackType]:
        """The callbacks that an event fires, each once. One-time watches are gone after it."""
        fired: list[WatchCallbackType] = []
        for kind in _ONCE[event]:
            fired += self._by_kind[kind].pop(path, ())
        fired += self._by_kind["persistent"].get(path, ())
        if event is not WatchEventType.NODE_CHILDREN_CHANGED:
            for above in paths.upwards(path):
                fired += self._by_kind["recursive"].get(above, ())
        return list(dict.fromkeys(fired))

    def found(self, path: str, kinds: Iterable[str], callback: WatchCallbackType | None) -> list[Watched]:
        """The watches of a path that match; ``callback`` None: any."""
        return [
            (kind, path, each)
            for kind in kinds
            for each in list(self._by_kind[kind].get(path, ()))
            if callback is None or each == callback
        ]

    def remove(self, watches: Iterable[Watched]) -> None:
        """Remove watches."""
        for kind, path, callback in watches:
            callbacks = self._by_kind[kind].get(path, [])
            if callback in callbacks:
                callbacks.remove(callback)
            if not callbacks:
                self._by_kind[kind].pop(path, None)

    def again(self) -> Iterator[Sequence[Sequence[str]]]:
        """Paths by kind, to set all watches again, in portions that fit a frame."""
        lists: list[list[str]] = [[] for _ in KINDS]
        size = 0
        for number, kind in enumerate(KINDS):
            for path in self._by_kind[kind]:
                lists[number].append(path)
                size += len(path.encode()) + 4
                if size > _FRAME_BYTES:
                    yield lists
                    lists, size = [[] for _ in KINDS], 0
        if any(lists):
            yield lists
