"""Barriers: wait until one is removed, or until so many participants have come."""

from __future__ import annotations

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.barrier import BarrierRules, DoubleBarrierRules
from faaskeeper.recipes.threads import ThreadPort, run


class Barrier:
    """Holds up all callers of :meth:`wait` while it exists, also after its session has ended."""

    def __init__(self, client: FaaSKeeperClient, path: str) -> None:
        self._rules = BarrierRules(ThreadPort(client), path)

    def create(self) -> bool:
        """Put the barrier up; returns whether it was not up before."""
        return run(self._rules.create())

    def remove(self) -> bool:
        """Remove the barrier, so that all go on; returns whether it was up."""
        return run(self._rules.remove())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the barrier is not up, at most so many seconds; returns whether it is not."""
        return run(self._rules.wait(timeout))


class DoubleBarrier:
    """Lets ``number`` participants begin together, and end together.

    A participant is an ephemeral node: one that dies before all have come has not come, and one
    that dies inside holds nobody up. What stays is the sign that the last round began, one node.
    """

    def __init__(self, client: FaaSKeeperClient, path: str, number: int, identifier: str = "") -> None:
        self._rules = DoubleBarrierRules(ThreadPort(client), path, number, identifier)

    def enter(self, timeout: float | None = None) -> bool:
        """Come, and wait until all have come, at most so many seconds; returns whether they have.

        A participant that gives up has not come.
        """
        return run(self._rules.enter(timeout))

    def leave(self, timeout: float | None = None) -> bool:
        """Be done, and wait until all are, at most so many seconds; returns whether they are."""
        return run(self._rules.leave(timeout))
