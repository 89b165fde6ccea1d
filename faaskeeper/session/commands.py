"""The commands that a session's steps yield to their shell.

Code that needs I/O is a generator: it yields one of these commands and is sent the answer. Between
two yields a generator runs alone: the threaded shell holds a lock, the others run it in their event
loop.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Union

from faaskeeper.core.sessions import Lease
from faaskeeper.core.tuples import NamedTuple

Writes = tuple[int, tuple[tuple[str, str], ...]]
"""A transaction as an epoch lists it: txid, and (path, letters) for each path that it wrote."""


class ReadRecord(NamedTuple):
    """Answer: the path's Record, or None."""

    path: str


class ReadRecords(NamedTuple):
    """Answer: a list with a Record, or None, for each path."""

    paths: tuple[str, ...]


class ReadLog(NamedTuple):
    """Answer: the Writes in (after, upto], or None if the log was trimmed in between.

    ``rested``: see :class:`ReadLogEnd`.
    """

    after: int
    upto: int
    rested: bool = True


class ReadLogEnd(NamedTuple):
    """Answer: the Writes after ``after``, and the log's last txid; None if it was trimmed.

    ``rested``: the log's end was last known so long ago that entries after ``after`` may have been
    trimmed. Then there may seem to be none.
    """

    after: int
    rested: bool = True


class ReadMark(NamedTuple):
    """Answer: the applied mark."""


class Await(NamedTuple):
    """User storage lacks ``txid``: ask the service to apply it and wait a little.

    Answer: nothing.
    """

    txid: int


class Share(NamedTuple):
    """Have steps performed once for all that ask for the same ``name`` meanwhile.

    Answer: nothing, when they are done. Only a shell for many sessions performs this.
    """

    name: str
    steps: Callable[[], Generator[Any, Any, Any]]


class PutWatch(NamedTuple):
    """Put the row of a watch. Answer: nothing."""

    path: str
    kind: str
    stamp: int


class RemoveWatch(NamedTuple):
    """Delete the row of a watch, unless it was put again. Answer: nothing."""

    path: str
    kind: str
    stamp: int


class ReadBlob(NamedTuple):
    """Answer: a blob's data, ``length`` bytes; None if it is missing or not as written."""

    name: str
    length: int


class PutBlob(NamedTuple):
    """Store data that is too large for a request. Answer: nothing."""

    name: str
    data: bytes


class Forget(NamedTuple):
    """Remove registrations that are idle, as (path, kind). Answer: nothing."""

    idle: Sequence[tuple[str, str]]


class ReadLease(NamedTuple):
    """Answer: a session's Lease, or None."""

    session: int


class RenewLease(NamedTuple):
    """Replace the version of a lease that ``lease`` names.

    Answer: the Lease as it is now, or the Code that ended this process' part in the session.
    """

    lease: Lease


class ReadEntries(NamedTuple):
    """Read a piece of the log as history: entries that begin in (after, upto].

    Only those of which a transaction has one of ``words`` in its JSON. Answer: the entries; where the
    piece ends (``upto``: there are no more); how many entries it has in all, about ``limit`` at
    most; and after which transaction they follow on each other without a gap. An entry counts once
    for each 16 KB.
    """

    after: int
    upto: int
    words: tuple[str, ...]
    limit: int


class FindEntry(NamedTuple):
    """Answer: the Entry that a transaction is in, or the one after it, or None."""

    txid: int


class FindMoment(NamedTuple):
    """Answer: the last txid up to ``upto`` at a time (ms, of the log); None if the log begins later."""

    time: int
    upto: int


class ReadKept(NamedTuple):
    """Answer: a :class:`~faaskeeper.core.kept.Kept`; None where nothing but the log is kept."""

    path: str


Command = Union[
    ReadRecord,
    ReadRecords,
    ReadLog,
    ReadLogEnd,
    ReadMark,
    Await,
    Share,
    PutWatch,
    RemoveWatch,
    Forget,
    ReadBlob,
    PutBlob,
    ReadLease,
    RenewLease,
    ReadEntries,
    FindEntry,
    FindMoment,
    ReadKept,
]
Steps = Generator[Command, Any, Any]
