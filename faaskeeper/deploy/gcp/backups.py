"""Backups of a deployment on Google Cloud: reads of the database and the bucket as of a moment.

Nothing is made for it: Datastore answers reads as of an earlier time. Within the last hour that is
any time; before that, with point-in-time recovery, any whole minute of seven days. So the records
are read as of a time at or before the moment, and the log as of one at or after it. Folding the log
over the records leads to the moment itself.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from typing import Any

from faaskeeper.backup.driver import Progress, Source
from faaskeeper.config import Config
from faaskeeper.core.drivers.storage import Object
from faaskeeper.deploy.backups import CloudBackups, source_of
from faaskeeper.providers.gcp.clients import TRY_S, Gcp
from faaskeeper.providers.gcp.objects import GcsStore
from faaskeeper.providers.gcp.service import GcpService
from faaskeeper.providers.gcp.tables import DatastoreTable

MARGIN_MS = 2_000
"""How much the clocks of database and bucket may differ."""
EXACT_MS = 50 * 60 * 1000
"""Younger moments can be read as they are; older ones as whole minutes. Google's limit is an hour."""
_MINUTE_MS = 60_000
_TIMEOUT = (TRY_S, TRY_S)


class GcpBackups(CloudBackups[GcpService]):
    """Backups of a deployment on Google Cloud."""

    def service(self) -> GcpService:
        return GcpService(self._config)

    @contextmanager
    def past(self, moment: int, progress: Progress) -> Iterator[Source]:
        service = _Past(self._config, moment, int(time.time() * 1000))
        with closing(service.gcp):
            yield source_of(service, moment)


def read_times(moment: int, now: int) -> tuple[int, int | None]:
    """When to read the records and the log for a moment (all ms since 1970); None: as of now."""
    before, after = moment - MARGIN_MS, moment + MARGIN_MS
    if now - before >= EXACT_MS:
        before -= before % _MINUTE_MS
        after += -after % _MINUTE_MS
    return before, after if after < now else None


class _Past(GcpService):
    """A deployment as of a moment; ``now``: the time (ms since 1970)."""

    def __init__(self, config: Config, moment: int, now: int) -> None:
        self._moment = moment
        self._before, self._after = read_times(moment, now)
        super().__init__(config)

    def table(self, short: str) -> DatastoreTable:
        at = self._after if short == "log" else self._before
        past = None if at is None else _date(at)
        return DatastoreTable(self.gcp, self.names.database(short), short, past=past)

    def objects(self) -> GcsStore:
        bucket = self.text("data-bucket") or self.names.bucket(self.project)
        return Generations(self.gcp, bucket, self._moment)


class Generations(GcsStore):
    """The objects of a bucket as of a moment (ms since 1970).

    Data is never replaced under its name, so any generation of it will do. Records are replaced.
    """

    def __init__(self, gcp: Gcp, bucket: str, moment: int) -> None:
        super().__init__(gcp, bucket)
        self._client = gcp
        self._name = bucket
        self._moment = moment

    def get(self, key: str) -> Object | None:
        data = key.startswith("b/")
        if data and (found := super().get(key)) is not None:
            return found
        upto = _date(self._moment)

        def read() -> Object | None:
            rows: list[Any] = [
                blob
                for blob in self._client.storage().list_blobs(
                    self._name, prefix=key, versions=True, timeout=_TIMEOUT, retry=self._client.retry
                )
                if blob.name == key and (data or blob.time_created <= upto)
            ]
            if not rows:
                return None
            last = max(rows, key=lambda blob: int(blob.generation))
            if not data and last.time_deleted is not None and last.time_deleted <= upto:
                return None
            body = last.download_as_bytes(timeout=_TIMEOUT, retry=self._client.retry)
            return Object(body, str(last.generation))

        made: Object | None = self._client.call("objects.get", read)
        return made


def _date(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
