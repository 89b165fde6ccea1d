"""Lambda events as messages: batches of SQS and of a table's stream, and direct invocations."""

from __future__ import annotations

import binascii
from base64 import b64decode
from collections.abc import Mapping
from typing import Any

from faaskeeper.providers.cloud.serving import Message


def messages_of(event: Mapping[str, Any]) -> list[Message]:
    """The messages of an event, in order. A body of None was not sent by FaaSKeeper."""
    if "faaskeeper" in event:
        return [Message("", "", decoded(str(event["faaskeeper"])), 0)]
    return [made for record in event["Records"] if (made := _message(record)) is not None]


def _message(record: Mapping[str, Any]) -> Message | None:
    source = record.get("eventSource")
    if source == "aws:sqs":
        attributes = record.get("attributes", {})
        # a standard queue is unordered: each message is its own group
        group = str(attributes.get("MessageGroupId", record["messageId"]))
        return Message(
            str(record["messageId"]), group, decoded(record["body"]), int(attributes.get("SentTimestamp", 0))
        )
    if source == "aws:dynamodb":
        change = record["dynamodb"]
        if record["eventName"] != "INSERT":
            return None  # DynamoDB's own deletion of an expired item
        body = change.get("NewImage", {}).get("body", {}).get("B")
        sent = int(float(change.get("ApproximateCreationDateTime", 0)) * 1000)
        return Message(str(change["SequenceNumber"]), "stream", None if body is None else decoded(body), sent)
    raise ValueError(f"a record of {source!r}: this function handles SQS and DynamoDB streams")


def decoded(body: str) -> bytes | None:
    """Decode the output of :func:`faaskeeper.providers.aws.queues.text_of`, or return None."""
    if body == "=":
        return b""  # SQS has no empty messages
    try:
        return b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        return None


def failures(messages: list[Message]) -> dict[str, Any]:
    """The response that returns exactly these messages to the queue."""
    return {"batchItemFailures": [{"itemIdentifier": each.identity} for each in messages]}
