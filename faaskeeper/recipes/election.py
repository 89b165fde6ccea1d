"""Election of a leader."""

from __future__ import annotations

from collections.abc import Callable

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.election import ElectionRules, Leading
from faaskeeper.recipes.threads import ThreadPort, run


class Election(Leading):
    """Elects one leader at a time among the candidates on a path.

    The leader's function receives the election, to check :attr:`leading` and use the fencing
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
        """Volunteer, lead while ``lead`` runs, and resign; returns whether it was elected.

        ``on_loss`` is called in the client's callback thread if the leadership is lost meanwhile.
        Raises FaaSKeeperException if another thread runs with this object.
        """

        async def leads() -> None:
            lead(self)

        return run(self._rules.run(leads, on_loss, timeout))

    def contenders(self) -> list[str]:
        """The identifiers of the leader and of the waiting candidates, in their order."""
        return run(self._rules.lock.contenders())
