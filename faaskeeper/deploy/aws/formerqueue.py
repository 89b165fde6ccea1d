"""The worker queue from before a change of ``worker-queue``: it stays until nobody needs it.

Clients with the configuration from before send to it, and requests wait in it. The template keeps it,
with a source for the writer, as long as its parameter ``FormerWorkerQueue`` names it.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

from botocore.exceptions import ClientError

from faaskeeper.core.errors import Denied
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.clients import Aws

NONE = ""
"""The parameter's value without such a queue."""
QUIET_S = 3600
"""So long nobody may have sent to a queue before it can go."""
KINDS = {"sqs": "worker.fifo", "sqs-unordered": "worker", "dynamodb": "worker-queue"}
"""By kind of queue, the end of its name."""
_WAITING = (
    "ApproximateNumberOfMessages",
    "ApproximateNumberOfMessagesNotVisible",
    "ApproximateNumberOfMessagesDelayed",
)


class Use(NamedTuple):
    """How a queue is used: requests that wait, and messages sent within :data:`QUIET_S`.

    ``waiting`` None: not available for a table, whose stream shows each item at once. ``sent``
    None: the metric may not be read.
    """

    waiting: int | None
    sent: float | None

    @property
    def over(self) -> bool:
        """Whether it can be removed without losing a request."""
        return not self.waiting and self.sent is not None and not self.sent

    def __str__(self) -> str:
        parts = [] if self.waiting is None else [f"{self.waiting} requests wait"]
        minutes = QUIET_S // 60
        if self.sent is None:
            parts.append(f"whether any were sent in the last {minutes} minutes cannot be read")
        else:
            parts.append(f"{self.sent:.0f} were sent in the last {minutes} minutes")
        return ", ".join(parts)


def use(aws: Aws, deployment: str, kind: str) -> Use | None:
    """How the worker queue of a kind is used; None if it does not exist.

    Raises Denied if its attributes may not be read.
    """
    name = f"{deployment}-{KINDS[kind]}"
    if kind == "dynamodb":
        sent = _sent(aws, "AWS/DynamoDB", "ConsumedWriteCapacityUnits", "TableName", name)
        return Use(None, sent)
    sqs = aws.client("sqs")

    def look(**parameters: Any) -> Any:
        try:
            url = sqs.get_queue_url(**parameters)["QueueUrl"]
            return sqs.get_queue_attributes(QueueUrl=url, AttributeNames=list(_WAITING))["Attributes"]
        except ClientError as error:
            if "NonExistentQueue" in str(error) or "QueueDoesNotExist" in str(error):
                return None
            raise

    found = aws.call(f"queue {name}", look, QueueName=name)
    if found is None:
        return None
    waiting = sum(int(found.get(each, 0)) for each in _WAITING)
    return Use(waiting, _sent(aws, "AWS/SQS", "NumberOfMessagesSent", "QueueName", name))


def _sent(aws: Aws, namespace: str, metric: str, dimension: str, name: str) -> float | None:
    now = time.time()
    try:
        answer = aws.call(
            f"metrics of {name}",
            aws.client("cloudwatch").get_metric_statistics,
            Namespace=namespace,
            MetricName=metric,
            Dimensions=[{"Name": dimension, "Value": name}],
            StartTime=now - QUIET_S,
            EndTime=now,
            Period=QUIET_S,
            Statistics=["Sum"],
        )
    except Denied:
        return None
    return float(sum(each["Sum"] for each in answer["Datapoints"]))


def former(aws: Aws, deployment: str, before: str, older: str, wanted: str) -> tuple[str, str]:
    """The parameter ``FormerWorkerQueue`` of the next deployment, and a line that explains it.

    ``before``, ``older``: the stack's worker queue and former worker queue; ``wanted``: the
    worker queue to deploy. Raises ProviderException if a third queue would be needed.
    """
    older = older if older not in (NONE, wanted) else ""
    left = use(aws, deployment, older) if older else None
    gone = left is None or left.over
    if before in (NONE, wanted):
        if not older:
            return NONE, ""
        if gone:
            return NONE, f"the former worker queue ({older}) is empty and unused: it goes"
        return older, f"the former worker queue ({older}) stays: {left}"
    if not gone:
        raise ProviderException(
            f"worker-queue cannot become {wanted!r} yet: the former one ({older}) is still needed ({left}). "
            "Give all clients the present configuration, and deploy when 'fk doctor' says that it can go"
        )
    return before, f"the worker queue from before ({before}) stays until it is empty and unused"
