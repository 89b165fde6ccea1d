"""The protocols through which a provider answers clients: :class:`Channel` and others.

A channel need not be trusted or reliable. Messages carry a MAC under the session's secret, the
client asks again for answers that it did not get, and it finds watch events with its next read.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from faaskeeper.core import logs
from faaskeeper.core.requests import Reply

_log = logs.logger(__name__)


class Listener(Protocol):
    """A client's end of a channel. A service's :class:`Channel` delivers to ``address``."""

    address: str

    def close(self) -> None:
        """Stop listening; the handler gets no message after this returns."""


Handler = Callable[[bytes], None]
"""Takes one message. Called from any thread, one call at a time. It must not block for long."""


class Channel(Protocol):
    """The service's side: delivers messages to clients."""

    def deliver(self, address: str, message: bytes) -> bool:
        """Send one message. Messages to one address arrive in the order of delivery.

        Returns whether the message was handed over: False if there is no listener at the address
        (any more). Raises nothing: a client that cannot be reached must not delay the answers of
        others.
        """


def deliver(channel: Channel, address: str, message: bytes) -> bool:
    """Deliver a message; log what a channel raises nevertheless, since clients choose addresses."""
    try:
        return channel.deliver(address, message)
    except Exception:
        _log.exception("could not deliver a message to the client at %s", address)
        return False


class ClientChannel(Protocol):
    """The client's side: creates listeners."""

    def listen(self, handler: Handler) -> Listener:
        """Begin to listen. Raises Unavailable or Denied."""


class DirectChannel(Protocol):
    """The service's side, to listeners in this process: replies are neither encoded nor signed.

    A listener is *early* or *late*. An early one gets a reply as soon as the write is in the log.
    It promises that nothing reads user storage before the writer has written it there: if the
    writer runs in the reading thread, that follows by itself; other threads wait for
    :meth:`settled`. A late one promises nothing and gets a reply once user storage has the write.
    """

    def accepts_early(self, address: str) -> bool:
        """Whether there is an early listener at the address."""

    def deliver_early(self, address: str, reply: Reply) -> bool:
        """Deliver a reply early; False if no early listener is there."""

    def deliver_late(self, address: str, reply: Reply) -> bool:
        """Deliver a reply to a write that user storage has; False if no late listener is there."""

    def settled(self) -> None:
        """Signal that user storage has all writes of early replies."""
