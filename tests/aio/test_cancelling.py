"""A task that is cancelled, at any await, leaves its session as if it had not asked, or had waited."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from faaskeeper.aio import AsyncClient, SessionState
from faaskeeper.exceptions import (
    NodeDoesntExistException,
    NoWatcherException,
    ProviderException,
    SessionClosingException,
)
from faaskeeper.session.arguments import NodeKind
from tests.aio.stage import Stage, at_rest, session_of

Ask = Callable[[AsyncClient], Awaitable[Any]]


async def reached(hold: Any) -> None:
    assert await asyncio.to_thread(hold.reached.wait, 60)


async def cancelled(task: asyncio.Task[Any]) -> asyncio.CancelledError:
    """Cancel a task; returns its exception, as a ``timeout`` block would have it."""
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    return caught.value


async def within(seconds: float, ask: Awaitable[Any]) -> None:
    async with asyncio.timeout(seconds):
        await ask


async def for_ever(ask: Ask, client: AsyncClient) -> None:
    while True:
        await ask(client)


async def noted(ask: Awaitable[Any], notes: list[str]) -> None:
    try:
        await ask
    except asyncio.CancelledError as error:
        notes.extend(error.__notes__)
        raise


async def test_a_write_that_was_sent_is_carried_through_and_its_note_says_so(stage: Stage) -> None:
    async with stage.client() as client:
        await client.create("/n")
        notes: list[str] = []
        with stage.hold(stage.sending) as hold:
            task = asyncio.create_task(noted(client.set_data("/n", b"1"), notes))
            await reached(hold)
            await cancelled(task)
        assert notes == ["set_data /n: it was sent: whether it happens is not known"]
        assert (await client.get_data("/n")).data == b"1"
        at_rest(client)


async def test_a_write_that_waits_for_its_turn_is_taken_back_and_its_number_is_the_next_one_s(
    far_stage: Stage,
) -> None:
    stage = far_stage
    async with stage.client() as client:
        await client.create("/n")
        notes: list[str] = []
        with stage.hold("records.get") as hold:
            reading = asyncio.create_task(client.get_data("/n"))
            await reached(hold)
            writing = asyncio.create_task(noted(client.set_data("/n", b"not"), notes))
            after = asyncio.create_task(client.set_data("/n", b"after"))
            await asyncio.sleep(0)
            await cancelled(writing)
        assert (await reading).data == b""
        assert (await after).stat.version == 1
        assert notes == ["set_data /n: it was not sent: nothing was changed"]
        at_rest(client)
    assert stage.sent == [1, 2, 3]  # create, the one after, close


async def test_a_write_that_was_answered_when_its_task_is_cancelled_has_a_note_of_the_answer(
    stage: Stage,
) -> None:
    async with stage.client() as client:
        notes: list[str] = []
        session = session_of(client)
        tasks: list[asyncio.Task[None]] = []
        settle = session._settle

        def then_cancel(*args: Any) -> None:
            settle(*args)
            tasks.pop(0).cancel()  # its future is done; it has not run since

        session._settle = then_cancel  # type: ignore[method-assign]
        for path in ("/n", "/none/n"):
            task = asyncio.create_task(noted(client.create(path), notes))
            tasks.append(task)
            with pytest.raises(asyncio.CancelledError):
                await task
        session._settle = settle  # type: ignore[method-assign]
        assert notes == [
            "create /n: it was answered: it happened",
            "create /none/n: it was answered: the node /none/n does not exist",
        ]
        assert await client.exists("/n") is not None
        at_rest(client)


READS: dict[str, tuple[str, Ask]] = {
    "get_data": ("records.get", lambda client: client.get_data("/n")),
    "exists": ("records.get", lambda client: client.exists("/n")),
    "children": ("records.get", lambda client: client.get_children("/n")),
    "children with data": ("records.get_many", lambda client: client.get_children("/", include_data=True)),
    "sync": ("log.look", lambda client: client.sync()),
    "together": ("records.get_many", lambda client: client.read_together([("data", "/n")])),
    "watch": ("watches.put", lambda client: client.get_data("/n", print)),
    "index": ("watches.index", lambda client: client.exists("/none", print)),
    "absent": ("applied", lambda client: client.exists("/none", print)),
    "add_watch": ("watches.put", lambda client: client.add_watch("/n", print, recursive=True)),
}


@pytest.mark.parametrize("name", READS)
async def test_a_read_that_is_cancelled_within_a_call_lets_others_go_on(far_stage: Stage, name: str) -> None:
    call, ask = READS[name]
    async with far_stage.client() as client:
        await client.create("/n", b"0")
        with far_stage.hold(call) as hold:
            reading = asyncio.ensure_future(ask(client))
            await reached(hold)
            writing = asyncio.create_task(client.set_data("/n", b"1"))
            await asyncio.sleep(0)
            assert not writing.done()
            await cancelled(reading)
            assert (await writing).stat.version == 1  # though the call still hangs in its thread
        at_rest(client)
        with pytest.raises(NoWatcherException):
            client.check_watches("/n")
        await ask(client)
        at_rest(client)


async def test_reads_that_wait_for_a_write_are_cancelled_before_and_as_their_turn_comes(stage: Stage) -> None:
    async with stage.client() as client:
        await client.create("/n", b"0")
        session = session_of(client)
        with stage.hold(stage.sending) as hold:
            writing = asyncio.create_task(client.set_data("/n", b"1"))
            await reached(hold)
            reads = [asyncio.create_task(client.get_data("/n")) for _ in range(4)]
            await asyncio.sleep(0)
            await cancelled(reads[0])
            begin = session.requests._begin
            begun: list[object] = []

            def then_cancel(turn: Any) -> None:
                if turn.write is None and not begun:
                    reads[1].cancel()  # just before
                begin(turn)
                if turn.write is None:
                    begun.append(turn)
                    if len(begun) == 2:
                        reads[2].cancel()  # just after

            session.requests._begin = then_cancel  # type: ignore[method-assign]
        await writing
        for read in reads[1:3]:
            with pytest.raises(asyncio.CancelledError):
                await read
        session.requests._begin = begin  # type: ignore[method-assign]
        assert (await reads[3]).data == b"1"
        at_rest(client)
        assert (await client.set_data("/n", b"2")).stat.version == 2


async def test_any_requests_cancelled_at_any_moment_leave_no_hole_and_no_request_behind(stage: Stage) -> None:
    """Ten tasks ask; after each number of turns of the loop some are cancelled. All others are answered."""
    async with stage.client() as client:
        await client.create("/n", b"0")

        def requests() -> list[Awaitable[Any]]:
            return [
                client.set_data("/n", b"1"),
                client.get_data("/n"),
                client.get_data("/n", print),
                client.set_data("/n", b"2"),
                client.exists("/none", print),
                client.read_together([("data", "/n")]),
                client.create("/a/b/c", makepath=True),
                client.sync(),
                client.delete("/a/b/c"),
                client.set_data("/n", b"3"),
            ]

        for turns in range(40):
            tasks = [asyncio.ensure_future(each) for each in requests()]
            for _ in range(turns % 20):
                await asyncio.sleep(0)
            for number, task in enumerate(tasks):
                if (number + turns) % 3:
                    task.cancel()
            outcomes = await asyncio.gather(*tasks, return_exceptions=True)
            for number, outcome in enumerate(outcomes):
                if isinstance(outcome, BaseException) and not isinstance(outcome, asyncio.CancelledError):
                    assert number in (6, 8), outcome  # it exists, or does not
            last = await client.set_data("/n", b"last")
            assert (await client.get_data("/n")).stat == last.stat
            at_rest(client)
    assert stage.sent == list(range(1, len(stage.sent) + 1))


async def test_a_time_out_has_the_note_as_its_cause_and_the_next_request_is_answered(stage: Stage) -> None:
    async with stage.client() as client:
        await client.create("/n")
        with stage.hold(stage.sending):
            with pytest.raises(TimeoutError) as caught:
                await within(0.01, client.set_data("/n", b"1"))
            assert caught.value.__cause__ is not None
            assert caught.value.__cause__.__notes__ == [
                "set_data /n: it was sent: whether it happens is not known"
            ]
        assert (await client.set_data("/n", b"2")).stat.version == 2


async def test_a_time_out_ends_a_task_that_reads_and_never_has_to_wait(near_stage: Stage) -> None:
    async with near_stage.client() as client:
        await client.create("/n")
        reads: list[Ask] = [
            lambda client: client.get_data("/n"),
            lambda client: client.read_together([("data", "/n")]),
        ]
        for read in reads:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(for_ever(read, client), 0.05)


async def grouped(client: AsyncClient) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(client.delete("/none"))
        for _ in range(20):
            group.create_task(client.set_data("/n"))
            group.create_task(client.get_data("/n"))


async def test_a_task_group_whose_task_fails_cancels_the_others(stage: Stage) -> None:
    async with stage.client() as client:
        await client.create("/n")
        with pytest.raises(ExceptionGroup) as caught:
            await grouped(client)
        assert [type(each) for each in caught.value.exceptions] == [NodeDoesntExistException]
        await client.sync()
        at_rest(client)


CONNECTING = ["connect", "channel.listen", "worker_queue.send"]


@pytest.mark.parametrize("call", CONNECTING)
async def test_a_start_that_is_cancelled_gives_back_all_it_took(far_stage: Stage, call: str) -> None:
    client = far_stage.client()
    with far_stage.hold(call) as hold:
        task = asyncio.create_task(client.start())
        await reached(hold)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert client.state is SessionState.LOST
    assert far_stage.connections == 0
    with pytest.raises(SessionClosingException):
        await client.get_data("/n")
    await client.start()
    await client.create("/n")
    await client.stop()


async def test_a_stop_that_is_cancelled_stops_all_the_same(far_stage: Stage) -> None:
    client = far_stage.client()
    await client.start()
    with far_stage.hold("worker_queue.send") as hold:
        task = asyncio.create_task(client.stop())
        await reached(hold)
        task.cancel()
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert far_stage.connections == 0
    assert client.session_id is None


async def test_a_large_write_keeps_its_place_before_a_write_while_its_data_is_uploaded(
    near_hybrid: Stage,
) -> None:
    stage, large = near_hybrid, b"x" * 200_000
    async with stage.client() as client:
        await client.create("/n", b"0")
        with stage.hold("blobs.put") as hold:
            before = asyncio.create_task(client.set_data("/n", b"before"))
            tasks = [asyncio.create_task(client.set_data("/n", large))]
            tasks += [asyncio.create_task(client.set_data("/n", b"%d" % number)) for number in range(3)]
            await reached(hold)
            await before
            session_of(client).requests.advance()
        assert [(await task).stat.version for task in tasks] == [2, 3, 4, 5]
        at_rest(client)


async def test_a_large_write_keeps_its_place_before_a_read_while_its_data_is_uploaded(
    near_hybrid: Stage,
) -> None:
    stage, large = near_hybrid, b"x" * 200_000
    async with stage.client() as client:
        await client.create("/n", b"0")
        with stage.hold("blobs.put") as hold:
            before = asyncio.create_task(client.set_data("/n", b"before"))
            tasks = [asyncio.create_task(client.set_data("/n", large))]
            await reached(hold)
            tasks.append(asyncio.create_task(client.get_data("/n")))
            tasks.append(asyncio.create_task(client.set_data("/n", b"after")))
            await before
            assert not any(task.done() for task in tasks)
        first, read, last = await asyncio.gather(*tasks)
        assert (first.stat.version, last.stat.version) == (2, 3)
        assert read.data == large
        at_rest(client)


@pytest.mark.parametrize("held", [True, False])
async def test_a_large_write_that_is_cancelled_while_its_data_is_uploaded_holds_nothing_up(
    near_hybrid: Stage, held: bool
) -> None:
    """It was at the head of the order, or behind a write that was not answered."""
    stage, notes = near_hybrid, list[str]()
    async with stage.client() as client:
        await client.create("/n", b"0")
        before = None
        with stage.hold("blobs.put") as hold, stage.hold(stage.sending) as sending:
            if not held:
                before = asyncio.create_task(client.set_data("/n", b"1"))
            task = asyncio.create_task(noted(client.set_data("/n", b"x" * 200_000), notes))
            await reached(hold)
            after = asyncio.create_task(client.get_data("/n"))
            await asyncio.sleep(0)
            await cancelled(task)
            sending.release()
            if before is not None:
                await before
            assert (await after).data == (b"0" if held else b"1")
        assert notes == ["set_data /n: it was not sent: nothing was changed"]
        at_rest(client)
    assert stage.sent == list(range(1, len(stage.sent) + 1))


@pytest.mark.parametrize("held", [True, False])
async def test_a_large_write_whose_data_cannot_be_stored_holds_nothing_up(
    near_hybrid: Stage, held: bool
) -> None:
    async with near_hybrid.client() as client:
        await client.create("/n", b"0")
        with near_hybrid.failing("blobs.put"):
            before = asyncio.create_task(client.set_data("/n", b"1")) if not held else None
            task = asyncio.create_task(client.set_data("/n", b"x" * 200_000))
            after = asyncio.create_task(client.get_data("/n"))
            with pytest.raises(ProviderException, match="no answer"):
                await task
        if before is not None:
            await before
        assert (await after).data == (b"0" if held else b"1")
        at_rest(client)


async def test_a_makepath_that_is_cancelled_does_not_begin_what_was_not_begun(far_stage: Stage) -> None:
    stage = far_stage
    async with stage.client() as client:
        await client.create("/n")
        with stage.hold("records.get") as hold:
            reading = asyncio.create_task(client.get_data("/n"))
            await reached(hold)
            session = session_of(client)
            write = client._calls.create("/a/b", b"", NodeKind())
            creating = asyncio.create_task(client._with_ancestors("/a/b", write))
            await asyncio.sleep(0)
            assert len(session.requests._order) == 2
            await cancelled(creating)
        await reading
        await client.sync()
        assert await client.exists("/a") is None
        at_rest(client)
