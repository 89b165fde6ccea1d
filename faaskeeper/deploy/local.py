"""Checks of an embedded service's directory, which may be in use."""

from __future__ import annotations

import os
import sqlite3
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.clocks import clock
from faaskeeper.config import Config
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.deploy.findings import Finding
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.providers.local.backups import LocalBackups
from faaskeeper.providers.local.database import InUse, Owner
from faaskeeper.providers.local.directories import directory_of

_LEAST_BYTES = 64 * 1024 * 1024
"""Free space below which the service may soon not continue: a log file before it is folded."""
_CHECKED_BYTES = 1 << 30
"""Larger files are not read whole: that would take minutes."""
_SLOW_MS = 100
_LAG_MS = 60_000


class LocalDoctor:
    """The checks, ordered such that the first failure is the cause."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._directory = Path(directory_of(config))
        self._held = ""
        self._shared = False

    def close(self) -> None:
        """Nothing is open between checks."""

    def findings(self) -> Iterator[Finding]:
        """The finding of each check, as soon as it is made."""
        if not self._directory.exists():
            yield Finding("directory", None, f"{self._directory} does not exist; the first use makes it")
            return
        checks: tuple[tuple[str, Callable[[], Finding]], ...] = (
            ("directory", self._rights),
            ("space", self._space),
            ("sync", self._sync),
            ("owner", self._owner),
            ("files", self._files),
            ("log", self._log),
            ("session", self._session),
        )
        for what, check in checks:
            try:
                yield check()
            except OSError as error:
                yield Finding(what, False, f"{error.filename or self._directory}: {error.strerror or error}")
            except (DriverError, StaleView, FaaSKeeperException) as error:
                yield Finding(what, False, str(error))
            except sqlite3.Error as error:
                yield Finding(what, False, f"{error}: restore it from a backup (fk restore)")

    def queue(self) -> Finding:
        """What waits in the worker queue: it is the owner's, and nobody else sees it."""
        return Finding("worker queue", None, "requests wait in the owner's process only")

    def _rights(self) -> Finding:
        mode = self._directory.stat().st_mode
        if not os.access(self._directory, os.R_OK | os.W_OK | os.X_OK):
            return Finding("directory", False, f"{self._directory}: this user may not read and write it")
        others = "; other users of this machine may read it (chmod 700)" if stat.S_IMODE(mode) & 0o077 else ""
        return Finding("directory", True, f"{self._directory}{others}")

    def _space(self) -> Finding:
        found = os.statvfs(self._directory)
        free = found.f_bavail * found.f_frsize
        shown = f"{free >> 20:,} MB are free"
        if free < _LEAST_BYTES:
            return Finding("space", False, f"{shown}: the service stops when the disk is full; make room")
        return Finding("space", True, shown)

    def _sync(self) -> Finding:
        """The time of an fsync, which each write of a client takes at least."""
        with tempfile.NamedTemporaryFile(dir=self._directory, prefix=".fk-doctor-") as file:
            file.write(b"x" * 4096)
            file.flush()
            began = time.perf_counter()
            os.fsync(file.fileno())
            took = (time.perf_counter() - began) * 1000
        slow = "" if took < _SLOW_MS else ": this disk is slow or busy, and so is each write"
        return Finding("sync", True, f"{took:.1f} ms{slow}")

    def _owner(self) -> Finding:
        owner = Owner(str(self._directory))
        try:
            owner.acquire()
        except InUse as error:
            self._held = str(error)
            self._shared = error.shared
            return Finding("owner", True, self._held.partition(": ")[0])
        owner.release()
        return Finding("owner", True, "no process uses it")

    def _files(self) -> Finding:
        sizes = []
        for name in ("log.db", "state.db"):
            path = self._directory / name
            if not path.exists():
                return Finding("files", None, f"there is no {name}; the first use makes it")
            size = path.stat().st_size
            sizes.append(f"{name} {size / (1 << 20):.1f} MB")
            if size > _CHECKED_BYTES:
                sizes[-1] += ", too large to be read whole"
                continue
            with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
                (found,) = connection.execute("PRAGMA quick_check(1)").fetchone()
            if found != "ok":
                return Finding("files", False, f"{path}: {found}: restore it from a backup (fk restore)")
        return Finding("files", True, "; ".join(sizes))

    def _log(self) -> Finding:
        """Whether user storage has all that the log has."""
        if not (self._directory / "log.db").exists():
            return Finding("log", None, "there is none yet")
        with LocalBackups(self._config).source() as source:
            entries, more = source.log.after(source.applied)
        if not entries:
            return Finding("log", True, f"applied up to its end, txid {source.applied}")
        age = clock() - entries[0].time
        many = f"{len(entries)}{'+' if more else ''} entries above the mark, the oldest {age // 1000} s old"
        if self._held and age > _LAG_MS:
            return Finding("log", False, f"{many}: the process that owns the directory makes no progress")
        return Finding("log", True, f"{many}; the next start applies them" if not self._held else many)

    def _session(self) -> Finding:
        began = time.perf_counter()
        client = FaaSKeeperClient(self._config)
        try:
            client.start()
            opened = (time.perf_counter() - began) * 1000
            began = time.perf_counter()
            client.create("/fk-doctor-", ephemeral=True, sequential=True)
            written = (time.perf_counter() - began) * 1000
        except FaaSKeeperException as error:
            if self._held and not self._shared:
                return Finding("session", None, "its owner alone can open one; 'fk health' asks a server")
            return Finding("session", False, str(error))
        finally:
            client.stop()
        return Finding("session", True, f"opened in {opened:.0f} ms, a write took {written:.0f} ms")
