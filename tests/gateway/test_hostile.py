"""Frames that no client sends: each ends the connection that it came by, with a reason, and nothing else."""

from __future__ import annotations

import struct
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faaskeeper.gateway import protocol
from faaskeeper.gateway.jute import Malformed
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
    "a path longer than its frame": number(13) + struct.pack(">iii", 1, raw.GET, HUGE) + b"x",
    "a path of a length below -1": number(13) + struct.pack(">iii", 1, raw.GET, -7) + b"x",
    "no flag after the path": number(13) + struct.pack(">iii", 1, raw.GET, 1) + b"/",
    "a path that is no UTF-8": number(15) + struct.pack(">iii", 1, raw.GET, 2) + b"\xff\xfe\x00",
    "a vector of two billion": number(20) + struct.pack(">iiqi", 1, raw.SET_WATCHES, 0, HUGE)[:20],
    "a multi that does not end": number(17)
    + struct.pack(">ii", 1, raw.MULTI)
    + number(1)
    + b"\0"
    + number(-1),
    "a getData in a multi": number(17) + struct.pack(">ii", 1, raw.MULTI) + number(4) + b"\0" + number(-1),
    "a create without data": number(13) + struct.pack(">iii", 1, raw.CREATE2, 1) + b"/",
}


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


@settings(max_examples=4_000, deadline=None)
@given(requests() | st.binary(max_size=64))
def test_whatever_comes_is_a_request_or_malformed(body: bytes) -> None:
    try:
        xid, request = protocol.to_request(body)
    except Malformed:
        return
    assert isinstance(xid, int)
    assert request.kind == struct.unpack_from(">i", body, 4)[0]


@settings(max_examples=4_000, deadline=None)
@given(st.binary(max_size=80))
def test_whatever_comes_first_asks_for_a_session_or_is_malformed(body: bytes) -> None:
    try:
        request = protocol.to_connect(body)
    except Malformed:
        return
    assert -(1 << 63) <= request.session < 1 << 63


@settings(
    max_examples=400,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(frames=st.lists(requests() | st.binary(max_size=64), min_size=1, max_size=20))
def test_whatever_comes_the_server_goes_on(frames: list[bytes], server: Server) -> None:
    hostile = Raw(server.port)
    hostile.socket.settimeout(30)
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
