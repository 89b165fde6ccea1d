"""Prices of Google Cloud: Datastore, Cloud Storage, Pub/Sub, Cloud Run, Cloud Build, Monitoring."""

from __future__ import annotations

import json
from functools import cached_property
from math import ceil
from typing import Any

from faaskeeper.config import QueueType, StorageType
from faaskeeper.deploy import costs
from faaskeeper.deploy.costs import BEAT, CALLS, GB, MONTH_S, Costs, Workload
from faaskeeper.deploy.templates import templates

INLINE_BYTES = 64 * 1024
"""Larger data is a blob, except where all is in Datastore. The same as the provider's constant."""
SWEEP = {**costs.SWEEP, "checkpoint.get": 3}
"""Heartbeat trims the log, so it looks at the checkpoint once more."""
_FUNCTION_MS = {"key-value": 50.0, "hybrid": 50.0, "persistent": 150.0}
"""Approximate duration of the writer's work on one request."""
_BEAT_MS = 100.0
_WRITER_GB, _WATCH_GB = 1.0, 0.5
_MESSAGE_BYTES = 400
"""What a request has beside its data."""
_REPLY_BYTES = 600
_REQUEST_LOG_BYTES = 1_000
"""Cloud Run logs each request, about so long."""
_METRICS_BYTES = 600
_BUILD_MINUTES = 2.0
_IMAGES_GB = 0.5
_KEPT_DAYS = 15
"""How long a replaced object is kept: eight days as a version, seven as a deleted one."""
_PITR_DAYS = 7
_EXECUTION_S = 30
"""How often an alert policy looks at its metrics."""


class GcpCosts(Costs):
    """Prices of a configuration's operations on Google Cloud."""

    cloud = "gcp"
    free = "schedules and images"

    def call(self, name: str) -> float:
        """Price of one call; Datastore charges by the entity, of whatever size."""
        datastore, bucket = self.table["datastore"], self.table["storage"]
        where, what = name.split(".")
        if where == "objects":
            return float({"get": bucket["get"], "delete": 0.0}.get(what, bucket["put"]))
        return float(datastore[{"put": "write", "delete": "delete"}.get(what, "read")])

    def message(self, size: int, deliveries: int = 1) -> float:
        """Price of a message of so many bytes: published once, and delivered.

        A subscription whose filter does not let it pass counts as a delivery.
        """
        price = self.table["pubsub"]
        return float((1 + deliveries) * max(size, price["least-bytes"]) * price["byte"])

    def operation(self, operation: str, size: int, clients: int = 1) -> float:
        calls = CALLS[self.storage.value][operation]
        total = sum(many * self.call(name) for side in calls.values() for name, many in side.items())
        apart = size > INLINE_BYTES and self.storage is StorageType.HYBRID
        inline = 0 if apart else size
        if apart and operation in ("set", "create", "get"):
            total += self.call(f"objects.{'get' if operation == 'get' else 'put'}")
        if not calls["function"]:
            return total
        if "log.put" in calls["function"]:  # a sweep reads an entry for garbage, and again to trim it
            total += 2 * self.call("log.get") + self.call("log.delete")
        if operation == "notification":
            total += self.message(_MESSAGE_BYTES) + self._function(_BEAT_MS, _WATCH_GB)
        else:
            if self.config.worker_queue is not QueueType.DIRECT:
                total += self.message(_MESSAGE_BYTES + inline)
                total += self._function(_FUNCTION_MS[self.storage.value], _WRITER_GB)
            if self.config.distributor_queue is not QueueType.INLINE:
                total += self.message(_MESSAGE_BYTES) + self._function(_BEAT_MS, _WRITER_GB)
        direct = self.config.worker_queue is QueueType.DIRECT and operation != "notification"
        if self.config.client_channel.value == "pubsub" and not direct:
            total += self.message(_REPLY_BYTES, max(clients, 1))
        return total

    def _function(self, milliseconds: float, memory_gb: float) -> float:
        price = self.table["run"]
        seconds = ceil(milliseconds / price["least-ms"]) * price["least-ms"] / 1000
        return float(price["request"] + seconds * (price["cpu-second"] + memory_gb * price["gb-second"]))

    def look(self, size: int = 0) -> float:
        """A query, which is charged as one entity where it finds none."""
        return sum(many * self.call(name) for name, many in costs.FOLLOW.items())

    @cached_property
    def _conditions(self) -> int:
        """Number of conditions of the alert policies."""
        section = self.config.provider_config.get("deploy", {})
        if isinstance(section, dict) and section.get("monitoring") is False:
            return 0
        text = templates("gcp").joinpath("resources.json").read_text(encoding="utf-8")
        alerts: dict[str, Any] = json.loads(text)["alerts"]
        return sum(len(each["conditions"]) for each in alerts.values())

    def at_rest(self) -> dict[str, float]:
        price = self.table
        log = _REQUEST_LOG_BYTES / GB * price["logging"]["gb"]
        beat = sum(many * self.call(name) for name, many in BEAT.items())
        beat += self._function(_BEAT_MS, _WATCH_GB) + log
        sweep = sum(many * self.call(name) for name, many in SWEEP.items())
        sweep += self._function(2 * _BEAT_MS, _WATCH_GB) + log
        monitoring = price["monitoring"]
        series = MONTH_S / _EXECUTION_S * monitoring["series"]
        return {
            "heartbeat": self.beats * beat,
            "sweeps": 720 * sweep,
            "alert policies": self._conditions * (monitoring["condition-month"] + series),
            "schedules (three per account are free)": 2 * price["scheduler"]["job-month"],
            "images (0.5 GB per account are free)": _IMAGES_GB * price["registry"]["gb-month"],
        }

    def stored(self, load: Workload) -> tuple[float, float]:
        records, log = self.kept(load)
        datastore, bucket = self.table["datastore"], self.table["storage"]
        changed = load.writes * _PITR_DAYS / 30 * (costs.RECORD_BYTES + load.size) / GB
        if self.storage is StorageType.PERSISTENT:
            storage = records * bucket["gb-month"] + log * datastore["gb-month"]
            backups = log * datastore["pitr-gb-month"]
        else:
            storage = (records + log) * datastore["gb-month"]
            backups = (records + log + changed) * datastore["pitr-gb-month"]
        return storage, backups + self.replaced(load, _KEPT_DAYS) * bucket["gb-month"]

    def logs(self, load: Workload) -> float:
        """Cloud Run's line for each call; with benchmarking, metrics, too."""
        calls = 0 if self.config.worker_queue is QueueType.DIRECT else load.writes
        if self.config.distributor_queue is not QueueType.INLINE:
            calls += load.writes
        lines = load.writes / self.config.benchmarking_frequency if self.config.benchmarking else 0
        total = calls * _REQUEST_LOG_BYTES + lines * _METRICS_BYTES
        return float(total / GB * self.table["logging"]["gb"])

    def update(self) -> float:
        """Each function is built anew."""
        return float(4 * _BUILD_MINUTES * self.table["build"]["minute"])

    def zookeeper(self, servers: int = 3) -> float:
        """Monthly costs of an ensemble of the published evaluation's size."""
        compute = self.table["compute"]
        return float(servers * (compute["e2-small-hour"] * 720 + 20 * compute["pd-balanced-gb-month"]))
