"""``addWatch``, ``removeWatches``."""

from __future__ import annotations

import click

from faaskeeper.cli.arguments import Whole
from faaskeeper.cli.context import Context, Watcher
from faaskeeper.cli.options import as_json, command, path, timeout_option


@command("addWatch")
@path
@click.option("-r", "--recursive", is_flag=True, help="Watch the path and all paths below it.")
@click.option(
    "-n",
    "--number",
    type=Whole(0, 10**9),
    default=None,
    help="Exit after this many events; 0: at Ctrl-C or after --timeout. Default: 1, in the shell 0.",
)
@timeout_option
@as_json
def add_watch(
    context: Context, path: str, recursive: bool, number: int | None, timeout: float | None, as_json: bool
) -> None:
    """Print every change of a path.

    In the shell, the watch stays in the background until the session ends or removeWatches removes
    it.
    """
    watcher = Watcher(context, timeout, as_json, number is not None)
    context.call(context.client.add_watch, path, watcher, recursive)
    watcher.wait(1 if number is None else number)


@command("removeWatches")
@path
@as_json
def remove_watches(context: Context, path: str, as_json: bool) -> None:
    """Remove this session's watches on a path."""
    context.call(context.client.remove_watches, path)
    if as_json:
        context.print_json({"path": path})
