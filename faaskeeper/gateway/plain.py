"""Plain reads of many connections, performed in few calls, where stores are near or reads are from memory.

A *plain* read is a getData, exists, getChildren or getChildren2 that sets no watch. All connections
whose next requests are such reads have them performed by one call in a turn of the event loop: one
look at the stores. A read that meets nothing new is answered from it. That is what
:meth:`~faaskeeper.session.rules.Rules.read` does when it returns the first record that it gets,
since no other code runs between the look and the answers. Any other read begins as usual. Where
stores are far the look is into the memory of the rules (:mod:`faaskeeper.gateway.following`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Mapping
from typing import Protocol

from faaskeeper.core.records import Record, Records
from faaskeeper.gateway.frames import PAUSE_BYTES
from faaskeeper.gateway.watches import SharedWatches

_TOGETHER = 64
"""Most reads that are performed in one call."""


class Asking(Protocol):
    """A connection whose next requests are plain reads."""

    def plain_paths(self, most: int) -> list[str]:
        """Paths of those that may begin now, at most so many."""

    def answer_from(self, records: Mapping[str, Record | None], ticket: int) -> bool:
        """Answer these reads; returns whether all are done and other requests wait.

        ``records``: of their paths, read since the rules' ticket was ``ticket``. A path that is not
        in it could not be read. Unless it returns True it has begun what follows.
        """

    def proceed(self) -> None:
        """Begin what follows."""


class PlainReads:
    """Reads that ask for one record, answered without steps where that is in memory.

    ``records``: in near stores; None: those that the rules remember.
    """

    def __init__(self, records: Records | None, watches: SharedWatches) -> None:
        self._records = records
        self._watches = watches
        self._most = _TOGETHER
        """Most reads of the next call: those whose data may be sent to one connection at once."""

    def perform(self, connections: Iterable[Asking]) -> None:
        """Perform the plain reads that are next in each connection."""
        waiting = deque(connections)
        while waiting:
            asking: list[Asking] = []
            paths: list[str] = []
            while waiting and len(paths) < self._most:
                each = waiting.popleft()
                wanted = each.plain_paths(self._most - len(paths))
                if wanted:
                    asking.append(each)
                    paths += wanted
                else:
                    each.proceed()
            if asking:
                ticket = self._watches.rules.ticket
                records = self._read(paths)
                for each in asking:
                    if each.answer_from(records, ticket):
                        waiting.append(each)

    def _read(self, paths: list[str]) -> dict[str, Record | None]:
        """The records of some paths; of none where that fails."""
        if self._records is None:
            return self._watches.rules.look(paths)
        try:
            if len(paths) == 1:
                return {paths[0]: self._records.get(paths[0])}
            distinct = list(dict.fromkeys(paths))
            found = dict(zip(distinct, self._records.get_many(distinct), strict=True))
        except Exception:  # whatever it is, the reads that meet it say so
            return {}
        size = sum([len(each.data) for each in found.values() if each is not None])
        self._most = min(max(PAUSE_BYTES * len(found) // size, 1), _TOGETHER) if size else _TOGETHER
        return found
