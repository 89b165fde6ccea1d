"""Requests of Google Cloud as messages: a Pub/Sub push, or an event that wraps one."""

from __future__ import annotations

import binascii
import json
from base64 import b64decode
from datetime import datetime
from typing import Any

from faaskeeper.providers.cloud.serving import Message


def message_of(body: bytes) -> Message:
    """Decode a request body: a push, or a CloudEvent, binary (the same body) or structured.

    Raises ValueError for other bodies. A message with a body of None was not sent by FaaSKeeper.
    """
    try:
        content = json.loads(body)
    except ValueError as error:
        raise ValueError(f"the body of {len(body)} bytes is not JSON") from error
    if isinstance(content, dict) and "specversion" in content:
        content = content.get("data")
    message = content.get("message") if isinstance(content, dict) else None
    if not isinstance(message, dict):
        raise ValueError("the body is neither a Pub/Sub push nor an event with one")
    identity = str(message.get("messageId") or message.get("message_id") or "")
    # without an ordering key, each message is its own group
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
    """Milliseconds since 1970; 0: unknown."""
    try:
        moment = datetime.fromisoformat(str(message.get("publishTime", "")).replace("Z", "+00:00"))
    except ValueError:
        return 0
    return int(moment.timestamp() * 1000)
