"""What must hold when functions are killed, stores refuse, answers are lost, and messages come anyhow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.providers.gcp.service import connect
from faaskeeper.testing.patience import PATIENCE_S
from tests.gcp import backends, faulty, weak
from tests.gcp.system import ROOT, System
from tests.load import CLIENT, Load


@pytest.fixture
def make(emulators: dict[str, str]) -> Iterator[Callable[..., System]]:
    systems: list[System] = []

    def made(options: dict[str, Any], **more: Any) -> System:
        systems.append(System(emulators, options, **more))
        return systems[-1]

    yield made
    for system in systems:
        system.stop()


def started(system: System, number: int, **options: Any) -> list[FaaSKeeperClient]:
    clients = [system.client(session_timeout=60, **options) for _ in range(number)]
    for client in clients:
        client.start()
    return clients


def test_each_function_killed_in_the_middle_of_a_load_loses_and_repeats_nothing(
    make: Callable[..., System],
) -> None:
    system = make({"distributor-queue": "pubsub"})
    load = Load(started(system, 3))
    for _ in range(3):
        for name, target in system.targets.items():
            load.wait(len(load.created) + 2)
            target.crash()
            if name == "heartbeat":
                target.wait()
                system.beat()
    load.wait(len(load.created) + 2)
    load.end()
    assert [target.starts for target in system.targets.values()] == [4] * 4


def test_messages_that_overtake_each_other_and_come_twice_change_nothing(make: Callable[..., System]) -> None:
    system = make({"distributor-queue": "pubsub", "client-channel": "pubsub"}, unruly=True)
    load = Load(started(system, 4))
    load.wait(80)
    load.end()
    assert system.ways["writer"].happened["twice"] > 5
    assert system.ways["writer"].happened["undone"] > 2


def test_functions_and_several_direct_writers_work_side_by_side(make: Callable[..., System]) -> None:
    system = make({"worker-queue": "direct"})
    by_queue = Config.deserialize({**system.data, "worker-queue": "pubsub"})
    clients = started(system, 3)
    other = system.keep(
        FaaSKeeperClient(
            by_queue, session_timeout=60, connect=lambda config, port: connect(config, port, system.gcp)
        )
    )
    other.start()
    load = Load([other, *clients])
    load.wait(120)
    load.end()


def test_stores_that_throttle_fail_abort_and_lose_answers_cost_time_and_nothing_else(
    make: Callable[..., System],
) -> None:
    system = make({"distributor-queue": "pubsub"}, source=Path(faulty.__file__))
    faults = faulty.Faults(7)
    with backends.gcp(system.project) as mine:
        weak.weaken(mine)
        faults.attach(mine)
        system.connect = lambda config, port: connect(config, port, mine)
        load = Load(started(system, 3))
        load.wait(60)
        faults.calm = True
        load.end()
    assert all(faults.happened.values()), faults.happened


@pytest.mark.parametrize("channel", ["tcp", "pubsub"])
def test_a_client_in_a_process_of_its_own_is_answered_through_each_channel(
    make: Callable[..., System], channel: str
) -> None:
    system = make({"client-channel": channel})
    path = system.directory / "out.json"
    path.write_text(json.dumps(system.data))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", CLIENT, str(path)],
        capture_output=True, text=True, env=dict(os.environ), cwd=ROOT, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.stdout == "as it should be\n", done.stdout + done.stderr
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
