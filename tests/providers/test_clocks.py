"""The embedded service and direct writers under clocks that are set, differ, or sleep."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faaskeeper import clocks
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.client.session import Session, SessionState
from faaskeeper.config import Config
from faaskeeper.core.clocks import Clock
from faaskeeper.core.connection import connection_to
from faaskeeper.core.deployment import Deployment, begin, on_tables
from faaskeeper.core.errors import Unavailable
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.log import Log
from faaskeeper.core.writer import Writer
from faaskeeper.providers.direct import MEASURE_EVERY_S, Contended, DirectQueue
from faaskeeper.providers.inprocess import LocalQueue
from faaskeeper.providers.local.channels import LocalChannel
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.providers.memory import MemoryTable

SECOND, HOUR = 1000, 3_600_000
DAY = 24 * HOUR
YEARS = 3650 * DAY
STEPS = [31 * SECOND, -31 * SECOND, YEARS, -YEARS]
TIMEOUT_S = 20.0


class Time:
    """A machine's clocks: ``off`` by so much is what the wall clock shows."""

    def __init__(self) -> None:
        self.elapsed = 1_700_000_000_000
        self.off = 0

    def wall(self) -> int:
        return self.elapsed + self.off

    def steady(self) -> int:
        return self.elapsed


class Embedded:
    """An embedded service by a machine's clocks, and clients of it that renew when they are told to."""

    def __init__(self, directory: Path, **clocks: Clock) -> None:
        self.config = Config.local(directory)
        self.service = EmbeddedService(self.config, directory, beat=False, **clocks)
        self.clients: list[FaaSKeeperClient] = []
        self.running = True

    def client(self, timeout: float = TIMEOUT_S) -> FaaSKeeperClient:
        client = FaaSKeeperClient(
            self.config,
            session_timeout=timeout,
            heartbeat=False,
            connect=lambda config, port: self.service.connection(port, lambda: None),
        )
        client.start()
        self.clients.append(client)
        return client

    def crash(self) -> None:
        """The process is gone, and its clients with it."""
        while self.clients:
            session_of(self.clients.pop()).abandon()
        self.stop()

    def stop(self) -> None:
        if self.running:
            self.running = False
            for client in self.clients:
                client.stop()
            self.service.stop()


def session_of(client: FaaSKeeperClient) -> Session:
    assert client._session is not None
    return client._session


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Callable[..., Embedded]]:
    made: list[Embedded] = []

    def embedded(**clocks: Clock) -> Embedded:
        made.append(Embedded(tmp_path, **clocks))
        return made[-1]

    yield embedded
    for each in made:
        each.stop()


# ---- the embedded service --------------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_the_wall_clock_ends_no_session_of_an_embedded_service(
    make: Callable[..., Embedded], step: int
) -> None:
    wall = [clocks.clock()]
    embedded = make(clock=lambda: wall[0])  # what has passed is the machine's to say
    client = embedded.client()
    client.create("/mine", ephemeral=True)
    for _ in range(2):
        wall[0] += step
        assert embedded.service.heartbeat.expire() == []
        assert client.state is SessionState.CONNECTED
        session_of(client).renew()
    assert client.exists("/mine") is not None


@pytest.mark.parametrize("step", STEPS)
def test_a_step_of_the_wall_clock_keeps_no_session_alive(
    make: Callable[..., Embedded], time: Time, step: int
) -> None:
    embedded = make(clock=time.wall, steady=time.steady)
    silent, renewing = embedded.client(), embedded.client()
    time.elapsed += 15 * SECOND
    session_of(renewing).renew()
    time.off = step
    time.elapsed += 5 * SECOND
    assert embedded.service.heartbeat.expire() == []
    time.elapsed += 1
    assert embedded.service.heartbeat.expire() == [session_of(silent).id]
    assert session_of(silent).state is not SessionState.CONNECTED
    assert session_of(renewing).state is SessionState.CONNECTED


def test_sleep_of_the_machine_counts(make: Callable[..., Embedded], time: Time) -> None:
    embedded = make(clock=time.wall, steady=time.steady)
    client = embedded.client()
    time.elapsed += 10 * 60 * SECOND
    assert client.state is SessionState.SUSPENDED
    assert embedded.service.heartbeat.expire() == [session_of(client).id]


