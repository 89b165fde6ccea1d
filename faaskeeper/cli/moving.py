"""``fk export``, ``fk import``, ``fk cost``: to choose a provider, and to change it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import IO

import click

from faaskeeper.cli.context import Context
from faaskeeper.cli.files import whole
from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError
from faaskeeper.exceptions import ProviderException

config_argument = click.argument("config", required=False, type=click.Path(dir_okay=False))


def _on(context: Context, config: str | None) -> Connection:
    """Open a session with the deployment of a configuration; its drivers."""
    if config is not None:
        context.config = Config.load(config)
    connection = context.client._connection
    if connection is None:
        raise AssertionError("a started client is connected")
    return connection


@click.command("export")
@config_argument
@click.option("-o", "--to", "out", type=click.Path(dir_okay=False, path_type=Path), help="Instead of stdout.")
@click.pass_obj
def export(context: Context, config: str | None, out: Path | None) -> None:
    """Write the tree as of one transaction: lines of JSON, which ``fk import`` reads on any provider.

    What an ACL does not let you read ends it; ``--auth`` of the super user reads everything.
    """
    from faaskeeper.cli.snapshots import dump, take

    connection = _on(context, config)
    try:
        snapshot = take(context.client, connection)
    except DriverError as error:
        raise ProviderException(str(error)) from error
    if out is None:
        dump(snapshot, sys.stdout)
        return
    with whole(out) as file:
        number = dump(snapshot, file)
    click.echo(f"{out} has {number} znodes as of transaction {snapshot.zxid}", err=True)


@click.command("import")
@config_argument
@click.option(
    "-f", "--from", "source", type=click.File(encoding="utf-8"), default="-", help="Instead of stdin."
)
@click.option("--overwrite", is_flag=True, help="Replace the data of znodes that exist.")
@click.pass_obj
def import_(context: Context, config: str | None, source: IO[str], overwrite: bool) -> None:
    """Create what ``fk export`` wrote.

    Data, ACLs, containers, times to live and sequence numbers are kept; versions and times begin anew.
    Ephemerals are left out, since their sessions are not here.
    """
    from faaskeeper.cli.snapshots import load

    _on(context, config)
    done = load(context.client, source, overwrite)
    click.echo(f"created {done.created} znodes, replaced {done.replaced}", err=True)
    if done.skipped:
        click.echo(f"left out {len(done.skipped)} ephemerals: {', '.join(done.skipped[:5])}", err=True)
    if done.renumbered:
        first = ", ".join(done.renumbered[:5])
        click.echo(f"sequence numbers begin anew below {len(done.renumbered)} znodes: {first}", err=True)


@click.command("cost")
@click.argument("config", type=click.Path(dir_okay=False), required=False)
@click.option("--reads", type=float, default=1e6, show_default=True, help="Reads a month.")
@click.option("--writes", type=float, default=1e5, show_default=True, help="Writes a month.")
@click.option("--size", type=int, default=1024, show_default=True, help="Bytes of data.")
@click.option("--clients", type=int, default=10, show_default=True, help="Sessions that are open.")
def cost(config: str | None, reads: float, writes: float, size: int, clients: int) -> None:
    """What a deployment costs: each operation, and a month, beside a ZooKeeper ensemble."""
    from faaskeeper.cli.costs import Costs, Workload, estimate

    data = {"cloud-provider": "aws", "deployment-name": "any", "deployment-region": "us-east-1"}
    chosen = Config.load(config) if config is not None else Config.deserialize(data)
    if chosen.provider_name != "aws":
        raise click.UsageError(f"prices are known of 'aws', not of {chosen.provider_name!r}")
    costs = Costs(chosen)
    load = Workload(reads, writes, size, clients, max(chosen.session_timeout / 3, 1))
    click.echo(estimate(chosen))
    click.echo(
        f"A month of {reads:,.0f} reads and {writes:,.0f} writes of {size:,} bytes, {clients} sessions:"
    )
    month = costs.month(load)
    for name, price in (*month.items(), ("together", sum(month.values()))):
        click.echo(f"  {name:34} ${price:,.2f}")
    click.echo(f"  {'published system, the operations':34} ${costs.published(load):,.2f}")
    click.echo(f"  {'ZooKeeper, 3 servers':34} ${costs.zookeeper():,.2f}")
    operations = costs.break_even(load)
    if operations == float("inf"):
        click.echo("No number of such operations makes the ensemble cheaper.")
    elif operations <= 0:
        click.echo("The ensemble is cheaper, whatever the number of operations.")
    else:
        click.echo(f"Up to {operations:,.0f} such operations a month the ensemble costs more.")
