"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("faaskeeper.testing")

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """An embedded service in a directory of the test's own."""
    return Config.local(tmp_path / "service")


@pytest.fixture
def connect(config: Config) -> Iterator[Callable[..., FaaSKeeperClient]]:
    """Makes started clients of one embedded service, and stops those that the test leaves open."""
    clients: list[FaaSKeeperClient] = []

    def start(**options: object) -> FaaSKeeperClient:
        client = FaaSKeeperClient(config, **options)  # type: ignore[arg-type]
        clients.append(client)
        client.start()
        return client

    yield start
    for client in clients:
        client.stop()


@pytest.fixture
def client(connect: Callable[..., FaaSKeeperClient]) -> FaaSKeeperClient:
    """A started client of an embedded service."""
    return connect()
