"""Prices of AWS: DynamoDB, S3, SQS, Lambda, CloudWatch."""

from __future__ import annotations

from math import ceil

from faaskeeper.config import QueueType, StorageType
from faaskeeper.deploy.costs import (
    BEAT,
    CALLS,
    ENTRY_BYTES,
    GB,
    MONTH_S,
    RECORD_BYTES,
    SWEEP,
    Costs,
    Workload,
)

INLINE_BYTES = 16 * 1024
"""Larger data is a blob. The same as the provider's constant, whose module needs boto3."""
LOG_STRIPES = 8
"""Partition keys of the log; the same as the provider's constant."""
_FUNCTION_MS = {"key-value": 15.0, "hybrid": 15.0, "persistent": 40.0}
"""Approximate duration of a writer's invocation for one request: the modelled time of its calls."""
_POLLERS = 5
"""Long polls that an event source keeps open on an idle queue, 20 s each."""
_MEMORY_GB = 1.0
_METRICS_BYTES = 600
_KEPT_DAYS = 8
"""How long a replaced object is kept."""


def _writes(size: int) -> int:
    return max(ceil(size / 1024), 1)


def _reads(size: int) -> int:
    return max(ceil(size / 4096), 1)


class AwsCosts(Costs):
    """Prices of a configuration's operations on AWS."""

    cloud = "aws"
    free = "alarms and the dashboard"

    def call(self, name: str, size: int) -> float:
        """Price of one call of an operation, with data of this size."""
        dynamodb, s3 = self.table["dynamodb"], self.table["s3"]
        where, what = name.split(".")
        if where == "objects":
            return float(s3["get"] if what == "get" else s3["put"])
        if what in ("put", "delete"):
            beside = {"log": ENTRY_BYTES + size, "records": RECORD_BYTES + size}.get(where, 0)
            return float(_writes(beside) * dynamodb["write-unit"])
        return float(_reads(RECORD_BYTES + size if where == "records" else 0) * dynamodb["read-unit"])

    def message(self, size: int) -> float:
        """Price of a message through the worker queue: send, receive, delete."""
        worker = self.config.worker_queue
        if worker is QueueType.DIRECT:
            return 0.0
        if worker is QueueType.DYNAMODB:
            return float(_writes(size + 400) * self.table["dynamodb"]["write-unit"])
        sqs = self.table["sqs"]
        each = sqs["fifo-request" if worker is QueueType.SQS else "request"]
        chunks = ceil((size + 400) * 4 / 3 / sqs["chunk-bytes"])
        return float((2 * chunks + 1) * each)

    def operation(self, operation: str, size: int, clients: int = 1) -> float:
        calls = CALLS[self.storage.value][operation]
        apart = size > INLINE_BYTES and operation in ("set", "create", "get")
        inline = 0 if apart else size
        total = sum(
            many * self.call(name, inline if name in ("log.put", "records.put", "records.get") else 0)
            for side in calls.values()
            for name, many in side.items()
        )
        if apart:
            total += self._apart(operation, size)
        if calls["function"] and operation != "notification":
            total += self.message(inline)
            if self.config.worker_queue is not QueueType.DIRECT:
                total += self._function(_FUNCTION_MS[self.storage.value])
            if self.config.distributor_queue is not QueueType.INLINE:
                total += self.message(inline) + self._function(10.0)
        if operation == "notification":
            total += self._function(10.0)
        direct = self.config.worker_queue is QueueType.DIRECT and operation != "notification"
        if self.config.client_channel.value == "sqs" and calls["function"] and not direct:
            total += 3 * self.table["sqs"]["fifo-request"]
        return total

    def _apart(self, operation: str, size: int) -> float:
        dynamodb, s3 = self.table["dynamodb"], self.table["s3"]
        reads = operation == "get"
        if self.storage is StorageType.KEY_VALUE:
            unit = _reads(size) * dynamodb["read-unit"] if reads else _writes(size) * dynamodb["write-unit"]
            return float(unit)
        return float(s3["get"] if reads else s3["put"])

    def _function(self, milliseconds: float) -> float:
        price = self.table["lambda"]
        return float(price["request"] + milliseconds / 1000 * _MEMORY_GB * price["gb-second"])

    def at_rest(self) -> dict[str, float]:
        price = self.table
        beat = sum(many * self.call(name, 0) for name, many in BEAT.items())
        beat += price["lambda"]["request"] + 0.1 * 0.5 * price["lambda"]["gb-second"]
        sweep = sum(many * self.call(name, 0) for name, many in SWEEP.items())
        polling = 0.0
        for kind in (self.config.worker_queue, self.config.distributor_queue):
            if kind in (QueueType.SQS, QueueType.DIRECT):
                polling += _POLLERS * MONTH_S / 20 * price["sqs"]["fifo-request"]
            elif kind is QueueType.SQS_UNORDERED:
                polling += _POLLERS * MONTH_S / 20 * price["sqs"]["request"]
        return {
            "heartbeat": self.beats * (beat + price["scheduler"]["call"]),
            "sweeps": 720 * sweep,
            "idle polling of queues": polling,
            "alarms (ten per account are free)": 6 * price["cloudwatch"]["alarm-month"],
            "dashboard (three are free)": price["cloudwatch"]["dashboard-month"],
        }

    def look(self, size: int = 0) -> float:
        """A strongly consistent read of the entry; larger data is apart."""
        entry = ENTRY_BYTES + size if 0 < size <= INLINE_BYTES else ENTRY_BYTES if size else 0
        return float(_reads(entry) * self.table["dynamodb"]["read-unit"])

    def following(self, load: Workload) -> float:
        """A look that finds more than two entries goes on by a query of each stripe."""
        pages = 0.0
        if load.follow:
            pages = min(MONTH_S * 1000 / load.follow, load.writes / 3) * LOG_STRIPES
        return super().following(load) + pages * float(self.table["dynamodb"]["read-unit"])

    def listening(self) -> float:
        """A client polls its queue, 20 s each time."""
        if self.config.client_channel.value != "sqs":
            return 0.0
        return float(MONTH_S / 20 * self.table["sqs"]["fifo-request"])

    def stored(self, load: Workload) -> tuple[float, float]:
        records, log = self.kept(load)
        dynamodb, s3 = self.table["dynamodb"], self.table["s3"]
        if self.storage is StorageType.PERSISTENT:
            storage = records * s3["storage-gb-month"] + log * dynamodb["storage-gb-month"]
            backups = log * dynamodb["backup-gb-month"]
        else:
            storage = (records + log) * dynamodb["storage-gb-month"]
            backups = (records + log) * dynamodb["backup-gb-month"]
        return storage, backups + self.replaced(load, _KEPT_DAYS) * s3["storage-gb-month"]

    def logs(self, load: Workload) -> float:
        """Functions log what is wrong; with benchmarking, metrics, too."""
        if not self.config.benchmarking:
            return 0.0
        lines = load.writes / self.config.benchmarking_frequency
        return float(lines * _METRICS_BYTES / GB * self.table["cloudwatch"]["log-gb"])

    def update(self) -> float:
        """Nothing: Lambda takes the archive as it is."""
        return 0.0

    def zookeeper(self, servers: int = 3) -> float:
        """Monthly costs of the published evaluation's ensemble."""
        ec2 = self.table["ec2"]
        return float(servers * (ec2["t3.small-hour"] * 720 + 20 * ec2["gp3-gb-month"]))

    def published(self, load: Workload) -> float:
        """Monthly costs of the published system, where published: set_data, get_data, key-value."""
        published, size = self.table["published"], load.size + RECORD_BYTES
        dynamodb, function = self.table["dynamodb"], self.table["lambda"]
        write = (
            published["writes"] * _writes(size) * dynamodb["write-unit"]
            + published["reads"] * _reads(size) * dynamodb["read-unit"]
            + published["messages"] * 3 * self.table["sqs"]["fifo-request"]
            + published["function-calls"] * function["request"]
            + published["function-gb-seconds"] * function["gb-second"]
        )
        return float(load.writes * write + load.reads * _reads(size) * dynamodb["read-unit"])
