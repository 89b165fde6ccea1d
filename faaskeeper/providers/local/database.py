"""The files of an embedded service: ownership, checks, and the mapping of errors.

Two SQLite databases in one directory. ``log.db`` contains the log and is synced at every commit
(``synchronous=FULL``). ``state.db`` contains all state derived from the log, including mark and
checkpoint, and is not synced (``NORMAL``). A power cut may lose its last commits, but always a
suffix, because one write-ahead log orders them. So the mark never survives without what it covers.
"""

from __future__ import annotations

import fcntl
import json
import os
import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import IO, Any, TypeVar

from faaskeeper.core.errors import Denied, DriverError, Unavailable
from faaskeeper.core.forks import Inherited, keep, register

APPLICATION_ID = 0x464B5A31  # "FKZ1"
SCHEMA = 1
_CHECKED_BYTES = 8 * 1024 * 1024
_ELSEWHERE = ("SQLITE_BUSY", "SQLITE_LOCKED", "SQLITE_CANTOPEN", "SQLITE_IOERR", "SQLITE_PERM")
"""Errors of opening a file that say nothing about its contents."""
_FOLDED_PAGES = 2_000
"""Pages of a write-ahead log before a checkpoint, which takes two syncs.

Twice SQLite's default, because a write changes one more page of ``state.db``, for its high water.
"""
_SIDES = ("-wal", "-shm", "-journal")
_QUIET_S = 1.0
"""How long a fork waits for threads within SQLite."""
_T = TypeVar("_T")


class InUse(Denied):
    """Another process has the directory. ``shared``: others may join it, or soon."""

    def __init__(self, message: str, shared: bool) -> None:
        super().__init__(message)
        self.shared = shared


class Owner(Inherited):
    """Ownership of a directory by one process at a time, through a lock on a file in it."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._file: IO[str] | None = None

    def acquire(self, shared: bool = False) -> None:
        """Take ownership. Raises InUse, or Denied, with what to do.

        ``shared``: others may join this process, or the directory will be free soon.
        """
        path = f"{self._directory}/owner.lock"
        try:
            os.makedirs(self._directory, exist_ok=True)
            file = open(path, "a+", encoding="utf-8")  # noqa: SIM115
        except OSError as error:
            raise Denied(
                f"cannot use the directory {self._directory}: {error.strerror}; "
                "choose one with write permission"
            ) from error
        except ValueError as error:  # a NUL, or half a surrogate
            raise Denied(f"{self._directory!r} is not a valid directory name: {error}") from error
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder, joinable = _holder(file.read())
            file.close()
            raise InUse(
                f"the database in {self._directory} is in use by {holder}: end that process, "
                "or choose another deployment name or directory",
                joinable,
            ) from error
        self._file = file
        try:
            self._describe(shared)
        except OSError as error:
            with suppress(OSError):
                file.close()
            self._file = None
            raise Denied(f"cannot write to {path}: {error.strerror}; free some space") from error
        register(self)

    def share_not(self) -> None:
        """Tell others that they cannot join this process."""
        with suppress(OSError):
            self._describe(False)

    def _describe(self, shared: bool) -> None:
        """Write into the lock's file who has it, and whether others may join. Raises OSError."""
        if self._file is None:
            return
        self._file.truncate(0)
        started = time.strftime("%Y-%m-%d %H:%M:%S")
        command = " ".join([os.path.basename(sys.argv[0] or "python"), *sys.argv[1:3]])
        about = {"pid": os.getpid(), "command": command, "since": started, "shared": shared}
        json.dump(about, self._file)
        self._file.flush()

    def forked(self, why: str) -> None:
        """See :class:`faaskeeper.core.forks.Inherited`.

        Parent and child share the lock's open file: the lock remains when one of them closes it,
        and would outlive the parent if the child kept it open.
        """
        self.release()

    def release(self) -> None:
        """Release ownership. The file stays, because unlinking it would break the lock."""
        if self._file is not None:
            self._file.close()
            self._file = None


def _holder(text: str) -> tuple[str, bool]:
    """Who has a directory, and whether others may join; an owner that has just come says nothing yet."""
    try:
        holder = json.loads(text)
        name = f"process {holder['pid']} ({holder['command']}, since {holder['since']})"
        return name, bool(holder.get("shared"))
    except (ValueError, KeyError, TypeError):
        return "another process", True


