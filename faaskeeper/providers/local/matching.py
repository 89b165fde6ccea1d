"""Checks that the files of a directory match, and that none of them has lost its end.

The check runs before anything is written. The log is the source of truth, so it must cover the
contents of all other files. If it were shorter, its txids would be assigned a second time, and
newer items in ``state.db`` would win over later acknowledged writes. Besides mark and checkpoint,
``state.db`` contains:

* its *high water*: the highest txid of any record. A trigger raises it in the transaction that puts
  the record. So it is never below a record that survives a power cut.
* the *identity* of the deployment whose log it was made from.
* the *last entry* when the service was last idle, by txid and digest. A log that continues
  differently from there belongs to another copy.

Beside both, the file ``log.end`` holds the txid at which the log ended last: it is written after
each append, and not synced. Records reach ``state.db`` later, so it is what shows that a log lost
its end when the process was killed.

Directories of earlier versions have none of these. Until they do, only mark and checkpoint are
checked.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.drivers.storage import Gather, IfAbsent, ObjectStore, Table
from faaskeeper.core.errors import Conflict, Denied, Restoring, StaleView, Unavailable
from faaskeeper.core.hashes import blake2b
from faaskeeper.core.log import Entry, Log
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.providers.local.database import Database, Look
from faaskeeper.providers.local.tables import SqliteTable

OWN = "deployment"
"""The table, in both databases, of a directory's facts about itself; also its partition."""
_SETTINGS, _IDENTITY, _END, _LAST, _OBJECTS = "settings", "identity", "end", "last", "objects"
_MARKER = "deployment"
"""The object that names the deployment of the objects."""

HIGH_WATER = (
    "CREATE TABLE IF NOT EXISTS high_water (one INTEGER PRIMARY KEY, stamp INTEGER NOT NULL)",
    "INSERT INTO high_water SELECT 1, (SELECT COALESCE(MAX(stamp), 0) FROM records) "
    "WHERE NOT EXISTS (SELECT 1 FROM high_water)",
    *(
        f"CREATE TRIGGER IF NOT EXISTS high_water_{event} AFTER {event} ON records "
        "BEGIN UPDATE high_water SET stamp=NEW.stamp WHERE stamp<NEW.stamp; END"
        for event in ("INSERT", "UPDATE")
    ),
)
"""Idempotent statements that maintain the high water of the table ``records``."""


def identity_of(key: bytes) -> str:
    """The identity of a deployment: a hash of its key, which does not reveal the key."""
    return blake2b(key, digest_size=16, person=b"deployment").hexdigest()


class LastEntry(NamedTuple):
    """An entry of the log, by its first txid and a digest of its contents."""

    first: int
    digest: str


class _Log(NamedTuple):
    """Facts from ``log.db``: deployment, first txid of the first entry (0: empty), end."""

    identity: str
    first: int
    end: int
    ended: bool
    """Whether the end is known although the log is empty."""


class _State(NamedTuple):
    """Facts from ``state.db``.

    ``whole``: the log is applied and in the checkpoint up to this txid.
    """

    identity: str
    holds: int
    whole: int
    last: LastEntry | None


def last_entry(database: Database | Look, first: int | None = None) -> LastEntry | None:
    """The log's last entry, or the one that starts at a txid."""
    columns = 'SELECT "key","stamp","body","data" FROM "log"'
    if first is None:
        rows = database.read(f'{columns} ORDER BY "key" DESC LIMIT 1', ())
    else:
        rows = database.read(f'{columns} WHERE "key"=?', (first,))
    if not rows:
        return None
    key, stamp, body, data = rows[0]
    digest = blake2b(f"{key} {stamp} {body}".encode(), digest_size=16)
    digest.update(data or b"")
    return LastEntry(key, digest.hexdigest())


