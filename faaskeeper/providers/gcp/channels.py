"""The channel over Pub/Sub: one topic for all clients, and a subscription per client process.

A client creates its subscription when it starts to listen. The filter passes only its own messages,
and the client checks again. Pub/Sub delivers in any order and more than once. So a message carries
its sender, a number, and the number of the previous published message. A client delivers a message
if it follows the last delivered one, holds an early one for a while, and drops a repeated one.
Pub/Sub's own ordering takes ten times as long.

The client deletes its subscription. That of a killed client expires after a day.
"""

from __future__ import annotations

import itertools
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

from google.api_core.exceptions import NotFound
from google.cloud.pubsub_v1.subscriber.scheduler import ThreadScheduler
from google.protobuf.duration_pb2 import Duration
from google.pubsub_v1 import types

from faaskeeper.core.drivers.channel import Handler
from faaskeeper.core.errors import DriverError
from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.queues import MAX_MESSAGE_BYTES, publish, subscription_path, topic_path

PREFIX = "pubsub:"
EXPIRES_S = 24 * 3600
"""Pub/Sub's minimum time before it deletes an unused subscription."""
RETENTION_S = 600
"""Pub/Sub's minimum retention of a message; clients ask again much earlier."""
PATIENCE_S = 3.0
"""How long a message waits for earlier ones. Pub/Sub reorders messages; it seldom loses them."""
_JOIN_S = 5.0
_THREADS = 2
_MAX_LINES = 10_000

_log = logging.getLogger(__name__)


