"""``fk deploy`` on an emulator of CloudFormation that enforces IAM: made, used, changed, removed."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import pytest

from faaskeeper.config import Config
from faaskeeper.core.acl import digest
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.testing.smoke.aws import attempts
from tests.aws import backends
from tests.aws.system import TABLES
from tests.load import CLIENT

ROOT = Path(__file__).parent.parent.parent
_ARCHITECTURE = {"aarch64": "arm64"}.get(platform.machine(), platform.machine())
"""The emulator runs the functions on this machine."""


class Account:
    """An account on the emulator, with a person who deploys, and one deployment's name."""

    def __init__(self, endpoint: str, directory: Path, name: str = "fk-test") -> None:
        self.endpoint = endpoint
        self.directory = directory
        self.name = name
        self.out = directory / "out.json"
        self.config = directory / "config.json"
        self.environment = {**os.environ, **backends.KEYS, "FK_POLL_FACTOR": "0.05"}
        # the emulator speaks plain HTTP
        self.parameters = {"RequireTls": "no", "Architecture": _ARCHITECTURE}
        self.boundary = ""
        self.write({})

    def write(self, options: dict[str, Any]) -> None:
        options = dict(options)
        section = options.pop("aws", {})
        data = {
            "cloud-provider": "aws",
            "deployment-name": self.name,
            "deployment-region": backends.REGION,
            **options,
            "aws": {**section, "endpoint-url": self.endpoint, "deploy": self.parameters},
        }
        self.config.write_text(json.dumps(data))

    def fk(self, *arguments: str, code: int = 0, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "faaskeeper.cli", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            env=self.environment,
            cwd=ROOT,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def service(self, *more: str, code: int = 0, yes: bool = True) -> str:
        return self.fk(
            "deploy", "service", str(self.out), "--provider", "aws", "--config", str(self.config), *more,
            *(["--yes"] if yes else []), code=code,
        )  # fmt: skip

    def raw(self, service: str) -> Any:
        return backends.raw(service, self.endpoint)

    def user(self, name: str, *policies: str) -> dict[str, str]:
        """A user with managed policies; returns the environment of what it runs."""
        iam = self.raw("iam")
        iam.create_user(UserName=name)
        for policy in policies:
            iam.attach_user_policy(UserName=name, PolicyArn=policy)
        key = iam.create_access_key(UserName=name)["AccessKey"]
        iam.close()
        return {
            **self.environment,
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    def deployer(self) -> None:
        """From now on commands run as one who may deploy, by the policies for that."""
        outputs = self._bounds()
        self.boundary = outputs.pop("Boundary")  # which the command has to find
        self.environment = self.user("deployer", *outputs.values())

    def bound(self) -> str:
        """The boundary of the deployment's roles, made by deployer.yaml."""
        return self._bounds()["Boundary"]

    def _bounds(self) -> dict[str, str]:
        """Have an administrator apply deployer.yaml; returns its outputs."""
        cloudformation = self.raw("cloudformation")
        cloudformation.create_stack(
            StackName=f"{self.name}-rights",
            TemplateBody=(ROOT / "deploy/aws/deployer.yaml").read_text(),
            Parameters=[{"ParameterKey": "Deployment", "ParameterValue": self.name}],
            Capabilities=["CAPABILITY_NAMED_IAM"],
        )
        stack = cloudformation.describe_stacks(StackName=f"{self.name}-rights")["Stacks"][0]
        cloudformation.close()
        return {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}

    def stack_parameters(self) -> dict[str, str]:
        """What the stack was deployed with."""
        cloudformation = self.raw("cloudformation")
        (stack,) = cloudformation.describe_stacks(StackName=self.name)["Stacks"]
        cloudformation.close()
        return {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}

    def names(self) -> dict[str, list[str]]:
        """Everything there is whose name begins as the deployment's."""
        found: dict[str, list[str]] = {}
        for service, operation, key, name in (
            ("dynamodb", "list_tables", "TableNames", ""),
            ("sqs", "list_queues", "QueueUrls", ""),
            ("s3", "list_buckets", "Buckets", "Name"),
            ("lambda", "list_functions", "Functions", "FunctionName"),
            ("iam", "list_roles", "Roles", "RoleName"),
            ("iam", "list_policies", "Policies", "PolicyName"),
            ("logs", "describe_log_groups", "logGroups", "logGroupName"),
            ("scheduler", "list_schedules", "Schedules", "Name"),
            ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName"),
            ("lambda", "list_event_source_mappings", "EventSourceMappings", "FunctionArn"),
        ):
            client = self.raw(service)
            paged = client.can_paginate(operation)  # a hundred tables of other tests make two pages
            pages = client.get_paginator(operation).paginate() if paged else [getattr(client, operation)()]
            for each in [each for page in pages for each in page.get(key, [])]:
                called = each[name] if name else each
                if self.name in called and not called.endswith(_OF_THE_DEPLOYER):
                    found.setdefault(key, []).append(called)
            client.close()
        return found


_OF_THE_DEPLOYER = ("-deployer", "-deployer-functions", "-deployer-roles", "-boundary")
"""The ends of the policies' names that stay when a deployment is removed."""


def assert_denied(account: Account, environment: dict[str, str]) -> None:
    """A client is refused all that the gate tries."""
    session = boto3.session.Session(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
    tried = attempts(session, Config.load(account.out), account.endpoint)
    assert len(tried) > 15
    assert [each for each in tried if not each.refused] == []


def run(script: str, account: Account, environment: dict[str, str], *more: str, code: int = 0) -> str:
    done = subprocess.run(
        [sys.executable, "-c", script, str(account.out), *more],
        capture_output=True, text=True, env=environment, cwd=ROOT, timeout=PATIENCE_S, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture
def account(tmp_path: Path) -> Iterator[Account]:
    with backends.ministack(AUTH="true") as endpoint:
        yield Account(endpoint, tmp_path)


def assert_roles_are_narrow(account: Account) -> None:
    """Each function's role may do what is its function's and nothing of the others'."""
    base = f"000000000000:table/{account.name}"
    table = {each: f"arn:aws:dynamodb:{backends.REGION}:{base}-{each}" for each in TABLES}
    heartbeat = f"arn:aws:lambda:{backends.REGION}:000000000000:function:{account.name}-heartbeat:live"
    worker = f"arn:aws:sqs:{backends.REGION}:000000000000:{account.name}-worker.fifo"
    stranger = f"arn:aws:dynamodb:{backends.REGION}:000000000000:table/another-log"
    never = [
        ("dynamodb:PutItem", stranger),
        ("dynamodb:Scan", table["log"]),
        ("dynamodb:DeleteTable", table["log"]),
        ("lambda:InvokeFunction", heartbeat),
        ("iam:PassRole", f"arn:aws:iam::000000000000:role/{account.name}-writer"),
    ]
    tried = {
        "writer": (
            [("dynamodb:PutItem", table["log"]), ("sqs:ReceiveMessage", worker)],
            [("dynamodb:PutItem", table["settings"]), ("sqs:SendMessage", worker)],
        ),
        "watch": (
            [("dynamodb:DeleteItem", table["watch"]), ("dynamodb:GetItem", table["settings"])],
            [
                ("dynamodb:GetItem", table["records"]),
                ("dynamodb:PutItem", table["log"]),
                ("dynamodb:PutItem", table["watch"]),
                ("sqs:SendMessage", worker),
            ],
        ),
        "heartbeat": (
            [("sqs:SendMessage", worker), ("dynamodb:PutItem", table["checkpoint"])],
            [
                ("dynamodb:PutItem", table["log"]),
                ("dynamodb:DeleteItem", table["log"]),
                ("dynamodb:PutItem", table["watch"]),
                ("sqs:ReceiveMessage", worker),
            ],
        ),
        "schedule": ([("lambda:InvokeFunction", heartbeat)], [("dynamodb:GetItem", table["settings"])]),
    }
    iam = account.raw("iam")
    for role, (may, may_not) in tried.items():
        more = [each for each in never if role != "schedule" or each[1] != heartbeat]
        for (action, resource), allowed in [
            *((each, True) for each in may),
            *((each, False) for each in (*may_not, *more)),
        ]:
            told = iam.simulate_principal_policy(
                PolicySourceArn=f"arn:aws:iam::000000000000:role/{account.name}-{role}",
                ActionNames=[action],
                ResourceArns=[resource],
            )
            decision = told["EvaluationResults"][0]["EvalDecision"]
            assert (decision == "allowed") is allowed, (role, action, resource, decision)
    iam.close()


SUPER = """
import sys
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.exceptions import NoAuthException
with FaaSKeeperClient(Config.load(sys.argv[1])) as client:
    client.create("/s", b"1", acl=[(1, "digest", "alice:x")])
    for word in ("wrong", "pw"):
        client.add_auth("digest", f"root:{word}")
        try:
            client.set_data("/s", b"2")
        except NoAuthException:
            assert word == "wrong"
        else:
            assert word == "pw"
    client.delete("/s")
print("as it should be")
"""
SECRETIVE = """
import json, sys, boto3
from botocore.exceptions import ClientError
data = json.load(open(sys.argv[1]))
name = data["deployment-name"]
client = lambda service: boto3.client(
    service, region_name=data["deployment-region"], endpoint_url=data["aws"]["endpoint-url"])
functions = client("lambda")
for short in ("writer", "watch", "heartbeat"):
    said = json.dumps(functions.get_function_configuration(FunctionName=f"{name}-{short}")["Environment"])
    assert "root" not in said and "super" not in said, said
for partition, sort in (("deployment", "settings"), ("super", "super")):  # it writes the last, and reads none
    try:
        key = {"partition": {"S": partition}, "sort": {"S": sort}}
        client("dynamodb").get_item(TableName=f"{name}-settings", Key=key)
    except ClientError as error:
        assert "AccessDenied" in error.response["Error"]["Code"], error
    else:
        raise AssertionError("allowed")
print("as it should be")
"""


@pytest.mark.clouds
def test_a_deployment_is_planned_made_used_changed_and_removed_without_leftovers(account: Account) -> None:
    account.deployer()
    planned = account.service("--dry-run")
    assert "Add      AWS::DynamoDB::Table LogTable" in planned
    assert "per month" in planned
    assert "No resources found" in account.service("--clean")
    assert not account.out.exists()
    assert account.names() == {}

    supers = {"super-digest": digest("root:pw")}
    account.write(supers)
    made = account.service()
    assert "CREATE_COMPLETE WriterFunction" in made
    assert "the super user is root" in made
    assert account.stack_parameters()["PermissionsBoundary"] == account.boundary
    Config.load(account.out)
    assert "root" not in account.out.read_text()
    assert "as it should be" in run(SECRETIVE, account, account.environment)
    assert "No changes" in account.service("--dry-run")

    policy = json.loads(account.out.read_text())["aws"]["policies"]["client"]
    client = account.user("client", policy)
    assert "as it should be" in run(CLIENT, account, client)
    assert_denied(account, client)
    assert "as it should be" in run(SUPER, account, client)

    assert_roles_are_narrow(account)

    sqs = account.raw("sqs")
    url = json.loads(account.out.read_text())["aws"]["worker-queue-url"]
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "7"})
    drifted = account.service("--dry-run")
    assert "drifted  WorkerRequests MODIFIED" in drifted
    assert "VisibilityTimeout: expected 180, is 7" in drifted
    sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "180"})
    sqs.close()

    account.write({**supers, "heartbeat-frequency": 300})
    assert "Modify   AWS::Scheduler::Schedule HeartbeatSchedule" in account.service("--dry-run")
    assert "UPDATE_COMPLETE HeartbeatSchedule" in account.service()
    account.write({"user-storage": "persistent"})
    assert "znodes would be lost" in account.service(code=1)
    account.write({})
    assert "updated the functions of" in account.fk("deploy", "functions", str(account.out), "--yes")
    assert "as it should be" in run(CLIENT, account, client)
    assert "as it should be" in run(SUPER, account, client)
    account.fk("deploy", "service", str(account.out), "--config", str(account.out), "--yes")
    assert "as it should be" in run(SUPER, account, client)  # a client's configuration does not name it
    account.write({"super-digest": ""})
    assert "the super user, if there is one, is removed" in account.service("--dry-run")
    assert "there is no super user" in account.service()
    assert "NoAuthException" in run(SUPER, account, client, code=1)

    stranger = account.directory / "stranger.json"
    stranger.write_text("{}")
    refused = account.fk(
        "deploy", "service", str(stranger), "--config", str(account.config), "--provider", "aws", code=2
    )
    assert "choose another file" in refused

    assert "detach these policies first" in account.service("--clean", code=1)
    iam = account.raw("iam")
    iam.detach_user_policy(UserName="client", PolicyArn=policy)
    iam.close()
    assert "there is no terminal: add --yes" in account.service("--clean", yes=False, code=2)
    assert account.names() != {}
    removed = account.service("--clean")
    assert f"deleted AWS::DynamoDB::Table {account.name}-log" in removed
    assert account.names() == {}
    assert not account.out.exists()


