"""Changes of a deployment: earlier code, another worker queue, on an emulator of CloudFormation."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.deploy.aws import deployment as deploying
from faaskeeper.deploy.aws import formerqueue
from faaskeeper.deploy.aws.deployment import AwsDeployment
from faaskeeper.deploy.aws.formerqueue import former, use
from faaskeeper.deploy.aws.package import package
from faaskeeper.deploy.package import Package
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.clients import Aws
from tests.aws import backends
from tests.aws.test_deploy import Account


@pytest.fixture
def account(ministack: str, tmp_path: Path) -> Iterator[Account]:
    made = Account(ministack, tmp_path, f"fk-{uuid4().hex[:6]}")
    yield made
    made.service("--clean")
    assert made.names() == {}


def live(account: Account, function: str = "writer") -> tuple[str, str]:
    """The version that runs, and the digest of its code."""
    client = account.raw("lambda")
    alias = client.get_alias(FunctionName=f"{account.name}-{function}", Name="live")
    version = alias["FunctionVersion"]
    found = client.get_function_configuration(FunctionName=f"{account.name}-{function}", Qualifier=version)
    client.close()
    return version, found["CodeSha256"]


def deployed_with(account: Account, code: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    """Update the functions to some code."""
    monkeypatch.setattr(deploying, "package", lambda *_: code)
    deployment = AwsDeployment(Config.load(account.out), lambda seconds: None)
    deployment.update_code(lambda line: None)
    deployment.close()


def works(account: Account) -> None:
    with FaaSKeeperClient(Config.load(account.out)) as client:
        client.create("/a", b"1")
        client.delete("/a")


@pytest.mark.clouds
def test_functions_go_back_to_the_code_from_before_the_last_update(
    account: Account, monkeypatch: pytest.MonkeyPatch
) -> None:
    account.write({"configuration": {"benchmarking": True}})
    account.service()
    said = account.fk("deploy", "functions", str(account.out), "--yes", "--rollback", code=1)
    assert "no version with earlier code" in said
    first = live(account)
    code = package(account.parameters["Architecture"])
    newer = Package("functions-newer.zip", lambda: code.body + b"\0")  # what follows an archive is ignored
    deployed_with(account, newer, monkeypatch)
    second = live(account)
    assert second[1] != first[1]
    works(account)
    assert f"writer: back to version {first[0]}" in account.fk(
        "deploy", "functions", str(account.out), "--rollback", "--yes"
    )
    assert live(account) == first
    works(account)
    assert "No changes." not in account.service("--dry-run")
    deployed_with(account, newer, monkeypatch)  # the same once more: it is what the stack has already
    assert live(account) == second
    account.service()
    assert live(account)[1] == first[1]
    works(account)


@pytest.mark.clouds
def test_a_former_worker_queue_serves_its_clients_until_nobody_uses_it(account: Account) -> None:
    account.service()
    before = Config.load(account.out)
    account.write({"worker-queue": "sqs-unordered"})
    said = account.service()
    assert "the worker queue from before (sqs) stays until it is empty and unused" in said
    assert json.loads(account.out.read_text())["aws"]["former-worker-queue"] == "sqs"
    with FaaSKeeperClient(before) as old, FaaSKeeperClient(Config.load(account.out)) as new:
        old.create("/old", b"1")
        assert new.get_data("/old").data == b"1"
    said = account.fk("doctor", str(account.out))
    assert "former queue: sqs: 0 requests wait, 0 were sent in the last 60 minutes; the next" in said
    said = account.service()
    assert "the former worker queue (sqs) is empty and unused: it goes" in said
    assert "former-worker-queue" not in json.loads(account.out.read_text())["aws"]
    urls = account.names()["QueueUrls"]
    assert not any(url.endswith("-worker.fifo") for url in urls)
    works(account)


@pytest.fixture
def queue(ministack: str, aws: Aws) -> Any:
    """A name, and a queue ``NAME-worker.fifo``."""
    name = f"fk-{uuid4().hex[:6]}"
    url = backends.create_queue(ministack, f"{name}-worker.fifo")
    yield name, url
    sqs = backends.raw("sqs", ministack)
    sqs.delete_queue(QueueUrl=url)
    sqs.close()


@pytest.mark.clouds
def test_a_queue_with_requests_or_senders_is_needed(queue: tuple[str, str], ministack: str, aws: Aws) -> None:
    name, url = queue
    assert former(aws, name, "sqs-unordered", "sqs", "sqs-unordered")[0] == ""
    sqs = backends.raw("sqs", ministack)
    sqs.send_message(QueueUrl=url, MessageBody="1", MessageGroupId="1", MessageDeduplicationId="1")
    found = use(aws, name, "sqs")
    assert found is not None
    assert found.waiting == 1
    assert not found.over
    kept, note = former(aws, name, "sqs-unordered", "sqs", "sqs-unordered")
    assert kept == "sqs"
    assert "1 requests wait" in note
    with pytest.raises(ProviderException, match="cannot become 'dynamodb' yet"):
        former(aws, name, "sqs-unordered", "sqs", "dynamodb")
    assert former(aws, name, "sqs-unordered", "sqs", "sqs")[0] == "sqs-unordered"  # back to the first
    sqs.purge_queue(QueueUrl=url)
    cloudwatch = backends.raw("cloudwatch", ministack)
    metric = {"MetricName": "NumberOfMessagesSent", "Value": 2.0}
    dimensions = [{"Name": "QueueName", "Value": f"{name}-worker.fifo"}]
    cloudwatch.put_metric_data(Namespace="AWS/SQS", MetricData=[{**metric, "Dimensions": dimensions}])
    assert str(use(aws, name, "sqs")) == "0 requests wait, 2 were sent in the last 60 minutes"
    assert former(aws, name, "sqs-unordered", "sqs", "sqs-unordered")[0] == "sqs"
    sqs.close()
    cloudwatch.close()


@pytest.mark.clouds
def test_a_queue_that_is_gone_needs_no_place(aws: Aws) -> None:
    assert use(aws, "absent", "sqs") is None
    assert former(aws, "absent", "sqs-unordered", "sqs", "dynamodb")[0] == "sqs-unordered"
    assert former(aws, "absent", "", "", "sqs") == (formerqueue.NONE, "")
    assert former(aws, "absent", "sqs", "", "dynamodb")[0] == "sqs"
