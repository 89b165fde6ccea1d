"""The shell: interactive at a terminal, otherwise commands from standard input."""

from __future__ import annotations

import os
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TextIO, cast

import click

from faaskeeper.cli import completing, output
from faaskeeper.cli.arguments import resolved, text_of
from faaskeeper.cli.commands import COMMANDS, DEPLOYMENT_COMMANDS
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed, report, suggestion, wants_json
from faaskeeper.cli.groups import grouped
from faaskeeper.cli.words import split
from faaskeeper.core import paths
from faaskeeper.exceptions import FaaSKeeperException, NodeDoesntExistException

if TYPE_CHECKING:
    from prompt_toolkit import PromptSession
    from prompt_toolkit.history import History

BUILT_IN = {
    "help": "List the commands, or describe one: help COMMAND.",
    "cd": "Go to a node, to which relative paths refer: cd PATH; without PATH, to the root.",
    "pwd": "Print the node to which relative paths refer.",
    "connect": "Open a session.",
    "close": "Close the session.",
    "quit": "Close the session and exit.",
    "exit": "Same as quit.",
}


class Quit(Exception):
    """Ends the shell."""


def run(context: Context) -> int:
    """Run the shell; returns its exit status."""
    if sys.stdin.isatty():
        return _interactive(context)
    return _stream(context, sys.stdin)


def _stream(context: Context, lines: TextIO) -> int:
    """Run commands from a stream until one fails; returns the status of that one, or 0."""
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
    """Run one line. Prints errors and returns the exit status that ``fk`` would have. Raises Quit.

    An interrupt (Ctrl-C) stops the command. The session stays open.
    """
    words: list[str] = []
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
        return report(error, in_shell=True, as_json=wants_json(words))
    return 0


def _execute(context: Context, name: str, *arguments: str) -> None:
    if name in BUILT_IN:
        _built_in(context, name, arguments)
        return
    command = COMMANDS.get(name)
    if command is not None:
        command.main(arguments, prog_name=name, standalone_mode=False, obj=context)
    elif name in DEPLOYMENT_COMMANDS:
        raise click.UsageError(f"{name!r} does not work in the shell: run 'fk {name} --help' outside.")
    else:
        raise _unknown(name)


def _unknown(name: str) -> Failed:
    question = suggestion(name, (*COMMANDS, *BUILT_IN))
    return Failed(f"unknown command {name[:100]!r}; 'help' lists them{'.' if question else ''}{question}", 2)


def _built_in(context: Context, name: str, arguments: tuple[str, ...]) -> None:
    one = name in ("help", "cd")
    if len(arguments) > one:
        raise click.UsageError(f"{name!r} takes no {'second ' if one else ''}argument.")
    if name in ("cd", "pwd"):
        _move(context, name, *arguments)
    elif name in ("quit", "exit"):
        raise Quit
    elif name == "connect":
        context.connect()
        context.print_line(f"Session {context.client.session_id} is open")
    elif name == "close":
        context.close()
        context.print_line("Session closed")
    elif not arguments:
        summaries = {each: COMMANDS.summary(each) for each in COMMANDS}
        for heading, names in (*grouped(summaries), ("The shell", list(BUILT_IN))):
            context.print_line(f"{heading}:")
            for each in names:
                context.print_line(f"{each:22}{summaries.get(each) or BUILT_IN[each]}")
    elif arguments[0] in BUILT_IN:
        context.print_line(BUILT_IN[arguments[0]])
    elif arguments[0] in COMMANDS:
        command = COMMANDS[arguments[0]]
        output.print_line(command.get_help(click.Context(command, info_name=arguments[0])))
    else:
        raise _unknown(arguments[0])


def _move(context: Context, name: str, path: str = "/") -> None:
    """``cd`` and ``pwd``. Raises Failed, NodeDoesntExistException."""
    if name == "pwd":
        context.print_line(context.directory)
        return
    path = resolved(context.directory, text_of(path))
    wrong = paths.invalid(path)
    if wrong is not None:
        raise Failed(wrong, 2)
    if context.call(context.client.exists, path) is None:
        raise NodeDoesntExistException(path)
    context.directory = path


# ---- at a terminal ---------------------------------------------------------------------------


def complete(context: Context, before: str) -> Iterator[tuple[str, int]]:
    """Complete the last word of a line; yields texts and the number of characters to replace."""
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
    if client is None or word.startswith("-"):
        return
    begun = paths.name(word)
    before_it = word[: len(word) - len(begun)]
    above = before_it.rstrip("/") or ("/" if before_it else ".")
    try:
        found = completing.children(client, resolved(context.directory, above), begun)
    except FaaSKeeperException:
        return  # no such node, so no completions
    for name in found:
        yield shlex.quote(before_it + name), len(word)


def prompt_text(context: Context, number: int) -> str:
    """The prompt: deployment, session and its state, and the number of commands so far."""
    config = context.config
    client = context.connected
    status = "DISCONNECTED" if client is None else client.session_status
    session = "none" if client is None else client.session_id
    provider = config.provider_name
    where = "" if context.directory == "/" else f" {output.escaped(context.directory)}"
    return f"[fk: {provider}:{config.deployment_name}({status}) session:{session}{where} {number}] "


def _interactive(context: Context) -> int:
    from prompt_toolkit.patch_stdout import StdoutProxy

    context.connect()
    session = _prompt_session(context)
    number = 0
    while True:
        try:
            # Events of watches print above the prompt. The proxy leaves raw mode for that, which
            # may lose a key, so the output of commands must not pass through it: it would come
            # late.
            with StdoutProxy(raw=True) as above, output.redirected(cast(TextIO, above)):
                line = session.prompt(prompt_text(context, number))
            execute(context, line)
            number += bool(line.strip())
        except KeyboardInterrupt:
            continue  # Ctrl-C at the prompt discards the line
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
        complete_while_typing=False,  # completing a path reads from the service: only on request
        history=_history(),
        auto_suggest=AutoSuggestFromHistory(),
    )


def _history() -> History:
    """The history of earlier shells, if it can be stored; without passwords."""
    from prompt_toolkit.history import FileHistory, InMemoryHistory

    class Kept(FileHistory):
        """Stores lines, except those with passwords."""

        def store_string(self, string: str) -> None:
            if string.split(maxsplit=1)[:1] in (["addauth"], ["digest"]):
                return
            try:
                super().store_string(string)
            except OSError:
                pass  # for example a full disk: the line stays in this shell's memory only

    state = os.environ.get("XDG_STATE_HOME") or "~/.local/state"
    file = Path(state).expanduser() / "faaskeeper" / "history"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "ab"):
            pass
    except (OSError, ValueError) as error:
        output.print_error(f"fk: cannot store the command history: {error}")
        return InMemoryHistory()
    return Kept(str(file))
