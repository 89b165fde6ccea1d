"""Each test of what recipes promise runs twice: with those for threads, and with those for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any, cast

import pytest

from faaskeeper import recipes
from faaskeeper.aio import AsyncClient
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from tests.client.test_session import Service
from tests.recipes.blocking import BlockingClient, Loop, blocking


class AsyncService(Service):
    """Its clients are asyncio's."""

    def __init__(self, config: Config, directory: Path, loop: Loop) -> None:
        super().__init__(config, directory)
        self.loop = loop
        self.made: list[BlockingClient] = []

    def client(self) -> FaaSKeeperClient:
        async def start() -> AsyncClient:
            client = AsyncClient(
                self.config,
                heartbeat=False,
                connect=lambda config, port: self.embedded.connection(0, lambda: None),
            )
            await client.start()
            return client

        client = BlockingClient(self.loop, self.loop.run(start()))
        self.made.append(client)
        self.clients.append(cast(FaaSKeeperClient, client))
        return self.clients[-1]


@pytest.fixture(params=["threads", "asyncio"])
def kind(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """The kind of client; the names of recipes in the test's module are those of that kind."""
    kind: str = request.param
    module = cast(ModuleType, request.module)
    if kind == "asyncio":
        for name in recipes.__all__:
            if name != "LockLost" and hasattr(module, name):
                monkeypatch.setattr(module, name, blocking(name))
    return kind


@pytest.fixture
def loop(kind: str) -> Iterator[Loop | None]:
    """Where the asyncio clients run."""
    if kind == "threads":
        yield None
        return
    loop = Loop()
    yield loop
    loop.stop()


@pytest.fixture
def service(config: Config, tmp_path: Path, loop: Loop | None) -> Iterator[Service]:
    if loop is None:
        service = Service(config, tmp_path / "stands")
        yield service
        for client in service.clients:
            client.stop()
    else:
        service = AsyncService(config, tmp_path / "stands", loop)
        yield service
        for each in service.made:
            each.end()
    service.embedded.stop()


@pytest.fixture
def connect(config: Config, loop: Loop | None) -> Iterator[Callable[..., FaaSKeeperClient]]:
    """Makes started clients of one embedded service, and stops those that the test leaves open."""
    clients: list[Any] = []

    def start(**options: Any) -> FaaSKeeperClient:
        if loop is None:
            client: Any = FaaSKeeperClient(config, **options)
        else:
            client = BlockingClient(loop, AsyncClient(config, **options))
        clients.append(client)
        client.start()
        return cast(FaaSKeeperClient, client)

    yield start
    for client in clients:
        client.end() if loop is not None else client.stop()
