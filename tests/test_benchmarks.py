"""The model of latencies and limits: it draws what was measured, and the operations' budgets hold in it."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from benchmarks import aws, clouds, gcp
from benchmarks.caps import Caps, Use, limits
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
    longer = drawn.at("datastore.write", 401 * 1024, 0.5) - drawn.at("datastore.write", 1024, 0.5)
    measured = drawn.at("datastore.read", 408_576, 0.5) - read
    assert longer == pytest.approx(measured, rel=0.02)  # for 400 KB more
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


# ---- what the services let through ----------------------------------------------------------------


class Time:
    """A clock that only waiting moves, ms."""

    def __init__(self) -> None:
        self.now = 0.0

    def sleep(self, ms: float) -> None:
        self.now += ms


def sustained(cloud: str, refuses: bool, use: Use, seconds: float = 60) -> float:
    """Units per second that calls one after the other get through a limit, of themselves at once."""
    caps, time = Caps(cloud, refuses, Random(1)), Time()
    taken = 0.0
    while time.now < seconds * 1000:
        caps.pass_through([use], lambda: time.now, time.sleep)
        taken += use.units
    return taken / (time.now / 1000)


def test_the_limits_are_those_that_the_services_publish_each_with_its_source() -> None:
    known = limits()
    published = {
        "dynamodb.key.write": 1_000,
        "dynamodb.key.read": 3_000,
        "dynamodb.table.write": 40_000,
        "dynamodb.table.read": 40_000,
        "dynamodb.new_table.write": 4_000,
        "dynamodb.new_table.read": 12_000,
        "s3.prefix.write": 3_500,
        "s3.prefix.read": 5_500,
        "sqs_fifo.queue.send": 300,
        "datastore.sequential.write": 500,
        "datastore.group.write": None,
        "datastore.ramp.write": 500,
        "cloud_storage.object.write": 1,
        "cloud_storage.bucket.write": 1_000,
        "pubsub.key.publish": 1_000,
        "pubsub.region.publish": 200_000,
    }
    assert {name: row["a_second"] for name, row in known.items()} == published
    for row in known.values():
        assert row["source"].startswith("https://")
        assert row["note"]
        assert row["unit"]


def test_no_more_passes_than_a_limit_allows_and_little_less() -> None:
    for name, row in limits().items():
        if row.get("modelled", True):
            use = Use(name, "one", row["a_second"] / 10)
            # the bucket is full at first, and a refused client waits longer than it must
            assert sustained(row["cloud"], False, use) == pytest.approx(row["a_second"], rel=0.03)
            assert 0.5 * row["a_second"] < sustained(row["cloud"], True, use) <= 1.03 * row["a_second"]


def test_a_call_larger_than_a_second_s_worth_waits_for_a_full_bucket() -> None:
    assert sustained("gcp", False, Use("pubsub.key.publish", "one", 5_000), 600) == pytest.approx(
        1_000, rel=0.02
    )


@pytest.mark.parametrize(
    ("kind", "unit", "sizes", "limit"),
    [
        ("dynamodb.write", 1024, (4096, 8192, 32768, 65536, 131072, 262144, 409550), "dynamodb.key.write"),
        ("dynamodb.read", 4096, (65536, 131072, 262144, 409550), "dynamodb.key.read"),
    ],
)
def test_what_was_measured_on_one_key_met_its_limit_so_retries_are_left_out(
    kind: str, unit: int, sizes: tuple[int, ...], limit: str
) -> None:
    measured = Latencies(DATA, "aws", Random(1))
    most = limits()[limit]["a_second"]
    for size in sizes:
        units = (size + 100) // unit + 1  # the key counts, too
        rate = 1000 / measured.mean(kind, size) * units
        assert rate == pytest.approx(most, rel=0.1), size
    modelled = aws.AWS.latencies(Random(1))
    assert min(sizes) == aws.AWS.throttled[kind]
    for size in (1024, 2048):
        assert modelled.at(kind, size, 0.99) == measured.at(kind, size, 0.99)
    for size in sizes:
        assert modelled.at(kind, size, 0.0) == measured.at(kind, size, 0.0)
        assert modelled.at(kind, size, 1.0) < 2 * measured.at(kind, size, 0.0)


def test_one_key_for_the_log_would_bound_a_busy_shard_on_dynamodb() -> None:
    rate = clouds.throughput(replace(aws.AWS, stripes=1), aws.SETTINGS[0], 100, 5)
    assert (rate.limit, rate.name) == ("dynamodb.key.write", "log log")
    assert 0.8 < rate.share < 1.2
    assert 700 < rate.sets < 1_000


@pytest.mark.parametrize(("setting", "least"), [(aws.SETTINGS[0], 3_000), (aws.SETTINGS[1], 2_000)])
def test_a_busy_shard_on_dynamodb_is_not_bounded_by_the_log_s_keys(setting: Setting, least: int) -> None:
    rate = clouds.throughput(aws.AWS, setting, 100, 3)
    assert rate.sets > least


@pytest.mark.parametrize("setting", gcp.SETTINGS[:3], ids=lambda each: each.name)
def test_a_busy_shard_on_datastore_has_large_entries_each_one_commit_with_its_records(
    setting: Setting,
) -> None:
    assert clouds.throughput(gcp.GCP, setting, 100, 5).sets > 3_000
    usual = replace(gcp.GCP, entry_bytes=256 * 1024)
    assert clouds.throughput(usual, setting, 100, 5).sets < 2_000


def test_one_object_of_cloud_storage_is_written_once_a_second() -> None:
    persistent = next(each for each in gcp.SETTINGS if each.name == "persistent")
    rate = clouds.throughput(gcp.GCP, persistent, 1, 10, window=1)
    assert rate.limit == "cloud_storage.object.write"
    assert rate.sets <= 1.2


@pytest.mark.parametrize(
    ("cloud", "setting"), [(aws.AWS, aws.SETTINGS[0]), (aws.AWS, aws.SETTINGS[2]), (gcp.GCP, gcp.SETTINGS[2])]
)
def test_limits_cost_a_lone_write_nothing(cloud: Cloud, setting: Setting) -> None:
    world = Virtual(setting, cloud)

    def run() -> None:
        client = world.client()
        client.start()
        client.create("/a")
        world.scheduler.sleep(1_000)  # until its watches were looked for
        world.calls.clear()
        world.caps.used.clear()
        client.set_data("/a", b"x" * 1024)

    world.run(run)
    world.close()
    assert not world.caps.refused
    names = [name for name, _ in world.calls if name.endswith(("put", "get", "get_many"))]
    if setting.joint:
        assert names == ["joint.put"]
        return
    assert names == ["log.put", "records.put"]
    units = {name: units for (limit, name), units in world.caps.used.items() if limit.endswith("table.write")}
    assert units == {"log": 2, "records": 2}  # 1 KB of data, and what belongs to it
