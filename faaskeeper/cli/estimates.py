"""What a deployment costs, for a person who decides whether to make it."""

from __future__ import annotations

from faaskeeper.config import Config
from faaskeeper.deploy.costs import Workload
from faaskeeper.deploy.providers import costs_of

_READS, _WRITES, _CLIENTS = 1_000_000, 100_000, 10


def estimate(config: Config) -> list[str]:
    """The costs of a deployment, idle and with an example of a load; empty if its prices are unknown."""
    costs = costs_of(config)
    if costs is None:
        return []
    load = Workload(_READS, _WRITES, 1024, _CLIENTS, max(config.session_timeout / 3, 1))
    return [
        costs.summary(),
        f"  for example {_READS:,} reads, {_WRITES:,} writes of 1 KB, {_CLIENTS} sessions: "
        f"${sum(costs.month(load).values()):,.2f} per month; 'fk cost' calculates others",
    ]
