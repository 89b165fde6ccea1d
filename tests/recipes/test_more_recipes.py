"""Semaphores, barriers, queues, parties, self-renewing watches; a participant dies in the middle."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from queue import SimpleQueue
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient, Future
from faaskeeper.core.acl import CREATE, READ
from faaskeeper.exceptions import FaaSKeeperException, NoAuthException, NodeDoesntExistException
from faaskeeper.recipes import (
    Barrier,
    ChildrenWatch,
    DataWatch,
    DoubleBarrier,
    LockingQueue,
    Party,
    Queue,
    Semaphore,
)
from faaskeeper.testing.patience import PATIENCE_S
from tests.client.test_session import Service, flush
from tests.recipes.test_recipes import die, waiting

Start = Callable[..., FaaSKeeperClient]


# ---- semaphores ------------------------------------------------------------------------------


def test_a_semaphore_is_held_by_no_more_than_its_leases(connect: Start) -> None:
    clients = [connect() for _ in range(5)]
    inside: list[int] = []
    most: list[int] = []

    def work(client: FaaSKeeperClient) -> None:
        for _ in range(4):
            with Semaphore(client, "/two", 2):
                inside.append(1)
                most.append(len(inside))
                assert len(inside) <= 2
                inside.pop()

    with ThreadPoolExecutor(5) as pool:
        list(pool.map(work, clients))
    assert len(most) == 20
    assert clients[0].get_children("/two") == []


def test_a_lease_whose_holder_dies_goes_to_the_next(service: Service) -> None:
    clients = [service.client() for _ in range(3)]
    one, two, three = (Semaphore(each, "/two", 2, f"c{n}") for n, each in enumerate(clients))
    assert one.acquire(5)
    assert two.acquire(5)
    assert three.acquire(0.01) is False
    with ThreadPoolExecutor(1) as pool:
        third = pool.submit(three.acquire, 60)
        waiting(clients[2], "/two", 3)
        assert three.holders() == ["c0", "c1"]
        die(service, clients[0])  # not the nearest before the one that waits
        assert third.result(PATIENCE_S)
    assert three.holders() == ["c1", "c2"]
    two.release()
    three.release()


def test_a_semaphore_without_leases_is_refused(client: FaaSKeeperClient) -> None:
    with pytest.raises(ValueError, match="at least one"):
        Semaphore(client, "/none", 0)


# ---- barriers --------------------------------------------------------------------------------


def test_a_barrier_holds_everybody_up_also_when_its_maker_dies(service: Service) -> None:
    maker, one, two = service.client(), service.client(), service.client()
    assert Barrier(maker, "/gate/a").create()
    assert not Barrier(one, "/gate/a").create()
    with ThreadPoolExecutor(2) as pool:
        passed = [pool.submit(Barrier(client, "/gate/a").wait, 60) for client in (one, two)]
        assert Barrier(one, "/gate/a").wait(0.01) is False
        die(service, maker)
        assert not any(each.done() for each in passed)
        assert Barrier(one, "/gate/a").remove()
        assert [each.result(PATIENCE_S) for each in passed] == [True, True]
    assert not Barrier(one, "/gate/a").remove()
    assert Barrier(one, "/gate/a").wait(0.01)


def test_who_waits_at_a_barrier_and_dies_is_told(service: Service) -> None:
    maker, one = service.client(), service.client()
    Barrier(maker, "/gate").create()
    with ThreadPoolExecutor(1) as pool:
        waits = pool.submit(Barrier(one, "/gate").wait)
        die(service, one)
        with pytest.raises(FaaSKeeperException):
            waits.result(PATIENCE_S)


def test_participants_begin_together_and_end_together(connect: Start) -> None:
    clients = [connect() for _ in range(3)]
    begun: list[int] = []

    def work(client: FaaSKeeperClient) -> int:
        barrier = DoubleBarrier(client, "/race", 3)
        come = 0
        for _ in range(3):
            assert barrier.enter(60)
            begun.append(1)
            assert barrier.leave(60)
            come += 1
        return come

    with ThreadPoolExecutor(3) as pool:
        assert list(pool.map(work, clients)) == [3, 3, 3]
    assert len(begun) == 9
    assert [node.path for node in clients[0].get_children("/race")] == ["/race/ready"]


def test_a_participant_that_dies_has_not_come_and_one_that_dies_inside_holds_nobody_up(
    service: Service,
) -> None:
    clients = [service.client() for _ in range(4)]
    barriers = [DoubleBarrier(client, "/race", 2, f"c{n}") for n, client in enumerate(clients)]
    with ThreadPoolExecutor(2) as pool:
        in_vain = pool.submit(barriers[0].enter)
        waiting(clients[1], "/race", 1)
        die(service, clients[0])
        with pytest.raises(FaaSKeeperException):
            in_vain.result(PATIENCE_S)
        assert barriers[1].enter(0.01) is False  # alone
        first = pool.submit(barriers[1].enter, 60)
        second = pool.submit(barriers[2].enter, 60)
        assert first.result(PATIENCE_S)
        assert second.result(PATIENCE_S)
        leaving = pool.submit(barriers[1].leave, 60)
        die(service, clients[2])  # inside
        assert leaving.result(PATIENCE_S)
    with pytest.raises(ValueError, match="has not entered"):
        barriers[1].leave()


def test_a_participant_that_may_not_begin_the_round_says_so(connect: Start) -> None:
    owner, client = connect(), connect()
    owner.create("/race", acl=[(READ | CREATE, "world", "anyone")])
    owner.create("/race/ready", b"of the round before")
    with pytest.raises(NoAuthException) as raised:
        DoubleBarrier(client, "/race", 1).enter(60)
    assert "its node stays until the session ends" in raised.value.__notes__[0]


@pytest.mark.threads
def test_who_is_interrupted_while_its_node_is_made_leaves_none(
    connect: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = connect(), connect()
    LockingQueue(one, "/jobs").put(b"a")
    Queue(one, "/jobs/taken").get()  # makes the path
    one.create("/race")
    one.create("/party")
    get = Future.get

    def interrupted(self: Future[object], timeout: float | None = None) -> object:
        if (
            self.what.startswith(("create /race/", "create /party/", "create /jobs/taken/"))
            and timeout is None
        ):
            raise KeyboardInterrupt
        return get(self, timeout)

    for act in (
        DoubleBarrier(two, "/race", 2).enter,
        Party(two, "/party").join,
        LockingQueue(two, "/jobs").get,
    ):
        monkeypatch.setattr(Future, "get", interrupted)
        with pytest.raises(KeyboardInterrupt):
            act()
        monkeypatch.undo()
    two.sync()
    flush(two)  # the callbacks that remove them have run
    two.set_data("/party")  # answered after the deletes that were sent before it
    for path in ("/race", "/party", "/jobs/taken"):
        assert two.get_children(path) == []


# ---- queues ----------------------------------------------------------------------------------


def test_each_value_of_a_queue_is_taken_once_the_urgent_first(connect: Start) -> None:
    clients = [connect() for _ in range(3)]
    queue = Queue(clients[0], "/jobs")
    queue.put_all([b"%d" % number for number in range(30)])
    queue.put(b"urgent", priority=1)
    assert len(queue) == 31
    assert queue.get() == b"urgent"

    def consume(client: FaaSKeeperClient) -> list[bytes]:
        taken = []
        while (value := Queue(client, "/jobs").get()) is not None:
            taken.append(value)
        return taken

    with ThreadPoolExecutor(3) as pool:
        taken = [value for some in pool.map(consume, clients) for value in some]
    assert sorted(taken) == sorted(b"%d" % number for number in range(30))
    with pytest.raises(ValueError, match="from 0"):
        queue.put(b"", priority=1000)


def test_values_that_may_not_be_put_are_refused(connect: Start) -> None:
    owner, client = connect(), connect()
    owner.create("/jobs", acl=[(READ, "world", "anyone")])
    with pytest.raises(NoAuthException):
        Queue(client, "/jobs").put_all([b"a", b"b"])
    assert len(Queue(client, "/jobs")) == 0


def test_a_consumer_waits_for_a_value(connect: Start) -> None:
    one, two = connect(), connect()
    assert Queue(one, "/jobs").get(0.01) is None
    with ThreadPoolExecutor(1) as pool:
        value = pool.submit(Queue(one, "/jobs").get, 60)
        Queue(two, "/jobs").put(b"late")
        assert value.result(PATIENCE_S) == b"late"


def test_what_a_producer_put_before_it_died_is_there(service: Service) -> None:
    one, two = service.client(), service.client()
    Queue(one, "/jobs").put(b"left behind")
    die(service, one)
    assert Queue(two, "/jobs").get() == b"left behind"


def test_the_value_of_a_consumer_that_dies_goes_to_another(service: Service) -> None:
    one, two = service.client(), service.client()
    first, second = LockingQueue(one, "/jobs"), LockingQueue(two, "/jobs")
    first.put_all([b"a"])
    assert first.get(PATIENCE_S) == b"a"
    assert first.get(PATIENCE_S) == b"a"  # it is held still
    assert second.get(0.01) is None
    with ThreadPoolExecutor(1) as pool:
        other = pool.submit(second.get, 60)
        die(service, one)
        assert other.result(PATIENCE_S) == b"a"
    assert second.consume()
    assert second.get(0.01) is None
    with pytest.raises(ValueError, match="no value is held"):
        second.consume()


def test_a_value_that_is_not_held_any_more_cannot_be_consumed(service: Service) -> None:
    one, two = service.client(), service.client()
    first, second = LockingQueue(one, "/jobs"), LockingQueue(two, "/jobs")
    first.put(b"a")
    assert first.get(PATIENCE_S) == b"a"
    one.start()  # another session, the mark went with the one before
    assert second.get(PATIENCE_S) == b"a"
    assert not first.holds
    assert first.consume() is False
    second.release()
    assert first.get(PATIENCE_S) == b"a"
    assert first.consume() is True


# ---- parties ---------------------------------------------------------------------------------


def test_a_member_that_dies_is_one_no_more(service: Service) -> None:
    clients = [service.client() for _ in range(3)]
    parties = [Party(client, "/party", f"c{number}") for number, client in enumerate(clients)]
    assert list(parties[0]) == []
    assert len(parties[0]) == 0
    for party in parties:
        party.join()
        party.join()
    assert list(parties[0]) == ["c0", "c1", "c2"]
    die(service, clients[1])
    clients[0].create("/after")  # answered after the close that was sent before it
    assert list(parties[0]) == ["c0", "c2"]
    assert len(parties[0]) == 2
    parties[0].leave()
    assert list(parties[2]) == ["c2"]
    clients[2].start()
    assert not parties[2].joined
    parties[2].join()
    assert parties[2].joined


# ---- watches that renew themselves -----------------------------------------------------------


def test_a_data_watch_shows_what_is_there_and_every_change_of_it(service: Service) -> None:
    one, two = service.client(), service.client()
    shown: SimpleQueue[Any] = SimpleQueue()
    DataWatch(one, "/n", lambda data, stat: shown.put(data))
    assert shown.get(timeout=PATIENCE_S) is None
    two.create("/n", b"1", ephemeral=True)
    assert shown.get(timeout=PATIENCE_S) == b"1"
    two.set_data("/n", b"2")
    assert shown.get(timeout=PATIENCE_S) == b"2"
    die(service, two)
    assert shown.get(timeout=PATIENCE_S) is None


def test_a_data_watch_goes_on_in_the_clients_next_session(service: Service) -> None:
    one, two = service.client(), service.client()
    two.create("/n", b"1")
    shown: SimpleQueue[Any] = SimpleQueue()

    @partial(DataWatch, one, "/n")
    def watch(data: bytes | None, stat: object) -> bool | None:
        shown.put(data)
        return data != b"last"

    assert shown.get(timeout=PATIENCE_S) == b"1"
    one.start()
    two.set_data("/n", b"2")
    while shown.get(timeout=PATIENCE_S) != b"2":
        pass
    two.set_data("/n", b"last")
    assert shown.get(timeout=PATIENCE_S) == b"last"
    two.set_data("/n", b"not shown")
    one.sync()
    flush(one)
    assert shown.empty()
    assert isinstance(watch, DataWatch)


def test_a_children_watch_shows_members_come_and_die_until_the_node_is_gone(service: Service) -> None:
    one, two = service.client(), service.client()
    with pytest.raises(NodeDoesntExistException):
        ChildrenWatch(one, "/p", print)
    one.create("/p")
    shown: SimpleQueue[Any] = SimpleQueue()
    ChildrenWatch(one, "/p", shown.put)
    assert shown.get(timeout=PATIENCE_S) == []
    two.create("/p/a", ephemeral=True)
    assert shown.get(timeout=PATIENCE_S) == ["a"]
    die(service, two)
    assert shown.get(timeout=PATIENCE_S) == []
    one.delete("/p")
    one.create("/p/again", makepath=True)
    one.sync()
    flush(one)
    assert shown.empty()


def test_a_function_that_fails_does_not_end_its_watch(service: Service) -> None:
    one, two = service.client(), service.client()
    two.create("/p")
    told = threading.Event()

    def fails(names: list[str]) -> None:
        if names == ["a"]:
            raise RuntimeError("a bug of the user")
        if names == ["a", "b"]:
            told.set()

    ChildrenWatch(one, "/p", fails)
    two.create("/p/a")
    one.sync()
    flush(one)
    two.create("/p/b")
    assert told.wait(PATIENCE_S)
