"""The dead-letter queues of a deployment on AWS."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

from botocore.exceptions import ClientError

from faaskeeper.core.errors import DriverError
from faaskeeper.deploy.deadletters import DeadLetter
from faaskeeper.providers.aws.events import decoded
from faaskeeper.providers.aws.service import AwsService

_HIDDEN_S = 30
_EMPTY_LOOKS = 3


class AwsDeadLetters:
    """The dead letters of all queues of a deployment."""

    def __init__(self, service: AwsService) -> None:
        self._service = service
        self._aws = service.aws
        self._sqs: Any = service.aws.client("sqs")

    def queues(self) -> dict[str, str]:
        """URLs of the queues that exist, by name."""
        name = self._service.names.deployment
        found: dict[str, str] = {}
        for short in ("worker-dead.fifo", "worker-dead", "distributor-dead.fifo", "dead-calls"):
            url = self._aws.call("dead letters", self._url, QueueName=f"{name}-{short}")
            if url:
                found[short] = url
        return found

    def _url(self, **parameters: str) -> str:
        try:
            return str(self._sqs.get_queue_url(**parameters)["QueueUrl"])
        except ClientError as error:
            if "NonExistentQueue" in str(error) or "QueueDoesNotExist" in str(error):
                return ""
            raise

    def counts(self) -> dict[str, int]:
        attribute = "ApproximateNumberOfMessages"
        return {
            name: int(
                self._aws.call(
                    "dead letters",
                    self._sqs.get_queue_attributes,
                    QueueUrl=url,
                    AttributeNames=[attribute],
                )["Attributes"][attribute]
            )
            for name, url in self.queues().items()
        }

    def _receive(self) -> Iterator[tuple[str, DeadLetter]]:
        """Each message with the URL of its queue.

        Receiving hides it from others for half a minute.
        """
        for name, url in self.queues().items():
            empty = 0
            while empty < _EMPTY_LOOKS:
                found = self._aws.call(
                    "dead letters",
                    self._sqs.receive_message,
                    QueueUrl=url,
                    MaxNumberOfMessages=10,
                    VisibilityTimeout=_HIDDEN_S,
                    AttributeNames=["All"],
                ).get("Messages", [])
                empty = 0 if found else empty + 1
                for each in found:
                    attributes = each.get("Attributes", {})
                    yield (
                        url,
                        DeadLetter(
                            name,
                            each["MessageId"],
                            each["ReceiptHandle"],
                            decoded(each["Body"]),
                            each["Body"],
                            int(attributes.get("SentTimestamp", 0)),
                            int(attributes.get("ApproximateReceiveCount", 0)),
                        ),
                    )

    def show(self) -> list[DeadLetter]:
        seen = list(self._receive())
        for url, letter in seen:
            self._aws.call(
                "dead letters",
                self._sqs.change_message_visibility,
                QueueUrl=url,
                ReceiptHandle=letter.receipt,
                VisibilityTimeout=0,
            )
        return [letter for _, letter in seen]

    def drop(self) -> int:
        return sum(self._delete(url, letter) for url, letter in self._receive())

    def redrive(self) -> tuple[int, int]:
        """Send dead letters again, in the order of each queue.

        Messages of a stream or an asynchronous call are kept: the log contains the work that they
        announce.
        """
        sent = left = 0
        targets: dict[str, str] = {}
        for url, letter in self._receive():
            if letter.queue not in targets:
                targets[letter.queue] = self._target(letter.queue)
            target = targets[letter.queue]
            if not target:
                left += 1
                continue
            fifo = {}
            if target.endswith(".fifo"):
                group = "writer" if letter.queue.startswith("worker") else "distributor"
                fifo = {"MessageGroupId": group, "MessageDeduplicationId": uuid4().hex}
            self._aws.call("redrive", self._sqs.send_message, QueueUrl=target, MessageBody=letter.raw, **fifo)
            self._delete(url, letter)
            sent += 1
        return sent, left

    def _target(self, queue: str) -> str:
        if queue == "dead-calls":
            return ""
        name = f"{self._service.names.deployment}-{queue.replace('-dead', '')}"
        url = self._aws.call("redrive", self._url, QueueName=name)
        if not url:
            raise DriverError(f"cannot send to {name}: there is no such queue")
        return str(url)

    def close(self) -> None:
        self._aws.close()

    def _delete(self, url: str, letter: DeadLetter) -> int:
        self._aws.call("dead letters", self._sqs.delete_message, QueueUrl=url, ReceiptHandle=letter.receipt)
        return 1
