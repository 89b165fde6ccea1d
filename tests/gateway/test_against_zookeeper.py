"""``fk serve`` beside a real ZooKeeper server: requests over the wire must have the same answers and events.

What differs on purpose is named in ``docs/operations.md`` and left out here.
"""

from __future__ import annotations

import itertools
import struct
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests import programs
from tests.gateway import raw
from tests.gateway.raw import Closed, Raw, acls, number, string, strings
from tests.gateway.servers import Server
from tests.gateway.test_golden import WireAdapter
from tests.zookeeper import SUPER_DIGEST, zookeeper

_PROGRAMS = 60
_numbers = itertools.count()


class Ports(NamedTuple):
    """Where the two servers listen."""

    theirs: int
    ours: int


@pytest.fixture(scope="module")
def ports(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ports]:
    with zookeeper(tmp_path_factory.mktemp("zookeeper")) as theirs:
        rare = {"heartbeat-frequency": 3600, "super-digest": SUPER_DIGEST}  # ZooKeeper looks once a minute
        server = Server(tmp_path_factory.mktemp("beside"), config=rare)
        yield Ports(theirs, server.port)
        assert server.stop() == 0


# ---- programs ------------------------------------------------------------------------------------


class Wire(WireAdapter):
    """Sessions over the wire, with what only that has."""

    def call(self, session: str, op: str, args: list[Any]) -> dict[str, Any]:
        if op != "set_watches":
            return super().call(session, op, args)
        watched = b"".join(strings(each) for each in args[1:])
        error, _ = self.session(session).ask(raw.SET_WATCHES, struct.pack(">q", args[0]) + watched, xid=-8)
        return {"error": error}


def on(port: int) -> programs.Run:
    def run(program: programs.Program) -> list[Any]:
        wire = Wire(port)
        try:
            return programs.run(program, wire, f"/program{next(_numbers)}")
        finally:
            for session in wire.sessions.values():
                session.close()

    return run


@pytest.mark.parametrize("first", range(0, _PROGRAMS, 10))
def test_random_programs_of_several_sessions_show_the_same(first: int, ports: Ports) -> None:
    for seed in range(first, first + 10):
        program = programs.program(seed, live=True)
        programs.assert_same(program, on(ports.theirs), on(ports.ours), ("ZooKeeper", "fk serve"))


# ---- single requests -----------------------------------------------------------------------------

Request = tuple[int, bytes]

_OPEN = acls(raw.OPEN)
_END = b"\xff\xff\xff\xff\x01\xff\xff\xff\xff"
_STAT_BYTES = 68


def _part(kind: int, body: bytes) -> bytes:
    return number(kind) + b"\0" + number(-1) + body


def requests(path: bytes) -> dict[str, Request]:
    """A request of every type that names a path. ``path``: with its length."""
    made = string("") + _OPEN + number(0)
    return {
        "create": (1, path + made),
        "create2": (raw.CREATE2, path + made),
        "sequential": (raw.CREATE2, path + string("") + _OPEN + number(2)),
        "ephemeral": (raw.CREATE2, path + string("") + _OPEN + number(1)),
        "container": (raw.CONTAINER, path + string("") + _OPEN + number(4)),
        "ttl": (raw.TTL, path + string("") + _OPEN + number(5) + struct.pack(">q", 10_000_000)),
        "delete": (raw.DELETE, path + number(-1)),
        "exists": (raw.EXISTS, path + b"\0"),
        "exists watch": (raw.EXISTS, path + b"\1"),
        "get": (raw.GET, path + b"\0"),
        "get watch": (raw.GET, path + b"\1"),
        "set": (raw.SET, path + string("v") + number(-1)),
        "get_acl": (raw.GET_ACL, path),
        "set_acl": (raw.SET_ACL, path + _OPEN + number(-1)),
        "children": (raw.CHILDREN, path + b"\0"),
        "children watch": (raw.CHILDREN, path + b"\1"),
        "children2": (raw.CHILDREN2, path + b"\0"),
        "sync": (raw.SYNC, path),
        "multi create": (raw.MULTI, _part(1, path + made) + _END),
        "multi create2": (raw.MULTI, _part(raw.CREATE2, path + made) + _END),
        "multi set": (raw.MULTI, _part(raw.SET, path + string("") + number(-1)) + _END),
        "multi check": (raw.MULTI, _part(raw.CHECK, path + number(-1)) + _END),
        "multi delete": (raw.MULTI, _part(raw.DELETE, path + number(-1)) + _END),
        "multi read": (raw.MULTI_READ, _part(raw.GET, path + b"\0") + _END),
        "set_watches": (raw.SET_WATCHES, struct.pack(">q", 1) + (number(1) + path) * 3),
        "set_watches2": (raw.SET_WATCHES2, struct.pack(">q", 1) + (number(1) + path) * 5),
        "add_watch": (raw.ADD_WATCH, path + number(0)),
        "add_watch recursive": (raw.ADD_WATCH, path + number(1)),
        "check_watches": (raw.CHECK_WATCHES, string(b"/none") + number(3)),
        "get_ephemerals": (raw.EPHEMERALS, path),
        "all_children_number": (raw.NUMBER, path),
    }


