"""ZooKeeper's client protocol: requests as they are decoded, replies as bytes.

Sources: ``zookeeper.jute`` and ``org.apache.zookeeper.ZooDefs`` of releases 3.5 to 3.9; which error
a server gives to what was observed (``faaskeeper/testing/conformance/golden.json``). A frame is a
length of 4 bytes and so many bytes: of a request its header (xid, type) and record; of a reply its
header (xid, zxid, error) and record.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, Union

from faaskeeper.core.acl import Identity
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import (
    NO_DATA,
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
    inline,
)
from faaskeeper.core.znode import CONTAINER, OPEN_ACL, Acl, Meta, wrapped
from faaskeeper.gateway.jute import INT, Decoder, Malformed, buffer, string
from faaskeeper.watch import WatchEventType

# ---- numbers ---------------------------------------------------------------------------------

CREATE, DELETE, EXISTS, GET_DATA, SET_DATA, GET_ACL, SET_ACL, GET_CHILDREN, SYNC = range(1, 10)
PING, GET_CHILDREN2, CHECK, MULTI, CREATE2, RECONFIG, CHECK_WATCHES, REMOVE_WATCHES = range(11, 19)
CREATE_CONTAINER, DELETE_CONTAINER, CREATE_TTL, MULTI_READ = 19, 20, 21, 22
AUTH, SET_WATCHES, SASL, GET_EPHEMERALS, GET_ALL_CHILDREN_NUMBER = range(100, 105)
SET_WATCHES2, ADD_WATCH, WHO_AM_I = 105, 106, 107
CLOSE_SESSION = -11
READS = frozenset((GET_DATA, EXISTS, GET_CHILDREN, GET_CHILDREN2))

NAMES = {
    CREATE: "create",
    DELETE: "delete",
    EXISTS: "exists",
    GET_DATA: "getData",
    SET_DATA: "setData",
    GET_ACL: "getACL",
    SET_ACL: "setACL",
    GET_CHILDREN: "getChildren",
    SYNC: "sync",
    PING: "ping",
    GET_CHILDREN2: "getChildren2",
    CHECK: "check",
    MULTI: "multi",
    CREATE2: "create2",
    RECONFIG: "reconfig",
    CHECK_WATCHES: "checkWatches",
    REMOVE_WATCHES: "removeWatches",
    CREATE_CONTAINER: "createContainer",
    DELETE_CONTAINER: "deleteContainer",
    CREATE_TTL: "createTTL",
    MULTI_READ: "multiRead",
    AUTH: "auth",
    SET_WATCHES: "setWatches",
    SASL: "sasl",
    GET_EPHEMERALS: "getEphemerals",
    GET_ALL_CHILDREN_NUMBER: "getAllChildrenNumber",
    SET_WATCHES2: "setWatches2",
    ADD_WATCH: "addWatch",
    WHO_AM_I: "whoAmI",
    CLOSE_SESSION: "closeSession",
}
"""Types of request, by number."""

EVENT_XID, PING_XID = -1, -2

MARSHALLING_ERROR, UNIMPLEMENTED = -5, -6
NO_WATCHER, AUTH_FAILED, RECONFIG_DISABLED = -121, -115, -123
DATA_INCONSISTENCY = -3

ERRORS: dict[Code, int] = {
    Code.OK: 0,
    Code.RUNTIME_INCONSISTENCY: -2,
    Code.FORGOTTEN: -2,
    Code.UNIMPLEMENTED: UNIMPLEMENTED,
    Code.BAD_ARGUMENTS: -8,
    Code.TOO_LARGE: -8,
    Code.SEQUENCE_USED_UP: -8,
    Code.NO_NODE: -101,
    Code.NO_AUTH: -102,
    Code.BAD_VERSION: -103,
    Code.NO_CHILDREN_FOR_EPHEMERALS: -108,
    Code.NODE_EXISTS: -110,
    Code.NOT_EMPTY: -111,
    Code.SESSION_EXPIRED: -112,
    Code.INVALID_ACL: -114,
    Code.SESSION_MOVED: -118,
}
"""Error numbers of ``KeeperException.Code``."""

_EVENT_TYPES = {
    WatchEventType.NODE_CREATED: 1,
    WatchEventType.NODE_DELETED: 2,
    WatchEventType.NODE_DATA_CHANGED: 3,
    WatchEventType.NODE_CHILDREN_CHANGED: 4,
}
_CONNECTED = 3

_NONE = INT.pack(-1)
_STAT = struct.Struct(">qqqqiiiqiiq")
_HEADER = struct.Struct(">iiqi")  # with the frame's length before it
_EVENT = struct.Struct(">iiqiii")
_MULTI_HEADER = struct.Struct(">ibi")
_MULTI_END = _MULTI_HEADER.pack(-1, 1, -1)


class Refused(Exception):
    """A request is answered with this error number."""

    def __init__(self, error: int) -> None:
        super().__init__(error)
        self.error = error


def refusal(code: Code) -> Refused:
    """The refusal with an outcome's code."""
    return Refused(ERRORS[code])


