"""Four-letter words: what operators ask a ZooKeeper server on its client port.

The forms are those of ``org.apache.zookeeper.server.command`` of release 3.8, so that tools which read them
go on reading them; what a server of a serverless deployment does not know (the number of znodes) is left out.
"""

from __future__ import annotations

import os
import platform
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from faaskeeper import __version__
from faaskeeper.gateway.protocol import NAMES

if TYPE_CHECKING:
    from faaskeeper.gateway.server import Gateway

ZOOKEEPER_VERSION = "3.8.0"
"""The release whose protocol and answers are kept."""
DEFAULT = ("ruok", "srvr", "isro")
"""Words that tell nothing about clients or configuration."""


def version() -> str:
    """As clients read it."""
    return f"{ZOOKEEPER_VERSION}-faaskeeper-{__version__}"


def _ruok(gateway: Gateway) -> str:
    return "imok"


def _isro(gateway: Gateway) -> str:
    return "rw"


def _summary(gateway: Gateway) -> str:
    levels = gateway.levels()
    average, most = gateway.metrics.latency_ms()
    received = sum(each.received for each in gateway.wires)
    sent = sum(each.sent for each in gateway.wires)
    return (
        f"Latency min/avg/max: 0/{average:.4f}/{most:.0f}\n"
        f"Received: {received + gateway.received}\n"
        f"Sent: {sent + gateway.sent}\n"
        f"Connections: {levels.connections}\n"
        f"Outstanding: {levels.waiting}\n"
        f"Zxid: 0x{levels.zxid:x}\n"
        "Mode: standalone\n"
    )


def _version_line() -> str:
    return f"Zookeeper version: {version()}, built on 1970-01-01 00:00 UTC\n"


def _srvr(gateway: Gateway) -> str:
    return _version_line() + _summary(gateway)


def _stat(gateway: Gateway) -> str:
    lines = (
        f" /{each.peer}[{int(each.session is not None)}]"
        f"(queued={each.waiting},recved={each.received},sent={each.sent})\n"
        for each in gateway.wires
    )
    return _version_line() + "Clients:\n" + "".join(lines) + "\n" + _summary(gateway)


def _mntr(gateway: Gateway) -> str:
    levels = gateway.levels()
    average, most = gateway.metrics.latency_ms()
    rows: list[tuple[str, object]] = [
        ("version", version()),
        ("server_state", "standalone"),
        ("avg_latency", f"{average:.4f}"),
        ("max_latency", f"{most:.0f}"),
        ("min_latency", 0),
        ("packets_received", sum(each.received for each in gateway.wires) + gateway.received),
        ("packets_sent", sum(each.sent for each in gateway.wires) + gateway.sent),
        ("num_alive_connections", levels.connections),
        ("global_sessions", levels.sessions),
        ("outstanding_requests", levels.waiting),
        ("watch_count", levels.watches),
        ("ephemerals_count", sum(len(each.owned) for each in gateway.hub.sessions.values())),
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


def _conf(gateway: Gateway) -> str:
    return "".join(f"{name}={value}\n" for name, value in gateway.settings().items())


def _cons(gateway: Gateway) -> str:
    lines: list[str] = []
    for each in gateway.wires:
        line = (
            f" /{each.peer}[{int(each.session is not None)}]"
            f"(queued={each.waiting},recved={each.received},sent={each.sent}"
        )
        if each.session is not None:
            line += f",sid=0x{each.session.id:x},est={int(each.since * 1000)},to={each.session.timeout}"
        lines.append(line + ")\n")
    return "".join(lines) + "\n"


def _wchs(gateway: Gateway) -> str:
    levels = gateway.levels()
    watching = sum(bool(each.watched) for each in gateway.wires)
    return f"{watching} connections watching {levels.watched_paths} paths\nTotal watches:{levels.watches}\n"


def _envi(gateway: Gateway) -> str:
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


def _dump(gateway: Gateway) -> str:
    sessions = list(gateway.hub.sessions.values())
    lines = ["SessionTracker dump:\n", f"Session Sets ({len(sessions)})/({len(sessions)}):\n"]
    lines.extend(f"0x{each.id:x}\t{each.timeout}ms\n" for each in sessions)
    owners = [each for each in sessions if each.owned]
    lines.append(f"ephemeral nodes dump:\nSessions with Ephemerals ({len(owners)}):\n")
    for each in owners:
        lines.append(f"0x{each.id:x}:\n")
        lines.extend(f"\t{path}\n" for path in sorted(each.owned))
    return "".join(lines)


_WORDS: dict[str, Callable[[Gateway], str]] = {
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


def answer(gateway: Gateway, word: str, allowed: frozenset[str]) -> str:
    """What a word is answered with."""
    if word not in allowed:
        return f"{word} is not executed because it is not in the whitelist.\n"
    return _WORDS[word](gateway)
