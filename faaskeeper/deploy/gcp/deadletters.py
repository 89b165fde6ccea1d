"""The dead letters of a deployment on Google Cloud."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from google.pubsub_v1 import types

from faaskeeper.deploy.deadletters import DeadLetter
from faaskeeper.providers.gcp.queues import publish, subscription_path, topic_path
from faaskeeper.providers.gcp.service import GcpService

_HIDDEN_S = 60
_BATCH = 100
_SOURCE = "CloudPubSubDeadLetterSourceSubscription"
_TRIES = "CloudPubSubDeadLetterSourceDeliveryCount"
_ORDERED = "pubsub-ordered"


class GcpDeadLetters:
    """The dead letters of a deployment. One subscription holds those of all queues."""

    def __init__(self, service: GcpService) -> None:
        self._service = service
        self._gcp = service.gcp
        self._path = subscription_path(service.project, service.names.topic("dead"))

    def _call(self, operation: str, request: Any) -> Any:
        return self._gcp.grpc("dead letters", self._gcp.subscriber, operation, request)

    def _pull(self) -> Iterator[DeadLetter]:
        """Each message. Pulling hides it from others for a minute."""
        seen: set[str] = set()
        while True:
            request = types.PullRequest(subscription=self._path, max_messages=_BATCH, return_immediately=True)
            found = [
                each
                for each in self._call("pull", request).received_messages
                if each.message.message_id not in seen
            ]
            if not found:
                return
            receipts = [each.ack_id for each in found]
            self._hide(receipts, _HIDDEN_S)
            for each in found:
                seen.add(each.message.message_id)
                attributes = each.message.attributes
                name = self._service.names.topic("")
                yield DeadLetter(
                    attributes.get(_SOURCE, "").removeprefix(name) or "unknown",
                    each.message.message_id,
                    each.ack_id,
                    each.message.data,
                    each.message.data,
                    int(each.message.publish_time.timestamp() * 1000),
                    int(attributes.get(_TRIES, 0)),
                )

    def _hide(self, receipts: list[str], seconds: int) -> None:
        request = types.ModifyAckDeadlineRequest(
            subscription=self._path, ack_ids=receipts, ack_deadline_seconds=seconds
        )
        self._call("modify_ack_deadline", request)

    def _delete(self, letter: DeadLetter) -> None:
        request = types.AcknowledgeRequest(subscription=self._path, ack_ids=[letter.receipt])
        self._call("acknowledge", request)

    def show(self) -> list[DeadLetter]:
        seen = list(self._pull())
        if seen:
            self._hide([each.receipt for each in seen], 0)
        return seen

    def counts(self) -> dict[str, int]:
        return dict(Counter(each.queue for each in self.show()))

    def drop(self) -> int:
        number = 0
        for letter in self._pull():
            self._delete(letter)
            number += 1
        return number

    def redrive(self) -> tuple[int, int]:
        """Send dead letters again. Keeps messages of queues outside the deployment."""
        config = self._service.config
        kinds = {
            "worker": config.worker_queue.value,
            "distributor": config.distributor_queue.value,
            "watch": "",
        }
        sent = 0
        left: list[str] = []
        for letter in self._pull():
            if letter.queue not in kinds:
                left.append(letter.receipt)
                continue
            group = "writer" if letter.queue == "worker" else "distributor"
            message = types.PubsubMessage(
                data=letter.body,
                attributes={"to": letter.queue},
                ordering_key=group if kinds[letter.queue] == _ORDERED else "",
            )
            topic = topic_path(self._service.project, self._service.names.topic(letter.queue))
            publish(self._gcp, "redrive", topic, message)
            self._delete(letter)
            sent += 1
        if left:
            self._hide(left, 0)
        return sent, len(left)

    def close(self) -> None:
        self._gcp.close()
