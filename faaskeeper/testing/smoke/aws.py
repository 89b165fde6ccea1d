"""The gate's stage on AWS: roles of who deploys and of a client, and what the account lists."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import boto3
from botocore.exceptions import BotoCoreError, ClientError

from faaskeeper.config import Config, ConfigurationException
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Denied, DriverError
from faaskeeper.deploy.aws.leftovers import TAG
from faaskeeper.deploy.templates import templates
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.service import AwsService, connect
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.testing.smoke import awsusage
from faaskeeper.testing.smoke.mortal import LAST
from faaskeeper.testing.smoke.report import Report, Used
from faaskeeper.testing.smoke.stage import Attempt, Failed, Files, Say, Stage

_POLL_S = 2.0
_HIDDEN_S = 30
"""How long messages of a call that was killed stay hidden, for functions that die: as long as Lambda
asks for, the functions' time-out. The template's 180 s would make each death take three minutes."""
_REFUSED = ("AccessDenied", "AccessDeniedException", "403", "UnauthorizedOperation")


class AwsStage(Stage):
    """A run on AWS. The credentials are those of an administrator of the account.

    Who deploys is a role with the policies of ``deployer.yaml`` and no other; so is a client, with
    the deployment's policy for clients.
    """

    cloud = "AWS"
    who = "by a role with the policies of deployer.yaml alone"
    unreal = (
        ("CloudFormation's calls with the deployer's rights", "the emulator's may do anything"),
        ("rights on parts of tables", "the emulator does not know the condition dynamodb:LeadingKeys"),
        ("new roles that are not known everywhere yet", "the emulator knows them at once"),
    )

    def __init__(self, files: Files, data: dict[str, Any], say: Say) -> None:
        super().__init__(files, data, say)
        self._admin = AwsService(Config.deserialize(data)).aws
        section = data.get("aws", {})
        if section.get("profile"):
            raise ConfigurationException(
                "the key 'aws.profile' would be used by every command, but the gate deploys as a role of its "
                f"own: leave it out, and set AWS_PROFILE={section['profile']} for the gate"
            )
        self._endpoint = str(section.get("endpoint-url", ""))
        self._kms_key = str(section.get("kms-key", ""))
        self._subnets = bool(section.get("subnets"))
        self._client: Aws | None = None
        self._memory: dict[str, int] = {}
        self._pause = 0.1 if self.emulated else _POLL_S

    @property
    def emulated(self) -> bool:
        return bool(self._endpoint)

    def _call(self, service: str, operation: str, **parameters: Any) -> Any:
        client = self._admin.client(service, read_timeout=60.0)
        return self._admin.call(f"{service} {operation}", getattr(client, operation), **parameters)

    def _until(self, what: str, act: Callable[[], Any]) -> Any:
        """Repeat what is refused until AWS knows a new role everywhere. Raises Failed."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                return act()
            except (DriverError, ClientError) as error:
                if time.monotonic() > deadline:
                    raise Failed(f"{what}: {error}") from error
            time.sleep(self._pause)

    # ---- accounts ------------------------------------------------------------------------

    @property
    def _rights(self) -> str:
        return f"{self.name}-rights"

    def _role(self, who: str) -> str:
        return f"{self.name}-smoke-{who}"

    def prepare(self, report: Report) -> None:
        """Apply ``deployer.yaml`` as an administrator does, and make a role with its policies."""
        identity = self._call("sts", "get_caller_identity")
        report.facts["run as"] = str(identity["Arn"])
        if str(identity["Arn"]).endswith(":root") and not self.emulated:
            raise Failed("AWS lets nobody assume a role as the root user: use an administrator's credentials")
        self.say(f"creating the stack {self._rights} from deployer.yaml")
        parameters = {"Deployment": self.name}
        if self._kms_key:
            parameters["KmsKeyArn"] = self._kms_key
        if self._subnets:
            parameters["Network"] = "yes"
        self._call(
            "cloudformation",
            "create_stack",
            StackName=self._rights,
            TemplateBody=templates("aws").joinpath("deployer.yaml").read_text(encoding="utf-8"),
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Capabilities=["CAPABILITY_NAMED_IAM"],
            Tags=[{"Key": TAG, "Value": self.name}],
        )
        stack = self._settled()
        if stack is None or stack["StackStatus"] != "CREATE_COMPLETE":
            raise Failed(f"the stack {self._rights} is {stack and stack['StackStatus']}: its events say why")
        outputs = {each["OutputKey"]: each["OutputValue"] for each in stack["Outputs"]}
        outputs.pop("Boundary")  # which the command has to find by itself
        self._make_role("deployer", outputs.values())
        self._assume("deployer")

    def _settled(self) -> Any:
        """The stack of rights when nothing changes it any more; None: it is gone."""
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                (stack,) = self._call("cloudformation", "describe_stacks", StackName=self._rights)["Stacks"]
            except Denied as error:
                if "does not exist" in str(error):
                    return None
                raise
            if not stack["StackStatus"].endswith("_IN_PROGRESS"):
                return None if stack["StackStatus"] == "DELETE_COMPLETE" else stack
            if time.monotonic() > deadline:
                raise Failed(f"the stack {self._rights} stays {stack['StackStatus']}")
            time.sleep(self._pause)

    def _make_role(self, who: str, policies: Iterable[str]) -> None:
        account = self._call("sts", "get_caller_identity")
        partition = str(account["Arn"]).split(":")[1]
        trust = {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Effect": "Allow",
                    "Principal": {"AWS": f"arn:{partition}:iam::{account['Account']}:root"},
                    "Action": "sts:AssumeRole",
                }
            ],
        }
        self._call(
            "iam",
            "create_role",
            RoleName=self._role(who),
            AssumeRolePolicyDocument=json.dumps(trust),
            Tags=[{"Key": TAG, "Value": self.name}],
        )
        for policy in policies:
            self._call("iam", "attach_role_policy", RoleName=self._role(who), PolicyArn=policy)

    def _assume(self, who: str) -> dict[str, str]:
        """Credentials of a role, for an hour."""
        role = self._call("iam", "get_role", RoleName=self._role(who))["Role"]["Arn"]

        def assume() -> Any:
            return self._call("sts", "assume_role", RoleArn=role, RoleSessionName="smoke")["Credentials"]

        found = self._until(f"the role {self._role(who)} cannot be assumed", assume)
        return {
            "AWS_ACCESS_KEY_ID": found["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": found["SecretAccessKey"],
            "AWS_SESSION_TOKEN": found["SessionToken"],
        }

    def deployer(self) -> Mapping[str, str]:
        kept = {key: value for key, value in os.environ.items() if key != "AWS_PROFILE"}
        return {**kept, **self._assume("deployer")}

    def remover(self) -> Mapping[str, str]:
        try:
            self._call("iam", "get_role", RoleName=self._role("deployer"))
        except Denied as error:
            if "NoSuchEntity" not in str(error):
                raise
            return self.own()  # it was never made, or an earlier removal has come that far
        return self.deployer()

    def own(self) -> Mapping[str, str]:
        return os.environ

    def _session(self, who: str) -> Any:
        keys = self._assume(who)
        return boto3.session.Session(
            aws_access_key_id=keys["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=keys["AWS_SECRET_ACCESS_KEY"],
            aws_session_token=keys["AWS_SESSION_TOKEN"],
            region_name=self._admin.region,
        )

    def _as_client(self) -> Aws:
        """AWS for a client; the credentials last for an hour, so each part of a run gets new ones."""
        if self._client is not None:
            self._client.close()
        session = self._session("direct" if self.direct else "client")
        self._client = Aws(self._admin.region, endpoint=self._endpoint, session=session)
        return self._client

    def deployed(self, report: Report) -> None:
        policies = self.clients.provider_config["policies"]
        self._make_role("client", [policies["client"]])
        if self.direct:
            self._make_role("direct", policies.values())
        self._memory = awsusage.memory(self._admin, self.name)
        awsusage.count_requests(self._admin, self._bucket())
        table = f"{self.name}-lease"

        def look() -> Any:
            client = self._as_client().client("dynamodb")
            key = {"partition": {"S": "lease"}, "sort": {"S": "0"}}
            return self._admin.call("a client", client.get_item, TableName=table, Key=key)

        self._until("a client's rights do not come to count", look)
        section = "rights"
        (stack,) = self._call("cloudformation", "describe_stacks", StackName=self.name)["Stacks"]
        chosen = {each["ParameterKey"]: each["ParameterValue"] for each in stack["Parameters"]}
        found = chosen.get("PermissionsBoundary", "")
        report.add(section, "fk finds the boundary of roles", found.endswith("-boundary"), found)
        for each in self._memory:
            role = self._call("iam", "get_role", RoleName=f"{self.name}-{each}")["Role"]
            boundary = role.get("PermissionsBoundary", {}).get("PermissionsBoundaryArn", "")
            said = boundary or "it has none"
            if self.emulated and not boundary:
                report.untried(section, f"{each}'s role is within the boundary", _NO_BOUNDARY)
            else:
                report.add(
                    section, f"{each}'s role is within the boundary", boundary.endswith("-boundary"), said
                )

    def _bucket(self) -> str:
        return str(self.clients.provider_config["data-bucket"])

    # ---- the suites ----------------------------------------------------------------------

    def connect(self, config: Config, port: int) -> Connection:
        assert self._client is not None
        return connect(config, port, self._client)

    def renew(self) -> None:
        self._as_client()

    def second(self, report: Report) -> str:
        for each in self._memory:
            alias = self._call("lambda", "get_alias", FunctionName=f"{self.name}-{each}", Name="live")
            version = alias["FunctionVersion"]
            what = f"the second deployment of {each} runs"
            report.add("deployment", what, version == "2", f"version {version}")
        return ""

    def beat(self) -> None:
        client = self._admin.client("lambda", read_timeout=60.0, retries={"total_max_attempts": 1})
        answer = self._admin.call(
            "heartbeat",
            client.invoke,
            FunctionName=f"{self.name}-heartbeat",
            Qualifier="live",
            Payload=b"{}",
        )
        said = answer["Payload"].read().decode(errors="replace")
        if answer.get("FunctionError"):
            raise Failed(f"heartbeat failed: {said}")

    def mortal(self) -> tuple[float, float]:
        return (1.0, 2.0) if self.emulated else (4.0, 8.0)

    def dying(self) -> None:
        hidden = 1 if self.emulated else _HIDDEN_S
        for url in self._call("sqs", "list_queues", QueueNamePrefix=f"{self.name}-").get("QueueUrls", ()):
            queue = url.rsplit("/", 1)[-1].removesuffix(".fifo")
            if queue in (f"{self.name}-worker", f"{self.name}-distributor"):
                attributes = {"VisibilityTimeout": str(hidden)}
                self._call("sqs", "set_queue_attributes", QueueUrl=url, Attributes=attributes)

    def deaths(self) -> int:
        client = self._admin.client("logs", read_timeout=60.0)
        number = 0
        for each in self._memory:
            asked = {"logGroupName": f"/aws/lambda/{self.name}-{each}", "filterPattern": f'"{LAST}"'}

            def pages(asked: Mapping[str, str] = asked) -> list[Any]:
                return list(client.get_paginator("filter_log_events").paginate(**asked))

            number += sum(len(page["events"]) for page in self._admin.call("logs", pages))
        return number

    def attempts(self) -> list[Attempt]:
        return attempts(self._session("client"), self.clients, self._endpoint)

    # ---- what it used, and what is left --------------------------------------------------

    def usage(self, began: float, ended: float) -> list[Used]:
        return awsusage.usage(self._admin, Config.deserialize(self.data), self._memory, began, ended)

    def left(self) -> list[str]:
        return listed(self._admin, self.name)

    def remove(self) -> None:
        """Before the stack: it cannot delete a policy that is attached."""
        for who in ("client", "direct"):
            self._remove_role(who)

    def finished(self) -> None:
        self._remove_role("deployer")
        if self._settled() is not None:
            self._call("cloudformation", "delete_stack", StackName=self._rights)
            if self._settled() is not None:
                raise Failed(f"the stack {self._rights} cannot be deleted: its events say why")

    def _remove_role(self, who: str) -> None:
        role = self._role(who)
        try:
            attached = self._call("iam", "list_attached_role_policies", RoleName=role)
            for each in attached["AttachedPolicies"]:
                self._call("iam", "detach_role_policy", RoleName=role, PolicyArn=each["PolicyArn"])
            self._call("iam", "delete_role", RoleName=role)
        except Denied as error:
            if "NoSuchEntity" not in str(error):
                raise

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
        self._admin.close()


_NO_BOUNDARY = "the emulator's CloudFormation leaves the boundary out"


# ---- what a client may not do --------------------------------------------------------------------


def attempts(session: Any, config: Config, endpoint: str) -> list[Attempt]:
    """Try what no client may do, each for itself. ``session``: boto3's, of a client."""
    name, section = config.deployment_name, config.provider_config
    made: dict[str, Any] = {}

    def client(service: str) -> Any:
        if service not in made:
            made[service] = session.client(
                service, region_name=config.deployment_region, endpoint_url=endpoint or None
            )
        return made[service]

    bucket = str(section.get("data-bucket", ""))
    item = {"partition": {"S": "smoke"}, "sort": {"S": "smoke"}, "stamp": {"N": "1"}}
    tries: dict[str, Callable[[], Any]] = {
        "read the deployment's key": lambda: client("dynamodb").get_item(
            TableName=f"{name}-settings", Key={"partition": {"S": "deployment"}, "sort": {"S": "settings"}}
        ),
        "list the sessions with their secrets": lambda: client("dynamodb").query(
            TableName=f"{name}-checkpoint",
            KeyConditionExpression="#p = :p",
            ExpressionAttributeNames={"#p": "partition"},
            ExpressionAttributeValues={":p": {"S": "session"}},
        ),
        "read all watches": lambda: client("dynamodb").scan(TableName=f"{name}-watch"),
        "replace data in the bucket": lambda: client("s3").put_object(Bucket=bucket, Key="b/a", Body=b""),
        "write records in the bucket": lambda: client("s3").put_object(Bucket=bucket, Key="r/a", Body=b""),
        "delete data in the bucket": lambda: client("s3").delete_object(Bucket=bucket, Key="b/a"),
        "run heartbeat": lambda: client("lambda").invoke(FunctionName=f"{name}-heartbeat"),
        "run the writer": lambda: client("lambda").invoke(FunctionName=f"{name}-writer"),
        "change a function's code": lambda: client("lambda").update_function_code(
            FunctionName=f"{name}-writer", S3Bucket=bucket, S3Key="b/a", DryRun=True
        ),
        "delete a table": lambda: client("dynamodb").delete_table(TableName=f"{name}-log"),
        "list roles": lambda: client("iam").list_roles(),
        "delete the stack": lambda: client("cloudformation").delete_stack(StackName=name),
    }
    for table in ("log", "checkpoint", "records", "settings", "heartbeat"):
        tries[f"write into the table {table}"] = lambda table=table: client("dynamodb").put_item(  # type: ignore[misc]
            TableName=f"{name}-{table}", Item=item
        )
    url = str(section.get("worker-queue-url", ""))
    if url:
        tries["receive other clients' requests"] = lambda: client("sqs").receive_message(QueueUrl=url)
        tries["purge the worker's queue"] = lambda: client("sqs").purge_queue(QueueUrl=url)
    found = [Attempt(what, *_refusal(act)) for what, act in tries.items()]
    for each in made.values():
        each.close()
    return found


def _refusal(act: Callable[[], Any]) -> tuple[bool, str]:
    try:
        act()
    except ClientError as error:
        code = str(error.response["Error"]["Code"])
        return code in _REFUSED, code
    except BotoCoreError as error:
        return False, f"it could not be tried: {error}"
    return False, "it was allowed"


# ---- what there is -------------------------------------------------------------------------------

_LISTS: tuple[tuple[str, str, str, str, Mapping[str, Any]], ...] = (
    ("cloudformation", "list_stacks", "StackSummaries", "StackName", {}),
    ("cloudwatch", "describe_alarms", "MetricAlarms", "AlarmName", {}),
    ("cloudwatch", "list_dashboards", "DashboardEntries", "DashboardName", {}),
    ("dynamodb", "list_tables", "TableNames", "", {}),
    ("iam", "list_policies", "Policies", "PolicyName", {"Scope": "Local"}),
    ("iam", "list_roles", "Roles", "RoleName", {}),
    ("lambda", "list_functions", "Functions", "FunctionName", {}),
    ("lambda", "list_event_source_mappings", "EventSourceMappings", "FunctionArn", {}),
    ("logs", "describe_log_groups", "logGroups", "logGroupName", {}),
    ("s3", "list_buckets", "Buckets", "Name", {}),
    ("scheduler", "list_schedules", "Schedules", "Name", {}),
    ("sqs", "list_queues", "QueueUrls", "", {}),
)
"""By service: the operation that lists everything, and where in its answer names are."""


def listed(aws: Aws, name: str) -> list[str]:
    """What an account has of a deployment: by names in each service's list, and by tag in the index."""
    found: list[str] = []
    for service, operation, key, field, more in _LISTS:
        client = aws.client(service, read_timeout=60.0)

        def pages(
            client: Any = client, operation: str = operation, more: Mapping[str, Any] = more
        ) -> list[Any]:
            if client.can_paginate(operation):
                return list(client.get_paginator(operation).paginate(**more))
            return [getattr(client, operation)(**more)]

        for page in aws.call(f"{service} {operation}", pages):
            for each in page.get(key, ()):
                if not isinstance(each, str) and each.get("StackStatus") == "DELETE_COMPLETE":
                    continue
                called = each if isinstance(each, str) else str(each[field])
                if belongs(called, name):
                    found.append(f"{service}: {called}")
    tagging = aws.client("resourcegroupstaggingapi", read_timeout=60.0)
    filters = [{"Key": TAG, "Values": [name]}]
    answer = aws.call("resources by tag", tagging.get_resources, TagFilters=filters)
    found += [f"tag: {each['ResourceARN']}" for each in answer["ResourceTagMappingList"]]
    return sorted(found)


def belongs(called: str, name: str) -> bool:
    """Whether a name, URL or ARN is of a deployment; the name is of the run alone."""
    last = called.rsplit("/", 1)[-1].rsplit(":", 1)[-1]
    return any(each == name or each.startswith(f"{name}-") for each in (called, last, *called.split(":")))
