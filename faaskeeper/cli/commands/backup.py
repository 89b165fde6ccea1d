"""``fk backup``: the whole state of a deployment as of one transaction, in a file."""

from __future__ import annotations

from pathlib import Path

import click

from faaskeeper.backup.file import read
from faaskeeper.cli import output
from faaskeeper.cli.arguments import File
from faaskeeper.cli.backups import at_option, backups_of, shown, take_to, translated
from faaskeeper.cli.context import Context
from faaskeeper.cli.deployments import progress
from faaskeeper.cli.files import check_writable
from faaskeeper.cli.options import as_json, optional_config


@click.command("backup")
@optional_config
@click.option("-o", "--to", "out", type=File(), required=True, help="Write to this file; .gz compresses it.")
@at_option
@as_json
@click.pass_obj
def backup(context: Context, config: Path | None, out: Path, moment: int | None, as_json: bool) -> None:
    """Write a backup of a deployment, for fk restore.

    The backup has the whole tree as of one transaction: data, ACLs, stats, sequence numbers,
    containers, times to live and quotas. Clients go on meanwhile. It needs no session, and heeds no
    ACL, but needs the rights of a client to read the stores. The file is read back and checked.

    With --at TIME, the tree is as of that moment, as far back as the provider can. TIME is like
    2026-08-31T12:00:00Z, or how long ago: 90s, 15m, 2h, 3d.

    \b
    Examples:
      fk backup OUT.json --to backup.gz
      fk backup OUT.json --at 2h --to before.gz
    """
    context.choose(config)
    check_writable(out)  # before a cloud is asked for anything
    with translated():
        driver = backups_of(context.config)
        with progress("taking the backup") as report:
            opened = driver.source() if moment is None else driver.past(moment, report)
            with opened as source:
                written = take_to(out, source, report)
        found = read(out)
    if as_json:
        context.print_json(
            {
                "file": str(out),
                "zxid": written.zxid,
                "time": found.time,
                "znodes": written.znodes,
                "bytes": written.size,
                "digest": written.digest,
            }
        )
        return
    output.print_error(
        f"wrote {written.znodes} znodes as of transaction {written.zxid} ({shown(found.time)}) to {out}: "
        f"{written.size} bytes, backup {written.digest}"
    )
