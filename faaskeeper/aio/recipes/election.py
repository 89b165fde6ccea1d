"""Election of a leader."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Union

from faaskeeper.aio.client import AsyncClient
from faaskeeper.aio.recipes.port import AsyncPort, OnLoss, result_of
from faaskeeper.recipes.rules.election import ElectionRules, Leading


class Election(Leading):
    """Elects one leader at a time among the candidates on a path.

    The leader's function receives the election, to check :attr:`leading` and use the fencing
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
        """Volunteer, lead while ``lead`` runs, and resign; returns whether it was elected.

        ``lead`` and ``on_loss``: functions or coroutine functions. ``on_loss`` is called if the
        leadership is lost meanwhile; it does not end ``lead``. Raises FaaSKeeperException if
        another task runs with this object.
        """
        return await self._rules.run(lambda: result_of(lead(self)), self._port.calling(on_loss), timeout)

    async def contenders(self) -> list[str]:
        """The identifiers of the leader and of the waiting candidates, in their order."""
        return await self._rules.lock.contenders()
