"""How commands on znodes are declared, with their common options and arguments."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from faaskeeper.cli.arguments import Amount, ConfigSource, File, Whole, ZnodePath, data_of
from faaskeeper.cli.context import Context, Watcher

if TYPE_CHECKING:
    from pathlib import Path

pass_context = click.make_pass_decorator(Context)
F = TypeVar("F", bound=Callable[..., Any])


def command(name: str) -> Callable[[F], click.Command]:
    """Make a command of a function; the docstring is the help text."""

    def make(function: F) -> click.Command:
        made: click.Command = click.command(name)(pass_context(function))
        return made

    return make


VERSION = Whole(-1, 2**31 - 1)
path = click.argument("path", type=ZnodePath())
optional_config = click.argument("config", required=False, type=ConfigSource())
path_or_root = click.argument("path", type=ZnodePath(here=True), default=".", metavar="[PATH]")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
watch_flag = click.option(
    "-w",
    "--watch",
    "watch",
    is_flag=True,
    help="Print the next change. Outside the shell, wait for it.",
)
watch_word = click.argument("watch_word", type=bool, default=False, metavar="[WATCH]")
timeout_option = click.option(
    "--timeout",
    type=Amount(31_536_000),
    help="Wait at most this many seconds for the change. Exit status 8: timeout.",
)
version_option = click.option(
    "-v", "--version", "version", type=VERSION, default=None, help="Require this version of the node."
)
version_word = click.argument("version_word", type=VERSION, required=False, metavar="[VERSION]")
unsorted_option = click.option(
    "-U",
    "--unsorted",
    is_flag=True,
    help="Do not sort: take long lists of children page by page, in little memory.",
)
depth_option = click.option(
    "--depth", type=Whole(0, 480), default=None, help="Go at most this many levels down; 0: the node alone."
)
dry_run_option = click.option("--dry-run", is_flag=True, help="Show what would be done; change nothing.")
file_option = click.option(
    "-f", "--file", "file", type=File(), help="Read the data from a file; '-': standard input."
)


def data_given(value: str | None, file: Path | None) -> bytes | None:
    """The data from the argument or the file; None if neither is given."""
    if file is None:
        return None if value is None else value.encode(errors="surrogateescape")
    if value is not None:
        raise click.UsageError("give the data as an argument or with --file, not both")
    return data_of(file, sys.stdin.buffer)


def version_given(option: int | None, word: int | None) -> int:
    """The version from the option or the argument; -1 if neither is given."""
    if option is not None and word is not None:
        raise click.UsageError("give the version as an argument or with --version, not both")
    return option if option is not None else word if word is not None else -1


def watcher_for(context: Context, wanted: bool, timeout: float | None, as_json: bool) -> Watcher | None:
    """The watch that a command sets; None if it sets none."""
    if timeout is not None and not wanted:
        raise click.UsageError("--timeout requires --watch")
    return Watcher(context, timeout, as_json) if wanted else None
