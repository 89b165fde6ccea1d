"""Jute, the encoding of ZooKeeper's records.

Source: ``org.apache.jute.BinaryInputArchive`` of release 3.8.

Numbers are big-endian. A string (UTF-8), a buffer and a vector begin with a length of 4 bytes; -1
stands for none. Input is not trusted: a length is compared with the bytes that are left before it
is used.
"""

from __future__ import annotations

import codecs
import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

_T = TypeVar("_T")

INT = struct.Struct(">i")
LONG = struct.Struct(">q")

_int = INT.unpack_from
_long = LONG.unpack_from


_REPLACE = "faaskeeper.jute"


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Replace invalid UTF-8 as Java does: the three bytes of a surrogate are one error."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    start, some = error.start, error.object[error.start : error.start + 3]
    surrogate = len(some) == 3 and some[0] == 0xED and some[1] >> 5 == 0b101 and some[2] >> 6 == 0b10
    return "\ufffd", start + 3 if surrogate else error.end


codecs.register_error(_REPLACE, _replaced)


def text(value: bytes) -> str:
    """The text of some bytes; see :meth:`Decoder.text`."""
    return value.decode("utf-8", _REPLACE)


class Malformed(ValueError):
    """Bytes that are no record of the kind that was expected."""


class Decoder:
    """Decodes a record, field by field."""

    __slots__ = ("_at", "_body", "_end")

    def __init__(self, body: bytes, at: int = 0) -> None:
        self._body = body
        self._at = at
        self._end = len(body)

    def number(self) -> int:
        """4 bytes, signed."""
        at = self._at
        self._at = at + 4
        if self._at > self._end:
            raise Malformed("a number is cut short")
        number: int = _int(self._body, at)[0]
        return number

    def long(self) -> int:
        """8 bytes, signed."""
        at = self._at
        self._at = at + 8
        if self._at > self._end:
            raise Malformed("a number is cut short")
        number: int = _long(self._body, at)[0]
        return number

    def flag(self) -> bool:
        """One byte: 0 or another."""
        if self._at >= self._end:
            raise Malformed("a flag is cut short")
        self._at += 1
        return self._body[self._at - 1] != 0

    def buffer(self) -> bytes:
        """Bytes; none are empty ones."""
        length = self.number()
        if length <= 0:
            if length < -1:
                raise Malformed(f"a length of {length}")
            return b""
        at = self._at
        self._at = at + length
        if self._at > self._end:
            raise Malformed(f"{length} bytes were announced, {self._end - at} are there")
        return self._body[at : self._at]

    def data(self) -> bytes | None:
        """Bytes, or none."""
        at = self._at
        return self.buffer() or (None if _int(self._body, at)[0] < 0 else b"")

    def text(self) -> str:
        """A text; none is an empty one. Invalid UTF-8 becomes U+FFFD, which no path has."""
        return text(self.buffer())

    def path(self) -> str:
        """A text that has to be there, be it empty."""
        at = self._at
        path = self.buffer().decode("utf-8", _REPLACE)
        if not path and _int(self._body, at)[0] < 0:
            raise Malformed("there is no path")
        return path

    def vector(self, item: Callable[[], _T], least: int) -> list[_T]:
        """Items, each of at least so many bytes; none is an empty list."""
        count = self.number()
        if count < -1 or count * least > self._end - self._at:
            raise Malformed(f"a vector of {count} in {self._end - self._at} bytes")
        return [item() for _ in range(count)]

    def left(self) -> int:
        """How many bytes are left."""
        return self._end - self._at

    def end(self) -> None:
        """Raise Malformed unless everything was taken."""
        if self._at != self._end:
            raise Malformed(f"{self.left()} bytes follow the record")


def buffer(value: bytes) -> bytes:
    """Bytes with their length."""
    return INT.pack(len(value)) + value


def string(value: str) -> bytes:
    """A text with its length."""
    return buffer(value.encode())


def strings(values: Sequence[str]) -> bytes:
    """A vector of texts."""
    return b"".join([INT.pack(len(values)), *map(string, values)])
