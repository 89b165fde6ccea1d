"""Requests of clients, their outcomes, and replies. Immutable, without behaviour.

A client's message carries ``(session, incarnation, acked)`` and requests numbered by *cxid*, from 1
without gaps. ``acked``: the client has the answers of all cxids up to it, so the session's state
may forget them. A cxid never gets another body once it was sent.
"""

from __future__ import annotations

from typing import Union

from faaskeeper.core.acl import Credential
from faaskeeper.core.errors import Code
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import OPEN_ACL, Acl, Meta


class Data(NamedTuple):
    """Data of a znode: ``inline``, or in the object ``blob``; ``length`` in bytes, -1 for null.

    ZooKeeper's clients distinguish null from empty data; ours return both as empty.
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
    """Replace a znode's data. ``version`` -1: any version. Outcome: the metadata."""

    path: str
    data: Data
    version: int = -1


class Delete(NamedTuple):
    """Delete a znode without children. ``version`` -1: any version."""

    path: str
    version: int = -1


class Check(NamedTuple):
    """Change nothing, but fail unless the znode has this version (-1: exists). For a Multi."""

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
    """Remove a container or a znode past its time to live, if it is still due. Heartbeat only."""

    path: str


class Close(NamedTuple):
    """End the session and delete its ephemerals, in one transaction."""


class End(NamedTuple):
    """End another session, or this one, as :class:`Close` would. Only the super user may end others.

    Outcome: NO_NODE if the session is not open. Its ephemerals are gone with the outcome; of very
    many, the rest follows.
    """

    session: int


class Open(NamedTuple):
    """Begin a session; its id is the txid at which this is logged.

    ``nonce`` (random) makes resending idempotent. ``secret``: signs the client's messages;
    ``timeout`` in ms.
    """

    nonce: str
    secret: bytes
    timeout: int


class Resume(NamedTuple):
    """Continue a session as the message's incarnation, which identifies one process from now on.

    ``after``: the incarnation that it replaces (-1: any smaller one). If the session has another
    one, the Resume is refused and the answer names it. Outcome: ``paths``.
    """

    after: int = -1


Operation = Union[Create, SetData, Delete, Check, SetAcl, Multi, Reap, Close, End, Open, Resume]


class Request(NamedTuple):
    """An operation with its number in the session, and the credentials of the client."""

    cxid: int
    operation: Operation
    auth: tuple[Credential, ...] = ()


MAX_INCARNATION = 2**62
"""Stores keep incarnations as integers of 64 bits."""


class Message(NamedTuple):
    """A client's message in the worker queue.

    ``address``: where answers go. ``session`` 0: an Open; otherwise the message is signed with the
    session's secret.
    """

    session: int
    incarnation: int
    acked: int
    address: str
    requests: tuple[Request, ...]


class Outcome(NamedTuple):
    """The outcome of a request, decided once.

    ``txid``: the transaction, or for an error the last one before. ``path``: of a created znode
    (with its sequence number); ``meta``: the znode's after the request; ``paths``: the session's
    ephemerals, after a Resume. ``results``: of a Multi's operations; if it failed, OK before the
    operation that failed and RUNTIME_INCONSISTENCY after it.
    """

    code: Code
    txid: int
    path: str = ""
    meta: Meta | None = None
    paths: tuple[str, ...] = ()
    results: tuple[Outcome, ...] = ()


class Epoch(NamedTuple):
    """The part of the log that a group changed; clients keep Z3 and Z4 with it.

    ``upto``: the last txid of the whole group. ``floor``: user storage has everything up to it.
    ``recent``: for each transaction in (floor, upto], every path written and the letters of its
    events; None if that would be too large: then clients read the log.
    """

    floor: int
    upto: int
    recent: tuple[tuple[int, tuple[tuple[str, str], ...]], ...] | None


class Reply(NamedTuple):
    """The service's reply to a client's requests.

    ``outcomes``: (cxid, outcome) in order. ``resend``: 0, or the first cxid that the service lacks.
    ``nonce``: of the Open that this answers. ``time``: the service's clock, ms (0: from a writer
    that uses its client's clock). ``current``: in reply to a refused Resume, the session's
    incarnation.
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
    """A watched znode changed. The epoch also tells the client of every change before."""

    session: int
    epoch: Epoch
