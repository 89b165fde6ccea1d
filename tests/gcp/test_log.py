"""On Google Cloud heartbeat trims the log, which otherwise would grow for ever."""

from __future__ import annotations

import pytest

from faaskeeper.clocks import clock, elapsed
from faaskeeper.config import Config
from faaskeeper.core.drivers.storage import every
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.log import PARTITION
from faaskeeper.core.sweeping import DAY_MS
from faaskeeper.providers.cloud import service
from faaskeeper.providers.gcp.service import GcpService
from tests.counting import Counted
from tests.gcp import backends


def test_entries_go_after_a_week_in_few_calls_with_their_parts_and_the_last_one_stays(
    emulators: dict[str, str], monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    data = {
        "cloud-provider": "gcp", "deployment-name": "fk", "deployment-region": "us-central1",
        "user-storage": "key-value", "client-channel": "tcp",
        "gcp": {"project-id": backends.project(), "client-networks": ["127.0.0.0/8"]},
    }  # fmt: skip
    config = Config.deserialize(data)
    passed = 0
    # The log's own clock, too: by it heartbeat finds the last entries, which the writer left above the mark.
    monkeypatch.setattr(service, "clock", lambda: clock() + passed)
    monkeypatch.setattr(service, "elapsed", lambda: elapsed() + passed)
    mine, theirs = GcpService(config), GcpService(config)
    counted = Counted(mine, theirs)
    request.addfinalizer(counted.stop)
    log = theirs.table("log")

    def entries() -> list[int]:
        return [int(item["stamp"]) for _, item in every(log, PARTITION)]  # type: ignore[arg-type]

    with counted.client() as client:
        client.create("/n", b"x" * 1024 * 1024)  # in parts: no entity takes it
        for _ in range(9):
            client.set_data("/n", b"x" * 1024 * 1024)
        for number in range(150):
            client.set_data("/n", b"%d" % number)
    before = entries()
    assert len(before) > 150
    assert list(every(log, f"parts {PARTITION}"))
    beat = Heartbeat(counted.deployment, theirs.table("heartbeat"))

    def day() -> None:
        nonlocal passed
        passed += DAY_MS
        beat.beat()
        counted.settle()
        beat.tend()

    beat.tend()
    counted.by_function.clear()
    for _ in range(6):
        day()
    assert entries() == before
    assert counted.deployment.checkpoints.applied() == before[-1]
    for _ in range(8):
        day()
    assert entries() == before[-1:]
    assert not list(every(log, f"parts {PARTITION}"))
    assert 1 <= counted.by_function["log.delete_many"] < 10
    with counted.client() as client:
        assert client.get_data("/n").data == b"149"
        client.set_data("/n", b"after")
