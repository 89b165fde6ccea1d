"""A ZooKeeper client that is nothing but bytes: it checks nothing and repeats nothing."""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Any, ClassVar

from faaskeeper.testing.patience import PATIENCE_S

CREATE2, DELETE, EXISTS, GET, SET, GET_ACL, SET_ACL, CHILDREN, SYNC, PING = 15, 2, 3, 4, 5, 6, 7, 8, 9, 11
CHILDREN2, CHECK, MULTI, CHECK_WATCHES, REMOVE_WATCHES, CONTAINER, TTL, MULTI_READ = (
    12,
    13,
    14,
    17,
    18,
    19,
    21,
    22,
)
AUTH, SET_WATCHES, SASL, EPHEMERALS, NUMBER, SET_WATCHES2, ADD_WATCH, WHO_AM_I = (
    100,
    101,
    102,
    103,
    104,
    105,
    106,
    107,
)
CLOSE = -11
OPEN = [[31, "world", "anyone"]]


def string(value: str | bytes) -> bytes:
    data = value.encode("utf-8", "surrogatepass") if isinstance(value, str) else value
    return struct.pack(">i", len(data)) + data


def strings(values: list[str]) -> bytes:
    return struct.pack(">i", len(values)) + b"".join(string(each) for each in values)


def number(value: int) -> bytes:
    return struct.pack(">i", value)


def acls(entries: list[Any]) -> bytes:
    rows = (number(perms) + string(scheme) + string(name) for perms, scheme, name in entries)
    return number(len(entries)) + b"".join(rows)


class Body:
    """Takes a reply apart."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, form: str) -> Any:
        value = struct.unpack_from(">" + form, self.data, self.at)
        self.at += struct.calcsize(">" + form)
        return value[0] if len(value) == 1 else value

    def buffer(self) -> bytes:
        length = self.take("i")
        if length < 0:
            return b""
        self.at += length
        return self.data[self.at - length : self.at]

    def string(self) -> str:
        return self.buffer().decode()

    def strings(self) -> list[str]:
        return [self.string() for _ in range(self.take("i"))]

    def stat(self) -> tuple[int, ...]:
        value: tuple[int, ...] = self.take("qqqqiiiqiiq")
        return value

    def end(self) -> None:
        assert self.at == len(self.data), f"{len(self.data) - self.at} bytes more than expected"


class Closed(Exception):
    """The server closed the connection."""


class Raw:
    """A connection, and a session unless ``connect`` is False."""

    made: ClassVar[list[Raw]] = []
    """All of a test, which closes them at its end."""

    def __init__(
        self,
        port: int,
        *,
        timeout: int = 120_000,
        session: int = 0,
        password: bytes = bytes(16),
        last_zxid: int = 0,
        aware: bool = True,
        connect: bool = True,
        wrap: Any = None,
    ) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if wrap is not None:
            self.socket = wrap(self.socket)
        Raw.made.append(self)
        self.events: deque[tuple[int, str]] = deque()
        self.xid = 0
        self.session = 0
        self.timeout = 0
        self.password = b""
        if connect:
            body = struct.pack(">iqiq", 0, last_zxid, timeout, session) + string(password)
            self.frame(body + b"\0" if aware else body)
            answer = Body(self.receive())
            _, self.timeout, self.session = answer.take("iiq")
            self.password = answer.buffer()
            if aware:
                assert answer.take("b") == 0
            answer.end()

    def frame(self, body: bytes) -> None:
        self.socket.sendall(struct.pack(">i", len(body)) + body)

    def exactly(self, length: int) -> bytes:
        data = b""
        while len(data) < length:
            try:
                more = self.socket.recv(length - len(data))
            except ConnectionError as error:
                raise Closed from error
            if not more:
                raise Closed
            data += more
        return data

    def receive(self) -> bytes:
        return self.exactly(struct.unpack(">i", self.exactly(4))[0])

    def send(self, op: int, body: bytes = b"", xid: int | None = None) -> int:
        if xid is None:
            self.xid += 1
            xid = self.xid
        self.frame(struct.pack(">ii", xid, op) + body)
        return xid

    def next(self) -> tuple[int, int, int, Body]:
        """xid, zxid, error and record of the next reply; events before it are kept."""
        while True:
            body = Body(self.receive())
            xid, zxid, error = body.take("iqi")
            if xid != -1:
                return xid, zxid, error, body
            kind, state = body.take("ii")
            assert (zxid, error, state) == (-1, 0, 3)
            self.events.append((kind, body.string()))
            body.end()

    def ask(self, op: int, body: bytes = b"", xid: int | None = None) -> tuple[int, Body]:
        """Send a request and wait for its reply: error and record."""
        sent = self.send(op, body, xid)
        got, _, error, record = self.next()
        assert got == sent
        if error and op not in (MULTI, MULTI_READ):
            record.end()
        return error, record

    def create(self, path: str, data: bytes = b"", flags: int = 0) -> str:
        error, record = self.ask(CREATE2, string(path) + string(data) + acls(OPEN) + number(flags))
        assert not error, error
        return record.string()

    def ping(self) -> None:
        """Everything that the server has said before is here when this returns."""
        assert self.ask(PING, xid=-2)[0] == 0

    def close(self) -> None:
        self.socket.close()
