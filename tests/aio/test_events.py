"""Watches and states as iterators: no event is lost, and nothing stays after their end."""

from __future__ import annotations

import asyncio
import gc
from contextlib import aclosing
from typing import Any

import pytest

from faaskeeper.aio import AsyncClient, SessionState
from faaskeeper.exceptions import NoWatcherException, ProviderException, SessionClosingException
from tests.aio.stage import Stage, at_rest, session_of
from tests.aio.test_cancelling import cancelled, reached


def said(event: Any) -> tuple[str, str]:
    return str(event.event_type), event.path


def nothing_is_watched(client: AsyncClient) -> None:
    with pytest.raises(NoWatcherException):
        client.check_watches("/p")
    assert client._listeners == []
    at_rest(client)


async def test_every_change_is_an_event_also_those_before_the_first_is_asked_for(stage: Stage) -> None:
    async with stage.client() as client, stage.client() as other:
        async with client.watch("/p", recursive=True) as events:
            await other.create("/p")
            for number in range(20):
                await other.create(f"/p/{number}")
            await other.delete("/p/0")
            await client.sync()
            got = [said(await anext(aiter(events))) for _ in range(22)]
        assert got == [
            ("NodeCreated", "/p"),
            *(("NodeCreated", f"/p/{number}") for number in range(20)),
            ("NodeDeleted", "/p/0"),
        ]
        nothing_is_watched(client)


async def test_a_watch_without_a_block_counts_from_the_first_step_and_ends_with_the_iterator(
    stage: Stage,
) -> None:
    async with stage.client() as client, stage.client() as other:
        async with aclosing(aiter(client.watch("/p"))) as events:  # type: ignore[type-var]
            first = asyncio.ensure_future(anext(events))
            while True:
                try:
                    client.check_watches("/p")
                    break
                except NoWatcherException:
                    await asyncio.sleep(0.001)
            await other.create("/p")
            assert said(await first) == ("NodeCreated", "/p")
        nothing_is_watched(client)


async def test_after_a_break_the_iterator_s_watch_is_removed(stage: Stage) -> None:
    async with stage.client() as client:
        await client.create("/p")
        setting = asyncio.create_task(keep_setting(client))
        async for event in client.watch("/p"):
            assert said(event) == ("NodeDataChanged", "/p")
            break
        setting.cancel()
        await asyncio.wait((setting,))
        gc.collect()
        while client._listeners or session_of(client)._tasks.keys() - {keeper_of(client)}:
            await asyncio.sleep(0.001)
        await client.sync()
        nothing_is_watched(client)


def keeper_of(client: AsyncClient) -> asyncio.Task[Any]:
    (task,) = (each for each in session_of(client)._tasks if "-keeper-" in each.get_name())
    return task


async def keep_setting(client: AsyncClient) -> None:
    while True:
        await client.set_data("/p", b"")
        await asyncio.sleep(0.001)


async def test_iterations_within_one_block_go_on_where_the_last_stopped(stage: Stage) -> None:
    async with stage.client() as client:
        async with client.watch("/p") as events:
            await client.create("/p")
            await client.set_data("/p", b"1")
            await client.delete("/p")
            async for event in events:
                assert said(event) == ("NodeCreated", "/p")
                break
            await asyncio.sleep(0)
            rest = []
            async for event in events:
                rest.append(said(event))
                if len(rest) == 2:
                    break
            assert rest == [("NodeDataChanged", "/p"), ("NodeDeleted", "/p")]
        nothing_is_watched(client)


async def test_a_task_that_is_cancelled_while_it_waits_loses_no_event(stage: Stage) -> None:
    async with stage.client() as client:
        await client.create("/p")
        async with client.watch("/p") as events:
            for _ in range(10):
                waiting = asyncio.ensure_future(anext(aiter(events)))
                await asyncio.sleep(0)
                setting = asyncio.create_task(client.set_data("/p"))
                await asyncio.sleep(0)
                waiting.cancel()
                taken = (await asyncio.gather(waiting, return_exceptions=True))[0]
                await setting
                if isinstance(taken, asyncio.CancelledError):
                    taken = await anext(aiter(events))
                assert said(taken) == ("NodeDataChanged", "/p")
        nothing_is_watched(client)


