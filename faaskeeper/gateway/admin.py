"""Four-letter words: what operators ask a ZooKeeper server on its client port.

The forms are those of ``org.apache.zookeeper.server.command`` of release 3.8, so that tools which read them
go on reading them. What nobody knows is left out: a deployment that was begun by a release that did not count
its znodes has no number of them.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from faaskeeper import __version__
from faaskeeper.core.tally import Tally
from faaskeeper.gateway import protocol
from faaskeeper.gateway.metrics import Levels
from faaskeeper.gateway.protocol import NAMES

if TYPE_CHECKING:
    from faaskeeper.gateway.server import Gateway
    from faaskeeper.gateway.wire import Wire

ZOOKEEPER_VERSION = "3.8.0"
"""The release whose protocol and answers are kept."""
DEFAULT = ("ruok", "srvr", "isro")
"""Words that tell nothing about clients or configuration."""


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
"""What a connection asked for last, as ``FinalRequestProcessor`` names it."""


def version() -> str:
    """As clients read it."""
    return f"{ZOOKEEPER_VERSION}-faaskeeper-{__version__}"


def _ruok(gateway: Gateway, levels: Levels) -> str:
    return "imok"


def _isro(gateway: Gateway, levels: Levels) -> str:
    return "rw"


def _summary(gateway: Gateway, levels: Levels) -> str:
    least, average, most = gateway.metrics.latency_ms()
    received = sum(each.received for each in gateway.wires)
    sent = sum(each.sent for each in gateway.wires)
    return (
        f"Latency min/avg/max: {least:.0f}/{average:.4f}/{most:.0f}\n"
        f"Received: {received + gateway.received}\n"
        f"Sent: {sent + gateway.sent}\n"
        f"Connections: {levels.connections}\n"
        f"Outstanding: {levels.waiting}\n"
        f"Zxid: 0x{levels.zxid:x}\n"
        "Mode: standalone\n"
    ) + (f"Node count: {_nodes(levels.tally)}\n" if levels.tally else "")


def _nodes(tally: Tally) -> int:
    """As ZooKeeper's servers count them: the root twice (``DataTree`` holds it under "" and under "/")."""
    return tally.nodes + 1


def _version_line() -> str:
    return f"Zookeeper version: {version()}, built on 1970-01-01 00:00 UTC\n"


def _srvr(gateway: Gateway, levels: Levels) -> str:
    return _version_line() + _summary(gateway, levels)


def _stat(gateway: Gateway, levels: Levels) -> str:
    lines = (
        f" /{each.peer}[{int(each.session is not None)}]"
        f"(queued={each.waiting},recved={each.received},sent={each.sent})\n"
        for each in gateway.wires
    )
    return _version_line() + "Clients:\n" + "".join(lines) + "\n" + _summary(gateway, levels)


def _held(tally: Tally | None) -> list[tuple[str, object]]:
    """What the deployment holds; nothing where nobody knows, which a scraper tells from 0."""
    if tally is None:
        return []
    return [
        ("znode_count", _nodes(tally)),
        ("ephemerals_count", tally.ephemerals),
        ("approximate_data_size", tally.size),
    ]


def _mntr(gateway: Gateway, levels: Levels) -> str:
    least, average, most = gateway.metrics.latency_ms()
    rows: list[tuple[str, object]] = [
        ("version", version()),
        ("server_state", "standalone"),
        ("avg_latency", f"{average:.4f}"),
        ("max_latency", f"{most:.0f}"),
        ("min_latency", f"{least:.0f}"),
        ("packets_received", sum(each.received for each in gateway.wires) + gateway.received),
        ("packets_sent", sum(each.sent for each in gateway.wires) + gateway.sent),
        ("num_alive_connections", levels.connections),
        ("global_sessions", levels.sessions),
        ("outstanding_requests", levels.waiting),
        ("watch_count", levels.watches),
        *_held(levels.tally),
        ("connection_drop_count", gateway.metrics.ended_connections),
        ("connection_rejected", gateway.metrics.refused_connections),
        (
            "open_file_descriptor_count",
            len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0,
        ),
        ("max_file_descriptor_count", gateway.most_files),
        ("uptime", int(1000 * (time.monotonic() - gateway.began))),
        ("distributor_lag", levels.unsettled),
    ]
    for kind, counts in gateway.metrics.kinds.items():
        rows.append((f"requests_{NAMES.get(kind, kind)}", counts.number))
    return "".join(f"zk_{name}\t{value}\n" for name, value in rows)


def _conf(gateway: Gateway, levels: Levels) -> str:
    return "".join(f"{name}={value}\n" for name, value in gateway.settings().items())


def _cons(gateway: Gateway, levels: Levels) -> str:
    lines: list[str] = []
    for each in gateway.wires:
        line = (
            f" /{each.peer}[{int(each.session is not None)}]"
            f"(queued={each.waiting},recved={each.received},sent={each.sent}"
        )
        if each.session is not None:
            line += f",sid=0x{each.session.id:x},{_spent(each)}"
        lines.append(line + ")\n")
    return "".join(lines) + "\n"


def _spent(wire: Wire) -> str:
    """What a connection's requests took, in ms, and the last one (``ServerCnxn.dumpConnectionInfo``)."""
    spent = wire.spent
    session = 0 if wire.session is None else wire.session.timeout
    last = f"lcxid=0x{spent.xid:x}," if spent.number else ""
    average = spent.total / spent.number if spent.number else 0.0
    return (
        f"lop={_LAST.get(spent.kind, 'NA')},est={int(wire.since * 1000)},to={session},{last}"
        f"lzxid=0x{spent.zxid:x},lresp={int(spent.at * 1000)},llat={1000 * spent.took:.0f},"
        f"minlat={1000 * spent.least:.0f},avglat={1000 * average:.0f},maxlat={1000 * spent.most:.0f}"
    )


def _wchs(gateway: Gateway, levels: Levels) -> str:
    watching = sum(bool(each.watched) for each in gateway.wires)
    return f"{watching} connections watching {levels.watched_paths} paths\nTotal watches:{levels.watches}\n"


def _envi(gateway: Gateway, levels: Levels) -> str:
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


def _dump(gateway: Gateway, levels: Levels) -> str:
    sessions = list(gateway.hub.sessions.values())
    lines = ["SessionTracker dump:\n", f"Session Sets ({len(sessions)})/({len(sessions)}):\n"]
    lines.extend(f"0x{each.id:x}\t{each.timeout}ms\n" for each in sessions)
    owners = [each for each in sessions if each.owned]
    lines.append(f"ephemeral nodes dump:\nSessions with Ephemerals ({len(owners)}):\n")
    for each in owners:
        lines.append(f"0x{each.id:x}:\n")
        lines.extend(f"\t{path}\n" for path in sorted(each.owned))
    return "".join(lines)


_WORDS: dict[str, Callable[[Gateway, Levels], str]] = {
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
"""As they stand in the first bytes of a connection."""
COUNTING = frozenset({"srvr", "stat", "mntr"})
"""Words that tell how much the deployment holds."""


def answer(gateway: Gateway, word: str, allowed: frozenset[str], levels: Levels) -> str:
    """What a word is answered with. ``levels``: what there is, in the deployment too for :data:`COUNTING`."""
    if word not in allowed:
        return f"{word} is not executed because it is not in the whitelist.\n"
    return _WORDS[word](gateway, levels)
