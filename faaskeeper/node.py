"""A znode as the client returns it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faaskeeper.core.znode import CONTAINER, Stat
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.version import SystemCounter, Version

__all__ = ["Node", "Stat"]


class Node:
    """The state of a znode at one moment: its path, and the data, children and stat that were read.

    A child that was listed without its data has only a path. Its ``stat``, ``created`` and
    ``modified`` are read on first use; they raise NodeDoesntExistException if the child was deleted
    meanwhile.
    """

    __slots__ = ("_children", "_data", "_dataless", "_load", "_path", "_stat", "_ttl")

    def __init__(
        self,
        path: str,
        data: bytes | None = None,
        stat: Stat | None = None,
        children: list[str] | None = None,
        load: Callable[[], Stat] | None = None,
        dataless: bool = False,
        ttl: int = 0,
    ) -> None:
        self._path = path
        self._data = data
        self._stat = stat
        self._children = children
        self._load = load
        self._dataless = dataless
        self._ttl = ttl

    @property
    def path(self) -> str:
        """Absolute path, including the number of a sequential node."""
        return self._path

    @property
    def has_data(self) -> bool:
        """Whether the data was read."""
        return self._data is not None

    @property
    def data(self) -> bytes:
        """The data. Raises FaaSKeeperException if it was not read."""
        if self._data is None:
            raise FaaSKeeperException(
                f"the data of {self._path} was not read: use get_data(), "
                "or get_children(include_data=True) for children"
            )
        return self._data

    @property
    def children(self) -> list[str]:
        """Names of the children, sorted. Raises FaaSKeeperException if they were not read."""
        if self._children is None:
            raise FaaSKeeperException(f"the children of {self._path} were not read: use get_children()")
        return list(self._children)

    @property
    def stat(self) -> Stat:
        """ZooKeeper's stat of the node."""
        if self._stat is None:
            if self._load is None:
                raise FaaSKeeperException(f"the stat of {self._path} was not read: exists() reads it")
            self._stat = self._load()
        return self._stat

    @property
    def dataless(self) -> bool:
        """Whether it has no data at all, which ZooKeeper distinguishes from empty data."""
        return self._dataless

    @property
    def container(self) -> bool:
        """Whether it is a container. Known, like :attr:`ttl`, where the stat was read with the node."""
        return self._ttl == CONTAINER

    @property
    def ttl(self) -> int | None:
        """The time to live in ms; None: it has none."""
        return self._ttl if self._ttl > 0 else None

    @property
    def created(self) -> Version:
        """The transaction that created the node."""
        return Version(SystemCounter(self.stat.czxid))

    @property
    def modified(self) -> Version:
        """The transaction that last set the node's data."""
        return Version(SystemCounter(self.stat.mzxid))

    def serialize(self) -> dict[str, Any]:
        """A dictionary for JSON: path, versions, and everything that was read.

        ``data`` is a string. If the data is not UTF-8, it is in base64 and ``encoding`` is
        "base64". It is None if the node has no data, which ZooKeeper distinguishes from empty data.
        """
        result: dict[str, Any] = {"path": self._path}
        if self._data is not None:
            try:
                result["data"] = None if self._dataless else self._data.decode()
            except UnicodeDecodeError:
                from binascii import b2a_base64

                result["data"] = b2a_base64(self._data, newline=False).decode()
                result["encoding"] = "base64"
        if self._children is not None:
            result["children"] = list(self._children)
        if self._stat is not None:
            result["version"] = {
                "created": self.created.serialize(),
                "modified": self.modified.serialize(),
            }
            result["stat"] = self._stat._asdict()
        if self.container:
            result["container"] = True
        if self.ttl is not None:
            result["ttl"] = self.ttl
        return result

    def __repr__(self) -> str:
        return f"Node({self._path!r})"
