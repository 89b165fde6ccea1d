"""Recipes, with a participant that dies in the middle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from faaskeeper.client import FaaSKeeperClient, Future
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.recipes import Counter, Election, Lock, LockLost, ReadLock, WriteLock
from faaskeeper.testing.patience import PATIENCE_S
from tests.client.test_session import Service, flush, session_of

Start = Callable[..., FaaSKeeperClient]


def die(service: Service, client: FaaSKeeperClient) -> None:
    """The client's process is gone; its session runs out, the others' do not."""
    gone = session_of(client).id
    session_of(client).abandon()
    service.clients.remove(client)
    service.clock.now += 60_000
    for other in service.clients:
        session_of(other).renew()
    assert service.embedded.heartbeat.expire() == [gone]


def waiting(client: FaaSKeeperClient, path: str, many: int) -> None:
    """Wait until so many contenders are queued."""
    changed = threading.Event()
    while client.exists(path) is None or len(client.get_children(path, watch=lambda e: changed.set())) < many:
        changed.wait(0.05)
        changed.clear()


def test_a_lock_is_held_by_one_at_a_time(connect: Start) -> None:
    clients = [connect() for _ in range(4)]
    inside: list[int] = []
    tokens: list[int] = []

    def work(client: FaaSKeeperClient) -> None:
        for _ in range(5):
            with Lock(client, "/locks/one") as lock:
                inside.append(1)
                assert sum(inside) == 1
                tokens.append(lock.token)
                inside.pop()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, clients))
    assert len(tokens) == 20
    assert tokens == sorted(set(tokens))
    assert clients[0].get_children("/locks/one") == []


def test_a_lock_whose_holder_dies_goes_to_the_next(service: Service) -> None:
    one, two = service.client(), service.client()
    first = Lock(one, "/lock", "one")
    assert first.acquire()
    token = first.token
    second = Lock(two, "/lock", "two")
    with ThreadPoolExecutor(1) as pool:
        acquired = pool.submit(second.acquire, 60)
        waiting(two, "/lock", 2)
        assert second.contenders() == ["one", "two"]
        die(service, one)
        assert acquired.result(PATIENCE_S)
    assert second.token > token
    second.release()


def test_a_contender_that_dies_while_it_waits_is_in_nobody_s_way(service: Service) -> None:
    one, two, three = service.client(), service.client(), service.client()
    first, second, third = (Lock(client, "/lock") for client in (one, two, three))
    assert first.acquire()
    with ThreadPoolExecutor(2) as pool:
        in_vain = pool.submit(second.acquire)
        waiting(one, "/lock", 2)
        acquired = pool.submit(third.acquire, 60)
        waiting(one, "/lock", 3)
        die(service, two)
        with pytest.raises(FaaSKeeperException):
            in_vain.result(PATIENCE_S)
        first.release()
        assert acquired.result(PATIENCE_S)
    third.release()


@pytest.mark.threads
def test_a_contender_that_waits_in_vain_or_is_interrupted_leaves_no_node(
    connect: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = connect(), connect()
    with Lock(one, "/lock"):
        assert Lock(two, "/lock").acquire(timeout=0.05) is False
        assert len(one.get_children("/lock")) == 1

        def interrupt(self: object, timeout: float | None = None) -> bool:
            raise KeyboardInterrupt

        monkeypatch.setattr(threading.Event, "wait", interrupt)
        with pytest.raises(KeyboardInterrupt):
            Lock(two, "/lock").acquire()
        monkeypatch.undo()
        assert len(one.get_children("/lock")) == 1


@pytest.mark.threads
def test_a_contender_interrupted_while_its_node_is_made_leaves_none(
    connect: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = connect(), connect()
    one.create("/lock")
    get = Future.get

    def interrupted(self: Future[object], timeout: float | None = None) -> object:
        if self.what.startswith("create /lock/") and timeout is None:
            raise KeyboardInterrupt
        return get(self, timeout)

    monkeypatch.setattr(Future, "get", interrupted)
    with pytest.raises(KeyboardInterrupt):
        Lock(two, "/lock").acquire()
    monkeypatch.undo()
    two.sync()
    flush(two)  # the callback that removes it has run
    two.set_data("/lock")  # answered after the delete that was sent before it
    assert two.get_children("/lock") == []


def test_a_holder_is_told_at_once_when_its_session_is_suspended_or_lost(service: Service) -> None:
    client, other = service.client(), service.client()
    lost = threading.Event()
    lock = Lock(client, "/lock", on_loss=lost.set)
    assert lock.acquire()
    lock.check()
    lease = service.embedded.deployment.leases.get(session_of(client).id)
    assert lease is not None
    service.embedded.deployment.leases.mark(lease)
    session_of(client).renew()
    assert lost.wait(PATIENCE_S)
    assert not lock.held
    for use in (lock.check, lambda: lock.token):
        with pytest.raises(LockLost):
            use()
    lock.release()
    assert other.exists("/lock") is not None


def test_a_lock_is_not_taken_for_held_when_its_lease_ran_out_unnoticed(service: Service) -> None:
    client = service.client()
    lock = Lock(client, "/lock")
    assert lock.acquire()
    service.clock.now += 60_000  # the process was stopped, say
    assert not lock.held
    with pytest.raises(LockLost):
        lock.check()
    session_of(client).renew()  # nobody had noticed, and nobody else had it
    lock.check()
    lock.release()


def test_a_lock_is_not_reentrant(connect: Start) -> None:
    lock = Lock(connect(), "/lock")
    with lock, pytest.raises(FaaSKeeperException, match="not re-entrant"):
        lock.acquire()


def test_readers_share_and_writers_do_not(connect: Start) -> None:
    clients = [connect() for _ in range(4)]
    one, two = ReadLock(clients[0], "/lock"), ReadLock(clients[1], "/lock")
    assert one.acquire(5)
    assert two.acquire(5)
    writer = WriteLock(clients[2], "/lock")
    late = ReadLock(clients[3], "/lock")
    with ThreadPoolExecutor(2) as pool:
        writing = pool.submit(writer.acquire, 60)
        waiting(clients[0], "/lock", 3)
        reading = pool.submit(late.acquire, 60)
        waiting(clients[0], "/lock", 4)
        one.release()
        assert not writing.done()
        two.release()
        assert writing.result(PATIENCE_S)
        assert not reading.done()
        writer.release()
        assert reading.result(PATIENCE_S)
    late.release()


def test_a_plain_lock_excludes_readers_and_is_excluded_by_them(connect: Start) -> None:
    lock, reader = Lock(connect(), "/lock"), ReadLock(connect(), "/lock")
    lock.acquire()
    assert not reader.acquire(timeout=0)
    lock.release()
    reader.acquire()
    assert not lock.acquire(timeout=0)
    reader.release()


def test_a_contender_knows_its_node(connect: Start) -> None:
    client = connect()
    lock = Lock(client, "/lock")
    assert (lock.path, lock.node) == ("/lock", None)
    lock.acquire()
    found = client.exists(lock.node or "")
    assert found is not None
    assert found.stat.czxid == lock.token
    lock.release()
    assert lock.node is None


def test_a_leader_that_dies_is_followed_by_the_next(service: Service) -> None:
    one, two = service.client(), service.client()
    tokens: list[int] = []
    leading, stop = threading.Event(), threading.Event()

    def lead(election: Election) -> None:
        assert election.leading
        tokens.append(election.token)
        leading.set()
        assert stop.wait(PATIENCE_S)

    first, second = Election(one, "/leader", "one"), Election(two, "/leader", "two")
    with ThreadPoolExecutor(2) as pool:
        done = pool.submit(first.run, lead)
        assert leading.wait(PATIENCE_S)
        leading.clear()
        following = pool.submit(second.run, lead)
        waiting(two, "/leader", 2)
        assert second.contenders() == ["one", "two"]
        die(service, one)
        assert leading.wait(PATIENCE_S)
        stop.set()
        assert following.result(PATIENCE_S)
        assert done.result(PATIENCE_S)  # it had led; its node went with its session
    assert len(tokens) == 2
    assert tokens[0] < tokens[1]


def test_a_counter_counts_what_everybody_adds_also_those_who_die(service: Service) -> None:
    clients = [service.client() for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda client: [Counter(client, "/n").add() for _ in range(20)], clients))
    Counter(clients[0], "/n").add(-5)
    die(service, clients[0])
    assert Counter(clients[1], "/n").value == 55
    clients[1].set_data("/n", b"many")
    with pytest.raises(FaaSKeeperException, match="does not hold an integer"):
        Counter(clients[1], "/n").add()
