"""The states that self-renewing watches show: of several quick changes, maybe only the last."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, NamedTuple, TypeVar

from faaskeeper.core.znode import Stat
from faaskeeper.exceptions import NodeDoesntExistException
from faaskeeper.recipes.rules.port import Port
from faaskeeper.watch import WatchCallbackType

T = TypeVar("T")

AGAIN_S = 1.0
"""The delay, in s, after which a watcher that could not read retries."""


class Data(NamedTuple):
    """A node's data and Stat; None if the node does not exist."""

    data: bytes | None
    stat: Stat | None


class Looks(ABC, Generic[T]):
    """Reads a node repeatedly; one read at a time."""

    def __init__(self, port: Port, path: str) -> None:
        self._port = port
        self._path = path
        self.over = False
        """No later read will show anything."""

    @abstractmethod
    async def look(self, wake: WatchCallbackType) -> T | None:
        """Read, set ``wake`` as a watch, and return the new state; None if nothing changed."""


class DataLooks(Looks[Data]):
    """A node's data, whether it exists or not."""

    def __init__(self, port: Port, path: str) -> None:
        super().__init__(port, path)
        self._shown: tuple[int, int] | None = (-1, -1)

    async def look(self, wake: WatchCallbackType) -> Data | None:
        while True:
            try:
                node = await self._port.get_data(self._path, wake)
            except NodeDoesntExistException:
                if await self._port.exists(self._path, wake) is not None:
                    continue  # created meanwhile
                before, self._shown = self._shown, None
                return None if before is None else Data(None, None)
            before, self._shown = self._shown, (node.stat.czxid, node.stat.mzxid)
            return None if before == self._shown else Data(node.data, node.stat)


class ChildrenLooks(Looks[list[str]]):
    """The names of a node's children, until the node is deleted.

    Raises NodeDoesntExistException if the node does not exist at the first read.
    """

    def __init__(self, port: Port, path: str) -> None:
        super().__init__(port, path)
        self._shown = -1
        self._czxid = 0

    async def look(self, wake: WatchCallbackType) -> list[str] | None:
        try:
            names, stat = await self._port.get_children_with_stat(self._path, wake)
        except NodeDoesntExistException:
            if self._shown < 0:
                raise
            self.over = True
            return None
        if self._shown >= 0 and stat.czxid != self._czxid:
            self.over = True  # the node was deleted, and another was created
            return None
        self._czxid = stat.czxid
        before, self._shown = self._shown, stat.pzxid
        return None if before == stat.pzxid else names
