"""A server under clocks that are set, differ from the service's, or sleep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from faaskeeper import clocks
from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.core.sessions import served_ms
from faaskeeper.providers.local.service import EmbeddedService
from tests.gateway import raw
from tests.gateway.raw import Closed, Raw, string
from tests.gateway.threads import InThread, far

SECOND = 1000
YEARS = 3650 * 24 * 3600 * SECOND
TIMEOUT_MS = 20_000


class Served:
    """An embedded service whose clocks stand unless they are moved, and a server of it."""

    def __init__(self, directory: Path, change: Callable[[Connection], Connection]) -> None:
        self.wall = self.steady = clocks.clock()
        config = Config.local(directory)
        self.service = EmbeddedService(
            config, directory, clock=lambda: self.wall, steady=lambda: self.steady, beat=False
        )
        connection = change(self.service.connection(-1, lambda: None))
        self.offset = 0.0
        self.server = InThread(directory, connection=connection, now=lambda: clocks.elapsed_s() + self.offset)
        self.hub = self.server.gateway.hub

    def passes(self, ms: int) -> None:
        """Time passes for the server and the service, as when the machine sleeps."""
        self.steady += ms
        self.offset += ms / 1000

    def expire(self) -> list[int]:
        return self.server.call(self.service.heartbeat.expire)

    def renew(self) -> None:
        self.server.wait(self.hub.lease.renew())

    def stop(self) -> None:
        self.server.stop()
        self.service.stop()


def behind(connection: Connection) -> Connection:
    """Of a server on another machine, whose clock is behind."""
    clock = connection.clock
    return replace(far(connection), clock=lambda: clock() - 31 * SECOND)


@pytest.fixture(params=[lambda connection: connection, far, behind], ids=["near", "far", "behind"])
def served(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path, request.param)
    yield made
    made.stop()


@pytest.mark.parametrize("step", [31 * SECOND, -31 * SECOND, YEARS, -YEARS])
def test_a_step_of_the_wall_clock_ends_no_session_of_a_server(served: Served, step: int) -> None:
    client = Raw(served.server.port, timeout=TIMEOUT_MS)
    client.create("/mine", flags=1)
    for _ in range(2):
        served.wall += step
        assert served.expire() == []
        client.ping()
        served.renew()
    assert client.ask(raw.EPHEMERALS, string("/"))[1].strings() == ["/mine"]


def test_a_session_that_its_server_renews_lives_by_the_service_s_clock(served: Served) -> None:
    client = Raw(served.server.port, timeout=TIMEOUT_MS)
    client.create("/mine", flags=1)
    for _ in range(4):
        served.passes(TIMEOUT_MS // 2)
        client.ping()
        served.renew()
        assert served.expire() == []
    assert served.service.deployment.leases.get(client.session) is not None
    served.wall -= YEARS  # keeps nothing alive
    served.passes(TIMEOUT_MS + SECOND)
    assert served.hub.lease.session in served.expire()


def test_a_server_that_slept_for_longer_than_its_lease_serves_nobody_before_it_is_renewed(
    served: Served,
) -> None:
    client = Raw(served.server.port, timeout=TIMEOUT_MS)
    served.passes(served_ms(TIMEOUT_MS))
    with pytest.raises((Closed, ConnectionError)):
        client.ping()