PATHS = {
    "no UTF-8": b"/\xff",
    "UTF-8 that is cut": b"/a\xc3",
    "UTF-8 that is longer than it need be": b"/\xc0\xaf",
    "a surrogate": b"/\xed\xa0\x80",
    "a NUL": b"/a\0b",
    "a NUL below what is not there": b"/no/a\0b",
    "nothing but a NUL": b"\0",
    "a control character": b"/a\x01",
    "DEL": b"/a\x7f",
    "a C1 control character": b"/a\xc2\x9f",
    "a private character": "/\uf8ff".encode(),
    "a special": "/\ufff0".encode(),
    "relative": b"a",
    "relative, with a slash": b"a/b",
    "a slash at its end": b"/a/",
    "an empty name": b"/a//b",
    "two slashes": b"//",
    "a dot": b"/a/.",
    "two dots": b"/../b",
    "what is not there": b"/no/such",
}

ODD: dict[str, Request] = {
    "a path longer than its frame": (raw.GET, number(0x7FFFFFFF) + b"x"),
    "a path of a length below -1": (raw.GET, number(-7) + b"x"),
    "a get of nothing": (raw.GET, b""),
    "a get without a flag": (raw.GET, string("/")),
    "a get of no path": (raw.GET, number(-1) + b"\0"),
    "a delete of no path": (raw.DELETE, number(-1) + number(-1)),
    "a set of no path": (raw.SET, number(-1) + string("") + number(-1)),
    "a create cut short": (1, string("/cut") + string("x")),
    "a set cut short": (raw.SET, string("/cut")),
    "a delete cut short": (raw.DELETE, string("/cut")),
    "an ACL cut short": (raw.SET_ACL, string("/cut") + _OPEN),
    "a list cut short": (raw.CHILDREN2, string("/")),
    "a sync of nothing": (raw.SYNC, b""),
    "a multi of nothing": (raw.MULTI, b""),
    "a multi that does not end": (raw.MULTI, _part(raw.CHECK, string("/") + number(-1))),
    "a get in a multi": (raw.MULTI, _part(raw.GET, string("/") + b"\0") + _END),
    "an unknown type in a multi": (raw.MULTI, _part(99, b"") + _END),
    "a create with a time to live in a multi": (
        raw.MULTI,
        _part(1, string("/ttl") + string("") + _OPEN + number(5)) + _END,
    ),
    "an exists in a multiRead": (raw.MULTI_READ, _part(raw.EXISTS, string("/") + b"\0") + _END),
    "a watch of mode 2": (raw.ADD_WATCH, string("/") + number(2)),
    "a watch without a mode": (raw.ADD_WATCH, string("/")),
    "a removal of type 0": (raw.REMOVE_WATCHES, string("/") + number(0)),
    "a removal of type 9": (raw.REMOVE_WATCHES, string("/") + number(9)),
    "a vector of two billion": (raw.SET_WATCHES, struct.pack(">qi", 0, 0x7FFFFFFF)),
    "watches cut short": (raw.SET_WATCHES, struct.pack(">q", 0)),
    "flags of 7": (1, string("/flags") + string("") + _OPEN + number(7)),
    "flags of -1": (1, string("/flags") + string("") + _OPEN + number(-1)),
    "a time to live that is none": (
        raw.TTL,
        string("/ttl") + string("") + _OPEN + number(5) + struct.pack(">q", 0),
    ),
    "a time to live below zero": (
        raw.TTL,
        string("/ttl") + string("") + _OPEN + number(5) + struct.pack(">q", -1),
    ),
    "an ACL of no entries": (1, string("/acl") + string("") + number(0) + number(0)),
    "no ACL": (1, string("/acl") + string("") + number(-1) + number(0)),
    "an id of the scheme world": (1, string("/acl") + string("") + acls([[31, "world", "x"]]) + number(0)),
    "an id without a colon": (1, string("/acl") + string("") + acls([[31, "digest", "x"]]) + number(0)),
    "an id with an empty hash": (1, string("/acl") + string("") + acls([[31, "digest", "a:"]]) + number(0)),
    "an id that is no UTF-8": (
        1,
        string("/acl") + string("") + number(1) + number(31) + string(b"\xff") + string(b"\xff") + number(0),
    ),
    "a network that is none": (
        1,
        string("/acl") + string("") + acls([[31, "ip", "10.0.0.0/33"]]) + number(0),
    ),
    "an address that is short": (1, string("/acl") + string("") + acls([[31, "ip", "10.0"]]) + number(0)),
    "whoAmI with something after it": (raw.WHO_AM_I, b"xx"),
    "a ping with something after it": (raw.PING, b"abc"),
    "reconfig": (16, string("") + string("") + string("") + struct.pack(">q", -1)),
    "an order of the server's own": (20, string("/")),
}


