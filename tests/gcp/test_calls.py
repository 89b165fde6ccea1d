"""What operations cost on Google Cloud: calls counted where they are made, and what is in them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from google.cloud.datastore_v1 import types

from faaskeeper.config import Config
from faaskeeper.core.drivers.storage import IfAbsent, IfOlder, IfStamp, Write
from faaskeeper.deploy import costs
from faaskeeper.providers.gcp.channels import PREFIX, PubsubChannel, PubsubClientChannel
from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.objects import GcsStore
from faaskeeper.providers.gcp.queues import PubsubQueue
from faaskeeper.providers.gcp.service import GcpService
from faaskeeper.providers.gcp.tables import DatastoreTable, joint_of
from tests.counting import Counted, at_rest, operations
from tests.gcp import backends


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
    assert at_rest(counted) == (costs.BEAT, costs.SWEEP)


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
