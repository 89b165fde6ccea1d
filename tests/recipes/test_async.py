"""What is particular to recipes for asyncio: cancellation, tasks that meet, coroutine functions,
iterators.

Here every read runs in a thread, so that each is a step at which a task may be cancelled.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Generator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.aio import AsyncClient, SessionState
from faaskeeper.aio.recipes import (
    Barrier,
    ChildrenWatch,
    Counter,
    DataWatch,
    DoubleBarrier,
    Election,
    Lock,
    LockingQueue,
    LockLost,
    Party,
    Queue,
    Semaphore,
)
from faaskeeper.aio.recipes import watchers as aio_watchers
from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NodeDoesntExistException,
    ProviderException,
    SessionClosingException,
)
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.recipes.rules import contender
from faaskeeper.recipes.rules import waiting as waits
from tests.bare import Clock
from tests.recipes.test_states import QUEUES, Unreachable

SOON_S = 120.0


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (waits, contender):
        monkeypatch.setattr(module, "LOOK_S", 0.01)
    monkeypatch.setattr(aio_watchers, "AGAIN_S", 0.01)


class AsyncService:
    """An embedded service whose clock stands, and two clients that do not renew by themselves."""

    def __init__(self, config: Config, directory: Path) -> None:
        self.config = config
        self.clock = Clock()
        self.embedded = EmbeddedService(config, directory, clock=self.clock, steady=self.clock, beat=False)

    def client(self) -> AsyncClient:
        def connect(config: Config, port: int) -> Connection:
            connection = self.embedded.connection(0, lambda: None)
            connection.within = None
            return connection

        return AsyncClient(self.config, heartbeat=False, connect=connect)

    @asynccontextmanager
    async def clients(self) -> AsyncIterator[tuple[AsyncClient, AsyncClient]]:
        try:
            async with self.client() as one, self.client() as two:
                yield one, two
        finally:
            await asyncio.to_thread(self.embedded.stop)


Test = Callable[[AsyncClient, AsyncClient], Awaitable[None]]
Perform = Callable[[Test], None]


@pytest.fixture
def perform(config: Config, tmp_path: Path) -> Perform:
    """Performs a test with two clients of one service."""

    async def performed(test: Test) -> None:
        async with (
            AsyncService(config, tmp_path / "stands").clients() as (one, two),
            asyncio.timeout(SOON_S),
        ):
            await test(one, two)

    return lambda test: asyncio.run(performed(test))


def session_of(client: AsyncClient) -> Any:
    assert client._session is not None
    return client._session


@asynccontextmanager
async def out_of_reach(client: AsyncClient, *parts: str) -> AsyncIterator[None]:
    """Parts of the service do not answer this client; then it sends again what is unanswered."""
    session = session_of(client)
    before = {part: getattr(session.connection, part) for part in parts}
    for part in parts:
        setattr(session.connection, part, Unreachable())
    yield
    for part, value in before.items():
        setattr(session.connection, part, value)
    await session.renew()
    while session.sender.sending:
        await asyncio.sleep(0)
    session.sender.resend(session.outbox.resend(session.outbox.acked + 1))


async def suspend(client: AsyncClient) -> None:
    async with out_of_reach(client, "leases"):
        await session_of(client).renew()
        assert client.state is SessionState.SUSPENDED
        await called(client)


async def called(client: AsyncClient) -> None:
    """Callbacks that are due have been called."""
    done = asyncio.Event()
    session_of(client).call_later(done.set)
    await done.wait()


async def settle(client: AsyncClient) -> None:
    """What was asked for without waiting is done, callbacks and what they ask for, too."""
    for _ in range(4):
        await client.set_data("/")
        await called(client)
        await client.exists("/")


async def names(client: AsyncClient, path: str) -> list[str]:
    await client.sync()
    return [node.path for node in await client.get_children(path)]


async def queued(client: AsyncClient, path: str, many: int) -> None:
    """Wait until a node has so many children."""
    while True:
        changed = asyncio.Event()
        node = await client.exists(path, lambda event, changed=changed: changed.set())
        if node is not None:
            found = await client.get_children(path, watch=lambda event, changed=changed: changed.set())
            if len(found) == many:
                return
        await changed.wait()


# ---- cancellation ----------------------------------------------------------------------------


class Cancelled:
    """Awaits a coroutine, and cancels the task at its ``at``-th suspension, and at ``times`` - 1
    after it.

    ``late``: once that is done which it waits for, but before it goes on.
    """

    def __init__(self, coroutine: Coroutine[Any, Any, Any], at: int, times: int, late: bool) -> None:
        self._coroutine = coroutine
        self._cancels = range(at, at + times)
        self._late = late
        self.steps = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        error: BaseException | None = None
        while True:
            try:
                if error is None:
                    waits_for = self._coroutine.send(None)
                else:
                    waits_for = self._coroutine.throw(error)
            except StopIteration as done:
                return done.value
            error = None
            task = asyncio.current_task()
            assert task is not None
            if self.steps in self._cancels:
                if self._late and waits_for is not None:
                    waits_for.add_done_callback(lambda _, task=task: task.cancel())
                else:
                    task.cancel()
            self.steps += 1
            try:
                yield waits_for
            except BaseException as raised:
                error = raised


async def cancelled_everywhere(
    client: AsyncClient,
    act: Callable[[int], Coroutine[Any, Any, Any]],
    times: int,
    late: bool,
    between: Callable[[int], Awaitable[None]],
) -> int:
    """Perform an act again and again, cancelled one step later each time, until it is through."""
    at = 0
    while True:
        cancelled = Cancelled(act(at), at, times, late)

        async def performed(cancelled: Cancelled = cancelled) -> Any:
            return await cancelled

        task = asyncio.create_task(performed())
        await asyncio.wait((task,))
        if not task.cancelled():
            assert task.result()
            return at
        await settle(client)
        assert await client.get_ephemerals() == [], f"cancelled at step {at}"
        await between(at)
        at += 1


LIKE_LOCKS: list[Callable[[AsyncClient, str], Lock]] = [Lock, lambda client, path: Semaphore(client, path, 1)]


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("make_lock", LIKE_LOCKS)
def test_a_task_that_is_cancelled_at_any_step_of_acquire_leaves_no_node(
    perform: Perform, make_lock: Callable[[AsyncClient, str], Lock], late: bool, times: int
) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        locks: list[Lock] = []

        def acquire(at: int) -> Coroutine[Any, Any, bool]:
            locks.append(make_lock(client, f"/lock-{at}"))  # a path that has to be made
            return locks[-1].acquire()

        async def between(at: int) -> None:
            assert not locks[-1].held
            async with make_lock(other, f"/lock-{at}"):
                assert len(await names(other, f"/lock-{at}")) == 1

        assert await cancelled_everywhere(client, acquire, times, late, between) > 2
        assert locks[-1].held
        await locks[-1].release()
        assert await client.get_ephemerals() == []

    perform(test)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("late", [False, True])
@pytest.mark.parametrize("make_lock", LIKE_LOCKS)
def test_a_task_that_is_cancelled_while_another_holds_the_lock_leaves_no_node(
    perform: Perform, make_lock: Callable[[AsyncClient, str], Lock], late: bool, times: int
) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        lock, holder = make_lock(client, "/lock"), make_lock(other, "/lock")
        at, done = 0, False
        while not done:
            assert await holder.acquire(SOON_S)
            cancelled = Cancelled(lock.acquire(), at, times, late)

            async def performed(cancelled: Cancelled = cancelled) -> Any:
                return await cancelled

            task = asyncio.create_task(performed())
            both = asyncio.create_task(queued(other, "/lock", 2))
            await asyncio.wait((task, both), return_when=asyncio.FIRST_COMPLETED)
            both.cancel()
            await holder.release()
            await asyncio.wait((task,))
            done = not task.cancelled()
            if not done:
                await settle(client)
                assert await names(other, "/lock") == [], f"cancelled at step {at}"
            at += 1
        assert at > 2  # how often it suspends depends on what was read from memory
        assert lock.held
        await lock.release()

    perform(test)


@pytest.mark.parametrize("late", [False, True])
def test_a_task_that_is_cancelled_while_it_joins_enters_or_takes_leaves_no_node(
    perform: Perform, late: bool
) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        await LockingQueue(other, "/jobs").put(b"a")

        async def nothing(at: int) -> None:
            pass

        party = Party(client, "/party")

        async def join(at: int) -> bool:
            await party.join()
            return True

        barrier, queue = DoubleBarrier(client, "/race", 1), LockingQueue(client, "/jobs")
        for act, undo in (
            (join, party.leave),
            (lambda at: barrier.enter(), barrier.leave),
            (lambda at: queue.get(), queue.release),
        ):
            assert await cancelled_everywhere(client, act, 1, late, nothing) > 1
            await undo()
            assert await client.get_ephemerals() == []

    perform(test)


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("late", [False, True])
def test_a_task_that_is_cancelled_while_it_takes_a_value_leaves_it_in_its_place(
    perform: Perform, late: bool, times: int
) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        queue = Queue(client, "/jobs")
        await Queue(other, "/jobs").put_all([b"a", b"b"])
        before = await names(other, "/jobs")

        async def all_there(at: int) -> None:
            assert await names(other, "/jobs") == before

        assert await cancelled_everywhere(client, lambda at: queue.get(None), times, late, all_there) > 2
        assert await queue.get() == b"b"  # the last of the gets was not cancelled, and has the other

    perform(test)


def test_a_task_cancelled_while_the_service_is_out_of_reach_leaves_no_node_when_it_is_reached(
    perform: Perform,
) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        await other.create("/lock")
        async with out_of_reach(client, *QUEUES):
            task = asyncio.create_task(Lock(client, "/lock").acquire())
            async for state in client.states():
                if state is SessionState.SUSPENDED:  # the create could not be sent
                    break
            task.cancel()
            await asyncio.wait((task,))
            assert task.cancelled()
        await settle(client)
        assert await names(other, "/lock") == []

    perform(test)


def test_a_time_out_around_acquire_leaves_no_node_and_one_around_the_block_gives_the_lock_back(
    perform: Perform,
) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        async with Lock(other, "/lock"):
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.05):
                    await Lock(client, "/lock").acquire()
            assert len(await names(other, "/lock")) == 1
            assert await Lock(client, "/lock").acquire(0.05) is False
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05), Lock(client, "/lock"):
                await asyncio.Event().wait()
        assert await names(other, "/lock") == []

    perform(test)


def test_a_delete_that_fails_does_not_replace_the_cancellation(
    perform: Perform, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        async def fails(path: str, version: int = -1) -> None:
            raise ProviderException("no answer")

        async with Lock(other, "/lock"):
            task = asyncio.create_task(Lock(client, "/lock").acquire())
            await queued(other, "/lock", 2)
            monkeypatch.setattr(client, "delete", fails)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as raised:
                await task
            assert raised.value.__notes__ == ["its node stays until the session ends: no answer"]

    perform(test)


def test_a_lock_whose_release_is_cancelled_is_given_back(perform: Perform) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        lock = Lock(client, "/lock")
        assert await lock.acquire()
        task = asyncio.create_task(lock.release())
        await asyncio.sleep(0)  # it has begun
        task.cancel()
        await asyncio.wait((task,))
        assert not lock.held
        assert await Lock(other, "/lock").acquire(SOON_S)
        await settle(client)
        assert len(await names(other, "/lock")) == 1

    perform(test)


# ---- losing ----------------------------------------------------------------------------------


def test_on_loss_may_be_a_coroutine_function_that_uses_the_client(perform: Perform) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        told = asyncio.Event()

        async def on_loss() -> None:
            await lock.release()
            await client.exists("/lock")
            told.set()

        lock = Lock(client, "/lock", on_loss=on_loss)
        assert await lock.acquire()
        await suspend(client)
        assert not lock.held
        for use in (lock.check, lambda: lock.token):
            with pytest.raises(LockLost):
                use()
        await told.wait()
        assert await names(other, "/lock") == []

    perform(test)


def test_a_task_may_be_cancelled_by_the_loss_of_its_lock(perform: Perform) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        async def work() -> None:
            task = asyncio.current_task()
            assert task is not None
            async with Lock(client, "/lock", on_loss=task.cancel):
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await queued(other, "/lock", 1)
        await client.sync()  # the task has seen its node, too
        while not task.done():
            await suspend(client)
        assert task.cancelled()
        assert await names(other, "/lock") == []

    perform(test)


@pytest.mark.parametrize("coroutine", [False, True])
def test_an_on_loss_that_fails_is_logged_and_called_for_the_next_loss(
    perform: Perform, caplog: pytest.LogCaptureFixture, coroutine: bool
) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        losses: asyncio.Queue[int] = asyncio.Queue()

        def fails() -> None:
            losses.put_nowait(1)
            raise RuntimeError("a bug of the user")

        async def fails_later() -> None:
            fails()

        lock = Lock(client, "/lock", on_loss=fails_later if coroutine else fails)
        for _ in range(2):
            assert await lock.acquire(SOON_S)
            await suspend(client)
            await losses.get()
        await lock.release()
        assert caplog.text.count("RuntimeError: a bug of the user") == 2
        assert client._listeners == []

    perform(test)


def test_a_session_that_ends_wakes_all_who_wait(perform: Perform) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        await LockingQueue(other, "/jobs").put(b"a")
        assert await LockingQueue(other, "/jobs").get() == b"a"
        await Barrier(other, "/gate").create()
        assert await Lock(other, "/lock").acquire()
        waiting = [
            asyncio.create_task(each)
            for each in (
                Lock(client, "/lock").acquire(),
                Barrier(client, "/gate").wait(),
                LockingQueue(client, "/jobs").get(),
                Queue(client, "/values").get(None),
                DoubleBarrier(client, "/race", 2).enter(),
            )
        ]
        await queued(other, "/lock", 2)
        await queued(other, "/race", 1)
        await client.stop()
        for error in await asyncio.gather(*waiting, return_exceptions=True):
            assert isinstance(error, FaaSKeeperException)
        assert await names(other, "/race") == []

    perform(test)


# ---- tasks that meet -------------------------------------------------------------------------


def test_one_object_is_one_participant_s_and_other_tasks_are_refused_at_once(perform: Perform) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        holder, lock, queue = Lock(other, "/lock"), Lock(client, "/lock"), LockingQueue(client, "/jobs")
        assert await holder.acquire()
        acquired = asyncio.create_task(lock.acquire())
        value = asyncio.create_task(queue.get())
        await queued(other, "/lock", 2)
        await queued(other, "/jobs", 2)
        for refused in (lock.acquire, queue.get):
            with pytest.raises(FaaSKeeperException, match="create one for each task"):
                await refused()
        await queue.put(b"a")
        assert await value == b"a"
        await holder.release()
        assert await acquired
        with pytest.raises(FaaSKeeperException, match="not re-entrant"):
            await lock.acquire()
        assert len(await names(other, "/lock")) == 1
        await lock.release()

    perform(test)


def test_tasks_of_one_client_exclude_each_other_and_are_cancelled_at_random(perform: Perform) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        inside: list[int] = []
        counter = Counter(client, "/counter")

        async def work() -> None:
            async with Lock(client, "/lock"):
                inside.append(1)
                assert len(inside) == 1
                try:
                    await counter.add()
                finally:
                    inside.pop()

        tasks = [asyncio.create_task(work()) for _ in range(20)]
        for task in tasks[::3]:
            await queued(other, "/counter", 0)
            task.cancel()
        done = await asyncio.gather(*tasks, return_exceptions=True)
        assert all(each is None or isinstance(each, asyncio.CancelledError) for each in done)
        await settle(client)
        assert await counter.value() >= done.count(None)
        assert await names(other, "/lock") == []

    perform(test)


def test_a_leader_s_function_may_be_a_coroutine_function_and_is_followed_by_the_next(
    perform: Perform,
) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        tokens: list[int] = []
        leading = asyncio.Event()

        async def lead(election: Election) -> None:
            assert election.leading
            tokens.append(election.token)
            leading.set()
            await asyncio.Event().wait()

        first, second = Election(client, "/leader", "one"), Election(other, "/leader", "two")
        led = asyncio.create_task(first.run(lead))
        await leading.wait()
        assert await second.run(lambda election: tokens.append(election.token), timeout=0.02) is False
        following = asyncio.create_task(second.run(lambda election: tokens.append(election.token)))
        await queued(other, "/leader", 2)
        assert await first.contenders() == ["one", "two"]
        led.cancel()
        assert await following
        assert not first.leading
        assert len(tokens) == 2
        assert tokens[0] < tokens[1]

    perform(test)


# ---- watches ---------------------------------------------------------------------------------


def test_a_data_watch_is_an_iterator_that_ends_by_what_ended_the_session(perform: Perform) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        seen: list[bytes | None] = []

        async def watch() -> None:
            async for data, _ in DataWatch(client, "/n"):
                seen.append(data)
                if data is None and len(seen) == 1:
                    await other.create("/n", b"1")
                elif data == b"1":
                    await other.set_data("/n", b"2")
                elif data == b"2":
                    await other.delete("/n")
                else:
                    await client.stop()

        with pytest.raises(SessionClosingException):
            await watch()
        assert seen == [None, b"1", b"2", None]
        assert client._listeners == []

    perform(test)


def test_a_children_watch_ends_when_the_node_is_gone(perform: Perform) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        with pytest.raises(NodeDoesntExistException):
            async for _ in ChildrenWatch(client, "/p"):
                pass
        await other.create("/p")
        seen: list[list[str]] = []
        async for names in ChildrenWatch(client, "/p"):
            seen.append(names)
            if not names and len(seen) == 1:
                await other.create("/p/a")
            elif names:
                await other.delete("/p/a")
            else:
                await other.delete("/p")
        assert seen == [[], ["a"], []]

    perform(test)


def test_a_watch_with_a_coroutine_function_goes_on_until_it_returns_false(
    perform: Perform, caplog: pytest.LogCaptureFixture
) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        seen: asyncio.Queue[bytes | None] = asyncio.Queue()

        async def show(data: bytes | None, stat: object) -> bool:
            await client.exists("/n")
            seen.put_nowait(data)
            if data == b"wrong":
                raise RuntimeError("a bug of the user")
            return data != b"last"

        watch = DataWatch(client, "/n", show)
        await watch.start()
        with pytest.raises(ValueError, match="has been started"):
            await watch.start()
        assert await seen.get() is None
        await other.create("/n", b"wrong")
        assert await seen.get() == b"wrong"
        await client.stop()
        await client.start()  # it goes on in the next session
        await other.set_data("/n", b"last")
        while await seen.get() != b"last":
            pass
        await other.set_data("/n", b"not shown")
        await settle(client)
        assert seen.empty()
        assert "a bug of the user" in caplog.text
        with pytest.raises(ValueError, match="without a function"):
            await DataWatch(client, "/n").start()

    perform(test)


def test_a_watch_calls_its_function_inside_its_block_only(perform: Perform) -> None:
    async def test(client: AsyncClient, other: AsyncClient) -> None:
        await other.create("/p")
        seen: asyncio.Queue[list[str]] = asyncio.Queue()
        async with ChildrenWatch(client, "/p", seen.put_nowait):
            assert await seen.get() == []
            await other.create("/p/a")
            assert await seen.get() == ["a"]
        await other.create("/p/b")
        await client.sync()
        await settle(client)
        assert seen.empty()
        assert client._listeners == []

    perform(test)
