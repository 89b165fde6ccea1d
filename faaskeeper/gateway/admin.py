"""Four-letter words: an operator's commands to a ZooKeeper server, on its client port.

The answers have the form of those in ``org.apache.zookeeper.server.command`` of release 3.8, so
that tools can parse them. Unknown values are left out: a deployment begun by a release that did not
count its znodes has no number of them.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable, Collection, Mapping
from typing import Protocol

from faaskeeper import __version__
from faaskeeper.core.tally import Tally
from faaskeeper.gateway import protocol
from faaskeeper.gateway.memory import MemoryLevels
from faaskeeper.gateway.metrics import ConnectionStats, Levels, Metrics
from faaskeeper.gateway.protocol import NAMES
from faaskeeper.gateway.sessions import GatewaySession

ZOOKEEPER_VERSION = "3.8.0"
"""The release whose protocol is spoken."""
DEFAULT = ("ruok", "srvr", "isro")
"""Commands that reveal nothing about clients or configuration."""


_LAST = {
    protocol.CREATE: "CREA",
    protocol.CREATE2: "CREA",
    protocol.CREATE_CONTAINER: "CREA",
    protocol.CREATE_TTL: "CREA",
    protocol.DELETE: "DELE",
    protocol.SET_DATA: "SETD",
    protocol.GET_DATA: "GETD",
    protocol.EXISTS: "EXIS",
    protocol.GET_CHILDREN: "GETC",
    protocol.GET_CHILDREN2: "GETC",
    protocol.GET_ALL_CHILDREN_NUMBER: "GETACN",
    protocol.GET_EPHEMERALS: "GETE",
    protocol.GET_ACL: "GETA",
    protocol.SET_ACL: "SETA",
    protocol.SYNC: "SYNC",
    protocol.CHECK: "CHEC",
    protocol.MULTI: "MULT",
    protocol.MULTI_READ: "MLTR",
    protocol.SET_WATCHES: "SETW",
    protocol.SET_WATCHES2: "STW2",
    protocol.ADD_WATCH: "ADDW",
    protocol.CHECK_WATCHES: "CHKW",
    protocol.REMOVE_WATCHES: "REMW",
    protocol.WHO_AM_I: "HOMI",
    protocol.PING: "PING",
    protocol.CLOSE_SESSION: "CLOS",
}
"""Names of a connection's last request, as in ``FinalRequestProcessor``."""


class ConnectionView(Protocol):
    """A client's connection, as commands show it."""

    peer: str
    session: GatewaySession | None
    since: float
    """Seconds since 1970."""
    received: int
    stats: ConnectionStats

    @property
    def sent(self) -> int:
        """Number of frames sent."""

    @property
    def waiting(self) -> int:
        """Number of requests without a reply."""

    @property
    def watching(self) -> bool:
        """Whether it has watches."""


class ServerView(Protocol):
    """A server, as commands show it."""

    metrics: Metrics
    began: float
    """By :func:`time.monotonic`."""
    most_files: int
    received: int
    """Requests of connections that have ended."""
    sent: int

    @property
    def connections(self) -> Collection[ConnectionView]:
        """The open connections."""

    @property
    def sessions(self) -> Mapping[int, GatewaySession]:
        """The sessions that are served, by id."""

    def settings(self) -> dict[str, object]:
        """The answer to ``conf``."""


def version() -> str:
    """The version that clients parse."""
    return f"{ZOOKEEPER_VERSION}-faaskeeper-{__version__}"


def _ruok(server: ServerView, levels: Levels) -> str:
    return "imok"


def _isro(server: ServerView, levels: Levels) -> str:
    return "rw"


def _summary(server: ServerView, levels: Levels) -> str:
    least, average, most = server.metrics.latency_ms()
    received = sum(each.received for each in server.connections)
    sent = sum(each.sent for each in server.connections)
    return (
        f"Latency min/avg/max: {least:.0f}/{average:.4f}/{most:.0f}\n"
        f"Received: {received + server.received}\n"
        f"Sent: {sent + server.sent}\n"
        f"Connections: {levels.connections}\n"
        f"Outstanding: {levels.waiting}\n"
        f"Zxid: 0x{levels.zxid:x}\n"
        "Mode: standalone\n"
    ) + (f"Node count: {_nodes(levels.tally)}\n" if levels.tally else "")


def _nodes(tally: Tally) -> int:
    """As ZooKeeper's servers count them: the root twice (``DataTree`` holds it under "" and under
    "/").
    """
    return tally.nodes + 1


def _version_line() -> str:
    return f"Zookeeper version: {version()}, built on 1970-01-01 00:00 UTC\n"


def _srvr(server: ServerView, levels: Levels) -> str:
    return _version_line() + _summary(server, levels)


def _stat(server: ServerView, levels: Levels) -> str:
    lines = (
        f" /{each.peer}[{int(each.session is not None)}]"
        f"(queued={each.waiting},recved={each.received},sent={each.sent})\n"
        for each in server.connections
    )
    return _version_line() + "Clients:\n" + "".join(lines) + "\n" + _summary(server, levels)


def _held(tally: Tally | None) -> list[tuple[str, object]]:
    """Sizes of the deployment's tree. No rows, rather than zeros, where they are unknown."""
    if tally is None:
        return []
    return [
        ("znode_count", _nodes(tally)),
        ("ephemerals_count", tally.ephemerals),
        ("approximate_data_size", tally.size),
    ]


