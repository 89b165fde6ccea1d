"""Znodes that show how much a subtree holds: quotas as ZooKeeper's clients set them."""

from __future__ import annotations

import itertools
import random
import threading
from collections.abc import Callable
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core.acl import CREATOR_ALL_ACL
from faaskeeper.core.requests import Create, Delete, Multi, SetData, inline
from faaskeeper.core.transactions import Limits
from faaskeeper.exceptions import NoAuthException, NodeDoesntExistException
from faaskeeper.node import Node
from faaskeeper.session import usage
from faaskeeper.session.commands import Await, ReadRecords, Steps
from faaskeeper.session.rules import Rules
from faaskeeper.watch import WatchedEvent
from tests.bare import Bare, BareSession

Start = Callable[..., FaaSKeeperClient]

STATS = "/zookeeper/quota/a/zookeeper_stats"


def set_quota(client: FaaSKeeperClient, path: str) -> str:
    """As zkCli.sh does; returns the path of the znode that shows the usage."""
    quota = f"/zookeeper/quota{path}"
    client.create(f"{quota}/zookeeper_limits", b"count=10,bytes=-1", makepath=True)
    return client.create(f"{quota}/zookeeper_stats", b"count=0,bytes=0").path


# ---- what is shown ---------------------------------------------------------------------------


def test_every_read_of_its_data_shows_what_the_path_holds_now(client: FaaSKeeperClient) -> None:
    client.create("/a", b"hello")
    client.create("/a/b/c", b"xyz", makepath=True)
    client.create("/ab", b"beside it")
    assert set_quota(client, "/a") == STATS

    def ignore(_: WatchedEvent) -> None:
        pass

    def together() -> Node:
        data, children, exists = (
            client.multi_read().get_data(STATS).get_children("/a").get_data("/a").commit()
        )
        assert isinstance(data, Node)
        assert isinstance(children, list)
        assert isinstance(exists, Node)
        return data

    reads: dict[str, Callable[[], Node]] = {
        "get_data": lambda: client.get_data(STATS),
        "with a watch": lambda: client.get_data(STATS, ignore),
        "asynchronous": lambda: client.get_data_async(STATS).get(30),
        "asynchronous, with a watch": lambda: client.get_data_async(STATS, ignore).get(30),
        "among children": lambda: client.get_children("/zookeeper/quota/a", include_data=True)[1],
        "asynchronous, among children": lambda: client.get_children_async(
            "/zookeeper/quota/a", include_data=True
        ).get(30)[1],
        "with others": together,
    }
    for name, read in reads.items():
        node = read()
        assert (name, node.path, node.data) == (name, STATS, b"count=3,bytes=8")
        assert node.stat.dataLength == len(node.data)
        client.create("/a/more", b"12")
        assert (name, read().data) == (name, b"count=4,bytes=10")
        client.delete("/a/more")
        assert (name, read().data) == (name, b"count=3,bytes=8")


def test_data_kept_apart_counts_by_its_length(client: FaaSKeeperClient) -> None:
    client.create("/a", bytes(200_000))
    set_quota(client, "/a")
    assert client.get_data(STATS).data == b"count=1,bytes=200000"


def test_a_path_that_is_not_there_holds_nothing(client: FaaSKeeperClient) -> None:
    set_quota(client, "/a")
    assert client.get_data(STATS).data == b"count=0,bytes=0"
    client.create("/a", b"12")
    assert client.get_data(STATS).data == b"count=1,bytes=2"
    client.delete("/a")
    assert client.get_data(STATS).data == b"count=0,bytes=0"


def test_what_a_client_writes_there_is_kept_and_not_shown(client: FaaSKeeperClient) -> None:
    client.create("/a", b"12")
    set_quota(client, "/a")
    for data in (b"count=77,bytes=88", b"no count at all", b"", bytes(200_000)):
        client.set_data(STATS, data)
        assert client.get_data(STATS).data == b"count=1,bytes=2"
    assert client.get_data(STATS).stat.version == 4


