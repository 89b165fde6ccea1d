"""Barriers: wait until one is removed, or until a number of participants have entered."""

from __future__ import annotations

from faaskeeper.aio.client import AsyncClient
from faaskeeper.aio.recipes.port import AsyncPort
from faaskeeper.recipes.rules.barrier import BarrierRules, DoubleBarrierRules


class Barrier:
    """Blocks all callers of :meth:`wait` while it exists, even after its session has ended."""

    def __init__(self, client: AsyncClient, path: str) -> None:
        self._rules = BarrierRules(AsyncPort(client), path)

    async def create(self) -> bool:
        """Create the barrier; returns whether it did not exist before."""
        return await self._rules.create()

    async def remove(self) -> bool:
        """Remove the barrier, which releases all waiting callers; returns whether it existed."""
        return await self._rules.remove()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until no barrier exists, at most ``timeout`` seconds; returns whether none does."""
        return await self._rules.wait(timeout)


class DoubleBarrier:
    """Lets ``number`` participants begin together, and end together.

    A participant is an ephemeral node: one that dies before all have entered does not count, and
    one that dies inside blocks no other. One node stays: the sign that the last round began.
    """

    def __init__(self, client: AsyncClient, path: str, number: int, identifier: str = "") -> None:
        self._rules = DoubleBarrierRules(AsyncPort(client), path, number, identifier)

    async def enter(self, timeout: float | None = None) -> bool:
        """Enter, and wait at most ``timeout`` seconds until all have; returns whether they have.

        A participant that gives up, or is cancelled here, has not entered.
        """
        return await self._rules.enter(timeout)

    async def leave(self, timeout: float | None = None) -> bool:
        """Leave, and wait at most ``timeout`` seconds until all have; returns whether they have."""
        return await self._rules.leave(timeout)
