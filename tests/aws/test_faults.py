"""What must hold when functions are killed, stores refuse, answers are lost and clients die."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.clocks import clock
from faaskeeper.config import Config
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.service import AwsService, connect
from faaskeeper.testing.emulation import processes
from faaskeeper.testing.emulation.faults import Faults, Rates
from faaskeeper.testing.patience import PATIENCE_S
from tests.aws import backends
from tests.aws.system import System
from tests.load import Load


@pytest.fixture
def make(ministack: str) -> Iterator[Callable[..., System]]:
    systems: list[System] = []

    def made(options: dict[str, Any], **more: Any) -> System:
        systems.append(System(ministack, options, **more))
        return systems[-1]

    yield made
    for system in systems:
        system.stop()


def started(system: System, number: int, **options: Any) -> list[FaaSKeeperClient]:
    clients = [system.client(session_timeout=60, **options) for _ in range(number)]
    for client in clients:
        client.start()
    return clients


def test_a_writer_killed_twenty_times_in_the_middle_of_a_load_loses_and_repeats_nothing(
    make: Callable[..., System],
) -> None:
    system = make({}, visibility_s=1)
    load = Load(started(system, 4))
    writer = system.function("writer")
    for kill in range(20):
        before, made = writer.cold_starts, len(load.created)
        writer.crash()
        deadline = time.monotonic() + PATIENCE_S
        while writer.cold_starts == before:
            assert time.monotonic() < deadline, f"kill {kill}: the load stands still"
            time.sleep(0.01)
        load.wait(made + 1)
    load.end()
    assert writer.cold_starts > 20


def test_batches_that_are_handed_over_twice_change_nothing(make: Callable[..., System]) -> None:
    load = Load(started(make({"worker-queue": "sqs-unordered"}, twice=0.5), 3))
    load.wait(60)
    load.end()


def test_functions_and_several_direct_writers_work_side_by_side(make: Callable[..., System]) -> None:
    system = make({"worker-queue": "direct"})
    by_queue = Config.deserialize({**system.data, "worker-queue": "sqs"})
    clients = started(system, 3)
    other = system.keep(
        FaaSKeeperClient(
            by_queue, session_timeout=60, connect=lambda config, port: connect(config, port, system._aws)
        )
    )
    other.start()
    load = Load([other, *clients])
    load.wait(150)
    load.end()
    assert system.function("writer").calls > 10


def test_stores_that_throttle_fail_conflict_and_lose_answers_cost_time_and_nothing_else(
    make: Callable[..., System],
) -> None:
    system = make({"distributor-queue": "sqs"}, handlers="tests.aws.faulty")
    system._aws.close()
    faults = Faults(Rates(throttled=0.04, failed=0.03, lost=0.04), 7)
    system._aws = Aws(backends.REGION, endpoint=system.endpoint)
    clients = started(system, 3)
    for service in ("dynamodb", "s3", "sqs"):
        faults.attach(system._aws.client(service))
    load = Load(clients)
    load.wait(60)
    faults.calm()
    load.end()
    assert set(faults.happened) == {"throttled", "failed", "lost"}


KILLED = """
import sys, threading
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.service import connect
config = Config.load(sys.argv[1])
aws = Aws(config.deployment_region, endpoint=sys.argv[2])
clients = []
for number in range(50):
    client = FaaSKeeperClient(config, session_timeout=4, connect=lambda *where: connect(*where, aws))
    client.start()
    client.create(f"/e/killed-{number}", ephemeral=True)
    clients.append(client)
print("ready", flush=True)
threading.Event().wait()
"""


def test_of_a_hundred_clients_those_that_die_are_gone_after_their_time_out_and_one_heartbeat(
    make: Callable[..., System],
) -> None:
    system = make({})
    config = system.directory / "config.json"
    config.write_text(json.dumps(system.data))
    living = [system.client(session_timeout=60) for _ in range(50)]
    living[0].start()
    living[0].create("/e")
    for number, client in enumerate(living):
        client.start()
        client.create(f"/e/living-{number}", ephemeral=True)
    dying = processes.start(
        [sys.executable, "-c", KILLED, str(config), system.endpoint],
        stdout=subprocess.PIPE,
        env={**os.environ, **backends.KEYS},
    )
    assert dying.stdout is not None
    with dying.stdout as said:
        try:
            assert said.readline() == b"ready\n"
            assert len(living[0].get_children("/e")) == 100
        finally:
            processes.kill(dying)
    leases = AwsService(system.config, system._aws).deployment(b"", worker_queue=None).leases
    last = max(each.expires for each in leases.all() if each.expires < clock() + 10_000)
    while clock() <= last:
        time.sleep(0.05)
    system.beat()
    deadline = time.monotonic() + PATIENCE_S
    while True:
        names = [each.path for each in living[0].get_children("/e")]
        if not any("killed" in each for each in names):
            break
        assert time.monotonic() < deadline, names
    assert len(names) == 50
    for client in living:
        client.stop()