def test_a_watch_tells_of_the_znode_and_not_of_what_it_shows(client: FaaSKeeperClient) -> None:
    client.create("/a", b"12")
    set_quota(client, "/a")
    events: list[WatchedEvent] = []
    heard = threading.Event()

    def hear(event: WatchedEvent) -> None:
        events.append(event)
        heard.set()

    client.get_data(STATS, hear)
    client.create("/a/b")
    client.set_data("/a", b"3")
    changed = client.set_data(STATS, b"")
    assert client.get_data(STATS).data == b"count=2,bytes=1"
    assert heard.wait(30)
    assert [(str(event.event_type), event.timestamp) for event in events] == [
        ("NodeDataChanged", changed.stat.mzxid)
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/zookeeper/quota/zookeeper_stats",
        "/zookeeper/quota/a/zookeeper_stats/child",
        "/zookeeper/quota/a/zookeeper_limits",
        "/zookeeper/quota/a/my_zookeeper_stats",
        "/zookeeper/quotas/a/zookeeper_stats",
        "/a/zookeeper/quota/a/zookeeper_stats",
    ],
)
def test_other_znodes_have_data_of_their_own(path: str, client: FaaSKeeperClient) -> None:
    client.create(path, b"own", makepath=True)
    assert client.get_data(path).data == b"own"


def test_a_client_below_a_chroot_has_no_quotas_of_its_own(connect: Start) -> None:
    client = connect()
    client.create("/c/a", b"12", makepath=True)
    below = connect(chroot="/c")
    stats = set_quota(below, "/a")
    assert below.get_data(stats).data == b"count=0,bytes=0"
    set_quota(client, "/c")
    assert client.get_data("/zookeeper/quota/c/zookeeper_stats").data == b"count=7,bytes=34"


# ---- who may see it --------------------------------------------------------------------------


def test_what_a_client_may_not_read_counts_all_the_same(connect: Start) -> None:
    owner, other = connect(), connect()
    owner.add_auth("digest", "owner:pw")
    owner.create("/a", b"hello", acl=CREATOR_ALL_ACL)
    owner.create("/a/b", b"xyz")
    set_quota(other, "/a")
    assert other.get_data(STATS).data == b"count=2,bytes=8"


