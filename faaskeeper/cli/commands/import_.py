"""``fk import``: restores a dump of ``fk export``."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import File, ZnodePath
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import as_json, dry_run_option, optional_config
from faaskeeper.cli.progress import bar
from faaskeeper.cli.restoring import load, read
from faaskeeper.core import paths
from faaskeeper.exceptions import NodeDoesntExistException, ProviderException


@click.command("import")
@optional_config
@click.option("-f", "--from", "source", type=File(), default="-", help="Read this file instead of stdin.")
@click.option("--overwrite", is_flag=True, help="Replace the data of nodes that exist.")
@click.option("--below", type=ZnodePath(), default="/", help="Put the dump's root at this path.")
@dry_run_option
@as_json
@click.pass_obj
def import_(
    context: Context,
    config: Path | None,
    source: Path,
    overwrite: bool,
    below: str,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Create the nodes of a dump of fk export.

    The command checks the whole dump before it writes anything. Without --overwrite, it refuses a
    dump if any of its nodes exists. It restores data, ACLs, containers, times to live and sequence
    numbers; versions and times start anew. It skips ephemerals, because their sessions do not exist
    here. With --below PATH, the root of the dump becomes PATH, whose parent must exist.

    \b
    Examples:
      fk import --from dump
      fk import OUT.json --from dump --below /restored --dry-run
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
    if below != "/" and context.call(context.client.exists, paths.parent(below)) is None:
        raise NodeDoesntExistException(paths.parent(below))
    dump = dump.below(below)
    with bar("importing", len(dump.rows)) as advance:
        done = load(context.client, dump, overwrite, context.call, dry_run=dry_run, advance=advance)
    if as_json:
        context.print_json({**done._asdict(), "dry_run": dry_run})
        return
    would = "would have created" if dry_run else "created"
    output.print_error(f"{would} {done.created} znodes, replaced the data of {done.replaced}")
    if done.skipped:
        output.print_error(f"skipped {len(done.skipped)} ephemerals: {', '.join(done.skipped[:5])}")
    if done.renumbered:
        first = ", ".join(done.renumbered[:5])
        output.print_error(f"sequence numbers restart below {len(done.renumbered)} znodes: {first}")
