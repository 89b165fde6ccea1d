"""The file of a backup: JSON lines, written as the tree is read, and checked before any use.

The first line is a header. Then come znodes and changes of them, in any number and order of paths:
the last line about a path counts, and the last line with data has its data. So a backup needs no
more memory than the metadata of its znodes, however large their data is. The last line has the
transaction, the number of znodes and a digest of all lines before it; a file without it is not
complete. A file whose name ends with ``.gz`` is compressed.
"""

from __future__ import annotations

import gzip
import json
import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterator
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import IO, Any, cast

from faaskeeper.core import codec, paths
from faaskeeper.core.errors import Portable
from faaskeeper.core.znode import Meta

FORMAT = 1
_GZIP = b"\x1f\x8b"
_LONGEST_LINE = 16 * 1024 * 1024
_KEYS = {"path", "txid", "meta", "text", "data", "gone"}


class BadBackup(Portable):
    """The file is not a complete backup; says why."""


class Writer:
    """Writes a backup to a binary file.

    ``name``: of the deployment; ``taken``: now (ms since 1970).
    """

    def __init__(self, file: IO[bytes], name: str, taken: int) -> None:
        self._file = file
        self._digest = blake2b(digest_size=16)
        self._line({"faaskeeper-backup": FORMAT, "deployment": name, "taken": taken})

    def node(self, path: str, txid: int, meta: Meta, data: bytes | None) -> None:
        """A znode as of a transaction. ``data`` None: as in an earlier line, or in a later one."""
        line: dict[str, Any] = {"path": path, "txid": txid, "meta": codec.meta(meta._replace(blob=""))}
        self._line({**line, **({} if data is None else _encoded(data))})

    def data(self, path: str, data: bytes) -> None:
        """The data of a znode that another line describes."""
        self._line({"path": path, **_encoded(data)})

    def gone(self, path: str) -> None:
        """A znode that does not exist, although an earlier line describes it."""
        self._line({"path": path, "gone": True})

    def end(self, zxid: int, time: int, znodes: int) -> str:
        """Write the last line; returns the digest, by which the backup is known.

        ``time``: of the log, as of the transaction (ms).
        """
        digest = self._digest.hexdigest()
        self._line({"end": True, "zxid": zxid, "time": time, "znodes": znodes, "digest": digest})
        return digest

    def _line(self, value: dict[str, Any]) -> None:
        encoded = json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode() + b"\n"
        self._digest.update(encoded)
        self._file.write(encoded)


def _encoded(data: bytes) -> dict[str, str]:
    try:
        return {"text": data.decode()}
    except UnicodeDecodeError:
        return {"data": b64encode(data).decode()}


@dataclass(slots=True)
class Backup:
    """A complete backup, and where its data is.

    ``nodes``: metadata by path; the names of blobs are left out. ``zxid``: the transaction that it
    is as of; ``time``: of the log then, ``taken``: when it was made (ms). ``digest``: identifies
    it.
    """

    path: Path
    name: str = ""
    taken: int = 0
    zxid: int = 0
    time: int = 0
    digest: str = ""
    nodes: dict[str, Meta] = field(default_factory=dict)
    txids: dict[str, int] = field(default_factory=dict)
    _lines: dict[str, int] = field(default_factory=dict)
    """By path, the line with the data."""

    def contents(self) -> Iterator[tuple[str, bytes]]:
        """Each znode's path and data, once, in the order of the file."""
        left = dict(self._lines)
        for number, line in _lines(self.path):
            if not left:
                return
            value = json.loads(line)
            path = value.get("path", "")
            if left.get(path) == number:
                del left[path]
                yield path, _decoded(value) or b""

    def rows(self) -> Iterator[tuple[str, Meta, bytes]]:
        """Each znode's path, metadata and data, once."""
        for path, data in self.contents():
            yield path, self.nodes[path], data

    def take(self, value: dict[str, Any], number: int) -> None:
        """Take in a line. Raises ValueError, TypeError, KeyError."""
        unknown = value.keys() - _KEYS
        if unknown:
            raise ValueError(f"the key {sorted(unknown)[0]!r} is unknown")
        path = value["path"]
        wrong = paths.invalid(path)
        if wrong is not None:
            raise ValueError(wrong)
        if value.get("gone"):
            self.nodes.pop(path, None)
            self.txids.pop(path, None)
            self._lines.pop(path, None)
            return
        if "meta" in value:
            meta = codec.to_meta(value["meta"])
            if meta is None:
                raise ValueError("the znode has no metadata")
            self.nodes[path] = meta
            self.txids[path] = value["txid"]
        data = _decoded(value)
        if data is not None:
            self._lines[path] = number

    def check(self, znodes: object) -> None:
        """Raise ValueError unless this is a tree with data for each znode."""
        if znodes != len(self.nodes):
            raise ValueError(f"its end promises {znodes!r} znodes, it has {len(self.nodes)}")
        if self.nodes.keys() != self._lines.keys():
            raise ValueError("the data of some znodes is missing")
        wrong = misfit(self.nodes)
        if wrong is not None:
            raise ValueError(f"{wrong} and its children do not belong together")


