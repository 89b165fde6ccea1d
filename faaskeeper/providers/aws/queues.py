"""Queues that ring functions: SQS (FIFO or standard), a table with its stream, and Lambda itself.

Message bodies are bytes; SQS carries text, so there they are base64. :mod:`faaskeeper.providers.aws.events`
decodes what a function is handed.
"""

from __future__ import annotations

import time
from base64 import b64encode
from collections.abc import Callable
from typing import Any
from uuid import uuid4

from faaskeeper.core.errors import TooLarge
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.tables import MAX_ITEM_BYTES, PARTITION, SORT, TTL

MAX_MESSAGE_BYTES = 1024 * 1024
"""Of SQS, as text."""
MAX_EVENT_BYTES = 256 * 1024
"""Of an asynchronous call of a function, at least."""
QUEUE_ITEM_S = 24 * 3600
"""How long an item of a queue's table stays; its stream shows it once, at once."""


def text_of(body: bytes) -> str:
    """A body as SQS carries it, which wants at least one character."""
    return b64encode(body).decode() or "="


def check_size(what: str, body: bytes, most: int) -> None:
    """Raise TooLarge where a message is over a queue's limit."""
    if len(body) > most:
        raise TooLarge(f"{what}: a message of {len(body)} bytes: at most {most} fit")


class SqsQueue:
    """An SQS queue; FIFO where its name ends so.

    Identities are this class' own: a client that sends a request again means it, since what came first may
    have been dropped. A try that botocore repeats has the same identity and comes once.
    """

    max_message_bytes = MAX_MESSAGE_BYTES // 4 * 3

    def __init__(self, aws: Aws, url: str, short: str) -> None:
        self._aws = aws
        self._url = url
        self._short = short
        self.ordered = url.endswith(".fifo")

    def send(self, group: str, identity: str, body: bytes) -> None:
        """See :class:`faaskeeper.core.drivers.queue.Queue`."""
        check_size(self._short, body, self.max_message_bytes)
        fifo = {"MessageGroupId": group, "MessageDeduplicationId": uuid4().hex} if self.ordered else {}
        self._aws.call(
            f"{self._short}.send",
            self._aws.client("sqs").send_message,
            QueueUrl=self._url,
            MessageBody=text_of(body),
            **fifo,
        )


class TableQueue:
    """A table whose stream rings the function: an item is a message. Costs nothing while nobody sends."""

    ordered = True
    max_message_bytes = MAX_ITEM_BYTES - 1024

    def __init__(self, aws: Aws, table: str, short: str, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._aws = aws
        self._table = table
        self._short = short
        self._clock = clock

    def send(self, group: str, identity: str, body: bytes) -> None:
        """See :class:`faaskeeper.core.drivers.queue.Queue`."""
        check_size(self._short, body, self.max_message_bytes)
        now = self._clock()
        item: dict[str, Any] = {
            PARTITION: {"S": group},
            SORT: {"S": f"{now:020d} {uuid4().hex}"},
            "body": {"B": body},
            TTL: {"N": str(now // 10**9 + QUEUE_ITEM_S)},
        }
        put = self._aws.client("dynamodb").put_item
        self._aws.call(f"{self._short}.send", put, TableName=self._table, Item=item)


class LambdaQueue:
    """Calls a function and does not wait for it; Lambda keeps the call, and repeats it when it fails."""

    ordered = False
    max_message_bytes = MAX_EVENT_BYTES // 4 * 3 - 64

    def __init__(self, aws: Aws, function: str, short: str) -> None:
        self._aws = aws
        self._function = function
        self._short = short

    def send(self, group: str, identity: str, body: bytes) -> None:
        """See :class:`faaskeeper.core.drivers.queue.Queue`."""
        check_size(self._short, body, self.max_message_bytes)
        self._aws.call(
            f"{self._short}.send",
            self._aws.client("lambda").invoke,
            FunctionName=self._function,
            InvocationType="Event",
            Payload=b'{"faaskeeper": "%s"}' % b64encode(body),
        )
