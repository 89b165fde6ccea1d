"""``fk cost``: estimates the costs of a configuration, to choose a provider and its options."""

from __future__ import annotations

import math
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import Amount, ConfigSource, Whole
from faaskeeper.cli.options import as_json
from faaskeeper.config import Config
from faaskeeper.core.znode import MAX_DATA_BYTES
from faaskeeper.deploy.costs import Workload
from faaskeeper.deploy.providers import costs_of, priced

_MOST = 1e15
"""Operations per month: beyond any deployment, and small enough for exact arithmetic."""


@click.command("cost")
@click.argument("config", type=ConfigSource(), required=False)
@click.option("--reads", type=Amount(_MOST), default=1e6, show_default=True, help="Reads per month.")
@click.option("--writes", type=Amount(_MOST), default=1e5, show_default=True, help="Writes per month.")
@click.option(
    "--size", type=Whole(0, MAX_DATA_BYTES), default=1024, show_default=True, help="Bytes of data per node."
)
@click.option("--clients", type=Whole(0, 10**9), default=10, show_default=True, help="Open sessions.")
@click.option("--nodes", type=Amount(_MOST), default=1000, show_default=True, help="Stored nodes.")
@click.option("--updates", type=Amount(1e6), default=1, show_default=True, help="Deployments per month.")
@click.option(
    "--outside", type=Amount(1), default=0, show_default=True, help="Share of reads from outside the cloud."
)
@click.option(
    "--follow",
    type=Whole(10, 10_000),
    help="All reads are of a server with 'serve --reads memory --follow MS'.",
)
@as_json
def cost(
    config: Path | None,
    reads: float,
    writes: float,
    size: int,
    clients: int,
    nodes: float,
    updates: float,
    outside: float,
    follow: int | None,
    as_json: bool,
) -> None:
    """Estimate the monthly costs of a deployment.

    Print the costs of a workload by category, and compare them with a ZooKeeper ensemble.
    """
    data = {"cloud-provider": "aws", "deployment-name": "any", "deployment-region": "us-east-1"}
    chosen = Config.load(config) if config is not None else Config.deserialize(data)
    costs = costs_of(chosen)
    if costs is None:
        known = ", ".join(map(repr, priced()))
        raise click.UsageError(f"no prices for {chosen.provider_name!r}: prices are known for {known}")
    lease_s = max(chosen.session_timeout / 3, 1)
    load = Workload(reads, writes, size, clients, lease_s, nodes, updates, outside, follow or 0)
    month = costs.month(load)
    published, ensemble, operations = costs.published(load), costs.zookeeper(), costs.break_even(load)
    if as_json:
        shown = {"month": {**month, "together": sum(month.values())}, "published": published}
        finite = operations if math.isfinite(operations) else None
        output.print_line(output.json_line({**shown, "zookeeper": ensemble, "break_even": finite}))
        return
    output.print_line(costs.summary())
    output.print_line(
        f"{reads:,.0f} reads and {writes:,.0f} writes of {size:,} bytes per month, {clients} sessions:"
    )
    for name, price in (*month.items(), ("together", sum(month.values()))):
        output.print_line(f"  {name:34} ${price:,.2f}")
    if published is not None:
        output.print_line(f"  {'published system, operations only':34} ${published:,.2f}")
    output.print_line(f"  {'ZooKeeper, 3 servers':34} ${ensemble:,.2f}")
    if operations == float("inf"):
        output.print_line("The ensemble is more expensive for any number of operations.")
    elif operations <= 0:
        output.print_line("The ensemble is cheaper for any number of operations.")
    else:
        output.print_line(f"The ensemble is cheaper from {operations:,.0f} such operations per month.")
