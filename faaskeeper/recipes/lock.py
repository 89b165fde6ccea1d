"""Locks: exclusive, and shared by readers. Not re-entrant."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Self

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.lock import EXCLUSIVE, READ, WRITE, Held, LockLost, LockRules
from faaskeeper.recipes.threads import ThreadPort, run

__all__ = ["Lock", "LockLost", "ReadLock", "WriteLock"]


class Lock(Held):
    """A lock that one contender at a time holds, among all clients that name the same path.

    :param identifier: kept with the contender's node, for people who look (:meth:`contenders`)
    :param on_loss: called once, from the client's callback thread, when a held lock is held no
        longer

    A held lock has a fencing :attr:`token`. Holding is a lease: check :attr:`held`, or call
    :meth:`check`, before what must not be done by two; what must *never* be done by two needs the
    token.

    An object stands for one contender: threads that are to exclude each other have a lock each.
    """

    _kind = EXCLUSIVE

    def __init__(
        self,
        client: FaaSKeeperClient,
        path: str,
        identifier: str = "",
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        self._rules = LockRules(ThreadPort(client), path, identifier, on_loss, self._kind)

    def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the lock, at most so many seconds (None: for ever); returns whether it is held.

        A lock that was lost may be acquired again. Raises FaaSKeeperException where this object
        holds it already, or another thread acquires or releases it by this object.
        """
        return run(self._rules.acquire(timeout))

    def release(self) -> None:
        """Give the lock back; does nothing where there is nothing to give back.

        From another thread than that which waits for it: ends the waiting, and :meth:`acquire`
        returns False there. Where the service is out of reach the lock is given back as soon as
        that is reached, or when the session ends.
        """
        run(self._rules.release())

    def contenders(self) -> list[str]:
        """Identifiers of those who hold the lock or wait for it, in their order."""
        return run(self._rules.contenders())

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class WriteLock(Lock):
    """Exclusive among readers and writers of the same path."""

    _kind = WRITE


class ReadLock(Lock):
    """Shared with other readers of the same path; waits for writers that came before."""

    _kind = READ
