"""Channels that wrap others: one routes by address, one delivers within the process."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from faaskeeper.core.drivers.channel import Channel, ClientChannel, Handler, Listener
from faaskeeper.providers.tcp import TcpChannel

_log = logging.getLogger(__name__)


class RoutedChannel:
    """Service side: routes by the prefix of the client's address.

    ``others``: channels by the prefix of their addresses; all other addresses are TCP.
    """

    def __init__(self, tcp: TcpChannel, others: dict[str, Channel]) -> None:
        self._tcp = tcp
        self._others = others

    def deliver(self, address: str, message: bytes) -> bool:
        for prefix, channel in self._others.items():
            if address.startswith(prefix):
                return channel.deliver(address, message)
        return self._tcp.deliver(address, message)

    def close(self) -> None:
        """Close the connections to clients."""
        self._tcp.close()


class LoopbackChannel:
    """Both sides, for a process that is client and writer: calls its own listeners directly."""

    def __init__(self, channel: Channel, clients: ClientChannel) -> None:
        self._channel = channel
        self._clients = clients
        self._handlers: dict[str, Handler] = {}

    def deliver(self, address: str, message: bytes) -> bool:
        handler = self._handlers.get(address)
        if handler is None:
            return self._channel.deliver(address, message)
        handler(message)
        return True

    def listen(self, handler: Handler) -> Listener:
        listener = _LoopbackListener(handler, lambda address: self._handlers.pop(address, None))
        listener.wrap(self._clients.listen(listener.receive))
        self._handlers[listener.address] = listener.receive
        return listener


class _LoopbackListener:
    """Messages may come from both sides at once; the handler receives one at a time."""

    def __init__(self, handler: Handler, forget: Callable[[str], object]) -> None:
        self._handler = handler
        self._forget = forget
        self._receiving = threading.RLock()
        self._open = True
        self.address = ""

    def wrap(self, listener: Listener) -> None:
        self._listener = listener
        self.address = listener.address

    def receive(self, message: bytes) -> None:
        with self._receiving:
            if self._open:
                try:
                    self._handler(message)
                except Exception:
                    _log.exception("the client at %s failed to process a message", self.address)

    def close(self) -> None:
        self._forget(self.address)
        with self._receiving:
            self._open = False
        self._listener.close()
