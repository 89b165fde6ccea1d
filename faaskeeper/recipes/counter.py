"""A counter that many clients change."""

from __future__ import annotations

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.counter import CounterRules
from faaskeeper.recipes.threads import ThreadPort, run


class Counter:
    """An integer in a node; no client's change is lost."""

    def __init__(self, client: FaaSKeeperClient, path: str, default: int = 0) -> None:
        self._rules = CounterRules(ThreadPort(client), path, default)

    @property
    def value(self) -> int:
        """The present number."""
        return run(self._rules.value())

    def add(self, amount: int = 1) -> int:
        """Add an amount; returns the resulting number."""
        return run(self._rules.add(amount))
