"""Takes a backup: the whole tree as of one transaction, while others continue to write.

A walk reads the records, each at some moment. Then the log is folded over what the walk has found,
from the mark that was read before the walk on. The result is the tree as of the last entry folded:

* A record that the walk read as of ``t`` has every change of its path up to ``t``, and the fold
  skips those. Later changes are in the log after the mark: had one been at or below the mark, it
  would have been in the record.
* A znode that the walk did not meet was created after its parent's list was read. Then the log has
  its creation, since that list had everything up to the mark. What the walk could overlook (names
  that moved between pages while they were read) is found at the end, because each znode's number of
  children must match, and then everything is read again.
* Nothing is newer than the result: the fold goes on at least to the newest record seen, which is in
  the log before it is in user storage.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import NamedTuple, Protocol

from faaskeeper.backup.driver import Progress, Source
from faaskeeper.backup.file import Backup, misfit
from faaskeeper.core import paths
from faaskeeper.core.blobs import TRIES, lost, read_blob
from faaskeeper.core.changes import Change, Restored
from faaskeeper.core.children import page_path
from faaskeeper.core.errors import Denied, Unavailable
from faaskeeper.core.log import Entry, Log, Trimmed
from faaskeeper.core.records import Record, Records
from faaskeeper.core.znode import Meta

_TOGETHER = 100
_WALKS = 5
_LISTS = 10


class Sink(Protocol):
    """Where a tree is written: see :class:`faaskeeper.backup.file.Writer`."""

    def node(self, path: str, txid: int, meta: Meta, data: bytes | None) -> None: ...

    def data(self, path: str, data: bytes) -> None: ...

    def gone(self, path: str) -> None: ...


class Nowhere:
    """A sink for a caller that needs only the metadata."""

    def node(self, path: str, txid: int, meta: Meta, data: bytes | None) -> None: ...

    def data(self, path: str, data: bytes) -> None: ...

    def gone(self, path: str) -> None: ...


class Tree(NamedTuple):
    """A tree as of a transaction; ``time``: of the log then (ms). ``nodes``: metadata by path."""

    zxid: int
    time: int
    nodes: dict[str, Meta]


def take(source: Source, begin: Callable[[], Sink], progress: Progress) -> tuple[Tree, Sink]:
    """Read a deployment's tree into a sink.

    ``begin``: makes a sink; what was written to an earlier one is void. Raises DriverError.
    """
    for _ in range(_WALKS):
        sink = begin()
        tree = _Taking(source, sink).run()
        if tree is not None:
            return tree, sink
        progress("a list of children changed too fast: reading again")
    raise Unavailable(f"lists of children changed too fast in {_WALKS} attempts: try again under less load")


def survey(source: Source, below: int) -> Tree:
    """The tree of a deployment to which nobody writes; entries from ``below`` on are left out."""
    tree = _Taking(source, Nowhere(), below=below, blobs=False).run()
    if tree is None:
        raise Denied("the deployment's tree is not consistent: its lists of children do not match its znodes")
    return tree


def replay(source: Source, backup: Backup, sink: Sink) -> Tree:
    """The tree of a backup and of the log after it, up to the source's moment, written to a sink.

    Raises Denied if the log does not follow on the backup.
    """
    if source.applied < backup.zxid and not any(
        entry.last >= backup.zxid for entry in _entries(source.log, source.applied, None)
    ):
        raise Denied(f"the log ends before transaction {backup.zxid}: the backup is of another deployment")
    taking = _Taking(source, sink)
    for path, meta, data in backup.rows():
        taking.note(path, backup.txids[path], meta, data)
    tree = taking.follow(backup.zxid, backup.zxid, backup.time)
    if tree is None:
        raise Denied("the log does not follow on the backup: it is of another deployment")
    return tree


class _Taking:
    def __init__(self, source: Source, sink: Sink, below: int | None = None, blobs: bool = True) -> None:
        self._source = source
        self._sink = sink
        self._below = below
        self._blobs = blobs
        self._seen: dict[str, tuple[int, Meta]] = {}
        self._lacking: set[str] = set()
        """Paths whose data is in a blob that is yet to be read."""
        self._missed: set[str] = set()
        self._newest = 0

    def run(self) -> Tree | None:
        """Walk, then fold the log. None: something was overlooked, and all must be read again."""
        source = self._source
        began = source.applied if source.upto is not None else self._end()
        waiting = ["/"]
        while waiting:
            some = [waiting.pop() for _ in range(min(len(waiting), _TOGETHER))]
            for path, record in zip(some, source.records.get_many(some), strict=True):
                if record is None or record.meta is None:
                    continue  # deleted since; the log says so
                names, record = _listed(source.records, path, record)
                if record.meta is None:
                    continue
                self._newest = max(self._newest, record.txid)
                self.note(path, record.txid, record.meta, record.data)
                waiting.extend(paths.child(path, name) for name in names)
        return self.follow(source.applied, max(began, self._newest), 0)

    def _end(self) -> int:
        """The txid of the log's last entry."""
        txid = self._source.applied
        for entry in _entries(self._source.log, txid, self._below):
            txid = entry.last
        return txid

    def note(self, path: str, txid: int, meta: Meta, data: bytes | None) -> None:
        """Take in a znode. ``data`` None: as before."""
        self._seen[path] = txid, meta
        if meta.blob:
            if data is not None:
                self._lacking.add(path)
            data = None
        elif data is not None:
            self._lacking.discard(path)
        self._sink.node(path, txid, meta, data)

    def follow(self, zxid: int, least: int, time: int) -> Tree | None:
        """Fold the log after ``zxid``, at least up to ``least``, and read the blobs."""
        source = self._source
        for entry in _entries(source.log, zxid, self._below):
            if source.upto is not None and entry.time > source.upto and zxid >= self._newest:
                break
            zxid, time = entry.last, max(time, entry.time)
            for transaction in entry.transactions:
                for effect in transaction.effects:
                    if isinstance(effect, Restored):
                        raise Denied(
                            f"the deployment was set to the backup {effect.of} at transaction {entry.first}: "
                            "the log cannot be followed beyond that. Choose a moment before it, or a backup "
                            "and a moment after it"
                        )
                for change in transaction.changes:
                    self._change(transaction.txid, change)
            if source.upto is None and zxid >= least:
                break
        if zxid < self._newest:
            raise Denied(
                f"the records reach transaction {self._newest}, but the log ends at {zxid} at that moment: "
                "choose one some seconds later"
            )
        nodes = {path: meta for path, (_, meta) in self._seen.items()}
        if self._missed or misfit(nodes) is not None:
            return None
        if self._blobs:
            self._read_blobs(nodes)
        time = max(time, *(max(meta.ctime, meta.mtime, meta.emptied) for meta in nodes.values()))
        return Tree(zxid, time, nodes)

    def _change(self, txid: int, change: Change) -> None:
        path, letters, meta, data = change
        before = self._seen.get(path)
        if before is not None and before[0] >= txid:
            return
        if meta is None:
            self._missed.discard(path)
            self._lacking.discard(path)
            if before is not None:
                del self._seen[path]
                self._sink.gone(path)
            return
        if "C" in letters:
            self._missed.discard(path)
            before, data = None, data or b""
        elif before is None:
            self._missed.add(path)
            return
        if data is None and before is not None and meta.blob != before[1].blob:
            data = b""
        self.note(path, txid, meta, data)

    def _read_blobs(self, nodes: dict[str, Meta]) -> None:
        source = self._source
        paths_ = sorted(self._lacking)
        for at in range(0, len(paths_), _TOGETHER // 10):
            some = paths_[at : at + _TOGETHER // 10]
            found = source.gather([partial(_blob, source, path, nodes[path]) for path in some])
            for path, data in zip(some, found, strict=True):
                self._sink.data(path, data)


def _blob(source: Source, path: str, meta: Meta) -> bytes:
    for _ in range(TRIES):
        found = read_blob(source.blobs, meta.blob, meta.length)
        if found is not None:
            return found
    raise Denied(f"cannot back up: {lost(path, meta.blob)}")


def _listed(records: Records, path: str, record: Record) -> tuple[list[str], Record]:
    """The names of a znode's children, and its record.

    Names in pages may move while they are read, from a page to a later one or, when a page is
    removed, to an earlier one. So the pages are read in their order and then, in another call, all
    together; a name that still escapes is missed in the count at the end.
    """
    for _ in range(_LISTS):
        if record.meta is None or not record.meta.pages:
            return record.children, record
        pages = [page_path(path, number) for number in range(record.meta.pages)]
        names: set[str] = set(record.children)
        for _ in range(2):
            for page in records.get_many(pages):
                if page is not None and page.meta is not None:
                    names.update(page.children)
        again = records.get_many([path])[0]
        if again is None or again.meta is None or again.txid == record.txid:
            return sorted(names), record
        if again.meta.pages == record.meta.pages:
            return sorted(names), record
        record = again
    return sorted(names), record


def _entries(log: Log, txid: int, below: int | None) -> Iterator[Entry]:
    """The log's entries after a transaction, and below another."""
    more = True
    while more:
        try:
            entries, more = log.after(txid)
        except Trimmed as error:
            raise Denied(
                f"the log begins at transaction {error.first}, and that is after {txid}: what is between was "
                "trimmed, since the log is kept for seven days"
            ) from error
        for entry in entries:
            if below is not None and entry.first >= below:
                return
            txid = entry.last
            yield entry
