"""What operations cost on AWS: calls counted where they are made, against the list that prices multiply."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from faaskeeper.config import Config
from faaskeeper.deploy import costs
from faaskeeper.deploy.aws.costs import INLINE_BYTES, LOG_STRIPES, AwsCosts
from faaskeeper.gateway.following import FOLLOW_MS
from faaskeeper.providers.aws import service
from faaskeeper.providers.aws.service import AwsService
from faaskeeper.testing.emulation.faults import Capacity
from tests.aws import backends
from tests.aws.system import TABLES
from tests.counting import DATA, Counted, at_rest, operations


def counting(endpoint: str, storage: str) -> Counted:
    name = f"fk-{uuid4().hex[:8]}"
    for short in TABLES:
        backends.create_table(endpoint, f"{name}-{short}", ttl=short == "log")
    section: dict[str, Any] = {
        "endpoint-url": endpoint,
        "worker-queue-url": "-",
        "client-networks": ["127.0.0.0/8"],  # by TCP: calls of the queue channel are not counted
    }
    if storage != "key-value":
        section["data-bucket"] = backends.create_bucket(endpoint)
    config = Config.deserialize(
        {
            "cloud-provider": "aws",
            "deployment-name": name,
            "deployment-region": backends.REGION,
            "user-storage": storage,
            "aws": section,
        }
    )
    return Counted(AwsService(config), AwsService(config))


@pytest.fixture(params=["key-value", "hybrid", "persistent"])
def counted(request: pytest.FixtureRequest, ministack: str) -> Iterator[Counted]:
    made = counting(ministack, request.param)
    yield made
    made.stop()


def test_operations_make_the_calls_that_prices_are_multiplied_with(counted: Counted) -> None:
    seen = operations(counted)
    assert seen == costs.CALLS[counted.config.user_storage.value], json.dumps(seen, indent=1)


def test_a_beat_and_a_sweep_at_rest_make_the_calls_that_prices_are_multiplied_with(counted: Counted) -> None:
    assert at_rest(counted) == (costs.BEAT, costs.SWEEP)


def config(**options: str) -> Config:
    return Config.deserialize(
        {"cloud-provider": "aws", "deployment-name": "x", "deployment-region": "us-east-1", **options}
    )


def test_prices_know_from_where_on_data_is_apart() -> None:
    assert INLINE_BYTES == service.INLINE_BYTES
    assert LOG_STRIPES == service.LOG_STRIPES


def test_prices_follow_size_configuration_and_load() -> None:
    made = AwsCosts(config())
    assert made.operation("set", 64 * 1024) < AwsCosts(config(**{"user-storage": "key-value"})).operation(
        "set", 64 * 1024
    )
    assert AwsCosts(config(**{"worker-queue": "direct"})).operation("set", 1024) < made.operation("set", 1024)
    idle = made.month(costs.Workload())
    assert {name: price for name, price in idle.items() if price} == {"at rest": sum(made.at_rest().values())}
    fifo = made.table["sqs"]["fifo-request"]
    by_tcp, by_sqs = (AwsCosts(config(**{"client-channel": each})) for each in ("tcp", "sqs"))
    assert by_sqs.operation("set", 1024) - by_tcp.operation("set", 1024) == pytest.approx(3 * fifo)
    assert (by_sqs.listening(), by_tcp.listening()) == (pytest.approx(129_600 * fifo), 0)
    load = costs.Workload(reads=1e6, writes=1e5, clients=10)
    month = made.month(load)
    assert month["reads"] == pytest.approx(1e6 * made.operation("get", 1024))
    assert sum(month.values()) < made.zookeeper()
    at = made.break_even(load)
    share = at / 1.1e6
    more = made.month(costs.Workload(reads=1e6 * share, writes=1e5 * share, clients=10))
    assert sum(more.values()) == pytest.approx(made.zookeeper())


def test_a_server_that_reads_from_memory_pays_for_following_instead_of_reads() -> None:
    assert costs.FOLLOW_MS == FOLLOW_MS
    made = AwsCosts(config())
    load = costs.Workload(reads=1e9, writes=1e5, clients=10)
    plain, following = made.month(load), made.month(load._replace(follow=200))
    unit = made.table["dynamodb"]["read-unit"]
    assert following["following the log"] == pytest.approx(
        (5 * costs.MONTH_S + 1e5 + LOG_STRIPES * 1e5 / 3) * unit
    )
    assert following["reads"] == pytest.approx(1e5 * made.operation("get", 1024))
    assert {name for name in plain if plain[name] != following[name]} == {"reads"}
    rare, often = (made.following(costs.Workload(follow=every)) for every in (1_000, 10))
    assert often == pytest.approx(100 * rare)
    assert made.look(1 << 20) == made.look()  # its data is apart
    at = made.break_even(load._replace(follow=200)) / (1e9 + 1e5)
    month = made.month(load._replace(reads=1e9 * at, writes=1e5 * at, follow=200))
    assert sum(month.values()) == pytest.approx(made.zookeeper())


def test_at_rest_it_costs_cents_a_month() -> None:
    def rest(**options: str) -> float:
        told = AwsCosts(config(**options)).at_rest()
        return sum(price for name, price in told.items() if "free" not in name)

    assert rest() < 0.60
    assert rest(**{"worker-queue": "dynamodb"}) < 0.25


@pytest.fixture
def on_amazon_s_own(dynamodb_local: str) -> Iterator[Counted]:
    made = counting(dynamodb_local, "key-value")
    yield made
    made.stop()


def test_the_store_counts_the_capacity_that_prices_are_multiplied_with(on_amazon_s_own: Counted) -> None:
    counted = on_amazon_s_own
    with counted.client() as client:
        client.create("/p", DATA)
        client.set_data("/p", DATA)
        capacity = Capacity()
        for service in (counted.theirs, counted._mine):
            assert isinstance(service, AwsService)
            capacity.attach(service.aws.client("dynamodb"))
        counted.count(lambda: client.set_data("/p", DATA))
        client.get_data("/p")
        units = dict(capacity.units)
    made = AwsCosts(counted.config)
    unit = made.table["dynamodb"]
    for name, call in (("log.PutItem", "log.put"), ("records.PutItem", "records.put")):
        assert units[name] * unit["write-unit"] == pytest.approx(made.call(call, len(DATA))), name
    assert units["records.GetItem"] * unit["read-unit"] == pytest.approx(made.call("records.get", len(DATA)))