class LogEnd:
    """The file with the txid at which the log ended last."""

    NAME = "log.end"

    def __init__(self, directory: str) -> None:
        self._path = f"{directory}/{self.NAME}"
        self._file = -1

    def read(self) -> int:
        """The txid; 0 if it is not known. Raises Denied."""
        try:
            with open(self._path, "rb") as file:
                noted = file.read()
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise Denied(f"cannot read {self._path}: {error.strerror}") from error
        if not noted:
            return 0  # its creation was interrupted
        if len(noted) != 16 or not noted.isdigit():
            raise Denied(f"{self._path} is damaged; {_restore(os.path.dirname(self._path))}")
        return int(noted)

    def open(self) -> None:
        """Open the file, to :meth:`note` later. Raises Unavailable."""
        try:
            self._file = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise Unavailable(f"cannot write to {self._path}: {error.strerror}") from error

    def note(self, txid: int) -> None:
        """Note that the log ends at a txid. Raises Unavailable."""
        try:
            os.pwrite(self._file, b"%016d" % txid, 0)
        except OSError as error:
            raise Unavailable(f"cannot write to {self._path}: {error.strerror}") from error

    def close(self) -> None:
        """Close the file."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1


class NotedLog(Log):
    """A log whose end is noted after each append, before anything is derived from the entry."""

    def __init__(self, table: Table, gather: Gather[Any], end: LogEnd) -> None:
        super().__init__(table, gather)
        self._end = end

    def append(self, entry: Entry, age: int) -> None:
        """See :class:`Log`. Where the note fails, so does the append, whose fate is unknown then."""
        super().append(entry, age)
        self._end.note(entry.last)


def layout_of(log: Look) -> str:
    """How a directory keeps its records: the value of ``user-storage`` that it was set up with."""
    settings = SqliteTable(log, OWN).get(OWN, _SETTINGS)
    return "" if settings is None else str(settings["user-storage"])


def _log_of(look: Look) -> _Log:
    settings = SqliteTable(look, OWN).get(OWN, _SETTINGS)
    ended = SqliteTable(look, OWN).get(OWN, _END)
    end = 0 if ended is None else int(ended["stamp"])  # type: ignore[arg-type]
    rows = look.read('SELECT "key","stamp" FROM "log" ORDER BY "key" LIMIT 1', ())
    rows += look.read('SELECT "key","stamp" FROM "log" ORDER BY "key" DESC LIMIT 1', ())
    key = b"" if settings is None else settings["key"]
    identity = identity_of(key) if isinstance(key, bytes) and key else ""
    return _Log(identity, rows[0][0] if rows else 0, rows[-1][1] if rows else end, ended is not None)


def _state_of(look: Look) -> _State:
    checkpoints = Checkpoints(SqliteTable(look, "checkpoint"), expiring=False)
    applied = checkpoints.applied()
    try:
        saved = checkpoints.header().txid
    except Restoring:
        saved = checkpoints.barred()[0].txid
    except StaleView:
        saved = 0  # its set-up was interrupted
    high = [row[0] for row in look.read("SELECT stamp FROM high_water", ())]
    own = SqliteTable(look, OWN)
    identity, last = own.get(OWN, _IDENTITY), own.get(OWN, _LAST)
    seen = None if last is None else LastEntry(int(last["stamp"]), str(last["digest"]))  # type: ignore[arg-type]
    return _State(
        "" if identity is None else str(identity["of"]),
        max(applied, saved, 0 if seen is None else seen.first, *high),
        min(applied, saved),
        seen,
    )


class Checked(NamedTuple):
    """Both files of a directory, None if absent, and the txid at which the log ends."""

    log: Look | None
    state: Look | None
    end: int


def check(directory: str, log_file: Database, state_file: Database) -> None:
    """Raise Denied, which says what to restore, if a directory's files do not match. Reads only."""
    with checked(directory, log_file, state_file):
        pass


@contextmanager
def checked(directory: str, log_file: Database, state_file: Database) -> Iterator[Checked]:
    """The files of a directory, for reading. Raises Denied as :func:`check` does."""
    orphan = log_file.leftover()
    if orphan is not None:
        raise Denied(f"{orphan} exists, but its database log.db is missing: {_restore(directory)}")
    noted = LogEnd(directory).read()
    found = state = there = None
    with log_file.look() as look, state_file.look() as looked:
        if looked is not None:
            state = _state_of(looked)
        if look is not None:
            found = _log_of(look)
            if state is not None and state.last is not None:
                there = last_entry(look, state.last.first)
        _compare(directory, found, state, there, noted)
        yield Checked(look, looked, 0 if found is None else found.end)