def _memory(memory: MemoryLevels | None) -> list[tuple[str, object]]:
    if memory is None:
        return []
    behind = [] if memory.behind is None else [("behind_ms", round(1000 * memory.behind))]
    return [
        *behind,
        ("memory_bytes", memory.used),
        ("records_from_memory", memory.memory),
        ("records_from_storage", memory.storage),
        ("late_reads", memory.late),
    ]


def _mntr(server: ServerView, levels: Levels) -> str:
    least, average, most = server.metrics.latency_ms()
    rows: list[tuple[str, object]] = [
        ("version", version()),
        ("server_state", "standalone"),
        ("avg_latency", f"{average:.4f}"),
        ("max_latency", f"{most:.0f}"),
        ("min_latency", f"{least:.0f}"),
        ("packets_received", sum(each.received for each in server.connections) + server.received),
        ("packets_sent", sum(each.sent for each in server.connections) + server.sent),
        ("num_alive_connections", levels.connections),
        ("global_sessions", levels.sessions),
        ("outstanding_requests", levels.waiting),
        ("watch_count", levels.watches),
        *_held(levels.tally),
        ("connection_drop_count", server.metrics.ended_connections),
        ("connection_rejected", server.metrics.refused_connections),
        (
            "open_file_descriptor_count",
            len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        ),
        ("max_file_descriptor_count", server.most_files),
        ("uptime", int(1000 * (time.monotonic() - server.began))),
        ("distributor_lag", levels.unsettled),
        *_memory(levels.memory),
    ]
    for kind, counts in server.metrics.kinds.items():
        rows.append((f"requests_{NAMES.get(kind, kind)}", counts.number))
    return "".join(f"zk_{name}\t{value}\n" for name, value in rows)


def _conf(server: ServerView, levels: Levels) -> str:
    return "".join(f"{name}={value}\n" for name, value in server.settings().items())


def _cons(server: ServerView, levels: Levels) -> str:
    lines: list[str] = []
    for each in server.connections:
        line = (
            f" /{each.peer}[{int(each.session is not None)}]"
            f"(queued={each.waiting},recved={each.received},sent={each.sent}"
        )
        if each.session is not None:
            line += f",sid=0x{each.session.id:x},{_stats_of(each)}"
        lines.append(line + ")\n")
    return "".join(lines) + "\n"


def _stats_of(connection: ConnectionView) -> str:
    """Latencies of a connection's requests, in ms, and the last request
    (``ServerCnxn.dumpConnectionInfo``).
    """
    stats = connection.stats
    session = 0 if connection.session is None else connection.session.timeout
    last = f"lcxid=0x{stats.xid:x}," if stats.number else ""
    average = stats.total / stats.number if stats.number else 0.0
    return (
        f"lop={_LAST.get(stats.kind, 'NA')},est={int(connection.since * 1000)},to={session},{last}"
        f"lzxid=0x{stats.zxid:x},lresp={int(stats.at * 1000)},llat={1000 * stats.took:.0f},"
        f"minlat={1000 * stats.least:.0f},avglat={1000 * average:.0f},maxlat={1000 * stats.most:.0f}"
    )


def _wchs(server: ServerView, levels: Levels) -> str:
    watching = sum(each.watching for each in server.connections)
    return f"{watching} connections watching {levels.watched_paths} paths\nTotal watches:{levels.watches}\n"


def _envi(server: ServerView, levels: Levels) -> str:
    rows = {
        "zookeeper.version": f"{version()}, built on 1970-01-01 00:00 UTC",
        "host.name": platform.node(),
        "python.version": platform.python_version(),
        "python.implementation": platform.python_implementation(),
        "os.name": platform.system(),
        "os.arch": platform.machine(),
        "os.version": platform.release(),
        "user.dir": os.getcwd(),
        "process.command": os.path.basename(sys.argv[0]),
    }
    return "Environment:\n" + "".join(f"{name}={value}\n" for name, value in rows.items())


def _dump(server: ServerView, levels: Levels) -> str:
    sessions = list(server.sessions.values())
    lines = ["SessionTracker dump:\n", f"Session Sets ({len(sessions)})/({len(sessions)}):\n"]
    lines.extend(f"0x{each.id:x}\t{each.timeout}ms\n" for each in sessions)
    owners = [each for each in sessions if each.owned]
    lines.append(f"ephemeral nodes dump:\nSessions with Ephemerals ({len(owners)}):\n")
    for each in owners:
        lines.append(f"0x{each.id:x}:\n")
        lines.extend(f"\t{path}\n" for path in sorted(each.owned))
    return "".join(lines)


_WORDS: dict[str, Callable[[ServerView, Levels], str]] = {
    "ruok": _ruok,
    "isro": _isro,
    "srvr": _srvr,
    "stat": _stat,
    "mntr": _mntr,
    "conf": _conf,
    "cons": _cons,
    "wchs": _wchs,
    "envi": _envi,
    "dump": _dump,
}

NAMES_OF_COMMANDS = tuple(_WORDS)
COMMANDS = frozenset(word.encode() for word in _WORDS)
"""Commands as the first bytes of a connection."""
COUNTING = frozenset({"srvr", "stat", "mntr"})
"""Commands that show sizes of the deployment's tree."""


def answer(server: ServerView, word: str, allowed: frozenset[str], levels: Levels) -> str:
    """The answer to a command. ``levels`` has the tally for :data:`COUNTING`."""
    if word not in allowed:
        return f"{word} is not executed because it is not in the whitelist.\n"
    return _WORDS[word](server, levels)
