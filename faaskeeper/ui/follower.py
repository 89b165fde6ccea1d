"""What happens in a deployment, for the pages that are open.

*Without a gap.* Where there is a log, events come from it. Each batch has the transaction up to
which everything has been told. A page that begins after a transaction first gets what the log has
after it, read by a reader of its own, then the batches that came meanwhile without what it already
has. So neither a lost connection, a lost session nor a killed server leaves anything out: the page
comes back with the last number that it got. What the log does not tell any more is told as
``reset``, after which the page reads everything that it shows.

*No more than is permitted.* A change is told to who may read the node by its ACL then and, as far as
this look at the log goes, now: as the history does. Of a node that they may not read, who may list
its parent is told that it came or went, and no more: the list says as much.

A ZooKeeper server has no log. Its events are passed on as they come, without numbers; whenever some
may have been lost (the page or this process was away), the page gets ``reset``.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cache
from time import sleep
from typing import Any, NamedTuple

from faaskeeper.cli.errors import Failed
from faaskeeper.cli.following import LogReader
from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.core import paths
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.core.log import Entry
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.session.history import Revision, Scope, revisions_of
from faaskeeper.ui.access import Access
from faaskeeper.watch import WatchedEvent

_MOST = 5_000
"""Events of a batch above which a page had better read again."""
_LOOK_S = 5.0
"""A watch says when to look; this often the log is looked at anyhow: no watch tells of an ACL."""
_TOGETHER_S = 0.05
"""A batch comes at most this often."""
_AGAIN_S = 1.0
_ALL = Scope("/", True)
_KINDS = {"NodeCreated": "created", "NodeDeleted": "deleted", "NodeDataChanged": "set"}
_logger = logging.getLogger(__name__)


class Batch(NamedTuple):
    """What has happened. ``position``: the transaction up to which it is told; None: unknown.

    ``reset``: events were lost. ``down``: why the deployment is not reached; "": it is.
    """

    position: int | None
    events: list[dict[str, Any]]
    reset: bool = False
    down: str = ""


Deliver = Callable[[Batch], None]


def event_of(row: Revision) -> dict[str, Any]:
    """A change as a page gets it."""
    return {
        "path": row.path,
        "kind": row.kind,
        "txid": row.txid,
        "time": row.time,
        "session": row.session,
        "by": list(row.by or ()),
        "version": row.version,
        "size": row.size,
    }


class Rows(LogReader):
    """Reads the log as events that a session may know of."""

    def __init__(self, access: Access) -> None:
        super().__init__()
        self._access = access

    def take(self, connection: Connection, late: Callable[[Entry], None] = lambda entry: None) -> Batch:
        """What has happened since; ``late`` is called with each entry. Raises as ``entries`` does.

        If that is much, it goes on at the log's end, and the batch says ``reset``. If it fails, it
        goes on where it was: nothing of what it has read by then is left out.
        """
        before = self._at, self.position
        try:
            return self._take(connection, late)
        except BaseException:
            self._at, self.position = before
            raise

    def _take(self, connection: Connection, late: Callable[[Entry], None]) -> Batch:
        who = self._access.who()
        rows: list[tuple[dict[str, Any], bool]] = []
        shown: dict[str, bool] = {}
        """By path: whether the session may read it by its last ACL."""
        for entry in self.entries(connection.log):
            late(entry)
            for row, acl in revisions_of(entry, _ALL):
                if row.txid > self.position:
                    shown[row.path] = self._access.sees(acl, who)
                    rows.append((event_of(row), shown[row.path]))
            if len(rows) > _MOST:
                self.start(connection, None)
                return Batch(self.position, [], reset=True)
        lists = cache(self._access.reads)
        events = []
        for event, seen in rows:
            path, kind = event["path"], event["kind"]
            if seen and shown[path]:
                events.append(event)
            elif kind in ("created", "deleted") and lists(paths.parent(path)):
                events.append({"path": path, "kind": kind, "txid": event["txid"]})
        return Batch(self.position, events)


class Follower:
    """Follows a deployment in a thread, as long as there are subscribers."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._lock = threading.Lock()
        self._setting_up = threading.Lock()
        self._subscribers: set[Deliver] = set()
        self._listeners: set[Deliver] = set()
        """Who is told as long as there are subscribers."""
        self._woken = threading.Event()
        self._thread: threading.Thread | None = None
        self._client: FaaSKeeperClient | None = None
        """The one with the watch."""
        self._rows: Rows | None = None
        self._named: list[WatchedEvent] = []
        self._reset = False
        self.delays: list[float] = []
        """Ms from the commit of entries until they were seen here, the last ones."""

    # ---- subscribers -----------------------------------------------------------------------

    def subscribe(self, deliver: Deliver, since: int | None) -> Batch:
        """Deliver what happens from now on, by another thread; returns what happened since.

        ``since``: the position that the page has; None: none. What is returned and what is
        delivered may overlap: leave out what is not above the returned position.
        """
        with self._lock:
            self._subscribers.add(deliver)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="fk ui follower", daemon=True)
                self._thread.start()
        # From here on everything is delivered: only then the page, and what it lacks, may be read.
        connection = self._ready()
        if connection is None:
            return Batch(None, [], reset=since is not None)
        rows = Rows(self._access)
        try:
            rows.start(connection, since)
            return rows.take(connection) if since is not None else Batch(rows.position, [])
        except Failed:  # what happened since is not known any more
            rows.start(connection, None)
            return Batch(rows.position, [], reset=True)

    def listen(self, deliver: Deliver) -> bool:
        """Deliver what happens, too, as long as there are subscribers; returns whether there are.

        When there are none any more, a last batch says ``reset``.
        """
        with self._lock:
            if self._thread is None:
                return False
            self._listeners.add(deliver)
            return True

    def unsubscribe(self, deliver: Deliver) -> None:
        """Stop delivering."""
        with self._lock:
            self._subscribers.discard(deliver)
        self._woken.set()

    def close(self) -> None:
        """Stop."""
        with self._lock:
            self._subscribers.clear()
            thread = self._thread
        self._woken.set()
        if thread is not None:
            thread.join(10)

    # ---- the thread ------------------------------------------------------------------------

    def _goes_on(self) -> bool:
        with self._lock:
            if self._subscribers:
                return True
            self._thread = None
            left, self._listeners = self._listeners, set()
        for each in left:
            each(Batch(None, [], reset=True))
        return False

    def _run(self) -> None:
        down = False
        while self._goes_on():
            self._woken.clear()
            try:
                batch = self._take()
            except (
                Exception
            ) as error:  # of a bug, too: pages that hear nothing would believe that nothing happens
                if not isinstance(error, (DriverError, StaleView, FaaSKeeperException)):
                    _logger.exception("the deployment could not be followed")
                down = True
                self._publish(Batch(None, [], down=str(error) or repr(error)))
                self._woken.wait(_AGAIN_S)
                continue
            if batch.events or batch.reset or down:
                self._publish(batch)
            down = False
            sleep(_TOGETHER_S)
            self._woken.wait(_LOOK_S)
        with self._lock:
            if self._thread is None:  # otherwise another thread goes on with the watch
                self._end()

    def _end(self) -> None:
        client, self._client, self._rows = self._client, None, None
        if client is not None:
            try:
                client.remove_watches("/", watch=self._wake)
            except (DriverError, FaaSKeeperException) as error:
                _logger.info("the watch of the page's server stays until its session ends: %s", error)

    def _publish(self, batch: Batch) -> None:
        with self._lock:
            told = [*self._subscribers, *self._listeners]
        for each in told:
            each(batch)

    def _wake(self, event: WatchedEvent) -> None:
        if self._access.config.provider_name == "zookeeper":
            self._named.append(event)
        self._woken.set()

    def _state(self, state: SessionState) -> None:
        self._reset = self._reset or state is not SessionState.CONNECTED
        self._woken.set()

    def _take(self) -> Batch:
        connection = self._ready()
        rows = self._rows
        if connection is None or rows is None:
            return self._of_watch()
        try:
            return rows.take(connection, lambda entry: self._note(connection, entry))
        except Failed as error:  # this process stood still for days, or a backup was restored
            _logger.warning("%s", error)
            rows.start(connection, None)
            return Batch(rows.position, [], reset=True)

    def _ready(self) -> Connection | None:
        """The deployment's stores, once the watch is set and the log's reader has begun."""
        with self._setting_up:
            client = self._access.client
            connection = self._access.connection
            if client is not self._client:
                client.add_watch("/", self._wake, recursive=True)
                client.add_listener(self._state)
                self._reset = self._client is not None
                self._client = client
            if connection is not None and self._rows is None:
                rows = Rows(self._access)
                rows.start(connection, None)
                self._rows = rows
            return connection

    def _note(self, connection: Connection, entry: Entry) -> None:
        self.delays = [*self.delays[-99:], max(connection.service() - entry.time, 0)]

    def _of_watch(self) -> Batch:
        if self._client is None or self._client.state is not SessionState.CONNECTED:
            return Batch(None, [], down="the connection to the ZooKeeper server is lost")
        reset, self._reset = self._reset, False
        named, self._named = self._named, []
        events = [
            {"path": each.path, "kind": _KINDS[str(each.event_type)], "txid": max(each.timestamp, 0)}
            for each in named
            if str(each.event_type) in _KINDS
        ]
        if len(events) > _MOST:
            events, reset = [], True
        return Batch(None, events, reset)
