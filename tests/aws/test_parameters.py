"""What a configuration asks for, said without an account: parameters, tags, resources, rights."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.config import Config, ConfigurationException
from faaskeeper.deploy.aws import parameters as chosen
from faaskeeper.deploy.aws import template as templates
from faaskeeper.deploy.aws.deployment import AwsDeployment
from faaskeeper.deploy.aws.template import Resource, Template, release, rights
from faaskeeper.testing.patience import PATIENCE_S
from tests.aws.test_template import RESOURCES

ROOT = Path(__file__).parent.parent.parent
SMALL = """
Parameters:
  UserStorage: {Type: String, Default: hybrid}
  SubnetIds: {Type: String, Default: ""}
  SecurityGroupIds: {Type: String, Default: ""}
  KmsKeyArn: {Type: String, Default: ""}
  HeartbeatSilence: {Type: Number, Default: 300}
  Count: {Type: Number, Default: 0}
Conditions:
  InNetwork: !Not [!Equals [!Ref SubnetIds, ""]]
  Counted: !Not [!Equals [!Ref Count, 0]]
  Both: !And [!Condition InNetwork, !Condition Counted]
  Either: !Or [!Condition InNetwork, !Condition Counted]
Resources:
  Always: {Type: "AWS::DynamoDB::Table", Properties: {TableName: !Sub "${AWS::StackName}-always"}}
  Network: {Type: "A::B::C", Condition: InNetwork}
  Both: {Type: "A::B::C", Condition: Both}
  Either:
    Type: AWS::SQS::Queue
    Condition: Either
    Properties:
      QueueName: !If [Counted, !Sub "${AWS::StackName}-${AWS::Region}", !Sub "${AWS::StackName}.fifo"]
