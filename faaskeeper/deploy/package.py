"""The zip archive of the functions' code: core, provider's adapter, and the cloud's own files.

The same files give the same archive, byte for byte, on any machine at any time.
"""

from __future__ import annotations

import ast
import hashlib
import io
import zipfile
from collections.abc import Callable, Mapping
from functools import cached_property
from importlib.resources import files

_EPOCH = (1980, 1, 1, 0, 0, 0)


Later = tuple[bytes, Callable[[], Mapping[str, bytes]]]
"""A description that stands for some files, and a function that gets them."""


class Package:
    """An archive. ``key``: its object key, which depends on the contents."""

    def __init__(self, key: str, make: Callable[[], bytes]) -> None:
        self.key = key
        self._make = make

    @cached_property
    def body(self) -> bytes:
        """The archive, made when it is first read. Raises what its files' function raises."""
        return self._make()


Changed = Callable[[Package], Package]
"""Makes of this version's archive the one that is deployed."""


def as_it_is(code: Package) -> Package:
    """The archive."""
    return code


def sources(entry: str) -> dict[str, bytes]:
    """The files of this package that a module imports and its own, by path in the archive."""
    found: dict[str, bytes] = {}
    waiting = [entry]
    while waiting:
        module = waiting.pop()
        source = _source(module)
        if source is None or source[0] in found:
            continue
        path, body = source
        found[path] = body
        parts = module.split(".")
        waiting.extend(".".join(parts[:length]) for length in range(1, len(parts)))
        for node in ast.walk(ast.parse(body)):
            if isinstance(node, ast.Import):
                waiting.extend(each.name for each in node.names)
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting.append(node.module)
                waiting.extend(f"{node.module}.{each.name}" for each in node.names)
    return found


def _source(module: str) -> tuple[str, bytes] | None:
    if module.split(".")[0] != "faaskeeper":
        return None
    base = files("faaskeeper").joinpath(*module.split(".")[1:])
    if base.is_dir():
        return f"{module.replace('.', '/')}/__init__.py", base.joinpath("__init__.py").read_bytes()
    *above, name = module.split(".")[1:]
    file = files("faaskeeper").joinpath(*above, f"{name}.py")
    return (f"{module.replace('.', '/')}.py", file.read_bytes()) if file.is_file() else None


def build(entry: str, extra: Mapping[str, bytes], later: Later | None = None) -> Package:
    """The archive of a module and its imports.

    ``extra``: further files by path; ``later``: others that are costly to get, and are not needed
    to know the archive's key.
    """
    found = {**sources(entry), **extra}
    digest = hashlib.sha256() if later is None else hashlib.sha256(later[0])
    for path in sorted(found):
        digest.update(f"{path}\0{len(found[path])}\0".encode() + found[path])

    def make() -> bytes:
        return _archive(found if later is None else {**later[1](), **found})

    return Package(f"functions-{digest.hexdigest()[:16]}.zip", make)


def _archive(found: Mapping[str, bytes]) -> bytes:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as writer:
        for path in sorted(found):
            info = zipfile.ZipInfo(path, _EPOCH)
            info.external_attr = 0o644 << 16
            info.create_system = 3
            info.compress_type = zipfile.ZIP_DEFLATED
            writer.writestr(info, found[path])
    return archive.getvalue()