async def test_a_block_that_is_cancelled_as_it_begins_or_ends_leaves_no_watch(far_stage: Stage) -> None:
    stage = far_stage

    async def watch() -> None:
        async with client.watch("/p"):
            entered.set()
            await leave.wait()

    async with stage.client() as client:
        entered, leave = asyncio.Event(), asyncio.Event()
        with stage.hold("watches.put") as hold:
            task = asyncio.create_task(watch())
            await reached(hold)
            await cancelled(task)
        nothing_is_watched(client)
        with stage.hold("watches.remove") as hold:
            task = asyncio.create_task(watch())
            await entered.wait()
            leave.set()
            await reached(hold)
            await cancelled(task)
        while session_of(client)._tasks.keys() - {keeper_of(client)}:
            await asyncio.sleep(0.001)
        nothing_is_watched(client)
        connection = session_of(client).connection
        assert await asyncio.to_thread(connection.watches.rows, "/p") == []


async def test_a_block_that_is_cancelled_while_its_end_waits_for_its_turn_leaves_no_watch(
    stage: Stage,
) -> None:
    async with stage.client() as client:
        async with client.watch("/p"):
            with stage.hold(stage.sending) as hold:
                creating = asyncio.create_task(client.create("/p"))
                await reached(hold)

                async def watch() -> None:
                    async with client.watch("/p/below"):
                        pass

                task = asyncio.create_task(watch())
                await asyncio.sleep(0)
                await cancelled(task)
            await creating
        while session_of(client)._tasks.keys() - {keeper_of(client)}:
            await asyncio.sleep(0.001)
        nothing_is_watched(client)


async def test_an_iteration_ends_by_the_error_that_ended_the_session_after_all_events(stage: Stage) -> None:
    client = stage.client()
    await client.start()
    async with client.watch("/p") as events:
        await client.create("/p")
        await client.stop()
        assert said(await anext(aiter(events))) == ("NodeCreated", "/p")
        for _ in range(3):
            with pytest.raises(SessionClosingException):
                await anext(aiter(events))
    assert client._listeners == []


async def test_a_block_whose_session_is_lost_ends_without_another_error(stage: Stage) -> None:
    async with stage.client() as client:
        with pytest.raises(ProviderException, match="the disk is full"):
            await lose_within(client)
        assert client._listeners == []


async def lose_within(client: AsyncClient) -> None:
    async with client.watch("/p") as events:
        session_of(client)._failed(ValueError("the disk is full"))
        async for _ in events:
            pass


async def test_a_removal_that_fails_at_the_store_is_logged_and_the_watch_is_silent(
    far_stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    async with far_stage.client() as client:
        with far_stage.failing("watches.remove"):
            async with client.watch("/p"):
                pass
        assert "the watch of /p was not removed" in caplog.text
        nothing_is_watched(client)


async def test_a_watch_in_a_session_after_another_begins_anew(stage: Stage) -> None:
    client = stage.client()
    watch = client.watch("/p")
    for number in range(2):
        await client.start()
        async with watch as events:
            await client.create(f"/p{number}")
            await client.create("/p", ephemeral=True)
            assert said(await anext(aiter(events))) == ("NodeCreated", "/p")
            with pytest.raises(RuntimeError, match="set already"):
                await watch.__aenter__()
            await client.stop()


async def test_events_are_below_a_chroot(stage: Stage) -> None:
    async with stage.client() as client, stage.client(chroot="/app") as below:
        await below.create("/p", makepath=True)
        async with below.watch("/p") as events:
            await client.set_data("/app/p", b"1")
            assert said(await anext(aiter(events))) == ("NodeDataChanged", "/p")
        nothing_is_watched(below)


async def test_states_are_shown_from_the_present_one_on_to_the_last(stage: Stage) -> None:
    client = stage.client()
    await client.start()
    session = session_of(client)
    states = client.states()
    shown = [await anext(states)]
    session._become(SessionState.SUSPENDED)
    late = client.states()  # begins while SUSPENDED is announced
    assert await anext(late) is SessionState.SUSPENDED
    session._become(SessionState.CONNECTED)
    shown.append(await anext(states))
    await client.stop()
    shown.extend([each async for each in states])
    assert shown == ["CONNECTED", "SUSPENDED", "CONNECTED", "LOST"]
    assert [each async for each in late] == ["CONNECTED", "LOST"]
    assert client._listeners == []
    assert [each async for each in client.states()] == ["LOST"]


async def test_listeners_are_told_of_each_session_s_beginning_and_end(stage: Stage) -> None:
    client = stage.client()
    told: list[SessionState] = []
    client.add_listener(told.append)
    await client.start()
    await client.start()
    await client.stop()
    assert told == ["CONNECTED", "LOST"] * 2
