"""Quotas over the wire: what a znode shows of another's subtree, and that nobody waits for the counting."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.core.connection import Connection
from tests.gateway import raw
from tests.gateway.raw import Raw, acls, number, string
from tests.gateway.threads import InThread, far

Change = Callable[[Connection], Connection]
Serve = Callable[[Change], InThread]

QUOTA = "/zookeeper/quota/a"
STATS = f"{QUOTA}/zookeeper_stats"
_OPEN = acls(raw.OPEN)
_END = b"\xff\xff\xff\xff\x01\xff\xff\xff\xff"


@pytest.fixture
def serve(directory: Path) -> Iterator[Serve]:
    """Starts a server on one's own stores, and stops it."""
    servers: list[InThread] = []

    def start(change: Change) -> InThread:
        servers.append(InThread(directory, change))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


def near(connection: Connection) -> Connection:
    return connection


STORES = pytest.mark.parametrize("stores", [near, far])


def set_quota(client: Raw) -> None:
    client.create(QUOTA)
    client.create(f"{QUOTA}/zookeeper_limits", b"count=10,bytes=-1")
    client.create(STATS, b"count=0,bytes=0")


def fill(client: Raw, many: int) -> None:
    """Create a parent with so many children, of a byte each."""
    client.create("/a")
    for name in range(many):
        client.send(raw.CREATE2, string(f"/a/{name}") + string("1") + _OPEN + number(0))
    for _ in range(many):
        assert client.next()[2] == 0


def get(path: str) -> tuple[int, bytes]:
    return raw.GET, string(path) + b"\0"


@STORES
def test_pipelined_reads_of_usage_are_answered_in_their_order_and_see_what_came_before(
    stores: Change, serve: Serve
) -> None:
    server = serve(stores)
    client = Raw(server.port)
    client.create("/a")
    set_quota(client)
    sent = []
    for turn in range(100):
        sent.append(client.send(raw.CREATE2, string(f"/a/{turn}") + string("12") + _OPEN + number(0)))
        sent.append(client.send(*get(STATS)))
        sent.append(client.send(*get("/a")))
    for position, xid in enumerate(sent):
        got, _, error, record = client.next()
        assert (got, error) == (xid, 0)
        if position % 3 == 1:
            turn = position // 3 + 1
            data = record.buffer()
            assert data == b"count=%d,bytes=%d" % (turn + 1, 2 * turn)
            assert record.stat()[8] == len(data)


@STORES
def test_usage_that_may_not_be_seen_is_refused_and_not_counted(stores: Change, serve: Serve) -> None:
    server = serve(stores)
    owner, client = Raw(server.port), Raw(server.port)
    assert client.ask(*get(STATS))[0] == -101
    assert owner.ask(raw.AUTH, number(0) + string("digest") + string("owner:pw"), xid=-4)[0] == 0
    owner.create("/a", b"12")
    set_quota(owner)
    auth = acls([[31, "auth", ""]])
    assert owner.ask(raw.SET_ACL, string(STATS) + auth + number(-1))[0] == 0
    for flag in (b"\0", b"\1"):
        assert client.ask(raw.GET, string(STATS) + flag)[0] == -102
    error, record = owner.ask(*get(STATS))
    assert (error, record.buffer()) == (0, b"count=1,bytes=2")


class Looked:
    """Takes the place of the records; notes how many were read in each turn of the event loop."""

    def __init__(self, records: Any) -> None:
        self._records = records
        self.turns = [0]
        self.hold: Callable[[], None] = lambda: None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._records, name)

    def get_many(self, paths: Sequence[str]) -> Any:
        self.hold()
        if not self.turns[-1]:
            with suppress(RuntimeError):  # in a thread of the pool there is no loop
                asyncio.get_running_loop().call_soon(self.turns.append, 0)
        self.turns[-1] += len(paths)
        return self._records.get_many(paths)


def looking(stores: Change) -> tuple[Change, list[Looked]]:
    made: list[Looked] = []

    def change(connection: Connection) -> Connection:
        made.append(Looked(connection.records))
        return stores(replace(connection, records=made[0]))  # type: ignore[arg-type]

    return change, made


@pytest.mark.parametrize("op", ["get", "number", "multi_read"])
def test_a_long_count_leaves_the_event_loop_to_others_in_between(op: str, serve: Serve) -> None:
    change, made = looking(near)
    server = serve(change)
    client = Raw(server.port)
    fill(client, 1_500)
    set_quota(client)
    read = string(STATS) + b"\0"
    requests = {
        "get": (raw.GET, read),
        "number": (raw.NUMBER, string("/a")),
        "multi_read": (raw.MULTI_READ, number(raw.GET) + b"\0" + number(-1) + read + _END),
    }
    looked = made[0]
    looked.turns = [0]
    error, _ = client.ask(*requests[op])
    assert error == 0
    assert sum(looked.turns) >= 1_500
    assert max(looked.turns) < 300


def test_a_count_that_nobody_waits_for_any_more_ends(serve: Serve) -> None:
    change, made = looking(far)
    server = serve(change)
    client, other = Raw(server.port), Raw(server.port)
    fill(client, 1_500)
    set_quota(client)
    looked = made[0]
    begun, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        if looked.turns[-1] >= 300:
            begun.set()
            assert go_on.wait(30)

    looked.turns = [0]
    looked.hold = hold
    client.send(*get(STATS))
    assert begun.wait(30)
    client.close()
    while server.call(lambda: len(server.gateway.connections)) > 1:
        threading.Event().wait(0.01)
    looked.hold = lambda: None
    before = sum(looked.turns)
    go_on.set()
    error, record = other.ask(*get(STATS))
    assert (error, record.buffer()) == (0, b"count=1501,bytes=1500")
    assert sum(looked.turns) - before < 1_500 + 600
