"""Locks: exclusive, and shared by readers. Not re-entrant."""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core import paths
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.recipes.contender import Contender


class LockLost(FaaSKeeperException):
    """The lock is not held any more: the session was suspended or lost since it was acquired."""


class Lock:
    """A lock that one contender at a time holds, among all clients that name the same path.

    :param identifier: kept with the contender's node, for people who look (:meth:`contenders`)
    :param on_loss: called once, from the client's callback thread, when a held lock is held no longer

    A held lock has a fencing :attr:`token`. Holding is a lease: check :attr:`held`, or call :meth:`check`,
    before what must not be done by two; what must *never* be done by two needs the token.

    An object stands for one contender: threads that are to exclude each other have a lock each.
    """

    _PREFIX = "lock-"
    _places = 1

    def __init__(
        self,
        client: FaaSKeeperClient,
        path: str,
        identifier: str = "",
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        self._client = client
        self._path = path
        self._identifier = identifier
        self._on_loss = on_loss
        self._making = threading.Lock()
        self._place: Contender | None = None

    @staticmethod
    def _blocks(name: str) -> bool:
        return True

    def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the lock, at most ``timeout`` seconds (None: for ever); returns whether it is held.

        A lock that was lost may be acquired again. Raises FaaSKeeperException where this object holds it
        already, or another thread acquires or releases it by this object.
        """
        return self._contender().wait(timeout)

    def _contender(self) -> Contender:
        with self._making:
            if self._place is None:
                self._place = self._contend(self._places)
            return self._place

    def _contend(self, places: int) -> Contender:
        return Contender(
            self._client,
            self._path,
            self._PREFIX,
            self._identifier.encode(),
            self._blocks,
            self._on_loss or (lambda: None),
            places,
        )

    def release(self) -> None:
        """Give the lock back; does nothing where there is nothing to give back.

        From another thread than that which waits for it: ends the waiting, and :meth:`acquire` returns False
        there. Where the service is out of reach the lock is given back as soon as that is reached, or when
        the session ends.
        """
        if self._place is not None:
            self._place.leave()

    @property
    def held(self) -> bool:
        """Whether the lock is held, as far as is known here."""
        return self._place is not None and self._place.first

    def check(self) -> None:
        """Raise LockLost unless the lock is held."""
        if not self.held:
            raise LockLost(f"the lock {self._path} is not held any more")

    @property
    def token(self) -> int:
        """The fencing token of the held lock: higher than that of any holder before. Raises LockLost."""
        try:
            return self._contender().token
        except ValueError:
            raise LockLost(f"the lock {self._path} is not held any more") from None

    def contenders(self) -> list[str]:
        """Identifiers of those who hold the lock or wait for it, in their order."""
        if self._client.exists(self._path) is None:
            return []
        nodes = self._client.get_children(self._path, include_data=True)
        nodes.sort(key=lambda node: paths.name(node.path)[-10:])
        return [node.data.decode(errors="backslashreplace") for node in nodes]

    def __enter__(self) -> Lock:
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

    _PREFIX = "write-"


class ReadLock(Lock):
    """Shared with other readers of the same path; waits for writers that came before."""

    _PREFIX = "read-"

    @staticmethod
    def _blocks(name: str) -> bool:
        return name.startswith(WriteLock._PREFIX)
