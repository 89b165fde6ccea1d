"""``fk cost``: what a deployment costs, to choose a provider and its configuration."""

from __future__ import annotations

from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import Amount, File, Whole
from faaskeeper.config import Config
from faaskeeper.core.znode import MAX_DATA_BYTES
from faaskeeper.deploy.costs import Workload
from faaskeeper.deploy.providers import costs_of, priced

_MOST = 1e15
"""Operations a month: far more than there are, and few enough to be counted exactly."""


@click.command("cost")
@click.argument("config", type=File(), required=False)
@click.option("--reads", type=Amount(_MOST), default=1e6, show_default=True, help="Reads a month.")
@click.option("--writes", type=Amount(_MOST), default=1e5, show_default=True, help="Writes a month.")
@click.option("--size", type=Whole(0, MAX_DATA_BYTES), default=1024, show_default=True, help="Bytes of data.")
@click.option(
    "--clients", type=Whole(0, 10**9), default=10, show_default=True, help="Sessions that are open."
)
def cost(config: Path | None, reads: float, writes: float, size: int, clients: int) -> None:
    """What a deployment costs: each operation, and a month, beside a ZooKeeper ensemble."""
    data = {"cloud-provider": "aws", "deployment-name": "any", "deployment-region": "us-east-1"}
    chosen = Config.load(config) if config is not None else Config.deserialize(data)
    costs = costs_of(chosen)
    if costs is None:
        known = ", ".join(map(repr, priced()))
        raise click.UsageError(f"prices are known of {known}, not of {chosen.provider_name!r}")
    load = Workload(reads, writes, size, clients, max(chosen.session_timeout / 3, 1))
    output.print_line(costs.summary())
    output.print_line(
        f"A month of {reads:,.0f} reads and {writes:,.0f} writes of {size:,} bytes, {clients} sessions:"
    )
    month = costs.month(load)
    for name, price in (*month.items(), ("together", sum(month.values()))):
        output.print_line(f"  {name:34} ${price:,.2f}")
    output.print_line(f"  {'published system, the operations':34} ${costs.published(load):,.2f}")
    output.print_line(f"  {'ZooKeeper, 3 servers':34} ${costs.zookeeper():,.2f}")
    operations = costs.break_even(load)
    if operations == float("inf"):
        output.print_line("No number of such operations makes the ensemble cheaper.")
    elif operations <= 0:
        output.print_line("The ensemble is cheaper, whatever the number of operations.")
    else:
        output.print_line(f"Up to {operations:,.0f} such operations a month the ensemble costs more.")
