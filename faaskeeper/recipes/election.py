"""Election of a leader."""

from __future__ import annotations

from collections.abc import Callable

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.election import ElectionRules, Leading
from faaskeeper.recipes.threads import ThreadPort, run


class Election(Leading):
    """Elects one leader at a time among those who volunteer on the same path.

    The leader's function gets the election, to look at :attr:`leading` and use the fencing
    :attr:`token`.
    """

    def __init__(self, client: FaaSKeeperClient, path: str, identifier: str = "") -> None:
        self._rules = ElectionRules(ThreadPort(client), path, identifier)

    def run(
        self,
        lead: Callable[[Election], None],
        on_loss: Callable[[], None] | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Volunteer, lead while ``lead`` runs, and resign; returns whether that was ever the case.

        ``on_loss`` is called, from the client's callback thread, when the lead is lost meanwhile.
        Raises FaaSKeeperException where another thread runs by this object.
        """

        async def leads() -> None:
            lead(self)

        return run(self._rules.run(leads, on_loss, timeout))

    def contenders(self) -> list[str]:
        """Identifiers of the leader and of those who wait, in their order."""
        return run(self._rules.lock.contenders())
