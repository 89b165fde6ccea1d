"""Watches in the client's API."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class WatchEventType(Enum):
    """Kind of event, named as in ``org.apache.zookeeper.Watcher.Event.EventType``."""

    NODE_CREATED = 0
    NODE_DELETED = 1
    NODE_DATA_CHANGED = 2
    NODE_CHILDREN_CHANGED = 3

    def __str__(self) -> str:
        return "".join(part.capitalize() for part in self.name.split("_"))


class WatchType(Enum):
    """Kind of watch, named after the operation that sets it; ``add_watch`` sets the last two."""

    GET_DATA = 0
    EXISTS = 1
    GET_CHILDREN = 2
    PERSISTENT = 3
    PERSISTENT_RECURSIVE = 4


class WatchedEvent:
    """An event of a watch. ``timestamp``: the txid of the transaction that caused it.

    A recursive watch receives creations, deletions and changes of data. For its own path it may
    receive NODE_CHILDREN_CHANGED: the client was away for so long that the changes below the path
    are unknown.
    """

    __slots__ = ("_event_type", "_path", "_timestamp")

    def __init__(self, event_type: WatchEventType, path: str, timestamp: int) -> None:
        self._event_type = event_type
        self._path = path
        self._timestamp = timestamp

    @property
    def timestamp(self) -> int:
        """The txid of the transaction that fired the watch."""
        return self._timestamp

    @property
    def path(self) -> str:
        """The watched path."""
        return self._path

    @property
    def event_type(self) -> WatchEventType:
        """The kind of event."""
        return self._event_type

    def __repr__(self) -> str:
        return f"WatchedEvent({self._event_type}, {self._path!r}, {self._timestamp})"


WatchCallbackType = Callable[[WatchedEvent], None]
