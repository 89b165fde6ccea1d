"""Parameter types. They reject an invalid argument before the command does anything."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING, Any

import click

from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed
from faaskeeper.core import paths
from faaskeeper.core.znode import MAX_DATA_BYTES
from faaskeeper.zookeeper.address import is_address

if TYPE_CHECKING:
    from pathlib import Path

    from click.shell_completion import CompletionItem

_WHOLE = "[+-]?[0-9]{1,19}"
_NUMBER = r"[+-]?([0-9]{1,30}(\.[0-9]{0,30})?|\.[0-9]{1,30})([eE][+-]?[0-9]{1,4})?"


class Whole(click.ParamType[int]):
    """An integer in a range, in ASCII digits."""

    name = "integer"

    def __init__(self, least: int, most: int) -> None:
        self._least = least
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        number = int(value) if re.fullmatch(_WHOLE, str(value)) else None
        if number is None or not self._least <= number <= self._most:
            self.fail(
                f"{str(value)[:40]!r} is not an integer from {self._least} to {self._most}.", param, ctx
            )
        return number


class Txid(Whole):
    """A transaction's number, also as ``history`` and ``stat`` print it: 42, 0x2a."""

    def __init__(self) -> None:
        super().__init__(0, 2**62)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if re.fullmatch("0x[0-9a-fA-F]{1,16}", str(value)):
            value = int(value, 16)
        return super().convert(value, param, ctx)


class Size(click.ParamType[int]):
    """A number of bytes, with or without a unit: 1048576, 64MB, 1GiB; units are powers of 1,024."""

    name = "SIZE"

    def __init__(self, most: int) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        found = re.fullmatch("([0-9]{1,19})(?:([kmg])i?b?|b?)", str(value), re.ASCII | re.IGNORECASE)
        number = -1
        if found is not None:
            number = int(found[1]) << {"k": 10, "m": 20, "g": 30}.get((found[2] or "").lower(), 0)
        if not 0 <= number <= self._most:
            most = self._most >> 30
            self.fail(f"{str(value)[:40]!r} is not a size up to {most}GB, for example 64MB.", param, ctx)
        return number


class Amount(click.ParamType[float]):
    """A finite, non-negative number, in ASCII digits."""

    name = "number"

    def __init__(self, most: float = 1e15) -> None:
        self._most = most

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        number = float(value) if re.fullmatch(_NUMBER, str(value)) else math.nan
        if not 0 <= number <= self._most:
            self.fail(f"{str(value)[:40]!r} is not a number from 0 to {self._most:.0f}.", param, ctx)
        return number


def text_of(word: str) -> str:
    """An argument of the command line as UTF-8, regardless of the locale."""
    try:
        return word.encode("utf-8", "surrogateescape").decode()
    except UnicodeError:
        return word


class ZnodePath(click.ParamType[str]):
    """A valid znode path. The error names the rule that a path violates.

    ``sequential``: the path may be without its number, so the command checks it. ``here``: outside
    of the shell ``.`` is the root.
    """

    name = "path"

    def __init__(self, sequential: bool = False, here: bool = False) -> None:
        self._sequential = sequential
        self._here = here

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        path = absolute(text_of(str(value)), ctx)
        path = "/" if self._here and path == "." else path
        wrong = None if self._sequential else paths.invalid(path)
        if wrong is not None:
            raise Failed(wrong, 2)
        return path

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        from faaskeeper.cli.completing import paths_of

        return paths_of(ctx, incomplete)


def absolute(path: str, ctx: click.Context | None) -> str:
    """The path that a word of the shell means; outside of the shell, the word itself.

    There a relative path begins at the shell's directory, and ``.`` and ``..`` are understood, which
    no znode's path contains.
    """
    context = None if ctx is None else ctx.find_object(Context)
    if context is None or context.one_shot or not path:
        return path
    return resolved(context.directory, path)


def resolved(directory: str, path: str) -> str:
    """A path from a directory on. What is wrong with it otherwise stays, to be named in an error."""
    if path.startswith("/"):
        return path
    found = [each for each in directory.split("/") if each]
    for word in path.removesuffix("/").split("/"):
        if word == "..":
            del found[-1:]
        elif word != ".":
            found.append(word)
    return "/" + "/".join(found)


class File(click.ParamType["Path"]):
    """A file name, or '-' for a standard stream."""

    name = "file"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path:
        if not str(value):
            self.fail("a file name must not be empty.", param, ctx)
        if "\0" in str(value):
            self.fail("a file name must not contain a NUL character.", param, ctx)
        from pathlib import Path

        return Path(value)


class ConfigSource(click.ParamType["Path | str"]):
    """The file of a configuration, or the ``zk://`` address of a ZooKeeper server."""

    name = "config"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Path | str:
        word = str(value)
        return word if is_address(word) else File().convert(value, param, ctx)


class Directory(click.ParamType[str]):
    """A directory name. Whether the directory is usable is checked on use."""

    name = "directory"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        if not str(value) or "\0" in str(value):
            self.fail("a directory name must not be empty or contain a NUL character.", param, ctx)
        return str(value)


class Address(click.ParamType[Any]):
    """HOST:PORT, or a PORT of the loopback interface."""

    name = "HOST:PORT"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        host, _, port = str(value).rpartition(":")
        if not (port.isascii() and port.isdecimal() and len(port) <= 5) or int(port) > 65_535:
            self.fail(f"{value!r} is not an address: write HOST:PORT, for example 127.0.0.1:2181", param, ctx)
        return host.strip("[]") or "127.0.0.1", int(port)


def data_of(file: Path, stream: Any) -> bytes:
    """The contents of a file, or of ``stream`` for '-'.

    Raises OSError, and Failed if the contents exceed the limit of a znode.
    """
    if str(file) == "-":
        data: bytes = stream.read(MAX_DATA_BYTES + 1)
    else:
        with open(file, "rb") as opened:
            data = opened.read(MAX_DATA_BYTES + 1)
    if len(data) > MAX_DATA_BYTES:
        where = "standard input" if str(file) == "-" else file
        raise Failed(f"{where} has more than {MAX_DATA_BYTES} bytes, the limit of a node's data", 7)
    return data
