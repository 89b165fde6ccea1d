"""The shell: at a terminal with history, suggestions and completion; else reading its standard input."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import click

from faaskeeper.cli import output
from faaskeeper.cli.commands import COMMANDS, DEPLOYMENT_COMMANDS
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed, report, suggestion
from faaskeeper.cli.words import split
from faaskeeper.core import paths
from faaskeeper.exceptions import FaaSKeeperException

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History

BUILT_IN = {
    "help": "Say what commands there are, or how one is used.",
    "connect": "Open a session.",
    "close": "Close the session.",
    "quit": "Close the session and leave.",
    "exit": "The same.",
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
    for number, line in enumerate(lines):
        if number == 0:
            line = line.removeprefix("\ufeff")  # a byte order mark
        try:
            status = execute(context, line)
        except Quit:
            return 0
        if status:
            return status
    return 0


def execute(context: Context, line: str) -> int:
    """Run one line; prints errors, and returns the status that ``fk`` would end with. Raises Quit.

    An interrupt (Ctrl-C) ends the command. The session stays as it is.
    """
    try:
        try:
            words = split(line)
        except ValueError as error:
            raise click.UsageError(f"{error}: {line.strip()[:60]}") from error
        if words:
            _execute(context, *words)
    except Quit:
        raise
    except (Exception, KeyboardInterrupt) as error:
        return report(error, in_shell=True)
    return 0


def _execute(context: Context, name: str, *arguments: str) -> None:
    if name in BUILT_IN:
        _built_in(context, name, arguments)
        return
    command = COMMANDS.get(name)
    if command is not None:
        command.main(arguments, prog_name=name, standalone_mode=False, obj=context)
    elif name in DEPLOYMENT_COMMANDS:
        raise click.UsageError(f"{name!r} is not for the shell: outside of it, 'fk {name} --help' says more.")
    else:
        raise _unknown(name)


def _unknown(name: str) -> Failed:
    question = suggestion(name, (*COMMANDS, *BUILT_IN))
    return Failed(f"unknown command {name[:100]!r}; 'help' lists them{'.' if question else ''}{question}", 2)


def _built_in(context: Context, name: str, arguments: tuple[str, ...]) -> None:
    if len(arguments) > (name == "help"):
        raise click.UsageError(f"{name!r} takes no {'second ' if name == 'help' else ''}argument.")
    if name in ("quit", "exit"):
        raise Quit
    if name == "connect":
        context.connect()
        context.print_line(f"Session {context.client.session_id} is open")
    elif name == "close":
        context.close()
        context.print_line("The session is closed")
    elif not arguments:
        for each, what in sorted({**BUILT_IN, **_summaries()}.items(), key=lambda pair: pair[0].lower()):
            context.print_line(f"{each:22}{what}")
    elif arguments[0] in BUILT_IN:
        context.print_line(BUILT_IN[arguments[0]])
    elif arguments[0] in COMMANDS:
        command = COMMANDS[arguments[0]]
        output.print_line(command.get_help(click.Context(command, info_name=arguments[0])))
    else:
        raise _unknown(arguments[0])


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
            yield shlex.quote(child.path), len(word)


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

    context.connect()
    session = _prompt_session(context)
    number = 0
    with patch_stdout(raw=True):
        while True:
            try:
                line = session.prompt(prompt_text(context, number))
                execute(context, line)
                number += bool(line.strip())
            except KeyboardInterrupt:
                continue  # at the prompt: the line is given up
            except (EOFError, Quit):
                return 0


def _prompt_session(context: Context) -> PromptSession[str]:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.auto_suggest import AutoSuggestFromHistory
    from prompt_toolkit.completion import CompleteEvent, Completer, Completion
    from prompt_toolkit.document import Document

    class Completions(Completer):
        """Commands, then paths."""

        def get_completions(self, document: Document, complete_event: CompleteEvent) -> Iterator[Completion]:
            for text, length in complete(context, document.text_before_cursor):
                yield Completion(text, -length)

    return PromptSession(
        completer=Completions(),
        complete_in_thread=True,
        complete_while_typing=False,  # a path is completed by reading the service: when asked to
        history=_history(),
        auto_suggest=AutoSuggestFromHistory(),
    )


def _history() -> History:
    """What was typed in earlier shells, where that can be kept; never passwords."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Kept(FileHistory):
        """Keeps what was typed, but no passwords."""

        def store_string(self, string: str) -> None:
            if string.split(maxsplit=1)[:1] in (["addauth"], ["digest"]):
                return
            try:
                super().store_string(string)
            except OSError:
                pass  # a full disk: this line is in the memory of this shell only

    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    file = Path(state).expanduser() / "faaskeeper" / "history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "ab"):
            pass
    except (OSError, ValueError) as error:
        output.print_error(f"fk: what you type is not kept: {error}")
        return InMemoryHistory()
    return Kept(str(file))
