"""Reads from memory in front of far stores, by a server that follows the log.

``docs/architecture/gateway.md``, Reads from memory, argues why this keeps what ZooKeeper promises,
and how far behind an answer may be. In short:

* What is in memory is the paths' state as of ``seen``. It comes there at the end of a snapshot,
  and goes when a transaction that wrote the path is met.
* Every so many ms the log is read to its end. Memory is used only while that was done lately, else
  storage is read.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial

from faaskeeper.core import codec
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.core.records import Record
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.gateway.memory import MEMORY_BYTES, Memory, MemoryLevels
from faaskeeper.gateway.runner import StepRunner
from faaskeeper.gateway.watches import Fire, SharedRules, SharedWatches
from faaskeeper.session.commands import Share, Steps, Writes

_log = logging.getLogger(__name__)

FOLLOW_MS = 200
LATE_S = 1.0
"""How much later than it is due a look at the log's end may be begun or done; then storage is read."""
_RESTED_S = 3600.0
"""How long ago the log's end was known at most, for nothing after it to have been trimmed: a small
part of a day, which is what the log's retention has to spare."""


class Following(NamedTuple):
    """How a server follows the log: every so many s. ``memory``: bytes for records."""

    every: float = FOLLOW_MS / 1000
    memory: int = MEMORY_BYTES

    @property
    def within(self) -> float:
        """How far (s) behind the log's end an answer from memory is at most."""
        return self.every + LATE_S


class ReadCounts:
    """Where a server's records were read, and how often memory was not used since following was late.

    A record that is read from storage for an answer is read from memory for it, too.
    """

    def __init__(self) -> None:
        self.memory = 0
        self.storage = 0
        self.late = 0


class FollowingRules(SharedRules):
    """Reading rules that remember what they have read.

    ``now``: see :class:`~faaskeeper.gateway.machine.Machine`. ``counts``: of all rules of a server.
    """

    follows = True
    passes_lapsed = True

    def __init__(
        self,
        seen: int,
        fire: Fire,
        following: Following,
        now: Callable[[], float],
        counts: ReadCounts,
    ) -> None:
        super().__init__(seen, fire, near=False)
        self.memory = Memory(following.memory)
        self._within = following.within
        self._now = now
        self._covered: float | None = None
        """What was committed before this moment is at or below ``seen``; None: nothing is known."""
        self._counts = counts

    # ---- following -----------------------------------------------------------------------

    @property
    def behind(self) -> float | None:
        """For how long (s) something may have been committed that is above ``seen``; None: unknown."""
        return None if self._covered is None else self._now() - self._covered

    @property
    def fresh(self) -> bool:
        """Whether reads may be answered from memory."""
        return self._covered is not None and self._now() - self._covered <= self._within

    @property
    def rested(self) -> bool:
        behind = self.behind
        return behind is None or behind > _RESTED_S

    def sync(self) -> Steps:
        began = self._now()
        yield from super().sync()
        self._covered = began if self._covered is None else max(self._covered, began)

    # ---- what is in memory is as of ``seen`` ---------------------------------------------

    @property
    def watching(self) -> bool:
        """Whether each write has to be known: of what is watched, or in memory."""
        return super().watching or len(self.memory) > 0

    def _take_in(self, news: Sequence[Writes], applied: int) -> None:
        for _, writes in news:
            for path, _ in writes:
                self.memory.drop(path)
        super()._take_in(news, applied)

    def _lose(self) -> None:
        self.memory.clear()
        super()._lose()

    def snapshot(
        self,
        wanted: Sequence[str],
        listed: Sequence[str] = (),
        pages: Callable[[int], Iterable[int]] = range,
    ) -> Steps:
        found: dict[str, Record | None] = yield from super().snapshot(wanted, listed, pages)
        for path, record in found.items():
            self.memory.put(path, record)
        return found

    # ---- reading -------------------------------------------------------------------------

    def look(self, paths: Sequence[str]) -> dict[str, Record | None]:
        """The records of those paths that may be answered from memory now."""
        if not self.fresh:
            self._counts.late += 1
            return {}
        memory = self.memory
        found = {path: memory[path] for path in paths if path in memory}
        self._counts.memory += len(found)
        return found

    def remembered(self, paths: Sequence[str]) -> Mapping[str, Record | None]:
        found = self.look(paths)
        self._counts.storage += len(paths) - len(found)
        return found

    def memory_levels(self) -> MemoryLevels:
        counts = self._counts
        return MemoryLevels(self.behind, self.memory.used, counts.memory, counts.storage, counts.late)

    def read(self, path: str) -> Steps:
        if self.fresh and path not in self.memory:
            # Many clients may ask for a path that was just written: one look is for all of them.
            yield Share(path, partial(self.snapshot, (path,)))
        return (yield from super().read(path))


class Follower:
    """Follows the log for a server's current rules. ``runner``: with a thread of its own."""

    def __init__(
        self,
        runner: StepRunner,
        watches: SharedWatches,
        following: Following,
        now: Callable[[], float],
        counts: ReadCounts,
    ) -> None:
        self.counts = counts
        self._runner = runner
        self._watches = watches
        self._following = following
        self._now = now
        self._failing = False

    async def keep(self) -> None:
        """Look at the log's end for ever."""
        while True:
            began = self._now()
            await self._look()
            await asyncio.sleep(max(began + self._following.every - self._now(), 0))

    def close(self) -> None:
        """End the thread, after the call that it is at."""
        self._runner.close()

    async def _look(self) -> None:
        began = self._now()
        try:
            await self._runner.perform(self._watches.rules.sync())
        except (DriverError, StaleView, codec.Malformed) as error:
            self._tell(f"the log cannot be followed now, reads go to storage: {error}")
            return
        took = self._now() - began
        late = took > self._following.within
        self._tell(f"a look at the log took {took:.1f} s: reads went to storage meanwhile" if late else None)

    def _tell(self, wrong: str | None) -> None:
        """Log what is wrong with following, if anything is, where that has changed."""
        if wrong is not None and not self._failing:
            _log.warning("%s", wrong)
        if wrong is None and self._failing:
            _log.warning("the log is followed again")
        self._failing = wrong is not None