# ---- connecting ------------------------------------------------------------------------------


class Connect(NamedTuple):
    """A client's first record. ``timeout`` in ms.

    ``aware``: the client, of release 3.4 or later, knows read-only servers.
    """

    last_zxid: int
    timeout: int
    session: int
    password: bytes
    aware: bool


def to_connect(body: bytes) -> Connect:
    """The ConnectRequest of a frame, also of clients before 3.4, which end before the flag."""
    decoder = Decoder(body)
    version, last_zxid, timeout, session = decoder.number(), decoder.long(), decoder.number(), decoder.long()
    password = decoder.buffer()
    if version != 0:
        raise Malformed(f"protocol version {version}; there is 0")
    aware = decoder.left() > 0
    if aware:
        decoder.flag()
    decoder.end()
    return Connect(last_zxid, timeout, session, password, aware)


def connected(timeout: int, session: int, password: bytes, aware: bool) -> bytes:
    """The frame of a ConnectResponse; ``timeout`` 0 tells that the session is over."""
    body = INT.pack(0) + INT.pack(timeout) + session.to_bytes(8, "big") + buffer(password)
    return buffer(body + b"\0" if aware else body)


# ---- requests --------------------------------------------------------------------------------


class Write(NamedTuple):
    """Something for the writer. ``kind``: its type; ``kinds``: of a multi's operations."""

    kind: int
    operation: Operation
    kinds: tuple[int, ...] = ()


class Read(NamedTuple):
    """getData, exists, getChildren, getChildren2."""

    kind: int
    path: str
    watch: bool


class About(NamedTuple):
    """A request that names a path and perhaps a number: getACL, sync, check- and removeWatches,
    addWatch, getEphemerals, getAllChildrenNumber; whoAmI names none.
    """

    kind: int
    path: str
    number: int = 0


class ReadTogether(NamedTuple):
    """multiRead."""

    kind: int
    reads: tuple[Read, ...]


class SetWatches(NamedTuple):
    """What a client that comes back watches, and has seen events of up to ``zxid``."""

    kind: int
    zxid: int
    data: tuple[str, ...]
    exists: tuple[str, ...]
    children: tuple[str, ...]
    persistent: tuple[str, ...]
    recursive: tuple[str, ...]


class Auth(NamedTuple):
    """A credential."""

    kind: int
    scheme: str
    shown: bytes


class Ping(NamedTuple):
    """A client lives."""

    kind: int


class Unsupported(NamedTuple):
    """A request that is answered as a standalone server without this feature does."""

    kind: int
    error: int
    record: bytes = b""


Request = Union[Write, Read, About, ReadTogether, SetWatches, Auth, Ping, Unsupported]

_PING = Ping(PING)
_ROOT = "/"


def to_request(body: bytes) -> tuple[int, Request]:
    """xid and request of a frame. Raises Malformed where it has no header, or is a credential cut
    short; of any other only the record may be malformed, and that is answered with an error.
    """
    decoder = Decoder(body)
    xid, kind = decoder.number(), decoder.number()
    try:
        return xid, _record(kind, decoder)
    except Malformed:
        if kind == AUTH:
            raise
        return xid, Unsupported(kind, MARSHALLING_ERROR)


