"""Commands that list znodes: ``ls``, ``getEphemerals``, ``getAllChildrenNumber``."""

from __future__ import annotations

import click

from faaskeeper.cli import output
from faaskeeper.cli.arguments import text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.options import (
    as_json,
    command,
    path,
    path_or_root,
    timeout_option,
    watch_flag,
    watch_word,
    watcher_for,
)
from faaskeeper.core import paths


@command("ls")
@path_or_root
@click.argument("include_data_word", type=bool, default=False, metavar="[INCLUDE_DATA]")
@watch_word
@click.option("-i", "--include-data", "include_data", is_flag=True, help="Print the children's data too.")
@watch_flag
@timeout_option
@as_json
def ls(
    context: Context,
    path: str,
    include_data_word: bool,
    watch_word: bool,
    include_data: bool,
    watch: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """List a node's children."""
    include = include_data or include_data_word
    watcher = watcher_for(context, watch or watch_word, timeout, as_json)
    nodes = context.call(context.reads(watcher).get_children, path, include, watcher)
    if as_json:
        context.print_json([node.serialize() for node in nodes])
    for node in nodes if not as_json else ():
        shown = f"\t{output.escaped_data(node.data)}" if include else ""
        context.print_line(paths.name(node.path) + shown)
    if watcher is not None:
        watcher.wait()


@command("getEphemerals")
@click.argument("path", default="/")
@as_json
def get_ephemerals(context: Context, path: str, as_json: bool) -> None:
    """List this session's ephemerals with a path prefix."""
    found = context.call(context.client.get_ephemerals, text_of(path))
    if as_json:
        context.print_json(found)
        return
    for each in found:
        context.print_line(each)


@command("getAllChildrenNumber")
@path
def all_children_number(context: Context, path: str) -> None:
    """Count the descendants of a node."""
    context.print_line(str(context.call(context.reads().all_children_number, path)))
