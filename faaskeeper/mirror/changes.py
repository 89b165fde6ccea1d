"""What is known to have changed in a source: paths from a recursive watch, and that a look is due."""

from __future__ import annotations

import threading
import time

from faaskeeper.client import SessionState
from faaskeeper.exceptions import NoWatcherException, SessionExpiredException, ZooKeeperException
from faaskeeper.mirror.trees import Tree
from faaskeeper.watch import WatchedEvent, WatchEventType


class Changes:
    """Collects changes of a tree from now on. ``watched``: its server sends events.

    Set up before the tree is first read.
    """

    def __init__(self, source: Tree) -> None:
        self._source = source
        self._paths: set[str] = set()
        self._look = False
        self._lost = False
        self._stopped = False
        self._more = threading.Condition()
        source.client.add_listener(self._state)
        try:
            source.client.add_watch(source.top, self._event, recursive=True)
            self.watched = True
        except ZooKeeperException:  # before 3.6
            self.watched = False

    def close(self) -> None:
        """Collect no more."""
        self._source.client.remove_listener(self._state)
        if self.watched and self._source.client.state is SessionState.CONNECTED:
            try:
                self._source.client.remove_watches(self._source.top, watch=self._event)
            except NoWatcherException:
                pass

    def _event(self, event: WatchedEvent) -> None:
        path = self._source.relative(event.path)
        with self._more:
            if event.event_type is WatchEventType.NODE_CHILDREN_CHANGED:
                self._look = True  # what changed below is not known
            elif path is not None:
                self._paths.add(path)
            self._more.notify_all()

    def _state(self, state: SessionState) -> None:
        with self._more:
            self._look = True  # events of before may be lost
            self._lost = self._lost or state is SessionState.LOST
            self._more.notify_all()

    def stop(self) -> None:
        """Let :meth:`wait` return at once, from now on."""
        with self._more:
            self._stopped = True
            self._more.notify_all()

    @property
    def stopped(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stopped

    def wait(self, until: float) -> tuple[set[str], bool]:
        """Changed paths, and whether to list the whole tree, which is so at ``until`` at the latest.

        ``until``: of the monotonic clock. Raises SessionExpiredException: no event comes any more.
        """
        with self._more:
            self._more.wait_for(
                lambda: self._paths or self._look or self._lost or self._stopped,
                max(0.0, until - time.monotonic()),
            )
            if self._lost:
                raise SessionExpiredException()
            found, self._paths = self._paths, set()
            look, self._look = self._look or time.monotonic() >= until, False
            return found, look
