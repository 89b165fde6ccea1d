"""The commands on znodes, the same in the shell and as ``fk COMMAND ...``.

Flags may also be given as words in their place (``create /a data false true``), as users of the
published shell know it.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from faaskeeper.cli import acls, output
from faaskeeper.cli.arguments import Whole, text_of
from faaskeeper.cli.context import Context, Watcher
from faaskeeper.cli.errors import Failed, status_of
from faaskeeper.cli.options import (
    COMMANDS,
    VERSION,
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
from faaskeeper.core.acl import digest as digest_of
from faaskeeper.core.znode import MAX_TTL_MS
from faaskeeper.exceptions import NodeDoesntExistException, NotEmptyException
from faaskeeper.node import Node


def _show(context: Context, node: Node, as_json: bool, text: str) -> None:
    if as_json:
        context.print_json(node.serialize())
    else:
        context.say(text)


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
        output.tell(
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
    context.say(f"Deleted {path}")


@command("deleteall")
@path
def deleteall(context: Context, path: str) -> None:
    """Delete a node and all below it.

    Each is a transaction of its own: others may see, and change, what is left meanwhile.
    """
    if path in paths.RESERVED:
        raise Failed(f"{path} is part of every tree and stays: name the nodes to delete", 2)
    number = _delete_below(context, path)
    context.say(f"Deleted {number} node{'' if number == 1 else 's'}")


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


@command("ls", "getChildren")
@path_or_root
@click.argument("include_data_word", type=bool, default=False, metavar="[INCLUDE_DATA]")
@watch_word
@click.option("-i", "--include-data", "include_data", is_flag=True, help="Print their data too.")
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
    nodes = context.call(context.client.get_children, path, include, watcher)
    if as_json:
        context.print_json([node.serialize() for node in nodes])
    for node in nodes if not as_json else ():
        shown = f"\t{output.shown_data(node.data)}" if include else ""
        context.say(paths.name(node.path) + shown)
    if watcher is not None:
        watcher.wait()


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
        context.say(f"Node {path} does not exist")
    else:
        context.say(f"Node {path} exists")
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


@command("getEphemerals")
@click.argument("path", default="/")
@as_json
def get_ephemerals(context: Context, path: str, as_json: bool) -> None:
    """List this session's ephemerals whose paths begin with PATH."""
    found = context.call(context.client.get_ephemerals, text_of(path))
    if as_json:
        context.print_json(found)
        return
    for each in found:
        context.say(each)


@command("getAllChildrenNumber")
@path
def all_children_number(context: Context, path: str) -> None:
    """Count the nodes below a node, at any depth."""
    context.say(str(context.call(context.client.all_children_number, path)))


@command("sync")
@path_or_root
def sync(context: Context, path: str) -> None:
    """Have later reads show at least what is committed now."""
    context.say(f"Synced {context.call(context.client.sync, path)}")


@command("getAcl")
@path
@as_json
def get_acl(context: Context, path: str, as_json: bool) -> None:
    """Print a node's ACL, an entry a line."""
    entries, _ = context.call(context.client.get_acls, path)
    if as_json:
        context.print_json([list(entry) for entry in entries])
        return
    for entry in entries:
        context.say(acls.show(entry))


@command("setAcl")
@path
@click.argument("acl")
@click.option(
    "-v", "--version", "version", type=VERSION, default=-1, help="Only if the ACL has this version."
)
def set_acl(context: Context, path: str, acl: str, version: int) -> None:
    """Replace a node's ACL by SCHEME:ID:PERMISSIONS,... (permissions: letters of cdrwa)."""
    entries = acls.parse(text_of(acl))
    node = context.call(context.client.set_acls, path, entries, version)
    context.say(f"Set the ACL of {path}, version {node.stat.aversion}")


