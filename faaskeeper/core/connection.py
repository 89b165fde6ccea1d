"""What a provider hands to a client: the seams of one deployment as a client uses them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from faaskeeper.core import acl
from faaskeeper.core.clocks import ServiceClock
from faaskeeper.core.fields import Fields
from faaskeeper.core.storage import Gather, in_turn

if TYPE_CHECKING:  # a client loads of a service what its provider needs
    from faaskeeper.core.acl import Credential
    from faaskeeper.core.channel import ClientChannel, Listener
    from faaskeeper.core.clocks import Clock
    from faaskeeper.core.deployment import Deployment
    from faaskeeper.core.log import Log
    from faaskeeper.core.queue import Queue
    from faaskeeper.core.records import Records
    from faaskeeper.core.requests import Message, Reply
    from faaskeeper.core.sessions import Leases
    from faaskeeper.core.storage import ObjectStore
    from faaskeeper.core.tally import Tally
    from faaskeeper.core.watches import WatchTable

FailureHandler = Callable[[Exception], None]


class InProcess(Protocol):
    """A service in this process, for who is as trusted as it is: nothing is encoded, nothing signed.

    Its queue takes a :class:`~faaskeeper.core.requests.Message` as it is.
    """

    def commit(self, messages: Sequence[Message]) -> None:
        """Hand messages to the writer, which serves them in this thread if it is free. Raises DriverError."""

    def listen(self, handler: Callable[[Reply | bytes], None], settled: Callable[[], None]) -> Listener:
        """Begin to listen for replies, early, as :class:`~faaskeeper.core.channel.Teller` says; notifications
        come as signed bytes. ``settled`` is called when replies are in user storage that ``handler`` was
        called with before, in the same thread: any.
        """

    def listen_late(self, handler: Callable[[Reply | bytes], None]) -> Listener:
        """Begin to listen for replies that are in user storage; notifications come as signed bytes."""


class Connection(Fields):
    """A client's way to a deployment.

    ``clock``: this process', which nobody sets while it runs; ``service``: the service's, as replies tell it.
    ``applied`` reads the mark. ``inline_bytes``: data above it goes to ``blobs`` first.
    ``prompt_queue``: the same queue for a sender who would only wait for the answer.
    ``coalesce``: the writer takes what waits anyway, so requests may wait here, in one message, while
    others are under way.
    ``within``: the service itself, where it runs in this process and its stores answer within microseconds
    (None: they are far). ``objects``: a client's session, too, sends and hears within.
    ``vouch``: makes a credential of what this process has seen of a client, the name in its certificate or
    (with the scheme ``ip``) its address, where it holds the deployment's key (None: it does not).
    ``tally`` counts what there is at the log's end (None: it cannot).
    ``wake`` asks the service to apply what is waiting (None: a client asks for it through the worker queue).
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
    within: InProcess | None = None
    objects: bool = False
    vouch: Callable[..., Credential] | None = None
    tally: Callable[[], Tally | None] | None = None
    wake: Callable[[], None] | None = None
    on_failure: Callable[[FailureHandler], None] = lambda handler: None
    gather: Gather[Any] = in_turn
    peer: str = ""
    super_digest: str = ""
    logs: Callable[[], str] = lambda: ""

    def __post_init__(self) -> None:
        self.service = self.clock if isinstance(self.clock, ServiceClock) else ServiceClock(self.clock)

    def heard(self, reply: Reply) -> None:
        """Take in what time it is for the service. One within this process has this process' clock."""
        if self.within is None:
            self.service.heard(reply.time)


def _tally(deployment: Deployment) -> Tally | None:
    from faaskeeper.core.tally import current

    return current(deployment.log, deployment.checkpoints)


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
        "tally": partial(_tally, deployment),
        "vouch": partial(acl.vouch, deployment.key) if deployment.key else None,
    }
    return Connection(**{**usual, **more})
