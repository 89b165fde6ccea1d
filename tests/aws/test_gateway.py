"""ZooKeeper's protocol in front of a deployment on AWS: two servers, one of which is killed now and then."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from faaskeeper.config import Config
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.deploy import costs
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
def servers(deployed: Deployed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Server]]:
    made = [Server(tmp_path / name, config=deployed.data, usual=False) for name in ("one", "two")]
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
