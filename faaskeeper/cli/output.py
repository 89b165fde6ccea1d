"""Output of ``fk``.

Text is UTF-8 in any locale. At a terminal it has the terminal's encoding, and characters outside of
it are escaped. Text for people contains no control characters: a znode's name or data must not move
the cursor or send commands to the terminal. :func:`raw` writes data byte for byte, on request.
"""

from __future__ import annotations

import errno
import io
import json
import os
import re
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from faaskeeper.core.errors import Portable

_CONTROL = "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
"""C0 and C1 control characters, which terminals obey; bidirectional controls; lone surrogates."""
_IN_JSON = "[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff]"
"""The subset that :func:`json.dumps` does not escape."""
_LONGEST = 2000
"""Maximum length of a line in an error report: an argument may be a megabyte by mistake."""


_switching = threading.RLock()
"""Held by each writer, and while the streams are replaced."""


class Unwritable(Portable):
    """Writing standard output failed. ``closed``: the reader has closed the pipe."""

    def __init__(self, error: OSError) -> None:
        super().__init__(f"cannot write to standard output: {error.strerror or error}")
        self.closed = error.errno == errno.EPIPE


def prepare() -> None:
    """Make the standard streams accept any text.

    A closed stream becomes an open one that fails on use.
    """
    if sys.stdin is None:
        sys.stdin = os.fdopen(os.open(os.devnull, os.O_RDONLY), closefd=False)
    if sys.stdout is None:  # writing must fail instead of losing the output
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
    """Escape the control characters of a text, except those in ``keep``."""
    if text.isprintable():  # fast path
        return text
    return re.sub(_CONTROL, lambda found: found[0] if found[0] in keep else _escape(found[0]), text)


def _escape(character: str) -> str:
    return character.encode("unicode_escape").decode()


def escaped_data(data: bytes, keep: str = "") -> str:
    """Data as printable text."""
    return escaped(data.decode(errors="backslashreplace"), keep)


def guides() -> tuple[str, str, str]:
    """The pieces that draw a tree: last branch, other branch, vertical line."""
    lines = ("\u2514\u2500\u2500 ", "\u251c\u2500\u2500 ", "\u2502   ")
    try:
        "".join(lines).encode(sys.stdout.encoding or "utf-8")
    except (UnicodeError, LookupError):
        return "`-- ", "|-- ", "|   "
    return lines


def at_terminal() -> bool:
    """Whether standard output is a terminal."""
    return sys.stdout.isatty()


@contextmanager
def redirected(stream: TextIO) -> Iterator[None]:
    """Send the output of all threads to another stream; none writes to it after the block."""
    with _switching:
        before = sys.stdout, sys.stderr
        sys.stdout = sys.stderr = stream
    try:
        yield
    finally:
        with _switching:
            sys.stdout, sys.stderr = before


def print_line(text: str) -> None:
    """Write a line. Raises Unwritable."""
    with _switching:
        _write(sys.stdout, text + "\n")


def json_line(value: Any) -> str:
    """JSON on one line, without control characters."""
    text = json.dumps(value, ensure_ascii=False)
    return re.sub(_IN_JSON, lambda found: f"\\u{ord(found[0]):04x}", text)


class Lines:
    """Standard output as a writable object. Raises Unwritable."""

    def write(self, text: str) -> None:
        """Write text."""
        with _switching:
            _write(sys.stdout, text)


def raw(data: bytes) -> None:
    """Write bytes unchanged. Raises Unwritable."""
    try:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()
    except OSError as error:
        raise Unwritable(error) from error


def print_error(text: str) -> None:
    """Write a line to standard error: an error, or a note beside the output."""
    lines = (escaped(line, "\t") for line in text.split("\n"))
    short = (line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..." for line in lines)
    try:
        with _switching:
            _write(sys.stderr, "\n".join(short) + "\n")
    except Unwritable:
        pass  # standard error is closed, so there is nowhere to report it


def print_json_error(value: Any) -> None:
    """Write JSON to standard error, whole: a line that is cut is not JSON."""
    try:
        with _switching:
            _write(sys.stderr, json_line(value) + "\n")
    except Unwritable:
        pass


def _write(stream: TextIO, text: str) -> None:
    try:
        stream.write(text)
        stream.flush()
    except OSError as error:
        raise Unwritable(error) from error


def discard_rest() -> None:
    """Discard the buffer after Unwritable, so that the interpreter can exit."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # not a file
    finally:
        os.close(nowhere)