def test_the_machine_s_steady_clock_goes_on_and_is_nobody_s_to_set() -> None:
    before, text = clocks.elapsed(), clocks.boot()
    assert clocks.elapsed() >= before
    assert clocks.boot() == text
    assert abs(clocks.elapsed() - clocks.elapsed_s() * 1000) < 10_000


def test_ten_years_for_one_write_change_no_time_that_users_see_and_nothing_ends(
    make: Callable[..., Embedded], time: Time
) -> None:
    embedded = make(clock=time.wall, steady=time.steady)
    client = embedded.client(timeout=3600)
    client.create("/n")
    time.off = YEARS
    glitch = client.set_data("/n", b"").stat
    assert glitch.mtime == time.elapsed
    client.create("/mortal", ttl=HOUR)
    assert embedded.service.heartbeat.reap() == []
    time.off = 0
    time.elapsed += HOUR + 1
    assert client.set_data("/n", b"").stat.mtime == time.wall()
    assert embedded.service.heartbeat.reap() == ["/mortal"]


def test_after_ten_years_at_the_opening_times_to_live_end_and_closed_sessions_are_forgotten(
    make: Callable[..., Embedded], time: Time
) -> None:
    time.off = YEARS
    embedded = make(clock=time.wall, steady=time.steady)
    client = embedded.client(timeout=3600)
    client.create("/n")  # nothing told better what time it is
    time.off = 0
    client.create("/mortal", ttl=HOUR)
    closed = embedded.client(timeout=3600)
    number = session_of(closed).id
    closed.stop()
    writer: Any = embedded.service._queues[0]._handle
    for _ in range(40):
        time.elapsed += HOUR
        session_of(client).renew()
        assert client.set_data("/n", b"").stat.mtime >= time.wall() + YEARS - 5 * HOUR
        embedded.service.heartbeat.reap()
    client.sync("/")
    assert client.exists("/mortal") is None
    with embedded.service._queues[0]._running:
        writer.__self__.idle()
    assert writer.__self__._view.sessions.get(number) is None
    assert session_of(client).state is SessionState.CONNECTED


def test_a_clock_that_is_put_right_is_shown_by_the_next_write(
    make: Callable[..., Embedded], time: Time
) -> None:
    embedded = make(clock=time.wall, steady=time.steady)
    client = embedded.client(timeout=3600)
    client.create("/n")
    time.off = 31 * SECOND
    assert client.set_data("/n", b"").stat.mtime == time.wall()
    time.off = 0
    shown = []
    for _ in range(7):
        time.elapsed += 60 * SECOND
        shown.append(client.set_data("/n", b"").stat.mtime - time.wall())
    assert shown == [25_000, 19_000, 13_000, 7_000, 1_000, 0, 0]


# ---- one service after the other ---------------------------------------------------------------


