"""Costs of a deployment: numbers of calls times the prices of a dated file.

:data:`CALLS` is the only source of the numbers. The tests count the calls that the code makes and
compare. :mod:`faaskeeper.deploy.aws.costs` and :mod:`faaskeeper.deploy.gcp.costs` have what a call
costs on each cloud.
"""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Mapping
from importlib.resources import files
from typing import Any, NamedTuple

from faaskeeper.config import Config, StorageType

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
FOLLOW_MS = 200
"""How often a server that reads from memory looks at the log, unless it is told otherwise. The same as the
gateway's constant."""
FOLLOW: dict[str, int] = {"log.get": 1}
"""Calls of a server that looks for new entries of the log and finds none (``fk serve --reads memory``)."""
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

ENTRY_BYTES, RECORD_BYTES = 550, 450
"""Approximate bytes of an entry and a record without data."""
MONTH_S = 30 * 24 * 3600
GB = 1 << 30
_LOG_DAYS = 8
"""How long an entry is kept, about: a week, until the next sweep or the store's own."""


def prices(cloud: str) -> dict[str, Any]:
    """The price table of a cloud: aws or gcp."""
    text = files("faaskeeper.deploy").joinpath("prices.json").read_text(encoding="utf-8")
    table: dict[str, Any] = json.loads(text)[cloud]
    return table


class Workload(NamedTuple):
    """A monthly load.

    ``reads``, ``writes``; ``size``: bytes of a znode's data; ``clients``: open sessions;
    ``lease_s``: seconds between two renewals; ``nodes``: stored znodes; ``updates``: deployments of
    code; ``outside``: the share of what is read that leaves the cloud. ``follow``: ms between two
    looks at the log by the server that answers all reads from its memory; 0: there is none.
    """

    reads: float = 0
    writes: float = 0
    size: int = 1024
    clients: int = 0
    lease_s: float = 60.0
    nodes: float = 0
    updates: float = 0
    outside: float = 0.0
    follow: float = 0.0


class Costs(ABC):
    """Prices of a configuration's operations, in dollars.

    ``cloud``: of the price table; ``free``: what an account may have for nothing, for the summary.
    """

    cloud: str
    free: str

    def __init__(self, config: Config, table: Mapping[str, Any] | None = None) -> None:
        self.table = table or prices(self.cloud)
        self.config = config
        self.storage = config.user_storage
        self.beats = MONTH_S / max(config.heartbeat_frequency, 60)

    # ---- what each cloud has its own prices for ------------------------------------------

    @abstractmethod
    def operation(self, operation: str, size: int, clients: int = 1) -> float:
        """Price of one operation on its own; batches cost less.

        ``clients``: that listen, of which one is answered.
        """

    @abstractmethod
    def at_rest(self) -> dict[str, float]:
        """Monthly costs of an idle deployment, by category. What may be free says so."""

    @abstractmethod
    def look(self, size: int = 0) -> float:
        """Price of a look for the next entry of the log, which has one write of so many bytes, or is
        not there.
        """

    def following(self, load: Workload) -> float:
        """Monthly price of a server that follows the log, if others write all of it.

        After each entry that it finds it looks for the next one.
        """
        if not load.follow:
            return 0.0
        return MONTH_S * 1000 / load.follow * self.look() + load.writes * self.look(load.size)

    def listening(self) -> float:
        """Monthly price of a client process that waits for answers."""
        return 0.0

    @abstractmethod
    def stored(self, load: Workload) -> tuple[float, float]:
        """Monthly costs of what is stored, and of what can be restored."""

    @abstractmethod
    def logs(self, load: Workload) -> float:
        """Monthly costs of log output."""

    @abstractmethod
    def update(self) -> float:
        """Price of one deployment of code."""

    @abstractmethod
    def zookeeper(self, servers: int = 3) -> float:
        """Monthly costs of an ensemble of small servers, with 20 GB of disk each."""

    def published(self, load: Workload) -> float | None:
        """Monthly costs of the published system's operations; None: they are not known."""
        return None

    # ---- a month ---------------------------------------------------------------------------

    def kept(self, load: Workload) -> tuple[float, float]:
        """GB of records with their data, and of the log."""
        records = load.nodes * (RECORD_BYTES + load.size) / GB
        return records, load.writes * _LOG_DAYS / 30 * (ENTRY_BYTES + load.size) / GB

    def replaced(self, load: Workload, days: float) -> float:
        """GB of objects that were replaced or deleted and are kept for so many days."""
        if self.storage is StorageType.PERSISTENT:
            return load.writes * days / 30 * (RECORD_BYTES + load.size) / GB
        return 0.0

    def month(self, load: Workload) -> dict[str, float]:
        """Monthly costs of a load, by category.

        Of six writes four are sets, one is a create, one a delete. A server that follows the log
        reads a path again after each write.
        """
        write = (
            4 * self.operation("set", load.size, load.clients)
            + self.operation("create", load.size, load.clients)
            + self.operation("delete", 0, load.clients)
        ) / 6
        storage, backups = self.stored(load)
        read = min(load.reads, load.writes) if load.follow else load.reads
        leaving = load.reads * load.size * load.outside / GB
        return {
            "at rest": sum(self.at_rest().values()),
            "reads": read * self.operation("get", load.size),
            "writes": load.writes * write,
            "leases": load.clients * MONTH_S / load.lease_s * self.operation("lease", 0),
            "listening": load.clients * self.listening(),
            **({"following the log": self.following(load)} if load.follow else {}),
            "storage": storage,
            "backups": backups,
            "logs": self.logs(load),
            "updates of code": load.updates * self.update(),
            "data that leaves the cloud": leaving * float(self.table["egress"]["gb"]),
        }

    def break_even(self, load: Workload) -> float:
        """Operations per month, in the load's mix, above which the ensemble is cheaper (or inf)."""
        operations = load.reads + load.writes
        idle = sum(self.month(load._replace(reads=0, writes=0)).values())
        each = (sum(self.month(load).values()) - idle) / operations if operations else 0.0
        left = self.zookeeper() - idle
        return left / each if each else float("inf")

    def summary(self) -> str:
        """A few lines: the idle deployment, and each operation with 1 KB per million."""
        rest = self.at_rest()
        free = sum(price for name, price in rest.items() if "free" in name)
        lines = [
            f"Estimated cost, {self.table['region']}, prices of {self.table['as-of']}, without free tiers:",
            f"  at rest   ${sum(rest.values()) - free:.2f} per month, and ${free:.2f} for {self.free} "
            "unless the account's free ones cover them",
        ]
        for operation in ("set", "create", "delete", "get", "watch", "notification"):
            lines.append(f"  {operation:12} ${self.operation(operation, 1024) * 1e6:.2f} per million, 1 KB")
        lease = MONTH_S / 60 * self.operation("lease", 0)
        lines.append(f"  {'lease':12} ${lease:.2f} per session and month")
        follow = self.following(Workload(follow=FOLLOW_MS))
        lines.append(f"  {'following':12} ${follow:.2f} per server and month, every {FOLLOW_MS} ms")
        if self.listening():
            lines.append(f"  {'listening':12} ${self.listening():.2f} per client process and month")
        return "\n".join(lines)
