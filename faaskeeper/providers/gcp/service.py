"""A deployment on Google Cloud: its names, its drivers, and how a client connects."""

from __future__ import annotations

import os
import threading

from faaskeeper.config import ClientChannel, Config, ConfigurationException, QueueType, StorageType
from faaskeeper.core.connection import Connection
from faaskeeper.core.drivers import channel as drivers
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.drivers.storage import Joint
from faaskeeper.core.log import RETENTION_MS
from faaskeeper.providers.cloud.channels import RoutedChannel
from faaskeeper.providers.cloud.service import FUNCTIONS, CloudService
from faaskeeper.providers.gcp.channels import PREFIX, PubsubChannel, PubsubClientChannel
from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.objects import GcsStore
from faaskeeper.providers.gcp.queues import PubsubQueue
from faaskeeper.providers.gcp.tables import DatastoreTable, joint_of
from faaskeeper.providers.tcp import TcpChannel

INLINE_BYTES = 64 * 1024
"""Data above it is written once, apart from log and record. Datastore charges by the entity, whatever its
size, and reads 128 KB in 12 ms where Cloud Storage takes 54; so data is inline as far as a log entry of
several writes, and a message to the writer, stay handy."""
SECTION = (
    "project-id",
    "credentials",
    "data-bucket",
    "worker-topic",
    "watch-topic",
    "client-host",
    "peer",
    "deploy",
    "accounts",
)
"""Keys of a configuration's section ``gcp``."""


class Names:
    """Names of a deployment's resources, as its templates give them."""

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        self.client_subscriptions = f"{deployment}-client-"

    def database(self, table: str) -> str:
        """Id of the database that a table is in. Rights are given by the database, so there are three.

        Clients may read the first, and write the second; the third holds the deployment's key.
        """
        if table in ("lease", "watch"):
            return f"{self.deployment}-sessions"
        return f"{self.deployment}-private" if table == "settings" else self.deployment

    def bucket(self, project: str) -> str:
        """Name of the bucket for data."""
        return f"{self.deployment}-data-{project}"

    def topic(self, short: str) -> str:
        """Name of a topic: worker, distributor, watch, clients or dead."""
        return f"{self.deployment}-{short}"

    def function(self, short: str) -> str:
        """Name of a function: writer, distributor, watch or heartbeat."""
        return f"{self.deployment}-{short}"


class GcpService(CloudService):
    """See :class:`CloudService`."""

    inline_bytes = INLINE_BYTES
    keys = SECTION

    def __init__(self, config: Config, gcp: Gcp | None = None) -> None:
        section = config.provider_config
        project = section.get("project-id") or os.environ.get("GOOGLE_CLOUD_PROJECT")
        if not isinstance(project, str) or not project:
            raise ConfigurationException(
                "the key 'gcp.project-id' is missing: it must be the id of a project of Google Cloud"
            )
        self.project = project
        self.gcp = gcp or Gcp(project, credentials=str(section.get("credentials", "")))
        self.names = Names(config.deployment_name)
        self._tables: dict[str, DatastoreTable] = {}
        self._lock = threading.Lock()
        super().__init__(config, self.gcp)

    def table(self, short: str) -> DatastoreTable:
        """See :class:`CloudService`; always the same, since it remembers what it saw."""
        with self._lock:
            table = self._tables.get(short)
            if table is None:
                lifetime = RETENTION_MS // 1000 if short == "log" else 0
                shared = short == "watch"  # clients put its rows, functions delete them
                database = self.names.database(short)
                table = DatastoreTable(
                    self.gcp, database, short, lifetime_s=lifetime, shared=shared, clock=self.seconds
                )
                self._tables[short] = table
            return table

    def objects(self) -> GcsStore:
        """See :class:`CloudService`."""
        return GcsStore(self.gcp, self.text("data-bucket") or self.names.bucket(self.project))

    def joint(self) -> Joint | None:
        """See :class:`CloudService`."""
        if self.config.user_storage is StorageType.PERSISTENT:
            return None
        return joint_of(self.gcp, self.names.database("log"), self.table)

    def queue(self, which: str, kind: QueueType) -> PubsubQueue:
        """See :class:`CloudService`."""
        ordered = kind is QueueType.PUBSUB_ORDERED
        return PubsubQueue(self.gcp, self.names.topic(which), which, ordered=ordered)

    def watch_queue(self) -> Queue | None:
        """See :class:`CloudService`."""
        topic = self.text("watch-topic")
        return PubsubQueue(self.gcp, topic, "watch") if topic else None

    def fallback(self) -> Queue | None:
        """See :class:`CloudService`."""
        topic = self.text("worker-topic")
        return PubsubQueue(self.gcp, topic, "worker") if topic else None

    def channel(self) -> RoutedChannel:
        """See :class:`CloudService`."""
        return RoutedChannel(TcpChannel(), {PREFIX: PubsubChannel(self.gcp, self.names.topic("clients"))})

    def queue_client_channel(self) -> drivers.ClientChannel | None:
        """See :class:`CloudService`."""
        if self.config.client_channel is not ClientChannel.PUBSUB:
            return None
        return PubsubClientChannel(self.gcp, self.names.topic("clients"), self.names.client_subscriptions)

    def logs(self) -> str:
        """See :class:`CloudService`."""
        names = ", ".join(self.names.function(each) for each in FUNCTIONS)
        return f"Cloud Logging has the functions' logs, by the services' names: {names}\n"

    def endpoint(self) -> str:
        """See :class:`CloudService`."""
        emulator = os.environ.get("DATASTORE_EMULATOR_HOST", "").removeprefix("http://")
        return f"http://{emulator}" if emulator else "https://datastore.googleapis.com"


def connect(config: Config, port: int, gcp: Gcp | None = None) -> Connection:
    """A client's connection to the deployment. Raises DriverError with what a person can do.

    ``gcp``: clients that several connections share; the caller closes them.
    """
    service = GcpService(config, gcp)
    return service.connect(port, service.gcp.close if gcp is None else lambda: None)
