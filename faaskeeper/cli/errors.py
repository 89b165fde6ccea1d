"""Error reports of ``fk``, in the shell and outside: one line and an exit status."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import click

from faaskeeper.cli import output
from faaskeeper.config import ConfigurationException
from faaskeeper.core.errors import DriverError, Portable, StaleView
from faaskeeper.exceptions import (
    BadVersionError,
    FaaSKeeperException,
    InvalidACLException,
    MalformedInputException,
    NoAuthException,
    NoChildrenForEphemeralsException,
    NodeDoesntExistException,
    NodeExistsException,
    NotEmptyException,
    ProviderException,
    SequenceUsedUpException,
    SessionClosingException,
    SessionExpiredException,
    TimeoutException,
    TooLargeException,
)
from faaskeeper.extras import missing

STATUSES: tuple[tuple[type[FaaSKeeperException], int], ...] = (
    (NodeDoesntExistException, 3),
    (NodeExistsException, 4),
    (NotEmptyException, 5),
    (BadVersionError, 6),
    (MalformedInputException, 2),
    (ConfigurationException, 2),
    (InvalidACLException, 2),
    (NoAuthException, 9),
    (TooLargeException, 7),
    (SequenceUsedUpException, 7),
    (NoChildrenForEphemeralsException, 7),
    (TimeoutException, 8),
    (FaaSKeeperException, 1),
)
"""Exit statuses by error; the first match counts. click also uses 2, for usage errors."""
INTERRUPTED = 130
"""The exit status that shells use for SIGINT."""
KINDS = {
    1: "failed",
    2: "invalid",
    3: "no node",
    4: "node exists",
    5: "not empty",
    6: "bad version",
    7: "limit",
    8: "timeout",
    9: "not permitted",
    INTERRUPTED: "interrupted",
}
"""What an error in JSON calls each exit status."""


class Failed(Portable):
    """A command failed. Carries the message, the exit status, and its kind if the status is the user's."""

    def __init__(self, message: str, status: int, kind: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind


def status_of(error: FaaSKeeperException) -> int:
    """The exit status of an error."""
    return next(status for kind, status in STATUSES if isinstance(error, kind))


def wants_json(words: Sequence[str]) -> bool:
    """Whether a command line asks for JSON: then its errors are JSON, too, whatever is wrong with it."""
    return "--json" in words[: words.index("--") if "--" in words else len(words)]


def report(error: BaseException, in_shell: bool = False, as_json: bool = False) -> int:
    """Report an error; returns the exit status. ``as_json``: as a JSON object on one line.

    Raises the error again if it is a bug in this program.
    """
    if isinstance(error, click.ClickException):
        if not as_json:
            return _usage(error)
        show_error(error.format_message(), error.exit_code, error, as_json)
        return error.exit_code
    if isinstance(error, click.Abort):
        error = error.__cause__ or error
    if isinstance(error, (EOFError, click.Abort)):  # click's own wording
        if as_json:
            show_error("aborted", 1, error, as_json)
        else:
            output.print_error("Aborted!")
        return 1
    message, status = _line(error, in_shell)
    if message:
        show_error(message, status, error, as_json)
    return status


def show_error(message: str, status: int, error: BaseException, as_json: bool) -> None:
    """Write an error to standard error: a line for people, or a JSON object."""
    if not as_json:
        output.print_error(f"fk: {message}")
        return
    kind = error.kind if isinstance(error, Failed) else ""
    shown = {"error": message, "kind": kind or KINDS.get(status, "failed"), "status": status}
    cause = error.__cause__ if isinstance(error, Failed) else error
    path = getattr(cause, "path", "") if isinstance(cause, FaaSKeeperException) else ""
    if path:
        shown["path"] = path
    output.print_json_error(shown)


def _line(error: BaseException, in_shell: bool) -> tuple[str, int]:
    if isinstance(error, output.Unwritable):
        output.discard_rest()
        return "" if error.closed else str(error), 1
    if isinstance(error, Failed):
        return str(error), error.status
    if isinstance(error, FaaSKeeperException):
        return advice(error, in_shell), status_of(error)
    if isinstance(error, (DriverError, StaleView)):
        return str(error), status_of(ProviderException())
    if isinstance(error, KeyboardInterrupt):
        return ". ".join(["interrupted", *getattr(error, "__notes__", ())]), INTERRUPTED
    if isinstance(error, ImportError):
        needed = missing(error)
        if needed is not None:
            return str(needed), 1
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename is not None else ""
        return f"{where}{error.strerror or error}", 1
    raise error


def advice(error: FaaSKeeperException, in_shell: bool) -> str:
    """The error's message, with API calls replaced by the matching commands."""
    show = "'addauth digest USER:PASSWORD'" if in_shell else "--auth USER:PASSWORD or $FK_AUTH"
    if isinstance(error, NoAuthException):
        path = getattr(error, "path", "the node")
        return f"the ACL of {path} does not permit this: authenticate with {show}"
    if isinstance(error, InvalidACLException):
        return str(error).replace("add_auth()", show)
    if in_shell and isinstance(error, (SessionExpiredException, SessionClosingException)):
        return f"{str(error).removesuffix(': start() a new one')}: 'connect' opens a new one"
    return str(error)


def _usage(error: click.ClickException) -> int:
    lines = []
    if isinstance(error, click.UsageError) and error.ctx is not None:
        lines.append(error.ctx.get_usage())
        if error.ctx.command.get_help_option(error.ctx) is not None:
            lines.append(f"Try '{error.ctx.command_path} --help' for help.\n")
    hint = ""
    if isinstance(error, click.NoSuchOption) and error.ctx is not None and _takes_words(error.ctx):
        hint = " Put arguments that start with '-' after '--'."
    output.print_error("\n".join([*lines, f"Error: {error.format_message()}{hint}"]))
    return error.exit_code


def _takes_words(context: click.Context) -> bool:
    names = {each.name for each in context.command.params if isinstance(each, click.Argument)}
    return bool(names & {"value", "version_word", "credential"})


def suggestion(name: str, names: Iterable[str]) -> str:
    """A question that suggests similar names; empty if none is similar."""
    from difflib import get_close_matches

    known = {each.lower(): each for each in names}
    close = [repr(known[each]) for each in get_close_matches(name.lower()[:100], known, 3)]
    if not close:
        return ""
    return f" Did you mean {'one of ' if len(close) > 1 else ''}{', '.join(close)}?"
