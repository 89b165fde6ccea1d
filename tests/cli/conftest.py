"""What tests of the command share."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from faaskeeper.cli.context import Context
from faaskeeper.config import Config
from tests.gateway.servers import Server
from tests.zookeeper import zookeeper


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Commands take interrupts, also where the tests run in the background of a shell that ignores them:
    what a process ignores, those that it starts ignore, too.
    """
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    """A shell's context."""
    made = Context(Config.local(tmp_path / "service"))
    made.one_shot = False
    yield made
    made.close()


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a ZooKeeper server."""
    with zookeeper(tmp_path_factory.mktemp("zookeeper")) as port:
        yield port


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of ``fk serve``."""
    server = Server(tmp_path_factory.mktemp("served"))
    yield server.port
    server.kill()


@pytest.fixture(params=["real", "served"])
def port(request: pytest.FixtureRequest) -> int:
    found: int = request.getfixturevalue(request.param)
    return found
