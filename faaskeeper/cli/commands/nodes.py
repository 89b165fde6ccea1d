"""The commands that create, read, change and delete single znodes.

Flags may also be given as words in their place (``create /a data false true``), as users of the
published shell know it.
"""

from __future__ import annotations

from pathlib import Path

import click

from faaskeeper.cli import acls, output
from faaskeeper.cli.arguments import Whole, text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed, status_of
from faaskeeper.cli.options import (
    as_json,
    command,
    data_given,
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
from faaskeeper.core import paths
from faaskeeper.core.znode import MAX_TTL_MS
from faaskeeper.exceptions import NodeDoesntExistException, NotEmptyException
from faaskeeper.node import Node


@command("create")
@click.argument("path", type=str)
@click.argument("value", required=False)
@click.argument("ephemeral_word", type=bool, default=False, metavar="[EPHEMERAL]")
@click.argument("sequential_word", type=bool, default=False, metavar="[SEQUENTIAL]")
@click.option("-e", "--ephemeral", is_flag=True, help="It ends with the session.")
@click.option("-s", "--sequential", is_flag=True, help="A number is appended to its name.")
@click.option("-p", "--parents", is_flag=True, help="Create what is missing above it.")
@click.option(
    "--ttl", type=Whole(1, MAX_TTL_MS), help="It goes after so many ms unchanged and without children."
)
@click.option("--container", is_flag=True, help="It goes when its last child has gone.")
@click.option("--acl", "acl", help="SCHEME:ID:PERMISSIONS,... (letters of cdrwa); else open to everybody.")
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
    """Create a node; without VALUE or --file its data is empty."""
    sequential = sequential or sequential_word
    ephemeral = ephemeral or ephemeral_word
    path = text_of(path)
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
    _show(context, node, as_json, f"Created {node.path}")
    if ephemeral and context.one_shot:
        output.print_error(
            f"fk: {node.path} is ephemeral: it goes now, with this command's session ('fk shell' keeps one)"
        )


def _no_parent(context: Context, path: str, error: NodeDoesntExistException) -> Exception:
    """The error of a create that found no parent: which one is missing, the highest."""
    above = [each for each in paths.upwards(paths.parent(path)) if each != "/"]
    for each in reversed(above):
        if context.call(context.client.exists, each) is None:
            return Failed(
                f"{path} has no parent, the node {each} does not exist: -p creates it", status_of(error)
            )
    return error  # somebody created it meanwhile


@command("get")
@path
@watch_word
@watch_flag
@timeout_option
@click.option("--stat", "stat", is_flag=True, help="Print the Stat too.")
@click.option("--raw", "raw", is_flag=True, help="Print the bytes as they are stored, and no new line.")
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

    With --json data that is no UTF-8 is in base64, "encoding" says so; null: it has no data at all.
    """
    if raw and (as_json or stat):
        raise click.UsageError(
            "--raw prints nothing but the data: it goes neither with --json nor with --stat"
        )
    watcher = watcher_for(context, watch or watch_word, timeout, as_json)
    node = context.call(context.client.get_data, path, watcher)
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
    """Replace a node's data by VALUE or a file; '' for none."""
    data = data_given(value, file)
    if data is None:
        raise click.UsageError("Missing argument 'VALUE': the data, as a word ('' for none) or with --file.")
    expected = version_given(version, version_word)
    node = context.call(context.client.set_data, path, data, expected)
    _show(context, node, as_json, f"Set {node.path}, version {node.stat.version}")


@command("delete")
@path
@version_word
@version_option
def delete(context: Context, path: str, version_word: int | None, version: int | None) -> None:
    """Delete a node without children."""
    expected = version_given(version, version_word)
    context.call(context.client.delete, path, expected)
    context.print_line(f"Deleted {path}")


@command("deleteall")
@path
def deleteall(context: Context, path: str) -> None:
    """Delete a node and all below it.

    Each is a transaction of its own: others may see, and change, what is left meanwhile.
    """
    if path in paths.RESERVED:
        raise Failed(f"{path} is part of every tree and stays: name the nodes to delete", 2)
    number = _delete_below(context, path)
    context.print_line(f"Deleted {number} node{'' if number == 1 else 's'}")


def _delete_below(context: Context, path: str) -> int:
    number = 0
    while True:
        for child in context.call(context.client.get_children, path):
            try:
                number += _delete_below(context, child.path)
            except NodeDoesntExistException:
                continue  # somebody else was faster
        try:
            context.call(context.client.delete, path)
        except NotEmptyException:
            continue  # somebody created a child meanwhile
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
    """Say whether a node exists (exit status 3: it does not)."""
    watcher = watcher_for(context, watch or watch_word, timeout, as_json)
    node = context.call(context.client.exists, path, watcher)
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
    """Print a node's Stat."""
    watcher = watcher_for(context, watch or watch_word, timeout, as_json)
    node = context.call(context.client.exists, path, watcher)
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
def sync(context: Context, path: str) -> None:
    """Have later reads show at least what is committed now."""
    context.print_line(f"Synced {context.call(context.client.sync, path)}")


def _show(context: Context, node: Node, as_json: bool, text: str) -> None:
    if as_json:
        context.print_json(node.serialize())
    else:
        context.print_line(text)
