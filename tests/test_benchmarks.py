"""The model of latencies: it draws what was measured, and the operations' budgets hold in it."""

from __future__ import annotations

from random import Random

import pytest

from benchmarks import aws, clouds, gcp
from benchmarks.model import DATA, Cloud, Setting, Virtual
from faaskeeper.testing.simulator.latencies import Latencies


def test_what_is_drawn_is_what_was_measured_and_between_sizes_lies_between() -> None:
    drawn = Latencies(DATA, "aws", Random(1))
    assert drawn.at("dynamodb.write", 1024, 0.5) == 4.348
    assert drawn.at("dynamodb.write", 1024, 0.0) == 3.948
    assert drawn.at("dynamodb.write", 1024, 1.0) == 60.259
    low, high = drawn.at("s3.write", 1024, 0.5), drawn.at("s3.write", 65536, 0.5)
    assert low < drawn.at("s3.write", 50_000, 0.5) < high
    assert drawn.at("s3.write", 10**9, 0.5) == drawn.at("s3.write", 524_288, 0.5)
    values = sorted(drawn.draw("dynamodb.write", 1024) for _ in range(2_001))
    assert values[1_000] == pytest.approx(4.348, rel=0.02)


BUDGETS = [
    (cloud, setting, targets[setting.name])
    for cloud, settings, targets in (
        (aws.AWS, aws.SETTINGS, aws.TARGETS),
        (gcp.GCP, gcp.SETTINGS, gcp.TARGETS),
    )
    for setting in settings
    if setting.name in targets
]


@pytest.mark.parametrize(("cloud", "setting", "budget"), BUDGETS, ids=lambda each: getattr(each, "name", ""))
def test_a_set_of_a_kilobyte_stays_within_its_budget(cloud: Cloud, setting: Setting, budget: float) -> None:
    took = clouds.latencies(cloud, setting, 1024, 80)
    assert clouds.quantile(took["set"], 0.5) <= budget
    assert clouds.quantile(took["get"], 0.5) <= 32


def test_what_was_not_measured_is_bounded_by_the_stage_that_it_is_a_part_of() -> None:
    drawn = gcp.GCP.latencies(Random(1))
    stage = dict(zip(drawn._quantiles, drawn.published["stages.gcp.persistent.4"]["lock"], strict=True))
    read = drawn.at("datastore.read", 1024, 0.5)
    assert drawn.at("datastore.write", 1024, 0.5) == pytest.approx(stage[0.5] - 2 * read)
    values = [drawn.at("datastore.write", 0, quantile / 100) for quantile in range(101)]
    assert values == sorted(values)
    assert drawn.at("tcp.round_trip", 1024, 0.5) == aws.AWS.latencies(Random(1)).at(
        "tcp.round_trip", 1024, 0.5
    )


def test_a_run_of_the_model_is_the_same_each_time() -> None:
    setting = aws.SETTINGS[1]
    assert clouds.latencies(aws.AWS, setting, 4, 5) == clouds.latencies(aws.AWS, setting, 4, 5)


def test_requests_that_are_sent_without_waiting_share_messages_and_entries() -> None:
    world = Virtual(aws.SETTINGS[1], aws.AWS)

    def run() -> None:
        client = world.client()
        client.start()
        client.create("/a")
        world.calls.clear()
        for future in [client.set_data_async("/a", b"%d" % number) for number in range(100)]:
            future.get(60)

    world.run(run)
    world.close()
    names = [name for name, _ in world.calls]
    assert names.count("sqs_fifo.send_to_function.send") <= 3
    assert names.count("log.put") <= 3
