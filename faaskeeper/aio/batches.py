"""Transactions and multi-reads for asyncio: committed at the end of their ``async with`` block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from types import TracebackType
from typing import Self

from faaskeeper.session.batches import ReadBatch, WriteBatch
from faaskeeper.session.calls import Calls, Part, ReadResult, Result


class _Committed(ABC):
    """Is committed when its ``async with`` block ends without an exception."""

    @abstractmethod
    async def commit(self) -> object:
        """Do what was added."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            await self.commit()


class ReadRequest(ReadBatch, _Committed):
    """Reads that are done as of one transaction. Each is checked when it is added."""

    def __init__(
        self, calls: Calls, read: Callable[[Sequence[tuple[str, str]]], Awaitable[list[ReadResult]]]
    ) -> None:
        super().__init__(calls)
        self._read = read
        self.results: list[ReadResult] = []
        """After :meth:`commit`: a Node (data) or a list of Nodes (children), or in its place an exception."""

    async def commit(self) -> list[ReadResult]:
        """Read all as of one transaction. Returns a Node or a list of them for each read; where a node does
        not exist or may not be read, its exception in its place.
        """
        self.results = await self._read(self.reads)
        return self.results


class TransactionRequest(WriteBatch, _Committed):
    """Operations that are committed together. Each is checked when it is added, and judged in order."""

    def __init__(self, calls: Calls, commit: Callable[[Sequence[Part]], Awaitable[list[Result]]]) -> None:
        super().__init__(calls)
        self._commit = commit
        self.results: list[Result] = []
        """After :meth:`commit`: a Node or True for each operation, or in its place an exception."""

    async def commit(self) -> list[Result]:
        """Commit: all happen, or none. Returns a Node or True for each operation; where one failed, its
        exception in its place, True for those before it, RolledBackException for those after it.
        """
        self.results = await self._commit(self.parts)
        return self.results
