"""``logs``: recent log output of a deployment's functions."""

from __future__ import annotations

import click

from faaskeeper.cli import output
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import command


@command("logs")
def logs(context: Context) -> None:
    """Print recent logs of the deployment's functions."""
    text = context.call(context.client.logs)
    lines = output.escaped(text, "\n\t") or "No log entries."
    if output.at_terminal():
        click.echo_via_pager(lines)
    else:
        output.print_line(lines.rstrip("\n"))