def _record(kind: int, decoder: Decoder) -> Request:
    """The request after a header. Bytes after it, of later releases, are ignored."""
    if kind == PING:
        return _PING
    if kind in READS:
        request: Request = _read(kind, decoder)
    elif kind in _WRITES:
        request = Write(kind, _operation(kind, decoder))
    elif kind == MULTI:
        request = _multi(decoder)
    elif kind in (GET_ACL, GET_ALL_CHILDREN_NUMBER):
        request = About(kind, decoder.path() or _ROOT)
    elif kind in (SYNC, GET_EPHEMERALS):
        request = About(kind, decoder.text())
    elif kind in (CHECK_WATCHES, REMOVE_WATCHES, ADD_WATCH):
        path = decoder.path() if kind == CHECK_WATCHES else decoder.text()
        request = About(kind, path, decoder.number())
    elif kind == MULTI_READ:
        request = _multi_read(decoder)
    elif kind in (SET_WATCHES, SET_WATCHES2):
        request = _set_watches(kind, decoder)
    elif kind == AUTH:
        decoder.number()
        request = Auth(kind, decoder.text(), decoder.buffer())
    elif kind == CLOSE_SESSION:
        request = Write(kind, Close())
    elif kind == WHO_AM_I:
        request = About(kind, "/")
    elif kind == RECONFIG:
        request = Unsupported(kind, RECONFIG_DISABLED)
    elif kind == SASL:
        request = Unsupported(kind, 0, _NONE)
    elif kind == DELETE_CONTAINER:  # the server's own
        request = Unsupported(kind, ERRORS[Code.BAD_ARGUMENTS])
    else:
        request = Unsupported(kind, UNIMPLEMENTED)
    return request


def _read(kind: int, decoder: Decoder) -> Read:
    """An empty path reads the root, as in ZooKeeper; a watch on it never fires, so none is set."""
    path, watch = decoder.path(), decoder.flag()
    return Read(kind, path or _ROOT, watch and path != "")


def _acl(decoder: Decoder) -> tuple[Acl, ...]:
    acl = tuple(decoder.vector(lambda: (decoder.number(), decoder.text(), decoder.text()), 12))
    return OPEN_ACL if acl == OPEN_ACL else acl


def _data(decoder: Decoder) -> Data:
    data = decoder.data()
    return NO_DATA if data is None else inline(data)


FLAGS = {0: (False, False), 1: (True, False), 2: (False, True), 3: (True, True)}
"""The flags of a create that is neither a container nor has a time to live: ephemeral, sequential."""
_NO_TTL = CONTAINER - 1
"""A time to live that the writer refuses."""


def _create(kind: int, decoder: Decoder, within: bool) -> Create:
    """``within`` a multi the flags alone say what is created, else the type says "container"."""
    path, data, acl, flags = decoder.path(), _data(decoder), _acl(decoder), decoder.number()
    ttl = decoder.long() if kind == CREATE_TTL else None
    if within and flags in (0, 1, 2, 3):
        ttl = None
    if within and flags in (5, 6) and ttl is None:
        raise Malformed("a time to live is asked for and not said")
    if kind == CREATE_CONTAINER and not within and flags in (0, 1):
        flags = 4
    ephemeral, sequential = FLAGS.get(flags, (False, False))
    if flags == 4:
        return Create(path, data, acl=acl, ttl=CONTAINER if ttl is None else _NO_TTL)
    if flags in (5, 6):
        ttl = ttl if ttl and ttl != CONTAINER else _NO_TTL
        return Create(path, data, sequential=flags == 6, acl=acl, ttl=ttl)
    wrong = flags not in FLAGS or ttl is not None
    return Create(path, data, ephemeral, sequential, acl, _NO_TTL if wrong else 0)


def _operation(
    kind: int, decoder: Decoder, within: bool = False
) -> Create | SetData | Delete | Check | SetAcl:
    path = decoder.path if within else decoder.text
    if kind == SET_DATA:
        return SetData(path(), _data(decoder), decoder.number())
    if kind == DELETE:
        return Delete(decoder.path(), decoder.number())
    if kind == CHECK:
        return Check(path(), decoder.number())
    if kind == SET_ACL:
        return SetAcl(decoder.text(), _acl(decoder), decoder.number())
    return _create(kind, decoder, within)


_CREATES = (CREATE, CREATE2, CREATE_CONTAINER, CREATE_TTL)
_IN_MULTI = frozenset((*_CREATES, SET_DATA, DELETE, CHECK))
_WRITES = _IN_MULTI | {SET_ACL}


def _headers(decoder: Decoder, allowed: frozenset[int]) -> list[int]:
    """The type of a multi's next operation; empty at its end."""
    kind, done = decoder.number(), decoder.flag()
    decoder.number()
    if done:
        return []
    if kind not in allowed:
        raise Malformed(f"an operation of type {kind} in a multi")
    return [kind]


def _multi(decoder: Decoder) -> Write:
    kinds: list[int] = []
    operations: list[Create | SetData | Delete | Check] = []
    while following := _headers(decoder, _IN_MULTI):
        operation = _operation(following[0], decoder, within=True)
        if isinstance(operation, SetAcl):
            raise AssertionError("not allowed in a multi")
        kinds.append(_kind_within(following[0], operation))
        operations.append(operation)
    return Write(MULTI, Multi(tuple(operations)), tuple(kinds))


