"""A session's promises: order, states, time-outs, threads, callbacks."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.client.futures import Future
from faaskeeper.client.sender import MESSAGES_AT_ONCE
from faaskeeper.client.session import Session
from faaskeeper.config import Config
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.errors import Unavailable
from faaskeeper.core.sessions import Lease
from faaskeeper.exceptions import (
    FaaSKeeperException,
    MalformedInputException,
    NodeDoesntExistException,
    ProviderException,
    SessionClosingException,
    SessionExpiredException,
    TimeoutException,
    TooLargeException,
    WatchSetFailureException,
)
from faaskeeper.node import Node
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.session.commands import ReadMark, Steps
from faaskeeper.testing.patience import PATIENCE_S
from tests.bare import Clock

Start = Callable[..., FaaSKeeperClient]


def session_of(client: FaaSKeeperClient) -> Session:
    assert client._session is not None
    return client._session


class Service:
    """An embedded service whose clock stands, and clients of it that do not renew by themselves."""

    def __init__(
        self, config: Config, directory: Path, make: Callable[..., FaaSKeeperClient] = FaaSKeeperClient
    ) -> None:
        self._make = make
        self.clock = Clock()
        self.config = config
        self.embedded = EmbeddedService(config, directory, clock=self.clock, steady=self.clock, beat=False)
        self.clients: list[FaaSKeeperClient] = []

    def client(self) -> FaaSKeeperClient:
        client = self._make(
            self.config,
            heartbeat=False,
            connect=lambda config, port: self.embedded.connection(0, lambda: None),
        )
        client.start()
        self.clients.append(client)
        return client


def send_by(
    client: FaaSKeeperClient, send: Callable[[str, str, bytes], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Have a client's requests be sent by a function."""
    connection = session_of(client).connection
    for queue in (connection.worker_queue, connection.prompt_queue):
        if queue is not None:
            monkeypatch.setattr(queue, "send", send)


@pytest.fixture
def service(config: Config, tmp_path: Path, make: Callable[..., FaaSKeeperClient]) -> object:
    service = Service(config, tmp_path / "stands", make)
    yield service
    for client in service.clients:
        client.stop()
    service.embedded.stop()


def test_a_context_manager_opens_and_closes_the_session(
    config: Config, make: Callable[..., FaaSKeeperClient]
) -> None:
    with make(config) as client:
        client.create("/e", b"", ephemeral=True)
        assert client.state is SessionState.CONNECTED
    assert client.session_status == "DISCONNECTED"
    with make(config) as client:
        assert client.exists("/e") is None


def test_a_client_knows_how_long_its_lease_lasts(service: Service) -> None:
    client = service.client()
    timeout = client.session_timeout
    assert client.lease_left == timeout == service.config.session_timeout
    service.clock.now += 1_000
    assert client.lease_left == timeout - 1
    service.clock.now += 3_600_000
    assert client.lease_left == 0
    assert client.state is SessionState.SUSPENDED
    client.stop(close=False)
    assert (client.lease_left, client.session_timeout) == (0, timeout)


def test_operations_without_a_session_say_so(config: Config, make: Callable[..., FaaSKeeperClient]) -> None:
    client = make(config)
    for operation in (client.get_data, client.create, client.delete, client.exists_async, client.sync):
        with pytest.raises(SessionClosingException):
            operation("/n")


def test_a_stopped_client_starts_again_with_another_session(
    config: Config, make: Callable[..., FaaSKeeperClient]
) -> None:
    client = make(config)
    first = client.start()
    client.create("/n")
    client.stop()
    second = client.start()
    assert first != second
    assert client.exists("/n") is not None
    client.stop()


def test_writes_take_effect_and_are_answered_in_the_order_they_were_sent(
    client: FaaSKeeperClient,
) -> None:
    client.create("/n")
    answered: list[int] = []
    futures = []
    for number in range(300):
        future = client.set_data_async("/n", b"%d" % number)
        future.add_callback(lambda done, number=number: answered.append(number))  # type: ignore[misc]
        futures.append(future)
    versions = [future.get().stat.version for future in futures]
    assert versions == list(range(1, 301))
    flush(client)
    assert answered == list(range(300))


