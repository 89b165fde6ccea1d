"""Messages that the functions gave up, as people are told of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from faaskeeper.core import codec, trust


class Letter(NamedTuple):
    """A message that was given up. ``body`` None: it is not one of ours. ``raw``: as the queue has it.

    ``sent``: ms since 1970; ``received``: how often it was tried.
    """

    queue: str
    identity: str
    receipt: str
    body: bytes | None
    raw: str | bytes
    sent: int
    received: int

    def about(self) -> str:
        """What it is, without a word of data or secrets."""
        raw = self.body
        if raw is None:
            return f"{len(self.raw)} characters, not a message of ours"
        try:
            message = codec.to_message(trust.body(raw))
        except (codec.Malformed, ValueError, IndexError, KeyError, TypeError):
            return f"{len(raw)} bytes"
        names = [type(each.operation).__name__ for each in message.requests]
        cxids = [each.cxid for each in message.requests]
        span = f"cxid {min(cxids)} to {max(cxids)}" if cxids else "no request"
        return f"session {message.session:x}, {span}: {', '.join(sorted(set(names)))}"


class Letters(Protocol):
    """The dead letters of a deployment."""

    def counts(self) -> Mapping[str, int]:
        """How many there are, about, by queue."""

    def show(self) -> list[Letter]:
        """All of them; they can be seen again at once."""

    def drop(self) -> int:
        """Delete all of them; returns how many."""

    def redrive(self) -> tuple[int, int]:
        """Send them again; returns how many, and how many were left."""
