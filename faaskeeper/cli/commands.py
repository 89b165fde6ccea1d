"""The commands on znodes, the same in the shell and as ``fk COMMAND ...``.

Flags may also be given as words in their place (``create /a data false true``), as users of the
published shell know it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from faaskeeper.cli import acls
from faaskeeper.cli.context import Context
from faaskeeper.core import paths
from faaskeeper.core.acl import digest as digest_of
from faaskeeper.exceptions import NodeDoesntExistException, NotEmptyException
from faaskeeper.node import Node

if TYPE_CHECKING:
    from rich.text import Text
    from rich.tree import Tree

pass_context = click.make_pass_decorator(Context)
F = TypeVar("F", bound=Callable[..., Any])
COMMANDS: dict[str, click.Command] = {}
"""By name; aliases stand beside."""


def command(name: str, *aliases: str) -> Callable[[F], click.Command]:
    """Register a command; its help is the function's docstring."""

    def register(function: F) -> click.Command:
        made: click.Command = click.command(name)(pass_context(function))
        for each in (name, *aliases):
            COMMANDS[each] = made
        return made

    return register


path = click.argument("path")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
watch_flag = click.option("-w", "--watch", "watch", is_flag=True, help="Print the next change of it.")
watch_word = click.argument("watch_word", type=bool, default=False, metavar="[WATCH]")
version_option = click.option(
    "-v", "--version", "version", type=int, default=None, help="Only if the node has this version."
)
version_word = click.argument("version_word", type=int, required=False, metavar="[VERSION]")
file_option = click.option(
    "-f",
    "--file",
    "file",
    type=click.Path(exists=True, dir_okay=False, allow_dash=True),
    help="Take the data from a file; '-': standard input.",
)


def _data(value: str | None, file: str | None) -> bytes:
    if file is None:
        return (value or "").encode(errors="surrogateescape")
    if value is not None:
        raise click.UsageError("data is given as a word or with --file, not both")
    if file == "-":
        return sys.stdin.buffer.read()
    return Path(file).read_bytes()


def _version(option: int | None, word: int | None) -> int:
    return option if option is not None else word if word is not None else -1


def _show(context: Context, node: Node, as_json: bool, text: str) -> None:
    if as_json:
        context.print_json(node.serialize())
    else:
        context.say(text)


@command("create")
@path
@click.argument("value", required=False)
@click.argument("ephemeral_word", type=bool, default=False, metavar="[EPHEMERAL]")
@click.argument("sequential_word", type=bool, default=False, metavar="[SEQUENTIAL]")
@click.option("-e", "--ephemeral", is_flag=True, help="It ends with the session.")
@click.option("-s", "--sequential", is_flag=True, help="A number is appended to its name.")
@click.option("-p", "--parents", is_flag=True, help="Create what is missing above it.")
@click.option("--ttl", type=int, help="It goes after so many ms unchanged and without children.")
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
    file: str | None,
    as_json: bool,
) -> None:
    """Create a node."""
    node = context.client.create(
        path,
        _data(value, file),
        ephemeral or ephemeral_word,
        sequential or sequential_word,
        acl=None if acl is None else acls.parse(acl),
        ttl=ttl,
        container=container,
        makepath=parents,
    )
    _show(context, node, as_json, f"Created {node.path}")


@command("get")
@path
@watch_word
@watch_flag
@click.option("--stat", "stat", is_flag=True, help="Print the Stat too.")
@as_json
def get(context: Context, path: str, watch_word: bool, watch: bool, stat: bool, as_json: bool) -> None:
    """Print a node's data."""
    node = context.client.get_data(path, context.watched if watch or watch_word else None)
    if as_json:
        context.print_json(node.serialize())
    else:
        context.print_data(node)
        if stat:
            context.print_stat(node)


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
    file: str | None,
    as_json: bool,
) -> None:
    """Replace a node's data."""
    node = context.client.set_data(path, _data(value, file), _version(version, version_word))
    _show(context, node, as_json, f"Set {node.path}, version {node.stat.version}")


@command("delete")
@path
@version_word
@version_option
def delete(context: Context, path: str, version_word: int | None, version: int | None) -> None:
    """Delete a node without children."""
    context.client.delete(path, _version(version, version_word))
    context.say(f"Deleted {path}")


@command("deleteall")
@path
def deleteall(context: Context, path: str) -> None:
    """Delete a node and all below it.

    Each is a transaction of its own: others may see, and change, what is left meanwhile.
    """
    number = _delete_below(context, path)
    context.say(f"Deleted {number} node{'' if number == 1 else 's'}")


def _delete_below(context: Context, path: str) -> int:
    number = 0
    while True:
        for child in context.client.get_children(path):
            try:
                number += _delete_below(context, child.path)
            except NodeDoesntExistException:
                continue  # somebody else was faster
        try:
            context.client.delete(path)
        except NotEmptyException:
            continue  # somebody created a child meanwhile
        return number + 1


@command("ls", "getChildren")
@click.argument("path", default="/")
@click.argument("include_data_word", type=bool, default=False, metavar="[INCLUDE_DATA]")
@watch_word
@click.option("-i", "--include-data", "include_data", is_flag=True, help="Print their data too.")
@watch_flag
@as_json
def ls(
    context: Context,
    path: str,
    include_data_word: bool,
    watch_word: bool,
    include_data: bool,
    watch: bool,
    as_json: bool,
) -> None:
    """List a node's children."""
    include = include_data or include_data_word
    nodes = context.client.get_children(path, include, context.watched if watch or watch_word else None)
    if as_json:
        context.print_json([node.serialize() for node in nodes])
        return
    for node in nodes:
        shown = f"\t{node.data.decode(errors='backslashreplace')}" if include else ""
        context.say(paths.name(node.path) + shown)


