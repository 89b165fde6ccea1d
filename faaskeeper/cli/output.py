"""What ``fk`` writes, and where.

Text is written as UTF-8 whatever the locale says, but at a terminal in the terminal's encoding, where what
that lacks is escaped. What a person reads has no control characters: a znode's name or data must not move the
cursor, or give the terminal a command. :func:`raw` writes data byte for byte, on demand.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
from typing import Any, TextIO

from faaskeeper.core.errors import Portable

_CONTROL = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
"""Control characters of both sets (terminals obey them), of the direction of text, lone surrogates."""
_IN_JSON = "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
"""Those of them that :func:`json.dumps` leaves as they are."""
_LONGEST = 2000
"""Characters of a line of an error: an argument given by mistake may be a megabyte."""


class Unwritable(Portable):
    """Standard output cannot be written; ``closed``: its reader closed the pipe."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write standard output: {error.strerror or error}")
        self.closed = error.errno == errno.EPIPE


def prepare() -> None:
    """Have the standard streams take any text. A stream that is closed is open afterwards, and of no use."""
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY), closefd=False)
    if sys.stdout is None:  # what is written to it fails, instead of being lost
        sys.stdout = os.fdopen(os.open(os.devnull, os.O_RDONLY), "w", closefd=False)
    if sys.stderr is None:
        sys.stderr = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w", closefd=False)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            encoding = stream.encoding if stream.isatty() else "utf-8"
            stream.reconfigure(encoding=encoding, errors="backslashreplace")
    if isinstance(sys.stdin, io.TextIOWrapper):
        encoding = sys.stdin.encoding if sys.stdin.isatty() else "utf-8"
        sys.stdin.reconfigure(encoding=encoding, errors="surrogateescape")


def escaped(text: str, keep: str = "") -> str:
    """A text with its control characters escaped, but those of ``keep``."""
    if text.isprintable():  # the usual case, which needs no pattern
        return text
    return re.sub(_CONTROL, lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def escaped_data(data: bytes, keep: str = "") -> str:
    """Data as a person reads it."""
    return escaped(data.decode(errors="backslashreplace"), keep)


def guides() -> tuple[str, str, str]:
    """What a tree is drawn with: a last branch, another one, and what goes on beside."""
    lines = ("\u2514\u2500\u2500 ", "\u251c\u2500\u2500 ", "\u2502   ")
    try:
        "".join(lines).encode(sys.stdout.encoding or "utf-8")
    except (UnicodeError, LookupError):
        return "`-- ", "|-- ", "|   "
    return lines


def at_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


def print_line(text: str) -> None:
    """Write a line. Raises Unwritable."""
    _write(sys.stdout, text + "\n")


def json_line(value: Any) -> str:
    """JSON on one line; no control character is left in it."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(_IN_JSON, lambda found: f"\\u{ord(found[0]):04x}", text)


class Lines:
    """Standard output, as something that text is written to. Raises Unwritable."""

    def write(self, text: str) -> None:
        """Write a text."""
        _write(sys.stdout, text)


def raw(data: bytes) -> None:
    """Write bytes as they are. Raises Unwritable."""
    buffer = getattr(sys.stdout, "buffer", None)
    if buffer is None:  # the shell's, at a terminal
        _write(sys.stdout, data.decode(errors="backslashreplace"))
        return
    try:
        sys.stdout.flush()
        buffer.write(data)
        buffer.flush()
    except OSError as error:
        raise Unwritable(error) from error


def print_error(text: str) -> None:
    """Write a line to standard error: what went wrong, or beside what was asked for."""
    lines = (escaped(line, "\t") for line in text.split("\n"))
    short = (line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..." for line in lines)
    try:
        _write(sys.stderr, "\n".join(short) + "\n")
    except Unwritable:
        pass  # standard error is closed: nothing can be reported


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        raise Unwritable(error) from error


def discard_rest() -> None:
    """After Unwritable: what is left in the buffer goes nowhere, so that the interpreter can end."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # not a file
    finally:
        os.close(nowhere)
