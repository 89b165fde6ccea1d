"""A server's metrics, and their export to Prometheus.

To count a request takes a fraction of a microsecond and no other package; ``prometheus_client``
(the extra ``gateway``) is imported by :func:`expose` alone.
"""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, NamedTuple

from faaskeeper.clocks import elapsed_s
from faaskeeper.core.tally import Tally
from faaskeeper.gateway.memory import MemoryLevels
from faaskeeper.gateway.protocol import NAMES

BUCKETS_S = (0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)
"""Upper bounds of the latency histograms, in seconds."""


class RequestStats:
    """One type of request: how many were answered, with which errors, after how long (s)."""

    __slots__ = ("buckets", "errors", "most", "number", "total")

    def __init__(self) -> None:
        self.number = 0
        self.total = 0.0
        self.most = 0.0
        self.buckets = [0] * (len(BUCKETS_S) + 1)
        self.errors: dict[int, int] = {}


class ConnectionStats:
    """Latencies of one connection's requests (s).

    Of the last reply: its request's ``kind`` and ``xid``, its ``zxid``, ``at`` (s since 1970).
    """

    __slots__ = ("at", "kind", "least", "most", "number", "took", "total", "xid", "zxid")

    def __init__(self) -> None:
        self.number = 0
        self.total = 0.0
        self.least = 0.0
        self.most = 0.0
        self.kind = 0
        self.xid = 0
        self.zxid = 0
        self.took = 0.0
        self.at = 0.0

    def answered(self, kind: int, xid: int, zxid: int, took: float, number: int = 1) -> None:
        """Requests were answered after ``took`` seconds, the last one has this ``xid``."""
        if took > self.most:
            self.most = took
        if took < self.least or not self.number:
            self.least = took
        self.number += number
        self.total += number * took
        self.kind, self.xid, self.zxid, self.took, self.at = kind, xid, zxid, took, time.time()


class Metrics:
    """Counts of one server."""

    def __init__(self) -> None:
        self.kinds: dict[int, RequestStats] = {}
        self.least = 0.0
        self.ended_connections = 0
        self.refused_connections = 0

    def answered(self, kind: int, error: int, came: float, number: int = 1) -> float:
        """Count replies to requests of the time ``came`` (by :func:`elapsed_s`).

        Returns the requests' latency (s).
        """
        counts = self.kinds.get(kind)
        if counts is None:
            counts = self.kinds[kind] = RequestStats()
        took = elapsed_s() - came
        if took < self.least or not self.least:
            self.least = took
        counts.number += number
        counts.total += number * took
        if took > counts.most:
            counts.most = took
        counts.buckets[bisect_left(BUCKETS_S, took)] += number
        if error:
            counts.errors[error] = counts.errors.get(error, 0) + number
        return took

    def ended(self) -> None:
        """A connection was ended by the server."""
        self.ended_connections += 1

    def refused(self) -> None:
        """A connection was refused: there are too many."""
        self.refused_connections += 1

    def latency_ms(self) -> tuple[float, float, float]:
        """Least, average and greatest time to an answer, in ms."""
        number = sum(each.number for each in self.kinds.values())
        total = sum(each.total for each in self.kinds.values())
        most = max((each.most for each in self.kinds.values()), default=0.0)
        return 1000 * self.least, (1000 * total / number if number else 0.0), 1000 * most


class Levels(NamedTuple):
    """A server's gauges at one moment.

    ``waiting``: requests without a reply. ``unsettled``: transactions that are known and may not
    all be in user storage yet. ``tally``: size of the deployment's tree; None where it was not read
    or is not known. ``memory``: None where reads are from storage.
    """

    connections: int
    sessions: int
    watches: int
    watched_paths: int
    waiting: int
    unsettled: int
    zxid: int
    serving: bool
    tally: Tally | None = None
    memory: MemoryLevels | None = None


