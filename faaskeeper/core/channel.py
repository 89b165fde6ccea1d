"""What a provider implements to answer a client: :class:`Channel`.

A channel need not be trusted, nor reliable: messages carry a MAC under the session's secret, the
client asks again for what it was not told, and watch events reach it with its next read.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

from faaskeeper.core.requests import Reply

_log = logging.getLogger(__name__)


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


def deliver(channel: Channel, address: str, message: bytes) -> bool:
    """Deliver a message. What a channel raises after all is logged: an address is its client's to choose."""
    try:
        return channel.deliver(address, message)
    except Exception:
        _log.exception("the client at %s could not be told", address)
        return False


class ClientChannel(Protocol):
    """Client side: opens ears."""

    def listen(self, handler: Handler) -> Listener:
        """Begin to listen. Raises Unavailable or Denied."""


class DirectChannel(Protocol):
    """Service side, to listeners in this very process: what they are told is neither encoded nor signed.

    Some are told *early*, as soon as a write is in the log, and promise that nobody can read user storage
    before the writer has put it there: whoever runs the writer in the thread that it reads in keeps that by
    itself, others wait for :meth:`settled`. Others promise nothing and are told when it is there.
    """

    def accepts_early(self, address: str) -> bool:
        """Whether somebody listens at the address to be told early."""

    def deliver_early(self, address: str, reply: Reply) -> bool:
        """Hand a reply over early; False where nobody listens so at the address."""

    def deliver_late(self, address: str, reply: Reply) -> bool:
        """Hand over a reply that is in user storage; False where nobody listens for that at the address."""

    def settled(self) -> None:
        """What was told is in user storage."""
