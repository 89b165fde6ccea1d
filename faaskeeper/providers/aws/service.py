"""A deployment on AWS: names, drivers, and client connections."""

from __future__ import annotations

from faaskeeper.config import ClientChannel, Config, QueueType
from faaskeeper.core.connection import Connection
from faaskeeper.core.drivers import channel as drivers
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.log import RETENTION_MS
from faaskeeper.providers.aws.channels import PREFIX, SqsChannel, SqsClientChannel
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.objects import S3Store
from faaskeeper.providers.aws.queues import LambdaQueue, SqsQueue, TableQueue
from faaskeeper.providers.aws.tables import DynamoTable
from faaskeeper.providers.cloud.channels import RoutedChannel
from faaskeeper.providers.cloud.service import FUNCTIONS, CloudService
from faaskeeper.providers.tcp import TcpChannel

INLINE_BYTES = 16 * 1024
"""Larger data is a blob: above this size that is faster, and cheaper already below it.

DynamoDB's median write takes 5 ms up to 16 KB and 66 ms at 64 KB.
"""
LOG_STRIPES = 8
"""DynamoDB takes 1,000 write units a second for a partition key, and does not split one that grows.

With 8 hashed stripes other limits come first (``docs/performance.md``).
"""
SECTION = (
    "data-bucket",
    "worker-queue-url",
    "worker-queue-table",
    "distributor-queue-url",
    "client-host",
    "client-networks",
    "profile",
    "endpoint-url",
    "watch-function",
    "peer",
    "deploy",
    "policies",
    "subnets",
    "security-groups",
    "kms-key",
    "former-worker-queue",
)
"""Keys of the configuration's section ``aws``."""


class Names:
    """Names of a deployment's resources, as in its template."""

    def __init__(self, deployment: str) -> None:
        self.deployment = deployment
        self.client_queues = f"{deployment}-client-"

    def table(self, short: str) -> str:
        """Name of a table."""
        return f"{self.deployment}-{short}"

    def function(self, short: str) -> str:
        """Name of a function: writer, distributor, watch or heartbeat."""
        return f"{self.deployment}-{short}"


class AwsService(CloudService):
    """A deployment on AWS."""

    inline_bytes = INLINE_BYTES
    log_stripes = LOG_STRIPES
    keys = SECTION

    def __init__(self, config: Config, aws: Aws | None = None) -> None:
        section = config.provider_config
        self.aws = aws or Aws(
            config.deployment_region,
            profile=str(section.get("profile", "")),
            endpoint=str(section.get("endpoint-url", "")),
        )
        self.names = Names(config.deployment_name)
        super().__init__(config, self.aws)

    def table(self, short: str) -> DynamoTable:
        lifetime = RETENTION_MS // 1000 if short == "log" else 0
        name = self.names.table(short)
        return DynamoTable(self.aws, name, short, lifetime_s=lifetime, clock=self.seconds)

    def objects(self) -> S3Store:
        return S3Store(self.aws, self.text("data-bucket", f"user-storage {self.config.user_storage.value!r}"))

    def queue(self, which: str, kind: QueueType) -> Queue:
        if kind is QueueType.DYNAMODB:
            return TableQueue(self.aws, self.names.table(f"{which}-queue"), which)
        url = self.text(f"{which}-queue-url", f"{which}-queue {kind.value!r}")
        return SqsQueue(self.aws, url, which)

    def watch_queue(self) -> Queue | None:
        function = self.text("watch-function")
        return LambdaQueue(self.aws, function, "watch-function") if function else None

    def fallback(self) -> Queue | None:
        if self.section.get("worker-queue-url"):
            return self.queue("worker", QueueType.SQS)
        if self.section.get("worker-queue-table"):
            return self.queue("worker", QueueType.DYNAMODB)
        return None

    def channel(self) -> RoutedChannel:
        return RoutedChannel(TcpChannel(self.networks), {PREFIX: SqsChannel(self.aws)})

    def queue_client_channel(self) -> drivers.ClientChannel | None:
        if self.config.client_channel is not ClientChannel.SQS:
            return None
        return SqsClientChannel(self.aws, self.names.client_queues, self.table("lease"), self.seconds)

    def logs(self) -> str:
        groups = ", ".join(f"/aws/lambda/{self.names.function(each)}" for each in FUNCTIONS)
        return f"the functions' logs are in CloudWatch: {groups}\n"

    def endpoint(self) -> str:
        return str(self.aws.client("dynamodb").meta.endpoint_url)


def connect(config: Config, port: int, aws: Aws | None = None) -> Connection:
    """Connect a client to the deployment. Raises DriverError that says how to fix the problem.

    ``aws``: AWS clients to share between connections; the caller closes them.
    """
    service = AwsService(config, aws)
    return service.connect(port, service.aws.close if aws is None else lambda: None)
