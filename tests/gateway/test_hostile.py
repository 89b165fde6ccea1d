"""Frames that no client sends: each is refused as ZooKeeper refuses it, or ends the connection that it came
by, with a reason, and nothing else.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faaskeeper.gateway import protocol
from faaskeeper.gateway.jute import Malformed
from faaskeeper.testing.patience import PATIENCE_S
from tests.gateway import raw
from tests.gateway.raw import Closed, Raw, acls, number, string
from tests.gateway.servers import Server

HUGE = 0x7FFFFFFF
BAD = {
    "a length below zero": number(-1),
    "a length above the limit": number(0x100000),
    "a length of two gigabytes": number(HUGE),
    "no header": number(0),
    "half a header": number(4) + number(1),
}

_PART = number(1) + b"\0" + number(-1)
_END = b"\xff\xff\xff\xff\x01\xff\xff\xff\xff"
NOT_UTF8 = string(b"/a\xc3")
_CREATE = string("") + acls(raw.OPEN) + number(0)
REFUSED = {
    "a path longer than its frame": (raw.GET, number(HUGE) + b"x", -5),
    "a path of a length below -1": (raw.GET, number(-7) + b"x", -5),
    "no path at all": (raw.GET, number(-1) + b"\0", -5),
    "no flag after the path": (raw.GET, string("/"), -5),
    "a vector of two billion": (raw.SET_WATCHES, struct.pack(">qi", 0, HUGE), -5),
    "a multi that does not end": (raw.MULTI, _PART, -5),
    "a getData in a multi": (raw.MULTI, number(4) + b"\0" + number(-1) + string("/") + b"\0" + _END, -5),
    "a create without data": (raw.CREATE2, string("/"), -5),
    "a get of what is no UTF-8": (raw.GET, NOT_UTF8 + b"\0", -101),
    "an exists of what is no UTF-8": (raw.EXISTS, NOT_UTF8 + b"\1", -101),
    "a create of what is no UTF-8": (raw.CREATE2, NOT_UTF8 + _CREATE, -8),
    "a set of what is no UTF-8": (raw.SET, NOT_UTF8 + string("") + number(-1), -8),
    "a delete of what is no UTF-8": (raw.DELETE, NOT_UTF8 + number(-1), -101),
    "an ACL of what is no UTF-8": (raw.SET_ACL, NOT_UTF8 + acls(raw.OPEN) + number(-1), -8),
    "a list of what is no UTF-8": (raw.CHILDREN2, NOT_UTF8 + b"\0", -101),
    "a watch of what is no UTF-8": (raw.ADD_WATCH, NOT_UTF8 + number(0), 0),
    "an exists of a path with a NUL": (raw.EXISTS, string("/a\0b") + b"\0", -8),
    "a get of a path with a NUL": (raw.GET, string("/a\0b") + b"\0", -101),
    "a create of a path with a NUL": (raw.CREATE2, string("/a\0b") + _CREATE, -8),
    "a delete of a path with a NUL": (raw.DELETE, string("/a\0b") + number(-1), -8),
    "a set of a path that is too long": (raw.SET, string("/" + "x" * 2000) + string("") + number(-1), -101),
    "a get of a path that is too long": (raw.GET, string("/" + "x" * 2000) + b"\0", -101),
    "a check of a relative path": (raw.CHECK_WATCHES, string("a") + number(3), -5),
}
"""Requests that cannot be done, and the error of a ZooKeeper server (3.8.0), which goes on serving."""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("hostile"))
    yield server
    assert server.stop() == 0


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_malformed_frame_ends_its_connection_and_no_other(bad: bytes, server: Server) -> None:
    other, hostile = Raw(server.port), Raw(server.port)
    before = server.text.count("ended connection")
    hostile.socket.sendall(bad)
    with pytest.raises(Closed):
        hostile.receive()
    other.ping()
    lines = [line for line in server.text.splitlines() if "ended connection" in line]
    assert len(lines) == before + 1
    assert f"of session 0x{hostile.session:x}: " in lines[-1]
    again = Raw(server.port, session=hostile.session, password=hostile.password)
    assert again.session == hostile.session, "the session itself goes on"


@pytest.mark.parametrize("odd", REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_an_error_of_its_request_alone(odd: tuple[int, bytes, int], server: Server) -> None:
    op, body, expected = odd
    client = Raw(server.port)
    client.send(op, body)
    _, _, error, _ = client.next()
    assert error == expected
    client.ping()


def test_watches_of_what_cannot_be_are_told_at_once_when_a_client_comes_back(server: Server) -> None:
    client = Raw(server.port)
    none = number(0)
    error, _ = client.ask(raw.SET_WATCHES, struct.pack(">q", 1) + number(1) + NOT_UTF8 + none + none, xid=-8)
    assert error == 0
    client.ping()
    assert list(client.events) == [(2, "/a\ufffd")]


def test_a_multi_names_what_was_made(server: Server) -> None:
    """Types of results are those of a ZooKeeper server, however a create was asked for."""
    client = Raw(server.port)
    parts = b"".join(
        number(kind) + b"\0" + number(-1) + string(f"/multi{kind}") + string("") + acls(raw.OPEN) + rest
        for kind, rest in ((1, number(0)), (raw.CREATE2, number(0)), (raw.CONTAINER, number(4)))
    )
    error, record = client.ask(raw.MULTI, parts + _END)
    assert error == 0
    kinds = []
    for _ in range(3):
        kinds.append(record.take("ibi")[0])
        record.string()
        if kinds[-1] == raw.CREATE2:
            record.stat()
    assert kinds == [1, 1, raw.CREATE2]


@pytest.mark.parametrize(
    "bad",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        number(5000) + bytes(5000),
        number(3) + b"abc",
    ],
    ids=["HTTP", "TLS", "long", "short"],
)
def test_what_is_no_request_for_a_session_ends_its_connection(bad: bytes, server: Server) -> None:
    hostile = Raw(server.port, connect=False)
    hostile.socket.sendall(bad)
    with pytest.raises(Closed):
        hostile.receive()
    Raw(server.port).ping()


def requests() -> st.SearchStrategy[bytes]:
    """Frames that are nearly right: of every type, with fields that are true to form, or cut, or changed."""
    text = st.text(max_size=20).map(lambda each: string("/" + each)) | st.binary(max_size=12).map(string)
    field = st.one_of(
        text,
        st.integers(-2, 200).map(number),
        st.integers(-(2**31), 2**31 - 1).map(number),
        st.integers(-(2**63), 2**63 - 1).map(lambda each: struct.pack(">q", each)),
        st.just(acls(raw.OPEN)),
        st.just(b"\xff\xff\xff\xff\x01\xff\xff\xff\xff"),
        st.just(number(1) + b"\0" + number(-1)),
        st.booleans().map(lambda each: bytes([each])),
        st.binary(max_size=8),
    )
    kind = st.sampled_from([*protocol.NAMES, 0, 77, -10, -1]).filter(
        lambda each: each != protocol.CLOSE_SESSION
    )
    fields = st.lists(field, max_size=7).map(b"".join)
    xid = st.integers(-9, 99).filter(lambda each: each != -1)  # which would come back as an event's
    return st.builds(lambda xid, kind, body: struct.pack(">ii", xid, kind) + body, xid, kind, fields)


def sometimes(few: int, many: int) -> pytest.MarkDecorator:
    """The numbers of examples: few in ``make test``, many with the simulator."""
    return pytest.mark.parametrize("examples", [few, pytest.param(many, marks=pytest.mark.simulator)])


@sometimes(500, 4_000)
def test_whatever_comes_is_a_request_or_malformed(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(requests() | st.binary(max_size=64))
    def check(body: bytes) -> None:
        try:
            xid, request = protocol.to_request(body)
        except Malformed:
            return
        assert isinstance(xid, int)
        assert request.kind == struct.unpack_from(">i", body, 4)[0]

    check()


@sometimes(500, 4_000)
def test_whatever_comes_first_asks_for_a_session_or_is_malformed(examples: int) -> None:
    @settings(max_examples=examples, deadline=None)
    @given(st.binary(max_size=80))
    def check(body: bytes) -> None:
        try:
            request = protocol.to_connect(body)
        except Malformed:
            return
        assert -(1 << 63) <= request.session < 1 << 63

    check()


@sometimes(100, 400)
def test_whatever_comes_the_server_goes_on(examples: int, server: Server) -> None:
    @settings(max_examples=examples, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(requests() | st.binary(max_size=64), min_size=1, max_size=20))
    def check(frames: list[bytes]) -> None:
        hostile = Raw(server.port)
        hostile.socket.settimeout(PATIENCE_S)
        try:
            for each in frames:
                hostile.frame(each)
            hostile.send(raw.PING, xid=-2)
            while hostile.next()[0] != -2:
                continue
        except (Closed, ConnectionError):
            pass  # as it should be, where one of them was malformed
        finally:
            hostile.close()
        Raw.made.clear()
        witness = Raw(server.port)
        witness.ping()
        witness.close()
        Raw.made.clear()
        assert "Traceback" not in server.text

    check()
