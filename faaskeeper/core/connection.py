"""What a provider hands to a client: the seams of one deployment as a client uses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from faaskeeper.core.acl import Credential
from faaskeeper.core.channel import ClientChannel
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.log import Log
from faaskeeper.core.queue import Queue
from faaskeeper.core.records import Records
from faaskeeper.core.sessions import Leases
from faaskeeper.core.storage import Gather, ObjectStore, in_turn
from faaskeeper.core.view import Clock
from faaskeeper.core.watches import WatchTable

FailureHandler = Callable[[Exception], None]


@dataclass
class Connection:
    """A client's way to a deployment.

    ``applied`` reads the mark. ``inline_bytes``: data above it goes to ``blobs`` first.
    ``prompt_queue``: the same queue for a sender who would only wait for the answer.
    ``coalesce``: the writer takes what waits anyway, so requests may wait here, in one message, while
    others are under way.
    ``commit``: hands several messages to a writer in this process and has it serve them in this thread, where
    that and reading take microseconds (None: the stores are far).
    ``vouch``: makes a credential of a name that this process has verified by a certificate, where it holds
    the deployment's key (None: it does not).
    ``ring`` asks the service to apply what is waiting (None: a client asks for it through the worker queue).
    ``on_failure`` registers what to call when the service cannot go on (a full disk, say); ``close``
    releases what ``connect`` took. ``peer`` and ``super_digest``: as in
    :class:`~faaskeeper.core.deployment.Deployment`.
    """

    records: Records
    log: Log
    applied: Callable[[], int]
    leases: Leases
    watches: WatchTable
    worker_queue: Queue
    channel: ClientChannel
    blobs: ObjectStore | None
    inline_bytes: int
    clock: Clock
    close: Callable[[], None]
    prompt_queue: Queue | None = None
    coalesce: bool = False
    commit: Callable[[Sequence[bytes]], None] | None = None
    vouch: Callable[[str], Credential] | None = None
    ring: Callable[[], None] | None = None
    on_failure: Callable[[FailureHandler], None] = lambda handler: None
    gather: Gather[Any] = in_turn
    peer: str = ""
    super_digest: str = ""
    logs: Callable[[], str] = field(default=lambda: "")


def connection_to(deployment: Deployment, channel: ClientChannel, **more: Any) -> Connection:
    """A client's way to a deployment whose stores it may reach; ``more``: fields that are not as usual."""
    usual: dict[str, Any] = {
        "records": deployment.records,
        "log": deployment.log,
        "applied": deployment.checkpoints.applied,
        "leases": deployment.leases,
        "watches": deployment.watches,
        "worker_queue": deployment.worker_queue,
        "channel": channel,
        "blobs": deployment.blobs,
        "inline_bytes": deployment.limits.inline_bytes,
        "clock": deployment.clock,
        "close": lambda: None,
        "gather": deployment.gather,
        "peer": deployment.peer,
        "super_digest": deployment.super_digest,
    }
    return Connection(**{**usual, **more})
