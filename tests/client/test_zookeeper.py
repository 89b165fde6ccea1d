"""The client on ZooKeeper's own server, and on ``fk serve``: every scenario, and what is a connection's."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from faaskeeper.aio import AsyncClient
from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.config import Config, ConfigurationException
from faaskeeper.exceptions import (
    FaaSKeeperException,
    MalformedInputException,
    NodeDoesntExistException,
    NoWatcherException,
    ProviderException,
    SessionExpiredException,
    TimeoutException,
    ZooKeeperException,
)
from faaskeeper.gateway import protocol
from faaskeeper.recipes import Lock
from faaskeeper.testing.conformance import golden
from faaskeeper.testing.conformance.harness import Harness
from faaskeeper.testing.conformance.semantics import ClientAdapter
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.watch import WatchedEvent, WatchType
from faaskeeper.zookeeper import wire
from faaskeeper.zookeeper.address import parse
from faaskeeper.zookeeper.client import ZooKeeperClient
from faaskeeper.zookeeper.link import Call
from tests.client.test_semantics import Heard
from tests.gateway.servers import Server
from tests.gateway.test_tls import Tls
from tests.zookeeper import zookeeper

Start = Callable[..., FaaSKeeperClient]


class Servers(Harness):
    """A server as a deployment."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.config = Config.load(f"zk://127.0.0.1:{port}")

    def beat(self) -> None:
        """The server looks by itself."""

    def crash(self) -> None:
        raise AssertionError("no scenario crashes a server")


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    with zookeeper(tmp_path_factory.mktemp("zookeeper")) as port:
        yield Servers(port)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    server = Server(tmp_path_factory.mktemp("served"))
    try:
        yield Servers(server.port)
    finally:
        server.kill()


@pytest.fixture(params=["real", "served"])
def harness(request: pytest.FixtureRequest) -> Servers:
    found: Servers = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def connect(harness: Servers) -> Iterator[Start]:
    """Starts clients below a znode of the test's own, and stops them."""
    made: list[FaaSKeeperClient] = []
    root = harness.root()

    def started(**options: Any) -> FaaSKeeperClient:
        client = FaaSKeeperClient(harness.config, **{"chroot": root, **options})
        client.start()
        made.append(client)
        return client

    yield started
    for client in made:
        client.stop()


# ---- every scenario ------------------------------------------------------------------------------


class Adapter(ClientAdapter):
    """Sessions end by silence."""

    def _perform(self, session: str, client: Any, op: str, args: list[Any]) -> dict[str, Any]:
        if op != "expire":
            return super()._perform(session, client, op, args)
        owned = client.get_ephemerals("/") or [client.create("/witness-", b"", True, True).path]
        client.stop(close=False)
        del self._clients[session]
        other = self.client("witness")
        for path in owned:
            gone = Heard()
            if other.exists(path, gone):
                gone.wait(1)
        return {}


@pytest.mark.parametrize("scenario", golden.SCENARIOS, ids=golden.name_of)
def test_the_client_shows_what_the_server_showed(scenario: dict[str, Any], harness: Servers) -> None:
    adapter = Adapter(harness, golden.ending(scenario))
    try:
        golden.run(scenario, adapter, harness.root())
    finally:
        adapter.stop()


# ---- what is of a connection ---------------------------------------------------------------------


class Between:
    """Passes bytes between clients and a server, and cuts them off."""

    def __init__(self, port: int) -> None:
        self._to = port
        self._sockets: list[socket.socket] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.passes_answers = True
        self.refuses = False
        self._threads = [threading.Thread(target=self._accept, daemon=True)]
        self._threads[0].start()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.refuses:
                client.close()
                continue
            server = socket.create_connection(("127.0.0.1", self._to))
            self._sockets += [client, server]
            for source, target in ((client, server), (server, client)):
                arguments = (source, target, client)
                self._threads.append(threading.Thread(target=self._copy, args=arguments, daemon=True))
                self._threads[-1].start()

    def _copy(self, source: socket.socket, target: socket.socket, client: socket.socket) -> None:
        try:
            while data := source.recv(65536):
                if target is client and not self.passes_answers:
                    self.cut()
                    return
                target.sendall(data)
        except OSError:
            pass
        for each in (source, target):
            _shut(each)

    def cut(self) -> None:
        """End every connection."""
        for each in self._sockets:
            _shut(each)

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)  # accept() returns
        self._threads[0].join(PATIENCE_S)
        self._listener.close()
        self.cut()
        for each in self._threads:
            each.join(PATIENCE_S)
        for each in self._sockets:
            each.close()


