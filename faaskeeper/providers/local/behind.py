"""Records of an embedded service: read from memory, written to ``state.db`` behind the log.

A put ends in memory. The records that were put since are written later, together, in one
transaction (*flushed*), so a znode that changes often is written once, and a page of children once
for many creates. :class:`Saved` flushes before each save of the mark or a checkpoint. So what
``state.db`` holds is what a process without this memory would have stored at some earlier moment.

**A flush that is due** runs in a thread of its own: encoding and SQLite take some ten milliseconds,
in which the writer goes on. One flush runs at a time, in the order in which records were put, and
whatever else flushes (the mark, a tombstone that lapses, the stop) waits for it first. Records on
their way to the file stay in memory. If such a flush fails, its records are unflushed again, unless
newer ones have come, and the next flush is the writer's own and raises.

**A crash** loses records that were not flushed. All of them are above the stored mark, and their
entries are in the log, which is synced before any record is made. The next service applies these
entries again, as after a power cut, which removes the last commits of a file that is not synced.

**Readers** are threads of this process, which owns the directory. They see each put at once, since
all of them read through this object. A reader takes no lock. What it reads from the file is
remembered only if nothing was evicted or deleted since it looked into memory. A path that was put
meanwhile is in memory, so an older record never replaces a newer one.

**A put over an older record only.** A path in memory shows its txid. The record of one that is not
there is in the file, so it is at or below the highest txid that was ever stored; a put above that
needs no look into the file.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from faaskeeper.core import logs
from faaskeeper.core.changes import acl_memory
from faaskeeper.core.checkpoint import Checkpoints, Header
from faaskeeper.core.codec import text
from faaskeeper.core.drivers.storage import Check, Gather, Table, Write, in_any_case
from faaskeeper.core.errors import DriverError
from faaskeeper.core.forks import Inherited, register
from faaskeeper.core.records import NODE, Record, TableRecords, meta_text
from faaskeeper.core.sessions import Sessions
from faaskeeper.providers.local.database import Database
from faaskeeper.providers.local.tables import Row, SqliteTable

MEMORY_BYTES = 32 * 1024 * 1024
"""About how much memory the records take that were read or written last."""
UNFLUSHED = 4_000
"""Records after which a flush is due. More at once are fewer in all: pages of children change often."""
UNFLUSHED_BYTES = 8 * 1024 * 1024

_RECORD_BYTES = 600
"""Of a record without data, children and ``recent``, with its path and its place in memory."""
_NAME_BYTES = 70
_SHARED_BYTES = 200
"""At most so many bytes of ``recent`` are counted for a put: the records of a group share it."""

_UNKNOWN: Any = object()

_log = logs.logger(__name__)


class RecordsBehind(Inherited):
    """See the module; :class:`faaskeeper.core.records.Records`.

    ``high``: the highest txid of a record that was stored. ``most``: bytes of memory.
    """

    def __init__(self, database: Database, table: SqliteTable, high: int, most: int = MEMORY_BYTES) -> None:
        self._database = database
        self._table = table
        self._stored = TableRecords(table)
        self._high = high
        self._most = most
        self._known: dict[str, Record | None] = {}
        """By path, what a read returns; the oldest first."""
        self._sizes: dict[str, int] = {}
        self._bytes = 0
        self._unflushed: dict[str, Record] = {}
        self._unflushed_bytes = 0
        self._flushing: dict[str, Record] = {}
        """What a flush is writing; ``_unflushed`` may hold newer records of the same paths."""
        self._failed = False
        """Whether the last flush failed."""
        self._read: set[str] = set()
        """Paths that were read since they were last considered for eviction."""
        self._dropped = 0
        """How often a path was dropped from memory."""
        self._lock = threading.RLock()
        """Guards all of the above; nobody waits for the file while holding it, but for a read."""
        self._flush = threading.Lock()
        """Held while a flush takes and writes its records. Taken before the locks of memory and file."""
        register(self)

    def forked(self, why: str) -> None:
        self._known = {}
        self._unflushed = {}
        self._flushing = {}
        self._lock = threading.RLock()
        self._flush = threading.Lock()

    @property
    def used(self) -> int:
        """About how many bytes of memory the records take."""
        return self._bytes

    @property
    def held(self) -> frozenset[str]:
        """The paths whose records are in memory."""
        return frozenset(self._known)

    # ---- reading -----------------------------------------------------------------------

    def get(self, path: str) -> Record | None:
        found: Record | None = self._known.get(path, _UNKNOWN)
        if found is not _UNKNOWN:
            self._read.add(path)
            return found
        return self._load((path,))[0]

    def get_many(self, paths: Sequence[str]) -> list[Record | None]:
        known = self._known
        found = [known.get(path, _UNKNOWN) for path in paths]
        if _UNKNOWN not in found:
            self._read.update(paths)
            return found
        lacking = [path for path, record in zip(paths, found, strict=True) if record is _UNKNOWN]
        loaded = iter(self._load(lacking))
        return [next(loaded) if record is _UNKNOWN else record for record in found]

    def _load(self, paths: Sequence[str]) -> list[Record | None]:
        """Read records from the file, and remember them."""
        dropped = self._dropped
        # Looked up again: between the first look and the number just read, a path may have been
        # put, flushed and dropped.
        again = [self._known.get(path, _UNKNOWN) for path in paths]
        lacking = [path for path, record in zip(paths, again, strict=True) if record is _UNKNOWN]
        loaded = self._stored.get_many(lacking)
        with self._lock:
            if self._dropped == dropped:
                for path, record in zip(lacking, loaded, strict=True):
                    if path not in self._known:
                        self._remember(path, record, 0 if record is None else len(record.recent))
                self._evict()
        read = iter(loaded)
        return [next(read) if record is _UNKNOWN else record for record in again]

    # ---- writing -----------------------------------------------------------------------

    def put(self, path: str, record: Record, check: Check = in_any_case) -> bool:
        with self._lock:
            known = self._known.get(path, _UNKNOWN)
            if known is _UNKNOWN:
                known = self._stored.get(path) if record.txid <= self._high else None
            if known is not None and known.txid >= record.txid:
                return False
            self._remember(path, record, min(len(record.recent), _SHARED_BYTES))
            self._unflushed[path] = record
            self._unflushed_bytes += len(record.data)
        if self._full and not self._database.in_transaction:
            self.flush_if_full()
        return True

    def write_of(self, path: str, record: Record) -> Write | None:
        """None: a put is no call that others could be joined to."""
        return None

    def lapse(self, path: str, txid: int) -> None:
        """Delete a tombstone. Those of a sweep are below the mark, hence flushed."""
        if (path in self._unflushed or path in self._flushing) and not self._database.in_transaction:
            self.flush()
        self._stored.lapse(path, txid)
        with self._lock:
            known = self._known.get(path)
            if known is not None and known.txid == txid and path not in self._unflushed:
                self._drop(path)

    @property
    def _full(self) -> bool:
        return len(self._unflushed) >= UNFLUSHED or self._unflushed_bytes >= UNFLUSHED_BYTES

    def flush_if_full(self) -> None:
        """Begin a flush if it is due. Not to be called in a transaction.

        Waits for the one before if that is slower than what is put.
        """
        if not self._full:
            return
        much = len(self._unflushed) >= 2 * UNFLUSHED or self._unflushed_bytes >= 2 * UNFLUSHED_BYTES
        if self._failed or much:
            self.flush()
        elif self._flush.acquire(blocking=False):
            thread = threading.Thread(target=self._flush_behind, name="faaskeeper-flush", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there may be no more threads
                self._flush.release()
                self.flush()

    def flush(self) -> None:
        """Write what was put since the last flush. Not to be called in a transaction.

        If that fails, it is as before.
        """
        with self._flush:
            self._write()

    def _flush_behind(self) -> None:
        try:
            self._write()
        except Exception as error:  # the next flush meets it again, and raises
            _log.warning("some records were not written; the next flush writes them: %s", error)
        finally:
            self._flush.release()

    def _write(self) -> None:
        with self._lock:
            records = self._flushing = self._unflushed
            size = self._unflushed_bytes
            self._unflushed = {}
            self._unflushed_bytes = 0
        if not records:
            return
        try:
            # By path, as they lie in the file. The highest txid before: the high water is raised once.
            paths = sorted(records)
            high = max(paths, key=lambda path: records[path].txid)
            rows = [(path, NODE, row(records[path])) for path in paths]
            rows.insert(0, rows.pop(paths.index(high)))
            self._table.replace_all(rows)
        except BaseException:
            with self._lock:
                self._unflushed = {**records, **self._unflushed}
                self._unflushed_bytes += size
                self._flushing = {}
                self._failed = True
            raise
        with self._lock:
            self._high = max(self._high, records[high].txid)
            self._flushing = {}
            self._failed = False
            self._evict()

    def flush_at_last(self) -> None:
        """Flush, since the service stops. If that fails, the next one applies the log again."""
        try:
            self.flush()
        except DriverError as error:
            _log.warning("some records were not written; the next start writes them: %s", error)

    # ---- memory ------------------------------------------------------------------------

    def _remember(self, path: str, record: Record | None, recent: int) -> None:
        size = _RECORD_BYTES + len(path)
        if record is not None:
            size += len(record.data) + _NAME_BYTES * len(record.children) + recent + acl_memory(record.meta)
        self._bytes += size - self._sizes.get(path, 0)
        self._sizes[path] = size
        self._known[path] = record

    def _evict(self) -> None:
        """If the memory is beyond its bound, drop flushed records until it is a sixteenth below.

        So the list of paths is made once for many records. A path that was read since it was last
        considered gets another turn; one that is not flushed stays where it is, as it must never be
        missed in memory.
        """
        if self._bytes <= self._most:
            return
        least = self._most - self._most // 16
        for path in list(self._known):
            if path in self._unflushed or path in self._flushing:
                continue
            if path in self._read:
                self._read.discard(path)
                self._known[path] = self._known.pop(path)
                continue
            self._drop(path)
            if self._bytes <= least:
                return

    def _drop(self, path: str) -> None:
        if path in self._known:
            self._dropped += 1
            del self._known[path]
            self._bytes -= self._sizes.pop(path)
            self._read.discard(path)


def row(record: Record) -> Row:
    """The columns of a record, as a table would make them of its item, in less than half the time."""
    txid, meta, data, children, floor, upto, recent = record
    body = f'{{"floor":{floor},"upto":{upto}'
    if recent:
        body += f',"recent":{text(recent)}'
    if meta is not None:
        body += f',"meta":{text(meta_text(meta))}'
        if children:
            body += f',"children":{text(children)}'
        if data:
            return txid, f'{body},"\\u0000bytes":[["data",{len(data)}]]}}', data
    return txid, body + "}", None


class Saved(Checkpoints):
    """Checkpoint and mark, saved after the records that they cover. ``flush``: writes those."""

    def __init__(self, flush: Callable[[], None], table: Table, gather: Gather[Any]) -> None:
        super().__init__(table, expiring=False, gather=gather)
        self._flush = flush

    def mark(self, applied: int) -> None:
        self._flush()
        super().mark(applied)

    def save(self, header: Header, sessions: Sessions, clock: Callable[[], int]) -> None:
        self._flush()
        super().save(header, sessions, clock)
