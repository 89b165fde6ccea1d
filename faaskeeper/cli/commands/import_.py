"""``fk import``: creates what ``fk export`` wrote."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import File
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import optional_config
from faaskeeper.cli.restoring import load, read
from faaskeeper.exceptions import ProviderException


@click.command("import")
@optional_config
@click.option("-f", "--from", "source", type=File(), default="-", help="Instead of stdin.")
@click.option("--overwrite", is_flag=True, help="Replace the data of znodes that exist.")
@click.pass_obj
def import_(context: Context, config: Path | None, source: Path, overwrite: bool) -> None:
    """Create what ``fk export`` wrote.

    The whole dump is read and checked before anything is written, and refused if any of its znodes exist
    (without --overwrite). Data, ACLs, containers, times to live and sequence numbers are kept; versions and
    times begin anew. Ephemerals are left out, since their sessions are not here.
    """
    try:
        if str(source) == "-":
            dump = read(sys.stdin.buffer)
        else:
            with open(source, "rb") as file:
                dump = read(file)
    except ProviderException as error:
        where = "standard input" if str(source) == "-" else source
        raise ProviderException(f"{where}: {error}") from error
    context.choose(config)
    done = load(context.client, dump, overwrite, context.call)
    output.print_error(f"created {done.created} znodes, replaced {done.replaced}")
    if done.skipped:
        output.print_error(f"left out {len(done.skipped)} ephemerals: {', '.join(done.skipped[:5])}")
    if done.renumbered:
        first = ", ".join(done.renumbered[:5])
        output.print_error(f"sequence numbers begin anew below {len(done.renumbered)} znodes: {first}")
