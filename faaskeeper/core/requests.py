"""What clients ask for, what is decided, and what they are told. Immutable, without behaviour.

A client's message carries ``(session, incarnation, acked)`` and requests numbered by *cxid*, from 1
without holes. ``acked``: the client has the answers of all cxids up to it, so the session's state
may forget them. A cxid once sent never gets another body.
"""

from __future__ import annotations

from typing import NamedTuple, Union

from faaskeeper.core.acl import Credential
from faaskeeper.core.errors import Code
from faaskeeper.core.znode import OPEN_ACL, Acl, Meta


class Data(NamedTuple):
    """Data of a znode: ``inline``, or kept in the object ``blob``; ``length`` in bytes, -1 for none at all.

    ZooKeeper's clients tell none from empty data; ours show both as empty.
    """

    inline: bytes
    blob: str
    length: int


def inline(data: bytes) -> Data:
    """Data carried in the request itself."""
    return Data(data, "", len(data))


NO_DATA = Data(b"", "", -1)


class Create(NamedTuple):
    """Create a znode. Outcome: its path and metadata.

    ``ttl``: 0, a time to live in ms, or :data:`~faaskeeper.core.znode.CONTAINER`.
    """

    path: str
    data: Data
    ephemeral: bool = False
    sequential: bool = False
    acl: tuple[Acl, ...] = OPEN_ACL
    ttl: int = 0


class SetData(NamedTuple):
    """Replace a znode's data. ``version`` -1: whichever it is. Outcome: the metadata."""

    path: str
    data: Data
    version: int = -1


class Delete(NamedTuple):
    """Delete a znode without children."""

    path: str
    version: int = -1


class Check(NamedTuple):
    """Do nothing, but fail unless the znode has this version (-1: unless it exists). In a Multi."""

    path: str
    version: int = -1


class SetAcl(NamedTuple):
    """Replace a znode's ACL; ``version`` is compared with ``aversion``. Outcome: the metadata."""

    path: str
    acl: tuple[Acl, ...]
    version: int = -1


class Multi(NamedTuple):
    """Several operations in one transaction, all or none. Outcome: one for each of them."""

    operations: tuple[Union[Create, SetData, Delete, Check], ...]


class Reap(NamedTuple):
    """Remove a container or a znode past its time to live, if it still is. Asked for by heartbeat alone."""

    path: str


class Close(NamedTuple):
    """End the session and delete its ephemerals, in one transaction."""


class Open(NamedTuple):
    """Begin a session; its id is the txid at which this is logged.

    ``nonce`` (random) makes sending it again harmless. ``secret`` is what the client's messages will
    be signed with; ``timeout`` in ms.
    """

    nonce: str
    secret: bytes
    timeout: int


class Resume(NamedTuple):
    """Go on with a session, as the message's incarnation, which stands for one process from now on.

    ``after``: the incarnation that it replaces: with another in its place it is refused, and told which (-1:
    any smaller one). Outcome: ``paths``.
    """

    after: int = -1


Operation = Union[Create, SetData, Delete, Check, SetAcl, Multi, Reap, Close, Open, Resume]


class Request(NamedTuple):
    """An operation with its number in the session, and the credentials under which it was asked for."""

    cxid: int
    operation: Operation
    auth: tuple[Credential, ...] = ()


MAX_INCARNATION = 2**62
"""Stores keep incarnations as integers of 64 bits."""


class Message(NamedTuple):
    """What a client puts into the worker queue.

    ``address``: where answers go. ``session`` 0: an Open; else signed with the session's secret.
    """

    session: int
    incarnation: int
    acked: int
    address: str
    requests: tuple[Request, ...]


class Outcome(NamedTuple):
    """How a request ended, decided once. ``txid``: the transaction, or for an error the last one before.

    ``path``: of a created znode (with its sequence number); ``meta``: of the znode after it;
    ``paths``: the session's ephemerals, after a Resume. ``results``: of a Multi's operations; of one
    that failed, OK before the operation that failed and RUNTIME_INCONSISTENCY after it.
    """

    code: Code
    txid: int
    path: str = ""
    meta: Meta | None = None
    paths: tuple[str, ...] = ()
    results: tuple[Outcome, ...] = ()


class Epoch(NamedTuple):
    """Which part of the log something stands for; what Z3 and Z4 are kept with.

    ``upto``: the last txid of the whole group it was written with. ``floor``: everything up to it is
    in user storage. ``recent``: for each transaction in (floor, upto], every path written and the
    letters of what happened to it; None when that would be too big: then the log is read.
    """

    floor: int
    upto: int
    recent: tuple[tuple[int, tuple[tuple[str, str], ...]], ...] | None


class Reply(NamedTuple):
    """What a client is told about its requests.

    ``outcomes``: (cxid, outcome) in order. ``resend``: 0, or the cxid from which the service lacks
    requests. ``nonce``: of the Open that this answers. ``time``: the service's clock, ms (0: from a writer
    that goes by its client's). ``current``: to a Resume that is refused, the session's incarnation.
    """

    session: int
    incarnation: int
    outcomes: tuple[tuple[int, Outcome], ...]
    epoch: Epoch
    time: int
    resend: int = 0
    nonce: str = ""
    current: int = 0


class Notification(NamedTuple):
    """A watched znode changed. Carries the epoch, so that meeting it tells of every change before."""

    session: int
    epoch: Epoch
