"""What all tests share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.register_assert_rewrite("faaskeeper.testing")

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config

PARTS = ("basic", "clouds", "simulator")
"""Markers: which of ``make test``, ``make test-clouds`` and ``make test-simulator`` runs a test."""
_EMULATORS = {"ministack", "dynamodb_local", "emulators"}
"""Fixtures that start the emulator of a cloud."""
_SLOW = ("gcp", "aws", "gateway", "examples")
"""Folders whose tests take longest: they begin first, so that both processes end at about the same time."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test its part, and the group of those that must run in one process.

    A test's own marker counts. Of the others those are for the clouds that use an emulator, and all else is
    basic. The tests of a cloud share its emulators, those of a file its servers; what the simulator runs
    shares nothing.
    """
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0]
        return _SLOW.index(folder) if folder in _SLOW else len(_SLOW)

    items.sort(key=place)
    for item in items:
        if not any(item.get_closest_marker(part) for part in PARTS):
            asked: list[str] = getattr(item, "fixturenames", [])
            item.add_marker("basic" if _EMULATORS.isdisjoint(asked) else "clouds")
        if not item.get_closest_marker("simulator"):
            folder = item.path.relative_to(here).parts[0]
            group = folder if folder in ("aws", "gcp") else item.path.relative_to(here).as_posix()
            item.add_marker(pytest.mark.xdist_group(group))


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
