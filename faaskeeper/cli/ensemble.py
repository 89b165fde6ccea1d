"""What a ZooKeeper ensemble does now, as its servers tell: ``fk top`` on ``zk://``, without its table.

Servers answer ``srvr``, which every release permits, and more with ``mntr``. Transactions are numbered,
so two looks tell how many there were. Which paths were written comes by a recursive watch, which is set
with the first look: a server sends an event for each change.
"""

from __future__ import annotations

import re
from collections import Counter, deque
from collections.abc import Callable, Iterator
from typing import Any

from faaskeeper.cli.errors import Failed
from faaskeeper.cli.measuring import PATHS, Rates, last_rows
from faaskeeper.cli.servers import ask, numbers
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.clocks import elapsed_s
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.watch import WatchedEvent
from faaskeeper.zookeeper import address

_COUNTER = 2**32 - 1
"""The part of a zxid that counts; the other one is the leader's epoch."""
_MOST_EVENTS = 1_000_000
_NO_MNTR = "the servers do not answer 'mntr' (4lw.commands.whitelist)"


class Ensemble:
    """Looks at the servers of a client's address, again and again.

    ``window``: seconds for which writes count as recent. ``events``: whether to count paths.
    """

    def __init__(self, client: FaaSKeeperClient, where: address.Address, window: float, events: bool) -> None:
        self._client = client
        self._where = where
        self._window = window
        self._events = events
        self._watching = False
        self._written: deque[tuple[float, str]] = deque(maxlen=_MOST_EVENTS)
        self._rates = Rates()
        self._unwatched = "events are counted from the first look on: there was one"

    def look(self) -> dict[str, Any]:
        """What the ensemble does now. A server that does not answer is named with the reason."""
        unknown: dict[str, str] = {}
        self._watch()
        servers = [self._server(f"{host}:{port}", (host, port)) for host, port in self._where.servers]
        answered = [each for each in servers if "error" not in each]
        zxid = max((each["zxid"] for each in answered), default=None)
        writes = None if zxid is None else self._rates.rate("", float(zxid & _COUNTER))
        if not any("sessions" in each for each in answered):
            unknown["sessions, watches, ephemerals"] = _NO_MNTR
        if not self._watching:
            unknown["most writes"] = self._unwatched
        return {
            "zxid": zxid,
            "writes_per_s": writes,
            "window_s": self._window,
            "znodes": max((each["znodes"] for each in answered), default=None),
            **{key: _most(answered, key) for key in ("sessions", "ephemerals", "data_bytes")},
            "paths": self._paths(),
            "servers": servers,
            "unknown": unknown,
        }

    def _watch(self) -> None:
        if self._watching or not self._events:
            return
        try:
            self._client.add_watch("/", self._event, recursive=True)
            self._watching = True
        except FaaSKeeperException as error:  # before 3.6
            self._events, self._unwatched = False, str(error)

    def _event(self, event: WatchedEvent) -> None:
        self._written.append((elapsed_s(), event.path))

    def _paths(self) -> list[dict[str, Any]]:
        since = elapsed_s() - self._window
        while self._written and self._written[0][0] < since:
            self._written.popleft()
        counted = Counter(path for _, path in self._written.copy())
        return [{"path": path, "writes": number} for path, number in counted.most_common(PATHS)]

    def _server(self, name: str, where: tuple[str, int]) -> dict[str, Any]:
        if self._where.tls:
            return {"server": name, "error": "servers are asked without TLS only"}
        try:
            told = _summary(ask(where, "srvr"))
        except Failed as error:
            return {"server": name, "error": str(error)}
        try:
            more = numbers(where)
        except Failed:
            more = {}
        found = {
            "server": name,
            **told,
            "requests_per_s": self._rates.rate(name, told["requests"]),
        }
        for key, counted in _MORE.items():
            if counted in more:
                found[key] = int(more[counted])
        return found


_MORE = {
    "sessions": "global_sessions",
    "watches": "watch_count",
    "ephemerals": "ephemerals_count",
    "data_bytes": "approximate_data_size",
}
_LINES: dict[str, tuple[str, Callable[[str], Any]]] = {
    "mode": (r"Mode: (\w+)", str),
    "zxid": (r"Zxid: 0x([0-9a-f]+)", lambda text: int(text, 16)),
    "requests": (r"Received: ([0-9]+)", int),
    "latency_ms": (r"Latency min/avg/max: [0-9.]+/([0-9.]+)/", float),
    "connections": (r"Connections: ([0-9]+)", int),
    "waiting": (r"Outstanding: ([0-9]+)", int),
    "znodes": (r"Node count: ([0-9]+)", int),
}


def _summary(text: str) -> dict[str, Any]:
    """The lines of ``srvr``. Raises Failed: the server does not serve."""
    found: dict[str, Any] = {}
    for key, (pattern, read) in _LINES.items():
        line = re.search(rf"^{pattern}", text, re.MULTILINE)
        if line is None:
            raise Failed(f"it does not serve: {text.strip()[:200]}", 1)
        found[key] = read(line[1])
    return found


def _most(answered: list[dict[str, Any]], key: str) -> int | None:
    return max((each[key] for each in answered if key in each), default=None)


def rows(found: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """A look as lines of a table."""
    if found["zxid"] is not None:
        writes = found["writes_per_s"]
        yield "transaction", f"0x{found['zxid']:x}" + ("" if writes is None else f", {writes:g} writes/s")
    if found["sessions"] is not None:
        yield "sessions", str(found["sessions"])
    if found["znodes"] is not None:
        more = "" if found["ephemerals"] is None else f", {found['ephemerals']:,} of them ephemeral"
        size = "" if found["data_bytes"] is None else f", {found['data_bytes']:,} B with their paths"
        yield "znodes", f"{found['znodes']:,}{more}{size}"
    yield from last_rows(found, _line)


def _line(each: dict[str, Any]) -> str:
    rate = "" if each["requests_per_s"] is None else f"{each['requests_per_s']:g} requests/s, "
    watches = f", {each['watches']} watches" if "watches" in each else ""
    return (
        f"{each['mode']}, {rate}{each['requests']:,} requests, {each['latency_ms']:g} ms, "
        f"{each['waiting']} waiting, {each['connections']} connections{watches}"
    )
