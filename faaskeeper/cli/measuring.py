"""What a deployment does now, as its client sees it: ``fk top`` without its table.

The log says what was written, and when; leases say which sessions there are; the mark says how far
user storage is behind. Nobody counts reads, and watches are counted by servers for their clients
only: what is not known is listed with the reason.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, TypeVar

from faaskeeper.cli.errors import Failed
from faaskeeper.cli.following import entry_before
from faaskeeper.cli.servers import numbers
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.clocks import clock, elapsed_s
from faaskeeper.config import Config
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.core.log import Entry, Log, Trimmed
from faaskeeper.deploy.costs import MONTH_S, Workload
from faaskeeper.deploy.providers import costs_of

T = TypeVar("T")
_LOOKS_BACK = 1000
"""Transactions before the log's end at which the first look begins."""
PATHS = 10
"""How many of the paths with most writes are shown."""
_DAY_MS = 24 * 3600 * 1000


class Rates:
    """How fast counters grow from look to look."""

    def __init__(self) -> None:
        self._before: dict[str, tuple[float, float]] = {}

    def rate(self, name: str, counted: float) -> float | None:
        """The growth per second since the last call with this name; None with the first one."""
        now = elapsed_s()
        before = self._before.get(name)
        self._before[name] = now, counted
        if before is None:
            return None
        return round(max(counted - before[1], 0) / max(now - before[0], 1e-3), 1)


def last_rows(found: dict[str, Any], server: Callable[[dict[str, Any]], str]) -> Iterator[tuple[str, str]]:
    """Lines of a table: servers, as ``server`` writes one, paths with most writes, what is not known."""
    for each in found["servers"]:
        yield each["server"], each.get("error") or server(each)
    for number, each in enumerate(found["paths"]):
        yield "" if number else "most writes", f"{each['writes']:6} {each['path']}"
    for number, (what, why) in enumerate(found["unknown"].items()):
        yield "" if number else "not known", f"{what}: {why}"


