"""The mirror: the first copy, then changes as they come. The package says why it converges."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import NamedTuple

from faaskeeper.core import paths
from faaskeeper.core.acl import Credential
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NodeDoesntExistException,
    NodeExistsException,
    ProviderException,
    SessionExpiredException,
    TimeoutException,
)
from faaskeeper.mirror.changes import Changes
from faaskeeper.mirror.checks import check, check_target
from faaskeeper.mirror.copying import Copier, Wishes
from faaskeeper.mirror.errors import MirrorRefused, MirrorStopped
from faaskeeper.mirror.marks import Marks
from faaskeeper.mirror.trees import Seen, Tree

Report = Callable[[str], None]
PASSING = (SessionExpiredException, TimeoutException, ProviderException)
"""Errors after which a mirror that follows begins again with new sessions."""
LOCK_S = 60.0
"""How long to wait for the lock of a mirror that was killed: longer than its session lasts."""
_AGAIN_S = (1.0, 30.0)
"""Pauses before it begins again: the first one, and the longest."""


class Options(NamedTuple):
    """How to mirror. ``look_s``: between two listings; ``poll_s``: where a server sends no events.

    ``most_steps``: creates by which a sequence counter is raised at a time. ``shown``: the
    credentials for the target.
    """

    wishes: Wishes = Wishes()
    overwrite: bool = False
    look_s: float = 30.0
    poll_s: float = 1.0
    most_steps: int = 10_000
    shown: Sequence[Credential] = ()


class Running:
    """A mirror between two open sessions, which holds its target's lock."""

    def __init__(self, source: Tree, target: Tree, options: Options, report: Report) -> None:
        self.source = source
        self.target = target
        self.options = options
        self.report = report
        self.marks = Marks(target, source.name)
        self.copier = Copier(source, target, self.marks, options.wishes)
        self.changes = Changes(source)
        self.behind: dict[str, int] = {}
        """Sequence counters that lack more than ``most_steps``."""
        self.znodes = 0
        """How many the source had at the beginning, without ephemerals."""
        self.resumed = False

    def begin(self) -> None:
        """Check both trees, take the lock, and make the target equal for the first time."""
        source, target, marks = self.source, self.target, self.marks
        found, number = check(source, target, self.options.wishes, self.options.shown)
        if not found:
            raise NodeDoesntExistException(source.top)
        self._check_target()
        with suppress(NodeExistsException):
            if target.top != "/" and paths.parent(target.top) != "/":
                target.client.create(paths.parent(target.top), makepath=True)
        marks.take(LOCK_S, lambda: self.report("another mirror runs, or was killed: waiting for its session"))
        self._check_target()  # it is nobody else's from here on
        mark = marks.read()
        self.resumed = mark is not None and mark.source == source.name and mark.copied
        if mark is None or mark.source != source.name or self.options.overwrite:
            marks.begin()
        self.copier.load(target.all())
        self.copier.apply({*found, *self.copier.image})
        self.look()
        marks.complete()
        word = "equal again" if self.resumed else "copied"
        self.znodes = number
        self.report(f"{word}: {number} znodes, by {self.copier.written} writes")

    def plan(self) -> Iterator[tuple[str, str]]:
        """Check both trees; returns what :meth:`begin` would do, see :meth:`Copier.plan`."""
        options = self.options
        if not check(self.source, self.target, options.wishes, options.shown)[0]:
            raise NodeDoesntExistException(self.source.top)
        self._check_target()
        self.copier.load(self.target.all())
        return self.copier.plan()

    def _check_target(self) -> None:
        mark = self.marks.read()
        mine = mark is not None and mark.source == self.source.name
        if not self.options.overwrite:
            check_target(self.source, self.target, mark.zxid if mine and mark is not None else -1)

    def apply(self, dirty: set[str]) -> None:
        """Make the target equal at these paths."""
        self.copier.apply(dirty)

    def look(self) -> dict[str, Seen]:
        """List both trees; make the target equal where the source has changed, and raise counters."""
        there = self.source.list_all()
        if "" not in there:
            raise MirrorStopped(f"{self.source.name} is gone: nothing was deleted in {self.target.name}")
        copier = self.copier
        copier.ephemerals = {path: seen.owner for path, seen in there.items() if seen.owner}
        lasting = {path: seen for path, seen in there.items() if not seen.owner}
        dirty = {path for path, seen in lasting.items() if copier.seen.get(path) != seen.stamp}
        dirty |= {path for path in copier.image if path not in lasting}
        dirty |= copier.compare(self.target.list_all())
        copier.apply(dirty)
        counters = {path: seen.creations for path, seen in lasting.items()}
        self.behind = copier.count_up(counters, self.options.most_steps)
        return there

    def follow(self) -> None:
        """Apply changes as they come, until :meth:`Changes.stop`."""
        options = self.options
        pause = options.look_s if self.changes.watched else options.poll_s
        due, written, said = time.monotonic() + pause, self.copier.written, time.monotonic()
        while not self.changes.stopped:
            dirty, look = self.changes.wait(due)
            if dirty:
                self.apply(dirty)
            if look and not self.changes.stopped:
                self.look()
                due = time.monotonic() + pause
            if self.copier.written > written and time.monotonic() > said + 10:
                self.report(f"followed: {self.copier.written - written} writes")
                written, said = self.copier.written, time.monotonic()

    def close(self) -> None:
        """Stop collecting changes."""
        self.changes.close()


class Mirror:
    """Opens the sessions of a mirror. ``source`` and ``target`` make trees with started clients."""

    def __init__(
        self, source: Callable[[], Tree], target: Callable[[], Tree], options: Options, report: Report
    ) -> None:
        self._source = source
        self._target = target
        self._options = options
        self._report = report
        self._running: Running | None = None
        self._stopped = False

    def stop(self) -> None:
        """End :meth:`follow` soon; may be called by a signal's handler."""
        self._stopped = True
        if self._running is not None:
            self._running.changes.stop()

    @contextmanager
    def running(self) -> Iterator[Running]:
        """A mirror that has begun; closes both sessions, which gives the lock back."""
        with self.opened() as running:
            running.begin()
            yield running

    @contextmanager
    def opened(self) -> Iterator[Running]:
        """A mirror that has not begun; closes both sessions."""
        source = self._source()
        try:
            target = self._target()
            try:
                running = Running(source, target, self._options, self._report)
                self._running = running
                try:
                    yield running
                finally:
                    self._running = None
                    with suppress(FaaSKeeperException):
                        running.close()
            finally:
                with suppress(FaaSKeeperException):
                    target.client.stop()
        finally:
            with suppress(FaaSKeeperException):
                source.client.stop()

    def follow(self) -> None:
        """Mirror until :meth:`stop`. Begins again, as a new process would, after a lost session."""
        pause, began = _AGAIN_S[0], False
        while not self._stopped:
            try:
                with self.running() as running:
                    pause, began = _AGAIN_S[0], True
                    self._options = self._options._replace(overwrite=False)
                    self._report(f"following {running.source.name}{_how(running)}: Ctrl-C ends it")
                    running.follow()
            except MirrorRefused:
                raise
            except PASSING as error:
                if not began:
                    raise
                self._report(f"{error}: beginning again in {pause:g} s")
                self._pause(pause)
                pause = min(2 * pause, _AGAIN_S[1])

    def _pause(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while not self._stopped and (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.2))


def _how(running: Running) -> str:
    if running.changes.watched:
        return ""
    return f" by listing it every {running.options.poll_s:g} s, since it sends no events (before 3.6)"
