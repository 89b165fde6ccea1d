"""The interface of one deployment for its clients, which a provider fills in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

from faaskeeper.core import acl
from faaskeeper.core.clocks import ServiceClock
from faaskeeper.core.drivers.storage import Gather, in_turn

if TYPE_CHECKING:  # a client imports only those parts of a service that its provider needs
    from faaskeeper.core.acl import Credential, SuperUser
    from faaskeeper.core.clocks import Clock
    from faaskeeper.core.deployment import Deployment
    from faaskeeper.core.drivers.channel import ClientChannel, Listener
    from faaskeeper.core.drivers.queue import Queue
    from faaskeeper.core.drivers.storage import ObjectStore
    from faaskeeper.core.kept import Kept
    from faaskeeper.core.log import Log
    from faaskeeper.core.records import Records
    from faaskeeper.core.requests import Message, Reply
    from faaskeeper.core.sessions import Leases, Session
    from faaskeeper.core.tally import Tally
    from faaskeeper.core.watches import WatchTable

FailureHandler = Callable[[Exception], None]


class InProcess(Protocol):
    """A service in this process, for callers as trusted as the service itself.

    Nothing is encoded or signed. Its queue takes a :class:`~faaskeeper.core.requests.Message`
    itself.
    """

    def commit(self, messages: Sequence[Message]) -> None:
        """Pass messages to the writer, which serves them in this thread if it is free.

        Raises DriverError if the service has ended, now or before. Then replies that were passed on
        early may be without their records in user storage for good.
        """

    def listen(self, handler: Callable[[Reply | bytes], None], settled: Callable[[], None]) -> Listener:
        """Listen for early replies; see :class:`~faaskeeper.core.drivers.channel.DirectChannel`.

        Notifications arrive as signed bytes. ``settled`` is called once user storage has the writes
        of replies that were passed to ``handler`` before, by the same thread, which may be any
        thread.
        """

    def listen_late(self, handler: Callable[[Reply | bytes], None]) -> Listener:
        """Listen for late replies; notifications arrive as signed bytes."""


@dataclass(slots=True, eq=False, repr=False)
class Connection:
    """A client's access to a deployment.

    ``clock``: this process's clock, which is not set while it runs. ``service``: the service's
    clock, estimated from replies. ``applied``: reads the mark. ``inline_bytes``: larger data is put
    into ``blobs`` first.

    ``prompt_queue``: the worker queue, for a sender that would only wait for the answer.
    ``coalesce``: the writer takes all waiting messages at once, so while requests are under way,
    others may wait here and share one message.

    ``within``: the service itself, if it runs in this process and its stores answer within
    microseconds (None: they are remote). ``objects``: sessions of the threaded client send and
    receive through ``within``, too.

    ``vouch``: makes a credential from what this process verified of a client: the name in its
    certificate or (scheme ``ip``) its address. None if this process does not hold the deployment's
    key. ``tally``: counts znodes and data at the log's end; None if it cannot.

    ``sessions``: reads the sessions that are open at the log's end (None: it cannot).

    ``kept``: what is kept of a path beside the log, see :mod:`faaskeeper.core.kept` (None: nothing).

    ``ring``: sends the service a wake-up to apply pending entries (None: the client asks for it
    through the worker queue). ``unreached``: says what to do if the service's answers do not arrive
    at an address (None: they always do). ``on_failure``: registers a handler for when the service
    cannot continue (a full disk, say). ``on_return``: registers a handler for when the service is
    back after it was away, which must not block: what was sent to it, or by it, may be lost.
    ``close``: releases what ``connect`` acquired. ``peer`` and ``super_digest``: see
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
    kept: Callable[[str], Kept] | None = None
    sessions: Callable[[], list[Session]] | None = None
    ring: Callable[[], None] | None = None
    unreached: Callable[[str], str] | None = None
    on_failure: Callable[[FailureHandler], None] = lambda handler: None
    on_return: Callable[[Callable[[], None]], None] = lambda handler: None
    gather: Gather[Any] = in_turn
    peer: str = ""
    super_digest: SuperUser = ""
    logs: Callable[[], str] = lambda: ""
    service: ServiceClock = field(init=False)

    def __post_init__(self) -> None:
        self.service = self.clock if isinstance(self.clock, ServiceClock) else ServiceClock(self.clock)

    def note_time(self, reply: Reply, late: int = 0) -> None:
        """Take in the service's time from a reply. A service in this process has the same clock.

        ``late``: for how long the first reply may have been on its way, ms; see
        :class:`~faaskeeper.core.clocks.ServiceClock`.
        """
        if self.within is None and reply.time:
            self.service.note(reply.time + late)


def _tally(deployment: Deployment) -> Tally | None:
    from faaskeeper.core.counting import current

    return current(deployment.log, deployment.checkpoints)


def _sessions(deployment: Deployment) -> list[Session]:
    from faaskeeper.core.counting import open_sessions

    return open_sessions(deployment.log, deployment.checkpoints, deployment.clock())


def connection_to(deployment: Deployment, channel: ClientChannel, **more: Any) -> Connection:
    """A client's access to a deployment whose stores it can reach.

    ``more``: fields that differ from the defaults.
    """
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
        "sessions": partial(_sessions, deployment),
        "kept": None if deployment.keeper is None else deployment.keeper.of,
        "vouch": partial(acl.vouch, deployment.key) if deployment.key else None,
    }
    return Connection(**{**usual, **more})
