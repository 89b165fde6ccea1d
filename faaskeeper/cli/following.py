"""Every change of a path since a transaction: ``fk watch`` without its options.

Two ways to follow a path, with one result:

* :class:`ByLog` reads the deployment's log. *Without a gap*: entries are contiguous, and what was
  trimmed is found out (``Trimmed``), so each transaction after the position is seen, in order, once.
  The position survives the session, the client and this process. A watch only says when to look.
* :class:`ByReads` reads the znodes where a client cannot read a log, as on a ZooKeeper server. What
  happens between two looks at a znode is seen as one change. After a loss of the session or of the
  connection all known znodes are compared: a server does not tell a watch that stays what it missed.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import NamedTuple

from faaskeeper.cli.errors import Failed
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core.blobs import read_blob
from faaskeeper.core.changes import Change, Restored
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError
from faaskeeper.core.log import Entry, Log, Trimmed
from faaskeeper.core.znode import Meta
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NoAuthException,
    NodeDoesntExistException,
    ProviderException,
)
from faaskeeper.node import Node
from faaskeeper.watch import WatchedEvent

_WALK = 4096
"""More transactions than an entry has."""


class Value(NamedTuple):
    """A znode's version and data. ``data`` None: it may not be read, or is not kept any more."""

    version: int
    data: bytes | None


class Unknown:
    """In place of what a znode was before a change: it is not known."""


UNKNOWN = Unknown()


class Happened(NamedTuple):
    """One change of a path by one transaction.

    ``txid``: -1 where a ZooKeeper server does not tell it (of deletions). ``time``: ms since 1970, None if
    unknown. ``event``: created, changed, deleted; children (a child was created or deleted). ``new``:
    None if the znode does not exist. ``old``: likewise, or UNKNOWN.
    """

    txid: int
    time: int | None
    event: str
    path: str
    new: Value | None
    old: Value | Unknown | None


class Following(ABC):
    """Follows a path. ``with_data``: new and old data are wanted.

    A client may be replaced by another one between two calls.
    """

    resumes = True
    """Whether another process can go on after :attr:`position`."""

    def __init__(self, path: str, recursive: bool, with_data: bool) -> None:
        self.path = path
        self.recursive = recursive
        self.with_data = with_data
        self.position = 0
        """The last transaction whose changes were returned."""

    @abstractmethod
    def lost(self) -> None:
        """The connection was lost: what happened until now may have had no event."""

    def wakes(self, client: FaaSKeeperClient, wake: Callable[[WatchedEvent], None]) -> None:
        """Have a client call ``wake`` when there may be something new."""
        client.add_watch(self.path, wake, self.recursive)

    @abstractmethod
    def begin(self, client: FaaSKeeperClient, since: int | None) -> None:
        """Begin after a transaction; None: with what happens from now on."""

    @abstractmethod
    def more(self, client: FaaSKeeperClient) -> Iterator[Happened]:
        """What has happened since. Sets :attr:`position` after each transaction.

        Raises Failed if it cannot be known, DriverError, FaaSKeeperException.
        """

    def _covers(self, path: str) -> bool:
        if path == self.path:
            return True
        return self.recursive and (self.path == "/" or path.startswith(f"{self.path}/"))


def following(client: FaaSKeeperClient, path: str, recursive: bool, with_data: bool) -> Following:
    """Follow a path in the best way that a client has."""
    kind = ByReads if connection_of(client) is None else ByLog
    return kind(path, recursive, with_data)


def connection_of(client: FaaSKeeperClient) -> Connection | None:
    """The deployment's stores; None on a ZooKeeper server, which shows clients none."""
    try:
        return client.connection
    except (DriverError, ProviderException):
        return None


def tree(client: FaaSKeeperClient, path: str, recursive: bool, with_data: bool) -> Iterator[Node]:
    """A node and all below it, as they are read; none that is deleted meanwhile or may not be read."""
    waiting = [path]
    while waiting:
        each = waiting.pop()
        try:
            found = client.get_data(each) if with_data else client.exists(each)
            if found is not None:
                yield found
            if recursive:
                waiting += [child.path for child in client.get_children(each)]
        except NoAuthException:
            if recursive and each == path:
                raise
        except NodeDoesntExistException:
            continue


# ---- by the log ----------------------------------------------------------------------------------


