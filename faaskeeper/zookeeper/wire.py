"""The client's side of ZooKeeper's protocol: requests as bytes, records of replies as objects.

The counterpart of :mod:`faaskeeper.gateway.protocol`, whose numbers and sources hold here too. A
reply's stat becomes a :class:`~faaskeeper.core.znode.Meta`: ZooKeeper keeps the same numbers
(``DataNode.copyStat`` computes the child version that it shows). A stat does not tell containers and
times to live: ``copyStat`` shows the owner of ephemerals only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeVar

from faaskeeper.core.errors import Code
from faaskeeper.core.requests import (
    Check,
    Close,
    Create,
    Data,
    Delete,
    Multi,
    Operation,
    Outcome,
    SetAcl,
    SetData,
)
from faaskeeper.core.znode import CONTAINER, Acl, Meta
from faaskeeper.gateway import protocol
from faaskeeper.gateway.jute import INT, LONG, Decoder, buffer, string, strings
from faaskeeper.watch import WatchEventType

_T = TypeVar("_T")

AUTH_XID, WATCHES_XID = -4, -8
_NONE = INT.pack(-1)
_FLAG = (b"\0", b"\1")
_CODES: dict[int, Code] = {}
for _code, _number in protocol.ERRORS.items():
    _CODES.setdefault(_number, _code)

_OTHERS = {
    -1: "SystemError",
    -4: "ConnectionLoss",
    protocol.MARSHALLING_ERROR: "MarshallingError",
    -13: "NewConfigNoQuorum",
    protocol.AUTH_FAILED: "AuthFailed",
    -119: "NotReadOnly",
    -120: "EphemeralOnLocalSession",
    protocol.NO_WATCHER: "NoWatcher",
    protocol.RECONFIG_DISABLED: "ReconfigDisabled",
    -124: "SessionClosedRequireSaslAuth",
    -125: "QuotaExceeded",
    -127: "ThrottledOp",
}
SINCE = {
    protocol.CREATE2: "3.5",
    protocol.CREATE_CONTAINER: "3.5.1",
    protocol.CREATE_TTL: "3.5.3, with zookeeper.extendedTypesEnabled=true",
    protocol.MULTI_READ: "3.6",
    protocol.GET_EPHEMERALS: "3.6",
    protocol.GET_ALL_CHILDREN_NUMBER: "3.6",
    protocol.ADD_WATCH: "3.6",
    protocol.WHO_AM_I: "3.7",
}
"""The releases of ZooKeeper that know a type of request."""

EVENTS = {
    1: WatchEventType.NODE_CREATED,
    2: WatchEventType.NODE_DELETED,
    3: WatchEventType.NODE_DATA_CHANGED,
    4: WatchEventType.NODE_CHILDREN_CHANGED,
}
"""Events by number. Others tell of the connection and of removed watches."""
ANY_WATCH = 3
"""``Watcher.WatcherType.Any``."""


def code_of(error: int) -> Code | None:
    """The code of an error number; None: it has none, see :func:`name_of`."""
    return _CODES.get(error)


def name_of(error: int) -> str:
    """The name of an error number that has no code."""
    return _OTHERS.get(error, f"error {error}")


# ---- the session -----------------------------------------------------------------------------


class Connected(NamedTuple):
    """A server's first record. ``timeout`` (ms) 0: the session is over."""

    timeout: int
    session: int
    password: bytes


def connect(last_zxid: int, timeout: int, session: int, password: bytes) -> bytes:
    """The frame that opens a session (0) or goes on with one."""
    head = INT.pack(0) + LONG.pack(last_zxid) + INT.pack(timeout) + LONG.pack(session)
    return buffer(head + buffer(password) + _FLAG[0])


def to_connected(body: bytes) -> Connected:
    """The answer to :func:`connect`."""
    decoder = Decoder(body)
    decoder.number()
    return Connected(decoder.number(), decoder.long(), decoder.buffer())


def frame(xid: int, kind: int, body: bytes = b"") -> bytes:
    """The frame of a request."""
    return buffer(INT.pack(xid) + INT.pack(kind) + body)


def auth(scheme: str, credential: str) -> bytes:
    """The frame that shows a credential."""
    body = INT.pack(0) + string(scheme) + string(credential)
    return frame(AUTH_XID, protocol.AUTH, body)


PING = frame(protocol.PING_XID, protocol.PING)


def watches(zxid: int, lists: Sequence[Sequence[str]]) -> bytes:
    """The frame that sets watches again: of data, existence, children, persistent, recursive."""
    extended = any(lists[3:])
    kind = protocol.SET_WATCHES2 if extended else protocol.SET_WATCHES
    body = LONG.pack(zxid) + b"".join(map(strings, lists if extended else lists[:3]))
    return frame(WATCHES_XID, kind, body)


# ---- requests --------------------------------------------------------------------------------


def read(path: str, watch: bool = False) -> bytes:
    """The record of getData, exists, getChildren and getChildren2."""
    return string(path) + _FLAG[watch]


def named(path: str, number: int | None = None) -> bytes:
    """The record of a request that names a path, and perhaps a number."""
    return string(path) + (b"" if number is None else INT.pack(number))


