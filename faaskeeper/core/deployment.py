"""A deployment: the stores, queues and channels of one service, for its functions."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from faaskeeper.core.acl import SuperUser
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.clocks import Clock, LogClock
from faaskeeper.core.drivers.channel import Channel, DirectChannel
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.drivers.storage import Gather, Joint, ObjectStore, Table, in_turn
from faaskeeper.core.kept import RETENTION, Keeper, Retention
from faaskeeper.core.log import Log
from faaskeeper.core.records import Records, TableRecords, bootstrap
from faaskeeper.core.sessions import Leases, Transients
from faaskeeper.core.transactions import Limits
from faaskeeper.core.view import MAX_NODES
from faaskeeper.core.watches import WatchTable

MIN_TIMEOUT_MS = 4_000
MAX_TIMEOUT_MS = 3_600_000
"""Bounds of a session's time-out. ZooKeeper's are 2 and 20 ticks. Ours reach further up, because
each renewal of a lease costs money on a cloud."""


LIMITS = Limits()
"""The usual limits."""


@dataclass(slots=True, eq=False, repr=False)
class Deployment:
    """What a provider passes to the functions. Nothing here is opened at import time.

    ``key``: the deployment's key (32 bytes), shared by functions and trusted writers. ``clock``:
    the service's clock, which measures leases and ages. If one process owns the service, or a
    client's process works on one, this clock is never set. ``log_clock``, the clock of the log's
    own time, uses ``wall``, the current time, and ``elapsed``, the time passed since any moment
    (None: ``clock``).

    ``distributor_queue`` None: the writer distributes inline. ``watch_queue`` None: the distributor
    notifies watchers itself; otherwise the watch function does
    (:meth:`faaskeeper.core.watches.WatchFunction.handle`). ``direct_channel``: delivers replies to
    clients in this process (None: all replies use the channel). ``joint``: appends an entry and
    puts its records in one call (None: the stores cannot do that). ``expiring_log``: the log's
    store trims itself; otherwise heartbeat does.

    ``keeper``: keeps what the log's trimming would take from the history (None: nothing does).
    ``retention``: what heartbeat trims; without effect on a log that trims itself.

    ``recent_bytes``: longest ``recent`` that a record carries, in bytes of JSON; for a longer one,
    clients read the log. ``save_every``: entries between two saves of mark and checkpoint.
    ``max_nodes``: most znodes that a view holds. ``max_contents``: most records whose contents a
    distributor remembers. ``peer``: the address of a client without a credential for one (scheme
    ``ip``; "": none). ``super_digest``: the super user.
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
    limits: Limits = LIMITS
    expiring_log: bool = True
    keeper: Keeper | None = None
    retention: Retention = RETENTION
    recent_bytes: int = 1024
    save_every: int = 64
    max_nodes: int = MAX_NODES
    max_contents: int = 1_000
    peer: str = ""
    super_digest: SuperUser = ""
    log_clock: LogClock = field(init=False)

    def __post_init__(self) -> None:
        self.log_clock = LogClock(self.wall or self.clock, self.elapsed or self.clock)


def on_tables(table: Callable[[str], Table], *, expiring_log: bool, **fields: Any) -> Deployment:
    """A deployment whose stores are tables, each made from its name; ``fields``: other fields.

    Records are in a table too, unless ``records`` is given. :func:`begin` sets up a new deployment.
    """
    leases = table("lease")
    usual: dict[str, Any] = {
        "log": Log(table("log"), fields.get("gather", in_turn)),
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
    """Put the tree and the checkpoint, unless the deployment has them."""
    if not deployment.checkpoints.applied():  # otherwise znodes deleted long ago would come back
        bootstrap(deployment.records)
    deployment.checkpoints.begin(deployment.clock())
