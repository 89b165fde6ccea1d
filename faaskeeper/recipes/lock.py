"""Locks: exclusive, and shared by readers. Not re-entrant."""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType

from faaskeeper.client import FaaSKeeperClient, SessionState
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
    """

    _PREFIX = "lock-"

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
        self._place: Contender | None = None

    @staticmethod
    def _blocks(name: str) -> bool:
        return True

    def acquire(self, timeout: float | None = None) -> bool:
        """Wait for the lock, at most ``timeout`` seconds (None: for ever); returns whether it is held."""
        if self.held:
            raise FaaSKeeperException(f"the lock {self._path} is held already; it is not re-entrant")
        place = self._contender()
        self._place = place
        if not place.wait(timeout):
            self._place = None
            return False
        return True

    def _contender(self) -> Contender:
        return self._contend(1)

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
        """Give the lock back; does nothing where it is not held."""
        place, self._place = self._place, None
        if place is not None:
            place.leave()

    @property
    def held(self) -> bool:
        """Whether the lock is held, as far as is known here."""
        place = self._place
        return place is not None and place.first and self._client.state is SessionState.CONNECTED

    def check(self) -> None:
        """Raise LockLost unless the lock is held."""
        if not self.held:
            raise LockLost(f"the lock {self._path} is not held any more")

    @property
    def token(self) -> int:
        """The fencing token of the held lock: higher than that of any holder before. Raises LockLost."""
        place = self._place
        if place is None or not self.held:
            raise LockLost(f"the lock {self._path} is not held any more")
        return place.token

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
