"""What operations cost on AWS: calls counted where they are made, against the list that prices multiply."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any
from uuid import uuid4

import pytest

from faaskeeper.cli import costs
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config, StorageType
from faaskeeper.core.connection import Connection, connection_to
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.writer import Writer
from faaskeeper.providers.aws import service
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.service import Place
from faaskeeper.providers.inprocess import LocalQueue
from faaskeeper.testing.faults import Capacity
from tests.aws import backends
from tests.aws.system import TABLES

DATA = b"x" * 1024


class Counted:
    """A deployment whose writer runs in this process, every call to AWS counted, by whom."""

    def __init__(self, endpoint: str, storage: str) -> None:
        name = f"fk-{uuid4().hex[:8]}"
        for short in TABLES:
            backends.create_table(endpoint, f"{name}-{short}", ttl=short == "log")
        data = {
            "cloud-provider": "aws",
            "deployment-name": name,
            "deployment-region": backends.REGION,
            "user-storage": storage,
            "aws": {"endpoint-url": endpoint, "worker-queue-url": "-"},
        }
        if storage != "key-value":
            data["aws"]["data-bucket"] = backends.create_bucket(endpoint)  # type: ignore[index]
        self.config = Config.deserialize(data)
        self._mine, self._theirs = (
            Aws(backends.REGION, endpoint=endpoint),
            Aws(backends.REGION, endpoint=endpoint),
        )
        self.by_client: Counter[str] = Counter()
        self.by_function: Counter[str] = Counter()
        self._mine.observe(lambda name, took, failed: self.by_client.update([name]))
        self._theirs.observe(lambda name, took, failed: self.by_function.update([name]))
        theirs = Place(self.config, self._theirs)
        self._deployment = theirs.deployment(theirs.begun(), worker_queue=None)
        self._writer = Writer(self._deployment)
        self.queue = LocalQueue("writer", self._writer.handle, lambda: None, lambda error: None)
        self._deployment.worker_queue = self.queue

    def client(self) -> FaaSKeeperClient:
        def connect(config: Config, port: int) -> Connection:
            mine = Place(config, self._mine)
            made = mine.deployment(b"", worker_queue=self.queue)
            return connection_to(made, mine.ears(port))

        return FaaSKeeperClient(self.config, session_timeout=3600, connect=connect)

    def count(self, act: Callable[[], object]) -> tuple[dict[str, int], dict[str, int]]:
        """Calls of the client's process and of the function's that an operation causes."""
        with self.queue._running:  # what was asked for before is done
            self.by_client.clear()
            self.by_function.clear()
        act()
        with self.queue._running:  # who was answered need not be the last thing done
            return dict(self.by_client), dict(self.by_function)

    def stop(self) -> None:
        self.queue.stop()
        self._deployment.channel.close()  # type: ignore[attr-defined]
        self._mine.close()
        self._theirs.close()


@pytest.fixture(params=["key-value", "hybrid", "persistent"])
def counted(request: pytest.FixtureRequest, ministack: str) -> Iterator[Counted]:
    made = Counted(ministack, request.param)
    yield made
    made.stop()


def test_operations_make_the_calls_that_prices_are_multiplied_with(counted: Counted) -> None:
    storage = counted.config.user_storage.value
    with counted.client() as client, counted.client() as other:
        client.create("/p")
        client.create("/p/a", DATA)
        client.set_data("/p/a", DATA)
        seen: dict[str, Any] = {}
        for operation, act in (
            ("set", lambda: client.set_data("/p/a", DATA)),
            ("create", lambda: client.create("/p/b", DATA)),
            ("delete", lambda: client.delete("/p/b")),
            ("get", lambda: client.get_data("/p/a")),
            ("exists", lambda: client.exists("/p/a")),
            ("children", lambda: client.get_children("/p")),
        ):
            mine, theirs = counted.count(act)
            seen[operation] = {"client": mine, "function": theirs}
        told = threading.Event()
        other.get_data("/p/a", lambda event: told.set())  # so that the index of the session is there
        client.set_data("/p/a", DATA)
        assert told.wait(60)
        other.sync()
        mine, _ = counted.count(lambda: other.get_data("/p/a", lambda event: None))
        seen["watch"] = {"client": mine, "function": {}}
        _, theirs = counted.count(lambda: client.set_data("/p/a", DATA))
        extra = Counter(theirs)
        extra.subtract(seen["set"]["function"])
        seen["notification"] = {
            "client": {},
            "function": {name: many for name, many in extra.items() if many},
        }
        lease = client._session
        assert lease is not None
        mine, _ = counted.count(lease.renew)
        seen["lease"] = {"client": mine, "function": {}}
    assert seen == costs.CALLS[storage], json.dumps(seen, indent=1)


def test_a_beat_and_a_sweep_at_rest_make_the_calls_that_prices_are_multiplied_with(counted: Counted) -> None:
    place = Place(counted.config, counted._theirs)
    beat = Heartbeat(counted._deployment, place.table("heartbeat"))

    def minute() -> None:
        assert beat.expire() == []
        assert beat.reap() == []
        assert beat.ring() is False

    def hour() -> None:
        beat.refresh()
        beat.sweep()

    hour()
    assert counted.count(minute)[1] == costs.BEAT
    swept = counted.count(hour)[1]
    if counted.config.user_storage is StorageType.KEY_VALUE:
        assert swept.pop("records.query") == 1
        swept["objects.list"] = 1
    assert swept == costs.SWEEP


def config(**options: str) -> Config:
    return Config.deserialize(
        {"cloud-provider": "aws", "deployment-name": "x", "deployment-region": "us-east-1", **options}
    )


def test_prices_know_from_where_on_data_is_apart() -> None:
    assert costs.INLINE_BYTES == service.INLINE_BYTES


def test_prices_follow_size_configuration_and_load() -> None:
    made = costs.Costs(config())
    assert made.operation("set", 64 * 1024) < costs.Costs(config(**{"user-storage": "key-value"})).operation(
        "set", 64 * 1024
    )
    assert costs.Costs(config(**{"worker-queue": "direct"})).operation("set", 1024) < made.operation(
        "set", 1024
    )
    idle = made.month(costs.Workload())
    assert idle == {"at rest": sum(made.at_rest().values()), "reads": 0, "writes": 0, "leases": 0}
    load = costs.Workload(reads=1e6, writes=1e5, clients=10)
    month = made.month(load)
    assert month["reads"] == pytest.approx(1e6 * made.operation("get", 1024))
    assert sum(month.values()) < made.zookeeper()
    at = made.break_even(load)
    share = at / 1.1e6
    more = made.month(costs.Workload(reads=1e6 * share, writes=1e5 * share, clients=10))
    assert sum(more.values()) == pytest.approx(made.zookeeper())


def test_at_rest_it_costs_cents_a_month() -> None:
    def rest(**options: str) -> float:
        told = costs.Costs(config(**options)).at_rest()
        return sum(price for name, price in told.items() if "free" not in name)

    assert rest() < 0.60
    assert rest(**{"worker-queue": "dynamodb"}) < 0.25


@pytest.fixture
def on_amazon_s_own(dynamodb_local: str) -> Iterator[Counted]:
    made = Counted(dynamodb_local, "key-value")
    yield made
    made.stop()


def test_the_store_counts_the_capacity_that_prices_are_multiplied_with(on_amazon_s_own: Counted) -> None:
    counted = on_amazon_s_own
    with counted.client() as client:
        client.create("/p", DATA)
        client.set_data("/p", DATA)
        capacity = Capacity()
        capacity.attach(counted._theirs.client("dynamodb"))
        capacity.attach(counted._mine.client("dynamodb"))
        counted.count(lambda: client.set_data("/p", DATA))
        client.get_data("/p")
        units = dict(capacity.units)
    made = costs.Costs(counted.config)
    unit = made.table["dynamodb"]
    for name, call in (("log.PutItem", "log.put"), ("records.PutItem", "records.put")):
        assert units[name] * unit["write-unit"] == pytest.approx(made.call(call, len(DATA))), name
    assert units["records.GetItem"] * unit["read-unit"] == pytest.approx(made.call("records.get", len(DATA)))
