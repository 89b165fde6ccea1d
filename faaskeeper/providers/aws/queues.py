"""Queues that trigger functions: SQS (FIFO or standard), a table's stream, and Lambda itself.

Bodies are bytes, in base64 where the queue carries text. :mod:`faaskeeper.providers.aws.events`
decodes the events that a function receives.
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
"""Limit of SQS, as text."""
MAX_EVENT_BYTES = 256 * 1024
"""Limit of an asynchronous invocation."""
QUEUE_ITEM_S = 24 * 3600
"""Lifetime of an item of a queue's table. Its stream shows each item once, immediately."""


def text_of(body: bytes) -> str:
    """Encode a body for SQS, which requires at least one character."""
    return b64encode(body).decode() or "="


def check_size(what: str, body: bytes, most: int) -> None:
    """Raise TooLarge if a message exceeds a queue's limit."""
    if len(body) > most:
        raise TooLarge(f"{what}: a message of {len(body)} bytes exceeds the limit of {most}")


class SqsQueue:
    """An SQS queue; FIFO if its name says so.

    The queue makes its own deduplication ids. A client that repeats a request must get through,
    because the first one may have been dropped. A retry by botocore has the same id and arrives
    once.
    """

    max_message_bytes = MAX_MESSAGE_BYTES // 4 * 3

    def __init__(self, aws: Aws, url: str, short: str) -> None:
        self._aws = aws
        self._url = url
        self._short = short
        self.ordered = url.endswith(".fifo")

    def send(self, group: str, identity: str, body: bytes) -> None:
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
    """A table whose stream triggers the function; an item is a message. Free of cost while idle."""

    ordered = True
    max_message_bytes = MAX_ITEM_BYTES - 1024

    def __init__(self, aws: Aws, table: str, short: str, *, clock: Callable[[], int] = time.time_ns) -> None:
        self._aws = aws
        self._table = table
        self._short = short
        self._clock = clock

    def send(self, group: str, identity: str, body: bytes) -> None:
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
    """Invokes a function asynchronously.

    Lambda queues the invocation and repeats it after a failure.
    """

    ordered = False
    max_message_bytes = MAX_EVENT_BYTES // 4 * 3 - 64

    def __init__(self, aws: Aws, function: str, short: str) -> None:
        self._aws = aws
        self._function = function
        self._short = short

    def send(self, group: str, identity: str, body: bytes) -> None:
        check_size(self._short, body, self.max_message_bytes)
        self._aws.call(
            f"{self._short}.send",
            self._aws.client("lambda").invoke,
            FunctionName=self._function,
            InvocationType="Event",
            Payload=b'{"faaskeeper": "%s"}' % b64encode(body),
        )
