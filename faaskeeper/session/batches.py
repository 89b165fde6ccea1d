"""Builders for operations that run together: transactions, and reads as of one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from faaskeeper.core.znode import Acl
from faaskeeper.session.arguments import NodeKind
from faaskeeper.session.calls import Calls, Part, ReadResult, Result


class ReadBatch:
    """Reads as of one transaction. Each is validated when it is added."""

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self.reads: list[tuple[str, str]] = []
        """(kind, path) of each."""
        self.results: list[ReadResult] = []
        """After the commit, for each: a Node, a list of Nodes (children), None or an exception."""

    def get_data(self, path: str) -> Self:
        """Add a read of a node with its data."""
        return self._add("data", path)

    def exists(self, path: str) -> Self:
        """Add a read of a node without its data; its result is None if there is no node."""
        return self._add("exists", path)

    def get_children(self, path: str) -> Self:
        """Add a read of a node's children."""
        return self._add("children", path)

    def _add(self, kind: str, path: str) -> Self:
        self._calls.there(path)
        self.reads.append((kind, path))
        return self


class WriteBatch:
    """Operations of one transaction.

    Each is validated when it is added; the writer applies them in order.
    """

    def __init__(self, calls: Calls) -> None:
        self._calls = calls
        self._parts: list[Part] = []
        self.results: list[Result] = []
        """After the commit: a Node, True, or an exception for each operation."""

    def create(
        self,
        path: str,
        value: bytes = b"",
        ephemeral: bool = False,
        sequential: bool = False,
        *,
        acl: Sequence[Acl] | None = None,
        ttl: int | None = None,
        container: bool = False,
    ) -> Self:
        """Add a create; the arguments are those of the client's ``create``."""
        kind = NodeKind(ephemeral, sequential, acl, ttl, container)
        self._parts.append(self._calls.create_part(path, value, kind))
        return self

    def set_data(self, path: str, value: bytes = b"", version: int = -1) -> Self:
        """Add a set."""
        self._parts.append(self._calls.set_part(path, value, version))
        return self

    def delete(self, path: str, version: int = -1) -> Self:
        """Add a delete."""
        self._parts.append(self._calls.delete_part(path, version))
        return self

    def check(self, path: str, version: int) -> Self:
        """Make the transaction fail unless the node has this version (-1: unless it exists)."""
        self._parts.append(self._calls.check_part(path, version))
        return self

    @property
    def parts(self) -> list[Part]:
        """The operations added so far."""
        return list(self._parts)
