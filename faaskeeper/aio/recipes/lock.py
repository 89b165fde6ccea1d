"""Locks and semaphores as async context managers. Not re-entrant."""

from __future__ import annotations

from typing import Self

from faaskeeper.aio.client import AsyncClient
from faaskeeper.aio.recipes.port import AsyncPort, OnLoss
from faaskeeper.recipes.rules import lock as rules
from faaskeeper.recipes.rules.lock import EXCLUSIVE, READ, WRITE, Held, LockLost, LockRules

__all__ = ["Lock", "LockLost", "ReadLock", "Semaphore", "WriteLock"]


class Lock(Held):
    """A lock that one contender at a time holds, among all clients that use the same path.

    :param identifier: stored in the contender's node, for people (:meth:`contenders`)
    :param on_loss: a function, called once in the loop when a held lock is lost, or a coroutine
        function, which then runs in its own task; ``asyncio.current_task().cancel`` cancels the
        task that creates the lock

    A held lock has a fencing :attr:`token`. Holding is a lease: check :attr:`held`, or call
    :meth:`check`, before work that two contenders must not do at once. If two must *never* do it,
    use the token.

    An object represents one contender: tasks that exclude each other need one lock object each.
    """

    _kind = EXCLUSIVE

    def __init__(
        self, client: AsyncClient, path: str, identifier: str = "", on_loss: OnLoss | None = None
    ) -> None:
        port = AsyncPort(client)
        self._rules = LockRules(port, path, identifier, port.calling(on_loss), self._kind)

    async def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the lock, at most ``timeout`` s (None: no limit); returns whether it is held.

        A lost lock may be acquired again. A task that is cancelled here holds no lock and leaves no
        node. Raises FaaSKeeperException if this object holds it already, or if another task
        acquires or releases it with this object.
        """
        return await self._rules.acquire(timeout)

    async def release(self) -> None:
        """Release the lock; does nothing if it is not held.

        While another task waits for the lock: ends its wait, and :meth:`acquire` returns False
        there. If the service is unreachable, or this task is cancelled here, the lock is released
        as soon as the service is reachable, or when the session ends.
        """
        await self._rules.release()

    async def contenders(self) -> list[str]:
        """The identifiers of the contenders that hold the lock or wait for it, in their order."""
        return await self._rules.contenders()

    async def __aenter__(self) -> Self:
        await self.acquire()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.release()


class WriteLock(Lock):
    """Exclusive among readers and writers of the same path."""

    _kind = WRITE


class ReadLock(Lock):
    """Shared with other readers of the same path; waits for earlier writers."""

    _kind = READ


class Semaphore(Lock):
    """Held by at most ``leases`` contenders at a time, among all clients that use the same path.

    All must use the same number. Otherwise like :class:`Lock`.
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
        """The identifiers of the holders, in their order."""
        return (await self.contenders())[: self._kind.places]
