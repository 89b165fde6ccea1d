"""A session in an event loop: order, events before state, loss, what runs in which thread."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from faaskeeper.aio import AsyncClient, SessionState
from faaskeeper.aio.session import _CALLS
from faaskeeper.core.acl import CREATOR_ALL_ACL
from faaskeeper.core.requests import Epoch, Notification
from faaskeeper.exceptions import (
    FaaSKeeperException,
    MalformedInputException,
    NodeDoesntExistException,
    ProviderException,
    SessionClosingException,
    SessionExpiredException,
    TooLargeException,
    WatchSetFailureException,
)
from faaskeeper.session.registrations import Registrations
from faaskeeper.watch import WatchedEvent
from tests.aio.stage import Stage, at_rest, session_of
from tests.aio.test_cancelling import reached

# ---- order -----------------------------------------------------------------------------------


async def test_requests_of_many_tasks_see_what_was_asked_for_before_them_and_no_more(stage: Stage) -> None:
    async with stage.client() as client:
        await client.create("/n", b"start")
        tasks: list[asyncio.Task[Any]] = []
        for number in range(50):
            tasks.append(asyncio.create_task(client.get_data("/n")))
            tasks.append(asyncio.create_task(client.set_data("/n", b"%d" % number)))
        seen = [(await task).data for task in tasks[::2]]
        assert seen == [b"start", *(b"%d" % number for number in range(49))]
        assert [(await task).stat.version for task in tasks[1::2]] == list(range(1, 51))
        at_rest(client)


async def test_writes_of_many_tasks_are_answered_in_the_order_in_which_they_were_asked_for(
    stage: Stage,
) -> None:
    async with stage.client() as client:
        await client.create("/n")
        answered: list[int] = []
        async with asyncio.TaskGroup() as group:
            for number in range(200):
                task = group.create_task(client.set_data("/n", b"%d" % number))
                task.add_done_callback(lambda _, number=number: answered.append(number))  # type: ignore[misc]
        assert answered == list(range(200))


async def test_ephemerals_are_listed_with_those_that_were_asked_for_just_before(stage: Stage) -> None:
    async with stage.client() as client:
        _, listed = await asyncio.gather(client.create("/e", ephemeral=True), client.get_ephemerals())
        assert listed == ["/e"]


async def test_a_credential_counts_for_what_is_asked_for_after_it(far_stage: Stage) -> None:
    async with far_stage.client() as client:
        await client.create("/n")
        client.add_auth("digest", "one:pw")
        await client.create("/own", acl=CREATOR_ALL_ACL)
        async with far_stage.client() as other:
            with far_stage.hold("records.get") as hold:
                reading = asyncio.create_task(other.get_data("/n"))
                await reached(hold)
                before = asyncio.create_task(other.set_data("/own", b"not yet"))
                await asyncio.sleep(0)
                other.add_auth("digest", "one:pw")
                after = asyncio.create_task(other.set_data("/own", b"now"))
                await asyncio.sleep(0)
            await reading
            with pytest.raises(Exception, match="/own"):
                await before
            assert (await after).stat.version == 1


async def test_a_gap_that_is_found_while_something_is_sent_is_filled_right_after_it(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faaskeeper.session.timing.RESEND_S", 1000.0)
    async with stage.client() as client:
        await client.create("/n")
        session = session_of(client)
        post, resend = session.sender.post, session.sender.resend
        posted: list[object] = []
        found = threading.Event()

        def losing(batch: list[Any]) -> None:
            posted.append(batch)
            if len(posted) == 3:
                assert found.wait(60)
            if len(posted) != 1:
                post(batch)

        def finding(requests: tuple[Any, ...]) -> None:
            resend(requests)
            if requests:
                assert session.sender.sending
                found.set()

        session.sender.post, session.sender.resend = losing, finding  # type: ignore[method-assign]
        tasks = []
        for number in range(1, 4):
            tasks.append(asyncio.create_task(client.set_data("/n", b"%d" % number)))
            while len(posted) < number:
                await asyncio.sleep(0.001)
        assert [(await task).stat.version for task in tasks] == [1, 2, 3]
        at_rest(client)


async def test_a_read_that_could_be_answered_at_once_waits_for_what_was_asked_for_before(
    near_hybrid: Stage,
) -> None:
    stage = near_hybrid
    async with stage.client() as client:
        await client.create("/n", b"0")
        session_of(client)._driver._gave_way = float("inf")
        with stage.hold(stage.sending) as hold:
            writing = asyncio.create_task(client.set_data("/n", b"1"))
            await reached(hold)
            reads = [
                asyncio.create_task(client.get_data("/n")),
                asyncio.create_task(client.exists("/n")),
                asyncio.create_task(client.get_children("/n")),
            ]
            await asyncio.sleep(0)
            assert not any(task.done() for task in reads)
        await writing
        data, found, children = await asyncio.gather(*reads)
        assert (data.data, found.stat.version, children) == (b"1", 1, [])  # type: ignore[union-attr]
        with stage.hold("blobs.put") as hold:
            writing = asyncio.create_task(client.set_data("/n", b"x" * 200_000))
            await reached(hold)
            reading = asyncio.create_task(client.get_data("/n"))
            await asyncio.sleep(0)
            assert not reading.done()
        await writing
        assert len((await reading).data) == 200_000


async def test_a_listed_child_s_stat_is_not_read_and_the_error_says_what_reads_it(near_stage: Stage) -> None:
    async with near_stage.client() as client:
        await client.create("/p")
        (child,) = [node for node in await client.get_children("/") if node.path == "/p"]
        with pytest.raises(FaaSKeeperException, match=r"/p was not read: exists\(\) reads it"):
            _ = child.stat
        assert [node.stat.version for node in await client.get_children("/", include_data=True)] == [0, 0]


# ---- events ----------------------------------------------------------------------------------


async def test_a_read_that_finds_a_node_deleted_raises_after_the_event_that_says_so(stage: Stage) -> None:
    async with stage.client() as client, stage.client() as other:
        for _ in range(20):
            await client.create("/n")
            await other.sync()
            events: list[WatchedEvent] = []
            await other.get_data("/n", events.append)
            deleting = asyncio.create_task(client.delete("/n"))
            while True:
                try:
                    await other.get_data("/n")
                except NodeDoesntExistException:
                    assert [str(each.event_type) for each in events] == ["NodeDeleted"]
                    break
                assert events == []
                await asyncio.sleep(0)
            await deleting


async def test_no_read_shows_what_an_event_announces_before_the_event(stage: Stage) -> None:
    async with stage.client() as client, stage.client() as other:
        await client.create("/n", b"0")
        await other.sync()
        for number in range(1, 50):
            events: list[WatchedEvent] = []
            await other.get_data("/n", events.append)
            setting = asyncio.create_task(client.set_data("/n", b"%d" % number))
            while True:
                read = await other.get_data("/n")
                assert (read.data == b"%d" % number) == bool(events)
                if events:
                    break
                await asyncio.sleep(0)
            await setting


@pytest.mark.parametrize(
    "error", [ValueError("left"), asyncio.CancelledError("left")], ids=["error", "cancelled"]
)
async def test_what_a_callback_raises_is_logged_and_the_next_is_called(
    stage: Stage, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> None:
        raise error

    async with stage.client() as client, stage.client() as other:
        await client.create("/n")
        await other.sync()
        heard = asyncio.Event()
        await other.get_data("/n", fail)
        await other.exists("/n", lambda event: heard.set())
        other.add_listener(fail)
        session_of(other)._become(SessionState.SUSPENDED)
        await client.set_data("/n", b"1")
        while (await other.get_data("/n")).data != b"1":
            await asyncio.sleep(0)
        assert heard.is_set()
        assert "left" in caplog.text
        other.remove_listener(fail)


async def test_a_callback_may_ask_the_client_by_a_task(stage: Stage) -> None:
    async with stage.client() as client:
        await client.create("/n", b"0")
        finished = asyncio.Event()
        tasks: list[asyncio.Task[None]] = []

        def changed(_: object) -> None:
            tasks.append(asyncio.create_task(follow()))

        async def follow() -> None:
            node = await client.get_data("/n", changed)
            if node.data == b"5":
                finished.set()
            else:
                await client.set_data("/n", b"%d" % (int(node.data) + 1))

        await follow()
        await finished.wait()
        await asyncio.gather(*tasks)


async def test_coroutine_functions_are_refused_as_callbacks(near_stage: Stage) -> None:
    async def callback(_: object) -> None: ...

    async with near_stage.client() as client:
        asks: list[Callable[[], Awaitable[object]]] = [
            lambda: client.get_data("/", callback),  # type: ignore[arg-type]
            lambda: client.exists("/", callback),  # type: ignore[arg-type]
            lambda: client.get_children("/", watch=callback),  # type: ignore[arg-type]
            lambda: client.get_children_with_stat("/", callback),  # type: ignore[arg-type]
            lambda: client.add_watch("/", callback),  # type: ignore[arg-type]
        ]
        for ask in asks:
            with pytest.raises(MalformedInputException, match="must be a function"):
                await ask()
        with pytest.raises(MalformedInputException):
            client.add_listener(callback)  # type: ignore[arg-type]
        at_rest(client)


# ---- stores that fail ------------------------------------------------------------------------

FAILING: dict[str, Callable[[AsyncClient], Awaitable[Any]]] = {
    "records.get": lambda client: client.get_data("/n"),
    "records.get_many": lambda client: client.read_together([("data", "/n")]),
    "log.look": lambda client: client.sync(),
    "applied": lambda client: client.read_together([("exists", "/none")]),
    "watches.put": lambda client: client.get_data("/n", print),
    "watches.index": lambda client: client.add_watch("/n", print),
}


@pytest.mark.parametrize("call", FAILING)
async def test_a_store_that_fails_is_an_error_of_the_one_request(stage: Stage, call: str) -> None:
    ask = FAILING[call]
    async with stage.client() as client:
        await client.create("/n", b"0")
        kind = WatchSetFailureException if call.startswith("watches") else ProviderException
        with stage.failing(call), pytest.raises(kind, match="no answer"):
            await ask(client)
        at_rest(client)
        await ask(client)
        assert client.state is SessionState.CONNECTED


async def test_a_queue_that_fails_suspends_the_session_and_the_request_is_sent_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faaskeeper.session.timing.RESEND_S", 0.05)
    async with stage.client() as client:
        await client.create("/n")
        states: list[SessionState] = []
        client.add_listener(states.append)
        sending = stage.sending
        with stage.failing(sending):
            task = asyncio.create_task(client.set_data("/n", b"1"))
            while not states:
                await asyncio.sleep(0.001)
        assert (await task).stat.version == 1
        await session_of(client).renew()
        await client.sync()
        assert states == [SessionState.SUSPENDED, SessionState.CONNECTED]


async def test_a_deployment_that_cannot_be_reached_is_an_error_of_start_and_nothing_stays(
    far_stage: Stage,
) -> None:
    for call in ("channel.listen", "worker_queue.send"):
        client = far_stage.client()
        with far_stage.failing(call), pytest.raises(ProviderException, match="no answer"):
            await client.start()
        assert far_stage.connections == 0


async def test_a_session_whose_keeper_fails_is_lost_and_says_why(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(Registrations, "many", True)
    async with stage.client() as client:

        def broken(*_: object) -> None:
            raise ValueError("the tidier broke")

        monkeypatch.setattr(Registrations, "idle", broken)
        states = client.states()
        assert await anext(states) is SessionState.CONNECTED
        await client.exists("/", print)
        assert await anext(states) is SessionState.LOST
        with pytest.raises(StopAsyncIteration):
            await anext(states)
        with pytest.raises(ProviderException, match="the tidier broke"):
            await client.exists("/")
        monkeypatch.undo()
    assert "the tidier of session" in caplog.text


async def test_a_request_that_the_queue_cannot_take_is_refused_and_nothing_else_waits(
    near_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with near_stage.client() as client:
        await client.create("/n")
        queue = session_of(client).connection.worker_queue
        monkeypatch.setattr(queue._driver, "max_message_bytes", 20_000)  # type: ignore[attr-defined]
        with pytest.raises(TooLargeException, match="set_data /n"):
            await client.set_data("/n", b"x" * 20_000)
        at_rest(client)
        assert (await client.set_data("/n", b"small")).stat.version == 1


# ---- the end ---------------------------------------------------------------------------------


async def test_whatever_waits_when_the_client_is_stopped_gets_an_error_that_says_what_is_known(
    far_stage: Stage,
) -> None:
    client = far_stage.client()
    await client.start()
    await client.create("/n")
    with far_stage.hold("records.get") as hold:
        reading = asyncio.create_task(client.get_data("/n"))
        await reached(hold)
        writing = asyncio.create_task(client.set_data("/n", b"1"))
        behind = asyncio.create_task(client.exists("/n"))
        await asyncio.sleep(0)
        await client.stop(close=False)
    for task in (writing, behind):
        with pytest.raises(SessionClosingException):
            await task
    assert (await reading).data == b""  # its call returned


async def test_a_read_between_two_calls_when_the_client_is_stopped_gets_an_error(far_stage: Stage) -> None:
    client = far_stage.client()
    await client.start()
    with far_stage.hold("watches.put") as hold:
        watching = asyncio.create_task(client.exists("/n", print))
        await reached(hold)
        await client.stop(close=False)
    with pytest.raises(SessionClosingException):
        await watching


async def test_a_connection_is_closed_when_the_calls_that_use_it_have_returned(
    far_stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("faaskeeper.aio.session._SETTLE_S", 60.0)
    client = far_stage.client()
    await client.start()
    order: list[str] = []
    far_stage.before["close"] = lambda: order.append("close")
    with far_stage.hold("records.get") as hold:
        reading = asyncio.create_task(client.get_data("/"))
        await reached(hold)
        stopping = asyncio.create_task(client.stop(close=False))
        while far_stage.ears:
            await asyncio.sleep(0.001)
        for _ in range(100):
            await asyncio.sleep(0.001)
        order.append("read")
    await stopping
    await asyncio.wait((reading,))
    assert order == ["read", "close"]


async def test_a_watch_that_is_put_after_its_session_expired_is_removed_again(far_stage: Stage) -> None:
    client = far_stage.client()
    await client.start()
    session = session_of(client)
    connection = session.connection
    await client.create("/n")
    lease = connection.leases.get(session.id)
    assert lease is not None
    connection.leases.mark(lease)
    with far_stage.hold("watches.index") as hold:
        watching = asyncio.create_task(client.get_data("/n", print))
        await reached(hold)
        watching.cancel()
        await session.renew()
        assert client.state is SessionState.LOST
        while any("-cleaner-" in task.get_name() for task in session._tasks):
            await asyncio.sleep(0.001)
    await asyncio.wait((watching,))
    await session._calls.quiet(60)
    assert connection.watches.rows("/n") == []
    await client.stop()


async def test_a_write_that_was_sent_when_its_session_ends_may_have_happened(stage: Stage) -> None:
    client = stage.client()
    await client.start()
    await client.create("/n")
    with stage.hold(stage.sending) as hold:
        writing = asyncio.create_task(client.set_data("/n", b"1"))
        await reached(hold)
        session_of(client)._lose(SessionClosingException())
        with pytest.raises(
            SessionClosingException, match=r"set_data /n: .* whether it happened is not known"
        ):
            await writing
    await client.stop()


async def test_an_answer_that_comes_after_the_end_changes_nothing(stage: Stage) -> None:
    client = stage.client()
    await client.start()
    session = session_of(client)
    await client.stop(close=False)
    session._take_in(Notification(session.id, Epoch(98, 99, None)))
    await asyncio.sleep(0)
    assert session.rules.seen < 99
    assert not session._tasks


async def test_a_session_that_has_expired_says_so_to_every_task(far_stage: Stage) -> None:
    client = far_stage.client()
    await client.start()
    session = session_of(client)
    leases = session.connection.leases
    lease = leases.get(session.id)
    assert lease is not None
    leases.mark(lease)
    states: list[SessionState] = []
    client.add_listener(states.append)
    await session.renew()
    with pytest.raises(SessionExpiredException):
        await client.get_data("/")
    with pytest.raises(SessionExpiredException):
        await client.create("/n")
    await client.stop()
    assert states == [SessionState.LOST]


async def test_another_goes_on_with_a_session_and_the_first_is_told(stage: Stage) -> None:
    async with stage.client() as first, stage.client() as second:
        await first.create("/e", ephemeral=True)
        states = first.states()
        assert await anext(states) is SessionState.CONNECTED
        await second.start(resume=first.ticket)
        assert await second.get_ephemerals() == ["/e"]
        with pytest.raises(SessionExpiredException, match="another process has resumed"):
            await first.create("/n")
        assert await anext(states) is SessionState.LOST
        await states.aclose()  # type: ignore[attr-defined]
        assert (await second.create("/n")).path == "/n"


async def test_starts_and_stops_of_several_tasks_come_one_after_the_other(far_stage: Stage) -> None:
    client = far_stage.client()
    await asyncio.gather(client.start(), client.start(), client.stop(), client.start())
    assert client.state is SessionState.CONNECTED
    assert far_stage.connections == 1
    await asyncio.gather(client.stop(), client.stop())
    assert far_stage.connections == 0


def test_a_client_whose_loop_has_ended_says_so_and_can_be_started_in_another(far_stage: Stage) -> None:
    client = far_stage.client()

    async def first() -> None:
        await client.start()

    async def second() -> None:
        for ask in (client.get_data("/"), client.create("/n"), client.sync()):
            with pytest.raises(RuntimeError, match="another event loop"):
                await ask
        await client.start()
        await client.create("/n")
        await client.stop()

    asyncio.run(first())
    asyncio.run(second())
    assert far_stage.connections == 0


# ---- threads ---------------------------------------------------------------------------------

ALLOWED = {"records.get", "records.get_many", "log.look", "applied"}
"""What may be called in the loop's thread, where the service runs in this process."""