class _Line:
    """The messages to one client: sent one at a time."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.published = 0
        """Number of the last message that was published."""


class PubsubChannel:
    """Service side. ``topic``: shared by all clients of the deployment."""

    def __init__(self, gcp: Gcp, topic: str) -> None:
        self._gcp = gcp
        self._topic = topic_path(gcp.project, topic)
        self._sender = uuid4().hex
        self._lock = threading.Lock()
        self._numbers = itertools.count(1)
        self._lines: dict[str, _Line] = {}

    def deliver(self, address: str, message: bytes) -> bool:
        if len(message) > MAX_MESSAGE_BYTES:
            _log.warning("a message of %d bytes is too large for the client at %s", len(message), address)
            return False
        line = self._line(address)
        with line.lock:
            number = next(self._numbers)
            made = types.PubsubMessage(
                data=message,
                attributes={
                    "to": address.removeprefix(PREFIX),
                    "from": self._sender,
                    "number": str(number),
                    "after": str(line.published),
                },
            )
            try:
                publish(self._gcp, "channel.deliver", self._topic, made)
            except DriverError as error:
                _log.info("cannot reach the client at %s: %s", address, error)
                return False
            line.published = number
            return True

    def _line(self, address: str) -> _Line:
        with self._lock:
            line = self._lines.pop(address, None) or _Line()
            self._lines[address] = line  # in the order of use
            if len(self._lines) > _MAX_LINES:
                # an evicted client's next message waits for no earlier one
                del self._lines[next(iter(self._lines))]
            return line


class InOrder:
    """Delivers each sender's messages once and in order.

    ``handler``: called by one thread at a time. ``patience_s``: how long a message waits for an
    earlier one.
    """

    def __init__(
        self, handler: Handler, patience_s: float = PATIENCE_S, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._handler = handler
        self._patience_s = patience_s
        self._clock = clock
        self._lock = threading.RLock()
        self._open = True
        self._received: dict[str, int] = {}
        self._early: dict[str, dict[int, tuple[int, bytes, float]]] = {}

    def take(self, sender: str, number: int, after: int, message: bytes) -> None:
        """Take a message that arrived."""
        with self._lock:
            if number <= self._received.get(sender, 0):
                return
            self._early.setdefault(sender, {})[number] = after, message, self._clock() + self._patience_s
            self._hand_over(sender)

    def tick(self) -> None:
        """Stop waiting for messages that are overdue."""
        with self._lock:
            for sender in list(self._early):
                self._hand_over(sender)

    def _hand_over(self, sender: str) -> None:
        early = self._early[sender]
        while early and self._open:
            number = min(early)
            after, message, due = early[number]
            if after > self._received.get(sender, 0):
                if self._clock() < due:
                    return
                _log.warning("messages of %s up to %d are lost", sender, after)
            del early[number]
            self._received[sender] = number
            try:
                self._handler(message)
            except Exception:
                _log.exception("a client failed to process a message")
        if not early:
            self._early.pop(sender, None)

    def close(self) -> None:
        """Stop delivering."""
        with self._lock:
            self._open = False


class PubsubListener:
    """Receives a client's messages: a subscription and the library's threads."""

    def __init__(self, gcp: Gcp, topic: str, subscription: str, handler: Handler) -> None:
        self._gcp = gcp
        self._name = uuid4().hex
        self.address = PREFIX + self._name
        self._path = subscription_path(gcp.project, subscription + self._name)
        self._order = InOrder(handler)
        asked = types.Subscription(
            name=self._path,
            topic=topic_path(gcp.project, topic),
            filter=f'attributes.to = "{self._name}"',
            message_retention_duration=Duration(seconds=RETENTION_S),
            expiration_policy=types.ExpirationPolicy(ttl=Duration(seconds=EXPIRES_S)),
            ack_deadline_seconds=10,
        )
        gcp.grpc("channel.listen", gcp.subscriber, "create_subscription", asked)
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="faaskeeper-pubsub")
        self._receiving: Any = gcp.call("channel.receive", self._receive)
        self._stopping = threading.Event()
        self._ticking = threading.Thread(target=self._tick, name="faaskeeper-pubsub-tick", daemon=True)
        self._ticking.start()

    def _receive(self) -> Any:
        receiving = self._gcp.subscriber().subscribe(
            self._path, self._take, scheduler=ThreadScheduler(self._pool), await_callbacks_on_shutdown=True
        )
        receiving.add_done_callback(self._ended)
        return receiving

    def _ended(self, receiving: Any) -> None:
        if not receiving.cancelled() and receiving.exception() is not None:
            _log.warning("receiving from this client's subscription ended: %s", receiving.exception())

    def _take(self, message: Any) -> None:
        attributes = message.attributes
        if attributes.get("to") == self._name:
            try:
                number, after = int(attributes["number"]), int(attributes["after"])
            except (KeyError, ValueError):
                _log.warning("dropped a malformed message from this client's subscription")
            else:
                self._order.take(attributes.get("from", ""), number, after, message.data)
        message.ack()

    def _tick(self) -> None:
        while not self._stopping.wait(PATIENCE_S / 3):
            self._order.tick()

    def close(self) -> None:
        self._order.close()
        self._stopping.set()
        self._receiving.cancel()
        try:
            self._receiving.result(timeout=_JOIN_S)
        except Exception as error:
            _log.info("closing this client's channel: %s", error)
        self._pool.shutdown(wait=False)
        try:
            self._gcp.call("channel.close", self._remove)
        except DriverError as error:
            _log.warning("cannot delete the subscription %s; it will expire: %s", self._path, error)

    def _remove(self) -> None:
        try:
            self._gcp.subscriber().delete_subscription(
                request=types.DeleteSubscriptionRequest(subscription=self._path),
                retry=self._gcp.retry,
                timeout=self._gcp.timeout,
            )
        except NotFound:
            pass  # it has expired, or an earlier attempt deleted it


class PubsubClientChannel:
    """Client side. ``topic``: shared by all clients; ``prefix``: of their subscriptions' names."""

    def __init__(self, gcp: Gcp, topic: str, prefix: str) -> None:
        self._gcp = gcp
        self._topic = topic
        self._prefix = prefix

    def listen(self, handler: Handler) -> PubsubListener:
        return PubsubListener(self._gcp, self._topic, self._prefix, handler)
