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
    """Open a shell; reads commands from standard input when that is no terminal."""
    context.choose(config)
    context.one_shot = False
    context.status = run(context)