async def everything(client: AsyncClient, other: AsyncClient) -> None:
    heard = asyncio.Event()
    await client.create("/n", b"0")
    await client.create("/large", b"x" * 300_000)
    await client.get_data("/large")
    await client.get_data("/n", lambda event: heard.set())
    await other.sync()
    await other.set_data("/n", b"1")
    await heard.wait()
    await client.exists("/none", print)
    await client.get_children("/", include_data=True, watch=print)
    await client.add_watch("/n", print, recursive=True)
    await client.remove_watches("/n")
    await client.sync()
    await client.all_children_number("/")
    async with client.multi_read() as reads:
        reads.get_data("/n").get_children("/")
    async with client.transaction() as transaction:
        transaction.set_data("/n", b"2").create("/t", b"y" * 300_000)
    await client.create("/a/b/c", makepath=True)
    await session_of(client).renew()
    async with client.watch("/n") as events:
        await other.set_data("/n", b"3")
        await anext(aiter(events))
    await other.start(resume=client.ticket)
    await session_of(client).renew()
    await other.get_data("/n")


async def test_no_call_that_may_wait_is_made_in_the_thread_of_the_loop(stage: Stage) -> None:
    here = threading.current_thread()
    async with stage.client() as client, stage.client() as other:
        await everything(client, other)
    made = {call.name for call in stage.calls if call.thread is here}
    assert made == (ALLOWED if stage.config.deployment_name == "near" else set())


