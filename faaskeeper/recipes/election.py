"""Election of a leader."""

from __future__ import annotations

import threading
from collections.abc import Callable

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.recipes.lock import Lock


class Election:
    """Elects one leader at a time among those who volunteer on the same path.

    The leader's function gets the election, to look at :attr:`leading` and use the fencing :attr:`token`.
    """

    def __init__(self, client: FaaSKeeperClient, path: str, identifier: str = "") -> None:
        self._client = client
        self._path = path
        self._identifier = identifier
        self._running = threading.Lock()
        self._lock: Lock | None = None

    def run(
        self,
        lead: Callable[[Election], None],
        on_loss: Callable[[], None] | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Volunteer, lead while ``lead`` runs, and resign; returns whether that was ever the case.

        ``on_loss`` is called, from the client's callback thread, when the lead is lost meanwhile. Raises
        FaaSKeeperException where another thread runs by this object.
        """
        if not self._running.acquire(blocking=False):
            raise FaaSKeeperException(
                f"another thread runs for {self._path} by this object: give each thread one of its own"
            )
        try:
            self._lock = lock = Lock(self._client, self._path, self._identifier, on_loss)
            if not lock.acquire(timeout):
                return False
            try:
                lead(self)
            finally:
                lock.release()
            return True
        finally:
            self._running.release()

    @property
    def leading(self) -> bool:
        """Whether this one is the leader, as far as is known here."""
        return self._lock is not None and self._lock.held

    @property
    def token(self) -> int:
        """The fencing token of the lead: higher than that of any leader before. Raises LockLost."""
        lock = self._lock or Lock(self._client, self._path)
        return lock.token

    def contenders(self) -> list[str]:
        """Identifiers of the leader and of those who wait, in their order."""
        return Lock(self._client, self._path).contenders()
