"""Watches as the client's users see them."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum


class WatchEventType(Enum):
    """What happened; named as by ``org.apache.zookeeper.Watcher.Event.EventType``."""

    NODE_CREATED = 0
    NODE_DELETED = 1
    NODE_DATA_CHANGED = 2
    NODE_CHILDREN_CHANGED = 3

    def __str__(self) -> str:
        return "".join(part.capitalize() for part in self.name.split("_"))


class WatchType(Enum):
    """Kinds of watch, by the operation that sets them; the last two by ``add_watch``."""

    GET_DATA = 0
    EXISTS = 1
    GET_CHILDREN = 2
    PERSISTENT = 3
    PERSISTENT_RECURSIVE = 4


class WatchedEvent:
    """One event of a watch. ``timestamp``: the transaction that caused it.

    A recursive watch is told of creations, deletions and changes of data; NODE_CHILDREN_CHANGED of its own
    path tells it that the client was away for so long that what happened below is not known any more.
    """

    __slots__ = ("_event_type", "_path", "_timestamp")

    def __init__(self, event_type: WatchEventType, path: str, timestamp: int) -> None:
        self._event_type = event_type
        self._path = path
        self._timestamp = timestamp

    @property
    def timestamp(self) -> int:
        """Id of the transaction that fired the watch."""
        return self._timestamp

    @property
    def path(self) -> str:
        """The watched path."""
        return self._path

    @property
    def event_type(self) -> WatchEventType:
        """What happened."""
        return self._event_type

    def __repr__(self) -> str:
        return f"WatchedEvent({self._event_type}, {self._path!r}, {self._timestamp})"


WatchCallbackType = Callable[[WatchedEvent], None]