def answers(port: int, steps: list[Request]) -> list[Any]:
    """Error and record of each request, long records by their length; then whether the connection lives."""
    client = Raw(port)
    told: list[Any] = []
    try:
        for op, body in steps:
            xid = {raw.PING: -2, raw.SET_WATCHES: -8, raw.SET_WATCHES2: -8, raw.AUTH: -4}.get(op)
            client.send(op, body, xid)
            _, _, error, record = client.next()
            left = record.data[record.at :]
            told.append([error, left if len(left) < _STAT_BYTES else len(left)])
        client.ping()
    except Closed:
        told.append("closed")
    told.append(list(client.events))
    client.close()
    Raw.made.remove(client)
    return told


@pytest.mark.parametrize("path", PATHS.values(), ids=PATHS)
def test_what_cannot_be_a_path_is_refused_alike_by_every_request(path: bytes, ports: Ports) -> None:
    differs = {}
    for name, request in requests(string(path)).items():
        theirs, ours = answers(ports.theirs, [request]), answers(ports.ours, [request])
        if theirs != ours:
            differs[name] = (theirs, ours)
    assert not differs


def test_requests_that_are_odd_or_cut_short_are_refused_alike(ports: Ports) -> None:
    differs = {}
    for name, request in ODD.items():
        theirs, ours = answers(ports.theirs, [request]), answers(ports.ours, [request])
        if theirs != ours:
            differs[name] = (theirs, ours)
    assert not differs


_RESERVED = (
    b"/zookeeper/config",
    b"/zookeeper/config/x",
    b"/zookeeper",
    b"/zookeeper/quota",
    b"/zookeeper/quota/x",
    b"/zookeeper/x",
    b"/",
)
_LEAVING = ("sequential", "set_watches", "set_watches2", "all_children_number")
"""Not asked for, since they leave something behind or tell what else is there."""


@pytest.mark.parametrize("user", [b"", b"super:test"], ids=["anyone", "the super user"])
@pytest.mark.parametrize("path", _RESERVED, ids=bytes.decode)
def test_the_reserved_nodes_are_open_to_the_same_requests(path: bytes, user: bytes, ports: Ports) -> None:
    shown: list[Request] = [(raw.AUTH, number(0) + string("digest") + string(user))] if user else []
    differs = {}
    for name, request in requests(string(path)).items():
        if name in _LEAVING:
            continue
        child = string(path.rstrip(b"/") + b"/child")
        below: list[Request] = [(1, child + string("") + _OPEN + number(0)), (raw.DELETE, child + number(-1))]
        undone: list[Request] = []
        if path == b"/zookeeper/config":
            undone = [(raw.SET_ACL, string(path) + acls([[1, "world", "anyone"]]) + number(-1))]
        elif path.endswith(b"/x"):
            undone = [(raw.DELETE, string(path) + number(-1))]
        steps = [*shown, request, *below, *undone]
        theirs, ours = answers(ports.theirs, steps), answers(ports.ours, steps)
        if theirs != ours:
            differs[name] = (theirs, ours)
    assert not differs


# ---- quotas --------------------------------------------------------------------------------------


def _quota(path: str, limits: str = "count=10,bytes=-1=;byteHardLimit=-1;countHardLimit=-1") -> list[Request]:
    """Set a quota in the steps of zkCli.sh, whose path above is there."""
    quota = f"/zookeeper/quota{path}"
    return [
        _creation(quota),
        _creation(f"{quota}/zookeeper_limits", limits),
        _creation(f"{quota}/zookeeper_stats", "count=0,bytes=0"),
    ]


def _creation(path: str, data: str = "") -> Request:
    return 1, string(path) + string(data) + _OPEN + number(0)


def _deletion(path: str) -> Request:
    return raw.DELETE, string(path) + number(-1)


def _setting(path: str, data: str) -> Request:
    return raw.SET, string(path) + string(data) + number(-1)


_STATS = "/zookeeper/quota/used/zookeeper_stats"
_READ: Request = (raw.GET, string(_STATS) + b"\0")
_READ_WATCHING: Request = (raw.GET, string(_STATS) + b"\1")