def flush(client: FaaSKeeperClient) -> None:
    done = threading.Event()
    session_of(client).call_later(done.set)
    assert done.wait(PATIENCE_S)


def test_reads_and_writes_asked_for_without_waiting_see_each_other_in_order(
    client: FaaSKeeperClient,
) -> None:
    client.create("/n", b"start")
    futures: list[Future[object]] = []
    for number in range(50):
        futures.append(client.get_data_async("/n"))  # type: ignore[arg-type]
        futures.append(client.set_data_async("/n", b"%d" % number))  # type: ignore[arg-type]
    seen = [future.get().data for future in futures[::2]]  # type: ignore[attr-defined]
    assert seen == [b"start", *(b"%d" % number for number in range(49))]


def test_a_read_waits_for_this_client_s_earlier_writes(client: FaaSKeeperClient) -> None:
    client.create("/n", b"")
    for number in range(100):
        client.set_data_async("/n", b"%d" % number)
        assert client.get_data("/n").data == b"%d" % number


def test_one_client_may_be_used_by_many_threads(client: FaaSKeeperClient) -> None:
    client.create("/p")
    client.create("/counter", b"0")

    def work(thread: int) -> None:
        for number in range(40):
            client.create(f"/p/{thread}-{number}", b"")
            assert client.exists(f"/p/{thread}-{number}") is not None
            while True:
                node = client.get_data("/counter")
                try:
                    client.set_data("/counter", b"%d" % (int(node.data) + 1), node.stat.version)
                except FaaSKeeperException:
                    continue
                break

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(8)))
    assert len(client.get_children("/p")) == 320
    assert client.get_data("/counter").data == b"320"


@pytest.mark.threads
def test_a_thread_that_waits_for_its_own_write_does_not_send_for_others_for_ever(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = service.client()
    connection = session_of(client).connection
    sent_here: list[bytes] = []
    others: list[Future[Node]] = []
    here = threading.current_thread()

    def ask() -> None:
        others.append(client.create_async("/other-", sequential=True))

    def asked_for_meanwhile(queue: Queue) -> Callable[[str, str, bytes], None]:
        send = queue.send

        def sending(group: str, identity: str, body: bytes) -> None:
            if threading.current_thread() is here:
                sent_here.append(body)
                if len(sent_here) < 100:  # others never leave the thread that sends without work
                    other = threading.Thread(target=ask)
                    other.start()
                    other.join()
            send(group, identity, body)

        return sending

    for queue in (connection.worker_queue, connection.prompt_queue):
        assert queue is not None
        monkeypatch.setattr(queue, "send", asked_for_meanwhile(queue))
    client.create("/own")
    assert len(sent_here) == MESSAGES_AT_ONCE
    assert len({future.get(timeout=PATIENCE_S).path for future in others}) == MESSAGES_AT_ONCE


def test_many_clients_at_once_lose_no_update(connect: Start) -> None:
    clients = [connect() for _ in range(4)]
    clients[0].create("/counter", b"0")

    def work(client: FaaSKeeperClient) -> None:
        for _ in range(50):
            while True:
                node = client.get_data("/counter")
                try:
                    client.set_data("/counter", b"%d" % (int(node.data) + 1), node.stat.version)
                except FaaSKeeperException:
                    continue
                break

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, clients))
    assert clients[1].get_data("/counter").data == b"200"


def test_a_callback_may_block_without_holding_the_session_up(client: FaaSKeeperClient) -> None:
    client.create("/n", b"")
    release, running = threading.Event(), threading.Event()

    def block(event: object) -> None:
        running.set()
        assert release.wait(PATIENCE_S)

    client.get_data("/n", block)
    client.set_data("/n", b"1")
    assert running.wait(PATIENCE_S)
    for number in range(20):
        client.set_data("/n", b"%d" % number)
        assert client.get_data("/n").data == b"%d" % number
    release.set()