BEYOND = """
import json, sys, boto3
from botocore.exceptions import ClientError
name, boundary, endpoint = sys.argv[2:]
iam = boto3.client("iam", region_name="us-east-1", endpoint_url=endpoint)
trust = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Principal": {"Service": "lambda.amazonaws.com"}, "Action": "sts:AssumeRole"}]})
everything = json.dumps({"Version": "2012-10-17", "Statement": [
    {"Effect": "Allow", "Action": "*", "Resource": "*"}]})
role = {"RoleName": f"{name}-writer", "AssumeRolePolicyDocument": trust}
for what in (
    lambda: iam.create_role(**role),
    lambda: iam.create_role(**role, PermissionsBoundary=boundary.replace("-boundary", "-client")),
    lambda: iam.create_role(**{**role, "RoleName": f"{name}-writer2"}, PermissionsBoundary=boundary),
    lambda: iam.create_policy_version(PolicyArn=boundary, PolicyDocument=everything, SetAsDefault=True),
    lambda: iam.create_policy(PolicyName=f"{name}-deployer-roles", PolicyDocument=everything),
    lambda: iam.attach_user_policy(UserName="deployer", PolicyArn=boundary),
    lambda: iam.create_role(**role, PermissionsBoundary=boundary) and iam.delete_role_permissions_boundary(
        RoleName=role["RoleName"]),
    lambda: iam.attach_role_policy(
        RoleName=role["RoleName"], PolicyArn="arn:aws:iam::aws:policy/AdministratorAccess"),
):
    try:
        what()
    except ClientError as error:
        assert "AccessDenied" in error.response["Error"]["Code"], error
    else:
        raise AssertionError("allowed")
# within the boundary
iam.put_role_policy(RoleName=role["RoleName"], PolicyName="own", PolicyDocument=everything)
print("as it should be")
"""


