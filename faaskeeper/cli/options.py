"""How commands on znodes are made, and the options and arguments that several of them have."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from faaskeeper.cli.arguments import Amount, File, Whole, ZnodePath, data_of
from faaskeeper.cli.context import Context, Watcher

pass_context = click.make_pass_decorator(Context)
F = TypeVar("F", bound=Callable[..., Any])


def command(name: str) -> Callable[[F], click.Command]:
    """Make a command of a function; its help is the function's docstring."""

    def make(function: F) -> click.Command:
        made: click.Command = click.command(name)(pass_context(function))
        return made

    return make


VERSION = Whole(-1, 2**31 - 1)
path = click.argument("path", type=ZnodePath())
optional_config = click.argument("config", required=False, type=File())
path_or_root = click.argument("path", type=ZnodePath(), default="/")
as_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")
watch_flag = click.option(
    "-w",
    "--watch",
    "watch",
    is_flag=True,
    help="Print the next change of it; outside of the shell: wait for it.",
)
watch_word = click.argument("watch_word", type=bool, default=False, metavar="[WATCH]")
timeout_option = click.option(
    "--timeout",
    type=Amount(31_536_000),
    help="Wait for the change, so many seconds at most. Exit status 8: it did not come.",
)
version_option = click.option(
    "-v", "--version", "version", type=VERSION, default=None, help="Only if the node has this version."
)
version_word = click.argument("version_word", type=VERSION, required=False, metavar="[VERSION]")
file_option = click.option(
    "-f", "--file", "file", type=File(), help="Take the data from a file; '-': standard input."
)


def data_given(value: str | None, file: Path | None) -> bytes | None:
    """The data that was given, None without."""
    if file is None:
        return None if value is None else value.encode(errors="surrogateescape")
    if value is not None:
        raise click.UsageError("data is given as a word or with --file, not both")
    return data_of(file, sys.stdin.buffer)


def version_given(option: int | None, word: int | None) -> int:
    """The version that was given, -1 without."""
    if option is not None and word is not None:
        raise click.UsageError("the version is given as a word or with --version, not both")
    return option if option is not None else word if word is not None else -1


def watcher_for(context: Context, wanted: bool, timeout: float | None, as_json: bool) -> Watcher | None:
    """What a command leaves as a watch; None where none is wanted."""
    if timeout is not None and not wanted:
        raise click.UsageError("--timeout is of --watch")
    return Watcher(context, timeout, as_json) if wanted else None