def test_a_callback_may_use_the_client(client: FaaSKeeperClient) -> None:
    client.create("/n", b"0")
    finished = threading.Event()

    def follow(event: object) -> None:
        node = client.get_data("/n", follow)
        if node.data == b"5":
            finished.set()
        else:
            client.set_data("/n", b"%d" % (int(node.data) + 1))

    client.get_data("/n", follow)
    client.set_data("/n", b"1")
    assert finished.wait(PATIENCE_S)


def test_a_callback_that_fails_is_logged_and_the_next_still_runs(
    client: FaaSKeeperClient, caplog: pytest.LogCaptureFixture
) -> None:
    client.create("/n", b"")
    ran = threading.Event()

    def fail(event: object) -> None:
        raise ValueError("the callback's own mistake")

    client.get_data("/n", fail)
    client.exists("/n", lambda event: ran.set())
    client.set_data("/n", b"1")
    assert ran.wait(PATIENCE_S)
    assert "the callback's own mistake" in caplog.text


def test_an_expired_session_is_told_so_and_its_listeners_too(service: Service) -> None:
    client, other = service.client(), service.client()
    states: list[SessionState] = []
    lost = threading.Event()

    def listen(state: SessionState) -> None:
        states.append(state)
        if state is SessionState.LOST:
            lost.set()

    client.add_listener(listen)
    client.create("/e", b"", ephemeral=True)
    service.clock.now += 60_000
    session_of(other).renew()
    assert service.embedded.heartbeat.expire() == [session_of(client).id]
    gone = threading.Event()
    if other.exists("/e", lambda event: gone.set()) is not None:
        assert gone.wait(PATIENCE_S)
    with pytest.raises(SessionExpiredException):
        client.create("/n")
    assert lost.wait(PATIENCE_S)
    assert states == [SessionState.LOST]
    assert client.session_status == "LOST"
    for operation in (client.get_data, client.exists, client.create, client.get_children_async):
        with pytest.raises(SessionExpiredException):
            operation("/n")


def test_a_session_whose_lease_was_marked_finds_out_when_it_renews(service: Service) -> None:
    client = service.client()
    lease = service.embedded.deployment.leases.get(session_of(client).id)
    assert lease is not None
    service.embedded.deployment.leases.mark(lease)
    session_of(client).renew()
    assert client.state is SessionState.LOST


def test_a_renewal_that_seemed_to_fail_is_found_to_have_worked(service: Service) -> None:
    client = service.client()
    leases = service.embedded.deployment.leases
    lease = leases.get(session_of(client).id)
    assert lease is not None
    leases.renew(session_of(client).id, lease.version, service.clock.now + 60_000)
    session_of(client).renew()
    assert client.state is SessionState.CONNECTED


def test_a_service_out_of_reach_suspends_the_session_until_it_is_reached_again(
    service: Service,
) -> None:
    client = service.client()
    states: list[SessionState] = []
    client.add_listener(states.append)
    leases = service.embedded.deployment.leases
    replace = leases.replace

    def unreachable(lease: Lease) -> Lease:
        raise Unavailable("no answer")

    leases.replace = unreachable  # type: ignore[method-assign]
    session_of(client).renew()
    assert client.session_status == "SUSPENDED"
    leases.replace = replace  # type: ignore[method-assign]
    session_of(client).renew()
    assert client.session_status == "CONNECTED"
    flush(client)
    assert states == [SessionState.SUSPENDED, SessionState.CONNECTED]


def test_a_time_out_says_what_is_known_and_the_outcome_can_still_be_had(service: Service) -> None:
    client = service.client()
    queue = session_of(client).connection.worker_queue
    held: list[bytes] = []
    with pytest.MonkeyPatch.context() as patch:
        send_by(client, lambda group, identity, body: held.append(body), patch)
        future = client.create_async("/n", b"")
        with pytest.raises(TimeoutException, match="whether it happened is not known"):
            future.get(timeout=0.01)
        while not held:
            assert not future.wait(0.01)
    for body in held:
        queue.send("writer", "", body)
    assert future.get(timeout=PATIENCE_S).path == "/n"