def _kind_within(kind: int, operation: Operation) -> int:
    """The type of a multi's result: of a create by what was made, however it was asked for."""
    if isinstance(operation, Create):
        return CREATE2 if operation.ttl else CREATE
    return kind


_IN_MULTI_READ = frozenset((GET_DATA, GET_CHILDREN))


def _multi_read(decoder: Decoder) -> ReadTogether:
    reads: list[Read] = []
    while following := _headers(decoder, _IN_MULTI_READ):
        reads.append(_read(following[0], decoder))
    return ReadTogether(MULTI_READ, tuple(reads))


def _set_watches(kind: int, decoder: Decoder) -> SetWatches:
    zxid = decoder.long()
    number = 3 if kind == SET_WATCHES else 5
    lists = [tuple(decoder.vector(decoder.path, 4)) for _ in range(number)]
    lists.extend([()] * (5 - number))
    return SetWatches(kind, zxid, *lists)


# ---- replies ---------------------------------------------------------------------------------


def reply(xid: int, zxid: int, error: int, record: bytes = b"") -> bytes:
    """The frame of a reply."""
    return _HEADER.pack(16 + len(record), xid, zxid, error) + record


def stat(meta: Meta) -> bytes:
    """A Stat, with the fields of :meth:`Meta.stat`."""
    czxid, mzxid, pzxid, ctime, mtime, version, creations, aversion, owner, length, children = meta[:11]
    changes = wrapped(2 * creations - children)
    size = length if length > 0 else 0
    return _STAT.pack(czxid, mzxid, ctime, mtime, version, changes, aversion, owner, size, children, pzxid)


def data(value: bytes, meta: Meta) -> bytes:
    """A znode's data, or none, and its Stat."""
    return (buffer(value) if meta.length >= 0 else _NONE) + stat(meta)


def event(kind: WatchEventType, path: str) -> bytes:
    """The frame of a watch's event."""
    name = path.encode()
    return _EVENT.pack(28 + len(name), EVENT_XID, -1, 0, _EVENT_TYPES[kind], _CONNECTED) + buffer(name)


def acl(entries: Sequence[Acl]) -> bytes:
    """A vector of ACL entries."""
    rows = (INT.pack(perms) + string(scheme) + string(name) for perms, scheme, name in entries)
    return b"".join((INT.pack(len(entries)), *rows))


def identities(who: Sequence[Identity]) -> bytes:
    """The answer to whoAmI."""
    return b"".join((INT.pack(len(who)), *(string(scheme) + string(name) for scheme, name in who)))


def _done(kind: int, outcome: Outcome) -> bytes:
    """The record of an operation that succeeded."""
    if kind == CREATE:
        return string(outcome.path)
    if kind in _CREATES:
        return string(outcome.path) + _stat_of(outcome)
    if kind in (SET_DATA, SET_ACL):
        return _stat_of(outcome)
    return b""


def _stat_of(outcome: Outcome) -> bytes:
    if outcome.meta is None:
        raise AssertionError("what changed a znode has its metadata")
    return stat(outcome.meta)


def together(results: Sequence[tuple[int, int, bytes]]) -> bytes:
    """The record of a multi or multiRead, from each operation's type, error and record."""
    parts: list[bytes] = []
    for kind, error, record in results:
        if error:
            parts.append(_MULTI_HEADER.pack(-1, 0, error) + INT.pack(error))
        else:
            parts.append(_MULTI_HEADER.pack(kind, 0, 0) + record)
    return b"".join((*parts, _MULTI_END))


def written(request: Write, outcome: Outcome) -> tuple[int, bytes]:
    """Error and record of the reply to a write."""
    if request.kind == SET_DATA and outcome.meta is not None:  # nearly all are
        return 0, stat(outcome.meta)
    if request.kind != MULTI:
        error = ERRORS[outcome.code]
        return error, b"" if error else _done(request.kind, outcome)
    if len(outcome.results) != len(request.kinds):  # refused as a whole
        return ERRORS[outcome.code], b""
    if outcome.code is Code.OK:
        results = [
            (kind, 0, _done(kind, each)) for kind, each in zip(request.kinds, outcome.results, strict=True)
        ]
        return 0, together(results)
    # ZooKeeper's results of a multi that failed are errors all, 0 before the operation that failed.
    errors = (ERRORS[each.code] for each in outcome.results)
    parts = (_MULTI_HEADER.pack(-1, 0, error) + INT.pack(error) for error in errors)
    return 0, b"".join((*parts, _MULTI_END))
