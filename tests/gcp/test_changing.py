"""A change of ``worker-queue`` on Google Cloud replaces a subscription: what waited there is sent again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.providers.gcp.queues import subscription_path
from faaskeeper.testing.patience import PATIENCE_S
from tests.gcp.system import System

KINDS = {"pubsub": "pubsub-ordered", "pubsub-ordered": "pubsub"}


@pytest.fixture(params=sorted(KINDS))
def system(request: pytest.FixtureRequest, emulators: dict[str, str]) -> Iterator[System]:
    made = System(emulators, {"worker-queue": request.param})
    yield made
    made.stop()


def client(system: System, **options: Any) -> FaaSKeeperClient:
    return FaaSKeeperClient(Config.deserialize({**system.data, **options}), connect=system.connect)


def test_requests_of_old_and_new_clients_survive_the_change_and_take_effect_once(system: System) -> None:
    before: str = system.data["worker-queue"]
    after = KINDS[before]
    worker = f"{system.name}-worker"
    with client(system) as old:
        old.create("/q", b"")
        # what is published from here on until there is another subscription reaches nobody
        system.gcp.subscriber().delete_subscription(
            subscription=subscription_path(system.gcp.project, worker)
        )
        lost = [old.create_async("/q/s-", b"", sequential=True) for _ in range(3)]
        changed = old.set_data_async("/q", b"1")
        system._push("worker", "writer", ordered=after == "pubsub-ordered")
        paths = [each.result(PATIENCE_S).path for each in lost]
        assert paths == [f"/q/s-{number:010d}" for number in range(3)]
        assert changed.result(PATIENCE_S).stat.version == 1
        with client(system, **{"worker-queue": after}) as new:  # with the new OUT.json
            assert sorted(each.path for each in new.get_children("/q")) == paths
            new.set_data("/q", b"2")
            assert old.set_data("/q", b"3").stat.version == 3  # and with the old one
