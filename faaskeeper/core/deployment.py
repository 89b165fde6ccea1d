"""A deployment: the stores, queues and channels of one service, as its functions use them."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from faaskeeper.core.channel import Channel, DirectChannel
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.clocks import Clock, LogClock
from faaskeeper.core.fields import Fields
from faaskeeper.core.log import Log
from faaskeeper.core.queue import Queue
from faaskeeper.core.records import Records, TableRecords, bootstrap
from faaskeeper.core.sessions import Leases, Transients
from faaskeeper.core.storage import Gather, Joint, ObjectStore, Table, in_turn
from faaskeeper.core.transactions import Limits
from faaskeeper.core.view import MAX_NODES
from faaskeeper.core.watches import WatchTable

MIN_TIMEOUT_MS = 4_000
MAX_TIMEOUT_MS = 3_600_000
"""Bounds of a session's time-out. ZooKeeper's are 2 and 20 ticks; a lease on a cloud costs by the
renewal, so ours reach further up."""


class Deployment(Fields):
    """What a provider hands to the functions. Nothing in here is opened at import time.

    ``key``: the deployment's own (32 bytes), which functions and trusted writers share. ``clock``: the
    service's, by which leases and ages are counted; where one process owns the service, or a client's
    process works on one, nobody sets it. ``wall``: what time it is, and ``elapsed``: what passes, since
    whichever moment; for the log's own time, ``log_clock`` (None: ``clock``). ``distributor_queue`` None:
    the writer distributes inline. ``watch_queue`` None: who distributes tells the watchers, else the
    watch's own function does (:meth:`faaskeeper.core.watches.WatchFunction.handle`). ``direct_channel``:
    tells clients in this process early (None: all are told by the channel). ``joint``: appends an entry and
    puts its records in one call (None: the stores cannot do that). ``expiring_log``: the log's store trims by
    itself, else heartbeat does it. ``recent_bytes``: longest ``recent`` that a record carries as JSON;
    above it clients read the log. ``save_every``: entries between two saves of mark and checkpoint.
    ``max_nodes``: most znodes that a view remembers. ``peer``: the address of a client who names none
    (scheme ``ip``; "": none); ``super_digest``: the digest id of the user who may do everything ("":
    nobody).
    """

    log: Log
    checkpoints: Checkpoints
    records: Records
    leases: Leases
    transients: Transients
    watches: WatchTable
    blobs: ObjectStore | None
    worker_queue: Queue
    distributor_queue: Queue | None
    channel: Channel
    key: bytes
    clock: Clock
    wall: Clock | None = None
    elapsed: Clock | None = None
    watch_queue: Queue | None = None
    direct_channel: DirectChannel | None = None
    joint: Joint | None = None
    gather: Gather[Any] = in_turn
    random: Callable[[int], bytes] = os.urandom
    limits: Limits = Limits()
    expiring_log: bool = True
    recent_bytes: int = 1024
    save_every: int = 64
    max_nodes: int = MAX_NODES
    peer: str = ""
    super_digest: str = ""

    def __post_init__(self) -> None:
        self.log_clock = LogClock(self.wall or self.clock, self.elapsed or self.clock)


def on_tables(table: Callable[[str], Table], *, expiring_log: bool, **fields: Any) -> Deployment:
    """A deployment whose stores are tables, each made from its name; the other fields as they are given.

    Records are in a table too, unless ``records`` says otherwise. What is new is set up by :func:`begin`.
    """
    leases = table("lease")
    usual: dict[str, Any] = {
        "log": Log(table("log")),
        "checkpoints": Checkpoints(
            table("checkpoint"), expiring=expiring_log, gather=fields.get("gather", in_turn)
        ),
        "leases": Leases(leases),
        "transients": Transients(leases),
        "watches": WatchTable(table("watch")),
        "blobs": None,
        "distributor_queue": None,
        "expiring_log": expiring_log,
    }
    if "records" not in fields:
        usual["records"] = TableRecords(table("records"))
    return Deployment(**{**usual, **fields})


def begin(deployment: Deployment) -> None:
    """Put the tree and the checkpoint of a deployment that has none; leaves another's alone."""
    if not deployment.checkpoints.applied():  # else what was deleted of it, long ago, would come back
        bootstrap(deployment.records)
    deployment.checkpoints.begin(deployment.clock())
