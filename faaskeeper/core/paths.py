"""Paths of znodes: ZooKeeper's rules.

Source of the rules: ZooKeeper Programmer's Guide, "The ZooKeeper Data Model", and
``org.apache.zookeeper.common.PathUtils.validatePath`` of release 3.8. Which rule is checked when
was observed on a server (``faaskeeper/testing/conformance/golden.json``, area *paths*).
"""

from __future__ import annotations

from collections.abc import Iterator

MAX_PATH_BYTES = 960
"""Longest path, in bytes of UTF-8. Keys of S3 and Cloud Storage have at most 1,024 bytes, and keys
of blobs and records have a prefix before the path."""

RESERVED = frozenset({"/", "/zookeeper", "/zookeeper/config", "/zookeeper/quota"})
"""Nodes that always exist and cannot be deleted."""


def parent(path: str) -> str:
    """Parent of an absolute path; the parent of ``/a`` is ``/``."""
    return path[: path.rfind("/")] or "/"


def name(path: str) -> str:
    """Last component of a path."""
    return path[path.rfind("/") + 1 :]


def upwards(path: str) -> Iterator[str]:
    """The path and every path above it, up to the root."""
    while path != "/":
        yield path
        path = parent(path)
    yield path


def child(path: str, component: str) -> str:
    """Path of the child ``component`` of ``path``."""
    return f"/{component}" if path == "/" else f"{path}/{component}"


def _refused(character: str) -> bool:
    point = ord(character)
    return (
        point < 0x20
        or 0x7F <= point <= 0x9F
        or 0xD800 <= point <= 0xF8FF
        or point >= 0xFFF0  # above U+FFFF: surrogate pairs on ZooKeeper's server
    )


def malformed(path: str) -> str | None:
    """Why ``path`` cannot be used in a request, or None. Checks ends, characters and length.

    :func:`invalid` checks for empty and dotted components, because ZooKeeper looks up a create's
    parent before it checks those.
    """
    if not path:
        return "a path must not be empty"
    if path[0] != "/":
        return f"a path must begin with '/': {path!r}"
    if path == "/":
        return None
    if path[-1] == "/":
        return f"a path must not end with '/': {path!r}"
    if not (path.isascii() and path.isprintable()):
        for character in path:
            if _refused(character):
                return f"a path must not contain the character U+{ord(character):04X}"
    if 4 * len(path) > MAX_PATH_BYTES and overlong(path):  # most are short
        return f"a path must not be longer than {MAX_PATH_BYTES} bytes"
    return None


def overlong(path: str) -> bool:
    """Whether a path is too long to exist in any deployment."""
    if 4 * len(path) <= MAX_PATH_BYTES:
        return False
    return len(path) > MAX_PATH_BYTES or len(path.encode("utf-8", "surrogatepass")) > MAX_PATH_BYTES


def invalid(path: str) -> str | None:
    """Why ``path`` is not a valid path of a znode, or None if it is valid."""
    wrong = malformed(path)
    if wrong is not None or path == "/" or ("//" not in path and "/." not in path):
        return wrong
    for component in path[1:].split("/"):
        if not component:
            return f"a path must not have an empty component: {path!r}"
        if component in (".", ".."):
            return f"a path must not have the component {component!r}: {path!r}"
    return None