@pytest.mark.parametrize("step", STEPS)
def test_a_lease_lasts_as_long_whatever_is_done_to_the_wall_clock_between_two_services(
    make: Callable[..., Embedded], step: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, wall = [1000 * SECOND], [clocks.clock()]
    monkeypatch.setattr(clocks, "boot", lambda: "this run of the system")
    monkeypatch.setattr(clocks, "elapsed", lambda: passed[0])
    monkeypatch.setattr(clocks, "clock", lambda: wall[0])
    embedded = make()
    number = session_of(embedded.client()).id
    embedded.crash()
    wall[0] += step
    passed[0] += int(TIMEOUT_S * SECOND)
    again = make().service
    assert again.heartbeat.expire() == []
    passed[0] += 1
    assert again.heartbeat.expire() == [number]


def test_a_lease_of_before_the_system_s_start_does_not_live_for_ever_when_the_clock_is_set_back(
    make: Callable[..., Embedded], monkeypatch: pytest.MonkeyPatch
) -> None:
    passed, wall = [0], [clocks.clock()]
    monkeypatch.setattr(clocks, "elapsed", lambda: passed[0])
    monkeypatch.setattr(clocks, "clock", lambda: wall[0])
    embedded = make()
    number = session_of(embedded.client()).id
    embedded.crash()
    monkeypatch.setattr(clocks, "boot", lambda: "another run")
    wall[0] -= YEARS
    for _ in range(4):  # none of them lasts as long as a time-out
        again = make()
        assert again.service.heartbeat.expire() == []
        passed[0] += int(TIMEOUT_S * SECOND) // 4
        again.crash()
    passed[0] += 1
    assert make().service.heartbeat.expire() == [number]


# ---- writers in clients' processes --------------------------------------------------------------


class Cloud:
    """Functions by one clock, and clients with writers of their own whose clocks differ from it."""

    def __init__(self) -> None:
        self.time = Time()
        self.tables: dict[str, MemoryTable] = {}
        self.channel = LocalChannel()
        self.function = self.deployment(0)
        begin(self.function)
        writer = Writer(self.function)
        self.queue = LocalQueue("writer", writer.handle, writer.idle, print)
        self.function.worker_queue = self.queue
        self.heartbeat = Heartbeat(self.function, self.deployment_table("heartbeat"))
        self.stops: list[Callable[[], None]] = [self.queue.stop]

    def deployment_table(self, name: str) -> MemoryTable:
        return self.tables.setdefault(name, MemoryTable())

    def deployment(self, skew: int) -> Deployment:
        return on_tables(
            self.deployment_table,
            expiring_log=True,
            worker_queue=None,
            channel=self.channel,
            key=b"k" * 32,
            clock=lambda: self.time.elapsed + skew,
        )

    def direct(self, skew: int, fallback: Any, clock: Callable[[], float] = lambda: 0.0) -> FaaSKeeperClient:
        mine = self.deployment(skew)
        log = Contended(self.deployment_table("log"), losses=6)
        mine.log = Log(log)
        queue = DirectQueue(mine, log, fallback, print, clock=clock)
        mine.worker_queue = queue
        client = FaaSKeeperClient(
            Config.local(),
            session_timeout=TIMEOUT_S,
            heartbeat=False,
            connect=lambda config, port: connection_to(mine, self.channel),
        )
        client.start()
        self.stops[:0] = [client.stop, queue.stop]
        return client


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    made = Cloud()
    yield made
    for stop in made.stops:
        stop()


@pytest.mark.parametrize("skew", [-31 * SECOND, 31 * SECOND, -9 * HOUR, 9 * HOUR])
def test_the_session_of_a_direct_writer_s_client_lasts_by_the_functions_clock(
    cloud: Cloud, skew: int
) -> None:
    client = cloud.direct(skew, cloud.queue)
    assert cloud.heartbeat.expire() == []  # before it ever renewed
    for number in range(3):
        client.create(f"/mine{number}", ephemeral=True)  # its own writer's answer tells no time
        session_of(client).renew()
        cloud.time.elapsed += int(TIMEOUT_S * SECOND)
        assert cloud.heartbeat.expire() == []
    cloud.time.elapsed += 1
    assert cloud.heartbeat.expire() == [session_of(client).id]


class Spy:
    """A queue that notes what comes through, or is out of reach."""

    ordered = True
    max_message_bytes = LocalQueue.max_message_bytes

    def __init__(self, queue: LocalQueue) -> None:
        self.queue = queue
        self.reached = True
        self.came = 0

    def send(self, group: str, identity: str, body: bytes) -> None:
        if not self.reached:
            raise Unavailable("out of reach")
        self.came += 1
        self.queue.send(group, identity, body)


def test_a_direct_writer_asks_the_functions_for_their_clock_at_the_opening_and_now_and_then(
    cloud: Cloud,
) -> None:
    now = [0.0]
    spy = Spy(cloud.queue)
    client = cloud.direct(0, spy, lambda: now[0])
    assert spy.came == 1
    for number in range(20):
        client.create(f"/n{number}")
    assert spy.came == 1
    now[0] += MEASURE_EVERY_S
    cloud.function.clock = lambda: cloud.time.elapsed + 5 * SECOND  # they have drifted apart
    for number in range(20):
        client.create(f"/m{number}")
    assert spy.came == 2
    assert session_of(client).connection.service() == cloud.time.elapsed + 5 * SECOND


def test_a_direct_writer_serves_where_the_functions_are_out_of_reach(cloud: Cloud) -> None:
    spy = Spy(cloud.queue)
    spy.reached = False
    client = cloud.direct(0, spy)
    client.create("/n")
    assert client.exists("/n") is not None
    assert spy.came == 0