@command("exists")
@path
@watch_word
@watch_flag
@as_json
def exists(context: Context, path: str, watch_word: bool, watch: bool, as_json: bool) -> None:
    """Say whether a node exists (exit status 3: it does not)."""
    node = context.client.exists(path, context.watched if watch or watch_word else None)
    if as_json:
        context.print_json(None if node is None else node.serialize())
    elif node is None:
        context.say(f"Node {path} does not exist")
    else:
        context.say(f"Node {path} exists")
    if node is None and context.one_shot:
        context.status = 3


@command("stat")
@path
@watch_word
@watch_flag
@as_json
def stat(context: Context, path: str, watch_word: bool, watch: bool, as_json: bool) -> None:
    """Print a node's Stat."""
    node = context.client.exists(path, context.watched if watch or watch_word else None)
    if node is None:
        raise NodeDoesntExistException(path)
    if as_json:
        context.print_json(node.serialize())
    else:
        context.print_stat(node)


@command("getEphemerals")
@click.argument("path", default="/")
@as_json
def get_ephemerals(context: Context, path: str, as_json: bool) -> None:
    """List this session's ephemerals whose paths begin with PATH."""
    found = context.client.get_ephemerals(path)
    if as_json:
        context.print_json(found)
        return
    for each in found:
        context.say(each)


@command("getAllChildrenNumber")
@path
def all_children_number(context: Context, path: str) -> None:
    """Count the nodes below a node, at any depth."""
    context.say(str(context.client.all_children_number(path)))


@command("sync")
@click.argument("path", default="/")
def sync(context: Context, path: str) -> None:
    """Have later reads show at least what is committed now."""
    context.say(f"Synced {context.client.sync(path)}")


@command("getAcl")
@path
@as_json
def get_acl(context: Context, path: str, as_json: bool) -> None:
    """Print a node's ACL, an entry a line."""
    entries, _ = context.client.get_acls(path)
    if as_json:
        context.print_json([list(entry) for entry in entries])
        return
    for entry in entries:
        context.say(acls.show(entry))


@command("setAcl")
@path
@click.argument("acl")
@click.option("-v", "--version", "version", type=int, default=-1, help="Only if the ACL has this version.")
def set_acl(context: Context, path: str, acl: str, version: int) -> None:
    """Replace a node's ACL by SCHEME:ID:PERMISSIONS,... (permissions: letters of cdrwa)."""
    node = context.client.set_acls(path, acls.parse(acl), version)
    context.say(f"Set the ACL of {path}, version {node.stat.aversion}")


@command("addauth")
@click.argument("scheme")
@click.argument("credential", required=False)
def addauth(context: Context, scheme: str, credential: str | None) -> None:
    """Show a credential with every later command: addauth digest USER:PASSWORD.

    The password is asked for where it is not given.
    """
    context.client.add_auth(scheme, credential or click.prompt("user:password", hide_input=True, err=True))


@command("digest")
@click.argument("credential", required=False)
def digest(context: Context, credential: str | None) -> None:
    """Print the id of USER:PASSWORD for an ACL of the scheme digest, or for "super-digest"."""
    shown = credential or click.prompt("user:password", hide_input=True, err=True)
    if ":" not in shown:
        raise click.UsageError("the credential is USER:PASSWORD")
    context.say(digest_of(shown))


@command("addWatch")
@path
@click.option("-r", "--recursive", is_flag=True, help="Of the path and of every path below.")
def add_watch(context: Context, path: str, recursive: bool) -> None:
    """Print every change of a path, until the session ends or removeWatches."""
    context.client.add_watch(path, context.watched, recursive)


@command("removeWatches")
@path
def remove_watches(context: Context, path: str) -> None:
    """Remove this session's watches of a path."""
    context.client.remove_watches(path)


@command("tree")
@click.argument("path", default="/")
@click.option("--data", "data", is_flag=True, help="Print the data too.")
@as_json
def tree(context: Context, path: str, data: bool, as_json: bool) -> None:
    """Print a node and all below it."""
    if as_json:
        context.print_json(_as_dictionary(context, path))
        return
    from rich.console import Console
    from rich.tree import Tree

    root = Tree(_label(context, path, data), highlight=False)
    _grow(context, root, path, data)
    Console().print(root, soft_wrap=True)


def _label(context: Context, path: str, data: bool) -> Text:
    from rich.text import Text

    name = paths.name(path) or "/"
    if not data:
        return Text(name)
    return Text(f"{name}: {context.client.get_data(path).data.decode(errors='backslashreplace')}")


def _grow(context: Context, tree: Tree, path: str, data: bool) -> None:
    for child in context.client.get_children(path):
        try:
            _grow(context, tree.add(_label(context, child.path, data)), child.path, data)
        except NodeDoesntExistException:
            continue  # deleted while we walk


def _as_dictionary(context: Context, path: str) -> dict[str, Any]:
    node = context.client.get_data(path)
    below = [paths.child(path, name) for name in node.children]
    children = []
    for each in below:
        try:
            children.append(_as_dictionary(context, each))
        except NodeDoesntExistException:
            continue  # deleted while we walk
    return {**node.serialize(), "children": children}


@command("logs")
def logs(context: Context) -> None:
    """Print what the deployment's functions logged lately."""
    click.echo_via_pager(context.client.logs() or "Nothing was logged.\n")
