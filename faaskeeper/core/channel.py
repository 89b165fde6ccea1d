"""What a provider implements to answer a client: :class:`Channel`.

A channel need not be trusted, nor reliable: messages carry a MAC under the session's secret, the
client asks again for what it was not told, and watch events reach it with its next read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Listener(Protocol):
    """A client's ear. ``address`` is what a service's :class:`Channel` delivers to."""

    address: str

    def close(self) -> None:
        """Stop listening; no message is handed over after this returns."""


Handler = Callable[[bytes], None]
"""Takes one message. Called from any thread, one call at a time; must not block for long."""


class Channel(Protocol):
    """Service side: tells clients things."""

    def deliver(self, address: str, message: bytes) -> bool:
        """Send one message; messages to one address arrive in the order they were delivered.

        Returns whether it was handed over: False when nobody listens there (any more). Raises
        nothing: a client that cannot be reached must not keep others from their answers.
        """


class ClientChannel(Protocol):
    """Client side: opens ears."""

    def listen(self, handler: Handler) -> Listener:
        """Begin to listen. Raises Unavailable or Denied."""