@pytest.mark.clouds
def test_a_deployer_makes_no_role_beyond_the_boundary_and_cannot_change_it(account: Account) -> None:
    account.deployer()
    boundary = account.boundary
    more = (account.name, boundary, account.endpoint)
    assert "as it should be" in run(BEYOND, account, account.environment, *more)
    iam = account.raw("iam")
    role = iam.get_role(RoleName=f"{account.name}-writer")["Role"]
    assert role["PermissionsBoundary"]["PermissionsBoundaryArn"] == boundary
    iam.close()


SWEEP = """
import json, os, sys, boto3
data = json.load(open(sys.argv[1]))
client = boto3.client(
    "lambda", region_name=data["deployment-region"], endpoint_url=data["aws"]["endpoint-url"])
for event in ({}, {"sweep": True}, {"rotate": True}):
    told = client.invoke(FunctionName=data["deployment-name"] + "-heartbeat", Payload=json.dumps(event))
    said = told["Payload"].read().decode()
    assert "FunctionError" not in told, said
print("as it should be")
"""
OTHERS = {
    "tables alone": {
        "user-storage": "key-value",
        "worker-queue": "dynamodb",
        "distributor-queue": "dynamodb",
        "client-channel": "tcp",
        "aws": {"client-networks": ["127.0.0.0/8"]},
    },
    "queues": {"user-storage": "persistent", "distributor-queue": "sqs"},
    "unordered": {"worker-queue": "sqs-unordered"},
    "direct": {"worker-queue": "direct"},
}


