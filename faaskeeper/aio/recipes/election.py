"""Election of a leader."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Union

from faaskeeper.aio.client import AsyncClient
from faaskeeper.aio.recipes.port import AsyncPort, OnLoss, result_of
from faaskeeper.recipes.rules.election import ElectionRules, Leading


class Election(Leading):
    """Elects one leader at a time among those who volunteer on the same path.

    The leader's function gets the election, to look at :attr:`leading` and use the fencing
    :attr:`token`.
    """

    def __init__(self, client: AsyncClient, path: str, identifier: str = "") -> None:
        self._port = AsyncPort(client)
        self._rules = ElectionRules(self._port, path, identifier)

    async def run(
        self,
        lead: Callable[[Election], Union[Awaitable[object], object]],
        on_loss: OnLoss | None = None,
        timeout: float | None = None,
    ) -> bool:
        """Volunteer, lead while ``lead`` runs, and resign; returns whether that was ever the case.

        ``lead`` and ``on_loss``: functions or coroutine functions. ``on_loss`` is called when the
        lead is lost meanwhile; it does not end ``lead``. Raises FaaSKeeperException where another
        task runs by this object.
        """
        return await self._rules.run(lambda: result_of(lead(self)), self._port.calling(on_loss), timeout)

    async def contenders(self) -> list[str]:
        """Identifiers of the leader and of those who wait, in their order."""
        return await self._rules.lock.contenders()
