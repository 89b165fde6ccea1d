from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gateway.raw import Raw
from tests.gateway.servers import Server


@pytest.fixture(scope="session")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that tests share which leave it as it is."""
    server = Server(tmp_path_factory.mktemp("gateway"), "--commands", "*")
    yield server
    assert server.stop() == 0


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """What a test leaves connected, and running where it failed."""
    running = list(Server.made)
    yield
    while Raw.made:
        Raw.made.pop().close()
    for server in [each for each in Server.made if each not in running]:
        Server.made.remove(server)
        server.kill()
