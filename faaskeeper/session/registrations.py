"""The watches that a session has registered with the service: rows, and an index of them.

A row goes when it has fired; its entry in the index stays, so that watching the same again costs one call. So
entries would be left of every path that was ever watched (a contended lock has a new one each time). Those
that nobody waits for are removed in the background, together, once there are many.

What is put and what is removed of one path and kind exclude each other. A call that failed may take effect
later: so each entry in the index has a number of its own, and only that one is removed; and where a row may
still come, its entry stays for as long as the session, so that the service finds both when that has ended.
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
"""Registrations that are kept before those that nobody waits for are removed."""
_STRIPS = 16

Lock = AbstractContextManager[Any]
"""What excludes threads from each other in a ``with`` block."""

Registered = tuple[str, str]
"""Path and kind."""


class Registrations:
    """Puts and removes rows of one session. ``lock`` makes locks, which are held during calls."""

    def __init__(self, watches: WatchTable, lock: Callable[[], Lock], most: int = MOST) -> None:
        self._watches = watches
        self._strips = [lock() for _ in range(_STRIPS)]
        self._known: dict[Registered, int] = {}
        """What is in the index, with the number of its entry."""
        self._idle: dict[Registered, int] = {}
        """The same, of what is to be removed."""
        self._coming: set[Registered] = set()
        """Those of which a row may come yet, since putting one failed."""
        self._numbers = count(1)
        self._marked = 0
        self._least = self._most = most

    def __len__(self) -> int:
        return len(self._known) + len(self._idle)

    def _strip(self, path: str, kind: str) -> Lock:
        """The lock of a registration; recursive ones have one mark together, and so one lock."""
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
        """Remove the row of a watch that is not wanted any more. Raises DriverError.

        A recursive one goes at once with its entry in the index, since each write pays for those.
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
        """What nobody waits for any more, to be given to :meth:`forget`.

        ``wanted``: whether somebody waits for a path and kind, or is about to. Whoever registers one of them
        from now on puts its entry again.
        """
        for registered in [each for each in list(self._known) if not wanted(*each)]:
            if registered in self._coming:
                continue
            self._idle[registered] = self._known.pop(registered)
        self._most = max(self._least, 2 * len(self._known))
        return list(self._idle)

    def end(self, session: int) -> None:
        """Remove everything by name, when the session is over. Raises DriverError.

        The service finds a row that was put after it cleared the session only when it sweeps, days later.
        """
        self.forget(session, self.idle(lambda path, kind: False))

    def forget(self, session: int, idle: Sequence[Registered]) -> None:
        """Remove their rows, and their entries in the index. What a DriverError leaves is idle still."""
        for registered in idle:
            path, kind = registered
            with self._strip(path, kind):
                number = self._idle.get(registered, 0)
                if number and registered not in self._known:  # else it was registered anew meanwhile
                    # the mark first: by the index the service finds it where this goes no further
                    if kind == "recursive" and not any(each == kind for _, each in list(self._known)):
                        self._watches.unmark(session, self._marked)
                    self._watches.forget(session, path, kind, number)
                self._idle.pop(registered, None)
