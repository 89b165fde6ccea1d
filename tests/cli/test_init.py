"""``fk init``: a configuration by asking, or by options alone."""

from __future__ import annotations

import json
from pathlib import Path

import boto3
import pytest

from faaskeeper import registry
from faaskeeper.config import Config
from faaskeeper.deploy.names import REGIONS
from tests.cli.console import FK, Fk, Terminal


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    made = Fk(tmp_path)
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "GOOGLE_CLOUD_PROJECT", "CLOUDSDK_CORE_PROJECT"):
        made.environment.pop(name, None)
    return made


def test_a_configuration_is_written_by_asking(fk: Fk) -> None:
    file = fk.directory / "config.json"
    terminal = Terminal([*FK, "init", "aws", str(file)], fk.environment)
    terminal.wait_for(r"names of all its resources.*\s+deployment-name \[faaskeeper-dev\]: ")
    terminal.type("Wrong\n")
    terminal.wait_for(r"it must have 2 to 24 lower-case letters.*\s+deployment-name \[faaskeeper-dev\]: ")
    terminal.type("fk-one\n")
    terminal.wait_for(r"deployment-region \[us-east-1\]: ")
    terminal.type("eu-central1\n")
    terminal.wait_for(r"do you mean eu-central-1, .*\s+deployment-region \[us-east-1\]: ")
    terminal.type("eu-central-1\n")
    terminal.wait_for(r"hybrid \(DynamoDB.*\s+user-storage \[hybrid\]: ")
    terminal.type("\n")
    terminal.wait_for(r"worker-queue \[sqs\]: ")
    terminal.type("rabbit\n")
    terminal.wait_for(r"must be one of sqs, sqs-unordered, dynamodb, direct\s+worker-queue \[sqs\]: ")
    terminal.type("dynamodb\n")
    terminal.wait_for(r"How clients are answered.*\s+client-channel \[\w+\]: ")
    terminal.type("sqs\n")
    terminal.wait_for(r"fk deploy service client.json --config \S+ --dry-run")
    assert terminal.wait() == 0
    made = Config.load(file)
    assert (made.deployment_name, made.deployment_region) == ("fk-one", "eu-central-1")
    assert (made.worker_queue.value, made.client_channel.value) == ("dynamodb", "sqs")


def test_options_and_defaults_answer_everything(fk: Fk) -> None:
    fk.environment["AWS_REGION"] = "eu-west-1"
    file = fk.directory / "aws.json"
    said = fk.said("init", "aws", str(file), "--yes", "--name", "fk-two", "--user-storage", "persistent")
    assert f"fk deploy service client.json --config {file} --dry-run" in said
    data = json.loads(file.read_text())
    spec = registry.PROVIDERS["aws"]
    assert data == {
        "cloud-provider": "aws",
        "deployment-name": "fk-two",
        "deployment-region": "eu-west-1",
        "user-storage": "persistent",
        "worker-queue": "sqs",
        "client-channel": spec.client_channels[0],
        "distributor-queue": "inline",
        "heartbeat-frequency": 60,
        "session-timeout": 180,
        "aws": {"deploy": {}},
    }
    file = fk.directory / "gcp.json"
    fk.said("init", "gcp", str(file), "--yes", "--project", "mine", "--region", "europe-west1")
    assert json.loads(file.read_text())["gcp"] == {"project-id": "mine", "deploy": {}}
    Config.load(file)


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (("aws", "FILE"), "there is no terminal: add --yes"),
        (("aws", "FILE", "--yes", "--region", "us-central-1"), "'us-central-1' is not a known region"),
        (("aws", "FILE", "--yes", "--name", "x" * 25), "it must have 2 to 24"),
        (("gcp", "FILE", "--yes", "--project", "p", "--name", "x" * 19), "it must have 4 to 18"),
        (("gcp", "FILE", "--yes"), "a project is needed"),
        (("aws", "FILE", "--yes", "--project", "mine"), "--project is for 'fk init gcp'"),
        (("aws", "FILE", "--yes", "--worker-queue", "pubsub"), "it must be one of sqs,"),
        (("azure", "FILE", "--yes"), "'azure' is not one of 'local', 'aws', 'gcp'"),
        (("aws", "FILE/absent", "--yes"), "No such file or directory"),
    ],
)
def test_a_wrong_answer_is_one_clear_error_and_writes_nothing(
    fk: Fk, words: tuple[str, ...], problem: str
) -> None:
    file = fk.directory / "config.json"
    done = fk.run("init", *(word.replace("FILE", str(file)) for word in words))
    assert done.returncode in (1, 2)
    assert problem in done.stderr.decode()
    assert "Traceback" not in done.stderr.decode()
    assert not file.exists()


def test_a_file_is_not_overwritten(fk: Fk) -> None:
    file = fk.directory / "config.json"
    file.write_text("mine")
    done = fk.run("init", "aws", str(file), "--yes")
    assert done.returncode == 2
    assert "exists: choose another file" in done.stderr.decode()
    assert file.read_text() == "mine"


def test_every_region_that_boto3_knows_is_known() -> None:
    assert set(boto3.session.Session().get_available_regions("lambda")) <= set(REGIONS["aws"])