def _compare(
    directory: str, found: _Log | None, state: _State | None, there: LastEntry | None, noted: int
) -> None:
    if found is None or not found.identity:
        if noted or (state is not None and (state.identity or state.holds)):
            missing = "is missing" if found is None else "is empty"
            raise Denied(
                f"log.db {missing} in {directory}, but {_holds(state, noted)}: {_restore(directory)}"
            )
        return
    _check_ends(directory, found, state, noted)
    if state is not None:
        _check_history(directory, found, state, there)
    whole = 0 if state is None else state.whole
    if found.first > whole + 1 or (not found.first and found.end > whole):
        first = found.first or found.end + 1
        what = "is missing" if state is None else f"is complete only up to transaction {whole}"
        raise Denied(
            f"state.db {what} in {directory}, but log.db starts at transaction {first}, because older "
            f"entries were trimmed: {_restore(directory)}"
        )


def _holds(state: _State | None, noted: int) -> str:
    """What the log should have, as a part of a sentence."""
    if state is None or noted > state.holds:
        return f"it had transactions up to {noted}"
    return f"state.db holds transactions up to {state.holds}"


def _check_ends(directory: str, found: _Log, state: _State | None, noted: int) -> None:
    if state is not None and state.identity and state.identity != found.identity:
        raise Denied(
            f"log.db and state.db in {directory} belong to different directories: {_restore(directory)}"
        )
    new = bool(noted) or (state is not None and bool(state.identity))
    if not new and not found.first and not found.ended:
        return  # an earlier version trimmed the whole log without a note of its end
    if max(noted, 0 if state is None else state.holds) > found.end:
        raise Denied(
            f"log.db in {directory} ends at transaction {found.end}, but {_holds(state, noted)}: log.db is "
            f"damaged at its end, or older than the other files; {_restore(directory)}"
        )


def _check_history(directory: str, found: _Log, state: _State, there: LastEntry | None) -> None:
    """``there``: the log's entry at the txid of the last entry that the state has seen."""
    seen = state.last
    if seen is None or there == seen or (there is None and seen.first < found.first):
        return  # no entry was seen yet, or it was trimmed
    raise Denied(
        f"log.db and state.db in {directory} belong to two copies that diverged: transaction "
        f"{seen.first} is not the one that state.db has seen; {_restore(directory)}"
    )


def _restore(directory: str) -> str:
    return (
        "nothing was changed. Restore the whole directory from one backup (log.db and state.db with "
        f"their -wal files, log.end, and objects), or choose another directory than {directory}"
    )


class Matching:
    """Notes in the open files of a directory, by which the next opening checks that they match."""

    def __init__(self, log_file: Database, state_file: Database, key: bytes) -> None:
        self._log_file = log_file
        self._state_file = state_file
        self._log_own = SqliteTable(log_file, OWN)
        self._state_own = SqliteTable(state_file, OWN)
        self._identity = identity_of(key)
        self._seen: LastEntry | None = None
        self._high = 0

    def note_identity(self, checkpoints: Checkpoints) -> None:
        """Note the log's identity in ``state.db`` and, once, the end of an empty log."""
        if self._state_own.get(OWN, _IDENTITY) is not None:
            return
        if last_entry(self._log_file) is None:
            self._log_own.put(OWN, _END, {"stamp": checkpoints.applied()})
        self._state_own.put(OWN, _IDENTITY, {"stamp": 0, "of": self._identity})

    def note_objects(self, directory: str, objects: ObjectStore) -> None:
        """Name the deployment among the objects, once.

        Raises Denied if they are another's, or missing.
        """
        body = self._identity.encode()
        named = objects.get(_MARKER)
        if named is None and self._log_own.get(OWN, _OBJECTS) is not None:
            raise Denied(
                f"the folder objects is missing in {directory}, or incomplete: {_restore(directory)}"
            )
        if named is not None and named.body != body:
            raise Denied(
                f"the folder objects in {directory} belongs to another directory: {_restore(directory)}"
            )
        if named is None:
            objects.put(_MARKER, body)
        try:
            self._log_own.put(OWN, _OBJECTS, {"stamp": 0}, IfAbsent())
        except Conflict:
            pass  # already noted

    def note_last_entry(self) -> None:
        """Note the log's last entry in ``state.db``."""
        last = last_entry(self._log_file)
        if last is not None and last != self._seen:
            self._state_own.put(OWN, _LAST, {"stamp": last.first, "digest": last.digest})
            self._seen = last

    def raise_high_water(self, txid: int) -> None:
        """Raise the high water before a record is put outside ``state.db``."""
        if txid > self._high:
            self._state_file.write("UPDATE high_water SET stamp=? WHERE stamp<?", (txid, txid))
            self._high = txid
