"""What a page that is slow, that goes away, or whose deployment fails costs the server: little."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request
from starlette.responses import StreamingResponse

from faaskeeper.cli.errors import Failed
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.errors import DriverError
from faaskeeper.core.log import Log
from faaskeeper.core.requests import End, Message
from faaskeeper.core.writer import Writer
from faaskeeper.exceptions import NoAuthException, ProviderException
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.ui import access as access_module
from faaskeeper.ui import changes, events
from faaskeeper.ui.access import Access
from faaskeeper.ui.follower import Batch, Follower, Rows
from faaskeeper.ui.index import Index


@pytest.fixture
def access(config: Config) -> Iterator[Access]:
    made = Access(config)
    yield made
    made.close()


# ---- streams of events ---------------------------------------------------------------------------


def test_a_page_that_is_slow_to_read_reads_everything_again() -> None:
    waiting: asyncio.Queue[Batch] = asyncio.Queue()
    for number in range(1, 1001):
        events.put(waiting, Batch(number, [{"txid": number}]))
    batches = [waiting.get_nowait() for _ in range(waiting.qsize())]
    assert len(batches) <= 51
    assert batches[0].reset
    assert [each.position for each in batches] == list(range(batches[0].position or 0, 1001))


def test_a_page_that_goes_away_leaves_nothing_behind(access: Access) -> None:
    follower = Follower(access)

    async def visit() -> int:
        state = SimpleNamespace(follower=follower, valid=lambda: True)
        app = SimpleNamespace(state=SimpleNamespace(stopping=asyncio.Event()))
        request = SimpleNamespace(state=state, app=app, headers={}, query_params={})
        before = len(asyncio.all_tasks())
        for _ in range(3):
            stream = cast(StreamingResponse, await events.events(cast(Request, request))).body_iterator

            async def read(stream: Any = stream) -> None:
                async for _ in stream:
                    pass

            reading = asyncio.create_task(read())
            while not follower._subscribers:
                await asyncio.sleep(0)
            await asyncio.wait([reading], timeout=0.3)
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            assert not follower._subscribers
        await asyncio.sleep(0)
        return len(asyncio.all_tasks()) - before

    assert asyncio.run(visit()) == 0
    follower.close()


def test_a_store_that_fails_between_two_reads_leaves_no_gap(
    access: Access, client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows, connection = Rows(access), access.client.connection
    rows.start(connection, None)
    for each in range(3):
        client.create(f"/n{each}")
    after, failing = Log.after, [True]

    def one(self: Log, txid: int, limit: int = 1) -> Any:
        found, _ = after(self, txid, 1)
        if found and found[0].transactions[0].changes[0].path == "/n2" and failing.pop():
            failing.append(False)
            raise DriverError("the store is not reached")
        return found, bool(found)

    monkeypatch.setattr(type(connection.log), "after", one)
    with pytest.raises(DriverError):
        rows.take(connection)
    assert [each["path"] for each in rows.take(connection).events] == ["/n0", "/n1", "/n2"]


# ---- the search ----------------------------------------------------------------------------------


def test_a_search_that_is_given_up_does_not_end_the_reading_for_the_next_one(
    access: Access, client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.create("/a")
    for each in range(20):
        client.create(f"/a/{each}")
    follower, walks, going_on = Follower(access), [], threading.Event()
    follower.subscribe(lambda batch: None, None)
    index = Index(access, follower)
    walk = index._walk

    def slowly() -> Iterator[str]:
        walks.append(1)
        for path in walk():
            yield path
            if path == "/a":
                assert going_on.wait(PATIENCE_S)

    monkeypatch.setattr(index, "_walk", slowly)
    first = index.paths()
    assert next(first) == "/"
    first.close()  # type: ignore[attr-defined]
    second = index.paths()
    assert next(second) == "/"
    assert None in (next(second), next(second), next(second), next(second))  # it can be given up, too
    going_on.set()
    assert sum(path is not None for path in second) + 1 >= 20
    assert len(walks) == 1
    deadline = threading.Event()
    for _ in range(1000):
        if index._paths is not None:
            break
        deadline.wait(0.01)
    client.create("/a/new")
    for _ in range(1000):
        if "/a/new" in index.paths():
            break
        deadline.wait(0.01)
    assert "/a/new" in index.paths()
    assert len(walks) == 1
    follower.close()


def test_what_happens_while_nobody_searches_is_not_kept(access: Access, client: FaaSKeeperClient) -> None:
    follower = Follower(access)
    follower.subscribe(lambda batch: None, None)
    index = Index(access, follower)
    list(index.paths())
    index._deliver(Batch(None, [], reset=True))
    for number in range(10):
        index._deliver(Batch(number, []))
    assert index._late == []
    follower.close()


# ---- a deployment that does not answer -------------------------------------------------------------


def test_requests_do_not_wait_for_each_other_to_find_that_nothing_answers(config: Config) -> None:
    opened: list[int] = []
    started, failing = threading.Event(), threading.Event()

    class Dead(FaaSKeeperClient):
        def start(self, *_: Any) -> str:
            opened.append(1)
            started.set()
            assert failing.wait(PATIENCE_S)
            raise ProviderException("nobody answers")

    access, errors = Access(config, open_client=Dead), []

    def ask() -> None:
        try:
            access.client  # noqa: B018
        except ProviderException as error:
            errors.append(str(error))

    threads = [threading.Thread(target=ask) for _ in range(20)]
    for each in threads:
        each.start()
    assert started.wait(PATIENCE_S)
    failing.set()
    for each in threads:
        each.join(PATIENCE_S)
    assert errors == ["nobody answers"] * 20
    assert len(opened) < 20


def test_a_change_that_is_not_answered_is_told_as_such(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changes, "_ANSWER_S", 0.05)
    going_on = threading.Event()
    with pytest.raises(Failed, match="The change may still be made"):
        asyncio.run(changes._answered(cast(Callable[..., Any], going_on.wait), PATIENCE_S))
    going_on.set()


def test_a_writer_of_an_earlier_release_does_not_keep_the_page_waiting(
    client: FaaSKeeperClient, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    admit = Writer._admit

    def dropping(self: Writer, view: Any, signed: Any) -> Any:
        found = admit(self, view, signed)
        known = (each for each in found if isinstance(each, Message))
        return [] if any(isinstance(row.operation, End) for each in known for row in each.requests) else found

    monkeypatch.setattr(Writer, "_admit", dropping)
    monkeypatch.setattr(access_module, "_END_S", 0.3)
    access = Access(config)
    with pytest.raises(Failed, match="an earlier release"):
        access.end(client.session_id or "")
    access.client.create("/a")
    assert access.client.exists("/a") is not None
    own = access.client.session_id or ""
    assert access.end(f"0{own.upper()}")
    assert access.client.session_id != own
    access.close()


def test_only_the_super_user_ends_another_session(access: Access, client: FaaSKeeperClient) -> None:
    with pytest.raises(NoAuthException):
        access.end(client.session_id or "")
    with pytest.raises(NoAuthException):
        access.end("abcdef")
