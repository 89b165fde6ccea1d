"""A semaphore: a limited number of contenders hold it at a time."""

from __future__ import annotations

from collections.abc import Callable

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.lock import Lock
from faaskeeper.recipes.rules import lock as rules


class Semaphore(Lock):
    """Held by at most ``leases`` contenders at a time, among all clients that use the same path.

    All must use the same number. Otherwise like :class:`~faaskeeper.recipes.lock.Lock`: a fencing
    token, on_loss called at once, not re-entrant.
    """

    def __init__(
        self,
        client: FaaSKeeperClient,
        path: str,
        leases: int,
        identifier: str = "",
        on_loss: Callable[[], None] | None = None,
    ) -> None:
        self._kind = rules.leases(leases)
        super().__init__(client, path, identifier, on_loss)

    def holders(self) -> list[str]:
        """The identifiers of the holders, in their order."""
        return self.contenders()[: self._kind.places]