class Meter:
    """Looks at a deployment, again and again. ``window``: seconds for which writes count as recent."""

    def __init__(
        self,
        client: FaaSKeeperClient,
        config: Config,
        servers: Sequence[tuple[str, int]] = (),
        window: float = 60.0,
    ) -> None:
        self._client = client
        self._config = config
        self._servers = servers
        self._window = window
        self._recent: deque[tuple[float, Entry]] = deque()
        """Entries with when they were committed, by :func:`elapsed_s`."""
        self._at = -1
        """The last transaction of the last entry that was read."""
        self._began: tuple[int, int] | None = None
        """A transaction and its time (ms), from which this month's writes are counted."""
        self._rates = Rates()
        """Of requests, by server."""

    def look(self) -> dict[str, Any]:
        """What the deployment does now. Raises DriverError if its log cannot be read."""
        unknown = {"reads": "clients read the stores, and nobody counts"}
        self._read()
        found: dict[str, Any] = self._writes()
        found["lag"] = max(self._at - self._client.connection.applied(), 0)
        found.update(self._sessions(unknown))
        found.update(self._tree(unknown))
        found["servers"] = [self._server(each) for each in self._servers]
        if not self._servers:
            unknown["watches, latencies"] = "servers count them: --server HOST:PORT of an fk serve"
        found["month"] = self._month(found, unknown)
        found["unknown"] = unknown
        return found

    # ---- the log -------------------------------------------------------------------------

    def _read(self) -> None:
        """Read what the log has after the last look."""
        log = self._client.connection.log
        if self._at < 0:
            self._at = _begin(log, self._client.connection.applied())
        now, here, more = clock(), elapsed_s(), True
        while more:
            try:
                entries, more = log.after(self._at)
            except Trimmed as error:  # this process stood still for days
                self._at = error.first - 1
                continue
            for entry in entries:
                self._at = entry.last
                self._recent.append((here - max(now - entry.time, 0) / 1000, entry))
        while self._recent and self._recent[0][0] < here - self._window:
            self._recent.popleft()

    def _writes(self) -> dict[str, Any]:
        entries = [entry for _, entry in self._recent]
        transactions = [each for entry in entries for each in entry.transactions]
        requests = sum(len(each.outcomes) for entry in entries for each in entry.answers)
        paths: Counter[str] = Counter()
        size = 0
        for transaction in transactions:
            for path, letters, _, data in transaction.changes:
                if letters.strip("K"):
                    paths[path] += 1
                    size += len(data or b"")
        window = self._window
        return {
            "transaction": self._at,
            "writes_per_s": round(requests / window, 2),
            "transactions_per_s": round(len(transactions) / window, 2),
            "batch": round(requests / len(entries), 1) if entries else 0,
            "bytes_per_s": round(size / window),
            "window_s": window,
            "paths": [{"path": path, "writes": number} for path, number in paths.most_common(PATHS)],
        }

    # ---- sessions, tree, servers -----------------------------------------------------------

    def _sessions(self, unknown: dict[str, str]) -> dict[str, Any]:
        leases = _known("sessions", unknown, lambda: list(self._client.connection.leases.all()))
        if leases is None:
            return {"sessions": None}
        serving = {each.under for each in leases if each.under}
        sessions = [each for each in leases if each.session not in serving]
        return {"sessions": len(sessions), "through_servers": sum(each.under > 0 for each in sessions)}

    def _tree(self, unknown: dict[str, str]) -> dict[str, Any]:
        count = self._client.connection.tally
        tally = None if count is None else _known("znodes", unknown, count)
        if tally is None:
            unknown.setdefault("znodes", "the release that made this deployment did not count them")
            return {"znodes": None, "ephemerals": None, "data_bytes": None}
        return {"znodes": tally.nodes, "ephemerals": tally.ephemerals, "data_bytes": tally.size}

    def _server(self, address: tuple[str, int]) -> dict[str, Any]:
        name = f"{address[0]}:{address[1]}"
        try:
            counted = numbers(address)
        except Failed as error:
            return {"server": name, "error": str(error)}
        received = counted.get("packets_received", 0.0)
        return {
            "server": name,
            "requests_per_s": self._rates.rate(name, received),
            "requests": int(received),
            "latency_ms": counted.get("avg_latency"),
            "connections": int(counted.get("num_alive_connections", 0)),
            "sessions": int(counted.get("global_sessions", 0)),
            "watches": int(counted.get("watch_count", 0)),
            "waiting": int(counted.get("outstanding_requests", 0)),
            "lag": int(counted.get("distributor_lag", 0)),
        }

    # ---- cost ------------------------------------------------------------------------------

    def _month(self, found: dict[str, Any], unknown: dict[str, str]) -> dict[str, Any] | None:
        """The cost of this month so far, in dollars: an estimate from the log and a table of prices."""
        costs = costs_of(self._config)
        if costs is None:
            unknown["cost"] = f"there are no prices for {self._config.provider_name!r}"
            return None
        now = clock()
        start = int(datetime.fromtimestamp(now / 1000, UTC).replace(
            day=1, hour=0, minute=0, second=0, microsecond=0
        ).timestamp() * 1000)  # fmt: skip
        if self._began is None:
            self._began = first_since(self._client.connection.log, start, self._at)
        txid, time = self._began
        writes = float(max(self._at - txid, 0))
        if txid and time - start > _DAY_MS and now > time:  # the log has less: assume as many before
            writes *= (now - start) / (now - time)
        share = (now - start) / 1000 / MONTH_S
        nodes, clients = found["znodes"] or 0, found["sessions"] or 0
        size = int((found["data_bytes"] or 0) / nodes) if nodes else 1024
        lease_s = max(self._config.session_timeout / 3, 1)
        load = Workload(0, writes / max(share, 1e-9), size, clients, lease_s, nodes)
        parts = {name: price * share for name, price in costs.month(load).items() if price}
        unknown["cost of reads"] = "see 'fk cost --reads', and the cloud's bill"
        return {
            "dollars": round(sum(parts.values()), 4),
            "writes": int(writes),
            "parts": {name: round(price, 4) for name, price in parts.items()},
            "counted_since": time,
        }


def _known(what: str, unknown: dict[str, str], read: Callable[[], T]) -> T | None:
    try:
        return read()
    except (DriverError, StaleView) as error:
        unknown[what] = str(error)
        return None


def _begin(log: Log, applied: int) -> int:
    """A transaction some way before the log's end, after which an entry begins."""
    try:
        return entry_before(log, max(applied - _LOOKS_BACK, 0))
    except Failed:  # trimmed: begin with what there is
        return first_entry(log, 0)[0] if applied else 0


def first_entry(log: Log, txid: int) -> tuple[int, int | None]:
    """The transaction before the first entry after a transaction, and that entry's time (ms)."""
    try:
        entries, _ = log.after(txid, 1)
    except Trimmed as error:
        entry = log.at(error.first)
        return error.first - 1, None if entry is None else entry.time
    return (entries[0].first - 1, entries[0].time) if entries else (txid, None)


def first_since(log: Log, time: int, last: int) -> tuple[int, int]:
    """The transaction before the log's first entry at or after a time (ms), and that entry's time.

    ``last``: the log's last transaction. By halves: some twenty reads.
    """
    low, high = 0, last
    found = last, time
    while low < high:
        middle = (low + high) // 2
        before, at = first_entry(log, middle)
        if at is None or before >= high:
            high = middle
        elif at < time:
            low = max(before, middle) + 1
        else:
            found, high = (before, at), middle
    return found
