"""Transactions and multi-reads for asyncio; they commit when their ``async with`` block ends."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence
from typing import Self

from faaskeeper.session.batches import ReadBatch, WriteBatch
from faaskeeper.session.calls import Calls, Part, ReadResult, Result


class _Committed(ABC):
    """Commits when its ``async with`` block ends without an exception."""

    @abstractmethod
    async def commit(self) -> object:
        """Perform the operations that were added."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            await self.commit()


class ReadRequest(ReadBatch, _Committed):
    """Reads as of one transaction. Each is validated when it is added."""

    def __init__(
        self, calls: Calls, read: Callable[[Sequence[tuple[str, str]]], Awaitable[list[ReadResult]]]
    ) -> None:
        super().__init__(calls)
        self._read = read

    async def commit(self) -> list[ReadResult]:
        """Perform all reads as of one transaction.

        Returns a Node or a list of Nodes for each read; the exception in its place if a node does
        not exist or may not be read.
        """
        self.results = await self._read(self.reads)
        return self.results


class TransactionRequest(WriteBatch, _Committed):
    """Operations of one transaction. Each is validated when added; they apply in order."""

    def __init__(self, calls: Calls, commit: Callable[[Sequence[Part]], Awaitable[list[Result]]]) -> None:
        super().__init__(calls)
        self._commit = commit

    async def commit(self) -> list[Result]:
        """Commit all operations or none.

        Returns a Node or True for each operation. If one failed: True for those before it, its
        exception in its place, and RolledBackException for those after it.
        """
        self.results = await self._commit(self.parts)
        return self.results
