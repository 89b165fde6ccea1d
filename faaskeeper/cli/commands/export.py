"""``fk export``: a tree as lines of JSON, for ``fk import`` on any provider."""

from __future__ import annotations

from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import File
from faaskeeper.cli.context import Context
from faaskeeper.cli.files import replacing
from faaskeeper.cli.options import optional_config
from faaskeeper.cli.snapshots import dump, take
from faaskeeper.core.errors import DriverError
from faaskeeper.exceptions import ProviderException


@click.command("export")
@optional_config
@click.option("-o", "--to", "out", type=File(), help="Instead of stdout.")
@click.pass_obj
def export(context: Context, config: Path | None, out: Path | None) -> None:
    """Write the tree as of one transaction: lines of JSON, which ``fk import`` reads on any provider.

    What an ACL does not let you read ends it; ``--auth`` of the super user reads everything.
    """
    context.choose(config)
    try:
        snapshot = context.call(take, context.client, context.client.connection)
    except DriverError as error:
        raise ProviderException(str(error)) from error
    if out is None or str(out) == "-":
        dump(snapshot, output.Lines())
        return
    with replacing(out) as file:
        number = dump(snapshot, file)
    output.print_error(f"{out} has {number} znodes as of transaction {snapshot.zxid}")
