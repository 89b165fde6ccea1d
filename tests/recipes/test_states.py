"""Recipes whose session is suspended, lost, begun anew; a service out of reach; threads that meet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest

from faaskeeper.aio.recipes import watchers as aio_watchers
from faaskeeper.client import FaaSKeeperClient, Future, SessionState
from faaskeeper.core.errors import Unavailable
from faaskeeper.exceptions import FaaSKeeperException, ProviderException, SessionExpiredException
from faaskeeper.recipes import (
    DataWatch,
    DoubleBarrier,
    Election,
    Lock,
    LockingQueue,
    Party,
    ReadLock,
    Semaphore,
    WriteLock,
    watchers,
)
from faaskeeper.recipes.rules import contender
from faaskeeper.recipes.rules import waiting as waits
from faaskeeper.testing.conformance.blocking import BlockingClient
from faaskeeper.testing.patience import PATIENCE_S
from tests.client.test_session import Service, flush, session_of
from tests.recipes.test_recipes import waiting

Start = Callable[..., FaaSKeeperClient]

LOCKS: list[Callable[..., Lock]] = [
    lambda *args, **more: Lock(*args, **more),
    lambda *args, **more: WriteLock(*args, **more),
    lambda *args, **more: ReadLock(*args, **more),
    lambda client, path, **more: Semaphore(client, path, 1, **more),
]


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What looks again every second looks again at once."""
    for module in (waits, contender):
        monkeypatch.setattr(module, "LOOK_S", 0.01)
    for shell in (watchers, aio_watchers):
        monkeypatch.setattr(shell, "AGAIN_S", 0.01)


class Unreachable:
    """In place of a store or a queue."""

    ordered = True
    max_message_bytes = 1 << 30

    def __getattr__(self, name: str) -> Any:
        def called(*args: object, **more: object) -> None:
            raise Unavailable("no answer")

        return called


@contextmanager
def out_of_reach(client: FaaSKeeperClient, *parts: str) -> Iterator[None]:
    """Parts of the service do not answer this client; afterwards it sends again what was not answered."""
    connection, session = client._connection, session_of(client)
    assert connection is not None
    before = {part: getattr(connection, part) for part in parts}
    for part in parts:
        setattr(connection, part, Unreachable())
    yield
    for part, value in before.items():
        setattr(connection, part, value)
    session.renew()
    acked = session.outbox.acked
    if isinstance(client, BlockingClient):
        client.in_loop(lambda: session.sender.resend(session.outbox.resend(acked + 1)))
    elif again := session.outbox.resend(acked + 1):
        session._sender.send(again, acked)


QUEUES = ("worker_queue", "prompt_queue", "leases")


def suspend(client: FaaSKeeperClient) -> None:
    """One renewal of the lease fails, one succeeds."""
    with out_of_reach(client, "leases"):
        session_of(client).renew()
        assert client.state is SessionState.SUSPENDED
        flush(client)


def lose(service: Service, client: FaaSKeeperClient) -> None:
    """The session runs out; the others' do not."""
    service.clock.now += 60_000
    for other in service.clients:
        if other is not client:
            session_of(other).renew()
    assert service.embedded.heartbeat.expire() == [session_of(client).id]
    session_of(client).renew()
    assert client.state is SessionState.LOST


def nodes(client: FaaSKeeperClient, path: str) -> list[str]:
    client.sync()
    return [node.path for node in client.get_children(path)]


def settle(client: FaaSKeeperClient) -> None:
    """What was asked for without waiting is done, callbacks and what they ask for, too."""
    for _ in range(3):
        client.exists_async("/").get(30)
        flush(client)
        client.set_data("/")


# ---- locks -----------------------------------------------------------------------------------


@pytest.mark.parametrize("make_lock", LOCKS)
def test_a_lock_is_acquired_again_after_its_session_was_suspended(
    service: Service, make_lock: Callable[..., Lock]
) -> None:
    client, other = service.client(), service.client()
    losses: list[int] = []
    lock = make_lock(client, "/lock", on_loss=lambda: losses.append(1))
    for _ in range(3):
        losses.clear()
        assert lock.acquire(30)
        token = lock.token
        suspend(client)
        assert not lock.held
        assert losses == [1]
        assert lock.acquire(30)
        assert lock.token == token  # nobody came in between
        assert len(nodes(other, "/lock")) == 1
        lock.release()
        assert not lock.held
        assert nodes(other, "/lock") == []


