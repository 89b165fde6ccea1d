"""``logs``: what the functions of a deployment logged."""

from __future__ import annotations

import click

from faaskeeper.cli import output
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import command


@command("logs")
def logs(context: Context) -> None:
    """Print what the deployment's functions logged lately."""
    text = context.call(context.client.logs)
    lines = output.escaped(text, "\n\t") or "Nothing was logged."
    if output.at_terminal():
        click.echo_via_pager(lines)
    else:
        output.print_line(lines.rstrip("\n"))
