"""A counter that many clients change."""

from __future__ import annotations

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.counter import CounterRules
from faaskeeper.recipes.threads import ThreadPort, run


class Counter:
    """A whole number kept in a node; every change counts, whichever client makes it."""

    def __init__(self, client: FaaSKeeperClient, path: str, default: int = 0) -> None:
        self._rules = CounterRules(ThreadPort(client), path, default)

    @property
    def value(self) -> int:
        """The number now."""
        return run(self._rules.value())

    def add(self, amount: int = 1) -> int:
        """Add an amount; returns the number that this made."""
        return run(self._rules.add(amount))
