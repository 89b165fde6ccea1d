"""The channel over SQS: a FIFO queue per client process, created when the process starts to listen.

Messages above SQS's limit are sent in parts; the sender's name keeps parts of different senders
apart. The client deletes its queue. :func:`leftovers` deletes the queues of killed clients.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterable
from uuid import uuid4

from faaskeeper.core.drivers.channel import Handler
from faaskeeper.core.drivers.storage import Table, every
from faaskeeper.core.errors import DriverError
from faaskeeper.providers.aws.clients import READ_S, Aws
from faaskeeper.providers.aws.events import decoded
from faaskeeper.providers.aws.queues import text_of
from faaskeeper.providers.cloud.envelopes import bare

_PART_BYTES = 700 * 1024
_MOST_PARTS = 12
_WAIT_S = 20
_PAUSE_S = 1.0
_JOIN_S = 5.0
_RETENTION_S = 3600
LEFT_MS = 24 * 3600 * 1000
"""Minimum age of a client's queue before it may count as abandoned."""
PREFIX = "sqs:"
_CLIENT_QUEUES = "ear"
"""The partition of the lease table that lists client queues by address."""

_log = logging.getLogger(__name__)


class SqsChannel:
    """Service side. Messages of one sender to one address form a group, so they arrive in order."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws
        self._sender = uuid4().hex

    def deliver(self, address: str, message: bytes) -> bool:
        parts = [message[at : at + _PART_BYTES] for at in range(0, len(message), _PART_BYTES)] or [b""]
        try:
            for number, part in enumerate(parts):
                self._send(address, f"{self._sender} {len(parts) - number - 1} {text_of(part)}")
        except DriverError as error:
            _log.info("cannot reach the client at %s: %s", address, error)
            return False
        return True

    def _send(self, address: str, body: str) -> None:
        self._aws.call(
            "channel.deliver",
            self._aws.client("sqs").send_message,
            QueueUrl=address.removeprefix(PREFIX),
            MessageBody=body,
            MessageGroupId=self._sender,
            MessageDeduplicationId=uuid4().hex,
        )


class SqsListener:
    """Receives a client's messages: a queue and a thread that polls it."""

    def __init__(
        self, aws: Aws, name: str, table: Table, handler: Handler, clock: Callable[[], float]
    ) -> None:
        self._aws = aws
        self._table = table
        self._sqs = aws.client("sqs", read_timeout=_WAIT_S + READ_S)
        self._handler = handler
        self._receiving = threading.Lock()
        self._open = True
        self._parts: dict[str, list[bytes]] = {}
        self._url = aws.call(
            "channel.listen",
            self._sqs.create_queue,
            QueueName=name,
            Attributes={
                "FifoQueue": "true",
                "MessageRetentionPeriod": str(_RETENTION_S),
                "SqsManagedSseEnabled": "true",
            },
        )["QueueUrl"]
        self.address = PREFIX + self._url
        table.put(_CLIENT_QUEUES, self.address, {"stamp": int(clock() * 1000)})
        self._thread = threading.Thread(target=self._receive, name="faaskeeper-sqs", daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        while self._open:
            try:
                found = self._aws.call(
                    "channel.receive",
                    self._sqs.receive_message,
                    QueueUrl=self._url,
                    MaxNumberOfMessages=10,
                    WaitTimeSeconds=_WAIT_S,
                )
                for message in found.get("Messages", ()):
                    self._take(message["Body"])
                    if self._open:
                        self._forget(message["ReceiptHandle"])
            except Exception as error:
                if self._open:
                    known = isinstance(error, DriverError)  # its message is sufficient
                    _log.warning("receiving from this client's queue failed: %s", error, exc_info=not known)
                    time.sleep(_PAUSE_S)

    def _forget(self, receipt: str) -> None:
        delete = self._sqs.delete_message
        self._aws.call("channel.forget", delete, QueueUrl=self._url, ReceiptHandle=receipt)

    def _take(self, body: str) -> None:
        sender, left, text = (*body.split(" ", 2), "", "")[:3]
        part = decoded(text)
        parts = self._parts.pop(sender, [])
        if part is None or not left.isdigit() or len(parts) >= _MOST_PARTS:
            _log.warning("dropped a malformed message from this client's queue")
            return
        parts.append(part)
        if left != "0":
            self._parts[sender] = parts
            return
        with self._receiving:
            if self._open:
                try:
                    self._handler(b"".join(parts))
                except Exception:
                    _log.exception("the client at %s failed to process a message", self.address)

    def close(self) -> None:
        with self._receiving:
            self._open = False
        try:
            SqsChannel(self._aws).deliver(self.address, b"")  # ends the long poll
            if threading.current_thread() is not self._thread:
                self._thread.join(_JOIN_S)
            _remove(self._aws, self._table, self.address)
        except DriverError as error:
            _log.warning("cannot delete the queue %s; a sweep will: %s", self._url, error)


class SqsClientChannel:
    """Client side. ``prefix``: of the names of the deployment's client queues.

    ``table``: lists the queues, so that abandoned ones are found without listing all queues of the
    account.
    """

    def __init__(self, aws: Aws, prefix: str, table: Table, clock: Callable[[], float] = time.time) -> None:
        self._aws = aws
        self._prefix = prefix
        self._table = table
        self._clock = clock

    def listen(self, handler: Handler) -> SqsListener:
        name = f"{self._prefix}{uuid4().hex}.fifo"
        return SqsListener(self._aws, name, self._table, handler, self._clock)


def leftovers(aws: Aws, table: Table, wanted: Iterable[str] | None, now: int) -> list[str]:
    """Delete client queues that are a day old and serve no open session; returns their addresses.

    ``wanted``: the addresses of open sessions, with or without their listeners' keys; None: delete
    all queues.
    """
    addresses = {bare(each) for each in wanted or ()}
    swept: list[str] = []
    for address, item in every(table, _CLIENT_QUEUES):
        made = item["stamp"]
        fresh = wanted is not None and isinstance(made, int) and now - made <= LEFT_MS
        if fresh or address in addresses:
            continue
        _remove(aws, table, address)
        swept.append(address)
    return swept


def _remove(aws: Aws, table: Table, address: str) -> None:
    def delete(**parameters: str) -> None:
        sqs = aws.client("sqs")
        try:
            sqs.delete_queue(**parameters)
        except sqs.exceptions.QueueDoesNotExist:
            pass  # it was never created, or is already deleted

    aws.call("channel.close", delete, QueueUrl=address.removeprefix(PREFIX))
    table.delete(_CLIENT_QUEUES, address)
