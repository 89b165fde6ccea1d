"""``fk export``: writes a tree as JSON lines, which ``fk import`` reads on any provider."""

from __future__ import annotations

from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import File
from faaskeeper.cli.context import Context
from faaskeeper.cli.files import replacing
from faaskeeper.cli.options import as_json, optional_config
from faaskeeper.cli.progress import bar
from faaskeeper.cli.snapshots import dump, take, take_listed
from faaskeeper.core.errors import DriverError
from faaskeeper.exceptions import ProviderException
from faaskeeper.zookeeper.address import PROVIDER


@click.command("export")
@optional_config
@click.option("-o", "--to", "out", type=File(), help="Write to this file instead of standard output.")
@as_json
@click.pass_obj
def export(context: Context, config: Path | None, out: Path | None, as_json: bool) -> None:
    """Write the whole tree as JSON lines, for fk import.

    The dump is a consistent snapshot: the tree as of one transaction. fk import reads it on any
    provider. The export fails if an ACL forbids reading a node; use --auth with the super user to
    read all nodes. With --to, --json prints what was written.
    """
    context.choose(config)
    try:
        if context.config.provider_name == PROVIDER:
            snapshot = context.call(take_listed, context.client, context.config.deployment_name)
            output.print_error("containers and times to live are not in it: a ZooKeeper server hides them")
        else:
            with bar("exporting") as advance:
                snapshot = context.call(take, context.client, context.client.connection, advance)
    except DriverError as error:
        raise ProviderException(str(error)) from error
    if out is None or str(out) == "-":
        dump(snapshot, output.Lines())
        return
    with replacing(out) as file:
        number = dump(snapshot, file)
    if as_json:
        context.print_json({"file": str(out), "zxid": snapshot.zxid, "znodes": number})
        return
    output.print_error(f"wrote {number} znodes as of transaction {snapshot.zxid} to {out}")
