"""Costs of a deployment on AWS: numbers of calls times the prices of a dated file.

:data:`CALLS` is the only source of the numbers. The tests count the calls that the code makes and
compare.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.resources import files
from math import ceil
from typing import Any, NamedTuple

from faaskeeper.config import Config, QueueType, StorageType

Calls = dict[str, dict[str, dict[str, int]]]
"""Number of calls by operation, caller (client or function), driver and method."""

_IN_TABLES: Calls = {
    "set": {"client": {}, "function": {"log.put": 1, "records.put": 1, "watch.query": 2}},
    "create": {"client": {}, "function": {"log.put": 1, "records.put": 2, "watch.query": 3}},
    "delete": {"client": {}, "function": {"log.put": 1, "records.put": 2, "watch.query": 3}},
    "get": {"client": {"records.get": 1}, "function": {}},
    "exists": {"client": {"records.get": 1}, "function": {}},
    "children": {"client": {"records.get": 1}, "function": {}},
    "watch": {"client": {"records.get": 2, "watch.put": 1}, "function": {}},
    "notification": {"client": {}, "function": {"watch.delete": 1}},
    "lease": {"client": {"lease.put": 1}, "function": {}},
}
_IN_BUCKET: Calls = {
    **_IN_TABLES,
    "set": {"client": {}, "function": {"log.put": 1, "objects.put": 1, "watch.query": 2}},
    "create": {
        "client": {},
        "function": {"log.put": 1, "objects.get": 1, "objects.put": 2, "watch.query": 3},
    },
    "delete": {"client": {}, "function": {"log.put": 1, "objects.put": 2, "watch.query": 3}},
    "get": {"client": {"objects.get": 1}, "function": {}},
    "exists": {"client": {"objects.get": 1}, "function": {}},
    "children": {"client": {"objects.get": 1}, "function": {}},
    "watch": {"client": {"objects.get": 2, "watch.put": 1}, "function": {}},
}
CALLS: dict[str, Calls] = {"key-value": _IN_TABLES, "hybrid": _IN_TABLES, "persistent": _IN_BUCKET}
"""By user storage and operation, for data up to the inline limit: numbers of calls by caller."""
BEAT: dict[str, int] = {"lease.query": 2, "checkpoint.get": 1, "log.get": 1}
"""Calls of one heartbeat of an idle deployment: two lease partitions, mark, next entry."""
SWEEP: dict[str, int] = {
    "checkpoint.get": 2,
    "checkpoint.query": 1,
    "records.query": 1,
    "heartbeat.get": 1,
    "heartbeat.put": 1,
    "objects.list": 1,
}
"""Maximum number of calls of one sweep of an idle deployment; a sweep runs every hour."""

INLINE_BYTES = 16 * 1024
"""Larger data is a blob. The same as the provider's constant, whose module needs boto3."""
_ENTRY_BYTES, _RECORD_BYTES = 550, 450
"""Approximate bytes of an entry and a record without data."""
_FUNCTION_MS = {"key-value": 15.0, "hybrid": 15.0, "persistent": 40.0}
"""Approximate duration of a writer's invocation for one request: the modelled time of its calls."""
_POLLERS = 5
"""Long polls that an event source keeps open on an idle queue, 20 s each."""
_MONTH_S = 30 * 24 * 3600
_MEMORY_GB = 1.0


