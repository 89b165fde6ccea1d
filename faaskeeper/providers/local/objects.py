"""The object store on a directory.

A file's name is the key, percent-encoded, in pieces short enough for a file system. A put writes a
temporary file, syncs it, and renames it. So an object is complete or absent, and durable when
``put`` returns. Conditions are checked under a lock, because one process owns the directory.
"""

from __future__ import annotations

import hashlib
import os
import threading
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote, unquote

from faaskeeper.core.drivers.storage import Object
from faaskeeper.core.errors import Conflict, Denied, DriverError, Unavailable
from faaskeeper.core.forks import Inherited, register

_PIECE = 200
_FILE = "%o"
"""Name of the file in a key's directory. ``quote`` never produces a percent sign before an o."""


def _tag(body: bytes) -> str:
    return hashlib.blake2b(body, digest_size=16).hexdigest()


class DirectoryStore(Inherited):
    """Objects as files below a directory."""

    def __init__(self, root: str | Path) -> None:
        self._root = Path(root)
        self._lock = threading.Lock()
        self._walking = threading.Lock()
        self._walks: dict[str, list[str]] = {}
        """Names that a walk goes through, in order, by prefix."""
        self._inherited = ""
        register(self)

    def forked(self, why: str) -> None:
        self._lock = threading.Lock()
        self._walking = threading.Lock()
        self._inherited = why

    def _must_own(self) -> None:
        if self._inherited:
            raise Denied(f"{self._root}: {self._inherited}")

    def _file(self, key: str) -> Path:
        name = quote(key, safe="")
        pieces = [name[at : at + _PIECE] for at in range(0, len(name), _PIECE)]
        return self._root.joinpath(*pieces, _FILE)

    def get(self, key: str) -> Object | None:
        try:
            body = self._file(key).read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _mapped(error, self._root) from error
        return Object(body, _tag(body))

    def put(self, key: str, body: bytes, *, absent: bool = False, match: str | None = None) -> str:
        self._must_own()
        with self._lock:
            if absent or match is not None:
                found = self.get(key)
                if absent and found is not None:
                    raise Conflict(f"the object {key!r} exists")
                if match is not None and (found is None or found.tag != match):
                    raise Conflict(f"the object {key!r} does not match {match}")
            try:
                self._write(self._file(key), body)
            except OSError as error:
                raise _mapped(error, self._root) from error
            for prefix, names in self._walks.items():
                if key.startswith(prefix):
                    _insert(names, key)
        return _tag(body)

    def _write(self, path: Path, body: bytes) -> None:
        made = [each for each in (path.parent, *path.parents) if not each.exists()]
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(_FILE + "+")
        with open(temporary, "wb") as file:
            file.write(body)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        for directory in {path.parent, *(each.parent for each in made)}:
            handle = os.open(directory, os.O_RDONLY)
            try:
                os.fsync(handle)
            finally:
                os.close(handle)

    def delete(self, key: str, *, match: str | None = None) -> None:
        self._must_own()
        with self._lock:
            if match is not None:
                found = self.get(key)
                if found is None or found.tag != match:
                    raise Conflict(f"the object {key!r} does not match {match}")
            path = self._file(key)
            try:
                path.unlink(missing_ok=True)
                while path.parent != self._root:
                    path = path.parent
                    path.rmdir()
            except FileNotFoundError:
                return
            except OSError as error:
                if any(path.glob("*")):
                    return  # the directory has other objects
                raise _mapped(error, self._root) from error

    def _names_of(self, prefix: str) -> list[str]:
        """Keys with a prefix, sorted; some may have been deleted."""
        names = self._walks.get(prefix)
        if names is not None:
            return names
        names = []
        with self._lock:
            self._walks[prefix] = names  # includes later puts from now on
        try:
            found = set(self._keys(prefix))
        except OSError as error:
            with self._lock:
                del self._walks[prefix]
            raise _mapped(error, self._root) from error
        with self._lock:
            names[:] = sorted(found.union(names))
        return names

    def _keys(self, prefix: str) -> Iterator[str]:
        """Keys with a prefix that may have a file; does not check the file."""
        wanted = quote(prefix, safe="")
        yield from (key for key in _below(self._root, "", wanted) if key.startswith(prefix))

    def list(self, prefix: str, after: str, limit: int) -> list[str]:
        """List keys.

        A walk reads the directory once, not once per page: the names, and those put meanwhile, are
        kept until a walk of the prefix has ended.
        """
        with self._walking:
            names = self._names_of(prefix)
            keys: list[str] = []
            with self._lock:
                at = bisect_right(names, after)
                while at < len(names) and len(keys) < limit:
                    if self._file(names[at]).exists():
                        keys.append(names[at])
                    at += 1
                if not keys:
                    del self._walks[prefix]
            return keys


def _insert(names: list[str], key: str) -> None:
    at = bisect_left(names, key)
    if at == len(names) or names[at] != key:
        names.insert(at, key)


def _below(directory: Path, before: str, wanted: str) -> Iterator[str]:
    """Keys below a directory, named ``before``, that start with ``wanted``."""
    try:
        entries = os.scandir(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in entries:
        name = before + entry.name
        if entry.name.startswith(_FILE) or not (name.startswith(wanted) or wanted.startswith(name)):
            continue
        yield unquote(name)
        if len(entry.name) == _PIECE:  # a shorter piece ends a name
            yield from _below(Path(entry.path), name, wanted)


def _mapped(error: OSError, root: Path) -> DriverError:
    if isinstance(error, PermissionError):
        return Denied(f"cannot write to {root}: {error.strerror}; check its rights")
    if error.errno == 28:
        return Denied(f"the disk is full: nothing was written to {root}; free some space")
    return Unavailable(f"{root}: {error.strerror}")
