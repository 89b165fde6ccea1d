"""Dead letters: messages that the functions failed to handle too often."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from faaskeeper.core import codec, trust


class DeadLetter(NamedTuple):
    """A message that was given up. ``body`` None: it is not one of ours. ``raw``: as the queue has it.

    ``receipt``: by which the queue deletes it; ``sent``: ms since 1970; ``received``: number of deliveries.
    """

    queue: str
    identity: str
    receipt: str
    body: bytes | None
    raw: str | bytes
    sent: int
    received: int

    def summary(self) -> str:
        """Its session and operations, without data or secrets."""
        body = self.body
        if body is None:
            return f"{len(self.raw)} characters, not a message of ours"
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
        """The approximate number of messages by queue."""

    def show(self) -> list[DeadLetter]:
        """All of them, which stay where they are."""

    def drop(self) -> int:
        """Delete all of them; returns how many."""

    def redrive(self) -> tuple[int, int]:
        """Send them again, and delete them; returns how many were sent, and how many were left."""

    def close(self) -> None:
        """Close all connections."""
