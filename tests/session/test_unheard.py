"""A client whose answers cannot reach it finds out within seconds, and says so."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import faaskeeper.client.client as client_module
import faaskeeper.gateway.sender
from faaskeeper.aio import AsyncClient
from faaskeeper.exceptions import ProviderException, TimeoutException
from faaskeeper.gateway.errors import ServerError
from faaskeeper.gateway.server import Gateway, Settings
from faaskeeper.session import timing, unheard
from tests.paper import Paper, paper


@pytest.fixture(autouse=True)
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """What takes seconds takes milliseconds."""
    monkeypatch.setattr(unheard, "PATIENCE_S", 0.08)
    for module in (timing, faaskeeper.gateway.sender):
        monkeypatch.setattr(module, "OPEN_S", 0.02)


@pytest.fixture
def cloud() -> Iterator[Paper]:
    with paper() as made:
        made.deaf = True
        yield made


def start_thread(cloud: Paper, **options: Any) -> None:
    client = cloud.client()
    client.start(**options)
    client.stop()


def start_async(cloud: Paper, **options: Any) -> None:
    async def run() -> None:
        client = cloud.client(AsyncClient)
        await client.start(**options)
        await client.stop()

    asyncio.run(run())


def start_server(cloud: Paper) -> None:
    async def run() -> None:
        connection = cloud.connect(cloud.config, -1)
        try:
            await Gateway(connection, cloud.config, Settings(listen=(("127.0.0.1", 0),))).hub.lease.start()
        finally:
            connection.close()

    asyncio.run(run())


EITHER = pytest.mark.parametrize("start", [start_thread, start_async])
Start = Callable[..., None]


@EITHER
def test_an_opening_that_is_in_the_log_and_unanswered_fails_and_names_the_setting(
    cloud: Paper, start: Start
) -> None:
    with pytest.raises(
        ProviderException, match="its answer does not arrive: functions cannot send to mem:1: "
    ):
        start(cloud)
    assert len(cloud.table("lease").partitions["lease"]) == 1  # sent again, it opened no other session


@EITHER
def test_by_tcp_the_error_names_the_address_and_both_ways_out(cloud: Paper, start: Start) -> None:
    cloud.config = Paper(
        **{"client-channel": "tcp", "aws": {"client-host": "127.0.0.1", "client-networks": ["127.0.0.1/32"]}}
    ).config  # the functions have no such network, and refuse
    with pytest.raises(ProviderException) as raised:
        start(cloud)
    text = str(raised.value)
    assert "functions cannot connect to tcp:127.0.0.1:" in text
    assert "Set aws.client-host" in text
    assert '"client-channel": "sqs"' in text
    assert "#" not in text


def test_a_server_that_is_not_answered_says_the_same(cloud: Paper) -> None:
    with pytest.raises(ServerError, match="its answer does not arrive: functions cannot send to mem:1: "):
        start_server(cloud)


def test_a_resumption_that_is_unanswered_fails_too(cloud: Paper) -> None:
    cloud.deaf = False
    first = cloud.client()
    first.start()
    cloud.deaf = True
    with pytest.raises(ProviderException, match="its answer does not arrive"):
        start_thread(cloud, resume=first.ticket)
    cloud.deaf = False
    first.stop()


def test_an_opening_that_is_not_in_the_log_waits_for_its_time_out(
    cloud: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "START_S", 0.5)
    cloud.send = lambda group, identity, body: None  # type: ignore[method-assign]
    with pytest.raises(TimeoutException):
        start_thread(cloud)


def test_an_opening_that_the_service_has_not_applied_waits_too(
    cloud: Paper, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The distributor may be slow, which is no fault of the channel."""
    monkeypatch.setattr(client_module, "START_S", 0.5)
    leases = cloud.table("lease")
    put = leases.put
    leases.put = lambda partition, *more: None if partition == "lease" else put(partition, *more)  # type: ignore[method-assign]
    with pytest.raises(TimeoutException):
        start_thread(cloud)


def test_the_opening_is_found_below_a_mark_and_in_a_trimmed_log(cloud: Paper) -> None:
    cloud.deaf = False
    with cloud.client() as client:
        for number in range(30):
            client.create(f"/n{number}")
        cloud.settle()
        log = cloud.table("log")
        for key in list(log.partitions["log"])[:10]:
            log.delete("log", key)
        cloud.deaf = True
        with pytest.raises(ProviderException, match="its answer does not arrive"):
            start_thread(cloud)
        cloud.deaf = False


def test_an_answer_that_comes_late_is_taken(cloud: Paper) -> None:
    deliver, missed = cloud.deliver, []

    def late(address: str, message: bytes) -> bool:
        missed.append(address)
        cloud.deaf = len(missed) < 2
        return deliver(address, message)

    cloud.deliver = late  # type: ignore[method-assign]
    start_thread(cloud)
    assert len(missed) >= 2