class LogReader:
    """Reads the log on from a position, entry by entry, without a gap."""

    def __init__(self) -> None:
        self.position = 0
        """The last transaction that was taken in."""
        self._at = 0
        """The last transaction of the last entry that was read."""

    def start(self, connection: Connection, since: int | None) -> None:
        """Begin after a transaction; None: at the log's end. Raises Failed, DriverError."""
        log = connection.log
        if since is not None:
            self._at, self.position = entry_before(log, since), since
            return
        self._at = connection.applied()
        more = True
        while more:
            entries, more = self._after(log)
            if entries:
                self._at = entries[-1].last
        self.position = self._at

    def _after(self, log: Log) -> tuple[list[Entry], bool]:
        try:
            return log.after(self._at)
        except Trimmed as error:
            raise _trimmed(self.position, error.first) from error

    def entries(self, log: Log) -> Iterator[Entry]:
        """The entries up to the log's end. Transactions of the first up to the position are known.

        The position is an entry's last transaction once the next one is asked for. Raises Failed if
        there is a gap, or the deployment was set to a backup.
        """
        more = True
        while more:
            entries, more = self._after(log)
            for entry in entries:
                for transaction in entry.transactions:
                    for effect in transaction.effects:
                        if isinstance(effect, Restored) and transaction.txid > self.position:
                            raise Failed(
                                f"the deployment was set to the backup {effect.of} at transaction "
                                f"{entry.first}, so changes cannot be followed beyond it: watch again, from "
                                "now on",
                                1,
                            )
                yield entry
                self._at = self.position = entry.last


class ByLog(LogReader, Following):
    """Follows a path by the log."""

    def __init__(self, path: str, recursive: bool, with_data: bool) -> None:
        LogReader.__init__(self)
        Following.__init__(self, path, recursive, with_data)
        self._known: dict[str, tuple[int, Value]] = {}
        """With data: values as of the transactions that set them."""

    def lost(self) -> None:
        """The log has everything."""

    def begin(self, client: FaaSKeeperClient, since: int | None) -> None:
        self.start(client.connection, since)
        if since is None and self.with_data:
            self._known = {
                each.path: (each.stat.mzxid, Value(each.stat.version, each.data))
                for each in tree(client, self.path, self.recursive, True)
            }

    def more(self, client: FaaSKeeperClient) -> Iterator[Happened]:
        for entry in self.entries(client.connection.log):
            yield from self._of_entry(client, entry)

    def _of_entry(self, client: FaaSKeeperClient, entry: Entry) -> Iterator[Happened]:
        for transaction in entry.transactions:
            if transaction.txid <= self.position:
                continue  # of the entry in which the watch begins
            mine = [each for each in transaction.changes if self._covers(each.path)]
            data = [self._data(client, each) for each in mine]  # before anything is noted: it may fail
            for change, value in zip(mine, data, strict=True):
                happened = self._of_change(transaction.txid, entry.time, change, value)
                if happened is not None:
                    yield happened
            self.position = transaction.txid

    def _of_change(self, txid: int, time: int, change: Change, data: bytes | None) -> Happened | None:
        path, letters, meta, _ = change
        events = letters.replace("K", "")
        event = _event(events, meta, letters, self.recursive)
        if event is None:
            return None
        if event == "children":
            return Happened(txid, time, event, path, None, None)
        new = None if meta is None else Value(meta.version, data)
        old: Value | Unknown | None = None
        if self.with_data:
            old = self._before(txid, path, events)
            self._known.pop(path, None)
            if new is not None:
                self._known[path] = txid, new
        return Happened(txid, time, event, path, new, old)

    def _before(self, txid: int, path: str, events: str) -> Value | Unknown | None:
        if events.startswith("C"):
            return None
        known = self._known.get(path)
        return known[1] if known is not None and known[0] < txid else UNKNOWN

    def _data(self, client: FaaSKeeperClient, change: Change) -> bytes | None:
        meta = change.meta
        if not self.with_data or meta is None or not change.letters.strip("K"):
            return None
        try:
            client.may_read(change.path, meta)
        except NoAuthException:
            return None
        if change.data is not None or not meta.blob:
            return change.data or b""
        return read_blob(client.connection.blobs, meta.blob, meta.length)


def _event(events: str, meta: Meta | None, letters: str, recursive: bool) -> str | None:
    """What a transaction did to a path; None if it is nothing that a watch reports."""
    if meta is None:
        return None if events.startswith("C") else "deleted"  # it never was visible
    if "C" in events:
        return "created"
    if "S" in events:
        return "changed"
    return "children" if "K" in letters and not recursive else None


