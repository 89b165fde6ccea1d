"""On Google Cloud heartbeat trims the log, which otherwise would grow for ever."""

from __future__ import annotations

from faaskeeper.config import Config
from faaskeeper.core.drivers.storage import every
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.log import PARTITION
from faaskeeper.core.sweeping import DAY_MS
from faaskeeper.providers.clocks import clock
from faaskeeper.providers.gcp.service import GcpService
from tests.counting import Counted
from tests.gcp import backends


def test_entries_go_after_a_week_in_few_calls_with_their_parts_and_the_last_one_stays(
    emulators: dict[str, str],
) -> None:
    data = {
        "cloud-provider": "gcp", "deployment-name": "fk", "deployment-region": "us-central1",
        "user-storage": "key-value", "gcp": {"project-id": backends.project()},
    }  # fmt: skip
    config = Config.deserialize(data)
    passed = 0
    mine, theirs = GcpService(config), GcpService(config)
    theirs.clock = lambda: clock() + passed
    counted = Counted(mine, theirs)
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
        beat.tend()

    beat.tend()
    counted.by_function.clear()
    for _ in range(6):
        day()
    assert entries() == before
    for _ in range(8):
        day()
    assert entries() == before[-1:]
    assert not list(every(log, f"parts {PARTITION}"))
    assert 1 <= counted.by_function["log.delete_many"] < 10
    with counted.client() as client:
        assert client.get_data("/n").data == b"149"
        client.set_data("/n", b"after")
    counted.stop()
