"""Commands that create, change and delete single znodes, or tell whether they exist.

The published shell takes flags as positional words (``create /a data false true``); these work too.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import click

from faaskeeper.cli import acls, output
from faaskeeper.cli.arguments import Whole, ZnodePath, text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed, status_of
from faaskeeper.cli.options import (
    as_json,
    command,
    data_given,
    dry_run_option,
    file_option,
    path,
    path_or_root,
    timeout_option,
    version_given,
    version_option,
    version_word,
    watch_flag,
    watch_word,
    watcher_for,
)
from faaskeeper.cli.progress import bar
from faaskeeper.cli.walks import Walk
from faaskeeper.core import paths
from faaskeeper.core.znode import MAX_TTL_MS
from faaskeeper.exceptions import NodeDoesntExistException, NotEmptyException

if TYPE_CHECKING:
    from pathlib import Path


@command("create")
@click.argument("path", type=ZnodePath(sequential=True))
@click.argument("value", required=False)
@click.argument("ephemeral_word", type=bool, default=False, metavar="[EPHEMERAL]")
@click.argument("sequential_word", type=bool, default=False, metavar="[SEQUENTIAL]")
@click.option("-e", "--ephemeral", is_flag=True, help="Delete the node when the session ends.")
@click.option("-s", "--sequential", is_flag=True, help="Append a sequence number to the name.")
@click.option("-p", "--parents", is_flag=True, help="Create missing parents.")
@click.option(
    "--ttl",
    type=Whole(1, MAX_TTL_MS),
    help="Delete the node after this many ms without a change, if it has no children.",
)
@click.option("--container", is_flag=True, help="Delete the node after its last child is deleted.")
@click.option("--acl", "acl", help="SCHEME:ID:PERMISSIONS[,...]. Default: world:anyone:cdrwa.")
@file_option
@as_json
def create(
    context: Context,
    path: str,
    value: str | None,
    ephemeral_word: bool,
    sequential_word: bool,
    ephemeral: bool,
    sequential: bool,
    parents: bool,
    ttl: int | None,
    container: bool,
    acl: str | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Create a node; its data defaults to empty.

    \b
    Examples:
      create /app/config '{"debug": true}' --parents
      create /locks/lock- -e -s
      create /app/logo --file logo.png
    """
    sequential = sequential or sequential_word
    ephemeral = ephemeral or ephemeral_word
    wrong = paths.invalid(f"{path}0" if sequential else path)
    if wrong is not None:
        raise Failed(wrong, 2)
    entries = None if acl is None else acls.parse(text_of(acl))
    data = data_given(value, file) or b""
    client = context.client
    try:
        node = context.call(
            client.create,
            path,
            data,
            ephemeral,
            sequential,
            acl=entries,
            ttl=ttl,
            container=container,
            makepath=parents,
        )
    except NodeDoesntExistException as error:
        raise _no_parent(context, path, error) from error
    context.say(as_json, node.serialize(), f"Created {node.path}")
    if ephemeral and context.one_shot:
        output.print_error(
            f"fk: {node.path} is ephemeral: it ends with this command's session; 'fk shell' keeps one open"
        )


def _no_parent(context: Context, path: str, error: NodeDoesntExistException) -> Exception:
    """The error of a create without a parent; names the topmost missing ancestor."""
    if paths.parent(path) == "/":
        return Failed(f"{path} has no parent: the chroot does not exist; -p creates it", status_of(error))
    above = [each for each in paths.upwards(paths.parent(path)) if each != "/"]
    for each in reversed(above):
        if context.call(context.client.exists, each) is None:
            return Failed(
                f"{path} has no parent: the node {each} does not exist; -p creates it", status_of(error)
            )
    return error  # another client has created it since


@command("set")
@path
@click.argument("value", required=False)
@version_word
@version_option
@file_option
@as_json
def set_(
    context: Context,
    path: str,
    value: str | None,
    version_word: int | None,
    version: int | None,
    file: Path | None,
    as_json: bool,
) -> None:
    """Replace a node's data.

    \b
    Examples:
      set /app/config new
      set /app/config ''
      set /app/config --file config.json --version 3
    """
    data = data_given(value, file)
    if data is None:
        raise click.UsageError(
            "Missing argument 'VALUE': give the data as an argument ('' if empty) or with --file."
        )
    expected = version_given(version, version_word)
    node = context.call(context.client.set_data, path, data, expected)
    context.say(as_json, node.serialize(), f"Set {node.path}, version {node.stat.version}")


@command("delete")
@path
@version_word
@version_option
@as_json
def delete(context: Context, path: str, version_word: int | None, version: int | None, as_json: bool) -> None:
    """Delete a node without children."""
    expected = version_given(version, version_word)
    context.call(context.client.delete, path, expected)
    context.say(as_json, {"path": path}, f"Deleted {path}")


@command("deleteall")
@path
@dry_run_option
@as_json
def deleteall(context: Context, path: str, dry_run: bool, as_json: bool) -> None:
    """Delete a node and all nodes below it.

    Each deletion is a transaction of its own: other clients may see and change the remaining nodes.
    --dry-run prints the paths.
    """
    if path in paths.RESERVED:
        raise Failed(f"{path} cannot be deleted: it is part of every tree; name the nodes to delete", 2)
    if dry_run:
        walk = Walk(context, as_json=as_json)
        for node, _ in walk.visits(path):
            context.say(as_json, {"path": node.path}, node.path)
        walk.end()
        return
    with bar("deleting") as advance:
        number = _delete_below(context, path, advance)
    said = f"Deleted {number} node{'' if number == 1 else 's'}"
    context.say(as_json, {"path": path, "deleted": number}, said)


def _delete_below(context: Context, path: str, advance: Callable[[int], None]) -> int:
    number = 0
    while True:
        for name in context.call(context.client.get_children_with_stat, path)[0]:
            try:
                number += _delete_below(context, paths.child(path, name), advance)
            except NodeDoesntExistException:
                continue  # another client has deleted it
        try:
            context.call(context.client.delete, path)
            advance(1)
        except NotEmptyException:
            continue  # another client has created a child
        return number + 1


@command("exists")
@path
@watch_word
@watch_flag
@timeout_option
@as_json
def exists(
    context: Context, path: str, watch_word: bool, watch: bool, timeout: float | None, as_json: bool
) -> None:
    """Check whether a node exists (exit status 3: no)."""
    watcher = watcher_for(context, watch or watch_word, timeout, as_json)
    node = context.call(context.reads(watcher).exists, path, watcher)
    if as_json:
        context.print_json(None if node is None else node.serialize())
    elif node is None:
        context.print_line(f"Node {path} does not exist")
    else:
        context.print_line(f"Node {path} exists")
    if watcher is not None:
        watcher.wait()
    elif node is None and context.one_shot:
        context.status = 3


@command("stat")
@path
@watch_word
@watch_flag
@timeout_option
@as_json
def stat(
    context: Context, path: str, watch_word: bool, watch: bool, timeout: float | None, as_json: bool
) -> None:
    """Print a node's stat."""
    watcher = watcher_for(context, watch or watch_word, timeout, as_json)
    node = context.call(context.reads(watcher).exists, path, watcher)
    if node is None:
        raise NodeDoesntExistException(path)
    if as_json:
        context.print_json(node.serialize())
    else:
        context.print_stat(node)
    if watcher is not None:
        watcher.wait()


@command("sync")
@path_or_root
@as_json
def sync(context: Context, path: str, as_json: bool) -> None:
    """Make later reads see all committed writes."""
    context.call(context.client.sync, path)
    context.say(as_json, {"path": path}, f"Synced {path}")
