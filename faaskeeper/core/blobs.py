"""Names of blobs: the objects that hold data above the inline limit.

A name tells when the blob was made and for which path, so that heartbeat can find out, long after,
whether anything refers to it.
"""

from __future__ import annotations

PREFIX = "b/"


def blob_name(made: int, token: str, path: str, sequential: bool = False) -> str:
    """Name of a blob: when it was made (ms), something random, and the path it is for.

    The number of a sequential znode is not known when its blob is stored: it is named by the path
    without it, and marked.
    """
    return f"{PREFIX}{made:013d}/{token}/{'s' if sequential else 'n'}{path}"


def parse_blob_name(name: str) -> tuple[int, str, bool]:
    """When a blob was made (ms), its path, and whether that lacks a sequence number."""
    _, made, _, rest = name.split("/", 3)
    return int(made), rest[1:], rest[0] == "s"
