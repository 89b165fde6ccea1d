"""Locks: exclusive, and shared by readers. Not re-entrant."""

from __future__ import annotations

from collections.abc import Callable
from typing import Self

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.lock import EXCLUSIVE, READ, WRITE, Held, LockLost, LockRules
from faaskeeper.recipes.threads import ThreadPort, run

__all__ = ["Lock", "LockLost", "ReadLock", "WriteLock"]


class Lock(Held):
    """A lock that one contender at a time holds, among all clients that use the same path.

    :param identifier: stored in the contender's node, for people (:meth:`contenders`)
    :param on_loss: called once, in the client's callback thread, when a held lock is lost

    A held lock has a fencing :attr:`token`. Holding is a lease: check :attr:`held`, or call
    :meth:`check`, before work that two contenders must not do at once. If two must *never* do it,
    use the token.

    An object represents one contender: threads that exclude each other need one lock object each.
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
        """Wait for the lock, at most ``timeout`` s (None: no limit); returns whether it is held.

        A lost lock may be acquired again. Raises FaaSKeeperException if this object holds it
        already, or if another thread acquires or releases it with this object.
        """
        return run(self._rules.acquire(timeout))

    def release(self) -> None:
        """Release the lock; does nothing if it is not held.

        While another thread waits for the lock: ends its wait, and :meth:`acquire` returns False
        there. If the service is unreachable, the lock is released as soon as it is reachable, or
        when the session ends.
        """
        run(self._rules.release())

    def contenders(self) -> list[str]:
        """The identifiers of the contenders that hold the lock or wait for it, in their order."""
        return run(self._rules.contenders())

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


class WriteLock(Lock):
    """Exclusive among readers and writers of the same path."""

    _kind = WRITE


class ReadLock(Lock):
    """Shared with other readers of the same path; waits for earlier writers."""

    _kind = READ
