"""The in-process channel: calls the client's handler."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable
from typing import Any

from faaskeeper.core import logs
from faaskeeper.core.drivers.channel import Handler
from faaskeeper.core.requests import Reply

_log = logs.logger(__name__)


class LocalListener:
    """Receives one client's messages."""

    def __init__(
        self,
        channel: LocalChannel,
        address: str,
        handler: Callable[[Any], None],
        settled: Callable[[], None] | None = None,
        late: bool = False,
    ) -> None:
        self.address = address
        self.settled = settled
        self.late = late
        self._channel = channel
        self._handler = handler
        self._lock = threading.RLock()
        self._open = True

    def receive(self, message: bytes | Reply) -> bool:
        """Deliver a message."""
        with self._lock:
            if not self._open:
                return False
            try:
                self._handler(message)
            except Exception:
                _log.exception("the client at %s failed to process a message", self.address)
            return True

    def close(self) -> None:
        self._channel.forget(self.address)
        with self._lock:
            self._open = False


class LocalChannel:
    """Both sides of the channel. Only one writer at a time may announce early replies."""

    def __init__(self) -> None:
        self._numbers = itertools.count(1)
        self._listeners: dict[str, LocalListener] = {}
        self._notified: set[LocalListener] = set()

    def _added(self, handler: Callable[[Any], None], **more: Any) -> LocalListener:
        listener = LocalListener(self, f"local:{next(self._numbers)}", handler, **more)
        self._listeners[listener.address] = listener
        return listener

    def listen(self, handler: Handler) -> LocalListener:
        return self._added(handler)

    def listen_early(
        self, handler: Callable[[Reply | bytes], None], settled: Callable[[], None]
    ) -> LocalListener:
        return self._added(handler, settled=settled)

    def listen_late(self, handler: Callable[[Reply | bytes], None]) -> LocalListener:
        return self._added(handler, late=True)

    def accepts_early(self, address: str) -> bool:
        listener = self._listeners.get(address)
        return listener is not None and listener.settled is not None

    def deliver_early(self, address: str, reply: Reply) -> bool:
        listener = self._listeners.get(address)
        if listener is None or listener.settled is None:
            return False
        self._notified.add(listener)
        return listener.receive(reply)

    def deliver_late(self, address: str, reply: Reply) -> bool:
        listener = self._listeners.get(address)
        return listener is not None and listener.late and listener.receive(reply)

    def settled(self) -> None:
        while self._notified:
            listener = self._notified.pop()
            if listener.settled is not None:
                listener.settled()

    def forget(self, address: str) -> None:
        """Stop delivering to an address."""
        self._listeners.pop(address, None)

    def deliver(self, address: str, message: bytes) -> bool:
        listener = self._listeners.get(address)
        return listener is not None and listener.receive(message)