@pytest.mark.parametrize("make_lock", LOCKS)
def test_a_lock_that_was_lost_with_its_session_is_acquired_in_the_next(
    service: Service, make_lock: Callable[..., Lock]
) -> None:
    client, other = service.client(), service.client()
    lock = make_lock(client, "/lock")
    assert lock.acquire(30)
    token = lock.token
    lose(service, client)
    with pytest.raises(SessionExpiredException):
        lock.acquire(30)
    lock.release()
    client.start()
    assert not lock.held
    assert lock.acquire(30)
    assert lock.token > token
    client.start()  # in order, by the same user
    assert not lock.held
    assert lock.acquire(30)
    assert len(nodes(other, "/lock")) == 1
    lock.release()
    assert nodes(other, "/lock") == []


def test_a_lock_released_while_the_service_is_out_of_reach_goes_when_it_is_reached(service: Service) -> None:
    client, other = service.client(), service.client()
    lock, next_ = Lock(client, "/lock"), Lock(other, "/lock")
    assert lock.acquire(30)
    with out_of_reach(client, *QUEUES):
        lock.release()
        assert not lock.held
        assert lock.acquire(0.02) is False  # as does one that is to be acquired
        assert lock.acquire(0.02) is False
    assert next_.acquire(30)
    settle(client)
    assert len(nodes(other, "/lock")) == 1
    next_.release()
    assert lock.acquire(30)
    lock.release()
    assert nodes(other, "/lock") == []


def test_a_lock_whose_session_stays_suspended_is_not_acquired(service: Service) -> None:
    client, other = service.client(), service.client()
    lock = Lock(client, "/lock")
    assert lock.acquire(30)
    with out_of_reach(client, "leases"):
        session_of(client).renew()
        assert lock.acquire(0.05) is False
    settle(client)
    assert nodes(other, "/lock") == []
    assert lock.acquire(30)
    lock.release()


def test_who_waits_gets_the_lock_though_nobody_tells_that_its_lease_was_renewed(service: Service) -> None:
    holder, client = service.client(), service.client()
    first, second = Lock(holder, "/lock"), Lock(client, "/lock")
    assert first.acquire(30)
    with ThreadPoolExecutor(1) as pool:
        acquired = pool.submit(second.acquire, 60)
        waiting(holder, "/lock", 2)
        service.clock.now += 60_000  # the process of the one that waits was stopped, say
        assert client.state is SessionState.SUSPENDED
        session_of(holder).renew()
        first.release()
        flush(client)  # it was woken
        session_of(client).renew()
        assert acquired.result(PATIENCE_S)
    second.release()


def test_who_waits_goes_on_when_the_service_is_reached_again(service: Service) -> None:
    holder, client = service.client(), service.client()
    first, second = Lock(holder, "/lock"), Lock(client, "/lock")
    assert first.acquire(30)
    with ThreadPoolExecutor(1) as pool:
        acquired = pool.submit(second.acquire, 60)
        pause = threading.Event()
        while not session_of(client).rules._watches:  # it looked, and waits
            pause.wait(0.01)
        with out_of_reach(client, "leases", "records"):
            session_of(client).renew()
            flush(client)
            first.release()
            flush(client)
            assert not acquired.done()
        assert acquired.result(PATIENCE_S)
    second.release()


def test_a_contender_whose_node_somebody_deleted_says_so(service: Service) -> None:
    holder, client = service.client(), service.client()
    first, second = Lock(holder, "/lock"), Lock(client, "/lock")
    assert first.acquire(30)
    with ThreadPoolExecutor(1) as pool:
        acquired = pool.submit(second.acquire, 60)
        waiting(holder, "/lock", 2)
        with holder.transaction() as transaction:
            for node in nodes(holder, "/lock"):
                transaction.delete(node)
        with pytest.raises(SessionExpiredException, match="a client has deleted it"):
            acquired.result(PATIENCE_S)
    assert second.acquire(30)
    second.release()


