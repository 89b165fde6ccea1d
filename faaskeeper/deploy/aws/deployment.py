"""Creates, updates and removes a deployment on AWS."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any

from botocore.exceptions import ClientError

from faaskeeper.config import Config, ConfigurationException, QueueType
from faaskeeper.core.errors import DriverError
from faaskeeper.deploy.aws.package import package
from faaskeeper.deploy.aws.stack import Change, Drift, Stack
from faaskeeper.deploy.deployment import Progress, client_configuration
from faaskeeper.deploy.package import Package
from faaskeeper.deploy.supers import save_super_user
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.channels import leftovers
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.service import AwsService
from faaskeeper.providers.cloud.service import FUNCTIONS

_NAME = re.compile(r"[a-z][a-z0-9-]{0,22}[a-z0-9]")
_START_S = 90.0
_PAUSE_S = 2.0
_OWN_PARAMETERS = (
    "CodeBucket",
    "CodeKey",
    "UserStorage",
    "WorkerQueue",
    "DistributorQueue",
    "ClientChannel",
    "ClientNetworks",
)


class AwsDeployment:
    """A deployment on AWS. ``pause``: waits this many seconds between two polls."""

    def __init__(self, config: Config, pause: Callable[[float], None] = time.sleep) -> None:
        if not _NAME.fullmatch(config.deployment_name):
            raise ConfigurationException(
                f"the key 'deployment-name' is {config.deployment_name!r}: on AWS it must have 2 to 24 "
                "lower-case letters, digits and hyphens, and start with a letter"
            )
        self.config = config
        self.service = AwsService(config)
        self.aws: Aws = self.service.aws
        self._pause = pause
        self.stack = Stack(self.aws, config.deployment_name, pause)

    def close(self) -> None:
        self.aws.close()

    # ---- configuration -----------------------------------------------------------------

    @cached_property
    def code_bucket(self) -> str:
        """The bucket of the functions' code, which is not part of the stack."""
        account = self.aws.call("who am I", self.aws.client("sts").get_caller_identity)["Account"]
        return f"{self.config.deployment_name}-code-{account}-{self.config.deployment_region}"

    def parameters(self, code: Package) -> dict[str, str]:
        """The template's parameters.

        The section ``aws.deploy`` of the configuration sets further ones.
        """
        config = self.config
        minutes = max(1, -(-config.heartbeat_frequency // 60))
        chosen = {
            "CodeBucket": self.code_bucket,
            "CodeKey": code.key,
            "UserStorage": config.user_storage.value,
            # heartbeat needs a function's queue, and so do direct writers under contention
            "WorkerQueue": "sqs" if config.worker_queue is QueueType.DIRECT else config.worker_queue.value,
            "DistributorQueue": config.distributor_queue.value,
            "ClientChannel": config.client_channel.value,
            "ClientNetworks": ",".join(self.service.networks.texts),
            "HeartbeatRate": f"rate({minutes} minute{'s' if minutes > 1 else ''})",
            "Benchmarking": str(config.benchmarking_frequency if config.benchmarking else 0),
        }
        more = self.service.section.get("deploy", {})
        if not isinstance(more, Mapping):
            raise ConfigurationException("the key 'aws.deploy' must be an object of template parameters")
        for key, value in more.items():
            if key in _OWN_PARAMETERS:
                raise ConfigurationException(
                    f"the key 'aws.deploy.{key}' is not allowed: other keys of the configuration set it"
                )
            chosen[key] = str(value)
        return chosen

    def output(self) -> dict[str, object]:
        """The client configuration."""
        outputs = self.stack.outputs()
        section = {
            key: value
            for key, value in self.service.section.items()
            if key in ("profile", "endpoint-url", "client-networks")
        }
        for key, name in (
            ("data-bucket", "DataBucket"),
            ("worker-queue-url", "WorkerQueueUrl"),
            ("worker-queue-table", "WorkerQueueTable"),
        ):
            if name in outputs:
                section[key] = outputs[name]
        section["policies"] = {name: outputs[key] for name, key in _POLICIES.items() if key in outputs}
        return client_configuration(self.config, section)

    # ---- deploying ---------------------------------------------------------------------

    def _package(self) -> Package:
        """The functions' code for the architecture that the configuration sets."""
        chosen = self.service.section.get("deploy", {})
        return package(str(chosen.get("Architecture", "arm64")) if isinstance(chosen, Mapping) else "arm64")

    def changes(self) -> list[str]:
        plan, changes, drifted = self.plan(self._package())
        lines: list[str] = []
        try:
            for each in changes:
                note = "  (replaced: its data is lost)" if each.replaced else ""
                lines.append(f"{each.action:8} {each.kind} {each.resource}{note}")
            for drift in drifted:
                lines.append(f"drifted  {drift.resource} {drift.status}")
                lines += [f"         {line}" for line in drift.differences]
        finally:
            self.stack.discard(plan)
        return lines

    def deploy(self, progress: Progress) -> dict[str, object]:
        code = self._package()
        plan, changes, _ = self.plan(code)
        lost = [
            each.resource for each in changes if each.replaced and each.kind.endswith(("Table", "Bucket"))
        ]
        if lost:
            self.stack.discard(plan)
            raise ProviderException(
                f"{', '.join(lost)} would be replaced, which loses the data: run 'fk export', then --clean"
            )
        try:
            self.upload(code)
        except BaseException:
            self.stack.discard(plan)
            raise
        self.apply(plan, progress)
        return self.output()

    def plan(self, code: Package) -> tuple[str, list[Change], list[Drift]]:
        """The change set, its changes, and the drift since the last deployment."""
        current = self.stack.parameters()
        parameters = self.parameters(code)
        before = current.get("UserStorage", parameters["UserStorage"])
        if before != parameters["UserStorage"]:
            raise ProviderException(
                f"{self.config.deployment_name} was deployed with user-storage {before!r}, but the "
                f"configuration has {parameters['UserStorage']!r}: its znodes would be lost. Keep the old "
                "value, or move the data to another deployment with 'fk export' and 'fk import'"
            )
        drifted = self.stack.drift() if current else []
        plan, changes = self.stack.plan(parameters)
        return plan, changes, drifted

    def upload(self, code: Package) -> None:
        """Upload the functions' code; creates the bucket if necessary."""
        s3, bucket = self.aws.client("s3"), self.code_bucket
        if not self._exists(bucket):
            region = self.config.deployment_region
            where = {"CreateBucketConfiguration": {"LocationConstraint": region}}
            if region == "us-east-1":  # this region must not be named
                where = {}
            self.aws.call(f"bucket {bucket}", s3.create_bucket, Bucket=bucket, **where)
            blocked = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")
            self.aws.call(
                f"bucket {bucket}",
                s3.put_public_access_block,
                Bucket=bucket,
                PublicAccessBlockConfiguration=dict.fromkeys(blocked, True),
            )
        self.aws.call("upload of the code", s3.put_object, Bucket=bucket, Key=code.key, Body=code.body)

    def _exists(self, bucket: str) -> bool:
        def look(**parameters: Any) -> bool:
            try:
                self.aws.client("s3").head_bucket(**parameters)
            except ClientError as error:
                if error.response["Error"]["Code"] in ("404", "NoSuchBucket"):
                    return False
                raise
            return True

        return bool(self.aws.call(f"bucket {bucket}", look, Bucket=bucket))

    def apply(self, plan: str, progress: Progress) -> None:
        """Apply a plan, then run heartbeat, which creates the tree if there is none."""
        if plan:
            self.stack.apply(plan, progress)
        save_super_user(self.service, progress)
        self._start(progress)

    def _start(self, progress: Progress) -> None:
        """Invoke heartbeat once, which initializes a new deployment."""
        name = self.service.names.function("heartbeat")
        client = self.aws.client("lambda", read_timeout=60.0, retries={"total_max_attempts": 1})
        deadline = time.monotonic() + _START_S
        while True:
            try:
                answer = self.aws.call(f"function {name}", client.invoke, FunctionName=name, Payload=b"{}")
                payload = answer["Payload"].read().decode(errors="replace")
                if not answer.get("FunctionError"):
                    progress("heartbeat ran")
                    return
                problem = f"heartbeat failed: {payload}"
            except DriverError as error:
                problem = str(error)
            if time.monotonic() > deadline:
                raise ProviderException(f"the stack exists, but its heartbeat does not run: {problem}")
            self._pause(_PAUSE_S)  # a new role takes some seconds to propagate

    def update_code(self, progress: Progress) -> None:
        if self.stack.describe() is None:
            raise ProviderException(
                f"{self.config.deployment_name} is not deployed: run 'fk deploy service' first"
            )
        code = package(self.stack.parameters().get("Architecture", "arm64"))
        self.upload(code)
        present = {name for kind, _, name in self.stack.resources() if kind == "AWS::Lambda::Function"}
        client = self.aws.client("lambda", read_timeout=60.0)
        for short in FUNCTIONS:
            name = self.service.names.function(short)
            if name not in present:
                continue
            self.aws.call(
                f"function {name}",
                client.update_function_code,
                FunctionName=name,
                S3Bucket=self.code_bucket,
                S3Key=code.key,
            )
            while True:
                answer = self.aws.call(
                    f"function {name}", client.get_function_configuration, FunctionName=name
                )
                if answer.get("LastUpdateStatus", "Successful") != "InProgress":
                    break
                self._pause(_PAUSE_S)
            if answer.get("LastUpdateStatus") == "Failed":
                raise ProviderException(
                    f"{name}: {answer.get('LastUpdateStatusReason', 'the update failed')}"
                )
            progress(f"updated {name}")

    # ---- removing ----------------------------------------------------------------------

    def holdings(self) -> list[str]:
        lines: list[str] = []
        if self.stack.describe() is not None:
            lines += [f"{kind} {name}" for kind, _, name in self.stack.resources()]
        lines += [f"every object in the bucket {bucket}" for bucket in self._buckets()]
        return lines

    def _buckets(self) -> list[str]:
        buckets = [self.code_bucket]
        if "DataBucket" in (outputs := self.stack.outputs()):
            buckets.append(outputs["DataBucket"])
        return [each for each in buckets if self._exists(each)]

    def attached(self) -> list[str]:
        """Users, groups and roles outside the stack to which the stack's policies are attached."""
        iam, found = self.aws.client("iam"), []
        own = {name for kind, _, name in self.stack.resources() if kind == "AWS::IAM::Role"}
        outputs = self.stack.outputs()
        for policy in (outputs[key] for key in _POLICIES.values() if key in outputs):
            answer = self.aws.call("policies", iam.list_entities_for_policy, PolicyArn=policy)
            for kind in ("User", "Group", "Role"):
                for each in answer.get(f"Policy{kind}s", ()):
                    if each[f"{kind}Name"] not in own:
                        found.append(f"{policy} is attached to the {kind.lower()} {each[f'{kind}Name']}")
        return found

    def clean(self, progress: Progress) -> None:
        """Remove the clients' queues, the objects, the stack, and finally the code's bucket."""
        exists = self.stack.describe() is not None
        if exists:
            others = self.attached()
            if others:
                raise ProviderException("detach these policies first: " + "; ".join(others))
            for address in leftovers(self.aws, self.service.table("lease"), None, 0):
                progress(f"deleted the queue {address}")
        buckets = self._buckets()
        for bucket in buckets:
            progress(f"deleted {self._empty(bucket)} objects in {bucket}")
        if exists:
            self.stack.delete(progress)
        if self.code_bucket in buckets:
            self.aws.call("code", self.aws.client("s3").delete_bucket, Bucket=self.code_bucket)
            progress(f"deleted the bucket {self.code_bucket}")

    def _empty(self, bucket: str) -> int:
        s3, number = self.aws.client("s3"), 0
        while True:
            page = self.aws.call("objects", s3.list_objects_v2, Bucket=bucket)
            keys = [{"Key": each["Key"]} for each in page.get("Contents", ())]
            if not keys:
                return number
            answer = self.aws.call("objects", s3.delete_objects, Bucket=bucket, Delete={"Objects": keys})
            if answer.get("Errors"):
                raise ProviderException(f"cannot empty {bucket}: {json.dumps(answer['Errors'][0])}")
            number += len(keys)


_POLICIES = {"client": "ClientPolicy", "distribution": "DistributionPolicy", "direct": "DirectPolicy"}
