"""A node as the client returns it."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable
from typing import Any

from faaskeeper.core.znode import Stat
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.version import SystemCounter, Version

__all__ = ["Node", "Stat"]


class Node:
    """A znode at a moment: path, and as much of data, children and Stat as was read.

    A child listed without its data knows its path; ``stat``, ``created`` and ``modified`` are read
    when first asked for, and raise NodeDoesntExistException if the child is gone by then.
    """

    __slots__ = ("_children", "_data", "_dataless", "_load", "_path", "_stat")

    def __init__(
        self,
        path: str,
        data: bytes | None = None,
        stat: Stat | None = None,
        children: list[str] | None = None,
        load: Callable[[], Stat] | None = None,
        dataless: bool = False,
    ) -> None:
        self._path = path
        self._data = data
        self._stat = stat
        self._children = children
        self._load = load
        self._dataless = dataless

    @property
    def path(self) -> str:
        """Absolute path; of a created sequential node with its number."""
        return self._path

    @property
    def has_data(self) -> bool:
        """Whether the data was read."""
        return self._data is not None

    @property
    def data(self) -> bytes:
        """The data, where it was read."""
        if self._data is None:
            raise FaaSKeeperException(
                f"the data of {self._path} was not read: get_data() reads it, "
                "and get_children(include_data=True) that of children"
            )
        return self._data

    @property
    def children(self) -> list[str]:
        """Names of the children, where they were read, in order."""
        if self._children is None:
            raise FaaSKeeperException(
                f"the children of {self._path} were not read: get_children() reads them, however many"
            )
        return list(self._children)

    @property
    def stat(self) -> Stat:
        """ZooKeeper's Stat."""
        if self._stat is None:
            if self._load is None:
                raise FaaSKeeperException(f"the Stat of {self._path} was not read: exists() reads it")
            self._stat = self._load()
        return self._stat

    @property
    def created(self) -> Version:
        """The transaction that created the node."""
        return Version(SystemCounter(self.stat.czxid))

    @property
    def modified(self) -> Version:
        """The transaction that last set the node's data."""
        return Version(SystemCounter(self.stat.mzxid))

    def serialize(self) -> dict[str, Any]:
        """For JSON: path, versions, and what was read.

        ``data`` is the text; in base64 where it is no UTF-8, with ``encoding`` "base64" beside it; None where
        the node was created, or set, without any (ZooKeeper tells that from empty data).
        """
        result: dict[str, Any] = {"path": self._path}
        if self._data is not None:
            try:
                result["data"] = None if self._dataless else self._data.decode()
            except UnicodeDecodeError:
                result["data"] = b64encode(self._data).decode()
                result["encoding"] = "base64"
        if self._children is not None:
            result["children"] = list(self._children)
        if self._stat is not None:
            result["version"] = {
                "created": self.created.serialize(),
                "modified": self.modified.serialize(),
            }
            result["stat"] = self._stat._asdict()
        return result

    def __repr__(self) -> str:
        return f"Node({self._path!r})"
