"""``txn``: several operations in one transaction, from a file or standard input."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import click

from faaskeeper.cli import acls
from faaskeeper.cli.arguments import File, Whole, ZnodePath, text_of
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed, advice, status_of
from faaskeeper.cli.options import as_json, command, data_given, dry_run_option, file_option
from faaskeeper.cli.words import split
from faaskeeper.client.batches import TransactionRequest
from faaskeeper.core.znode import MAX_TTL_MS
from faaskeeper.exceptions import FaaSKeeperException, NodeDoesntExistException, RolledBackException
from faaskeeper.node import Node

_VERSION = Whole(-1, 2**31 - 1)
_MOST_BYTES = 16 * 1024 * 1024
"""Longest input: more than any transaction has."""

Add = Callable[[TransactionRequest], object]


class Line(NamedTuple):
    """A line of the input. ``word``: its operation; ``add`` adds it to a transaction."""

    number: int
    word: str
    path: str
    add: Add


class _Group(click.Group):
    """The operations by name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in self.commands:
            known = ", ".join(self.commands)
            raise click.UsageError(f"unknown operation {args[0][:40]!r}: a transaction has {known}")
        return super().resolve_command(ctx, args)


@click.group(cls=_Group, add_help_option=False, no_args_is_help=False)
def _operations() -> None:
    """What a transaction may have: each command returns the path and a function that adds it."""


@_operations.command("check", add_help_option=False)
@click.argument("path", type=ZnodePath())
@click.argument("version", type=_VERSION, default=-1)
def _check(path: str, version: int) -> tuple[str, Add]:
    return path, lambda transaction: transaction.check(path, version)


@_operations.command("create", add_help_option=False)
@click.argument("path", type=ZnodePath(sequential=True))
@click.argument("value", required=False)
@click.option("-e", "--ephemeral", is_flag=True)
@click.option("-s", "--sequential", is_flag=True)
@click.option("--ttl", type=Whole(1, MAX_TTL_MS))
@click.option("--container", is_flag=True)
@click.option("--acl", "acl")
@file_option
def _create(
    path: str,
    value: str | None,
    ephemeral: bool,
    sequential: bool,
    ttl: int | None,
    container: bool,
    acl: str | None,
    file: Path | None,
) -> tuple[str, Add]:
    data = data_given(value, file) or b""
    entries = None if acl is None else acls.parse(text_of(acl))
    return path, lambda transaction: transaction.create(
        path, data, ephemeral, sequential, acl=entries, ttl=ttl, container=container
    )


@_operations.command("set", add_help_option=False)
@click.argument("path", type=ZnodePath())
@click.argument("value", required=False)
@click.option("-v", "--version", "version", type=_VERSION, default=-1)
@file_option
def _set(path: str, value: str | None, version: int, file: Path | None) -> tuple[str, Add]:
    data = data_given(value, file)
    if data is None:
        raise click.UsageError("Missing argument 'VALUE': give the data as an argument or with --file.")
    return path, lambda transaction: transaction.set_data(path, data, version)


@_operations.command("delete", add_help_option=False)
@click.argument("path", type=ZnodePath())
@click.option("-v", "--version", "version", type=_VERSION, default=-1)
def _delete(path: str, version: int) -> tuple[str, Add]:
    return path, lambda transaction: transaction.delete(path, version)


@command("txn")
@click.argument("file", type=File(), default="-")
@dry_run_option
@as_json
def txn(context: Context, file: Path, dry_run: bool, as_json: bool) -> None:
    """Run operations in one transaction: all of them, or none.

    FILE, or standard input, has an operation per line, in the words of these commands; # begins a
    comment:

    \b
      check PATH [VERSION]       fails unless the node exists, with this version
      create PATH [VALUE] [-e] [-s] [--ttl MS] [--container] [--acl ACL] [-f FILE]
      set PATH VALUE [-v VERSION] [-f FILE]
      delete PATH [-v VERSION]

    They apply in this order; each sees those before it. If one fails, the error names its line, and
    nothing is changed.

    \b
    Examples:
      printf 'check /leader 3\\nset /config new\\n' | fk txn
      fk txn changes.txt --dry-run
    """
    lines = list(_lines(context, _text(context, file)))
    if not lines:
        raise click.UsageError("the transaction is empty: give an operation per line, such as 'check /a 3'")
    transaction = context.client.transaction()
    for line in lines:
        try:
            line.add(transaction)
        except FaaSKeeperException as error:
            raise Failed(f"line {line.number}: {error}", status_of(error)) from error
    if dry_run:
        for line in lines:
            context.say(as_json, {"operation": line.word, "path": line.path}, f"{line.word} {line.path}")
        return
    results = context.call(transaction.commit)
    for line, result in zip(lines, results, strict=True):
        if isinstance(result, FaaSKeeperException) and not isinstance(result, RolledBackException):
            message = advice(result, not context.one_shot)
            if line.word == "create" and isinstance(result, NodeDoesntExistException):
                message = f"{line.path} has no parent"
            raise Failed(
                f"line {line.number}, {line.word}: {message}. Nothing was changed", status_of(result)
            ) from result
    for line, result in zip(lines, results, strict=True):
        _result(context, as_json, line, result)


def _text(context: Context, file: Path) -> str:
    """The input. Raises OSError, Failed."""
    if str(file) == "-":
        if not context.one_shot:
            raise click.UsageError("Missing argument 'FILE': in the shell, txn reads a file.")
        data = sys.stdin.buffer.read(_MOST_BYTES + 1)
    else:
        with open(file, "rb") as opened:
            data = opened.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        raise Failed(f"the transaction has more than {_MOST_BYTES} bytes", 7)
    return data.decode(errors="surrogateescape").removeprefix("\ufeff")


def _lines(context: Context, text: str) -> Iterator[Line]:
    for number, text_line in enumerate(text.split("\n"), 1):
        try:
            words = split(text_line)
            if words:
                path, add = _operations.main(words, prog_name="txn", standalone_mode=False, obj=context)
                yield Line(number, words[0], path, add)
        except click.ClickException as error:
            raise click.UsageError(f"line {number}: {error.format_message()}") from error
        except Failed as error:
            raise Failed(f"line {number}: {error}", error.status) from error
        except ValueError as error:
            raise click.UsageError(f"line {number}: {error}") from error


_DONE = {"check": "Checked", "create": "Created", "set": "Set", "delete": "Deleted"}


def _result(context: Context, as_json: bool, line: Line, result: Any) -> None:
    path = result.path if isinstance(result, Node) else line.path
    shown = result.serialize() if isinstance(result, Node) else {"path": path}
    version = f", version {result.stat.version}" if line.word == "set" and isinstance(result, Node) else ""
    context.say(as_json, {"operation": line.word, **shown}, f"{_DONE[line.word]} {path}{version}")
