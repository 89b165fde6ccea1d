"""A deployment on AWS: its names, its drivers, and a client's way to it."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

from faaskeeper.config import ClientChannel, Config, ConfigurationException, QueueType, StorageType
from faaskeeper.core import trust
from faaskeeper.core.channel import ClientChannel as Ears
from faaskeeper.core.connection import Connection, FailureHandler, connection_to
from faaskeeper.core.deployment import Deployment, begin, on_tables
from faaskeeper.core.errors import Conflict, Denied
from faaskeeper.core.log import RETENTION_MS, Log
from faaskeeper.core.objects import TableObjects
from faaskeeper.core.queue import Queue
from faaskeeper.core.records import ObjectRecords, TableRecords
from faaskeeper.core.storage import IfAbsent, ObjectStore
from faaskeeper.core.transactions import Limits
from faaskeeper.providers.aws.channels import Near, Services, SqsChannel, SqsClientChannel
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.objects import S3Store
from faaskeeper.providers.aws.queues import LambdaQueue, SqsQueue, TableQueue
from faaskeeper.providers.aws.tables import DynamoTable
from faaskeeper.providers.direct import LOSSES, Contended, DirectQueue, Prompt
from faaskeeper.providers.tcp import TcpChannel, TcpClientChannel

INLINE_BYTES = 16 * 1024
"""Data above it is written once, apart from log and record: from there on that is faster, and has long been
cheaper. (DynamoDB's median for a write is 5 ms up to 16 KB, 66 ms at 64 KB.)"""
FUNCTIONS = ("writer", "distributor", "watch", "heartbeat")
SECTION = (
    "data-bucket",
    "worker-queue-url",
    "worker-queue-table",
    "distributor-queue-url",
    "client-host",
    "profile",
    "endpoint-url",
    "watch-function",
    "peer",
    "deploy",
    "policies",
)
"""Keys of a configuration's section ``aws``."""


def clock() -> int:
    """Milliseconds since 1970."""
    return time.time_ns() // 1_000_000


class Names:
    """Names of a deployment's resources, as its template gives them."""

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        self.client_queues = f"{deployment}-client-"

    def table(self, short: str) -> str:
        """Name of a table."""
        return f"{self.deployment}-{short}"

    def function(self, short: str) -> str:
        """Name of a function: writer, distributor, watch or heartbeat."""
        return f"{self.deployment}-{short}"


class Place:
    """A deployment as its configuration names it: makes the drivers."""

    def __init__(self, config: Config, aws: Aws | None = None) -> None:
        self.config = config
        self.section = config.provider_config
        for key in self.section:
            if key not in SECTION:
                known = ", ".join(SECTION)
                raise ConfigurationException(f"the key 'aws.{key}' is unknown; there are: {known}")
        self.names = Names(config.deployment_name)
        self.aws = aws or Aws(
            config.deployment_region, profile=self._text("profile"), endpoint=self._text("endpoint-url")
        )

    def _text(self, key: str, why: str = "") -> str:
        value = self.section.get(key, "")
        if not isinstance(value, str) or (why and not value):
            need = f"{why} needs it; 'fk deploy service' writes it" if why else "it must be a text"
            raise ConfigurationException(f"the key 'aws.{key}' is {value!r}: {need}")
        return value

    def table(self, short: str) -> DynamoTable:
        """A table by core's name for it."""
        lifetime = RETENTION_MS // 1000 if short == "log" else 0
        return DynamoTable(self.aws, self.names.table(short), short, lifetime_s=lifetime)

    def queue(self, which: str, kind: QueueType) -> Queue:
        """A queue; ``which``: worker or distributor."""
        if kind is QueueType.DYNAMODB:
            return TableQueue(self.aws, self.names.table(f"{which}-queue"), which)
        url = self._text(f"{which}-queue-url", f"{which}-queue {kind.value!r}")
        return SqsQueue(self.aws, url, which)

    def deployment(self, key: bytes, **fields: Any) -> Deployment:
        """The drivers. ``key``: the deployment's, which clients have not (b"")."""
        config = self.config
        blobs: ObjectStore = TableObjects(self.table("records"))
        if config.user_storage is not StorageType.KEY_VALUE:
            blobs = S3Store(
                self.aws, self._text("data-bucket", f"user-storage {config.user_storage.value!r}")
            )
        made: dict[str, Any] = {
            "records": TableRecords(self.table("records")),
            "blobs": blobs,
            "key": key,
            "clock": clock,
            "gather": self.aws.gather,
            "limits": Limits(INLINE_BYTES),
            "channel": self.channel(),
            "super_digest": config.super_digest,
            "peer": self._text("peer"),
        }
        if config.user_storage is StorageType.PERSISTENT:
            made["records"] = ObjectRecords(blobs, self.aws.gather)
        if "worker_queue" not in fields:
            made["worker_queue"] = self.queue("worker", config.worker_queue)
        if config.distributor_queue is not QueueType.INLINE and "distributor_queue" not in fields:
            made["distributor_queue"] = self.queue("distributor", config.distributor_queue)
        if self._text("watch-function"):
            made["watch_queue"] = LambdaQueue(self.aws, self._text("watch-function"), "watch-function")
        return on_tables(self.table, expiring_log=True, **{**made, **fields})

    def channel(self) -> Services:
        """Service side of the channel."""
        return Services(TcpChannel(), SqsChannel(self.aws))

    def ears(self, port: int) -> Ears:
        """Client side of the channel."""
        if self.config.client_channel is ClientChannel.SQS:
            return SqsClientChannel(self.aws, self.names.client_queues, self.table("lease"))
        host = self._text("client-host") or self.own_address()
        return TcpClientChannel("127.0.0.1" if host == "127.0.0.1" else "0.0.0.0", port, host)

    def own_address(self) -> str:
        """The address under which this machine speaks to AWS."""
        endpoint = urlsplit(self.aws.client("dynamodb").meta.endpoint_url)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            try:
                probe.connect((endpoint.hostname, endpoint.port or 443))  # sends nothing
            except OSError as error:
                raise Denied(
                    f"no way to {endpoint.hostname}: {error}; the configuration's aws.client-host may say "
                    "under which address the functions reach this machine"
                ) from error
            return str(probe.getsockname()[0])

    def logs(self) -> str:
        """Where the functions' logs are."""
        groups = ", ".join(f"/aws/lambda/{self.names.function(each)}" for each in FUNCTIONS)
        return f"CloudWatch has the functions' logs: {groups}\n"

    # ---- the deployment's key ------------------------------------------------------------

    def key(self) -> bytes:
        """The deployment's key, for functions and trusted writers. Raises Denied where there is none yet."""
        settings = self.table("settings").get("deployment", "settings")
        if settings is None:
            raise Denied(
                f"the deployment {self.config.deployment_name} was not begun: its heartbeat does that, "
                "within a minute of its deployment"
            )
        key = settings["key"]
        if not isinstance(key, bytes):
            raise Denied(f"the table {self.names.table('settings')} holds no key")
        return key

    def begun(self, random: Callable[[int], bytes] = os.urandom) -> bytes:
        """The deployment's key; where there is none yet, the tree and the checkpoint are put, then a key."""
        table = self.table("settings")
        if table.get("deployment", "settings") is None:
            begin(self.deployment(b""))
            try:
                table.put("deployment", "settings", {"stamp": 1, "key": random(trust.KEY_BYTES)}, IfAbsent())
            except Conflict:
                pass  # another began it
        return self.key()


def connect(config: Config, port: int, aws: Aws | None = None) -> Connection:
    """A client's way to the deployment. Raises DriverError with what a person can do.

    ``aws``: clients that several connections share; the caller closes them.
    """
    place = Place(config, aws)
    release = place.aws.close if aws is None else lambda: None
    try:
        return _connect(place, port, release)
    except BaseException:
        release()
        raise


def _connect(place: Place, port: int, release: Callable[[], None]) -> Connection:
    if place.config.worker_queue is not QueueType.DIRECT:
        made = place.deployment(b"", distributor_queue=None)
        made.checkpoints.header()  # raises, with the reason, where there is no such deployment
        logs = place.logs
        return connection_to(made, place.ears(port), coalesce=True, close=release, logs=logs)

    fallback: Queue | None = None
    if place.section.get("worker-queue-url"):
        fallback = place.queue("worker", QueueType.SQS)
    elif place.section.get("worker-queue-table"):
        fallback = place.queue("worker", QueueType.DYNAMODB)
    channel = place.channel()
    near = Near(channel, place.ears(port))
    handlers: list[FailureHandler] = []

    def broke(error: Exception) -> None:
        for handler in list(handlers):
            handler(error)

    table = Contended(place.table("log"), losses=LOSSES if fallback is not None else 0)
    made = place.deployment(
        place.key(), worker_queue=fallback, channel=near, log=Log(table), distributor_queue=None
    )
    direct = DirectQueue(made, table, fallback, broke)

    def close() -> None:
        direct.stop()
        channel.close()
        release()

    return connection_to(
        made,
        near,
        worker_queue=direct,
        prompt_queue=Prompt(direct),
        coalesce=True,
        on_failure=handlers.append,
        logs=place.logs,
        close=close,
    )
