"""ZooKeeper's protocol as its clients speak it: requests as bytes, and replies taken apart.

Written from ``zookeeper.jute`` of release 3.8, apart from the server's codec.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from faaskeeper.core.requests import Operation
from faaskeeper.core.znode import OPEN_ACL, Acl, Stat

CREATE2, DELETE, EXISTS, GET, SET, GET_ACL, SET_ACL, SYNC, PING, CHILDREN2 = 15, 2, 3, 4, 5, 6, 7, 9, 11, 12
CONTAINER, TTL = 19, 21
CHILDREN, CHECK, MULTI, CHECK_WATCHES, REMOVE_WATCHES, MULTI_READ = 8, 13, 14, 17, 18, 22
EPHEMERALS, SET_WATCHES2, ADD_WATCH, CLOSE = 103, 105, 106, -11
EVENT_XID, PING_XID, SET_WATCHES_XID = -1, -2, -8
NO_NODE, NO_AUTH, NO_WATCHER = -101, -102, -121

CODES = {
    0: "OK",
    -2: "RUNTIME_INCONSISTENCY",
    -8: "BAD_ARGUMENTS",
    -101: "NO_NODE",
    -102: "NO_AUTH",
    -103: "BAD_VERSION",
    -108: "NO_CHILDREN_FOR_EPHEMERALS",
    -110: "NODE_EXISTS",
    -111: "NOT_EMPTY",
    -112: "SESSION_EXPIRED",
    -114: "INVALID_ACL",
    -118: "SESSION_MOVED",
}
"""Names of error numbers (``KeeperException.Code``)."""


def string(value: str | bytes) -> bytes:
    """A text or buffer with its length."""
    data = value.encode() if isinstance(value, str) else value
    return struct.pack(">i", len(data)) + data


def strings(values: Sequence[str]) -> bytes:
    """A vector of texts."""
    return struct.pack(">i", len(values)) + b"".join(string(each) for each in values)


def number(value: int) -> bytes:
    """4 bytes."""
    return struct.pack(">i", value)


def acls(entries: Sequence[Acl] = OPEN_ACL) -> bytes:
    """A vector of ACL entries."""
    rows = (number(perms) + string(scheme) + string(name) for perms, scheme, name in entries)
    return number(len(entries)) + b"".join(rows)


def framed(body: bytes) -> bytes:
    """A frame."""
    return number(len(body)) + body


def connect(zxid: int, timeout: int, session: int, password: bytes) -> bytes:
    """The frame of a ConnectRequest."""
    return framed(struct.pack(">iqiq", 0, zxid, timeout, session) + string(password) + b"\0")


def create(path: str, data: bytes, flags: int = 0) -> bytes:
    """The record of a create."""
    return string(path) + string(data) + acls() + number(flags)


def several(parts: Sequence[tuple[int, bytes]]) -> bytes:
    """The record of a multi or multiRead, from types and records."""
    body = b"".join(struct.pack(">ibi", kind, 0, -1) + record for kind, record in parts)
    return body + struct.pack(">ibi", -1, 1, -1)


class Body:
    """Takes a reply's record apart."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, form: str) -> tuple[int, ...]:
        """Numbers of a format of :mod:`struct`."""
        value = struct.unpack_from(">" + form, self._data, self._at)
        self._at += struct.calcsize(">" + form)
        return value

    def buffer(self) -> bytes:
        """Bytes with their length; none are empty ones."""
        (length,) = self.take("i")
        if length < 0:
            return b""
        self._at += length
        return self._data[self._at - length : self._at]

    def string(self) -> str:
        """A text."""
        return self.buffer().decode()

    def strings(self) -> list[str]:
        """A vector of texts."""
        return [self.string() for _ in range(self.take("i")[0])]

    def stat(self) -> Stat:
        """A Stat."""
        (czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, length, children, pzxid) = self.take(
            "qqqqiiiqiiq"
        )
        return Stat(czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, length, children, pzxid)

    def end(self) -> bool:
        """Whether all was taken."""
        return self._at == len(self._data)


class Part(NamedTuple):
    """A read within a multiRead, or the path and kind of another read."""

    kind: int
    path: str


@dataclass
class Asked:
    """A request that was sent, and what was known then.

    ``operation``: of a write. ``watch``: the kind of watch that it sets or removes, or "".
    ``sent``: ms. ``head``: the log's end. ``acked``: the newest transaction that any client had an
    answer of.
    """

    kind: int
    xid: int
    body: bytes
    path: str = ""
    operation: Operation | None = None
    watch: str = ""
    parts: tuple[Part, ...] = ()
    sent: int = 0
    head: int = 0
    acked: int = 0

    @property
    def frame(self) -> bytes:
        """The request's bytes."""
        return framed(struct.pack(">ii", self.xid, self.kind) + self.body)

    def __str__(self) -> str:
        name = _NAMES.get(self.kind, str(self.kind))
        return f"{name} {self.path}{' with a watch' if self.watch else ''} (xid {self.xid})"


_NAMES = {
    CREATE2: "create",
    CONTAINER: "createContainer",
    TTL: "createTTL",
    DELETE: "delete",
    EXISTS: "exists",
    GET: "getData",
    SET: "setData",
    SYNC: "sync",
    PING: "ping",
    CHILDREN: "getChildren",
    CHILDREN2: "getChildren2",
    MULTI: "multi",
    CHECK_WATCHES: "checkWatches",
    REMOVE_WATCHES: "removeWatches",
    MULTI_READ: "multiRead",
    EPHEMERALS: "getEphemerals",
    SET_WATCHES2: "setWatches2",
    ADD_WATCH: "addWatch",
    CLOSE: "closeSession",
}
