"""What an embedded service keeps of replaced versions, in ``state.db``: see :mod:`faaskeeper.core.kept`.

A trigger keeps a record as of the horizon or before when it is replaced, in the transaction that
replaces it. So the order of SQLite's commits, which a power cut preserves, makes both or none. A
record that stays needs no copy, and a write of a path whose last version is still in the log makes
none either. :meth:`SqliteKeeper.fold` does the rest when entries are trimmed.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial

from faaskeeper.config import Config
from faaskeeper.core import records
from faaskeeper.core.changes import Restored
from faaskeeper.core.errors import DriverError, Unavailable
from faaskeeper.core.images import Image as Last
from faaskeeper.core.images import images_of
from faaskeeper.core.kept import Image, Kept, Retention
from faaskeeper.core.log import RETENTION_MS, Entry
from faaskeeper.core.records import NODE, Record
from faaskeeper.providers.local.database import Database
from faaskeeper.providers.local.tables import decode, encode

DAY_MS = 24 * 3600 * 1000
BYTES = 1 << 30
"""Of the log, unless ``history-bytes`` says otherwise."""
_LEAST_BYTES = 1 << 20
"""Less is not worth a sweep."""
_MOST_DAYS = 36_500

STATEMENTS = (
    "CREATE TABLE IF NOT EXISTS history_horizon "
    "(one INTEGER PRIMARY KEY, stamp INTEGER NOT NULL, time INTEGER NOT NULL)",
    "CREATE TABLE IF NOT EXISTS kept "
    "(path TEXT PRIMARY KEY, stamp INTEGER NOT NULL, body TEXT NOT NULL, data BLOB) WITHOUT ROWID",
    "CREATE TRIGGER IF NOT EXISTS keep_replaced BEFORE INSERT ON records "
    "WHEN instr(NEW.\"partition\", '//') = 0 BEGIN "  # not pages of names
    'INSERT OR REPLACE INTO kept SELECT "partition", stamp, body, data FROM records '
    'WHERE "partition" = NEW."partition" AND "key" = NEW."key" AND stamp < NEW.stamp '
    "AND stamp <= (SELECT stamp FROM history_horizon); END",
)
"""Idempotent statements that make the tables, and keep what is replaced from then on."""

_OF = (
    'SELECT stamp, body, data FROM records WHERE "partition"=? AND "key"=? '
    "AND stamp <= (SELECT stamp FROM history_horizon) UNION ALL "
    "SELECT stamp, body, data FROM kept WHERE path=? ORDER BY stamp DESC LIMIT 1"
)


class SqliteKeeper:
    """``log``: the database with the log, ``state``: the one with everything else, in ``directory``.

    ``keeps`` False: the records are not in ``state``, so nothing is kept beside the log.
    """

    def __init__(self, log: Database, state: Database, directory: str, applied: int, keeps: bool) -> None:
        self._state = state
        self._wal = f"{directory}/state.db-wal"
        self._keeps = keeps
        first = log.read('SELECT "key" FROM "log" ORDER BY "key" LIMIT 1', ())
        begin = first[0][0] - 1 if first else applied
        known = state.read("SELECT stamp FROM history_horizon", ())
        if not known or known[0][0] < begin:  # new, or an earlier release trimmed and kept nothing
            self.begin(begin)

    def of(self, path: str) -> Kept:
        """See :class:`~faaskeeper.core.kept.Keeper`."""
        rows = self._state.read(_OF, (path, NODE, path)) if self._keeps else ()
        horizon, time = self._horizon()
        return Kept(horizon, time, _image(rows[0]) if rows else None)

    def fold(self, entries: Sequence[Entry]) -> None:
        """See :class:`~faaskeeper.core.kept.Keeper`."""
        last = entries[-1]
        with self._state.lock:  # nobody replaces a record meanwhile
            horizon = self._horizon()[0]
            above = [each for entry in entries for each in entry.transactions if each.txid > horizon]
            calls: list[Callable[[], None]] = []
            for place in reversed(range(len(above))):
                if any(isinstance(effect, Restored) for effect in above[place].effects):
                    calls.append(self._forget)  # by an earlier release, which does not know this table
                    del above[: place + 1]
                    break
            images = images_of(above) if self._keeps else {}
            calls.append(partial(self._raise, last.last, last.time))
            calls += [partial(self._fold, path, image) for path, image in images.items()]
            self._state.together(calls)
        self._secure()

    def _horizon(self) -> tuple[int, int]:
        horizon, time = self._state.read("SELECT stamp, time FROM history_horizon", ())[0]
        return horizon, time

    def begin(self, txid: int) -> None:
        """See :class:`~faaskeeper.core.kept.Keeper`."""
        calls: list[Callable[[], None]] = [partial(self._raise, txid, 0), self._forget]
        self._state.together(calls)

    def _forget(self) -> None:
        self._state.write("DELETE FROM kept", ())

    def _raise(self, horizon: int, time: int) -> None:
        self._state.write(
            "INSERT INTO history_horizon VALUES (1,?,?) ON CONFLICT DO UPDATE "
            "SET stamp=excluded.stamp, time=excluded.time WHERE stamp<excluded.stamp",
            (horizon, time),
        )

    def _fold(self, path: str, image: Last) -> None:
        """The last image of a path at or below the horizon: keep it, unless it is the record or none."""
        read, write = self._state.read, self._state.write
        record = read('SELECT stamp FROM records WHERE "partition"=? AND "key"=?', (path, NODE))
        meta, data = image.meta, image.data
        if meta is not None and (not record or record[0][0] != image.txid):
            before = read("SELECT stamp, body, data FROM kept WHERE path=?", (path,))
            if data is None and meta.length > 0 and not meta.blob and before:
                data = _image(before[0]).data
            if data is not None or meta.length <= 0 or meta.blob:
                kept = Record(image.txid, meta, data or b"", [], 0, 0, "")
                _, body, content = encode(records.encode(kept))
                write("INSERT OR REPLACE INTO kept VALUES (?,?,?,?)", (path, image.txid, body, content))
                return
            # Its data was replaced before this release kept any: nobody knows it.
        write("DELETE FROM kept WHERE path=? AND stamp<?", (path, image.txid))

    def _secure(self) -> None:
        """Have the disk take what was committed: only then the log may lose the entries."""
        try:
            file = os.open(self._wal, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return  # it was merged into the database, which syncs that
        except OSError as error:
            raise Unavailable(f"cannot read {self._wal}: {error.strerror}") from error
        try:
            os.fsync(file)
        except OSError as error:
            raise Unavailable(f"cannot write {self._wal}: {error.strerror}") from error
        finally:
            os.close(file)


def _image(row: tuple[int, str, bytes | None]) -> Image:
    record = records.decode(decode(*row))
    return Image(record.txid, record.meta, record.data)


def used(log: Database) -> int:
    """Bytes that the log takes in its file; what was trimmed is free for new entries."""
    (pages,), (free,), (size,) = (
        log.read(f"PRAGMA {name}", ())[0] for name in ("page_count", "freelist_count", "page_size")
    )
    return int((pages - free) * size)


def retention(config: Config, log: Database) -> Retention:
    """What of the log is kept: ``history-days`` and ``history-bytes`` of the section ``local``."""
    days = config.provider_config.get("history-days", RETENTION_MS // DAY_MS)
    if type(days) not in (int, float) or not 0 <= days <= _MOST_DAYS:
        raise DriverError(
            f"'history-days' in the section 'local' is {days!r}: it must be a number from 0 to {_MOST_DAYS}"
        )
    size = config.provider_config.get("history-bytes", BYTES)
    if type(size) is not int or size < 0:
        raise DriverError(f"'history-bytes' in the section 'local' is {size!r}: it must be a number of bytes")
    return Retention(int(days * DAY_MS), max(size, _LEAST_BYTES), partial(used, log))
