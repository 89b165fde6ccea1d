"""The watches that a session has registered with the service: rows, and an index of them.

A row is deleted when its watch has fired. Its entry in the index stays, so that setting the same
watch again costs one call. Without cleanup, the index would keep an entry for every path that
was ever watched (a contended lock watches a new path each time). Entries without a watch are
therefore removed in the background, together, once there are many.

A put and a removal for the same path and kind exclude each other. A call that failed may take
effect later. So each entry in the index has its own number, and a removal names that number. If a
row may still arrive, its entry stays for as long as the session, so that the service finds both
once that has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from itertools import count
from typing import Any
from zlib import crc32

from faaskeeper.core.errors import DriverError
from faaskeeper.core.watches import Row, WatchTable

MOST = 500
"""The number of registrations above which those without a watch are removed."""
_STRIPS = 16

Lock = AbstractContextManager[Any]
"""A lock: threads exclude each other in its ``with`` block."""

Registered = tuple[str, str]
"""Path and kind."""


class Registrations:
    """Puts and removes rows of one session. ``lock`` makes the locks that are held during calls."""

    def __init__(self, watches: WatchTable, lock: Callable[[], Lock], most: int = MOST) -> None:
        self._watches = watches
        self._strips = [lock() for _ in range(_STRIPS)]
        self._known: dict[Registered, int] = {}
        """The registrations in the index, with the number of each entry."""
        self._idle: dict[Registered, int] = {}
        """The same, for registrations that are to be removed."""
        self._coming: set[Registered] = set()
        """Registrations whose row may still arrive, since a put failed."""
        self._numbers = count(1)
        self._marked = 0
        self._least = self._most = most

    def __len__(self) -> int:
        return len(self._known) + len(self._idle)

    def _strip(self, path: str, kind: str) -> Lock:
        """The lock of a registration. Recursive ones share one mark, and therefore one lock."""
        at = 0 if kind == "recursive" else crc32(path.encode("utf-8", "surrogatepass"))
        return self._strips[at % _STRIPS]

    def put(self, row: Row) -> None:
        """Register a watch. Raises DriverError."""
        registered = (row.path, row.kind)
        with self._strip(*registered):
            if registered not in self._known:
                number = next(self._numbers)
                if row.kind == "recursive":
                    self._marked = number
                self._watches.index(row.session, row.path, row.kind, number)
                self._known[registered] = number
            try:
                self._watches.put(row)
            except DriverError:
                self._coming.add(registered)
                raise

    def remove(self, row: Row) -> None:
        """Remove the row of a watch that is no longer wanted. Raises DriverError.

        The entry of a recursive watch is removed at once too, since each write pays for such
        entries.
        """
        registered = (row.path, row.kind)
        with self._strip(*registered):
            settled = registered in self._known and registered not in self._coming
            if row.kind == "recursive" and settled:
                self._idle[registered] = self._known.pop(registered)
            else:
                self._watches.remove(row)
        if registered in self._idle:
            self.forget(row.session, [registered])

    @property
    def many(self) -> bool:
        """Whether :meth:`idle` is due."""
        return len(self._known) > self._most or bool(self._idle)

    def idle(self, wanted: Callable[[str, str], bool]) -> list[Registered]:
        """The registrations without a watch, to be passed to :meth:`forget`.

        ``wanted``: whether a path and kind has a watch, or is about to have one. If one of the
        returned registrations is put again from now on, its entry is put again too.
        """
        for registered in [each for each in list(self._known) if not wanted(*each)]:
            if registered in self._coming:
                continue
            self._idle[registered] = self._known.pop(registered)
        self._most = max(self._least, 2 * len(self._known))
        return list(self._idle)

    def end(self, session: int) -> None:
        """Remove all registrations, one by one, when the session is over. Raises DriverError.

        If a row is put after the service has cleared the session, only a sweep finds it, days
        later.
        """
        self.forget(session, self.idle(lambda path, kind: False))

    def forget(self, session: int, idle: Sequence[Registered]) -> None:
        """Remove the rows and the index entries. After a DriverError, the rest remain idle."""
        for registered in idle:
            path, kind = registered
            with self._strip(path, kind):
                number = self._idle.get(registered, 0)
                if number and registered not in self._known:  # otherwise it was put again meanwhile
                    # The mark first: if this stops in between, the service finds the mark by the
                    # index.
                    if kind == "recursive" and not any(each == kind for _, each in list(self._known)):
                        self._watches.unmark(session, self._marked)
                    self._watches.forget(session, path, kind, number)
                self._idle.pop(registered, None)