@pytest.fixture(scope="module")
def enforcing() -> Iterator[str]:
    with backends.ministack(AUTH="true") as endpoint:
        yield endpoint


@pytest.mark.clouds
@pytest.mark.parametrize("which", list(OTHERS))
def test_each_role_has_what_its_function_needs_and_each_policy_what_its_clients_need(
    which: str, enforcing: str, tmp_path: Path
) -> None:
    account = Account(enforcing, tmp_path, f"fk-{which.split()[0]}")
    account.write(OTHERS[which])
    boundary = account.bound()
    account.service()
    iam = account.raw("iam")
    for role in iam.list_roles()["Roles"]:  # the emulator's CloudFormation leaves the boundary out
        if role["RoleName"].startswith(account.name):
            iam.put_role_permissions_boundary(RoleName=role["RoleName"], PermissionsBoundary=boundary)
    iam.close()
    assert "as it should be" in run(SWEEP, account, account.environment)
    policies = json.loads(account.out.read_text())["aws"]["policies"]
    client = account.user(f"client-{account.name}", policies["client"])
    if which == "direct":
        iam = account.raw("iam")
        for each in ("distribution", "direct"):
            iam.attach_user_policy(UserName=f"client-{account.name}", PolicyArn=policies[each])
        iam.close()
    assert "as it should be" in run(CLIENT, account, client)
    assert "as it should be" in run(SWEEP, account, account.environment)
