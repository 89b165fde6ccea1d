"""A line of the shell as words, by the rules of a POSIX shell's quoting."""

from __future__ import annotations

import re

_PIECE = re.compile(
    r"""
    (?P<space>[ \t\r\n]+)
    | (?P<plain>[^ \t\r\n'"\\]+)
    | '(?P<single>[^']*)'
    | "(?P<double>[^"\\]*(?:\\.[^"\\]*)*)"
    | \\(?P<escaped>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_IN_QUOTES = re.compile(r'\\(["\\])')


def split(line: str) -> list[str]:
    """The words of a line. Raises ValueError for a quotation without an end.

    As :func:`shlex.split`, in time that is linear in the line's length, and with ``#`` as a comment where a
    word would begin only: ``/a#b`` is a path.
    """
    words: list[str] = []
    word: list[str] | None = None
    at = 0
    while at < len(line):
        if word is None and line[at] == "#":
            break
        found = _PIECE.match(line, at)
        if found is None:
            raise ValueError("No escaped character" if line[at] == "\\" else "No closing quotation")
        at = found.end()
        kind = found.lastgroup
        if kind == "space":
            if word is not None:
                words.append("".join(word))
            word = None
            continue
        text = found[kind or 0]
        word = [] if word is None else word
        word.append(_IN_QUOTES.sub(r"\1", text) if kind == "double" else text)
    if word is not None:
        words.append("".join(word))
    return words
