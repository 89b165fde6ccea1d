"""Queues that ring functions, by Pub/Sub: a topic, whose subscription pushes to the function.

One call publishes one message: nothing waits in this process. Without order a push takes a tenth of what it
takes with (23 ms against 200, measured on the cloud), and the writer sees to the order itself.
"""

from __future__ import annotations

from google.pubsub_v1 import types

from faaskeeper.core.errors import TooLarge
from faaskeeper.providers.gcp.clients import Gcp

MAX_MESSAGE_BYTES = 9_000_000
"""Of a request's 10 MB; a push carries it as base64, within the 32 MiB that a function takes."""


class PubsubQueue:
    """A topic. ``short``: core's name for the queue, for errors and counts."""

    max_message_bytes = MAX_MESSAGE_BYTES

    def __init__(self, gcp: Gcp, topic: str, short: str, *, ordered: bool = False) -> None:
        self._gcp = gcp
        self._topic = topic_path(gcp.project, topic)
        self._short = short
        self.ordered = ordered

    def send(self, group: str, identity: str, body: bytes) -> None:
        """See :class:`faaskeeper.core.drivers.queue.Queue`."""
        if len(body) > self.max_message_bytes:
            raise TooLarge(
                f"{self._short}: a message of {len(body)} bytes: at most {self.max_message_bytes} fit"
            )
        message = types.PubsubMessage(
            data=body,
            attributes={"to": self._short},  # Pub/Sub takes no message that has neither
            ordering_key=group if self.ordered else "",
        )
        publish(self._gcp, f"{self._short}.send", self._topic, message)


def publish(gcp: Gcp, name: str, topic: str, message: types.PubsubMessage) -> None:
    """Publish one message."""
    gcp.grpc(name, gcp.publisher, "publish", types.PublishRequest(topic=topic, messages=[message]))


def topic_path(project: str, topic: str) -> str:
    """A topic's whole name."""
    return f"projects/{project}/topics/{topic}"


def subscription_path(project: str, subscription: str) -> str:
    """A subscription's whole name."""
    return f"projects/{project}/subscriptions/{subscription}"
