"""Backups of a deployment on AWS: its tables restored to a moment, and its objects' versions.

DynamoDB restores a table into a new one, here under a name of the moment, and to a second. The
three tables that matter are restored to moments two seconds apart: the mark no later than the
records, and these no later than the log, whatever the tables' clocks differ by. Reading then takes
what they have to one transaction. The new tables are deleted afterwards.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Any

from botocore.exceptions import ClientError

from faaskeeper.backup.driver import Progress, Source
from faaskeeper.config import Config
from faaskeeper.core.drivers.storage import Object
from faaskeeper.core.errors import Denied, DriverError, Throttled, Unavailable
from faaskeeper.deploy.backups import CloudBackups, source_of
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.objects import S3Store
from faaskeeper.providers.aws.service import AwsService
from faaskeeper.providers.aws.tables import DynamoTable

MARGIN_MS = 2_000
_OFFSETS = {"checkpoint": -MARGIN_MS, "records": 0, "log": MARGIN_MS}
"""When each table is restored to, in ms from the moment."""
_POLL_S = 10.0
_POLLS = 8640
"""A day: large tables take hours."""
_DELETED = ("ResourceNotFoundException", "TableNotFoundException")


class AwsBackups(CloudBackups[AwsService]):
    """``pause``: waits this many seconds between two polls."""

    def __init__(self, config: Config, pause: Callable[[float], None] = time.sleep) -> None:
        super().__init__(config)
        self._pause = pause

    def service(self) -> AwsService:
        return AwsService(self._config)

    @contextmanager
    def past(self, moment: int, progress: Progress) -> Iterator[Source]:
        service = _Past(self._config, moment)
        with closing(service.aws):
            tables = _Tables(service, moment, progress, self._pause)
            tables.check()
            try:
                tables.restore()
                yield source_of(service, moment)
            finally:
                tables.delete()


class _Past(AwsService):
    """A deployment whose tables are those restored to a moment (ms since 1970)."""

    def __init__(self, config: Config, moment: int) -> None:
        self.moment = moment
        super().__init__(config)

    def restored(self, short: str) -> str:
        """Name of a restored table."""
        return f"{self.names.table(short)}-at-{self.moment // 1000}"

    def table(self, short: str) -> DynamoTable:
        name = self.restored(short) if short in _OFFSETS else self.names.table(short)
        return DynamoTable(self.aws, name, short, clock=self.seconds)

    def objects(self) -> S3Store:
        bucket = self.text("data-bucket", f"user-storage {self.config.user_storage.value!r}")
        return _Versions(self.aws, bucket, self.moment)


class _Versions(S3Store):
    """The objects of a bucket as of a moment (ms since 1970).

    Data is never replaced under its name, so any version of it will do, and the last one is wanted
    only if it was deleted. Records are replaced.
    """

    def __init__(self, aws: Aws, bucket: str, moment: int) -> None:
        super().__init__(aws, bucket)
        self._aws_client = aws
        self._name = bucket
        self._moment = moment

    def get(self, key: str) -> Object | None:
        data = key.startswith("b/")
        if data and (found := super().get(key)) is not None:
            return found
        version = self._version(key, deleted=data)
        if version is None:
            return None

        def read(**parameters: Any) -> Object:
            found = self._aws_client.client("s3").get_object(**parameters)
            with found["Body"] as body:
                return Object(body.read(), found["ETag"])

        made: Object = self._aws_client.call(
            "objects.get", read, Bucket=self._name, Key=key, VersionId=version
        )
        return made

    def _version(self, key: str, *, deleted: bool) -> str | None:
        """The version at the moment; None: there was none. ``deleted``: the last one in any case."""
        s3 = self._aws_client.client("s3")
        found: list[tuple[datetime, str]] = []
        asked: dict[str, str] = {}
        while True:
            page = self._aws_client.call(
                "objects.versions", s3.list_object_versions, Bucket=self._name, Prefix=key, **asked
            )
            rows = [(each, each["VersionId"]) for each in page.get("Versions", ())]
            rows += [(each, "") for each in page.get("DeleteMarkers", ()) if not deleted]
            found += [(each["LastModified"], version) for each, version in rows if each["Key"] == key]
            others = any(each["Key"] != key for each, _ in rows)
            if not page.get("IsTruncated") or others:  # keys come in order
                break
            asked = {"KeyMarker": page["NextKeyMarker"], "VersionIdMarker": page["NextVersionIdMarker"]}
        upto = _date(self._moment)
        some = [each for each in found if deleted or each[0] <= upto]
        return max(some, key=lambda each: each[0])[1] or None if some else None


class _Tables:
    """The restored tables of a moment."""

    def __init__(
        self, service: _Past, moment: int, progress: Progress, pause: Callable[[float], None]
    ) -> None:
        self._service = service
        self._aws = service.aws
        self._moment = moment
        self._progress = progress
        self._pause = pause

    def _call(self, operation: str, **parameters: Any) -> Any:
        method = getattr(self._aws.client("dynamodb"), operation)
        return self._aws.call(f"dynamodb {operation}", method, **parameters)

    def check(self) -> None:
        """Raise Denied if a table cannot be restored to the moment."""
        for short, offset in _OFFSETS.items():
            name = self._service.names.table(short)
            found = self._call("describe_continuous_backups", TableName=name)
            recovery = found["ContinuousBackupsDescription"].get("PointInTimeRecoveryDescription", {})
            if recovery.get("PointInTimeRecoveryStatus") != "ENABLED":
                raise Denied(
                    f"the table {name} has no point-in-time recovery: restore a backup ('--from FILE')"
                )
            earliest, latest = recovery["EarliestRestorableDateTime"], recovery["LatestRestorableDateTime"]
            if not earliest <= _date(self._moment + offset) <= latest:
                first, last = (each.astimezone(UTC).isoformat() for each in (earliest, latest))
                raise Denied(
                    f"the table {name} can be restored to moments from {first} to {last}, and "
                    f"{MARGIN_MS // 1000} s around the chosen one must be within: choose another"
                )

    def restore(self) -> None:
        """Restore the tables, unless an interrupted command did, and wait for them."""
        for short, offset in _OFFSETS.items():
            self._begin(short, _date(self._moment + offset))
        for short in _OFFSETS:
            name = self._service.restored(short)
            self._progress(f"waiting for the table {name}")
            self._wait(name)

    def _begin(self, short: str, at: datetime) -> None:
        source, target = self._service.names.table(short), self._service.restored(short)

        def begin(**parameters: Any) -> None:
            try:
                self._aws.client("dynamodb").restore_table_to_point_in_time(**parameters)
            except ClientError as error:
                if error.response["Error"]["Code"] not in (
                    "TableAlreadyExistsException",
                    "TableInUseException",
                ):
                    raise

        self._progress(f"restoring {source} to {at.isoformat()} as {target}")
        self._aws.call(
            "dynamodb restore_table_to_point_in_time",
            begin,
            SourceTableName=source,
            TargetTableName=target,
            RestoreDateTime=at,
            BillingModeOverride="PAY_PER_REQUEST",
        )

    def _wait(self, name: str) -> None:
        for _ in range(_POLLS):
            try:
                if self._call("describe_table", TableName=name)["Table"]["TableStatus"] == "ACTIVE":
                    return
            except (Throttled, Unavailable):
                pass  # it is asked again
            self._pause(_POLL_S)
        raise Unavailable(f"the table {name} is not restored after a day: repeat the command to wait on")

    def delete(self) -> None:
        """Delete the restored tables that exist."""
        left: list[str] = []
        for short in _OFFSETS:
            name = self._service.restored(short)
            try:
                self._delete(name)
            except DriverError as error:
                left.append(name)
                self._progress(f"cannot delete {name}: {error}")
        if left:
            self._progress(f"delete these tables, which cost money: {', '.join(left)}")

    def _delete(self, name: str) -> None:
        def remove(**parameters: Any) -> bool:
            try:
                self._aws.client("dynamodb").delete_table(**parameters)
            except ClientError as error:
                if error.response["Error"]["Code"] in _DELETED:
                    return True
                if error.response["Error"]["Code"] == "ResourceInUseException":
                    return False  # still being restored
                raise
            return True

        gone = partial(self._aws.call, "dynamodb delete_table", remove, TableName=name)
        while not gone():
            self._pause(_POLL_S)


def _date(ms: int) -> datetime:
    return datetime.fromtimestamp(ms / 1000, UTC)
