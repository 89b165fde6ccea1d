"""What a history is made of: its plan, drawn from the seed."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Any

from faaskeeper.core.log import ENTRY_BYTES


@dataclass
class Plan:
    """What a history is made of. :func:`plan_of` draws it from the seed; shrinking changes it."""

    clients: int = 3
    operations: int = 12
    """Operations of each client."""
    writers: int = 2
    """Instances of the writer, if its queue is not ``ordered``."""
    own_distributor: bool = False
    """The distributor is a function behind a queue; otherwise the writer does its work."""
    ordered: bool = True
    """Queues keep the order of messages and run one instance at a time."""
    object_records: bool = False
    """User storage is the object store; otherwise it is a table."""
    faults: float = 0.02
    """Chance that a driver call meets a fault."""
    losses: float = 0.05
    """Chance that a message is lost, duplicated or late."""
    crashes: int = 2
    """How many processes of clients die."""
    skew_ms: int = 500
    """How far clocks of processes are off at most."""
    long: bool = False
    """Days pass: stalls past the retention, trimmed logs."""
    recent_bytes: int = 1024
    """Most bytes of the field ``recent`` of a record."""
    save_every: int = 4
    """The checkpoint is saved after so many entries."""
    max_nodes: int = 1_000
    """Most znodes that a view remembers."""
    inline_bytes: int = 1 << 20
    """Larger data is stored as a blob; 1 MB: all data is inline."""
    coalesce: bool = False
    """Clients collect requests into messages."""
    page_names: int = 128
    """Names of children in one page."""
    close_changes: int = 1_000
    """Most ephemerals that one transaction of a close deletes."""
    max_item_bytes: int = 1 << 30
    """Larger items are stored in parts."""
    joint: bool = False
    """Entries and their records may be put in one atomic call."""
    watch_function: bool = False
    """The watch function runs behind a queue of its own."""
    expiring: bool = True
    """The log's store trims it; otherwise heartbeat does."""
    cut: bool = False
    """Set-up is cut short at any step, and clients die at any driver call."""
    max_contents: int = 1_000
    """Most records that a distributor remembers."""
    preempt: bool = False
    """Threads of a client also switch between the steps of its rules and outbox."""
    sharing: bool = False
    """Tickets are used several times, and while their first process lives."""
    servers: bool = False
    """Two servers hold the leases of other sessions, as the gateway does."""
    steps: bool = False
    """Wall clocks of functions are set, by seconds or years, forwards and back."""
    lead_ms: int = 0
    """How far clocks of clients' machines are off, beside ``skew_ms``."""
    hostile: int = 0
    """How many messages the hostile client sends; 0: there is none."""
    copies: bool = False
    """The hostile client also sends again, as they are or changed, messages that others have sent."""
    mass: int = 0
    """How many ephemerals one of the clients creates beside its operations."""
    stripes: int = 1
    """Over how many partition keys the log's entries are spread."""
    entry_bytes: int = ENTRY_BYTES
    """A batch is closed at this size; 100: each request is an entry."""
    ending: bool = False
    """Clients end each other's sessions and their own, as the super user or without that."""


def plan_of(seed: int) -> Plan:
    """The plan of a seed's history."""
    random, more = Random(seed * 7 + 1), Random(seed * 11 + 5)
    own = random.random() < 0.4
    return Plan(
        clients=random.choice((1, 2, 3, 4)),
        operations=random.choice((6, 12, 20)),
        writers=random.choice((1, 2, 3)),
        own_distributor=own,
        ordered=random.random() < 0.5,
        object_records=random.random() < 0.2,
        faults=random.choice((0.0, 0.01, 0.03)),
        losses=random.choice((0.0, 0.05, 0.15)),
        crashes=random.choice((0, 1, 2)),
        skew_ms=random.choice((0, 500, 3_000)),
        long=random.random() < 0.2,
        recent_bytes=random.choice((1024, 120, 1)),
        save_every=random.choice((1, 4, 1_000)),
        max_nodes=random.choice((1_000, 3)),
        inline_bytes=random.choice((1 << 20, 20)),
        coalesce=random.random() < 0.3,
        page_names=random.choice((128, 2, 1)),
        max_item_bytes=random.choice((1 << 30, 1 << 30, 600)),
        joint=random.random() < 0.3,
        close_changes=random.choice((1_000, 1)),
        watch_function=more.random() < 0.25,
        expiring=more.random() < 0.8,
        cut=more.random() < 0.2,
        mass=more.choice((40, 150)) if more.random() < 0.015 else 0,
        preempt=more.random() < 0.2,
        steps=more.random() < 0.15,
        servers=more.random() < 0.12,
        lead_ms=more.choice((31_000, 600_000)) if more.random() < 0.2 else 0,
        sharing=more.random() < 0.2,
        hostile=more.choice((8, 30)) if more.random() < 0.12 else 0,
        max_contents=more.choice((1_000, 1_000, 2)),
        copies=more.random() < 0.7,
        stripes=stripes_of(seed),
        entry_bytes=entry_bytes_of(seed),
        ending=ending_of(seed),
    )


def stripes_of(seed: int) -> int:
    """A plan's number of stripes, drawn apart."""
    return Random(seed * 31 + 17).choice((1, 1, 2, 5))


def entry_bytes_of(seed: int) -> int:
    """A plan's size of entries, drawn apart."""
    return Random(seed * 37 + 29).choice((ENTRY_BYTES, ENTRY_BYTES, 600, 100))


def ending_of(seed: int) -> bool:
    """Whether a plan's clients end sessions, drawn apart."""
    return Random(seed * 41 + 19).random() < 0.12


SIMPLER: tuple[dict[str, Any], ...] = (
    {"crashes": 0},
    {"losses": 0.0},
    {"faults": 0.0},
    {"long": False},
    {"clients": 1},
    {"clients": 2},
    {"operations": 3},
    {"operations": 6},
    {"writers": 1},
    {"own_distributor": False},
    {"object_records": False},
    {"ordered": True},
    {"skew_ms": 0},
    {"inline_bytes": 1 << 20},
    {"coalesce": False},
    {"max_nodes": 1_000},
    {"page_names": 128},
    {"max_item_bytes": 1 << 30},
    {"stripes": 1},
    {"entry_bytes": ENTRY_BYTES},
    {"ending": False},
    {"joint": False},
    {"close_changes": 1_000},
    {"watch_function": False},
    {"expiring": True},
    {"cut": False},
    {"preempt": False},
    {"sharing": False},
    {"steps": False},
    {"servers": False},
    {"lead_ms": 0},
    {"copies": False},
    {"hostile": 0},
    {"mass": 0},
    {"max_contents": 1_000},
)
"""Changes that make a plan simpler, in the order in which to try them."""