def test_a_place_that_somebody_deleted_while_the_session_was_suspended_is_taken_anew(
    service: Service,
) -> None:
    client, other = service.client(), service.client()
    lock = Lock(client, "/lock")
    assert lock.acquire(30)
    token = lock.token
    suspend(client)
    other.delete(nodes(other, "/lock")[0])
    assert lock.acquire(30)
    assert lock.token > token
    lock.release()
    assert nodes(other, "/lock") == []


@pytest.mark.threads
def test_a_create_that_is_interrupted_before_anybody_has_its_future_leaves_no_node(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, other = service.client(), service.client()
    LockingQueue(other, "/jobs").put(b"a")
    LockingQueue(other, "/jobs").get(0)
    create = client.create_async

    def interrupted(*args: Any, **more: Any) -> Any:
        create(*args, **more)
        raise KeyboardInterrupt

    other.create("/race")
    other.create("/party")
    other.create("/lock")
    for node in nodes(other, "/jobs/taken"):
        other.delete(node)
    for act in (
        Lock(client, "/lock").acquire,
        DoubleBarrier(client, "/race", 2).enter,
        Party(client, "/party").join,
        LockingQueue(client, "/jobs").get,
    ):
        monkeypatch.setattr(client, "create_async", interrupted)
        with pytest.raises(KeyboardInterrupt):
            act()
        monkeypatch.undo()
    settle(client)
    for path in ("/lock", "/race", "/party", "/jobs/taken"):
        assert nodes(other, path) == []


class Interrupted:
    """A client whose thread is interrupted at the ``at``-th call: before it, or after it."""

    def __init__(self, client: FaaSKeeperClient, at: int, after: bool) -> None:
        self._client = client
        self._calls = iter(range(at + 1))
        self._at = at
        self._after = after

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def called(*args: Any, **more: Any) -> Any:
            interrupt = next(self._calls, None) == self._at
            if interrupt and not self._after:
                raise KeyboardInterrupt
            result = found(*args, **more)
            if interrupt:
                raise KeyboardInterrupt
            return result

        return called


@pytest.mark.threads
@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("make_lock", LOCKS[::3])
def test_a_thread_that_is_interrupted_at_any_call_leaves_no_node(
    service: Service, make_lock: Callable[..., Lock], held: bool, after: bool
) -> None:
    client, other = service.client(), service.client()
    holder = make_lock(other, "/lock")
    other.create("/lock")
    at = 0
    while True:
        if held:
            assert holder.acquire(30)
        lock = make_lock(Interrupted(client, at, after), "/lock")
        try:
            assert lock.acquire(0.01 if held else 30) is not held
            lock.release()
        except KeyboardInterrupt:
            settle(client)
            assert len(nodes(other, "/lock")) == held, f"interrupted at call {at}"
            assert not lock.held
            holder.release()
            at += 1
            continue
        break
    assert at > (6 if held else 4)
    assert len(nodes(other, "/lock")) == held


@pytest.mark.threads
def test_a_node_that_nobody_waits_for_is_looked_for_until_the_store_answers(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    client, other = service.client(), service.client()
    other.create("/lock")
    create, look, looks = client.create_async, client.get_children_async, threading.Semaphore(0)
    failures = iter([ProviderException("no answer"), ProviderException("no answer")])

    def interrupted(*args: Any, **more: Any) -> Any:
        create(*args, **more).get()
        raise KeyboardInterrupt

    def looked(path: str) -> Any:
        future = look(path)
        if (error := next(failures, None)) is not None:
            future = Future("read", run=lambda call: client.call_later(call))
            future.set_exception(error)
        looks.release()
        return future

    monkeypatch.setattr(client, "create_async", interrupted)
    monkeypatch.setattr(client, "get_children_async", looked)
    with pytest.raises(KeyboardInterrupt):
        Lock(client, "/lock").acquire()
    for _ in range(3):
        assert looks.acquire(timeout=60)
    settle(client)
    assert nodes(other, "/lock") == []


def test_one_lock_is_one_contender_s_and_other_threads_are_refused_at_once(service: Service) -> None:
    holder, client = service.client(), service.client()
    first, lock = Lock(holder, "/lock"), Lock(client, "/lock")
    assert first.acquire(30)
    with ThreadPoolExecutor(1) as pool:
        acquired = pool.submit(lock.acquire, 60)
        waiting(holder, "/lock", 2)
        with pytest.raises(FaaSKeeperException, match=r"create one for each (thread|task)"):
            lock.acquire()
        assert len(nodes(holder, "/lock")) == 2
        first.release()
        assert acquired.result(PATIENCE_S)
        with pytest.raises(FaaSKeeperException, match="not re-entrant"):
            lock.acquire()
    lock.check()
    lock.release()
    assert nodes(holder, "/lock") == []


def test_threads_that_use_one_lock_at_random_leave_no_node_and_none_waits_for_ever(connect: Start) -> None:
    client, other = connect(), connect()
    lock = Lock(client, "/lock")
    held: list[int] = []

    def work(number: int) -> None:
        rounds = 0
        while rounds < 20 or (number == 0 and not held):  # the others' releases may end every wait
            rounds += 1
            try:
                if lock.acquire(30):
                    held.append(1)
            except FaaSKeeperException:
                pass  # another is at it
            lock.release()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    lock.release()
    assert held
    assert nodes(other, "/lock") == []
    assert lock.acquire(30)
    lock.release()


def test_a_lock_released_by_another_thread_is_waited_for_no_more(service: Service) -> None:
    holder, client = service.client(), service.client()
    first, lock = Lock(holder, "/lock"), Lock(client, "/lock")
    assert first.acquire(30)
    with ThreadPoolExecutor(1) as pool:
        acquired = pool.submit(lock.acquire)
        waiting(holder, "/lock", 2)
        lock.release()
        assert acquired.result(PATIENCE_S) is False
    assert len(nodes(holder, "/lock")) == 1
    first.release()
    assert lock.acquire(30)
    lock.release()


@pytest.mark.threads
def test_a_callback_is_told_that_it_must_not_wait_for_another(service: Service) -> None:
    holder, client = service.client(), service.client()
    first = Lock(holder, "/lock")
    assert first.acquire(30)
    errors: list[BaseException] = []

    def callback() -> None:
        try:
            Lock(client, "/lock").acquire()
        except FaaSKeeperException as error:
            errors.append(error)

    session_of(client).call_later(callback)
    flush(client)
    assert ["must not wait" in str(each) for each in errors] == [True]
    assert len(nodes(holder, "/lock")) == 1
    first.release()
    session_of(client).call_later(callback)  # which need not wait now
    flush(client)
    assert len(errors) == 1


def test_a_lost_lock_may_be_released_where_its_loss_is_told(service: Service) -> None:
    client, other = service.client(), service.client()
    lock: Lock = Lock(client, "/lock", on_loss=lambda: lock.release())
    assert lock.acquire(30)
    suspend(client)
    settle(client)
    assert nodes(other, "/lock") == []
    assert lock.acquire(30)
    lock.release()


def test_one_election_is_one_candidate_s(service: Service) -> None:
    client = service.client()
    election = Election(client, "/leader")
    leading, stop = threading.Event(), threading.Event()

    def lead(_: Election) -> None:
        leading.set()
        assert stop.wait(PATIENCE_S)

    with ThreadPoolExecutor(1) as pool:
        led = pool.submit(election.run, lead)
        assert leading.wait(PATIENCE_S)
        with pytest.raises(FaaSKeeperException, match=r"create one for each (thread|task)"):
            election.run(lead)
        assert election.leading
        stop.set()
        assert led.result(PATIENCE_S)
    assert election.run(lead)
    assert nodes(client, "/leader") == []


# ---- others ----------------------------------------------------------------------------------


def test_a_consumer_goes_on_with_its_value_after_its_session_was_suspended(service: Service) -> None:
    client, other = service.client(), service.client()
    queue = LockingQueue(client, "/jobs")
    queue.put_all([b"a", b"b"])
    assert queue.get(30) == b"a"
    suspend(client)
    assert queue.get(30) == b"a"
    with out_of_reach(client, "leases"):
        session_of(client).renew()
        assert not queue.holds
        assert queue.get(0) == b"a"
        assert len(nodes(other, "/jobs/taken")) == 1
    assert queue.holds
    assert queue.consume()
    assert queue.get(30) == b"b"
    with out_of_reach(client, *QUEUES):
        queue.release()
    settle(client)
    assert nodes(other, "/jobs/taken") == []
    assert queue.get(30) == b"b"
    other.delete(nodes(other, "/jobs/entries")[0])
    assert queue.consume() is False
    assert nodes(other, "/jobs/taken") == []


def test_a_consumer_of_a_session_that_is_over_gives_no_other_s_value_back(service: Service) -> None:
    client, other = service.client(), service.client()
    queue, next_ = LockingQueue(client, "/jobs"), LockingQueue(other, "/jobs")
    queue.put(b"a")
    assert queue.get(30) == b"a"
    client.start()
    assert next_.get(30) == b"a"
    queue.release()
    assert queue.get(0) is None
    assert next_.consume()


@pytest.mark.threads
def test_one_queue_s_object_is_one_consumer_s(service: Service) -> None:
    client = service.client()
    queue = LockingQueue(client, "/jobs")
    client.create("/jobs/taken", makepath=True)
    reads = threading.Event()
    get_children = client.get_children

    def told(*args: Any, **more: Any) -> Any:
        reads.set()
        return get_children(*args, **more)

    client.get_children = told  # type: ignore[method-assign]
    with ThreadPoolExecutor(1) as pool:
        value = pool.submit(queue.get, 60)
        assert reads.wait(PATIENCE_S)
        with pytest.raises(FaaSKeeperException, match=r"create one for each (thread|task)"):
            queue.get(0)
        queue.put(b"a")
        assert value.result(PATIENCE_S) == b"a"
    assert queue.consume()


def test_a_member_is_one_whatever_happens_to_its_session(service: Service) -> None:
    client, other = service.client(), service.client()
    party = Party(client, "/party", "me")
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: party.join(), range(4)))
    suspend(client)
    party.join()
    assert list(Party(other, "/party")) == ["me"]
    lose(service, client)
    client.start()
    assert not party.joined
    party.join()
    assert party.joined
    with out_of_reach(client, *QUEUES):
        party.leave()
    settle(client)
    assert nodes(other, "/party") == []


