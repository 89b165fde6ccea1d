"""Locks and semaphores as async context managers. Not re-entrant."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from faaskeeper.aio.client import AsyncClient
from faaskeeper.aio.recipes.port import AsyncPort, OnLoss
from faaskeeper.recipes.rules import lock as rules
from faaskeeper.recipes.rules.lock import EXCLUSIVE, READ, WRITE, Held, LockLost, LockRules

__all__ = ["Lock", "LockLost", "ReadLock", "Semaphore", "WriteLock"]


class Lock(Held):
    """A lock that one contender at a time holds, among all clients that name the same path.

    :param identifier: kept with the contender's node, for people who look (:meth:`contenders`)
    :param on_loss: a function, called once in the loop when a held lock is held no longer, or a
        coroutine function, which then runs in a task of its own; ``asyncio.current_task().cancel``
        ends this task

    A held lock has a fencing :attr:`token`. Holding is a lease: check :attr:`held`, or call
    :meth:`check`, before what must not be done by two; what must *never* be done by two needs the
    token.

    An object stands for one contender: tasks that are to exclude each other have a lock each.
    """

    _kind = EXCLUSIVE

    def __init__(
        self, client: AsyncClient, path: str, identifier: str = "", on_loss: OnLoss | None = None
    ) -> None:
        port = AsyncPort(client)
        self._rules = LockRules(port, path, identifier, port.calling(on_loss), self._kind)

    async def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the lock, at most so many seconds (None: for ever); returns whether it is held.

        A lock that was lost may be acquired again. A task that is cancelled here holds no lock and
        leaves no node. Raises FaaSKeeperException where this object holds it already, or another
        task acquires or releases it by this object.
        """
        return await self._rules.acquire(timeout)

    async def release(self) -> None:
        """Give the lock back; does nothing where there is nothing to give back.

        From another task than that which waits for it: ends the waiting, and :meth:`acquire`
        returns False there. Where the service is out of reach, or this task is cancelled here, the
        lock is given back as soon as the service is reached, or when the session ends.
        """
        await self._rules.release()

    async def contenders(self) -> list[str]:
        """Identifiers of those who hold the lock or wait for it, in their order."""
        return await self._rules.contenders()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.release()


class WriteLock(Lock):
    """Exclusive among readers and writers of the same path."""

    _kind = WRITE


class ReadLock(Lock):
    """Shared with other readers of the same path; waits for writers that came before."""

    _kind = READ


class Semaphore(Lock):
    """Held by at most ``leases`` contenders at a time, among all clients that name the same path.

    All must name the same number. Else as :class:`Lock`.
    """

    def __init__(
        self,
        client: AsyncClient,
        path: str,
        leases: int,
        identifier: str = "",
        on_loss: OnLoss | None = None,
    ) -> None:
        self._kind = rules.leases(leases)
        super().__init__(client, path, identifier, on_loss)

    async def holders(self) -> list[str]:
        """Identifiers of those who hold it, in their order."""
        return (await self.contenders())[: self._kind.places]
