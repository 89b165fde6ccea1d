"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("faaskeeper.testing")

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config

_BESIDE = ("aws", "examples", "gateway")
"""Folders whose tests wait for other processes most of the time: they run beside all others."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Which of the two processes of ``make test`` a test is for; a whole folder shares its emulators."""
    here = Path(__file__).parent
    for item in items:
        folder = item.path.relative_to(here).parts[0]
        item.add_marker(pytest.mark.xdist_group("beside" if folder in _BESIDE else "all others"))


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """An embedded service in a directory of the test's own."""
    return Config.local(tmp_path / "service")


@pytest.fixture
def make() -> Callable[..., Any]:
    """Makes a client: ``tests/client`` has one of each kind here."""
    return FaaSKeeperClient


@pytest.fixture
def connect(
    config: Config, make: Callable[..., FaaSKeeperClient]
) -> Iterator[Callable[..., FaaSKeeperClient]]:
    """Makes started clients of one embedded service, and stops those that the test leaves open."""
    clients: list[FaaSKeeperClient] = []

    def start(**options: object) -> FaaSKeeperClient:
        client = make(config, **options)
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
