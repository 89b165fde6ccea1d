"""``fk deploy`` and ``--clean`` in each state that a stack may be in, on an emulator of CloudFormation."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.deploy.aws.deployment import AwsDeployment
from tests.aws import backends
from tests.aws.test_deploy import ROOT, Account
from tests.cli.console import FK, Terminal

EMPTY = json.dumps(
    {"Resources": {"Alarm": {"Type": "AWS::SQS::Queue", "Properties": {"QueueName": "not-applied"}}}}
)


@pytest.fixture
def account(ministack: str, tmp_path: Path) -> Iterator[Account]:
    made = Account(ministack, tmp_path, f"fk-{uuid4().hex[:6]}")
    yield made
    made.service("--clean")
    assert made.names() == {}


def status(account: Account) -> str:
    cloudformation = account.raw("cloudformation")
    try:
        found: str = cloudformation.describe_stacks(StackName=account.name)["Stacks"][0]["StackStatus"]
    finally:
        cloudformation.close()
    return found


@pytest.mark.clouds
def test_a_first_deployment_that_failed_is_cleaned_up_and_made_by_the_same_command(account: Account) -> None:
    bucket = f"{account.name}-000000000000-{backends.REGION}"
    s3 = account.raw("s3")
    s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": backends.REGION})
    assert "already exists" in account.service(code=1)
    assert status(account) == "ROLLBACK_COMPLETE"
    assert json.loads(account.out.read_text())["deployment-name"] == account.name
    planned = account.service("--dry-run")
    assert "an earlier deployment failed (ROLLBACK_COMPLETE)" in planned
    assert "Add      AWS::DynamoDB::Table LogTable" in planned
    s3.delete_bucket(Bucket=bucket)
    s3.close()
    said = account.service()
    assert "holds no data: removing what it left" in said
    assert status(account) == "CREATE_COMPLETE"
    with FaaSKeeperClient(Config.load(account.out)) as client:
        client.create("/a")


@pytest.mark.clouds
def test_a_change_set_that_nobody_executed_is_in_no_way(account: Account) -> None:
    cloudformation = account.raw("cloudformation")
    cloudformation.create_change_set(
        StackName=account.name, ChangeSetName="left", ChangeSetType="CREATE", TemplateBody=EMPTY
    )
    assert status(account) == "REVIEW_IN_PROGRESS"
    assert "No resources found" in account.service("--clean")
    account.service()
    assert status(account) == "CREATE_COMPLETE"
    with pytest.raises(cloudformation.exceptions.ClientError, match="TerminationProtection is enabled"):
        cloudformation.delete_stack(StackName=account.name)
    cloudformation.close()


@pytest.mark.clouds
def test_tables_of_an_earlier_deployment_are_not_taken_for_new_ones(account: Account) -> None:
    tags = [{"Key": "faaskeeper", "Value": account.name}]
    dynamodb = account.raw("dynamodb")
    backends.create_table(account.endpoint, f"{account.name}-records")
    backends.create_table(account.endpoint, f"{account.name}-watch")
    table = dynamodb.describe_table(TableName=f"{account.name}-records")["Table"]["TableArn"]
    dynamodb.tag_resource(ResourceArn=table, Tags=tags)
    dynamodb.update_table(TableName=f"{account.name}-records", DeletionProtectionEnabled=True)
    said = account.service(code=1)
    assert f"AWS::DynamoDB::Table {account.name}-records: left by an earlier deployment" in said
    assert f"{account.name}-watch" not in said  # which has no tag: it is somebody else's
    said = account.service("--clean")
    assert f"deleted AWS::DynamoDB::Table {account.name}-records" in said
    assert account.names() == {"TableNames": [f"{account.name}-watch"]}
    dynamodb.delete_table(TableName=f"{account.name}-watch")
    dynamodb.close()


@pytest.mark.clouds
def test_a_command_that_is_killed_is_completed_by_the_same_command(account: Account) -> None:
    command = [
        *(sys.executable, "-m", "faaskeeper.cli", "deploy", "service", str(account.out)),
        *("--config", str(account.config), "--yes"),
    ]
    killed = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=account.environment, cwd=ROOT)
    assert killed.stderr is not None
    line = next(line for line in killed.stderr if "CREATE_" in line)
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert line.strip()
    kept = json.loads(account.out.read_text())
    assert kept["deployment-name"] == account.name
    account.service()
    assert status(account) in ("CREATE_COMPLETE", "UPDATE_COMPLETE")
    with FaaSKeeperClient(Config.load(account.out)) as client:
        client.create("/a")
    assert not list(account.directory.glob(".fk-*.new"))


@pytest.mark.clouds
def test_a_plan_is_asked_for_at_a_terminal_and_leaves_nothing_if_it_is_not_wanted(account: Account) -> None:
    command = [*FK, "deploy", "service", str(account.out), "--config", str(account.config)]

    def answer(word: str, last: str) -> int:
        terminal = Terminal(command, account.environment)
        terminal.wait_for(r"per month.*\s+Deploy this\? \[y/N\]: ")
        terminal.type(f"{word}\n")
        terminal.wait_for(last)
        return terminal.wait()

    assert answer("n", "Aborted!") == 1
    assert account.names() == {}
    assert not account.out.exists()
    assert answer("y", r"deployed fk-\w+; the client configuration is") == 0
    assert status(account) == "CREATE_COMPLETE"
    account.write({"heartbeat-frequency": 300})
    assert answer("n", "Aborted!") == 1
    cloudformation = account.raw("cloudformation")
    left = cloudformation.list_change_sets(StackName=account.name)["Summaries"]
    cloudformation.close()
    assert [each for each in left if each["ExecutionStatus"] == "AVAILABLE"] == []


@pytest.mark.clouds
def test_a_client_configuration_can_be_deployed_again(account: Account) -> None:
    account.write({"tags": {"team": "a"}, "configuration": {"benchmarking": True}, "session-timeout": 60})
    account.service()
    before = account.out.read_text()
    again = ("deploy", "service", str(account.out), "--config", str(account.out))
    assert "No changes." in account.fk(*again, "--dry-run")
    assert "No changes." in account.fk(*again, "--yes")
    assert account.out.read_text() == before


@pytest.mark.clouds
def test_a_bucket_with_versions_and_thousands_of_objects_is_removed(account: Account) -> None:
    account.service()
    bucket = json.loads(account.out.read_text())["aws"]["data-bucket"]
    s3 = account.raw("s3")
    s3.put_bucket_versioning(Bucket=bucket, VersioningConfiguration={"Status": "Enabled"})
    for number in range(2100):
        s3.put_object(Bucket=bucket, Key=f"b/{number:04d}", Body=b"")
    for _ in range(3):
        s3.put_object(Bucket=bucket, Key="b/0000", Body=b"x")
        s3.delete_object(Bucket=bucket, Key="b/0000")
    s3.close()
    assert f"deleted 2,106 objects in {bucket}" in account.service("--clean")


def recorded(account: Account) -> tuple[AwsDeployment, list[tuple[str, dict[str, Any]]]]:
    """A deployment, and what it sends to CloudFormation."""
    sent: list[tuple[str, dict[str, Any]]] = []
    deployment = AwsDeployment(Config.load(account.config), lambda seconds: None)

    def note(params: dict[str, Any], model: Any, **more: Any) -> None:
        sent.append((model.name, params))

    client = deployment.aws.client("cloudformation", read_timeout=30.0)
    client.meta.events.register("before-parameter-build.cloudformation", note)
    return deployment, sent


@pytest.mark.clouds
def test_the_template_goes_by_the_bucket_under_a_name_made_of_its_contents(account: Account) -> None:
    account.write({"tags": {"team": "storage"}})
    deployment, sent = recorded(account)
    deployment.changes()
    assert not any(name == "CreateChangeSet" for name, _ in sent)  # a first plan makes nothing
    deployment.deploy(lambda line: None)
    deployment.close()
    (created,) = [params for name, params in sent if name == "CreateChangeSet"]
    assert "TemplateBody" not in created
    bucket = f"{account.name}-code-000000000000-{backends.REGION}"
    assert created["TemplateURL"].startswith(f"{account.endpoint}/{bucket}/template-")
    assert {"Key": "team", "Value": "storage"} in created["Tags"]
    s3 = account.raw("s3")
    body = s3.get_object(Bucket=bucket, Key=created["TemplateURL"].rsplit("/", 1)[1])["Body"].read()
    s3.close()
    assert body == (ROOT / "deploy/aws/template.yaml").read_bytes()
    assert ("UpdateTerminationProtection", True) in [
        (name, params.get("EnableTerminationProtection")) for name, params in sent
    ]


@pytest.mark.clouds
def test_updating_the_code_keeps_every_other_parameter_and_the_tags(account: Account) -> None:
    account.write({"tags": {"team": "storage"}, "configuration": {"benchmarking": True}})
    account.service()
    code = account.directory / "faaskeeper"
    deployment, sent = recorded(account)
    deployment.update_code(lambda line: None)
    deployment.close()
    (created,) = [params for name, params in sent if name == "CreateChangeSet"]
    assert created["UsePreviousTemplate"] is True
    assert "Tags" not in created
    given = {each["ParameterKey"]: each for each in created["Parameters"]}
    assert given.pop("CodeKey")["ParameterValue"].startswith("functions-")
    assert given.pop("CodeBucket")["ParameterValue"]
    kept = {name for name, each in given.items() if each == {"ParameterKey": name, "UsePreviousValue": True}}
    assert {"Benchmarking", "RequireTls", "WorkerQueue"} <= kept
    assert all(each.get("ParameterValue", "") == "" for each in given.values())
    assert not code.exists()
