"""Splits a line of the shell into words, by the quoting rules of a POSIX shell."""

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
    """Split a line into words. Raises ValueError for an unterminated quotation.

    Like :func:`shlex.split`, but linear in the length of the line, and with ``#`` starting a
    comment only at the start of a word: ``/a#b`` is a path.
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
