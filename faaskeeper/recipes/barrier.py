"""Barriers: wait until one is removed, or until a number of participants have entered."""

from __future__ import annotations

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.barrier import BarrierRules, DoubleBarrierRules
from faaskeeper.recipes.threads import ThreadPort, run


class Barrier:
    """Blocks all callers of :meth:`wait` while it exists, even after its session has ended."""

    def __init__(self, client: FaaSKeeperClient, path: str) -> None:
        self._rules = BarrierRules(ThreadPort(client), path)

    def create(self) -> bool:
        """Create the barrier; returns whether it did not exist before."""
        return run(self._rules.create())

    def remove(self) -> bool:
        """Remove the barrier, which releases all waiting callers; returns whether it existed."""
        return run(self._rules.remove())

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until no barrier exists, at most ``timeout`` seconds; returns whether none does."""
        return run(self._rules.wait(timeout))


class DoubleBarrier:
    """Lets ``number`` participants begin together, and end together.

    A participant is an ephemeral node: one that dies before all have entered does not count, and
    one that dies inside blocks no other. One node stays: the sign that the last round began.
    """

    def __init__(self, client: FaaSKeeperClient, path: str, number: int, identifier: str = "") -> None:
        self._rules = DoubleBarrierRules(ThreadPort(client), path, number, identifier)

    def enter(self, timeout: float | None = None) -> bool:
        """Enter, and wait at most ``timeout`` seconds until all have; returns whether they have.

        A participant that gives up has not entered.
        """
        return run(self._rules.enter(timeout))

    def leave(self, timeout: float | None = None) -> bool:
        """Leave, and wait at most ``timeout`` seconds until all have; returns whether they have."""
        return run(self._rules.leave(timeout))