def test_nothing_is_counted_for_a_client_that_may_not_see_it(
    connect: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    owner, other = connect(), connect()
    owner.add_auth("digest", "owner:pw")
    owner.create("/a", b"hello")
    with pytest.raises(NodeDoesntExistException):
        other.get_data(STATS)
    set_quota(owner, "/a")
    owner.set_acls(STATS, CREATOR_ALL_ACL)

    def measure(*_: object) -> None:
        raise AssertionError("counted")

    monkeypatch.setattr(usage, "measure", measure)
    with pytest.raises(NoAuthException):
        other.get_data(STATS)
    with pytest.raises(NoAuthException):
        other.get_data_async(STATS).get(30)
    assert isinstance(other.multi_read().get_data(STATS).commit()[0], NoAuthException)
    with pytest.raises(AssertionError, match="counted"):
        owner.get_data(STATS)


def test_a_path_that_is_asked_for_often_at_once_is_counted_once(
    client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create("/a", b"12")
    set_quota(client, "/a")
    tops = []

    def measure(rules: Rules, top: str) -> Steps:
        tops.append(top)
        return measured(rules, top)

    measured = usage.measure
    monkeypatch.setattr(usage, "measure", measure)
    reads = client.multi_read()
    for _ in range(10):
        reads.get_data(STATS)
    shown = [each.data for each in reads.commit() if isinstance(each, Node)]
    assert shown == [b"count=1,bytes=2"] * 10
    assert tops == ["/a"]


# ---- beside writers --------------------------------------------------------------------------


def test_a_session_s_own_writes_count_beside_another_that_writes(connect: Start) -> None:
    client, other = connect(), connect()
    client.create("/a", b"12")
    set_quota(client, "/a")
    for first in range(0, 300, 100):
        for each in [client.create_async(f"/a/own-{first + n}", b"1") for n in range(100)]:
            each.get(30)
    done = threading.Event()
    coming = 150

    def write() -> None:
        try:
            while not done.is_set():
                for name in range(coming):
                    other.create_async(f"/a/coming-{name}")
                for name in range(coming):
                    other.delete_async(f"/a/coming-{name}")
                other.sync()
        finally:
            done.set()

    writing = threading.Thread(target=write)
    writing.start()
    shown = []
    for turn in range(20):
        client.create(f"/a/own-0/{turn}", b"1")
        count, size = client.get_data(STATS).data.split(b",")
        shown.append((int(count[6:]) - 302 - turn, int(size[6:]) - 303 - turn))
    done.set()
    writing.join()
    assert [each for each in shown if not 0 <= each[0] <= coming or each[1]] == []


def create(path: str) -> Create:
    return Create(path, inline(b"1"))


@pytest.mark.parametrize("seed", range(30))
def test_what_stays_counts_once_however_lists_move_between_pages_meanwhile(seed: int) -> None:
    chance = random.Random(seed)
    bare = Bare(limits=Limits(page_names=2))
    writer, reader = bare.session("writer"), bare.session("reader")
    parents = ["/a", "/a/0", "/a/1", "/a/1/0"]
    for path in parents:
        writer.do(create(path))
    staying = [f"{parent}/s{n}" for parent in parents for n in range(6)]
    writer.do(Multi(tuple(create(path) for path in staying)))
    coming: set[str] = set()
    ever: set[str] = set()

    def change() -> None:
        """Make some lists longer and others shorter, so that names move to other pages."""
        for parent in parents:
            there = sorted(path for path in coming if path.rpartition("/")[0] == parent)
            if there and chance.random() < 0.5:
                writer.do(Multi(tuple(Delete(path) for path in there)))
                coming.difference_update(there)
            elif chance.random() < 0.5:
                new = [f"{parent}/c{chance.randrange(10**6)}" for _ in range(chance.randrange(1, 15))]
                writer.do(Multi(tuple(create(path) for path in dict.fromkeys(new))))
                coming.update(new)
                ever.update(new)

    change()
    own = f"/a/1/own{seed}"
    reader.do(create(own))
    found, commands = counted(reader, change)
    stay = len(parents) + len(staying) + 1
    assert commands > 3
    assert stay <= found.znodes <= stay + len(ever)
    assert found.size == found.znodes


def counted(reader: BareSession, between: Callable[[], None]) -> tuple[usage.Usage, int]:
    """Count, with something happening before each look at storage; and how many looks there were."""
    steps = usage.measure(reader.rules, "/a")
    answer: Any = None
    looks = 0
    while True:
        try:
            command = steps.send(answer)
        except StopIteration as done:
            return done.value, looks
        assert not isinstance(command, Await)
        if isinstance(command, ReadRecords):
            looks += 1
            between()
        answer = reader.perform(command)


def test_a_subtree_that_goes_while_it_is_counted_counts_as_far_as_it_was_seen() -> None:
    bare = Bare()
    writer, reader = bare.session("writer"), bare.session("reader")
    writer.do(Multi((create("/a"), create("/a/b"), create("/a/b/c"))))
    looks = itertools.count()

    def go() -> None:
        if next(looks) == 1:
            writer.do(Multi((Delete("/a/b/c"), Delete("/a/b"), Delete("/a"))))

    found, _ = counted(reader, go)
    assert found == (1, 1)
    assert counted(reader, lambda: None)[0] == (0, 0)


def test_an_event_of_what_was_met_while_counting_comes_before_a_znode_that_shows_its_cause() -> None:
    """The znode is read last: a watch that fires meanwhile has told of what it then shows."""
    bare = Bare()
    writer, reader = bare.session("writer"), bare.session("reader")
    for path in ("/zookeeper/quota/a", STATS, "/a", "/a/b"):
        writer.do(create(path))
    reader.watch(STATS, "data")
    steps = usage.read(reader.rules, STATS, (), reader.rules.read(STATS))
    answer: Any = None
    changed = 0
    while True:
        try:
            command = steps.send(answer)
        except StopIteration as done:
            record = done.value
            break
        if isinstance(command, ReadRecords) and not changed:
            changed = writer.do(Multi((SetData("/a", inline(b"new")), SetData(STATS, inline(b"x"))))).txid
        answer = reader.perform(command)
    assert [event.timestamp for event in reader.fired] == [changed]
    assert (record.txid, record.data) == (changed, b"count=2,bytes=4")