class _Collector:
    """Reads the counts for Prometheus, in its thread; the gauges are read in the loop's."""

    def __init__(
        self,
        metrics: Metrics,
        levels: Callable[[], Coroutine[Any, Any, Levels]],
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._metrics = metrics
        self._levels = levels
        self._loop = loop

    def collect(self) -> Iterator[Any]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily(
            "faaskeeper_gateway_requests", "Requests answered, by type and error", labels=["type", "error"]
        )
        latency = HistogramMetricFamily(
            "faaskeeper_gateway_request_seconds", "Time from a request to its answer", labels=["type"]
        )
        for kind, counts in list(self._metrics.kinds.items()):
            name = NAMES.get(kind, str(kind))
            errors = dict(counts.errors)
            requests.add_metric([name, "0"], counts.number - sum(errors.values()))
            for error, number in errors.items():
                requests.add_metric([name, str(error)], number)
            sofar, buckets = 0, []
            for bound, number in zip((*BUCKETS_S, "+Inf"), list(counts.buckets), strict=True):
                sofar += number
                buckets.append((str(bound), sofar))
            latency.add_metric([name], buckets, counts.total)
        yield requests
        yield latency
        for name, what, value in (
            ("ended_connections", "Connections that the server ended", self._metrics.ended_connections),
            ("refused_connections", "Connections refused: too many", self._metrics.refused_connections),
        ):
            yield CounterMetricFamily(f"faaskeeper_gateway_{name}", what, value)
        levels = asyncio.run_coroutine_threadsafe(self._levels(), self._loop).result(30)
        for name, what, level in (
            ("connections", "Open connections", levels.connections),
            ("sessions", "Sessions served", levels.sessions),
            ("watches", "Watches waited for", levels.watches),
            ("watched_paths", "Paths watched", levels.watched_paths),
            ("queue_depth", "Requests without an answer", levels.waiting),
            ("distributor_lag", "Transactions known, perhaps not all in user storage", levels.unsettled),
            ("zxid", "Last transaction known", levels.zxid),
            ("serving", "Whether the deployment is reached", int(levels.serving)),
        ):
            yield GaugeMetricFamily(f"faaskeeper_gateway_{name}", what, level)
        memory = levels.memory
        if memory is not None:
            records = CounterMetricFamily(
                "faaskeeper_gateway_records_read", "Records read, from where", labels=["source"]
            )
            records.add_metric(["memory"], memory.memory)
            records.add_metric(["storage"], memory.storage)
            yield records
            yield CounterMetricFamily(
                "faaskeeper_gateway_late_reads", "Reads from storage since following was late", memory.late
            )
            if memory.behind is not None:
                yield GaugeMetricFamily(
                    "faaskeeper_gateway_behind_seconds", "Since the last look at the log's end", memory.behind
                )
            yield GaugeMetricFamily(
                "faaskeeper_gateway_memory_bytes", "Memory of the records kept", memory.used
            )
        if levels.tally is not None:
            for name, what, level in (
                ("znodes", "Znodes of the deployment", levels.tally.nodes),
                ("ephemerals", "Ephemeral znodes of the deployment", levels.tally.ephemerals),
                ("data_size_bytes", "Characters of all paths and bytes of all data", levels.tally.size),
            ):
                yield GaugeMetricFamily(f"faaskeeper_{name}", what, level)


def expose(
    metrics: Metrics, levels: Callable[[], Coroutine[Any, Any, Levels]], host: str, port: int
) -> Callable[[], None]:
    """Serve the counts over HTTP; returns what stops that. To be called in the loop's thread.

    Raises ModuleNotFoundError where ``prometheus_client`` is not installed, OSError where the port
    is taken.
    """
    from prometheus_client import CollectorRegistry, start_http_server

    registry = CollectorRegistry()
    registry.register(_Collector(metrics, levels, asyncio.get_running_loop()))
    server, thread = start_http_server(port, host, registry)

    def stop() -> None:
        server.shutdown()
        server.server_close()
        thread.join()

    return stop
