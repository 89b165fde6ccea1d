"""What checks of a deployment find, on any provider."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Finding(NamedTuple):
    """The result of a check. ``good`` None: the check was not possible, which is not a failure."""

    check: str
    good: bool | None
    message: str


class Checks(Protocol):
    """The checks of a deployment of any provider."""

    def findings(self) -> Iterator[Finding]:
        """The finding of each check, as soon as it is made."""

    def queue(self) -> Finding:
        """What waits in the worker queue."""

    def close(self) -> None:
        """Release what is open."""