async def test_no_call_that_may_wait_is_made_in_the_loop_where_data_is_kept_apart(near_hybrid: Stage) -> None:
    here = threading.current_thread()
    async with near_hybrid.client() as client, near_hybrid.client() as other:
        await everything(client, other)
    assert {"blobs.put", "blobs.get"} <= {call.name for call in near_hybrid.calls}
    assert {call.name for call in near_hybrid.calls if call.thread is here} == ALLOWED


async def test_reads_that_hang_in_a_store_delay_neither_writes_of_others_nor_the_lease(
    far_stage: Stage,
) -> None:
    async with far_stage.client() as client:
        await client.create("/n")
        with far_stage.hold("records.get"):
            reads = [asyncio.create_task(client.get_data("/n")) for _ in range(30)]
            await asyncio.sleep(0)
            await session_of(client).renew()
            assert client.state is SessionState.CONNECTED
            for read in reads:
                read.cancel()
            await asyncio.wait(reads)
            assert (await client.set_data("/n", b"1")).stat.version == 1
        await session_of(client)._calls.quiet(60)
        assert len([call for call in far_stage.calls if call.name == "records.get"]) <= _CALLS
        at_rest(client)


async def test_a_store_that_never_answers_keeps_no_client_from_stopping(far_stage: Stage) -> None:
    client = far_stage.client()
    await client.start()
    with far_stage.hold("records.get") as hold:
        reads = [asyncio.create_task(client.get_data("/n")) for _ in range(20)]
        await reached(hold)
        await client.stop(close=False)
        assert far_stage.connections == 0
        for read in reads:
            read.cancel()
        await asyncio.wait(reads)


async def test_registrations_that_nothing_waits_for_are_removed_as_they_become_many(
    far_stage: Stage,
) -> None:
    async with far_stage.client() as client:
        session = session_of(client)
        session.registrations._least = session.registrations._most = 10
        for number in range(100):
            await client.exists(f"/n{number}", print)
            await client.create(f"/n{number}")
        while session.registrations.many or session._tidying:
            await asyncio.sleep(0.001)
        assert len(session.registrations) <= 20


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
