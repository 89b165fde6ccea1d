"""Dead letters: messages that the functions failed to process too often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from faaskeeper.core import codec, trust
from faaskeeper.providers.cloud.envelopes import header_of


class DeadLetter(NamedTuple):
    """A dead letter. ``body`` None: not a message of FaaSKeeper. ``raw``: the queue's own form.

    ``receipt``: the queue's handle to delete it; ``sent``: ms since 1970; ``received``: number of
    deliveries.
    """

    queue: str
    identity: str
    receipt: str
    body: bytes | None
    raw: str | bytes
    sent: int
    received: int

    def summary(self) -> str:
        """The session and, of an unsealed message, the operations; without data and secrets."""
        body = self.body
        if body is None:
            return f"{len(self.raw)} characters, not a message of FaaSKeeper"
        header = header_of(body)
        if header is not None:
            session = header.label.partition(" ")[0]
            return (
                f"session {int(session):x}, sealed" if session.isdecimal() else f"{len(body)} bytes, sealed"
            )
        try:
            message = codec.to_message(trust.body(body))
        except (codec.Malformed, ValueError, IndexError, KeyError, TypeError):
            return f"{len(body)} bytes"
        names = [type(each.operation).__name__ for each in message.requests]
        cxids = [each.cxid for each in message.requests]
        span = f"cxid {min(cxids)} to {max(cxids)}" if cxids else "no request"
        return f"session {message.session:x}, {span}: {', '.join(sorted(set(names)))}"


class DeadLetters(Protocol):
    """The dead letters of a deployment. Each method may raise DriverError."""

    def counts(self) -> Mapping[str, int]:
        """Approximate number of messages by queue."""

    def show(self) -> list[DeadLetter]:
        """All messages; they stay in the queues."""

    def drop(self) -> int:
        """Delete all messages; returns their number."""

    def redrive(self) -> tuple[int, int]:
        """Send and delete the messages; returns the numbers of sent and kept messages."""

    def close(self) -> None:
        """Close all connections."""