"""


def configuration(**options: Any) -> Config:
    data = {"cloud-provider": "aws", "deployment-name": "fk", "deployment-region": "eu-central-1"}
    return Config.deserialize({**data, **options})


def asked(**options: Any) -> dict[str, str]:
    deployment = AwsDeployment(configuration(**options))
    try:
        return chosen.parameters(deployment.service, "bucket", "code")
    finally:
        deployment.close()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chosen, "template", lambda: Template(SMALL))


@pytest.mark.usefixtures("small")
def test_networks_and_keys_are_parameters_of_the_template() -> None:
    key = "arn:aws:kms:eu-central-1:000000000000:key/1"
    section = {"subnets": ["subnet-1", "subnet-2"], "security-groups": ["sg-1"], "kms-key": key}
    found = asked(aws=section, **{"heartbeat-frequency": 600})
    assert found == {
        "UserStorage": "hybrid",
        "SubnetIds": "subnet-1,subnet-2",
        "SecurityGroupIds": "sg-1",
        "KmsKeyArn": key,
        "HeartbeatSilence": "3000",
    }


def test_what_cannot_be_deployed_is_one_clear_error() -> None:
    for section, problem in (
        ({"subnets": ["subnet-1"]}, "'aws.subnets' and 'aws.security-groups' belong together"),
        ({"subnets": "subnet-1", "security-groups": ["sg-1"]}, "it must be a list of identifiers"),
        ({"deploy": {"Nothing": 1}}, "'aws.deploy.Nothing' is unknown; known keys: "),
        ({"deploy": {"WorkerQueue": "sqs"}}, "not allowed: the key 'worker-queue' sets it"),
        ({"deploy": {"CodeKey": "x"}}, "not allowed: each deployment sets it"),
        ({"deploy": 1}, "'aws.deploy' must be an object"),
    ):
        with pytest.raises(ConfigurationException, match=problem):
            asked(aws=section)


def test_tags_are_the_configuration_s_and_one_with_the_name() -> None:
    assert chosen.tags(configuration(tags={"team": "a b", "cost:center": "1"})) == {
        "faaskeeper": "fk", "team": "a b", "cost:center": "1"
    }  # fmt: skip
    for wrong in ({"aws:x": "1"}, {"": "1"}, {"a": "?"}, {"faaskeeper": "x"}, {"k" * 129: "v"}):
        with pytest.raises(ConfigurationException, match="the key 'tags' has"):
            chosen.tags(configuration(tags=wrong))
    with pytest.raises(ConfigurationException, match="more than 49"):
        chosen.tags(configuration(tags={f"k{number}": "" for number in range(50)}))
    with pytest.raises(ConfigurationException, match="an object whose values are strings"):
        configuration(tags={"a": 1})


def test_conditions_are_evaluated_as_cloudformation_does() -> None:
    small = Template(SMALL)
    for values, names in (
        ({}, ["Always"]),
        ({"SubnetIds": "s"}, ["Always", "Either", "Network"]),
        ({"Count": "2"}, ["Always", "Either"]),
        ({"SubnetIds": "s", "Count": "2"}, ["Always", "Both", "Either", "Network"]),
    ):
        assert sorted(each.logical for each in small.resources(values)) == names


def test_names_of_what_outlives_a_stack_are_those_of_every_branch() -> None:
    pseudo = {"AWS::StackName": "fk", "AWS::Region": "r"}
    assert Template(SMALL).lasting(pseudo) == [
        (Resource("AWS::DynamoDB::Table", "Always"), "fk-always"),
        (Resource("AWS::SQS::Queue", "Either"), "fk-r"),
        (Resource("AWS::SQS::Queue", "Either"), "fk.fifo"),
    ]


def test_every_condition_of_the_template_can_be_evaluated() -> None:
    conditional = {each["Condition"] for each in RESOURCES.values() if "Condition" in each}
    assert conditional
    seen = {each.logical for each in templates.template().resources({})}
    for options in (
        {"user-storage": "key-value", "worker-queue": "dynamodb", "distributor-queue": "dynamodb"},
        {"user-storage": "persistent", "worker-queue": "sqs-unordered", "distributor-queue": "sqs"},
    ):
        seen |= {each.logical for each in templates.template().resources(asked(**options))}
    lasting = {each.logical for each, _ in templates.template().lasting(PSEUDO)}
    holding = {name for name, each in RESOURCES.items() if each["Type"] in ("AWS::DynamoDB::Table",)}
    assert holding <= lasting
    assert "DataBucket" in lasting
    assert {"RecordsTable", "WorkerTable", "DistributorTable", "DataBucketPolicy"} <= seen


PSEUDO = {"AWS::StackName": "fk", "AWS::AccountId": "1", "AWS::Region": "r"}


def test_a_release_changes_with_the_parameters_and_with_nothing_else() -> None:
    first = release({"A": "1", "B": "2"})
    assert first == release({"B": "2", "A": "1"})
    assert first != release({"A": "1", "B": "3"})


def test_rights_are_those_of_the_deployer_and_not_of_functions() -> None:
    found = rights()
    assert "CreateChangeSet" in found["cloudformation"]
    assert "DeleteObjectVersion" in found["s3"]
    assert all("*" not in verb for verbs in found.values() for verb in verbs)


def test_a_dry_run_without_credentials_shows_resources_rights_and_cost(tmp_path: Path) -> None:
    config, out = tmp_path / "config.json", tmp_path / "out.json"
    data = {"cloud-provider": "aws", "deployment-name": "fk", "deployment-region": "eu-central-1"}
    config.write_text(json.dumps({**data, "worker-queue": "dynamodb"}))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("AWS_")}
    environment |= {"HOME": str(tmp_path), "AWS_EC2_METADATA_DISABLED": "true"}
    done = subprocess.run(
        [
            *(sys.executable, "-m", "faaskeeper.cli", "deploy", "service", str(out)),
            *("--config", str(config), "--dry-run"),
        ],
        capture_output=True, text=True, env=environment, cwd=ROOT, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "no credentials for AWS: run 'aws configure'" in done.stderr
    assert "Add      AWS::DynamoDB::Table WorkerTable" in done.stdout
    assert "WorkerRequests" not in done.stdout
    assert "per month" in done.stdout
    assert "  cloudformation: " in done.stdout
    assert not out.exists()
