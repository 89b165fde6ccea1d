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
    unsorted_option,
    watch_flag,
    watch_word,
    watcher_for,
)
from faaskeeper.cli.walks import Walk
from faaskeeper.core import paths


@command("ls")
@path_or_root
@click.argument("include_data_word", type=bool, default=False, metavar="[INCLUDE_DATA]")
@watch_word
@click.option("-i", "--include-data", "include_data", is_flag=True, help="Print the children's data too.")
@click.option("-R", "--recursive", is_flag=True, help="Print the path of the node and of all nodes below it.")
@unsorted_option
@watch_flag
@timeout_option
@as_json
def ls(
    context: Context,
    path: str,
    include_data_word: bool,
    watch_word: bool,
    include_data: bool,
    recursive: bool,
    unsorted: bool,
    watch: bool,
    timeout: float | None,
    as_json: bool,
) -> None:
    """List a node's children.

    With -R, print a path per line, a node before those below it; --json prints a line for each.

    \b
    Examples:
      ls /app
      ls -R /app
    """
    include = include_data or include_data_word
    if recursive or unsorted:
        if watch or watch_word:
            raise click.UsageError("--watch excludes --recursive and --unsorted: addWatch -r watches a tree")
        _stream(context, path, include, recursive, unsorted, as_json)
        return
    watcher = watcher_for(context, watch or watch_word, timeout, as_json)
    nodes = context.call(context.reads(watcher).get_children, path, include, watcher)
    if as_json:
        context.print_json([node.serialize() for node in nodes])
    for node in nodes if not as_json else ():
        shown = f"\t{output.escaped_data(node.data)}" if include else ""
        context.print_line(paths.name(node.path) + shown)
    if watcher is not None:
        watcher.wait()


def _stream(
    context: Context, path: str, include: bool, recursive: bool, unsorted: bool, as_json: bool
) -> None:
    """Print nodes as they are read, without holding the list."""
    walk = Walk(context, data=include, depth=None if recursive else 1, unsorted=unsorted, as_json=as_json)
    for node, depth in walk.visits(path):
        if not depth and not recursive:
            continue
        if as_json:
            context.print_json(node.serialize())
            continue
        shown = f"\t{output.escaped_data(node.data)}" if include else ""
        context.print_line((node.path if recursive else paths.name(node.path)) + shown)
    walk.end()


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
@as_json
def all_children_number(context: Context, path: str, as_json: bool) -> None:
    """Count the descendants of a node."""
    number = context.call(context.reads().all_children_number, path)
    context.say(as_json, {"path": path, "number": number}, str(number))
