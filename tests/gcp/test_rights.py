"""Each function and each client does its work with the rights that the templates grant it, and no others."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.service import connect
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.testing.smoke.gcp import attempts
from tests.gcp import rights
from tests.gcp.system import System

SOURCE = Path(__file__).parent / "rights.py"
MEGABYTE = 1024 * 1024
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "key-value": {"user-storage": "key-value", "client-channel": "pubsub"},
    "hybrid, by TCP": {"user-storage": "hybrid", "client-channel": "tcp"},
    "persistent, distributor": {
        "user-storage": "persistent",
        "client-channel": "pubsub",
        "distributor-queue": "pubsub",
    },
    "direct": {"user-storage": "key-value", "worker-queue": "direct", "client-channel": "pubsub"},
    "direct, hybrid": {"user-storage": "hybrid", "worker-queue": "direct", "client-channel": "tcp"},
}


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def system(request: pytest.FixtureRequest, emulators: dict[str, str]) -> Iterator[System]:
    made = System(emulators, CONFIGURATIONS[request.param], source=SOURCE)
    yield made
    made.stop()


def limited(system: System) -> tuple[Gcp, rights.Rights]:
    """The calls of a client of this configuration, with its account's rights."""
    direct = system.config.worker_queue.value == "direct"
    gcp = Gcp(system.project)
    found = rights.Rights("direct" if direct else "client", system.name, system.data["gcp"]["data-bucket"])
    found.attach(gcp)
    return gcp, found


def test_clients_and_functions_have_the_rights_that_their_work_needs(system: System) -> None:
    gcp, mine = limited(system)

    def client() -> FaaSKeeperClient:
        return FaaSKeeperClient(
            system.config, session_timeout=60, connect=lambda config, port: connect(config, port, gcp)
        )

    with client() as one, client() as other:
        one.create("/small", b"1")
        told = threading.Event()
        other.get_data("/small", lambda event: told.set())
        one.set_data("/small", b"2")
        assert told.wait(PATIENCE_S)
        for size in (64 * 1024, 64 * 1024 + 1, MEGABYTE):
            one.create(f"/n{size}", b"x" * size)
            one.set_data(f"/n{size}", b"y" * size)
            other.sync()
            assert other.get_data(f"/n{size}").data == b"y" * size
        one.create("/locks", b"", ephemeral=False)
        assert one.create("/locks/a-", b"z" * 70_000, ephemeral=True, sequential=True).path.startswith(
            "/locks/a-"
        )
        one.delete("/small")
        assert other.exists("/small") is None
        assert one.get_children("/locks")
    system.beat()
    system.targets["heartbeat"].call(b'{"sweep": true}')
    gcp.close()
    assert mine.refused == []
    if system.config.client_channel.value == "pubsub":
        # what is granted for a whole project is no more than what is needed
        used = {permission for permission, kind, _ in mine.used if kind == "project"}
        assert used == {permission for permission, kind, _ in rights.granted("client") if kind == "project"}
    for name in system.targets:
        assert "lacks" not in system.output(name)


def test_a_client_can_do_nothing_beyond_them(system: System) -> None:
    if system.config.worker_queue.value == "direct":
        return  # a direct writer is trusted with all of it
    gcp, _ = limited(system)
    tried = attempts(Config.deserialize(system.data), gcp)
    gcp.close()
    assert len(tried) > 15
    assert [each for each in tried if not each.refused] == []
