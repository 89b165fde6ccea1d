"""Messages between a session and the service, signed with the session's secret."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faaskeeper.core import codec, logs, trust
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.requests import Message, Notification, Reply

_log = logs.logger(__name__)


def send(queue: Queue, message: Message, secret: bytes | None) -> None:
    """Sign a message and send it to the writer. Raises DriverError.

    ``secret``: None sends it unsigned, as an object, to a writer in this process.
    """
    body: Any = message
    if secret is not None:
        body = trust.sign(secret, codec.message(message))
    queue.send("writer", f"{message.session} {message.incarnation}", body)


def verified(
    signed: bytes, secret_of: Callable[[Reply | Notification], bytes | None]
) -> Reply | Notification | None:
    """Decode a message from the channel; None unless its sender knew the session's secret.

    ``secret_of`` returns the secret that must have signed it, or None if no session of this process
    is its receiver.
    """
    try:
        message = codec.to_delivery(trust.body(signed))
        secret = secret_of(message)
        if secret is None:
            return None
        trust.verify(secret, signed)
    except (trust.Forged, codec.Malformed) as error:
        _log.warning("dropped a message: %s", error)
        return None
    return message
