"""What Google Cloud hands to a function: a push of Pub/Sub's, or an event that wraps one."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from datetime import datetime
from typing import Any

from faaskeeper.providers.cloud.serving import Message


def message_of(body: bytes) -> Message:
    """The message of a request's body: a push, or a CloudEvent, binary (the same body) or structured.

    Raises ValueError where it is neither. A message whose body is None was not sent by us.
    """
    try:
        told = json.loads(body)
    except ValueError as error:
        raise ValueError(f"a body of {len(body)} bytes that is not JSON") from error
    if isinstance(told, dict) and "specversion" in told:
        told = told.get("data")
    message = told.get("message") if isinstance(told, dict) else None
    if not isinstance(message, dict):
        raise ValueError("neither a push of Pub/Sub's nor an event with one")
    identity = str(message.get("messageId") or message.get("message_id") or "")
    # without a key there is no order: each message is its own group
    group = str(message.get("orderingKey") or identity)
    return Message(identity, group, _data(message), _sent(message))


def _data(message: dict[str, Any]) -> bytes | None:
    data = message.get("data", "")
    if not isinstance(data, str):
        return None
    try:
        return b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return None


def _sent(message: dict[str, Any]) -> int:
    """Ms since 1970, 0: not told."""
    try:
        moment = datetime.fromisoformat(str(message.get("publishTime", "")).replace("Z", "+00:00"))
    except ValueError:
        return 0
    return int(moment.timestamp() * 1000)
