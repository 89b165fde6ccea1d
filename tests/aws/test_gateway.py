"""ZooKeeper's protocol in front of a deployment on AWS: two servers, one of which is killed now and then."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from faaskeeper.config import Config
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.deploy import costs
from faaskeeper.gateway.following import Following
from faaskeeper.providers.aws.service import AwsService
from faaskeeper.testing.patience import PATIENCE_S
from tests.aws import backends
from tests.aws.system import TABLES
from tests.counting import Counted
from tests.gateway import histories, raw
from tests.gateway.raw import Raw, number, string
from tests.gateway.servers import Server
from tests.gateway.threads import InThread

KILLS = 6
OPERATIONS = 120
"""Between two kills."""


class Deployed:
    """Tables, and heartbeat in a thread."""

    def __init__(self, endpoint: str) -> None:
        name = f"fk-{uuid4().hex[:8]}"
        for short in TABLES:
            backends.create_table(endpoint, f"{name}-{short}", ttl=short == "log")
        self.data: dict[str, Any] = {
            "cloud-provider": "aws",
            "deployment-name": name,
            "deployment-region": backends.REGION,
            "user-storage": "key-value",
            "aws": {
                "endpoint-url": endpoint,
                "client-host": "127.0.0.1",
                "client-networks": ["127.0.0.0/8"],
            },
        }
        config = Config.deserialize({**self.data, "aws": {**self.data["aws"], "worker-queue-url": "-"}})
        self.counted = Counted(AwsService(config), AwsService(config))
        self._heartbeat = Heartbeat(self.counted.deployment, self.counted.theirs.table("heartbeat"))
        self._stop = threading.Event()
        self._beating = threading.Thread(target=self._beat)
        self._beating.start()

    def _beat(self) -> None:
        while not self._stop.wait(0.5):
            self._heartbeat.expire()
            self._heartbeat.wake()

    def stop(self) -> None:
        self._stop.set()
        self._beating.join()
        self.counted.stop()


@pytest.fixture
def deployed(dynamodb_local: str) -> Iterator[Deployed]:
    made = Deployed(dynamodb_local)
    yield made
    made.stop()


@pytest.fixture
def servers(deployed: Deployed, tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[list[Server]]:
    options: tuple[str, ...] = getattr(request, "param", ())
    made = [Server(tmp_path / name, *options, config=deployed.data, usual=False) for name in ("one", "two")]
    yield made
    for server in made:
        assert server.stop() == 0
        assert "Traceback" not in server.text
    while Raw.made:
        Raw.made.pop().close()


def test_what_one_server_was_told_the_other_shows_and_watches(servers: list[Server]) -> None:
    one, two = (Raw(server.port) for server in servers)
    one.create("/a", b"1")
    assert two.ask(raw.SYNC, string("/"))[0] == 0
    assert two.ask(raw.GET, string("/a") + b"\1")[1].buffer() == b"1"
    one.create("/mine", flags=1)
    assert one.ask(raw.SET, string("/a") + string(b"2") + number(0))[0] == 0
    assert two.ask(raw.GET, string("/a") + b"\0")[1].buffer() == b"2"
    assert list(two.events) == [(3, "/a")]
    moved = Raw(servers[1].port, session=one.session, password=one.password)
    assert moved.session == one.session
    assert moved.ask(raw.EPHEMERALS, string("/"))[1].strings() == ["/mine"]
    assert moved.ask(raw.CLOSE)[0] == 0
    assert two.ask(raw.EXISTS, string("/mine") + b"\0")[0] == -101
    two.close()


def test_operations_cost_what_a_direct_writer_s_cost_and_no_queue(deployed: Deployed, tmp_path: Path) -> None:
    service = AwsService(Config.deserialize(deployed.data).written_directly())
    calls: Counter[str] = Counter()
    service.calls.observe(lambda name, took, failed: calls.update([name]))
    server = InThread(tmp_path, connection=service.connect(-1, service.aws.close))
    client = Raw(server.port, timeout=3_600_000)
    client.create("/a", b"x")
    writer = server.gateway.hub.connection.worker_queue._local

    def cost(op: int, body: bytes) -> dict[str, int]:
        with writer._running:  # what was answered need not be the last thing done
            calls.clear()
        assert client.ask(op, body)[0] == 0
        with writer._running:
            return dict(calls)

    change = string("/a") + string(b"y") + number(-1)
    cost(raw.SET, change)
    assert cost(raw.SET, change) == costs.CALLS["key-value"]["set"]["function"]
    puts = {name: many for name, many in cost(raw.SET, change).items() if name.endswith(".put")}
    assert puts == {"log.put": 1, "records.put": 1}
    assert sum(cost(raw.GET, string("/a") + b"\0").values()) == 1
    assert cost(raw.PING, b"") == {}
    server.stop()


class Remembering:
    """A server that reads from memory, and the calls that its process makes, writers included.

    ``every``: s between two looks at the log.
    """

    def __init__(self, deployed: Deployed, directory: Path, every: float) -> None:
        service = AwsService(Config.deserialize(deployed.data).written_directly())
        self.calls: Counter[str] = Counter()
        service.calls.observe(lambda name, took, failed: self.calls.update([name]))
        connection = service.connect(-1, service.aws.close)
        self.server = InThread(directory, connection=connection, following=Following(every))
        self.port = self.server.port
        self.hub = self.server.gateway.hub
        self._writer = self.hub.connection.worker_queue._local
        while self.server.call(lambda: self.hub.watches.rules.behind) is None:
            pass  # the first look

    def cost(self, act: Callable[[], object]) -> dict[str, int]:
        """The calls that something causes."""
        with self._writer._running:  # what was answered need not be the last thing done
            self.calls.clear()
        act()
        with self._writer._running:
            return dict(self.calls)


def value(client: Raw, path: str, watch: bool = False) -> bytes | None:
    error, body = client.ask(raw.GET, string(path) + bytes([watch]))
    assert error in (0, -101)
    return None if error else body.buffer()


@pytest.fixture
def remembering(deployed: Deployed, tmp_path: Path) -> Iterator[Callable[[float], Remembering]]:
    made: list[Remembering] = []

    def make(every: float) -> Remembering:
        made.append(Remembering(deployed, tmp_path / f"server{len(made)}", every))
        return made[-1]

    yield make
    while Raw.made:
        Raw.made.pop().close()
    for each in made:
        each.server.stop()


def test_reads_from_memory_make_no_call_until_a_write_is_met(
    remembering: Callable[[float], Remembering],
) -> None:
    one, two = remembering(3600), remembering(3600)
    mine, other = Raw(one.port, timeout=3_600_000), Raw(two.port, timeout=3_600_000)
    mine.create("/a", b"1")
    assert one.cost(lambda: value(mine, "/a")) == {"records.get": 1}
    for client in (mine, Raw(one.port, timeout=3_600_000)):
        assert one.cost(lambda client=client: value(client, "/a")) == {}
        assert one.cost(lambda client=client: client.ask(raw.EXISTS, string("/a") + b"\0")) == {}
    assert one.cost(lambda: value(mine, "/none")) == {"records.get": 1, "checkpoint.get": 1}
    assert one.cost(lambda: value(mine, "/none")) == {}
    assert one.cost(lambda: value(mine, "/a", watch=True)) == {}
    assert one.cost(lambda: mine.ask(raw.EXISTS, string("/none") + b"\1")) == {}

    assert other.ask(raw.SET, string("/a") + string(b"2") + number(-1))[0] == 0
    assert value(mine, "/a") == b"1"  # as on a follower that has not heard of it
    assert list(mine.events) == []
    assert mine.ask(raw.SYNC, string("/a"))[0] == 0
    assert list(mine.events) == [(3, "/a")]
    assert value(mine, "/a") == b"2"
    assert mine.ask(raw.SET, string("/a") + string(b"3") + number(-1))[0] == 0
    assert value(mine, "/a") == b"3"


def test_a_set_beside_a_watch_costs_no_notification_and_a_look_at_the_log_one_call(
    remembering: Callable[[float], Remembering],
) -> None:
    one = remembering(3600)
    client = Raw(one.port, timeout=3_600_000)
    client.create("/a", b"1")
    change = string("/a") + string(b"2") + number(-1)
    client.ask(raw.SET, change)
    assert value(client, "/a", watch=True) == b"2"
    assert one.cost(lambda: client.ask(raw.SET, change)) == costs.CALLS["key-value"]["set"]["function"]
    assert list(client.events) == [(3, "/a")]
    assert one.cost(lambda: one.server.wait(one.hub.follower._look())) == costs.FOLLOW


def test_what_others_write_and_delete_is_seen_by_following_alone(
    deployed: Deployed, remembering: Callable[[float], Remembering], servers: list[Server]
) -> None:
    one = remembering(0.02)
    mine, other = Raw(one.port), Raw(servers[0].port)
    other.create("/a", b"1")
    assert mine.ask(raw.EXISTS, string("/a") + b"\0")[0] == 0  # it is answered: nothing was in memory
    assert value(mine, "/a", watch=True) == b"1"
    assert other.ask(raw.SET, string("/a") + string(b"2") + number(-1))[0] == 0
    while not mine.events:
        mine.ping()
    assert list(mine.events) == [(3, "/a")]
    assert value(mine, "/a") == b"2"
    other.create("/a/c")
    while mine.ask(raw.CHILDREN, string("/a") + b"\0")[1].strings() != ["c"]:
        pass
    moved = Raw(one.port, session=other.session, password=other.password)  # to the server that follows
    assert moved.session == other.session
    assert moved.ask(raw.DELETE, string("/a/c") + number(-1))[0] == 0
    assert mine.ask(raw.CHILDREN, string("/a") + b"\0")[1].strings() == []


@pytest.mark.parametrize("servers", [(), ("--reads", "memory", "--follow", "20")], indirect=True)
def test_histories_hold_while_servers_are_killed_at_random(deployed: Deployed, servers: list[Server]) -> None:
    chance = random.Random(7)
    ports = [server.port for server in servers]
    for path in histories.PATHS:
        Raw(ports[0]).create(path)
    clients = [histories.Client(f"c{each}", ports, each) for each in range(4)]
    for client in clients:
        client.start()

    def operations(number: int) -> None:
        """Wait until so many more were done."""
        due = sum(each.done for each in clients) + number
        while sum(each.done for each in clients) < due:
            assert [each.error for each in clients if each.error] == []
            clients[0].join(0.01)

    for _ in range(KILLS):
        operations(OPERATIONS)
        server = chance.choice(servers)
        server.kill()
        operations(OPERATIONS // 4)
        server.start()
    operations(OPERATIONS)
    for client in clients:
        client.end()
    for client in clients:
        client.join(PATIENCE_S)
        assert not client.is_alive()
        assert client.error is None
    model = histories.replay(deployed.counted.deployment)
    histories.check(model, clients)
    assert sum(client.reconnects for client in clients) >= KILLS
    assert any(isinstance(step, histories.Event) for client in clients for step in client.history)
