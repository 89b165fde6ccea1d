"""The example of a provider passes the whole conformance kit, on a real Redis server of its own.

The server is Debian's.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import faaskeeper_redis
import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config, ConfigurationException
from faaskeeper.core.deployment import begin
from faaskeeper.core.errors import Denied, Unavailable
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.objects import TableObjects
from faaskeeper.exceptions import ProviderException
from faaskeeper.testing.conformance.drivers import ChannelSuite, ObjectStoreSuite, QueueSuite, TableSuite
from faaskeeper.testing.conformance.systems import (
    CrashSuite,
    Harness,
    SemanticsSuite,
    SessionSuite,
    WatchSuite,
)
from faaskeeper.testing.patience import PATIENCE_S
from tests.backends import free_port, needs

EXAMPLE = Path(__file__).parents[2] / "examples" / "redis" / "faaskeeper_redis.py"
KEY = b"k" * 32


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server."""
    needs("redis-server", shutil.which("redis-server"), "'apt-get install redis-server' installs it")
    port = free_port()
    directory = tmp_path_factory.mktemp("redis")
    process = subprocess.Popen(
        ["redis-server", "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(directory)],
        stdout=subprocess.DEVNULL,
    )
    server = faaskeeper_redis.redis.Redis(port=port)
    retry = faaskeeper_redis.redis.retry.Retry(faaskeeper_redis.redis.backoff.ConstantBackoff(0.05), 200)
    retry.call_with_retry(server.ping, lambda error: None)
    yield f"redis://127.0.0.1:{port}"
    process.terminate()
    process.wait(PATIENCE_S)


@pytest.fixture
def server(url: str) -> object:
    return faaskeeper_redis.redis.Redis.from_url(url)


class TestRedisTable(TableSuite):
    @pytest.fixture
    def table(self, server: object) -> object:
        return faaskeeper_redis.RedisTable(server, uuid4().hex)


class TestObjectsInATable(ObjectStoreSuite):
    @pytest.fixture
    def store(self, server: object) -> object:
        return TableObjects(faaskeeper_redis.RedisTable(server, uuid4().hex))


class QueueHarness:
    def __init__(self, server: object) -> None:
        self.queue = faaskeeper_redis.RedisQueue(server, uuid4().hex)
        self._came: list[bytes] = []

    def receive(self, number: int) -> list[bytes]:
        while len(self._came) < number:
            assert self.queue.serve(self._came.extend, timeout=PATIENCE_S)
        return self._came


class TestRedisQueue(QueueSuite):
    @pytest.fixture
    def harness(self, server: object) -> QueueHarness:
        return QueueHarness(server)


class TestRedisChannel(ChannelSuite):
    @pytest.fixture
    def channel(self, server: object) -> object:
        return faaskeeper_redis.RedisChannel(server, uuid4().hex)

    @pytest.fixture
    def client_channel(self, channel: object) -> object:
        return channel


class RedisSystem(Harness):
    """A deployment whose functions run in a process that is killed for real."""

    def __init__(self, url: str, directory: Path) -> None:
        name = f"suite-{uuid4().hex}"
        (directory / "key").write_text(KEY.hex())
        settings = {"url": url, "key-file": str(directory / "key"), "peer": "127.0.0.1"}
        self._file = directory / "redis.json"
        self._file.write_text(
            json.dumps(
                {
                    "cloud-provider": "redis",
                    "deployment-name": name,
                    "heartbeat-frequency": 3600,
                    "redis": settings,
                }
            )
        )
        self.config = Config.load(self._file)
        self._deployment = faaskeeper_redis.deployment(self.config, KEY)
        begin(self._deployment)
        self._start()

    def _start(self) -> None:
        self._process = subprocess.Popen([sys.executable, "-m", "faaskeeper_redis", str(self._file)])

    def beat(self) -> None:
        Heartbeat(self._deployment, faaskeeper_redis.table(self.config, "heartbeat")).run()

    def crash(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)
        self._start()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait(PATIENCE_S)


@pytest.fixture(scope="module")
def harness(url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisSystem]:
    system = RedisSystem(url, tmp_path_factory.mktemp("system"))
    yield system
    system.stop()


class TestSemantics(SemanticsSuite):
    pass


class TestSessions(SessionSuite):
    pass


class TestWatches(WatchSuite):
    pass


class TestCrashes(CrashSuite):
    pass


def test_the_example_is_short_enough_to_be_read() -> None:
    assert len(EXAMPLE.read_text().splitlines()) <= 300


def test_errors_of_redis_are_told_by_kind(url: str) -> None:
    redis = faaskeeper_redis.redis
    nobody = redis.Redis(port=1, retry=None)
    with pytest.raises(Unavailable, match="did not respond"):
        faaskeeper_redis.RedisTable(nobody, "t").get("/p", "k")
    stranger = redis.Redis.from_url(url.replace("//", "//someone:wrong@"))
    with pytest.raises(Denied, match="user and password"):
        faaskeeper_redis.RedisTable(stranger, "t").get("/p", "k")


def test_a_deployment_that_nobody_serves_says_so(url: str) -> None:
    config = Config.deserialize(
        {"cloud-provider": "redis", "deployment-name": uuid4().hex, "redis": {"url": url}}
    )
    with pytest.raises(ProviderException, match="never set up"):
        FaaSKeeperClient(config).start()


def test_a_provider_that_is_not_installed_is_named_with_those_that_are() -> None:
    with pytest.raises(ConfigurationException, match="'redis'"):
        Config.deserialize({"cloud-provider": "nosuch", "deployment-name": "x"})
