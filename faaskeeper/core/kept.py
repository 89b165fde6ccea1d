"""What is kept of replaced versions, so that the history reaches as far back as the log.

The log has each image of its own transactions. What a path was before its first one there is in the
record, until that transaction replaces it; so it must be *kept*. A keeper has a *horizon*: every
moment from there on can be answered, and its state of a path as of the horizon is

* the path's record, as long as nothing has replaced it since; or else
* what the keeper has of the path. A record as of the horizon or before is kept when it is replaced.

Trimming raises the horizon, to the last transaction that it trims (:class:`~faaskeeper.core.sweeping.
Sweeper`). For each path that the trimmed entries changed, their last image is now the state as of the
horizon: it is kept, unless it is the record still. ``docs/history.md`` has the argument.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

from faaskeeper.core.log import Entry
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import Meta


class Image(NamedTuple):
    """A path as of a transaction. ``meta`` None: it did not exist. ``data``: of no use with a blob."""

    txid: int
    meta: Meta | None
    data: bytes


class Kept(NamedTuple):
    """The oldest transaction that the history can answer, and the image kept of a path, if any.

    ``time``: the log's, as of the horizon (ms; 0: unknown).
    """

    horizon: int
    time: int
    image: Image | None


class Keeper(Protocol):
    """Keeps images beside user storage. Errors: those of the drivers."""

    def of(self, path: str) -> Kept:
        """What is kept of a path. The image is read before the horizon."""

    def fold(self, entries: Sequence[Entry]) -> None:
        """Raise the horizon to the end of entries, which follow on it and are to be trimmed.

        All of them are in the records and in the checkpoint. When this returns, everything derived
        from them is durable, and the entries may be trimmed. Repeating it changes nothing more.
        """

    def begin(self, txid: int) -> None:
        """Begin the history anew: the records are as of this transaction, and no earlier is known."""


class Retention(NamedTuple):
    """What of the log is kept, whichever is less.

    ``age``: in ms (None: :data:`~faaskeeper.core.log.RETENTION_MS`). ``most``: bytes (None: any
    number). ``used``: returns the bytes that the log takes.
    """

    age: int | None = None
    most: int | None = None
    used: Callable[[], int] = lambda: 0

    def full(self) -> bool:
        """Whether the log takes more bytes than it may."""
        return self.most is not None and self.used() > self.most


RETENTION = Retention()
