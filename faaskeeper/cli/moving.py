"""``fk export``, ``fk import``, ``fk cost``: to choose a provider, and to change it."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import Amount, File, Whole
from faaskeeper.cli.context import Context
from faaskeeper.cli.files import whole
from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError
from faaskeeper.core.znode import MAX_DATA_BYTES
from faaskeeper.exceptions import ProviderException

config_argument = click.argument("config", required=False, type=File())
_MOST = 1e15
"""Operations a month: far more than there are, and few enough to be counted exactly."""


def _on(context: Context, config: Path | None) -> Connection:
    """Open a session with the deployment of a configuration; its drivers."""
    if config is not None:
        context.config = Config.load(config)
    connection = context.client._connection
    if connection is None:
        raise AssertionError("a started client is connected")
    return connection


@click.command("export")
@config_argument
@click.option("-o", "--to", "out", type=File(), help="Instead of stdout.")
@click.pass_obj
def export(context: Context, config: Path | None, out: Path | None) -> None:
    """Write the tree as of one transaction: lines of JSON, which ``fk import`` reads on any provider.

    What an ACL does not let you read ends it; ``--auth`` of the super user reads everything.
    """
    from faaskeeper.cli.snapshots import dump, take

    connection = _on(context, config)
    try:
        snapshot = context.call(take, context.client, connection)
    except DriverError as error:
        raise ProviderException(str(error)) from error
    if out is None or str(out) == "-":
        dump(snapshot, output.Lines())
        return
    with whole(out) as file:
        number = dump(snapshot, file)
    output.tell(f"{out} has {number} znodes as of transaction {snapshot.zxid}")


@click.command("import")
@config_argument
@click.option("-f", "--from", "source", type=File(), default="-", help="Instead of stdin.")
@click.option("--overwrite", is_flag=True, help="Replace the data of znodes that exist.")
@click.pass_obj
def import_(context: Context, config: Path | None, source: Path, overwrite: bool) -> None:
    """Create what ``fk export`` wrote.

    The whole dump is read and checked before anything is written, and refused if any of its znodes exist
    (without --overwrite). Data, ACLs, containers, times to live and sequence numbers are kept; versions and
    times begin anew. Ephemerals are left out, since their sessions are not here.
    """
    from faaskeeper.cli.restoring import load, read

    try:
        if str(source) == "-":
            dump = read(sys.stdin.buffer)
        else:
            with open(source, "rb") as file:
                dump = read(file)
    except ProviderException as error:
        where = "standard input" if str(source) == "-" else source
        raise ProviderException(f"{where}: {error}") from error
    _on(context, config)
    done = load(context.client, dump, overwrite, context.call)
    output.tell(f"created {done.created} znodes, replaced {done.replaced}")
    if done.skipped:
        output.tell(f"left out {len(done.skipped)} ephemerals: {', '.join(done.skipped[:5])}")
    if done.renumbered:
        first = ", ".join(done.renumbered[:5])
        output.tell(f"sequence numbers begin anew below {len(done.renumbered)} znodes: {first}")


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
    from faaskeeper.deploy.costs import Workload
    from faaskeeper.deploy.providers import costs_of, priced

    data = {"cloud-provider": "aws", "deployment-name": "any", "deployment-region": "us-east-1"}
    chosen = Config.load(config) if config is not None else Config.deserialize(data)
    costs = costs_of(chosen)
    if costs is None:
        known = ", ".join(map(repr, priced()))
        raise click.UsageError(f"prices are known of {known}, not of {chosen.provider_name!r}")
    load = Workload(reads, writes, size, clients, max(chosen.session_timeout / 3, 1))
    output.say(costs.summary())
    output.say(
        f"A month of {reads:,.0f} reads and {writes:,.0f} writes of {size:,} bytes, {clients} sessions:"
    )
    month = costs.month(load)
    for name, price in (*month.items(), ("together", sum(month.values()))):
        output.say(f"  {name:34} ${price:,.2f}")
    output.say(f"  {'published system, the operations':34} ${costs.published(load):,.2f}")
    output.say(f"  {'ZooKeeper, 3 servers':34} ${costs.zookeeper():,.2f}")
    operations = costs.break_even(load)
    if operations == float("inf"):
        output.say("No number of such operations makes the ensemble cheaper.")
    elif operations <= 0:
        output.say("The ensemble is cheaper, whatever the number of operations.")
    else:
        output.say(f"Up to {operations:,.0f} such operations a month the ensemble costs more.")