def entry_before(log: Log, since: int) -> int:
    """The last transaction of the entry before the one with the transaction after ``since``.

    Raises Failed: the log does not have it any more, or not yet.
    """
    try:
        entries, _ = log.after(since, 1)
    except Trimmed as error:
        first = error.first
    else:
        if entries or since == 0:
            return since
        first = since + 1
    for txid in range(since, max(since - _WALK, 0), -1):
        entry = log.at(txid)
        if entry is None:
            continue
        if entry.last == since:
            return since
        if entry.last > since:
            return txid - 1
        raise Failed(f"transaction {since} has not happened yet: the log ends at {entry.last}", 2)
    if first > since + 1:
        raise _trimmed(since, first)
    raise Failed(f"transaction {since} has not happened yet", 2)


def _trimmed(since: int, first: int) -> Failed:
    return Failed(
        f"the log begins at transaction {first}: what happened between {since} and it is no longer kept. "
        f"Use --since {first - 1}, and read the nodes",
        1,
    )


# ---- by reads ------------------------------------------------------------------------------------


class ByReads(Following):
    """Follows a path by reading what a watch names: of changes in between, the last is seen."""

    resumes = False

    def __init__(self, path: str, recursive: bool, with_data: bool) -> None:
        super().__init__(path, recursive, with_data)
        self._known: dict[str, Node] = {}
        self._named: list[WatchedEvent] = []
        self._all = False
        """All nodes are to be compared: events may have been lost."""

    def wakes(self, client: FaaSKeeperClient, wake: Callable[[WatchedEvent], None]) -> None:
        def named(event: WatchedEvent) -> None:
            self._named.append(event)
            wake(event)

        self._all = True
        super().wakes(client, named)

    def lost(self) -> None:
        self._all = True

    def begin(self, client: FaaSKeeperClient, since: int | None) -> None:
        if since is not None:
            raise Failed("--since needs a log, and this deployment shows clients none", 2)
        self._all = False  # a connection that is lost from here on counts
        self._known = {each.path: each for each in self._tree(client)}

    def _tree(self, client: FaaSKeeperClient) -> Iterator[Node]:
        return tree(client, self.path, self.recursive, self.with_data)

    def more(self, client: FaaSKeeperClient) -> Iterator[Happened]:
        named, self._named = self._named, []
        everything, self._all = self._all, False  # a connection that is lost from here on counts
        try:
            yield from self._everything(client) if everything else self._those(client, named)
        except FaaSKeeperException:
            self._all = True
            raise

    def _everything(self, client: FaaSKeeperClient) -> Iterator[Happened]:
        now = {each.path: each for each in self._tree(client)}
        for path in sorted({*self._known, *now}):
            yield from self._compare(path, now.get(path), -1)

    def _those(self, client: FaaSKeeperClient, named: Iterable[WatchedEvent]) -> Iterator[Happened]:
        for event in named:
            found = next(tree(client, event.path, False, self.with_data), None)
            yield from self._compare(event.path, found, event.timestamp)

    def _compare(self, path: str, now: Node | None, txid: int) -> Iterator[Happened]:
        before = self._known.pop(path, None)
        if now is not None:
            self._known[path] = now
        if before is not None and (now is None or now.stat.czxid != before.stat.czxid):
            yield Happened(txid, None, "deleted", path, None, self._value(before))
            before = None
        if now is None:
            return
        new = self._value(now)
        if before is None:
            yield Happened(now.stat.czxid, now.stat.ctime, "created", path, new, None)
        else:
            yield from self._changed(before, now, new)
        self.position = max(self.position, now.stat.mzxid, now.stat.czxid)

    def _changed(self, before: Node, now: Node, new: Value) -> Iterator[Happened]:
        """What differs between two looks at a node, in the order in which it happened last."""
        found = []
        if now.stat.mzxid != before.stat.mzxid:
            old = self._value(before)
            found.append(Happened(now.stat.mzxid, now.stat.mtime, "changed", now.path, new, old))
        if not self.recursive and now.stat.pzxid != before.stat.pzxid:
            found.append(Happened(now.stat.pzxid, None, "children", now.path, None, None))
        yield from sorted(found, key=lambda each: each.txid)

    def _value(self, node: Node) -> Value:
        return Value(node.stat.version, node.data if node.has_data else None)