def test_a_lost_request_is_sent_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faaskeeper.session.timing.RESEND_S", 0.05)
    client = service.client()
    queue = session_of(client).connection.worker_queue
    send = queue.send
    lost: list[bytes] = []

    def losing(group: str, identity: str, body: bytes) -> None:
        if len(lost) < 2:
            lost.append(body)
        else:
            send(group, identity, body)

    send_by(client, losing, monkeypatch)
    assert client.create_async("/n", b"").get(timeout=PATIENCE_S).path == "/n"
    assert len(lost) == 2


def test_a_lost_answer_is_asked_for_again(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("faaskeeper.session.timing.RESEND_S", 0.05)
    client = service.client()
    listener = session_of(client)._listener
    receive = listener.receive  # type: ignore[attr-defined]
    lost: list[bytes] = []

    def losing(message: bytes) -> bool:
        if not lost:
            lost.append(message)
            return True
        return bool(receive(message))

    listener.receive = losing  # type: ignore[attr-defined]
    node = client.create("/s-", b"", sequential=True)
    assert node.path == "/s-0000000000"
    assert client.exists("/s-0000000001") is None


def test_a_service_that_cannot_go_on_says_why_to_everyone_who_waits(service: Service) -> None:
    client = service.client()
    client.create("/n", b"kept")
    store = service.embedded.deployment.records

    def full(*_: object) -> bool:
        from faaskeeper.core.errors import Denied

        raise Denied("the disk is full: free some space")

    put = store.put
    store.put = full  # type: ignore[method-assign]
    with pytest.raises(ProviderException, match=r"the disk is full.*whether it happened is not known"):
        client.set_data("/n", b"new")
    with pytest.raises(ProviderException, match="the disk is full"):
        client.create("/other")
    store.put = put  # type: ignore[method-assign]


def test_a_watch_that_cannot_be_registered_is_an_error_and_not_a_silent_read(service: Service) -> None:
    client = service.client()
    client.create("/n")
    watches = service.embedded.deployment.watches
    put = watches.put

    def unreachable(row: object) -> None:
        raise Unavailable("no answer")

    watches.put = unreachable  # type: ignore[method-assign]
    with pytest.raises(WatchSetFailureException, match="the watch of /n could not be set: no answer"):
        client.get_data("/n", lambda event: None)
    with pytest.raises(WatchSetFailureException):
        client.exists_async("/n", lambda event: None).get()
    watches.put = put  # type: ignore[method-assign]
    assert session_of(client).rules.watching is False


def test_what_cannot_be_is_refused_before_it_is_sent(client: FaaSKeeperClient) -> None:
    with pytest.raises(MalformedInputException, match="data must be bytes, not str"):
        client.create("/n", "text")  # type: ignore[arg-type]
    with pytest.raises(MalformedInputException, match="a version must be a 32-bit integer"):
        client.set_data("/n", b"", 2**31)
    with pytest.raises(MalformedInputException, match="a path must be a string"):
        client.get_data(b"/n")  # type: ignore[arg-type]
    with pytest.raises(MalformedInputException, match=r"U\+D800"):
        client.create("/\ud800")
    with pytest.raises(TooLargeException, match="at most 1048576"):
        client.create("/n", b"x" * 1_048_577)
    assert client.create("/n", b"x" * 1_048_576).stat.dataLength == 1_048_576


def test_sync_shows_what_others_committed_before(connect: Start) -> None:
    one, two = connect(), connect()
    for number in range(20):
        one.create(f"/n{number}")
        two.sync()
        assert two.exists(f"/n{number}") is not None


def test_a_watch_event_is_queued_before_the_state_that_it_announces_is_shown(connect: Start) -> None:
    one, two = connect(), connect()
    one.create("/n", b"0")
    for number in range(1, 100):
        events: list[object] = []
        two.get_data("/n", events.append)
        one.set_data("/n", b"%d" % number)
        while two.get_data("/n").data != b"%d" % number:
            pass
        flush(two)
        assert len(events) == 1


def test_closing_ends_what_is_unanswered_with_an_error_that_says_so(service: Service) -> None:
    client = service.client()
    with pytest.MonkeyPatch.context() as patch:
        send_by(client, lambda group, identity, body: None, patch)
        future = client.create_async("/n", b"")
        session_of(client).renew()  # by then it is numbered
        session_of(client).abandon()
        with pytest.raises(SessionClosingException, match="whether it happened is not known"):
            future.get(timeout=PATIENCE_S)


def test_a_transaction_commits_all_or_nothing(client: FaaSKeeperClient) -> None:
    with client.transaction() as transaction:
        transaction.create("/a", b"1").create("/a/b", b"2").set_data("/a", b"3", 0).check("/a", 1)
    assert [type(each).__name__ for each in transaction.results] == ["Node", "Node", "Node", "bool"]
    assert client.get_data("/a").data == b"3"
    assert client.get_data("/a").created.system == client.get_data("/a/b").created.system
    failed = client.transaction().delete("/a/b").delete("/none").create("/c").commit()
    assert [type(each).__name__ for each in failed] == [
        "bool",
        "NodeDoesntExistException",
        "RolledBackException",
    ]
    assert client.exists("/a/b") is not None
    assert client.exists("/c") is None


def test_ephemerals_are_listed_as_long_as_they_are_there(connect: Start) -> None:
    one, two = connect(), connect()
    one.create("/p")
    one.create("/p/1", b"", ephemeral=True)
    one.create("/2", b"", ephemeral=True)
    one.transaction().create("/p/3", b"", ephemeral=True).commit()
    two.create("/4", b"", ephemeral=True)
    assert one.get_ephemerals() == ["/2", "/p/1", "/p/3"]
    two.delete("/p/1")
    two.create("/p/1", b"", ephemeral=True)
    assert one.get_ephemerals("/p") == ["/p/3"]
    with pytest.raises(NodeDoesntExistException):
        one.get_data("/5")


def test_an_ephemeral_is_listed_after_a_create_that_nothing_waited_for(client: FaaSKeeperClient) -> None:
    creates = [client.create_async(f"/e{number}", ephemeral=True) for number in range(3)]
    assert client.get_ephemerals() == ["/e0", "/e1", "/e2"]
    assert all(each.done() for each in creates)


def test_a_session_without_heartbeat_ends_after_its_time_out(
    tmp_path: Path, make: Callable[..., FaaSKeeperClient]
) -> None:
    data = {
        "cloud-provider": "local",
        "deployment-name": "x",
        "directory": str(tmp_path),
        "heartbeat-frequency": 1,
    }
    config = Config.deserialize(data)
    with make(config) as other:
        silent = make(config, heartbeat=False, session_timeout=4)
        silent.start()
        silent.create("/e", b"", ephemeral=True)
        gone = threading.Event()
        assert other.exists("/e", lambda event: gone.set()) is not None
        assert gone.wait(PATIENCE_S)
        with pytest.raises(SessionExpiredException):
            silent.create("/n")
        silent.stop()


def test_a_request_that_the_queue_cannot_take_is_refused_at_once_and_nothing_else_waits(
    service: Service,
) -> None:
    client = service.client()
    service.embedded.deployment.worker_queue.max_message_bytes = 20_000
    client.create("/n")
    with pytest.raises(TooLargeException, match="set_data /n"):
        client.set_data("/n", b"x" * 20_000)
    large = client.transaction()
    for number in range(5):
        large.create(f"/n{number}", b"x" * 5_000)
    with pytest.raises(TooLargeException, match="the transaction"):
        large.commit()
    assert client.set_data("/n", b"small").stat.version == 1


@pytest.mark.threads
def test_steps_whose_command_fails_are_closed_under_the_lock(
    client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = session_of(client)
    locked: list[bool] = []

    def steps() -> Steps:
        try:
            yield ReadMark()
        finally:
            locked.append(session._lock.locked())  # type: ignore[attr-defined]

    def fail(command: object) -> None:
        raise Unavailable("no answer")

    monkeypatch.setattr(session, "perform", fail)
    with pytest.raises(ProviderException, match="no answer"):
        session.drive(steps())
    assert locked == [True]
