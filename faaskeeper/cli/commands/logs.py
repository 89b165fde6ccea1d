"""``logs``: recent log output of a deployment's functions."""

from __future__ import annotations

import click

from faaskeeper.cli import output
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import as_json, command


@command("logs")
@as_json
def logs(context: Context, as_json: bool) -> None:
    """Print recent logs of the deployment's functions."""
    text = context.call(context.client.logs)
    if as_json:
        context.print_json({"logs": text})
        return
    lines = output.escaped(text, "\n\t") or "No log entries."
    if output.at_terminal():
        click.echo_via_pager(lines)
    else:
        output.print_line(lines.rstrip("\n"))
