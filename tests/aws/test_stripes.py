"""The log's partition keys on AWS: of new deployments and of those that were set up before."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.log import partitions
from faaskeeper.providers.aws.service import LOG_STRIPES, AwsService
from tests.aws import backends
from tests.aws.system import TABLES


class Before(AwsService):
    """A release of before stripes: neither settings nor published key say how many there are."""

    log_stripes = 1

    def initialize(self, *args: Any) -> bytes:
        key = super().initialize(*args)
        for table, place in (("settings", "settings"), ("checkpoint", "seal")):
            row = self.table(table).get("deployment" if place == "settings" else "checkpoint", place)
            assert row is not None
            assert row.pop("stripes") == 1
            self.table(table).put("deployment" if place == "settings" else "checkpoint", place, row)
        return key


@pytest.fixture
def deserialized(ministack: str) -> dict[str, Any]:
    """The configuration of a trusted client, which writes itself."""
    name = f"fk-{uuid4().hex[:8]}"
    for short in TABLES:
        backends.create_table(ministack, f"{name}-{short}", ttl=short == "log")
    return {
        "cloud-provider": "aws",
        "deployment-name": name,
        "deployment-region": backends.REGION,
        "user-storage": "key-value",
        "worker-queue": "direct",
        "client-channel": "tcp",
        "aws": {
            "endpoint-url": ministack,
            "client-host": "127.0.0.1",
            "client-networks": ["127.0.0.0/8"],
        },
    }


@pytest.fixture
def config(deserialized: dict[str, Any]) -> Config:
    return Config.deserialize(deserialized)


@pytest.fixture
def functions(deserialized: dict[str, Any]) -> Config:
    """The configuration of the functions."""
    section = {**deserialized["aws"], "worker-queue-url": "-"}
    return Config.deserialize({**deserialized, "worker-queue": "sqs", "aws": section})


@pytest.fixture
def service(functions: Config) -> Iterator[AwsService]:
    made = AwsService(functions)
    yield made
    made.aws.close()


def entries(service: AwsService) -> Counter[str]:
    """How many entries lie under which partition key."""
    client = service.aws.client("dynamodb")
    rows = client.scan(TableName=service.names.table("log"))["Items"]
    return Counter(row["partition"]["S"] for row in rows)


def write(config: Config, number: int) -> list[int]:
    with FaaSKeeperClient(config) as client:
        if not client.exists("/a"):
            client.create("/a")
        written = [client.set_data("/a", b"%d" % turn).stat.mzxid for turn in range(number)]
    with FaaSKeeperClient(config) as client:
        client.sync("/a")
        node = client.get_data("/a")
        assert (node.data, node.stat.mzxid) == (b"%d" % (number - 1), written[-1])
    return written


def test_the_entries_of_a_new_deployment_are_spread_and_every_process_finds_them(
    config: Config, service: AwsService
) -> None:
    service.initialize()
    written = write(config, 40) + write(config, 5)
    assert written == sorted(written)
    counted = entries(service)
    assert set(counted) <= set(partitions(LOG_STRIPES))
    assert len(counted) >= LOG_STRIPES - 2
    reader = AwsService(config)
    assert reader.stripes() == LOG_STRIPES  # as clients without access to the settings learn it
    reader.aws.close()


def test_a_deployment_of_before_stripes_keeps_its_one_partition_key(
    config: Config, functions: Config, service: AwsService
) -> None:
    before = Before(functions)
    before.initialize()
    before.aws.close()
    write(config, 3)
    service.initialize()
    service.renew_seals(at_once=True)
    write(config, 3)
    assert set(entries(service)) == {"log"}
    assert service.stripes() == 1
    published = service.table("checkpoint").get("checkpoint", "seal")
    assert published is not None
    assert published["stripes"] == 1


def test_a_release_of_before_stripes_finds_no_key_in_a_new_deployment(service: AwsService) -> None:
    """It would write where nobody else does."""
    key = service.initialize()
    settings = service.table("settings").get("deployment", "settings")
    assert settings is not None
    assert settings["key"] == ""
    assert key in settings.values()


@pytest.mark.parametrize("lost", ["settings", "published", "both"])
def test_a_log_that_is_there_keeps_its_one_key_whatever_was_lost(
    functions: Config, config: Config, service: AwsService, lost: str
) -> None:
    before = Before(functions)
    before.initialize()
    before.aws.close()
    write(config, 3)
    if lost != "published":
        service.table("settings").delete("deployment", "settings")
    if lost != "settings":
        service.table("checkpoint").delete("checkpoint", "seal")
    service.initialize()
    write(config, 3)
    assert set(entries(service)) == {"log"}


def test_what_is_published_is_mended_where_the_settings_say_otherwise(service: AwsService) -> None:
    service.initialize()
    table = service.table("checkpoint")
    published = table.get("checkpoint", "seal")
    assert published is not None
    table.put("checkpoint", "seal", {**published, "stripes": 1})
    service.initialize()
    assert table.get("checkpoint", "seal") == published


def test_who_is_there_before_the_deployment_is_set_up_asks_again(
    functions: Config, service: AwsService
) -> None:
    assert service.stripes() == 1
    other = AwsService(functions)
    other.initialize()
    other.aws.close()
    assert service.stripes() == LOG_STRIPES