def operation(asked: Operation) -> tuple[int, bytes]:
    """Type and record of a write."""
    if isinstance(asked, Create):
        return _create(asked)
    if isinstance(asked, SetData):
        body = string(asked.path) + _data(asked.data) + INT.pack(asked.version)
        return protocol.SET_DATA, body
    if isinstance(asked, Delete):
        return protocol.DELETE, string(asked.path) + INT.pack(asked.version)
    if isinstance(asked, Check):
        return protocol.CHECK, string(asked.path) + INT.pack(asked.version)
    if isinstance(asked, SetAcl):
        body = string(asked.path) + protocol.acl(asked.acl) + INT.pack(asked.version)
        return protocol.SET_ACL, body
    if isinstance(asked, Multi):
        return protocol.MULTI, _together(map(operation, asked.operations))
    if isinstance(asked, Close):
        return protocol.CLOSE_SESSION, b""
    raise AssertionError(f"clients do not ask for {asked!r}")


def _create(asked: Create) -> tuple[int, bytes]:
    flags = 2 * asked.sequential + asked.ephemeral
    head = string(asked.path) + _data(asked.data) + protocol.acl(asked.acl)
    if asked.ttl == CONTAINER:
        return protocol.CREATE_CONTAINER, head + INT.pack(4)
    if asked.ttl:
        kind = INT.pack(6 if asked.sequential else 5)
        return protocol.CREATE_TTL, head + kind + LONG.pack(asked.ttl)
    return protocol.CREATE2, head + INT.pack(flags)


def _data(data: Data) -> bytes:
    return _NONE if data.length < 0 else buffer(data.inline)


def reads(asked: Sequence[tuple[int, str]]) -> bytes:
    """The record of a multiRead: of getData and getChildren."""
    return _together((kind, read(path)) for kind, path in asked)


def _together(parts: Iterable[tuple[int, bytes]]) -> bytes:
    made: list[bytes] = []
    for kind, body in parts:
        made += (INT.pack(kind), _FLAG[0], _NONE, body)
    return b"".join((*made, _NONE, _FLAG[1], _NONE))


# ---- replies ---------------------------------------------------------------------------------


def stat(decoder: Decoder) -> Meta:
    """The metadata in a Stat. What a Stat does not tell has its default."""
    czxid, mzxid, ctime, mtime = (decoder.long() for _ in range(4))
    version, cversion, aversion = (decoder.number() for _ in range(3))
    owner, length, children, pzxid = decoder.long(), decoder.number(), decoder.number(), decoder.long()
    creations = (cversion + children) // 2
    return Meta(czxid, mzxid, pzxid, ctime, mtime, version, creations, aversion, owner, length, children)


def data(decoder: Decoder) -> tuple[bytes, Meta]:
    """Data and metadata; ``meta.length`` -1: there is no data."""
    value = decoder.data()
    meta = stat(decoder)
    return (value or b""), meta._replace(length=-1 if value is None else len(value))


def names(decoder: Decoder) -> list[str]:
    """Names of children, sorted."""
    return sorted(decoder.vector(decoder.text, 4))


def children(decoder: Decoder) -> tuple[list[str], Meta]:
    """Names of children, sorted, and the parent's metadata."""
    return names(decoder), stat(decoder)


def _pair(decoder: Decoder) -> tuple[str, str]:
    return decoder.text(), decoder.text()


def identities(decoder: Decoder) -> list[tuple[str, str]]:
    """The answer to whoAmI."""
    return decoder.vector(lambda: _pair(decoder), 8)


def acl(decoder: Decoder) -> tuple[tuple[Acl, ...], Meta]:
    """An ACL and the metadata."""
    entries = decoder.vector(lambda: (decoder.number(), *_pair(decoder)), 12)
    return tuple(entries), stat(decoder)


def outcome(asked: Operation, kind: int, zxid: int, error: int, decoder: Decoder) -> Outcome:
    """The outcome of a write. Raises KeyError for an error that has no code."""
    if error:
        code = _CODES[error]
        if isinstance(asked, Multi):  # refused as a whole
            each = Outcome(code, zxid)
            return Outcome(code, zxid, results=(each,) * len(asked.operations))
        return Outcome(code, zxid)
    if isinstance(asked, Multi):
        results = tuple(several(decoder, lambda kind: _done(kind, zxid, decoder)))
        failed = (each.code for each in results if each.code is not Code.OK)
        return Outcome(next(failed, Code.OK), zxid, results=results)
    return _done(kind, zxid, decoder)


def _done(kind: int, zxid: int, decoder: Decoder) -> Outcome:
    """The outcome of an operation that succeeded; of type -1: of one in a multi that failed."""
    if kind == -1:
        return Outcome(_CODES[decoder.number()], zxid)
    path, meta = "", None
    if kind in (protocol.CREATE, protocol.CREATE2, protocol.CREATE_CONTAINER, protocol.CREATE_TTL):
        path = decoder.text()
    if kind not in (protocol.CREATE, protocol.DELETE, protocol.CHECK, protocol.CLOSE_SESSION):
        meta = stat(decoder)
    return Outcome(Code.OK, zxid, path, meta)


def several(decoder: Decoder, item: Callable[[int], _T]) -> list[_T]:
    """The results of a multi or multiRead, each decoded by ``item`` from its type."""
    found: list[_T] = []
    while True:
        kind, done = decoder.number(), decoder.flag()
        decoder.number()
        if done:
            return found
        found.append(item(kind))
