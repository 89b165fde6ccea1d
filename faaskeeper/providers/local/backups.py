"""Backups of the embedded service: of its files, while another process may serve them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from faaskeeper.backup.driver import Progress, Source, Target
from faaskeeper.config import Config, StorageType
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.drivers.storage import ObjectStore, in_turn
from faaskeeper.core.errors import Denied
from faaskeeper.core.log import Log
from faaskeeper.core.records import ObjectRecords, Records, TableRecords, bootstrap
from faaskeeper.providers.local.database import Database, Look, Owner
from faaskeeper.providers.local.directories import directory_of
from faaskeeper.providers.local.matching import check
from faaskeeper.providers.local.objects import DirectoryStore
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.providers.local.tables import NumberedTable, SqliteTable
from faaskeeper.providers.memory import MemoryTable


class LocalBackups:
    """Backups of an embedded service's directory, which may be in use."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._directory = directory_of(config)

    @contextmanager
    def source(self) -> Iterator[Source]:
        """The directory as it is, whether or not a process serves it."""
        with self._files() as (log, state):
            records, blobs = self._stores(log, state)
            checkpoints = Checkpoints(SqliteTable(state, "checkpoint"), expiring=False)
            checkpoints.header()  # raises if it is being restored
            applied = checkpoints.applied()
            yield Source(self._name, Log(NumberedTable(log, "log")), records, blobs, applied)

    @contextmanager
    def past(self, moment: int, progress: Progress) -> Iterator[Source]:
        """The tree made from the log, as long as the log has its beginning."""
        with self._files() as (log, state):
            _, blobs = self._stores(log, state)
            kept = Log(NumberedTable(log, "log"))
            first = log.read('SELECT "key" FROM "log" ORDER BY "key" LIMIT 1', ())
            if first and first[0][0] > 1:
                raise Denied(
                    f"the log in {self._directory} begins at transaction {first[0][0]}: it is kept for seven "
                    "days. Give a backup from before that moment, too ('--from FILE')"
                )
            records = TableRecords(MemoryTable())
            bootstrap(records)
            yield Source(self._name, kept, records, blobs, 0, moment)

    def exists(self) -> bool:
        """Whether the directory has a service's files."""
        return os.path.exists(f"{self._directory}/log.db")

    @contextmanager
    def target(self) -> Iterator[Target]:
        """The directory, which this process then owns; made if there is none."""
        service = EmbeddedService(self._config, self._directory, beat=False, functions=False)
        try:
            yield Target(self._name, service.deployment, alone=True)
        finally:
            service.stop()

    @property
    def _name(self) -> str:
        return self._directory

    @contextmanager
    def _files(self) -> Iterator[tuple[Look, Look]]:
        """Both databases, for reading. If no process owns the directory, this one does meanwhile."""
        directory = self._directory
        files = [f"{directory}/log.db", f"{directory}/state.db"]
        if not os.path.exists(files[0]):
            raise Denied(f"there is no embedded service in {directory}: nothing to back up")
        databases = [Database(files[0], synced=True), Database(files[1], synced=False)]
        owner = Owner(directory)
        with ExitStack() as stack:
            stack.callback(owner.release)
            served = not _acquired(owner)
            if not served:
                check(directory, *databases)
            looks = [stack.enter_context(each.look(served=served)) for each in databases]
            log, state = looks
            if log is None or state is None:
                raise Denied(f"the service in {directory} was never started, or a file is missing")
            yield log, state

    def _stores(self, log: Look, state: Look) -> tuple[Records, ObjectStore | None]:
        """Records and blobs, in the layout that the directory has."""
        settings = SqliteTable(log, "deployment").get("deployment", "settings")
        layout = StorageType(str(settings["user-storage"])) if settings else StorageType.KEY_VALUE
        if layout is StorageType.KEY_VALUE:
            return TableRecords(SqliteTable(state, "records")), None
        objects = DirectoryStore(f"{self._directory}/objects")
        if layout is StorageType.PERSISTENT:
            return ObjectRecords(objects, in_turn), objects
        return TableRecords(SqliteTable(state, "records")), objects


def _acquired(owner: Owner) -> bool:
    try:
        owner.acquire()
    except Denied:
        return False
    return True
