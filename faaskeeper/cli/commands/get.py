"""``get``: the data of a znode."""

from __future__ import annotations

import click

from faaskeeper.cli import output
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import (
    as_json,
    command,
    path,
    timeout_option,
    watch_flag,
    watch_word,
    watcher_for,
)


@command("get")
@path
@watch_word
@watch_flag
@timeout_option
@click.option("--stat", "stat", is_flag=True, help="Print the stat too.")
@click.option("--raw", "raw", is_flag=True, help="Print the stored bytes without a final newline.")
@as_json
def get(
    context: Context,
    path: str,
    watch_word: bool,
    watch: bool,
    timeout: float | None,
    stat: bool,
    raw: bool,
    as_json: bool,
) -> None:
    """Print a node's data.

    With --json, "encoding": "base64" marks data that is not UTF-8. A null means that the node has
    no data, which differs from empty data.
    """
    if raw and (as_json or stat):
        raise click.UsageError("--raw prints only the data: omit --json and --stat")
    watcher = watcher_for(context, watch or watch_word, timeout, as_json)
    node = context.call(context.reads(watcher).get_data, path, watcher)
    if as_json:
        context.print_json(node.serialize())
    elif raw:
        output.raw(node.data)
    else:
        context.print_data(node)
        if stat:
            context.print_stat(node)
    if watcher is not None:
        watcher.wait()
