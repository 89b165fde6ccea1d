"""``fk shell``."""

from __future__ import annotations

from pathlib import Path

import click

from faaskeeper.cli.context import Context
from faaskeeper.cli.options import optional_config
from faaskeeper.cli.shell import run


@click.command("shell")
@optional_config
@click.pass_obj
def shell(context: Context, config: Path | None) -> None:
    """Open an interactive shell.

    If standard input is not a terminal, read commands from it, one per line, and stop at the first
    error.
    """
    context.choose(config)
    context.one_shot = False
    context.status = run(context)
