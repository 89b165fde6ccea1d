"""Operations that are done together: transactions, and reads as of one transaction."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Self, Union

from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Check, Create, Delete, Outcome, SetData
from faaskeeper.core.znode import Acl
from faaskeeper.exceptions import FaaSKeeperException, RolledBackException, ZooKeeperException
from faaskeeper.node import Node
from faaskeeper.session.arguments import NodeKind, check_version, raise_error

if TYPE_CHECKING:
    from faaskeeper.client.client import FaaSKeeperClient

Part = Union[Create, SetData, Delete, Check]
Result = Union[Node, bool, FaaSKeeperException]
ReadResult = Union[Node, list[Node], ZooKeeperException, None]


def result_of(part: Part, outcome: Outcome, shown: Callable[[str], str]) -> Result:
    """What a transaction's caller gets for one operation: its error is returned, not raised."""
    if outcome.code is Code.RUNTIME_INCONSISTENCY:
        return RolledBackException("an operation before it failed")
    try:
        raise_error(outcome, shown(part.path), getattr(part, "version", -1))
    except FaaSKeeperException as error:
        return error
    if outcome.meta is not None:
        return Node(shown(outcome.path or part.path), None, outcome.meta.stat())
    return True


class _Committed(ABC):
    """Is committed when its ``with`` block ends without an exception."""

    @abstractmethod
    def commit(self) -> object:
        """Do what was added."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.commit()


class ReadRequest(_Committed):
    """Reads that are done as of one transaction. Each is checked when it is added."""

    def __init__(self, client: FaaSKeeperClient) -> None:
        self._client = client
        self._reads: list[tuple[str, str]] = []
        self.results: list[ReadResult] = []
        """After :meth:`commit`: a Node (data) or a list of Nodes (children), or in its place an exception."""

    def get_data(self, path: str) -> ReadRequest:
        """Add a read of a node with its data."""
        return self._add("data", path)

    def get_children(self, path: str) -> ReadRequest:
        """Add a read of a node's children."""
        return self._add("children", path)

    def _add(self, kind: str, path: str) -> ReadRequest:
        self._client._there(path)
        self._reads.append((kind, path))
        return self

    def commit(self) -> list[ReadResult]:
        """Read all as of one transaction. Returns a Node or a list of them for each read; where a node is not
        there or may not be read, its exception in its place.
        """
        self.results = self._client.read_together(self._reads)
        return self.results


class TransactionRequest(_Committed):
    """Operations that are committed together. Each is checked when it is added, and judged in order."""

    def __init__(self, client: FaaSKeeperClient) -> None:
        self._client = client
        self._parts: list[Part] = []
        self.results: list[Result] = []
        """After :meth:`commit`: a Node or True for each operation, or in its place an exception."""

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
    ) -> TransactionRequest:
        """Add a create; see :meth:`FaaSKeeperClient.create`."""
        kind = NodeKind(ephemeral, sequential, acl, ttl, container)
        self._parts.append(self._client._creation(path, value, kind))
        return self

    def set_data(self, path: str, value: bytes = b"", version: int = -1) -> TransactionRequest:
        """Add a set."""
        real = self._client._real(path)
        check_version(version)
        self._parts.append(SetData(real, self._client._data(real, value), version))
        return self

    def delete(self, path: str, version: int = -1) -> TransactionRequest:
        """Add a delete."""
        check_version(version)
        self._parts.append(Delete(self._client._real(path), version))
        return self

    def check(self, path: str, version: int) -> TransactionRequest:
        """Have the transaction fail unless the node has this version (-1: unless it exists)."""
        check_version(version)
        self._parts.append(Check(self._client._real(path), version))
        return self

    @property
    def parts(self) -> list[Part]:
        """The operations that were added."""
        return list(self._parts)

    def commit(self) -> list[Result]:
        """Commit: all happen, or none. Returns a Node or True for each operation; where one failed, its
        exception in its place, True for those before it, RolledBackException for those after it.
        """
        self.results = self._client.commit(self._parts)
        return self.results