def prices() -> dict[str, Any]:
    """The price table."""
    text = files("faaskeeper.deploy").joinpath("prices.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)
    return table


def _writes(size: int) -> int:
    return max(ceil(size / 1024), 1)


def _reads(size: int) -> int:
    return max(ceil(size / 4096), 1)


class Workload(NamedTuple):
    """A monthly load: reads, writes, bytes of data, clients, and seconds between lease renewals."""

    reads: float = 0
    writes: float = 0
    size: int = 1024
    clients: int = 0
    lease_s: float = 60.0


class Costs:
    """Prices of a configuration's operations, in dollars."""

    def __init__(self, config: Config, table: Mapping[str, Any] | None = None) -> None:
        self.table = table or prices()
        self._storage = config.user_storage
        self._worker = config.worker_queue
        self._distributor = config.distributor_queue
        self._channel = config.client_channel.value
        self._beats = _MONTH_S / max(config.heartbeat_frequency, 60)

    def call(self, name: str, size: int) -> float:
        """Price of one call of an operation, with data of this size."""
        dynamodb, s3 = self.table["dynamodb"], self.table["s3"]
        where, what = name.split(".")
        if where == "objects":
            return float(s3["get"] if what == "get" else s3["put"])
        if what in ("put", "delete"):
            beside = {"log": _ENTRY_BYTES + size, "records": _RECORD_BYTES + size}.get(where, 0)
            return float(_writes(beside) * dynamodb["write-unit"])
        return float(_reads(_RECORD_BYTES + size if where == "records" else 0) * dynamodb["read-unit"])

    def message(self, size: int) -> float:
        """Price of a message through the worker queue: send, receive, delete."""
        if self._worker is QueueType.DIRECT:
            return 0.0
        if self._worker is QueueType.DYNAMODB:
            return float(_writes(size + 400) * self.table["dynamodb"]["write-unit"])
        sqs = self.table["sqs"]
        each = sqs["fifo-request" if self._worker is QueueType.SQS else "request"]
        chunks = ceil((size + 400) * 4 / 3 / sqs["chunk-bytes"])
        return float((2 * chunks + 1) * each)

    def operation(self, operation: str, size: int) -> float:
        """Price of one operation on its own; batches cost less."""
        calls = CALLS[self._storage.value][operation]
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
            if self._worker is not QueueType.DIRECT:
                total += self._function(_FUNCTION_MS[self._storage.value])
            if self._distributor is not QueueType.INLINE:
                total += self.message(inline) + self._function(10.0)
        if operation == "notification":
            total += self._function(10.0)
        asked = self._worker is QueueType.DIRECT and operation != "notification"  # by this process itself
        if self._channel == "sqs" and calls["function"] and not asked:
            total += 3 * self.table["sqs"]["fifo-request"]
        return total

    def _apart(self, operation: str, size: int) -> float:
        dynamodb, s3 = self.table["dynamodb"], self.table["s3"]
        reads = operation == "get"
        if self._storage is StorageType.KEY_VALUE:
            unit = _reads(size) * dynamodb["read-unit"] if reads else _writes(size) * dynamodb["write-unit"]
            return float(unit)
        return float(s3["get"] if reads else s3["put"])

    def listening(self) -> float:
        """Monthly price of one client's polls of its queue for answers."""
        return _MONTH_S / 20 * float(self.table["sqs"]["fifo-request"]) if self._channel == "sqs" else 0.0

    def _function(self, milliseconds: float) -> float:
        price = self.table["lambda"]
        return float(price["request"] + milliseconds / 1000 * _MEMORY_GB * price["gb-second"])

    def at_rest(self) -> dict[str, float]:
        """Monthly costs of an idle deployment, by category."""
        price = self.table
        beat = sum(many * self.call(name, 0) for name, many in BEAT.items())
        beat += price["lambda"]["request"] + 0.1 * 0.5 * price["lambda"]["gb-second"]
        sweep = sum(many * self.call(name, 0) for name, many in SWEEP.items())
        polling = 0.0
        sources = [self._worker, self._distributor]
        for kind in sources:
            if kind in (QueueType.SQS, QueueType.DIRECT):
                polling += _POLLERS * _MONTH_S / 20 * price["sqs"]["fifo-request"]
            elif kind is QueueType.SQS_UNORDERED:
                polling += _POLLERS * _MONTH_S / 20 * price["sqs"]["request"]
        return {
            "heartbeat": self._beats * (beat + price["scheduler"]["call"]),
            "sweeps": 720 * sweep,
            "idle polling of queues": polling,
            "alarms (ten per account are free)": 5 * price["cloudwatch"]["alarm-month"],
            "dashboard (three are free)": price["cloudwatch"]["dashboard-month"],
        }

    def month(self, load: Workload) -> dict[str, float]:
        """Monthly costs of a load, by category.

        Of six writes four are sets, one is a create, one a delete.
        """
        write = (
            4 * self.operation("set", load.size)
            + self.operation("create", load.size)
            + self.operation("delete", 0)
        ) / 6
        return {
            "at rest": sum(self.at_rest().values()),
            "reads": load.reads * self.operation("get", load.size),
            "writes": load.writes * write,
            "leases": load.clients * _MONTH_S / load.lease_s * self.operation("lease", 0),
            "listening": load.clients * self.listening(),
        }

    def zookeeper(self, servers: int = 3) -> float:
        """Monthly costs of the published evaluation's ensemble, with 20 GB of disk per server."""
        ec2 = self.table["ec2"]
        return float(servers * (ec2["t3.small-hour"] * 720 + 20 * ec2["gp3-gb-month"]))

    def published(self, load: Workload) -> float:
        """Monthly costs of the published system, where published: set_data, get_data, key-value."""
        published, size = self.table["published"], load.size + _RECORD_BYTES
        dynamodb, function = self.table["dynamodb"], self.table["lambda"]
        write = (
            published["writes"] * _writes(size) * dynamodb["write-unit"]
            + published["reads"] * _reads(size) * dynamodb["read-unit"]
            + published["messages"] * 3 * self.table["sqs"]["fifo-request"]
            + published["function-calls"] * function["request"]
            + published["function-gb-seconds"] * function["gb-second"]
        )
        return float(load.writes * write + load.reads * _reads(size) * dynamodb["read-unit"])

    def break_even(self, load: Workload) -> float:
        """Operations per month, in the load's mix, above which the ensemble is cheaper (or inf)."""
        variable = self.month(load)
        operations = load.reads + load.writes
        each = (variable["reads"] + variable["writes"]) / operations if operations else 0.0
        left = self.zookeeper() - variable["at rest"] - variable["leases"] - variable["listening"]
        return left / each if each else float("inf")

    def summary(self) -> str:
        """A few lines: the idle deployment, and each operation with 1 KB per million."""
        rest = self.at_rest()
        free = sum(price for name, price in rest.items() if "free" in name)
        lines = [
            f"Estimated cost, {self.table['region']}, prices of {self.table['as-of']}, without free tiers:",
            f"  at rest   ${sum(rest.values()) - free:.2f} per month, and ${free:.2f} for alarms and the "
            "dashboard unless the account's free ones cover them",
        ]
        for operation in ("set", "create", "delete", "get", "watch", "notification"):
            lines.append(f"  {operation:12} ${self.operation(operation, 1024) * 1e6:.2f} per million, 1 KB")
        lease = _MONTH_S / 60 * self.operation("lease", 0)
        lines.append(f"  {'lease':12} ${lease:.2f} per session and month")
        if self.listening():
            lines.append(f"  {'listening':12} ${self.listening():.2f} per client process and month")
        return "\n".join(lines)
