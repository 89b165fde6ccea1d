"""Resources with data, found and deleted by their names: what a stack leaves, or cannot delete."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from functools import partial
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from faaskeeper.deploy.aws.buckets import Buckets
from faaskeeper.deploy.deployment import Progress
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.clients import Aws

TABLE = "AWS::DynamoDB::Table"
BUCKET = "AWS::S3::Bucket"
QUEUE = "AWS::SQS::Queue"
LOGS = "AWS::Logs::LogGroup"
TAG = "faaskeeper"
"""The tag whose value is the deployment's name: every resource of a stack has it."""
_ABSENT = (
    "ResourceNotFoundException",
    "NoSuchBucket",
    "NoSuchTagSet",
    "AWS.SimpleQueueService.NonExistentQueue",
    "QueueDoesNotExist",
)
_POLL_S = 2.0
_POLLS = 300


class Left(NamedTuple):
    """A resource: its type and its own name."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


class Leftovers:
    """The resources of a deployment that hold data.

    ``partition``, ``account``: AWS' own names of where they are. ``pause``: waits this many seconds.
    """

    KINDS = (TABLE, BUCKET, QUEUE, LOGS)
    """The types that can be deleted here."""

    def __init__(
        self, aws: Aws, deployment: str, partition: str, account: str, pause: Callable[[float], None]
    ) -> None:
        self._aws = aws
        self._logs = f"arn:{partition}:logs:{aws.region}:{account}"
        self._deployment = deployment
        self._pause = pause
        self._buckets = Buckets(aws)

    def found(self, names: Iterable[Left], known: Collection[str] = ()) -> list[Left]:
        """Those that exist and belong to the deployment, by their tag.

        ``known``: names that do, as its stack listed them.
        """

        def belongs(left: Left) -> bool:
            handle = self._handle(left)
            if not handle:
                return False
            return left.name in known or self._tags(left, handle).get(TAG) == self._deployment

        asked = sorted(set(names))
        answers = self._aws.gather([partial(belongs, each) for each in asked])
        return [each for each, own in zip(asked, answers, strict=True) if own]

    def unprotect(self, tables: Iterable[str]) -> None:
        """Switch the protection from deletion off, of those of the tables that exist and have it."""
        for table in tables:
            found = self._table(table)
            if found is not None and found.get("DeletionProtectionEnabled"):
                self._aws.call(
                    f"table {table}",
                    self._dynamodb().update_table,
                    TableName=table,
                    DeletionProtectionEnabled=False,
                )
                self._until(table, "ACTIVE")

    def delete(self, left: Left, progress: Progress) -> None:
        """Delete a resource with what it holds, if it exists."""
        kind, name = left
        if kind == BUCKET:
            self._buckets.delete(name, progress)
            return
        if kind == TABLE:
            self.unprotect([name])
            self._asked(str(left), self._dynamodb().delete_table, TableName=name)
            self._until(name, "")
        elif kind == QUEUE:
            sqs = self._aws.client("sqs")
            url = self._url(name)
            if url:
                self._asked(str(left), sqs.delete_queue, QueueUrl=url)
        elif kind == LOGS:
            self._asked(str(left), self._aws.client("logs").delete_log_group, logGroupName=name)
        else:
            raise ProviderException(f"{left} has to be deleted by hand")
        progress(f"deleted {left}")

    # ---- looking -------------------------------------------------------------------------

    def _dynamodb(self) -> Any:
        return self._aws.client("dynamodb", read_timeout=30.0)

    def _asked(self, what: str, operation: Callable[..., Any], **parameters: Any) -> Any:
        """The answer; None if there is no such resource."""

        def ask(**given: Any) -> Any:
            try:
                return operation(**given)
            except ClientError as error:
                if error.response["Error"]["Code"] in _ABSENT:
                    return None
                raise

        return self._aws.call(what, ask, **parameters)

    def _table(self, name: str) -> Mapping[str, Any] | None:
        answer = self._asked(f"table {name}", self._dynamodb().describe_table, TableName=name)
        found: Mapping[str, Any] | None = answer and answer["Table"]
        return found

    def _until(self, table: str, status: str) -> None:
        """Wait until a table has a state; empty: until it is gone."""
        for _ in range(_POLLS):
            found = self._table(table)
            if (found or {}).get("TableStatus", "") == status:
                return
            self._pause(_POLL_S)
        raise ProviderException(f"the table {table} does not become {status.lower() or 'deleted'}")

    def _url(self, queue: str) -> str:
        found = self._asked(f"queue {queue}", self._aws.client("sqs").get_queue_url, QueueName=queue)
        return found["QueueUrl"] if found else ""

    def _handle(self, left: Left) -> str:
        """What its tags are asked by; empty: it does not exist."""
        kind, name = left
        if kind == TABLE:
            table = self._table(name)
            return "" if table is None or table["TableStatus"] == "DELETING" else str(table["TableArn"])
        if kind == BUCKET:
            return name if self._buckets.exists(name) else ""
        if kind == QUEUE:
            return self._url(name)
        arn = f"{self._logs}:log-group:{name}"
        logs = self._aws.client("logs")
        return arn if self._asked(str(left), logs.list_tags_for_resource, resourceArn=arn) else ""

    def _tags(self, left: Left, handle: str) -> dict[str, str]:
        """The tags of a resource."""
        what = str(left)
        if left.kind == TABLE:
            answer = self._asked(what, self._dynamodb().list_tags_of_resource, ResourceArn=handle)
            return _pairs(answer["Tags"] if answer else ())
        if left.kind == BUCKET:
            answer = self._asked(what, self._aws.client("s3").get_bucket_tagging, Bucket=handle)
            return _pairs(answer["TagSet"] if answer else ())
        if left.kind == QUEUE:
            answer = self._asked(what, self._aws.client("sqs").list_queue_tags, QueueUrl=handle)
            return dict((answer or {}).get("Tags", {}))
        logs = self._aws.client("logs")
        answer = self._asked(what, logs.list_tags_for_resource, resourceArn=handle)
        return dict((answer or {}).get("tags", {}))


def _pairs(tags: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {each["Key"]: each["Value"] for each in tags}
