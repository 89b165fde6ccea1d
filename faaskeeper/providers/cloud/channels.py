"""Channels on top of others: by whatever an address says, and with oneself."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from faaskeeper.core.channel import Channel, ClientChannel, Handler, Listener
from faaskeeper.providers.tcp import TcpChannel

_log = logging.getLogger(__name__)


class Services:
    """Service side of a deployment: delivers by whatever a client's address says.

    ``others``: channels by the prefix of their addresses; what has none of these goes by TCP.
    """

    def __init__(self, tcp: TcpChannel, others: dict[str, Channel]) -> None:
        self._tcp = tcp
        self._others = others

    def deliver(self, address: str, message: bytes) -> bool:
        """See :class:`faaskeeper.core.channel.Channel`."""
        for prefix, channel in self._others.items():
            if address.startswith(prefix):
                return channel.deliver(address, message)
        return self._tcp.deliver(address, message)

    def close(self) -> None:
        """Close the connections to clients."""
        self._tcp.close()


class Near:
    """Both sides, for a process that is client and writer: it tells itself without any way between."""

    def __init__(self, channel: Channel, clients: ClientChannel) -> None:
        self._channel = channel
        self._clients = clients
        self._ears: dict[str, Handler] = {}

    def deliver(self, address: str, message: bytes) -> bool:
        """See :class:`faaskeeper.core.channel.Channel`."""
        hear = self._ears.get(address)
        if hear is None:
            return self._channel.deliver(address, message)
        hear(message)
        return True

    def listen(self, handler: Handler) -> Listener:
        """See :class:`faaskeeper.core.channel.ClientChannel`."""
        ear = _NearEar(handler, lambda address: self._ears.pop(address, None))
        ear.over(self._clients.listen(ear.hear))
        self._ears[ear.address] = ear.hear
        return ear


class _NearEar:
    """An ear that is spoken into from both ways, one message at a time."""

    def __init__(self, handler: Handler, forget: Callable[[str], object]) -> None:
        self._handler = handler
        self._forget = forget
        self._hearing = threading.RLock()
        self._open = True
        self.address = ""

    def over(self, listener: Listener) -> None:
        self._listener = listener
        self.address = listener.address

    def hear(self, message: bytes) -> None:
        with self._hearing:
            if self._open:
                try:
                    self._handler(message)
                except Exception:
                    _log.exception("the client at %s failed on a message", self.address)

    def close(self) -> None:
        self._forget(self.address)
        with self._hearing:
            self._open = False
        self._listener.close()