def _shut(end: socket.socket) -> None:
    try:
        end.shutdown(socket.SHUT_RDWR)
    except OSError:
        pass


class States:
    """Takes states; :meth:`wait` waits for one."""

    def __init__(self) -> None:
        self.seen: list[SessionState] = []
        self._more = threading.Condition()

    def __call__(self, state: SessionState) -> None:
        with self._more:
            self.seen.append(state)
            self._more.notify_all()

    def wait(self, state: SessionState) -> None:
        with self._more:
            assert self._more.wait_for(lambda: state in self.seen, PATIENCE_S), self.seen


@pytest.fixture
def between(harness: Servers) -> Iterator[Between]:
    made = Between(harness.port)
    yield made
    made.close()


def through(between: Between, **options: Any) -> FaaSKeeperClient:
    return FaaSKeeperClient(Config.load(f"zk://127.0.0.1:{between.port}"), **options)


def test_session_ephemerals_and_watches_outlive_a_connection(harness: Servers, between: Between) -> None:
    root, states, once, lasting = harness.root(), States(), Heard(), Heard()
    with through(between, chroot=root) as client, FaaSKeeperClient(harness.config, chroot=root) as other:
        client.add_auth("digest", "user:pw")
        client.create("/mine", ephemeral=True)
        client.create("/data", b"1")
        client.get_data("/data", once)
        client.add_watch("/data", lasting, recursive=True)
        session = client.session_id
        client.add_listener(states)
        between.cut()
        states.wait(SessionState.CONNECTED)
        assert states.seen == [SessionState.SUSPENDED, SessionState.CONNECTED]
        assert client.session_id == session
        client.exists("/data")  # behind the watches that were set again: until then the server tells none
        other.set_data("/data", b"2")
        other.create("/data/below")
        assert once.wait(1) == [("NodeDataChanged", "/data")]
        assert lasting.wait(2) == [("NodeDataChanged", "/data"), ("NodeCreated", "/data/below")]
        assert client.get_ephemerals() == ["/mine"]
        if isinstance(client, ZooKeeperClient):
            assert ("digest", "user") in client.who_am_i()


def test_a_write_whose_answer_is_lost_says_that_it_may_have_happened(
    harness: Servers, between: Between
) -> None:
    with through(between, chroot=harness.root()) as client:
        between.passes_answers = False
        with pytest.raises(TimeoutException, match=r"create /n: .*whether it happened is not known"):
            client.create("/n")
        between.passes_answers = True
        assert client.exists("/n") is not None  # here it had: the answer was cut off


def test_a_read_whose_answer_is_lost_is_asked_again(harness: Servers, between: Between) -> None:
    with through(between, chroot=harness.root()) as client:
        client.create("/n", b"1")
        between.passes_answers = False
        asked = client.get_data_async("/n")
        states = States()
        client.add_listener(states)
        states.wait(SessionState.SUSPENDED)
        between.passes_answers = True
        assert asked.get(PATIENCE_S).data == b"1"


def test_a_session_that_ended_meanwhile_is_lost(harness: Servers, between: Between) -> None:
    root, states = harness.root(), States()
    client = through(between, chroot=root, session_timeout=4)
    client.start()
    client.add_listener(states)
    client.create("/mine", ephemeral=True)
    between.refuses = True
    between.cut()
    with FaaSKeeperClient(harness.config, chroot=root) as other:
        with pytest.raises(TimeoutException, match="nothing was changed: no server answers"):
            client.set_data("/", b"x")
        gone = Heard()
        if other.exists("/mine", gone):
            gone.wait(1)
    between.refuses = False
    states.wait(SessionState.LOST)
    with pytest.raises(SessionExpiredException):
        client.get_data("/")
    client.stop()
    client.start()
    assert client.get_data("/").path == "/"
    client.stop()


