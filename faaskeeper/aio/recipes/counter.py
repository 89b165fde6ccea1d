"""A counter that many clients change."""

from __future__ import annotations

from faaskeeper.aio.client import AsyncClient
from faaskeeper.aio.recipes.port import AsyncPort
from faaskeeper.recipes.rules.counter import CounterRules


class Counter:
    """An integer in a node; no client's change is lost."""

    def __init__(self, client: AsyncClient, path: str, default: int = 0) -> None:
        self._rules = CounterRules(AsyncPort(client), path, default)

    async def value(self) -> int:
        """The present number."""
        return await self._rules.value()

    async def add(self, amount: int = 1) -> int:
        """Add an amount; returns the resulting number."""
        return await self._rules.add(amount)