QUOTAS: dict[str, list[Request]] = {
    "of what is there": [
        _creation("/used", "hello"),
        _creation("/used/b", "xyz"),
        _creation("/used/b/c"),
        _creation("/used-not", "not this"),
        *_quota("/used"),
        _READ,
    ],
    "after every kind of change": [
        _creation("/used", "hello"),
        *_quota("/used"),
        *itertools.chain.from_iterable(
            (change, _READ)
            for change in (
                _creation("/used/b", "xyz"),
                (raw.CREATE2, string("/used/e") + string("eph") + _OPEN + number(1)),
                (1, string("/used/n") + number(-1) + _OPEN + number(0)),
                _setting("/used/b", "longer than it was"),
                _setting("/used", ""),
                _deletion("/used/b"),
                _deletion("/used/n"),
            )
        ),
    ],
    "of what is not there yet, and no more": [
        *_quota("/used"),
        _READ,
        _creation("/used", "12"),
        _creation("/used/b", "12"),
        _READ,
        _deletion("/used/b"),
        _deletion("/used"),
        _READ,
    ],
    "set in a multi": [
        _creation("/used", "hello"),
        (raw.MULTI, b"".join(_part(1, body) for _, body in _quota("/used")) + _END),
        _READ,
        (raw.MULTI_READ, _part(raw.GET, string(_STATS) + b"\0") + _END),
    ],
    "with hard limits that are not reached": [
        _creation("/used", "hello"),
        *_quota("/used", "count=-1,bytes=-1=;byteHardLimit=100;countHardLimit=100"),
        _creation("/used/b", "xyz"),
        _READ,
    ],
    "without limits": [_creation("/used", "hello"), *_quota("/used")[::2], _READ],
    "taken back": [
        _creation("/used", "hello"),
        *_quota("/used"),
        _READ_WATCHING,
        _deletion(_STATS),
        _READ,
        _READ_WATCHING,
    ],
    "watched": [
        _creation("/used", "hello"),
        *_quota("/used"),
        _READ_WATCHING,
        _creation("/used/b", "xyz"),
        _setting("/used", "h"),
        _READ,
    ],
    "watched, and written to by a client": [
        _creation("/used", "hello"),
        *_quota("/used"),
        _READ_WATCHING,
        _setting(_STATS, "count=1,bytes=5"),
        _READ,
    ],
    "asked for by who may not": [
        _creation("/used", "hello"),
        *_quota("/used"),
        (raw.SET_ACL, string(_STATS) + acls([[2, "world", "anyone"]]) + number(-1)),
        _READ,
        _READ_WATCHING,
    ],
    "of what nobody may read": [
        _creation("/used", "hello"),
        _creation("/used/b", "xyz"),
        (raw.SET_ACL, string("/used") + acls([[4, "world", "anyone"]]) + number(-1)),
        *_quota("/used"),
        _READ,
    ],
    "named like them, elsewhere": [
        _creation("/used", "hello"),
        _creation("/used/zookeeper_stats", "own"),
        (raw.GET, string("/used/zookeeper_stats") + b"\0"),
        *_quota("/used"),
        _creation(f"{_STATS}/child", "own"),
        (raw.GET, string(f"{_STATS}/child") + b"\0"),
        _deletion(f"{_STATS}/child"),
    ],
    "below another": [
        _creation("/used", "hello"),
        _creation("/used/b", "xyz"),
        _creation("/used/b/c", "c"),
        *_quota("/used"),
        *_quota("/used/b"),
        _READ,
        (raw.GET, string("/zookeeper/quota/used/b/zookeeper_stats") + b"\0"),
    ],
}
_LEFT = (
    "/used/zookeeper_stats",
    "/used/b/c",
    "/used/b",
    "/used/e",
    "/used/n",
    "/used",
    "/used-not",
    "/zookeeper/quota/used/b/zookeeper_stats",
    "/zookeeper/quota/used/b/zookeeper_limits",
    "/zookeeper/quota/used/b",
    _STATS,
    "/zookeeper/quota/used/zookeeper_limits",
    "/zookeeper/quota/used",
)


def read_by(port: int, steps: list[Request]) -> list[Any]:
    """Error of each request, and of reads what they show: data, version, and length; then the events."""
    client = Raw(port)
    told: list[Any] = []
    for op, body in steps:
        error, record = client.ask(op, body)
        if error or op != raw.GET:
            told.append(error)
            if op == raw.MULTI_READ:
                assert record.take("i") == raw.GET
                assert record.take("bi") == (0, 0)
                told.append(record.buffer())
            continue
        data, stat = record.buffer(), record.stat()
        told.append((data, stat[0] == stat[1], *stat[4:10]))
        record.end()
    client.ping()
    told.append(list(client.events))
    for path in _LEFT:
        client.ask(*_deletion(path))
    client.close()
    return told


@pytest.mark.parametrize("steps", QUOTAS.values(), ids=QUOTAS)
def test_quotas_show_the_same_use(steps: list[Request], ports: Ports) -> None:
    assert read_by(ports.theirs, steps) == read_by(ports.ours, steps)
