"""``fk restore``: sets a deployment to the state of a backup, or of a moment."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import click

from faaskeeper.backup.driver import Progress
from faaskeeper.backup.file import Backup, Writer, read
from faaskeeper.backup.restoring import NEW, Findings, examine
from faaskeeper.backup.restoring import restore as restore_backup
from faaskeeper.backup.taking import Tree, replay
from faaskeeper.cli import output
from faaskeeper.cli.arguments import ConfigSource, File
from faaskeeper.cli.backups import at_option, backups_of, shown, take_to, translated, write
from faaskeeper.cli.context import Context
from faaskeeper.cli.deployments import ask, progress, yes_option
from faaskeeper.cli.options import as_json, optional_config
from faaskeeper.config import Config


@click.command("restore")
@optional_config
@click.option("-f", "--from", "file", type=File(), help="The backup to restore.")
@at_option
@click.option(
    "--of", "other", type=ConfigSource(), help="With --at: of the deployment of this configuration."
)
@click.option("--end-sessions", is_flag=True, help="Restore although sessions are open, which ends them.")
@click.option("--dry-run", is_flag=True, help="Check the backup, show what it replaces; change nothing.")
@yes_option
@as_json
@click.pass_obj
def restore(
    context: Context,
    config: Path | None,
    file: Path | None,
    moment: int | None,
    other: Path | None,
    end_sessions: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Set a deployment, new or in use, to the state of a backup or of a moment.

    Everything in the deployment is replaced. Sessions and ephemerals are not restored: locks are
    held by nobody. Transaction numbers go on above all that were ever given out. If the command is
    interrupted, the deployment refuses everything until the same command completes it.

    --from FILE restores a backup of fk backup. --at TIME restores the deployment as of a moment, as
    far back as the provider can. Both together restore the backup and what the log of the deployment
    has from then on, up to the moment.

    \b
    Examples:
      fk restore NEW.json --from backup.gz
      fk restore OUT.json --at 2026-08-31T12:00:00Z --dry-run
      fk restore NEW.json --at 15m --of OUT.json
      fk restore OUT.json --from backup.gz --at 15m
    """
    if file is None and moment is None:
        raise click.UsageError("say what to restore: --from FILE, --at TIME, or both")
    if other is not None and moment is None:
        raise click.UsageError("--of requires --at")
    context.choose(config)
    source = context.config if other is None else Config.load(other)
    with translated(), _found(source, file, moment) as backup:
        driver = backups_of(context.config)
        if dry_run and not driver.exists():
            _show(context, context.config.deployment_name, backup, NEW, as_json)
            return
        with driver.target() as opened:
            findings = examine(opened)
            if dry_run:
                _show(context, opened.name, backup, findings, as_json)
                return
            if not findings.empty:
                _tell(opened.name, backup, findings)
                ask(f"Everything in {opened.name} will be replaced. Restore the backup?", yes)
            with progress(f"restoring {opened.name}") as report:
                done = restore_backup(opened, backup, end_sessions=end_sessions, progress=report)
    if as_json:
        context.print_json(
            {
                "znodes": done.znodes,
                "removed": done.removed,
                "ephemerals": done.ephemerals,
                "zxid": done.zxid,
                "digest": backup.digest,
            }
        )
        return
    output.print_error(
        f"restored {done.znodes} znodes as of transaction {backup.zxid} ({shown(backup.time)}) into "
        f"{opened.name}, which goes on from transaction {done.zxid}"
    )
    if done.ephemerals:
        output.print_error(f"left out {done.ephemerals} ephemerals: their sessions have ended")


@contextmanager
def _found(source: Config, file: Path | None, moment: int | None) -> Iterator[Backup]:
    """The backup to restore, which is made first if it is as of a moment."""
    if moment is None:
        if file is None:
            raise AssertionError("checked before")
        yield read(file)
        return
    with tempfile.TemporaryDirectory(prefix="fk-restore-") as folder:
        made = Path(folder) / "backup"
        with progress(f"reading the state of {shown(moment)}") as report:
            if file is None:
                with backups_of(source).past(moment, report) as past:
                    take_to(made, past, report)
            else:
                _replay(source, read(file), moment, made, report)
        yield read(made)


def _replay(source: Config, base: Backup, moment: int, made: Path, report: Progress) -> None:
    """Make a backup of another one and of the log after it."""
    if base.time > moment:
        raise click.UsageError(
            f"the backup is of {shown(base.time)}, after {shown(moment)}: give an earlier one"
        )
    with backups_of(source).source() as now:
        upto = replace(now, upto=moment)

        def fill(begin: Callable[[], Writer]) -> tuple[Tree, Writer]:
            sink = begin()
            return replay(upto, base, sink), sink

        write(made, now.name, fill)


def _tell(name: str, backup: Backup, findings: Findings) -> None:
    znodes = "an unknown number of" if findings.znodes is None else findings.znodes
    output.print_error(
        f"{name} has {znodes} znodes and {findings.sessions} open sessions, as of transaction {findings.zxid}"
    )
    output.print_error(
        f"the backup {backup.digest} has {len(backup.nodes)} znodes as of transaction {backup.zxid}, "
        f"{shown(backup.time)}"
    )


def _show(context: Context, name: str, backup: Backup, findings: Findings, as_json: bool) -> None:
    if as_json:
        context.print_json(
            {
                "deployment": name,
                "replaces": findings.znodes,
                "sessions": findings.sessions,
                "unfinished": findings.unfinished,
                "znodes": len(backup.nodes),
                "ephemerals": sum(1 for meta in backup.nodes.values() if meta.owner),
                "zxid": backup.zxid,
                "time": backup.time,
                "digest": backup.digest,
            }
        )
        return
    if findings.unfinished:
        output.print_error(f"{name}: the restore of the backup {findings.unfinished} is not completed")
    _tell(name, backup, findings)
    if findings.sessions:
        output.print_error("--end-sessions is needed, and ends the sessions")
