"""Beyond reads and writes: credentials, chroot, watches that stay, reads as of one moment."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.acl import ALL, CREATOR_ALL_ACL, READ_ACL, digest
from faaskeeper.exceptions import (
    InvalidACLException,
    MalformedInputException,
    NoAuthException,
    NodeDoesntExistException,
    NodeExistsException,
    NoWatcherException,
)
from faaskeeper.node import Node
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.watch import WatchedEvent, WatchType

Start = Callable[..., FaaSKeeperClient]


class Heard:
    """Takes events; :meth:`wait` gives them when there are so many."""

    def __init__(self) -> None:
        self.events: list[tuple[str, str]] = []
        self._more = threading.Condition()

    def __call__(self, event: WatchedEvent) -> None:
        with self._more:
            self.events.append((str(event.event_type), event.path))
            self._more.notify_all()

    def wait(self, number: int) -> list[tuple[str, str]]:
        with self._more:
            assert self._more.wait_for(lambda: len(self.events) >= number, PATIENCE_S), self.events
        return self.events


# ---- access control --------------------------------------------------------------------------


def test_what_one_user_locks_another_cannot_read_or_write(connect: Start) -> None:
    owner, other = connect(), connect()
    owner.add_auth("digest", "owner:pw")
    owner.create("/own", b"mine", acl=CREATOR_ALL_ACL)
    assert owner.get_data("/own").data == b"mine"
    for refused in (
        lambda: other.get_data("/own"),
        lambda: other.get_data("/own", watch=print),
        lambda: other.get_data_async("/own").get(PATIENCE_S),
        lambda: other.get_children("/own"),
        lambda: other.get_children_with_stat("/own"),
        lambda: other.all_children_number("/own"),
        lambda: other.set_data("/own", b"not mine"),
        lambda: other.create("/own/child"),
        lambda: other.set_acls("/own", READ_ACL),
        lambda: other.get_acls("/own"),
    ):
        with pytest.raises(NoAuthException):
            refused()
    assert other.exists("/own") is not None
    assert [node.path for node in other.get_children("/", include_data=True)] == ["/zookeeper"]
    other.add_auth("digest", "owner:pw")
    assert other.get_data("/own").data == b"mine"


def test_credentials_stay_with_the_client_over_its_sessions(connect: Start) -> None:
    client = connect()
    client.add_auth("digest", "owner:pw")
    client.create("/own", acl=CREATOR_ALL_ACL)
    client.start()
    client.set_data("/own", b"again")
    assert client.who_am_i() == [("ip", "127.0.0.1"), ("digest", "owner")]


def test_a_refused_read_leaves_no_watch(connect: Start) -> None:
    owner, other, heard = connect(), connect(), Heard()
    owner.add_auth("digest", "owner:pw")
    owner.create("/own", acl=CREATOR_ALL_ACL)
    with pytest.raises(NoAuthException):
        other.get_data("/own", heard)
    with pytest.raises(NoWatcherException):
        other.check_watches("/own")


def test_the_super_user_of_the_configuration_may_do_everything(tmp_path: Path) -> None:
    config = Config.deserialize(
        {
            "cloud-provider": "local",
            "deployment-name": "acl",
            "directory": str(tmp_path),
            "super-digest": digest("root:pw"),
        }
    )
    with FaaSKeeperClient(config) as client:
        client.add_auth("digest", "owner:x")
        client.create("/own", b"mine", acl=CREATOR_ALL_ACL)
    with FaaSKeeperClient(config) as client:
        with pytest.raises(NoAuthException):
            client.get_data("/own")
        client.add_auth("digest", "root:pw")
        assert client.get_data("/own").data == b"mine"
        client.delete("/own")


@pytest.mark.parametrize(
    "wrong",
    [
        [],
        [(0, "world", "anyone")],
        [(32, "world", "anyone")],
        [(31, "sasl", "x")],
        [(31, "digest", "half a surrogate \ud800:x")],
    ],
)
def test_an_acl_that_cannot_be_is_refused_with_what_is_wrong(
    client: FaaSKeeperClient, wrong: list[object]
) -> None:
    with pytest.raises(InvalidACLException, match=r"ACL|entry|scheme"):
        client.create("/n", acl=wrong)  # type: ignore[arg-type]
    with pytest.raises(InvalidACLException):
        client.transaction().create("/n", acl=wrong)  # type: ignore[arg-type]


def test_credentials_that_cannot_be_are_refused(client: FaaSKeeperClient) -> None:
    with pytest.raises(MalformedInputException, match="digest"):
        client.add_auth("kerberos", "x")
    with pytest.raises(MalformedInputException, match="user:password"):
        client.add_auth("digest", "nobody")


# ---- kinds of node ---------------------------------------------------------------------------


def test_makepath_creates_what_is_missing_above(client: FaaSKeeperClient) -> None:
    assert client.create("/a/b/c", b"1", makepath=True).path == "/a/b/c"
    assert (
        client.create_async("/a/x/y/z-", sequential=True, makepath=True).get(PATIENCE_S).path
        == "/a/x/y/z-0000000000"
    )
    with pytest.raises(NodeExistsException):
        client.create("/a/b/c", makepath=True)
    with pytest.raises(NodeDoesntExistException):
        client.create("/none/c")


def test_makepath_says_why_it_cannot(client: FaaSKeeperClient) -> None:
    client.create("/closed", acl=READ_ACL)
    with pytest.raises(NoAuthException):
        client.create("/closed/b/c", makepath=True)


@pytest.mark.parametrize(
    "wrong",
    [
        {"ttl": 0},
        {"ttl": 2**40},
        {"ttl": 1.5},
        {"ttl": 5, "ephemeral": True},
        {"ttl": 5, "container": True},
        {"container": True, "ephemeral": True},
        {"container": True, "sequential": True},
    ],
)
def test_kinds_of_node_that_cannot_be_are_refused(client: FaaSKeeperClient, wrong: dict[str, object]) -> None:
    with pytest.raises(MalformedInputException):
        client.create("/n", **wrong)  # type: ignore[arg-type]


# ---- chroot ----------------------------------------------------------------------------------


def test_a_chroot_is_before_every_path_that_is_given_and_off_every_path_that_is_shown(connect: Start) -> None:
    whole, below = connect(), connect(chroot="/app")
    heard = Heard()
    with pytest.raises(NodeDoesntExistException):
        below.create("/a")
    assert below.create("/a", b"1", makepath=True).path == "/a"
    assert whole.get_data("/app/a").data == b"1"
    assert below.get_data("/a", heard).path == "/a"
    assert [node.path for node in below.get_children("/")] == ["/a"]
    assert [node.path for node in below.get_children("/", include_data=True)] == ["/a"]
    assert below.get_children("/")[0].stat.version == 0
    assert below.set_data("/a", b"2").path == "/a"
    assert below.create("/e", ephemeral=True).path == "/e"
    assert below.create("/s-", sequential=True).path == "/s-0000000002"
    assert below.create("/", sequential=True).path == "/0000000003"
    assert below.get_ephemerals("/e") == ["/e"]
    assert below.all_children_number("/") == 4
    with below.transaction() as transaction:
        transaction.create("/t").delete("/e")
    made = transaction.results[0]
    assert isinstance(made, Node)
    assert made.path == "/t"
    with below.multi_read() as reads:
        reads.get_data("/a").get_children("/a")
    read = reads.results[0]
    assert isinstance(read, Node)
    assert read.data == b"2"
    assert below.sync("/a") == "/a"
    assert heard.wait(1) == [("NodeDataChanged", "/a")]
    with pytest.raises(NodeDoesntExistException, match="node /none "):
        below.get_data("/none")
    assert below.exists("/app") is None
    assert whole.exists("/app/t") is not None


def test_watches_with_a_chroot_are_found_by_their_callbacks(connect: Start) -> None:
    below = connect(chroot="/app")
    below.create("/a", makepath=True)
    heard = Heard()
    below.add_watch("/", heard, recursive=True)
    below.set_data("/a")
    assert heard.wait(1) == [("NodeDataChanged", "/a")]
    with pytest.raises(NoWatcherException):
        below.remove_watches("/", watch=print)
    below.remove_watches("/", watch=heard)
    with pytest.raises(NoWatcherException):
        below.check_watches("/")


def test_a_chroot_that_is_no_path_is_refused(config: Config) -> None:
    with pytest.raises(MalformedInputException):
        FaaSKeeperClient(config, chroot="app")


# ---- watches that stay -----------------------------------------------------------------------


def test_a_recursive_watch_of_another_client_hears_of_everything_below(connect: Start) -> None:
    client, other, heard = connect(), connect(), Heard()
    client.create("/p")
    client.add_watch("/p", heard, recursive=True)
    other.create("/p/a")
    other.set_data("/p/a", b"1")
    other.create("/px")
    other.create("/p/a/b")
    other.delete("/p/a/b")
    assert heard.wait(4) == [
        ("NodeCreated", "/p/a"),
        ("NodeDataChanged", "/p/a"),
        ("NodeCreated", "/p/a/b"),
        ("NodeDeleted", "/p/a/b"),
    ]


def test_a_persistent_watch_hears_of_each_operation_of_a_transaction(connect: Start) -> None:
    client, other, heard = connect(), connect(), Heard()
    client.add_watch("/p", heard)
    with other.transaction() as transaction:
        transaction.create("/p").set_data("/p", b"1").create("/p/a").create("/p/b")
    assert heard.wait(4) == [
        ("NodeCreated", "/p"),
        ("NodeDataChanged", "/p"),
        ("NodeChildrenChanged", "/p"),
        ("NodeChildrenChanged", "/p"),
    ]


def test_one_callback_of_several_watches_is_called_once_for_an_event(connect: Start) -> None:
    client, heard = connect(), Heard()
    client.create("/p")
    client.add_watch("/p", heard)
    client.add_watch("/", heard, recursive=True)
    client.add_watch("/p", heard)
    client.get_data("/p", heard)
    client.set_data("/p", b"1")
    client.set_data("/p", b"2")
    assert heard.wait(2) == [("NodeDataChanged", "/p")] * 2


def test_removed_watches_are_silent_and_their_rows_gone(connect: Start) -> None:
    client, other = connect(), connect()
    client.create("/p")
    heard, kept = Heard(), Heard()
    client.get_data("/p", heard)
    client.get_data("/p", kept)
    client.get_children("/p", watch=heard)
    client.add_watch("/p", heard)
    client.remove_watches("/p", WatchType.GET_DATA, heard)
    client.remove_watches("/p", (WatchType.GET_CHILDREN, WatchType.PERSISTENT))
    with pytest.raises(NoWatcherException):
        client.check_watches("/p", watch=heard)
    client.check_watches("/p", WatchType.GET_DATA)
    other.set_data("/p", b"1")
    assert kept.wait(1) == [("NodeDataChanged", "/p")]
    client.sync()
    assert heard.events == []
    other.create("/q")  # answered when the row of what fired is gone: it goes after the event
    connection = client._connection
    assert connection is not None
    assert connection.watches.rows("/p") == []


# ---- reading together ------------------------------------------------------------------------


def test_reads_together_are_as_of_one_transaction_while_others_write(connect: Start) -> None:
    client, other = connect(), connect()
    with other.transaction() as transaction:
        for name in "abcd":
            transaction.create(f"/{name}", b"0")
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            with other.transaction() as transaction:
                for name in "abcd":
                    transaction.set_data(f"/{name}", b"%d" % number)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        shown = set()
        while len(shown) < 20:
            with client.multi_read() as reads:
                for name in "abcd":
                    reads.get_data(f"/{name}")
            values = {node.data for node in reads.results if isinstance(node, Node)}
            assert len(values) == 1
            shown.update(values)
    finally:
        stop.set()
        thread.join()


def test_reads_together_show_errors_in_their_places(client: FaaSKeeperClient) -> None:
    client.create("/closed", acl=[(ALL & ~1, "world", "anyone")])
    client.create("/p/a", b"1", makepath=True)
    with client.multi_read() as reads:
        reads.get_data("/none").get_data("/closed").get_children("/p").get_data("/p/a")
    none, closed, children, data = reads.results
    assert isinstance(none, NodeDoesntExistException)
    assert isinstance(closed, NoAuthException)
    assert isinstance(children, list)
    assert [node.path for node in children] == ["/p/a"]
    assert isinstance(data, Node)
    assert data.data == b"1"
    assert client.multi_read().commit() == []