def test_a_session_is_there_for_as_long_as_its_client_says(harness: Servers, between: Between) -> None:
    root, states = harness.root(), States()
    client = through(between, chroot=root, session_timeout=4)
    with client, FaaSKeeperClient(harness.config, chroot=root) as other:
        client.create("/mine", ephemeral=True)
        assert 0 < client.lease_left <= client.session_timeout
        client.add_listener(states)
        between.refuses = True
        between.cut()
        looks = 0
        while other.exists("/mine") is not None or client.lease_left > 0:
            there = other.exists("/mine") is not None
            assert there or client.lease_left == 0
            looks += there and client.lease_left > 0
        assert looks
        between.refuses = False
        states.wait(SessionState.LOST)
        assert client.lease_left == 0


def test_an_unreachable_server_is_named_with_the_reason(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(ProviderException, match=f"127.0.0.1:{port}: connection refused"):
        FaaSKeeperClient(Config.load(f"zk://127.0.0.1:{port}")).start()


def test_the_second_server_of_an_address_is_used_where_the_first_is_away(harness: Servers) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        away = free.getsockname()[1]
    with FaaSKeeperClient(Config.load(f"zk://127.0.0.1:{away},127.0.0.1:{harness.port}")) as client:
        assert client.exists("/") is not None


# ---- the client ----------------------------------------------------------------------------------


def test_the_kind_of_client_is_that_of_the_deployment(harness: Servers, tmp_path: Path) -> None:
    assert type(FaaSKeeperClient(harness.config)) is ZooKeeperClient
    assert type(FaaSKeeperClient(Config.local(tmp_path))) is FaaSKeeperClient


def test_locks_work_between_sessions(connect: Start) -> None:
    first, second = connect(), connect()
    lock = Lock(first, "/lock")
    assert lock.acquire()
    other = Lock(second, "/lock")
    assert not other.acquire(timeout=0.2)
    lock.release()
    assert other.acquire(timeout=PATIENCE_S)
    other.release()


def test_a_chroot_of_the_address_and_one_of_the_client_add_up(harness: Servers) -> None:
    root = harness.root()
    config = Config.load(f"zk://127.0.0.1:{harness.port}{root}")
    heard = Heard()
    with FaaSKeeperClient(config) as outer, FaaSKeeperClient(config, chroot="/in") as inner:
        outer.create("/in/n", b"1", makepath=True)
        assert inner.get_data("/n", heard).data == b"1"
        outer.set_data("/in/n", b"2")
        assert heard.wait(1) == [("NodeDataChanged", "/n")]
        assert [node.path for node in outer.get_children("/in")] == ["/in/n"]
        assert outer.record("/in").children == ["n"]
    missing = pytest.raises(NodeDoesntExistException, match=f"{root}/away does not exist")
    with FaaSKeeperClient(config, chroot="/away") as away, missing:
        away.get_children("/")


def test_watches_are_removed_by_kind_and_all(connect: Start) -> None:
    client, once, lasting = connect(), Heard(), Heard()
    client.create("/n", b"1")
    client.get_data("/n", once)
    client.add_watch("/n", lasting)
    client.remove_watches("/n", WatchType.PERSISTENT)
    client.set_data("/n", b"2")
    assert once.wait(1) == [("NodeDataChanged", "/n")]
    assert lasting.events == []
    with pytest.raises(NoWatcherException):
        client.remove_watches("/n")


def test_reads_come_after_the_events_that_were_before_them(connect: Start) -> None:
    client, other = connect(), connect()
    events: list[WatchedEvent] = []
    client.create("/n", b"1")
    client.add_watch("/n", events.append)
    for number in range(20):
        other.set_data("/n", b"%d" % number)
        client.sync()
        client.get_data("/n")
        done = threading.Event()
        client.call_later(done.set)
        assert done.wait(PATIENCE_S)
        assert len(events) == number + 1


def test_what_a_zookeeper_server_has_not_is_refused_in_a_line(harness: Servers) -> None:
    with FaaSKeeperClient(harness.config) as client:
        for refused in (lambda: client.connection, client.logs):
            with pytest.raises(ProviderException, match="is a ZooKeeper server"):
                refused()
        with pytest.raises(MalformedInputException, match="cannot be resumed"):
            assert client.ticket


async def _start(config: Config) -> None:
    await AsyncClient(config).start()


def test_the_client_for_asyncio_says_that_it_cannot(harness: Servers) -> None:
    import asyncio

    with pytest.raises(ProviderException, match="is a ZooKeeper server"):
        asyncio.run(_start(harness.config))


def test_a_server_without_times_to_live_says_what_is_needed(tmp_path: Path) -> None:
    with (
        zookeeper(tmp_path, extended=False) as port,
        FaaSKeeperClient(Config.load(f"zk://127.0.0.1:{port}")) as client,
        pytest.raises(ZooKeeperException, match="extendedTypesEnabled=true"),
    ):
        client.create("/n", ttl=1000)


# ---- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("zk://h", "zk://h:2181"),
        ("zk://h:1,[::1]:2/app/", "zk://h:1,[::1]:2/app"),
        ("zks://h?ca=/c.pem&certificate=/k.pem", "zks://h:2281"),
    ],
)
def test_an_address_names_servers_and_a_chroot(text: str, shown: str) -> None:
    assert str(parse(text)) == shown
    assert Config.load(text).deployment_name == shown


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("zk://", "'' is not HOST"),
        ("zk://h:0", "port"),
        ("zk://h:65536", "port"),
        ("zk://h,", "'' is not HOST"),
        ("zk://h/a//b", "empty component"),
        ("zk://user:geheim@h", "no password"),
        ("zks://h?x=1", "'x=1' is not one of"),
    ],
)
def test_an_address_that_is_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(ConfigurationException, match=says) as refused:
        Config.load(text)
    assert "geheim" not in str(refused.value)