def misfit(nodes: dict[str, Meta]) -> str | None:
    """A path that keeps metadata from being one tree: a wrong number of children; None: it is one."""
    if "/" not in nodes:
        return "/"
    counted = dict.fromkeys(nodes, 0)
    for path in nodes:
        if path != "/":
            above = paths.parent(path)
            if above not in counted:
                return path
            counted[above] += 1
    return next((path for path, meta in nodes.items() if meta.children != counted[path]), None)


def _decoded(value: dict[str, Any]) -> bytes | None:
    if "text" in value:
        return str(value["text"]).encode()
    return b64decode(value["data"], validate=True) if "data" in value else None


def _lines(path: Path) -> Iterator[tuple[int, bytes]]:
    with open(path, "rb") as probe:
        packed = probe.read(2) == _GZIP
    with _unpacked(path) if packed else open(path, "rb") as file:
        number = 0
        while line := file.readline(_LONGEST_LINE):
            number += 1
            if len(line) == _LONGEST_LINE:
                raise BadBackup(f"line {number} is too long")
            yield number, line


def _unpacked(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb"))


def read(path: Path) -> Backup:
    """Read and check a backup. Raises OSError, and BadBackup that says what is wrong."""
    try:
        return _read(path)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise BadBackup(f"{path} is damaged, or not complete: {error}") from error
    except BadBackup as error:
        raise BadBackup(f"{path}: {error}") from error


def _read(path: Path) -> Backup:
    backup = Backup(path)
    digest = blake2b(digest_size=16)
    number = 0
    for number, line in _lines(path):
        if backup.digest:
            raise BadBackup(f"line {number} follows the end of the backup")
        try:
            value = json.loads(line)
        except ValueError:
            value = None
        if number == 1:
            _begin(backup, value)
        elif not isinstance(value, dict):
            raise BadBackup(f"line {number} is damaged, or the backup is not complete")
        else:
            _take(backup, value, number, digest.hexdigest())
        digest.update(line)
    if not number:
        _begin(backup, None)
    if not backup.digest:
        raise BadBackup(f"the backup is not complete: it ends with line {number}")
    return backup


def _begin(backup: Backup, value: Any) -> None:
    if not isinstance(value, dict) or "faaskeeper-backup" not in value:
        raise BadBackup("this is not a backup of 'fk backup'")
    if value["faaskeeper-backup"] != FORMAT:
        raise BadBackup(
            f"the backup has format {value['faaskeeper-backup']!r}: this version reads format {FORMAT}"
        )
    backup.name, backup.taken = str(value.get("deployment", "")), int(value.get("taken", 0))


def _take(backup: Backup, value: dict[str, Any], number: int, digest: str) -> None:
    try:
        if not value.get("end"):
            backup.take(value, number)
            return
        if value["digest"] != digest:
            raise ValueError("the digest is not that of the lines before: the file was changed")
        backup.check(value["znodes"])
        backup.zxid, backup.time, backup.digest = int(value["zxid"]), int(value["time"]), digest
    except (ValueError, TypeError, KeyError, IndexError, AttributeError) as error:
        raise BadBackup(f"line {number} is wrong: {error}") from error
