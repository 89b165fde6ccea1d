"""Reading rules and watches of a server, shared by all of its connections.

To the reading rules a server is one client: what one of its connections was shown, none of them
goes behind, as on a ZooKeeper server. A watch is registered once, under the server's own session,
however many connections wait for it (``docs/architecture/gateway.md``).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from faaskeeper.core.records import Record
from faaskeeper.gateway.memory import MemoryLevels
from faaskeeper.gateway.runner import StepRunner
from faaskeeper.session.commands import Steps
from faaskeeper.session.rules import Rules
from faaskeeper.watch import WatchCallbackType, WatchedEvent

_log = logging.getLogger(__name__)

_BATCH = 100
"""Idle registrations that are removed in one call."""
Fire = Callable[[WatchCallbackType, WatchedEvent], None]
_KINDS = ("data", "exists", "children", "persistent", "recursive")


class SharedRules(Rules):
    """Reading rules of many sessions. ``near``: stores answer within microseconds.

    Other sessions raise ``seen`` all the time. So where stores are far a read is not repeated for
    that, but only where an epoch met meanwhile wrote its path: it is a snapshot of one path.
    """

    follows = False
    """The log is followed: all writes are met, whether there are watches or not."""

    def __init__(self, seen: int, fire: Fire, near: bool) -> None:
        super().__init__(seen, fire)
        self._near = near

    def read(self, path: str) -> Steps:
        if self._near:
            return (yield from super().read(path))
        found = yield from self.snapshot((path,))
        return found[path]

    def look(self, paths: Sequence[str]) -> dict[str, Record | None]:
        """The records of those paths that may be shown without a look into storage."""
        return {}

    def memory_levels(self) -> MemoryLevels | None:
        """Levels of the memory, if reads are from there."""
        return None

    def count(self) -> tuple[int, int]:
        """How many watches there are, and of how many paths."""
        lists = [*self._watches.values(), *self._recursive.values()]
        return sum(map(len, lists)), len(self._watches.keys() | self._recursive.keys())


class SharedWatches:
    """The rules of a server's current session, and the watches registered under it.

    ``make``: makes the rules, from what is seen and what fires a watch.
    """

    def __init__(self, runner: StepRunner, make: Callable[[int, Fire], SharedRules]) -> None:
        self.runner = runner
        self._make = make
        self.rules = make(0, _fire)

    def restart(self) -> None:
        """Begin again without watches, for a new session of the server's."""
        self.rules = self._make(self.rules.seen, _fire)

    async def tidy(self) -> None:
        """Remove registrations that no connection waits for, if there are many.

        Raises DriverError.
        """
        session, registrations = self.runner.session, self.runner.registrations
        if not registrations.many:
            return
        idle = registrations.idle(self.rules.waits_for)
        for at in range(0, len(idle), _BATCH):
            await self.runner.call(registrations.forget, session, idle[at : at + _BATCH])
            # Near stores are called in the loop's thread: it serves connections in between.
            await asyncio.sleep(0)


def _fire(callback: WatchCallbackType, event: WatchedEvent) -> None:
    try:
        callback(event)
    except Exception:
        _log.exception("a connection could not be sent %s", event)  # the others are


class ConnectionWatches:
    """The paths that one connection watches. ``callback`` gets its events."""

    def __init__(self, shared: SharedWatches, callback: WatchCallbackType) -> None:
        self._shared = shared
        self.callback = callback
        self.paths: set[str] = set()

    def forget(self, path: str) -> None:
        """Forget a path, unless a watch of the connection is left on it."""
        if path in self.paths and not self._shared.rules.found(path, _KINDS, self.callback):
            self.paths.discard(path)

    def release(self) -> None:
        """Remove all watches, since the connection has ended."""
        if self.paths:
            self._shared.runner.drive(self._remove(), _removed)

    def _remove(self) -> Steps:
        for path in sorted(self.paths):
            yield from self._shared.rules.remove_watches(path, _KINDS, self.callback)


def _removed(_: object, error: BaseException | None) -> None:
    if error is not None:
        # Their rows cause one notification each, which nothing waits for.
        _log.info("registrations of a connection that ended stay: %s", error)
