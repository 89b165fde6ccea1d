"""What a history with servers is made of, drawn from its seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from faaskeeper.testing.simulator.plan import Plan, stripes_of


@dataclass
class ServedPlan(Plan):
    """A plan in which clients speak ZooKeeper's protocol with servers."""

    embedded: bool = False
    """The service is in the server's process, on near stores; otherwise stores are far."""
    gateways: int = 2
    """Number of servers; 1 if ``embedded``."""
    kills: int = 1
    """How many servers die, at most."""
    resets: float = 0.02
    """Chance that a client ends its connection, in one of many ways, before an operation."""
    weight: int = 1
    """How many bytes each byte counts that waits for a client."""
    still: float = 0.0
    """Chance that a server's process stands still before a turn of its loop."""
    divided: bool = False
    """Renewals of servers' leases do not get through for some time."""
    late_pause: bool = False
    """A connection is told only after a turn that its client reads slowly, as uvloop does."""
    silent: float = 0.0
    """Chance that a client sends nothing for about as long as its session's time-out."""
    twice: bool = False
    """Clients keep using a connection beside the one by which they have resumed their session."""
    follow: int = 0
    """Servers answer reads from memory, and look at the log's end so often (ms); 0: from storage."""
    memory: int = 1 << 20
    """Bytes of that memory."""
    blind: bool = False
    """Servers cannot read the log for some time, or only slowly."""


def served_plan_of(seed: int) -> ServedPlan:
    """The plan of a seed's history with servers."""
    random = Random(seed * 13 + 3)
    embedded = random.random() < 0.4
    # Drawn apart, so that other seeds stay the histories that they were.
    local_faults = Random(seed * 29 + 11).choice((0.0, 0.0, 0.02, 0.05))
    faults = local_faults if embedded else random.choice((0.0, 0.0, 0.01, 0.03))
    reading = Random(seed * 37 + 5)
    follow = 0 if embedded else reading.choice((0, 0, 100, 200, 1_000))
    return ServedPlan(
        clients=random.choice((1, 2, 3, 4)),
        operations=random.choice((8, 20, 40)),
        writers=random.choice((1, 2, 3)),
        own_distributor=not embedded and random.random() < 0.4,
        ordered=random.random() < 0.5,
        object_records=random.random() < 0.2,
        faults=faults,
        losses=0.0 if embedded else random.choice((0.0, 0.05, 0.15)),
        crashes=0,
        skew_ms=0 if embedded else random.choice((0, 500, 3_000)),
        recent_bytes=random.choice((1024, 120, 1)),
        save_every=random.choice((1, 4, 1_000)),
        max_nodes=random.choice((1_000, 3)),
        inline_bytes=random.choice((1 << 20, 1 << 20, 20)),
        page_names=random.choice((128, 2, 1)),
        joint=not embedded and random.random() < 0.3,
        watch_function=not embedded and random.random() < 0.25,
        expiring=not embedded,
        embedded=embedded,
        gateways=1 if embedded else random.choice((1, 2, 2)),
        kills=random.choice((0, 0, 1, 2)),
        resets=random.choice((0.0, 0.02, 0.1)),
        weight=random.choice((1, 1, 400, 2_000, 10_000)),
        still=random.choice((0.0, 0.0, 0.0005, 0.003)),
        divided=not embedded and random.random() < 0.2,
        late_pause=random.random() < 0.5,
        silent=random.choice((0.0, 0.0, 0.03)),
        twice=random.random() < 0.2,
        stripes=1 if embedded else stripes_of(seed),
        follow=follow,
        memory=reading.choice((1 << 20, 1 << 20, 2_000)),
        blind=follow > 0 and reading.random() < 0.2,
    )


SIMPLER: tuple[dict[str, Any], ...] = (
    {"kills": 0},
    {"losses": 0.0},
    {"faults": 0.0},
    {"still": 0.0},
    {"silent": 0.0},
    {"divided": False},
    {"resets": 0.0},
    {"twice": False},
    {"clients": 1},
    {"clients": 2},
    {"operations": 3},
    {"operations": 6},
    {"gateways": 1},
    {"writers": 1},
    {"own_distributor": False},
    {"object_records": False},
    {"ordered": True},
    {"skew_ms": 0},
    {"inline_bytes": 1 << 20},
    {"max_nodes": 1_000},
    {"page_names": 128},
    {"joint": False},
    {"watch_function": False},
    {"weight": 1},
    {"late_pause": False},
    {"blind": False},
    {"follow": 0},
    {"memory": 1 << 20},
)
"""Changes that make a plan simpler, in the order in which to try them."""
