"""A semaphore: at most so many hold it at a time."""

from __future__ import annotations

from collections.abc import Callable

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.lock import Lock


class Semaphore(Lock):
    """Held by at most ``leases`` contenders at a time, among all clients that name the same path.

    All must name the same number. Else as :class:`~faaskeeper.recipes.lock.Lock`: a fencing token, told of
    loss at once, not re-entrant.
    """

    _PREFIX = "lease-"

    def __init__(
        self,
        client: FaaSKeeperClient,
        path: str,
        leases: int,
        identifier: str = "",
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        if leases < 1:
            raise ValueError(f"a semaphore has at least one lease, not {leases}")
        super().__init__(client, path, identifier, on_loss)
        self._places = leases

    def holders(self) -> list[str]:
        """Identifiers of those who hold it, in their order."""
        return self.contenders()[: self._places]
