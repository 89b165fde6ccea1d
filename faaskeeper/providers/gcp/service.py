"""A deployment on Google Cloud: names, drivers, and client connections."""

from __future__ import annotations

import os
import threading

from faaskeeper.config import ClientChannel, Config, ConfigurationException, QueueType, StorageType
from faaskeeper.core.connection import Connection
from faaskeeper.core.drivers import channel as drivers
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.drivers.storage import Joint, ObjectStore
from faaskeeper.core.znode import MAX_DATA_BYTES
from faaskeeper.providers.cloud.channels import RoutedChannel
from faaskeeper.providers.cloud.service import FUNCTIONS, CloudService
from faaskeeper.providers.gcp.channels import PREFIX, PubsubChannel, PubsubClientChannel
from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.objects import GcsStore
from faaskeeper.providers.gcp.queues import PubsubQueue
from faaskeeper.providers.gcp.tables import DatastoreTable, joint_of
from faaskeeper.providers.tcp import TcpChannel

INLINE_BYTES = 64 * 1024
"""Larger data is a blob, unless user storage is key-value.

Datastore charges per entity, regardless of its size, and reads 128 KB in 12 ms where Cloud Storage
takes 54 ms. The limit keeps log entries of several writes, and messages to the writer, small.
"""
ENTRY_BYTES = 896 * 1024
"""A batch is closed at this size. With one more request of :data:`INLINE_BYTES` it is one entity."""
ENTRY_PATHS = 240
"""A batch is closed when it changes more znodes: with pages of children, that may be twice as many
records, and they fit one commit with their entry."""
SECTION = (
    "project-id",
    "credentials",
    "data-bucket",
    "worker-topic",
    "watch-topic",
    "client-host",
    "client-networks",
    "peer",
    "deploy",
    "accounts",
)
"""Keys of the configuration's section ``gcp``."""


class Names:
    """Names of a deployment's resources, as in its templates."""

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        self.client_subscriptions = f"{deployment}-client-"

    def database(self, table: str) -> str:
        """Id of a table's database. Permissions are granted per database, so there are three.

        Clients may read the first and write the second. The third contains the deployment's key.
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
    """A deployment on Google Cloud."""

    keys = SECTION
    entry_bytes = ENTRY_BYTES
    entry_paths = ENTRY_PATHS
    expiring_log = False
    """Heartbeat trims the log. A policy of Datastore's could do it, but Terraform cannot set one."""

    def __init__(self, config: Config, gcp: Gcp | None = None) -> None:
        section = config.provider_config
        project = section.get("project-id") or os.environ.get("GOOGLE_CLOUD_PROJECT")
        if not isinstance(project, str) or not project:
            raise ConfigurationException(
                "the key 'gcp.project-id' is missing: set it to the id of a Google Cloud project"
            )
        self.project = project
        self.gcp = gcp or Gcp(project, credentials=str(section.get("credentials", "")))
        self.names = Names(config.deployment_name)
        self.inline_bytes = INLINE_BYTES
        if config.user_storage is StorageType.KEY_VALUE:
            self.inline_bytes = MAX_DATA_BYTES
        self._tables: dict[str, DatastoreTable] = {}
        self._lock = threading.Lock()
        super().__init__(config, self.gcp)

    def table(self, short: str) -> DatastoreTable:
        """A table by core's name; always the same object, because it caches versions."""
        with self._lock:
            table = self._tables.get(short)
            if table is None:
                shared = short == "watch"  # clients put rows, functions delete them
                database = self.names.database(short)
                table = DatastoreTable(self.gcp, database, short, shared=shared)
                self._tables[short] = table
            return table

    def objects(self) -> GcsStore:
        return GcsStore(self.gcp, self.text("data-bucket") or self.names.bucket(self.project))

    def blobs(self) -> ObjectStore | None:
        """The bucket. With all storage in Datastore, data of any size travels in the request.

        A client could not store it: it may only read the database with the records, and rights in
        another one would let it replace what others have stored.
        """
        return None if self.config.user_storage is StorageType.KEY_VALUE else self.objects()

    def joint(self) -> Joint | None:
        if self.config.user_storage is StorageType.PERSISTENT:
            return None
        return joint_of(self.gcp, self.names.database("log"), self.table)

    def queue(self, which: str, kind: QueueType) -> PubsubQueue:
        ordered = kind is QueueType.PUBSUB_ORDERED
        return PubsubQueue(self.gcp, self.names.topic(which), which, ordered=ordered)

    def watch_queue(self) -> Queue | None:
        topic = self.text("watch-topic")
        return PubsubQueue(self.gcp, topic, "watch") if topic else None

    def fallback(self) -> Queue | None:
        topic = self.text("worker-topic")
        return PubsubQueue(self.gcp, topic, "worker") if topic else None

    def channel(self) -> RoutedChannel:
        return RoutedChannel(
            TcpChannel(self.networks), {PREFIX: PubsubChannel(self.gcp, self.names.topic("clients"))}
        )

    def queue_client_channel(self) -> drivers.ClientChannel | None:
        if self.config.client_channel is not ClientChannel.PUBSUB:
            return None
        return PubsubClientChannel(self.gcp, self.names.topic("clients"), self.names.client_subscriptions)

    def logs(self) -> str:
        names = ", ".join(self.names.function(each) for each in FUNCTIONS)
        return f"the functions' logs are in Cloud Logging, by service name: {names}\n"

    def endpoint(self) -> str:
        emulator = os.environ.get("DATASTORE_EMULATOR_HOST", "").removeprefix("http://")
        return f"http://{emulator}" if emulator else "https://datastore.googleapis.com"


def connect(config: Config, port: int, gcp: Gcp | None = None) -> Connection:
    """Connect a client to the deployment. Raises DriverError that says how to fix the problem.

    ``gcp``: Google clients to share between connections; the caller closes them.
    """
    service = GcpService(config, gcp)
    return service.connect(port, service.gcp.close if gcp is None else lambda: None)