# ---- TLS -----------------------------------------------------------------------------------------


def test_zks_checks_the_server_and_shows_the_client_s_certificate(tmp_path: Path) -> None:
    tls = Tls(tmp_path)
    ca = f"ca={tmp_path / 'ca.pem'}"
    mine = tls.authority.issue_cert("localhost", common_name="me")
    certificate = tmp_path / "mine.pem"
    certificate.write_bytes(mine.private_key_pem.bytes() + mine.cert_chain_pems[0].bytes())
    config = Config.load(f"zks://127.0.0.1:{tls.port}?{ca}&certificate={certificate}")
    with FaaSKeeperClient(config) as client:
        client.create("/n", b"x" * 100_000)
        assert client.get_data("/n").data == b"x" * 100_000
        shown = dict(client.who_am_i())
        assert shown["x509"].startswith("CN=me,")
    with pytest.raises(ProviderException, match="TLS: "):
        FaaSKeeperClient(Config.load(f"zks://127.0.0.1:{tls.port}")).start()
    with pytest.raises(ProviderException, match="TLS: /none cannot be used: No such file"):
        FaaSKeeperClient(Config.load(f"zks://127.0.0.1:{tls.port}?ca=/none")).start()
    assert tls.server.stop() == 0


def test_a_request_that_is_made_while_the_connection_ends_fails(
    harness: Servers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing would run what the loop is given just before it is closed."""
    client = FaaSKeeperClient(harness.config)
    client.start()
    link = cast(Any, client._session)._link
    failures: list[FaaSKeeperException] = []
    call = Call(protocol.EXISTS, wire.read("/"), "exists", False, lambda *_: None, failures.append)
    close = link._loop.close

    def closing() -> None:
        try:
            link.send(call)
        except FaaSKeeperException as error:
            failures.append(error)
        close()

    monkeypatch.setattr(link._loop, "close", closing)
    client.stop()
    link._thread.join(PATIENCE_S)
    assert len(failures) == 1
