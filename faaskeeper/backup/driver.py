"""What a provider offers for backups: where to read a deployment, now or as of a moment, and write.

Drivers raise the errors of :mod:`faaskeeper.core.errors`, whose messages say what to do.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol

from faaskeeper.core.deployment import Deployment
from faaskeeper.core.drivers.storage import Gather, ObjectStore, in_turn
from faaskeeper.core.log import Log
from faaskeeper.core.records import Records

Progress = Callable[[str], None]
"""Called after each step, with a line of text."""


@dataclass(slots=True, eq=False)
class Source:
    """A deployment to read, which may go on meanwhile or be as of a moment.

    ``applied``: a transaction up to which the records are complete; read before any of them.
    ``upto``: the moment (ms since 1970, compared with the time of log entries); None: the log's
    end. The stores may differ by seconds: the records are no older than ``applied``, and the log is
    no older than the records. What it has beyond the moment is left out, but for entries of which
    some record is there.
    """

    name: str
    log: Log
    records: Records
    blobs: ObjectStore | None
    applied: int
    upto: int | None = None
    gather: Gather[Any] = in_turn


@dataclass(slots=True, eq=False)
class Target:
    """A deployment to restore into.

    ``alone``: no other process can reach it, so nobody reads while it is restored.
    """

    name: str
    deployment: Deployment
    alone: bool = False


class Backups(Protocol):
    """A provider's access to one deployment, made from a configuration."""

    def source(self) -> AbstractContextManager[Source]:
        """The deployment as it is. Reads only, and does not disturb those that write."""

    def past(self, moment: int, progress: Progress) -> AbstractContextManager[Source]:
        """The deployment as of a moment (ms since 1970).

        What this makes for that purpose is removed at the end. Raises Denied if the moment is out
        of reach.
        """

    def exists(self) -> bool:
        """Whether there is such a deployment; if not, :meth:`target` makes it or raises Denied."""

    def target(self) -> AbstractContextManager[Target]:
        """The deployment, with the right to write."""
