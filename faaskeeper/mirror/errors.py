"""Why a mirror does not begin, or stops."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from faaskeeper.exceptions import FaaSKeeperException


class MirrorRefused(FaaSKeeperException):
    """The trees cannot be mirrored as they are. Nothing was changed."""


class MirrorStopped(FaaSKeeperException):
    """The mirror must not go on. What it has written stays, and is equal to the source's values."""


def some(paths: Collection[str] | Iterable[str]) -> str:
    """A few paths of many, with their number."""
    found = sorted(paths)
    shown = ", ".join(found[:5])
    return f"{len(found)} ({shown}{', ...' if len(found) > 5 else ''})"
