"""The shell: at a terminal with history, suggestions and completion; else reading its standard input."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from faaskeeper.cli.commands import COMMANDS
from faaskeeper.cli.context import Context, status_of
from faaskeeper.core import paths
from faaskeeper.exceptions import FaaSKeeperException

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession

BUILT_IN = {
    "help": "Say what commands there are, or how one is used.",
    "connect": "Open a session.",
    "close": "Close the session.",
    "quit": "Close the session and leave.",
}


class Quit(Exception):
    """The shell is to end."""


def run(context: Context) -> int:
    """Run the shell; returns its exit status."""
    if sys.stdin.isatty():
        return _interactive(context)
    return _stream(context, sys.stdin)


def _stream(context: Context, lines: TextIO) -> int:
    """Run the commands of a file up to the first that fails; returns that one's status, or 0."""
    for line in lines:
        try:
            status = execute(context, line)
        except Quit:
            return 0
        if status:
            return status
    return 0


def execute(context: Context, line: str) -> int:
    """Run one line; prints errors, and returns the status that ``fk`` would end with. Raises Quit."""
    try:
        words = shlex.split(line, comments=True)
    except ValueError as error:
        click.echo(f"fk: {error}: {line.strip()}", err=True)
        return 2
    if not words:
        return 0
    name, *arguments = words
    try:
        if name in BUILT_IN:
            return _built_in(context, name, arguments)
        command = COMMANDS.get(name)
        if command is None:
            click.echo(f"fk: unknown command {name!r}; 'help' lists them", err=True)
            return 2
        command.main(arguments, prog_name=name, standalone_mode=False, obj=context)
        return 0
    except click.ClickException as error:
        error.show()
        return 2
    except FaaSKeeperException as error:
        click.echo(f"fk: {error}", err=True)
        return status_of(error)


def _built_in(context: Context, name: str, arguments: list[str]) -> int:
    if name in ("quit", "exit"):
        raise Quit
    if name == "connect":
        context.connect()
        click.echo(f"Session {context.client.session_id} is open")
    elif name == "close":
        context.close()
        click.echo("The session is closed")
    elif arguments and arguments[0] in COMMANDS:
        command = COMMANDS[arguments[0]]
        click.echo(command.get_help(click.Context(command, info_name=arguments[0])))
    else:
        for each, what in sorted({**BUILT_IN, **_summaries()}.items(), key=lambda pair: pair[0].lower()):
            click.echo(f"{each:22}{what}")
    return 0


def _summaries() -> dict[str, str]:
    return {name: command.get_short_help_str(70) for name, command in COMMANDS.items()}


# ---- at a terminal ---------------------------------------------------------------------------


def complete(context: Context, before: str) -> Iterator[tuple[str, int]]:
    """Completions of the last word of a line, and how many characters of it they replace."""
    words = before.split(" ")
    word = words[-1]
    if len(words) == 1:
        for name in sorted({*COMMANDS, *BUILT_IN}):
            if name.lower().startswith(word.lower()):
                yield name, len(word)
        return
    if words[0] == "help":
        for name in sorted(COMMANDS):
            if name.lower().startswith(word.lower()):
                yield name, len(word)
        return
    client = context.connected
    if client is None or not word.startswith("/"):
        return
    above, begun = paths.parent(word), paths.name(word)
    try:
        children = client.get_children(above)
    except FaaSKeeperException:
        return  # no such node: nothing to offer
    for child in children:
        if paths.name(child.path).startswith(begun):
            yield child.path, len(word)


def prompt_text(context: Context, number: int) -> str:
    """The prompt: where we are, the session and its state, how many commands were given."""
    config = context.config
    client = context.connected
    status = "DISCONNECTED" if client is None else client.session_status
    session = "none" if client is None else client.session_id
    provider = config.provider_name
    return f"[fk: {provider}:{config.deployment_name}({status}) session:{session} {number}] "


def _interactive(context: Context) -> int:
    from prompt_toolkit.patch_stdout import patch_stdout

    try:
        context.connect()
    except FaaSKeeperException as error:
        click.echo(f"fk: {error}", err=True)
        return status_of(error)
    session = _prompt_session(context)
    number = 0
    with patch_stdout(raw=True):
        while True:
            try:
                line = session.prompt(prompt_text(context, number))
            except KeyboardInterrupt:
                continue
            except EOFError:
                return 0
            try:
                execute(context, line)
            except Quit:
                return 0
            if line.strip():
                number += 1


def _prompt_session(context: Context) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document
    from prompt_toolkit.history import FileHistory

    class History(FileHistory):
        """Keeps what was typed, but no passwords."""

        def store_string(self, string: str) -> None:
            if string.split(maxsplit=1)[:1] not in (["addauth"], ["digest"]):
                super().store_string(string)

    class Completions(Completer):
        """Commands, then paths."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            for text, length in complete(context, document.text_before_cursor):
                yield Completion(text, -length)

    return PromptSession(
        completer=Completions(),
        complete_in_thread=True,
        complete_while_typing=False,  # a path is completed by reading the service: when asked to
        history=History(str(_history_file())),
        auto_suggest=AutoSuggestFromHistory(),
    )


def _history_file() -> Path:
    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    directory = Path(state).expanduser() / "faaskeeper"
    directory.mkdir(parents=True, exist_ok=True)
    return directory / "history"
