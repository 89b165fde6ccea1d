"""``get``: the data of a znode."""

from __future__ import annotations

import click

from faaskeeper.cli import output
from faaskeeper.cli.context import Context
from faaskeeper.cli.moments import Moment, at_option
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
@at_option
@as_json
def get(
    context: Context,
    path: str,
    watch_word: bool,
    watch: bool,
    timeout: float | None,
    stat: bool,
    raw: bool,
    at: Moment | None,
    as_json: bool,
) -> None:
    """Print a node's data.

    With --at, as it was: after a transaction (0x2a, 42), or at a time (2h: two hours ago).

    With --json, "encoding": "base64" marks data that is not UTF-8. A null means that the node has
    no data, which differs from empty data.
    """
    if raw and (as_json or stat):
        raise click.UsageError("--raw prints only the data: omit --json and --stat")
    if at is not None and (watch or watch_word):
        raise click.UsageError("the past does not change: omit --watch or --at")
    watcher = watcher_for(context, watch or watch_word, timeout, as_json)
    if at is None:
        node = context.call(context.reads(watcher).get_data, path, watcher)
    else:
        node = context.call(context.client.get_data, path, at=at)
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