def check_file(path: str) -> bool:
    """Whether the file exists; raises Denied unless it is intact and FaaSKeeper's. Reads only.

    A file without any set-up counts as absent: earlier versions left such a file if their first
    opening was interrupted.
    """
    try:
        with open(path, "rb") as file:
            head = file.read(100)
            size = os.fstat(file.fileno()).st_size
    except FileNotFoundError:
        return False
    except OSError as error:
        raise Denied(f"cannot read {path}: {error.strerror}") from error
    if not size:
        return False
    if len(head) < 100 or head[:16] != b"SQLite format 3\0":
        raise Denied(
            f"{path} is not a database, or its beginning is damaged; it was not changed: "
            "restore it from a backup, or choose another directory"
        )
    application = int.from_bytes(head[68:72], "big")
    if application != APPLICATION_ID:
        raise Denied(f"{path} is a database of another program; it was not changed: choose another directory")
    schema = int.from_bytes(head[60:64], "big")
    if not schema:
        return False
    if schema != SCHEMA:
        raise Denied(
            f"{path} was written by another version of FaaSKeeper (layout {schema}, this version supports "
            f"{SCHEMA}); it was not changed"
        )
    page = int.from_bytes(head[16:18], "big")
    page = 65536 if page == 1 else page
    if size < page or size % page:
        raise Denied(_damaged(path))
    return True


_INHERITED: set[tuple[int, int]] = set()
"""Files that were open at a fork. They stay open, so that their numbers are not reused."""


def _identity(path: str) -> tuple[int, int]:
    found = os.stat(path)
    return found.st_dev, found.st_ino


def _size(path: str) -> int:
    """Size of a file in bytes; 0 if there is none."""
    try:
        return os.stat(path).st_size
    except FileNotFoundError:
        return 0


def _remove(path: str) -> None:
    with suppress(FileNotFoundError):
        os.unlink(path)


def _quoted(path: str) -> str:
    """A path in an SQLite URI (https://www.sqlite.org/uri.html)."""
    return path.replace("%", "%25").replace("?", "%3f").replace("#", "%23")


def _damaged(path: str) -> str:
    return (
        f"{path} is damaged; it was not changed: restore the directory from a backup "
        "(both databases and the blobs, from the same moment)"
    )