def _credential(context: Context, given: str | None) -> str:
    """USER:PASSWORD as it was given, or asked for at a terminal, or from standard input."""
    if given is None and not sys.stdin.isatty():
        if not context.one_shot:
            raise click.UsageError("Missing argument 'CREDENTIAL': it is asked for at a terminal only.")
        given = sys.stdin.readline().rstrip("\n")
    if given is None:
        given = click.prompt("user:password", hide_input=True, err=True)
    credential = text_of(str(given))
    if not credential.partition(":")[0] or ":" not in credential:
        raise click.UsageError("the credential is USER:PASSWORD")
    return credential


@command("addauth")
@click.argument("scheme")
@click.argument("credential", required=False)
def addauth(context: Context, scheme: str, credential: str | None) -> None:
    """Show a credential with every later command: addauth digest USER:PASSWORD.

    The password is asked for where it is not given. Outside of the shell use --auth.
    """
    if context.one_shot:
        raise click.UsageError(
            "there is no later command outside of the shell: fk --auth USER:PASSWORD COMMAND"
        )
    if scheme != "digest":
        raise click.UsageError(f"{scheme!r} is no scheme to authenticate by; there is 'digest'")
    context.client.add_auth(scheme, _credential(context, credential))


@command("digest")
@click.argument("credential", required=False)
def digest(context: Context, credential: str | None) -> None:
    """Print the id of USER:PASSWORD for an ACL of the scheme digest, or for "super-digest".

    Without, it is asked for at a terminal, or read from standard input.
    """
    context.say(digest_of(_credential(context, credential)))


@command("addWatch")
@path
@click.option("-r", "--recursive", is_flag=True, help="Of the path and of every path below.")
@click.option(
    "-n",
    "--number",
    type=Whole(0, 10**9),
    default=None,
    help="Wait for so many changes; 0: until Ctrl-C, or as long as --timeout says. Outside of the shell: 1.",
)
@timeout_option
@as_json
def add_watch(
    context: Context, path: str, recursive: bool, number: int | None, timeout: float | None, as_json: bool
) -> None:
    """Print the changes of a path: in the shell every one, until the session ends or removeWatches."""
    watcher = Watcher(context, timeout, as_json, number is not None)
    context.call(context.client.add_watch, path, watcher, recursive)
    watcher.wait(1 if number is None else number)


@command("removeWatches")
@path
def remove_watches(context: Context, path: str) -> None:
    """Remove this session's watches of a path."""
    context.call(context.client.remove_watches, path)


@command("tree")
@path_or_root
@click.option("--data", "data", is_flag=True, help="Print the data too.")
@as_json
def tree(context: Context, path: str, data: bool, as_json: bool) -> None:
    """Print a node and all below it."""
    if as_json:
        context.print_json(_as_dictionary(context, path))
        return
    context.say(_label(context, path, data))
    _branches(context, path, data, "")


def _label(context: Context, path: str, data: bool) -> str:
    name = paths.name(path) or "/"
    if not data:
        return name
    return f"{name}: {output.shown_data(context.call(context.client.get_data, path).data)}"


def _branches(context: Context, path: str, data: bool, indent: str) -> None:
    """Print what is below a node, each as soon as it is read and its whole name and data, however long."""
    corner, fork, line = output.guides()
    children = context.call(context.client.get_children, path)
    for number, child in enumerate(children, 1):
        try:
            label = _label(context, child.path, data)
            last = number == len(children)
            context.say(f"{indent}{corner if last else fork}{label}")
            _branches(context, child.path, data, indent + ("    " if last else line))
        except NodeDoesntExistException:
            continue  # deleted while we walk


def _as_dictionary(context: Context, path: str) -> dict[str, Any]:
    node = context.call(context.client.get_data, path)
    children = []
    for child in context.call(context.client.get_children, path):
        try:
            children.append(_as_dictionary(context, child.path))
        except NodeDoesntExistException:
            continue  # deleted while we walk
    return {**node.serialize(), "children": children}


@command("logs")
def logs(context: Context) -> None:
    """Print what the deployment's functions logged lately."""
    text = context.call(context.client.logs)
    lines = output.shown(text, "\n\t") or "Nothing was logged."
    if output.at_terminal():
        click.echo_via_pager(lines)
    else:
        output.say(lines.rstrip("\n"))


__all__ = ["COMMANDS"]
