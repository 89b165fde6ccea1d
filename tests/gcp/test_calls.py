"""What operations cost on Google Cloud: calls counted where they are made, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.cloud.datastore_v1 import types

from benchmarks import gcp as modelled
from faaskeeper.config import Config
from faaskeeper.core.drivers.storage import IfAbsent, IfOlder, IfStamp, Write
from faaskeeper.deploy import costs
from faaskeeper.deploy.gcp.costs import INLINE_BYTES, SWEEP, GcpCosts
from faaskeeper.providers.gcp import service
from faaskeeper.providers.gcp.channels import PREFIX, PubsubChannel, PubsubClientChannel
from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.objects import GcsStore
from faaskeeper.providers.gcp.queues import PubsubQueue
from faaskeeper.providers.gcp.service import GcpService
from faaskeeper.providers.gcp.tables import MAX_ITEM_BYTES, DatastoreTable, joint_of
from faaskeeper.session.interpreter import read_writes
from tests.counting import Counted, at_rest, operations
from tests.gcp import backends
from tests.gcp.system import ROOT


@pytest.fixture(params=["key-value", "hybrid", "persistent"])
def counted(request: pytest.FixtureRequest, emulators: dict[str, str]) -> Iterator[Counted]:
    section: dict[str, Any] = {"project-id": backends.project(), "client-networks": ["127.0.0.0/8"]}
    with backends.gcp(section["project-id"]) as gcp:
        section["data-bucket"] = backends.create_bucket(gcp)
    config = Config.deserialize(
        {
            "cloud-provider": "gcp",
            "deployment-name": "fk",
            "deployment-region": "us-central1",
            "user-storage": request.param,
            "gcp": section,
        }
    )
    made = Counted(GcpService(config), GcpService(config))
    yield made
    made.stop()


def test_operations_make_the_calls_of_the_budget(counted: Counted) -> None:
    seen = operations(counted)
    expected = {
        operation: {"client": each["client"], "function": together(each["function"])}
        for operation, each in costs.CALLS[counted.config.user_storage.value].items()
    }
    assert seen == expected, json.dumps(seen, indent=1)


def together(calls: dict[str, int]) -> dict[str, int]:
    """An entry and its records are one call where both are in Datastore."""
    if "records.put" not in calls:
        return calls
    return {"joint.put": 1, **{name: many for name, many in calls.items() if not name.endswith(".put")}}


def test_a_beat_and_a_sweep_at_rest_make_the_calls_of_the_budget(counted: Counted) -> None:
    assert at_rest(counted) == (costs.BEAT, SWEEP)


def test_a_look_for_the_next_entry_is_one_call(counted: Counted) -> None:
    end = counted.deployment.checkpoints.applied()

    def look() -> None:
        assert read_writes(counted.deployment.log, end, None, rested=False) == ([], end)

    assert counted.count(look) == ({}, {"log.query": sum(costs.FOLLOW.values())})


def test_a_server_that_reads_from_memory_pays_for_following_instead_of_reads() -> None:
    made = GcpCosts(config())
    load = costs.Workload(reads=1e9, writes=1e5, follow=200)
    month = made.month(load)
    read = made.table["datastore"]["read"]
    assert month["following the log"] == pytest.approx((5 * costs.MONTH_S + 1e5) * read)
    assert month["reads"] == pytest.approx(1e5 * read)


def config(**options: Any) -> Config:
    data = {"cloud-provider": "gcp", "deployment-name": "fk-dev", "deployment-region": "us-central1"}
    return Config.deserialize({**data, **options})


def test_prices_know_from_where_on_data_is_apart() -> None:
    assert service.INLINE_BYTES == INLINE_BYTES


def test_the_model_has_the_limits_of_the_drivers_and_of_the_template() -> None:
    cloud, settings = modelled.GCP, modelled.SETTINGS
    assert cloud.item_bytes == MAX_ITEM_BYTES
    assert (cloud.entry_bytes, cloud.entry_paths) == (service.ENTRY_BYTES, service.ENTRY_PATHS)
    described = json.loads((ROOT / "deploy" / "gcp" / "resources.json").read_text())
    at_a_time = described["functions"]["writer"]["concurrency"]
    assert {each.batch for each in settings} == {at_a_time}
    assert {each.inline_bytes for each in settings} == {service.INLINE_BYTES}


def test_prices_follow_size_configuration_and_load() -> None:
    made = GcpCosts(config())
    direct = GcpCosts(config(**{"worker-queue": "direct"}))
    assert direct.operation("set", 1024) < made.operation("set", 1024)
    # Datastore charges by the entity, a bucket by the object
    assert GcpCosts(config(**{"user-storage": "key-value"})).operation("get", 1 << 20) < made.operation(
        "get", 1 << 20
    )
    by_tcp, by_pubsub = (GcpCosts(config(**{"client-channel": each})) for each in ("tcp", "pubsub"))
    assert by_tcp.operation("set", 0) < by_pubsub.operation("set", 0)
    # each answer is charged for every client that listens
    assert by_tcp.operation("set", 0, 1) == by_tcp.operation("set", 0, 100)
    assert by_pubsub.operation("set", 0, 100) - by_pubsub.operation("set", 0, 1) == pytest.approx(
        99 * 1000 * 40 / 2**40, rel=1e-3
    )
    load = costs.Workload(reads=1e6, writes=1e5, clients=10, nodes=1000, updates=1, outside=0.5)
    month = made.month(load)
    assert all(month[name] > 0 for name in month if name != "listening")
    assert month["data that leaves the cloud"] == pytest.approx(0.5 * 1e6 * 1024 / 2**30 * 0.12)
    assert sum(month.values()) < made.zookeeper()
    share = made.break_even(load) / 1.1e6
    more = made.month(load._replace(reads=1e6 * share, writes=1e5 * share))
    assert sum(more.values()) == pytest.approx(made.zookeeper())


def test_at_rest_it_costs_about_a_dollar_a_month() -> None:
    told = GcpCosts(config()).at_rest()
    assert 0.1 < told["heartbeat"] < 0.3
    assert sum(told.values()) < 1.5
    silent = GcpCosts(config(gcp={"deploy": {"monitoring": False}})).at_rest()
    assert sum(silent.values()) < 0.6


class Sent:
    """What a driver really sent, by what was called of Google's API."""

    def __init__(self, gcp: Gcp, monkeypatch: pytest.MonkeyPatch) -> None:
        self.requests: list[Any] = []
        for client in (gcp.datastore(), gcp.publisher(), gcp.subscriber()):
            for name in ("commit", "publish", "create_subscription"):
                if hasattr(client, name):
                    monkeypatch.setattr(client, name, self._keeping(getattr(client, name)))
        for name in ("post", "request"):
            session = gcp.storage()._http
            monkeypatch.setattr(session, name, self._urls(getattr(session, name)))

    def _keeping(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def kept(**parameters: Any) -> Any:
            self.requests.append(parameters["request"])
            return call(**parameters)

        return kept

    def _urls(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def kept(*arguments: Any, **parameters: Any) -> Any:
            self.requests.extend(
                each for each in (*arguments, parameters.get("url")) if str(each)[:4] == "http"
            )
            return call(*arguments, **parameters)

        return kept


def test_conditions_travel_in_the_request_also_where_an_emulator_is_laxer(
    gcp: Gcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    backends.create_topic(gcp, "clients")
    bucket = backends.create_bucket(gcp)
    sent = Sent(gcp, monkeypatch)
    table = DatastoreTable(gcp, "db", "log")

    def mutation() -> Any:
        request = sent.requests.pop()
        assert request.mode == types.CommitRequest.Mode.NON_TRANSACTIONAL
        assert (request.project_id, request.database_id) == (gcp.project, "db")
        (made,) = request.mutations
        return made

    table.put("p", "k", {"stamp": 1}, IfAbsent())
    assert "insert" in mutation()
    table.put("p", "k", {"stamp": 2}, IfOlder(2))
    older = mutation()
    assert "update" in older
    assert older.base_version > 0
    table.put("p", "k", {"stamp": 3}, IfStamp(2))
    assert mutation().base_version > older.base_version
    table.delete("p", "k", IfStamp(3))
    gone = mutation()
    assert "delete" in gone
    assert gone.base_version > 0
    table.put("p", "k", {"stamp": 3})
    assert "upsert" in mutation()

    tables = {short: DatastoreTable(gcp, "db", short) for short in ("log", "records")}
    joint = joint_of(gcp, "db", tables.__getitem__)
    joint(
        [
            Write("log", "log", "1", {"stamp": 1}, IfAbsent()),
            Write("records", "/", "n", {"stamp": 1}, IfOlder(1)),
        ]
    )
    joint(
        [
            Write("log", "log", "2", {"stamp": 2}, IfAbsent()),
            Write("records", "/", "n", {"stamp": 2}, IfOlder(2)),
        ]
    )
    request = sent.requests.pop()
    assert request.mode == types.CommitRequest.Mode.TRANSACTIONAL
    assert "read_write" in request.single_use_transaction
    append, record = request.mutations
    assert "insert" in append
    assert record.base_version > 0
    assert record.conflict_resolution_strategy == types.Mutation.ConflictResolutionStrategy.FAIL

    store = GcsStore(gcp, bucket)
    tag = store.put("o", b"", absent=True)
    assert "ifGenerationMatch=0" in sent.requests.pop()
    store.put("o", b"", match=tag)
    assert f"ifGenerationMatch={tag}" in sent.requests.pop()

    PubsubQueue(gcp, "clients", "worker", ordered=True).send("writer", "1", b"body")
    assert sent.requests.pop().messages[0].ordering_key == "writer"
    PubsubQueue(gcp, "clients", "worker").send("writer", "1", b"body")
    assert sent.requests.pop().messages[0].ordering_key == ""

    ear = PubsubClientChannel(gcp, "clients", "fk-client-").listen(lambda message: None)
    asked = sent.requests.pop()
    assert asked.filter == f'attributes.to = "{ear.address.removeprefix(PREFIX)}"'
    assert asked.expiration_policy.ttl.total_seconds() == 24 * 3600
    assert PubsubChannel(gcp, "clients").deliver(ear.address, b"?")
    (message,) = sent.requests.pop().messages
    assert f'attributes.to = "{message.attributes["to"]}"' == asked.filter
    ear.close()
