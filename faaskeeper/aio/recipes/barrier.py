"""Barriers: wait until one is removed, or until so many participants have come."""

from __future__ import annotations

from faaskeeper.aio.client import AsyncClient
from faaskeeper.aio.recipes.port import AsyncPort
from faaskeeper.recipes.rules.barrier import BarrierRules, DoubleBarrierRules


class Barrier:
    """Holds up all callers of :meth:`wait` while it exists, also after its session has ended."""

    def __init__(self, client: AsyncClient, path: str) -> None:
        self._rules = BarrierRules(AsyncPort(client), path)

    async def create(self) -> bool:
        """Put the barrier up; returns whether it was not up before."""
        return await self._rules.create()

    async def remove(self) -> bool:
        """Remove the barrier, so that all go on; returns whether it was up."""
        return await self._rules.remove()

    async def wait(self, timeout: float | None = None) -> bool:
        """Wait until the barrier is not up, at most so many seconds; returns whether it is not."""
        return await self._rules.wait(timeout)


class DoubleBarrier:
    """Lets ``number`` participants begin together, and end together.

    A participant is an ephemeral node: one that dies before all have come has not come, and one
    that dies inside holds nobody up. What stays is the sign that the last round began, one node.
    """

    def __init__(self, client: AsyncClient, path: str, number: int, identifier: str = "") -> None:
        self._rules = DoubleBarrierRules(AsyncPort(client), path, number, identifier)

    async def enter(self, timeout: float | None = None) -> bool:
        """Come, and wait until all have come, at most so many seconds; returns whether they have.

        A participant that gives up, or is cancelled here, has not come.
        """
        return await self._rules.enter(timeout)

    async def leave(self, timeout: float | None = None) -> bool:
        """Be done, and wait until all are, at most so many seconds; returns whether they are."""
        return await self._rules.leave(timeout)
