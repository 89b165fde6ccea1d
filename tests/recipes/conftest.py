"""Each test of what recipes promise runs twice: with those for threads, and with those for asyncio."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import cast

import pytest

from faaskeeper import recipes
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.testing.conformance.blocking import BlockingClient
from tests.client.conftest import pytest_generate_tests as pytest_generate_tests
from tests.client.test_session import Service
from tests.recipes.blocking import blocking


@pytest.fixture
def kind(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, make: Callable[..., FaaSKeeperClient]
) -> Callable[..., FaaSKeeperClient]:
    """Makes a client; the names of recipes in the test's module are those of its kind."""
    if make is cast(object, BlockingClient):
        module = cast(ModuleType, request.module)
        for name in recipes.__all__:
            if name != "LockLost" and hasattr(module, name):
                monkeypatch.setattr(module, name, blocking(name))
    return make


@pytest.fixture
def service(config: Config, tmp_path: Path, kind: Callable[..., FaaSKeeperClient]) -> Iterator[Service]:
    made: list[FaaSKeeperClient] = []

    def make(config: Config, **options: object) -> FaaSKeeperClient:
        made.append(kind(config, **options))
        return made[-1]

    service = Service(config, tmp_path / "stands", make)
    yield service
    for client in made:  # those whose session a test ended, too: they may have threads
        client.stop()
    service.embedded.stop()


@pytest.fixture
def connect(
    kind: Callable[..., FaaSKeeperClient], connect: Callable[..., FaaSKeeperClient]
) -> Callable[..., FaaSKeeperClient]:
    return connect