class Look:
    """Read-only access to a file's tables, with the reading methods of :class:`Database`."""

    def __init__(self, connection: sqlite3.Connection, wrong: Callable[[sqlite3.Error], DriverError]) -> None:
        self._connection = connection
        self._wrong = wrong

    def read(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        """Run a reading statement; returns no rows if there is no such table. Raises DriverError."""
        try:
            return self._connection.execute(statement, parameters).fetchall()
        except sqlite3.Error as error:
            if isinstance(error, sqlite3.OperationalError) and "no such table" in str(error):
                return []
            raise self._wrong(error) from error

    def write(self, statement: str, parameters: Sequence[Any]) -> int:
        """Refuse."""
        raise AssertionError("read-only")

    def write_all(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Refuse."""
        raise AssertionError("read-only")


class _Pause:
    """Replaces a database's idle readers during a fork: lends none, and takes all back."""

    def __init__(self) -> None:
        self._back: deque[sqlite3.Connection] = deque()
        self._came = threading.Event()
        self._over = threading.Event()

    def __bool__(self) -> bool:
        return False

    def pop(self) -> sqlite3.Connection:
        """Wait until the pause ends; it lends no reader."""
        self._over.wait()
        raise IndexError

    def append(self, reader: sqlite3.Connection) -> None:
        """Take a reader back."""
        self._back.append(reader)
        self._came.set()

    def wait_for(self, readers: int, deadline: float) -> None:
        """Wait until this many readers are back."""
        while len(self._back) < readers and (left := deadline - time.monotonic()) > 0:
            self._came.wait(left)
            self._came.clear()

    def over(self) -> deque[sqlite3.Connection]:
        """End the pause; returns the idle readers."""
        self._over.set()
        return self._back


class _Joined(threading.local):
    """What a thread does in :meth:`Database.together`: whether it is there, and in a transaction."""

    active = False
    begun = False


class Database(Inherited):
    """An SQLite file: one connection for writes, under a lock, and several for reads."""

    def __init__(self, path: str | os.PathLike[str], *, synced: bool) -> None:
        self._path = os.fspath(path)
        self._synced = synced
        self._looked = False
        self._writer: sqlite3.Connection | None = None
        self._readers: deque[sqlite3.Connection] | _Pause = deque()
        self._all_readers: set[sqlite3.Connection] = set()
        self._why = f"{path} is closed"
        self._locked = False
        self._joined = _Joined()
        self.lock = threading.RLock()
        register(self)

    @contextmanager
    def look(self, *, served: bool = False) -> Iterator[Look | None]:
        """The file's contents before this process writes to it; None if there is no file.

        ``served``: another process writes to it meanwhile. Raises Denied that says what is wrong.
        It changes neither the file nor its write-ahead log: a normal connection would truncate the
        latter at the first damage, and merge it into the file on close.
        """
        if os.path.exists(self._path) and _identity(self._path) in _INHERITED:
            raise Denied(
                f"this process is a fork of one that had {self._path} open, and SQLite cannot open it safely "
                "here: open it in a newly started process (multiprocessing's 'spawn')"
            )
        if not check_file(self._path):
            yield None
            return
        logged = self._side("-wal")
        # Without a write-ahead log, the file is complete, and opening it creates no other files.
        logs = served or _size(logged)
        mode = "mode=ro" if logs else "mode=ro&immutable=1"
        connection = None
        try:
            address = f"file:{_quoted(os.path.join(os.getcwd(), self._path))}?{mode}"
            connection = sqlite3.connect(address, uri=True)
            if not served and _size(self._path) <= _CHECKED_BYTES:
                rows = connection.execute("PRAGMA quick_check(1)").fetchall()
                if rows != [("ok",)]:
                    raise Denied(_damaged(self._path))
            self._looked = True
            yield Look(connection, self._wrong)
        except sqlite3.Error as error:
            raise self._wrong(error) from error
        finally:
            if connection is not None:
                connection.close()

    def _wrong(self, error: sqlite3.Error) -> DriverError:
        """The kind of an error of a look: if nothing else is to blame, the file's contents are."""
        elsewhere = getattr(error, "sqlite_errorname", "").startswith(_ELSEWHERE)
        return self.mapped(error) if elsewhere else Denied(_damaged(self._path))

    def leftover(self) -> str | None:
        """A write-ahead log without its database file."""
        logged = self._side("-wal")
        return logged if not check_file(self._path) and _size(logged) else None

    def open(self, tables: Mapping[str, str], also: Sequence[str] = ()) -> None:
        """Open or create it. ``tables``: SQL schemas by name; ``also``: idempotent statements.

        A new file gets its name only when it is complete. Raises Denied that says what is wrong;
        then an existing file is unchanged.
        """
        statements = [f'CREATE TABLE IF NOT EXISTS "{table}" {schema}' for table, schema in tables.items()]
        statements.extend(also)
        if not self._looked:
            with self.look():
                pass
        if not check_file(self._path):
            self._create(statements)
        with self.errors():
            writer = self._connect(self._path)
            writer.execute("PRAGMA journal_mode=WAL")
            writer.execute(f"PRAGMA synchronous={'FULL' if self._synced else 'NORMAL'}")
            writer.execute(f"PRAGMA wal_autocheckpoint={_FOLDED_PAGES}")
            for statement in statements:
                writer.execute(statement)
            self._writer = writer

    def _create(self, statements: Sequence[str]) -> None:
        """Create the file under another name, complete and synced, then rename it."""
        made = self._side(".new")
        for ending in ("", *_SIDES):
            _remove(made + ending)
        with self.errors():
            connection = self._connect(made)
            try:
                connection.execute("PRAGMA synchronous=FULL")
                connection.execute(f"PRAGMA application_id={APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version={SCHEMA}")
                for statement in statements:
                    connection.execute(statement)
                if connection.execute("PRAGMA journal_mode=WAL").fetchone() != ("wal",):
                    directory = os.path.dirname(self._path)
                    raise Denied(f"the file system of {directory} does not support SQLite's WAL files")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            finally:
                connection.close()
        try:
            for ending in _SIDES:  # of an earlier file: they must not be read into the new one
                _remove(self._side(ending))
            os.replace(made, self._path)
            self._sync_directory()
        except OSError as error:
            raise Unavailable(f"cannot create {self._path}: {error.strerror}") from error

    def _side(self, ending: str) -> str:
        return self._path + ending

    def _connect(self, path: str) -> sqlite3.Connection:
        connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=10)
        connection.execute("PRAGMA cache_size=-4000")
        return connection

    def _sync_directory(self) -> None:
        handle = os.open(os.path.dirname(self._path), os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)

    def fork_begins(self) -> None:
        """Keep all threads out of SQLite: otherwise a child finds SQLite's locks held forever."""
        deadline = time.monotonic() + _QUIET_S
        self._locked = self.lock.acquire(timeout=_QUIET_S)
        idle, pause = self._readers, _Pause()
        self._readers = pause
        while idle:
            pause.append(idle.pop())
        pause.wait_for(len(self._all_readers), deadline)

    def fork_ends(self) -> None:
        pause = self._readers
        if isinstance(pause, _Pause):
            self._readers = pause.over()
        if self._locked:
            self._locked = False
            self.lock.release()

    def forked(self, why: str) -> None:
        """See :class:`faaskeeper.core.forks.Inherited`.

        Closing a connection would write to the files. SQLite also caches state per file, so a new
        connection in this process would use the state of the inherited ones.
        """
        keep(self._writer)
        keep(self._all_readers)
        if self._writer is not None and os.path.exists(self._path):
            _INHERITED.add(_identity(self._path))
        self._writer, self._readers, self._all_readers = None, deque(), set()
        self._why = f"{self._path}: {why}"
        self.lock = threading.RLock()

    def close(self) -> None:
        """Close all connections; this merges the write-ahead log into the file."""
        with self.lock:
            while self._readers:
                reader = self._readers.pop()
                self._all_readers.discard(reader)
                reader.close()
            if self._writer is not None:
                self._writer.close()
                self._writer = None

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Map SQLite's errors to core's kinds."""
        try:
            yield
        except sqlite3.Error as error:
            raise self.mapped(error) from error

    def mapped(self, error: sqlite3.Error) -> DriverError:
        """The kind of an SQLite error, with advice."""
        name = getattr(error, "sqlite_errorname", "") or ""
        if name == "SQLITE_FULL":
            return Denied(f"the disk is full: nothing was written to {self._path}; free some space")
        if name in ("SQLITE_CORRUPT", "SQLITE_NOTADB") or name.startswith("SQLITE_CORRUPT"):
            return Denied(_damaged(self._path))
        if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
            return Denied(f"cannot write to {self._path}: {error}; check the rights of its directory")
        if name.startswith("SQLITE_IOERR"):
            return Unavailable(f"cannot read or write {self._path}: {error}; check the disk and its quota")
        return Unavailable(f"{self._path}: {error}")

    def write(self, statement: str, parameters: Sequence[Any]) -> int:
        """Run a writing statement; returns the number of changed rows."""
        joined = self._joined
        with self.lock:
            writer = self._writer
            if writer is None:
                raise Unavailable(self._why)
            try:
                if joined.active and not writer.in_transaction:
                    writer.execute("BEGIN")
                    if not joined.begun:
                        joined.begun = True
                        self.lock.acquire()  # until the end of the transaction
                return writer.execute(statement, parameters).rowcount
            except sqlite3.IntegrityError:
                return 0
            except sqlite3.Error as error:
                raise self.mapped(error) from error

    @property
    def in_transaction(self) -> bool:
        """Whether this thread is in :meth:`together`."""
        return self._joined.active

    def write_all(self, statements: Iterable[tuple[str, Sequence[Any]]]) -> None:
        """Run writing statements with their parameters in a transaction: all of them or none."""
        with self.lock:
            writer = self._writer
            if writer is None:
                raise Unavailable(self._why)
            with self.errors():
                writer.execute("BEGIN")
                try:
                    for statement, parameters in statements:
                        writer.execute(statement, parameters)
                    writer.execute("COMMIT")
                except BaseException:
                    if writer.in_transaction:
                        writer.execute("ROLLBACK")
                    raise

    def read(self, statement: str, parameters: Sequence[Any]) -> list[Any]:
        """Run a reading statement on a connection of its own."""
        try:
            reader = self._readers.pop()
        except IndexError:
            if self._writer is None:
                raise Unavailable(self._why) from None
            with self.errors():
                reader = self._connect(self._path)
                reader.execute("PRAGMA query_only=1")
            self._all_readers.add(reader)
        try:
            rows = reader.execute(statement, parameters).fetchall()
        except BaseException as error:
            self._all_readers.discard(reader)
            reader.close()
            if isinstance(error, sqlite3.Error):
                raise self.mapped(error) from error
            raise
        self._readers.append(reader)
        return rows

    def together(self, calls: Sequence[Callable[[], _T]]) -> list[_T]:
        """Run calls that write to this file as one transaction: all of them or none.

        Calls that write nothing cost no transaction, and do not wait for one of another thread.
        """
        if self._writer is None:
            raise Unavailable(self._why)
        joined = self._joined
        if joined.active or len(calls) < 2:
            return [call() for call in calls]
        joined.active = True
        try:
            results = [call() for call in calls]
            if joined.begun:
                self._end("COMMIT")
            return results
        except BaseException:
            if joined.begun:
                self._end("ROLLBACK")
            raise
        finally:
            joined.active = False
            if joined.begun:
                joined.begun = False
                self.lock.release()

    def _end(self, how: str) -> None:
        """End this thread's transaction, unless SQLite has rolled it back because of an error."""
        writer = self._writer
        if writer is not None and writer.in_transaction:
            with self.errors():
                writer.execute(how)
