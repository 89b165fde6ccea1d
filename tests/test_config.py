"""A configuration file's mistakes are named, with what would be right."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.config import (
    ClientChannel,
    CloudProvider,
    Config,
    ConfigurationException,
    QueueType,
    StorageType,
)

PUBLISHED: dict[str, Any] = {
    "verbose": True,
    "port": 12000,
    "deployment-name": "faaskeeper-dev",
    "deployment-region": "us-east-1",
    "cloud-provider": "aws",
    "user-storage": "persistent",
    "system-storage": "key-value",
    "heartbeat-frequency": 12,
    "worker-queue": "sqs",
    "distributor-queue": "dynamodb",
    "client-channel": "tcp",
    "configuration": {"benchmarking": False, "benchmarking-frequency": 200},
    "aws": {"data-bucket": "some-bucket"},
}


def test_a_file_of_the_published_client_is_taken_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_text(json.dumps(PUBLISHED))
    config = Config.load(path)
    assert config.cloud_provider is CloudProvider.AWS
    assert config.user_storage is StorageType.PERSISTENT
    assert config.worker_queue is config.writer_queue is QueueType.SQS
    assert config.distributor_queue is QueueType.DYNAMODB
    assert config.client_channel is ClientChannel.TCP
    assert (config.verbose, config.port, config.heartbeat_frequency) == (True, 12000, 12)
    assert config.deployment_name == "faaskeeper-dev"
    assert config.deployment_region == "us-east-1"
    assert config.benchmarking is False
    assert config.benchmarking_frequency == 200
    assert config.provider_config == {"data-bucket": "some-bucket"}


def test_an_embedded_service_needs_but_a_name() -> None:
    config = Config.deserialize({"cloud-provider": "local", "deployment-name": "x"})
    assert config.user_storage is StorageType.KEY_VALUE
    assert config.worker_queue is QueueType.LOCAL
    assert config.distributor_queue is QueueType.INLINE
    assert config.client_channel is ClientChannel.LOCAL
    assert config.port == -1


@pytest.mark.parametrize(("provider", "queue"), [("aws", ClientChannel.SQS), ("gcp", ClientChannel.PUBSUB)])
def test_clouds_answer_by_queues_unless_networks_are_set(provider: str, queue: ClientChannel) -> None:
    data = {"cloud-provider": provider, "deployment-name": "fk-dev", "deployment-region": "somewhere"}
    assert Config.deserialize(data).client_channel is queue
    networks = {"client-networks": ["10.0.0.0/8"]}
    assert Config.deserialize({**data, provider: networks}).client_channel is ClientChannel.TCP
    chosen = {**data, provider: networks, "client-channel": queue.value}
    assert Config.deserialize(chosen).client_channel is queue


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"cloud-provider": None}, "'cloud-provider' is None: it must be one of 'local', 'aws', 'gcp'"),
        ({"cloud-provider": "azure"}, "'cloud-provider' is 'azure': it must be one of 'local', 'aws', 'gcp'"),
        ({"deployment-name": ...}, "'deployment-name' is missing: it must be a string"),
        ({"deployment-name": ""}, "'deployment-name' is ''"),
        ({"deployment-region": ...}, "'deployment-region' is missing"),
        ({"verbose": "yes"}, "'verbose' is 'yes': it must be true or false"),
        ({"port": 70000}, "'port' is 70000: it must be an integer from -1 to 65535"),
        ({"port": True}, "'port' is True"),
        ({"user-storage": "disk"}, "one of 'persistent', 'key-value', 'hybrid'"),
        ({"system-storage": "sql"}, "'system-storage' is 'sql': it must be 'key-value'"),
        ({"heartbeat-frequency": 0}, "from 1 to 3600"),
        (
            {"worker-queue": "pubsub"},
            "'worker-queue' is 'pubsub': it must be one of 'sqs', 'sqs-unordered', 'dynamodb', 'direct'",
        ),
        ({"distributor-queue": "direct"}, "one of 'inline', 'sqs', 'dynamodb'"),
        ({"client-channel": "smoke"}, "one of 'sqs', 'tcp'"),
        ({"configuration": []}, "'configuration' is []: it must be an object"),
        ({"configuration": {"benchmark": True}}, "'configuration.benchmark' is unknown"),
        ({"worker_queue": "sqs"}, "'worker_queue' is unknown; known keys: "),
    ],
)
def test_a_wrong_or_missing_key_is_named_with_what_it_may_be(change: dict[str, Any], message: str) -> None:
    data = {**PUBLISHED, **change}
    data = {key: value for key, value in data.items() if value is not ...}
    with pytest.raises(ConfigurationException) as raised:
        Config.deserialize(data)
    assert message in str(raised.value)


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationException, match=r"cannot read .*none.json: No such file"):
        Config.load(tmp_path / "none.json")
    (tmp_path / "bad.json").write_text("{")
    with pytest.raises(ConfigurationException, match=r"bad\.json is not JSON"):
        Config.load(tmp_path / "bad.json")
    (tmp_path / "list.json").write_text("[]")
    with pytest.raises(ConfigurationException, match=r"list\.json: a configuration must be a JSON object"):
        Config.load(tmp_path / "list.json")


def test_words_and_members_are_each_other_s_inverse() -> None:
    for kind in (CloudProvider, StorageType, QueueType, ClientChannel):
        for member in kind:
            assert kind.deserialize(kind.serialize(member)) is member
    with pytest.raises(ConfigurationException, match="'azure' is not one of 'local', 'aws', 'gcp'"):
        CloudProvider.deserialize("azure")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"directory": "a\0b"}, "'directory' is 'a\\x00b': a directory name must not contain a NUL"),
        ({"directory": "\ud800"}, "'directory' is '\\ud800': it must be a valid file name on this"),
        ({"deployment-name": "a\0b"}, "'deployment-name' is 'a\\x00b': it must be a string without control"),
        ({"deployment-name": "\x1b[31m"}, "without control characters"),
        ({"deployment-name": "\ud800"}, "without control characters"),
        ({"port": -2}, "'port' is -2: it must be an integer from -1 to 65535"),
        ({"port": "٣"}, "'port' is '٣': it must be an integer"),
        ({"session-timeout": float("nan")}, "'session-timeout' is nan: it must be an integer"),
        ({"session-timeout": -30}, "'session-timeout' is -30"),
        ({"heartbeat-frequency": 1e300}, "'heartbeat-frequency' is 1e+300"),
        ({"super-digest": "a\nb:c"}, "without control characters"),
    ],
)
def test_what_no_name_and_no_number_can_be_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationException) as refused:
        Config.deserialize({"cloud-provider": "local", "deployment-name": "x", **change})
    assert message in str(refused.value)
    assert len(str(refused.value)) < 500


def test_a_directory_in_python_cannot_have_nul_in_its_name_either() -> None:
    with pytest.raises(ConfigurationException, match="NUL"):
        Config.local("a\0b")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b'{"port": 1, "port": 2}', "the key 'port' occurs twice"),
        (b'{"aws": {"a": 1, "a": 1}}', "the key 'a' occurs twice"),
        (b'{"session-timeout": NaN}', "NaN is not a number"),
        (b'{"session-timeout": -Infinity}', "-Infinity is not a number"),
        (b'{"session-timeout": 1e999}', "1e999 is too large"),
        (b'{"port": ' + b"9" * 5000 + b"}", "is not JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff\xfe{\x00}\x00", "not UTF-8 text (byte 0)"),
        (b"\xef\xbb\xbf", "is not JSON"),
        (b"", "is not JSON"),
        (b"[]", "a configuration must be a JSON object"),
    ],
)
def test_a_file_that_is_not_strict_json_is_refused(tmp_path: Path, text: bytes, message: str) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(text)
    with pytest.raises(ConfigurationException) as refused:
        Config.load(path)
    said = str(refused.value)
    assert message in said
    assert said.startswith(str(path))
    assert "\n" not in said
    assert len(said) < 500


def test_a_file_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "config.json"
    path.write_bytes(b'\xef\xbb\xbf{"cloud-provider": "local", "deployment-name": "x"}')
    assert Config.load(path).deployment_name == "x"


def test_a_file_that_is_none_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "none", tmp_path / ("x" * 300)):
        with pytest.raises(ConfigurationException, match="cannot read"):
            Config.load(path)
    for name in ("", "a\0b"):
        with pytest.raises(ConfigurationException, match="not a valid file name"):
            Config.load(name)