def test_a_participant_comes_again_in_its_next_session(service: Service) -> None:
    client = service.client()
    barrier = DoubleBarrier(client, "/race", 1)
    assert barrier.enter(30)
    with pytest.raises(ValueError, match="has already entered"):
        barrier.enter(30)
    lose(service, client)
    client.start()
    assert barrier.enter(30)
    assert barrier.leave(30)
    assert [path for path in nodes(client, "/race") if not path.endswith("/ready")] == []


def test_a_watcher_that_could_not_read_once_reads_again(service: Service) -> None:
    client, other = service.client(), service.client()
    other.create("/n", b"1")
    seen: list[bytes | None] = []
    later = threading.Event()

    def show(data: bytes | None, _: object) -> None:
        seen.append(data)
        if data == b"2":
            later.set()

    watcher = DataWatch(client, "/n", show)
    connection = client._connection
    assert connection is not None
    records = connection.records
    failed = threading.Event()

    class Once:
        def get(self, path: str) -> Any:
            if path == "/n" and not failed.is_set():
                failed.set()
                raise Unavailable("no answer")
            return records.get(path)

        def __getattr__(self, name: str) -> Any:
            return getattr(records, name)

    connection.records = Once()  # type: ignore[assignment]
    other.set_data("/n", b"2")
    assert later.wait(PATIENCE_S)
    assert failed.is_set()
    assert seen == [b"1", b"2"]
    watcher.stop()


@pytest.mark.threads
@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt, ValueError])
def test_what_a_callback_raises_ends_no_other_callback(service: Service, error: type[BaseException]) -> None:
    client = service.client()

    def fail() -> None:
        raise error

    session_of(client).call_later(fail)
    flush(client)
