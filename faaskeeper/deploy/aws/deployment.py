"""Creates, updates and removes a deployment on AWS."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from faaskeeper.config import Config, ConfigurationException, QueueType
from faaskeeper.core.errors import DriverError
from faaskeeper.deploy.aws import formerqueue
from faaskeeper.deploy.aws.buckets import Buckets
from faaskeeper.deploy.aws.leftovers import TABLE, TAG, Leftovers
from faaskeeper.deploy.aws.package import package
from faaskeeper.deploy.aws.removal import Removal
from faaskeeper.deploy.aws.stack import ABSENT, FAILED_FIRST, STUCK, Change, Drift, Stack, under_way
from faaskeeper.deploy.aws.template import rights, template, text
from faaskeeper.deploy.aws.versions import PINS, earlier
from faaskeeper.deploy.deployment import Plan, Progress, client_configuration
from faaskeeper.deploy.names import check_name
from faaskeeper.deploy.package import Package
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.service import AwsService

_TAG_KEY = re.compile(r"(?!aws:)[\w .:/=+@-]{1,128}")
_TAG_VALUE = re.compile(r"[\w .:/=+@-]{0,256}")
_MOST_TAGS = 49
"""AWS allows 50 for a resource; one is ours."""
_FUNCTION = "AWS::Lambda::Function"
_START_S = 90.0
_PAUSE_S = 2.0
_OWN_PARAMETERS = {
    "CodeBucket": "",
    "CodeKey": "",
    "UserStorage": "user-storage",
    "WorkerQueue": "worker-queue",
    "DistributorQueue": "distributor-queue",
    "ClientChannel": "client-channel",
    "SuperDigest": "super-digest",
    "SubnetIds": "aws.subnets",
    "SecurityGroupIds": "aws.security-groups",
    "KmsKeyArn": "aws.kms-key",
}
"""Parameters that other keys of the configuration set."""
_POLICIES = {"client": "ClientPolicy", "distribution": "DistributionPolicy", "direct": "DirectPolicy"}
_KEPT = ("profile", "endpoint-url", "client-host", "subnets", "security-groups", "kms-key", "deploy")
"""Keys of the section ``aws`` that the client configuration keeps."""


class AwsDeployment:
    """A deployment on AWS. ``pause``: waits this many seconds between two polls."""

    def __init__(self, config: Config, pause: Callable[[float], None] = time.sleep) -> None:
        check_name("aws", config.deployment_name)
        self.config = config
        self.service = AwsService(config)
        self.aws: Aws = self.service.aws
        self._pause = pause
        self.stack = Stack(self.aws, config.deployment_name, pause)
        self._buckets = Buckets(self.aws)
        self._planned: tuple[str, list[Change]] | None = None
        """The change set that :meth:`changes` made, and its changes."""

    def close(self) -> None:
        planned, self._planned = self._planned, None
        try:
            if planned is not None:
                self.stack.discard(planned[0])
        except DriverError:
            pass  # it changes nothing, and the next deployment deletes it
        finally:
            self.aws.close()

    @cached_property
    def _identity(self) -> tuple[str, str]:
        """The partition of AWS and the account."""
        found = self.aws.call("who am I", self.aws.client("sts").get_caller_identity)
        return str(found["Arn"]).split(":")[1], str(found["Account"])

    @cached_property
    def _leftovers(self) -> Leftovers:
        return Leftovers(self.aws, self.config.deployment_name, *self._identity, self._pause)

    @property
    def code_bucket(self) -> str:
        """The bucket of the functions' code and of templates, which is not part of the stack."""
        return f"{self.config.deployment_name}-code-{self._identity[1]}-{self.config.deployment_region}"

    # ---- without credentials -------------------------------------------------------------

    def no_credentials(self) -> str:
        try:
            found = self.aws.has_credentials()
        except DriverError as error:
            return str(error)
        return "" if found else "no credentials for AWS: set them with 'aws configure'"

    def outline(self) -> list[str]:
        return [f"{'Add':8} {each.kind} {each.logical}" for each in self._resources()]

    def _resources(self) -> list[Any]:
        return template().resources(self.parameters("", ""))

    def rights(self) -> list[str]:
        return [f"{service}: {', '.join(verbs)}" for service, verbs in rights().items()]

    # ---- configuration -----------------------------------------------------------------

    def parameters(self, bucket: str, code: str) -> dict[str, str]:
        """The template's parameters. ``bucket``, ``code``: where the functions' code is.

        The section ``aws.deploy`` of the configuration sets further ones.
        """
        config = self.config
        minutes = max(1, -(-config.heartbeat_frequency // 60))
        chosen = {
            "CodeBucket": bucket,
            "CodeKey": code,
            "UserStorage": config.user_storage.value,
            # heartbeat needs a function's queue, and so do direct writers under contention
            "WorkerQueue": "sqs" if config.worker_queue is QueueType.DIRECT else config.worker_queue.value,
            "DistributorQueue": config.distributor_queue.value,
            "ClientChannel": config.client_channel.value,
            "HeartbeatSilence": str(300 * minutes),
            "HeartbeatRate": f"rate({minutes} minute{'s' if minutes > 1 else ''})",
            "SuperDigest": config.super_digest,
            "Benchmarking": str(config.benchmarking_frequency if config.benchmarking else 0),
            "SubnetIds": ",".join(self._listed("subnets")),
            "SecurityGroupIds": ",".join(self._listed("security-groups")),
            "KmsKeyArn": self.service.text("kms-key"),
        }
        if bool(chosen["SubnetIds"]) != bool(chosen["SecurityGroupIds"]):
            raise ConfigurationException(
                "the keys 'aws.subnets' and 'aws.security-groups' belong together: give both or neither"
            )
        known = template().parameters
        chosen = {key: value for key, value in chosen.items() if key in known}
        more = self.service.section.get("deploy", {})
        if not isinstance(more, Mapping):
            raise ConfigurationException("the key 'aws.deploy' must be an object of template parameters")
        for key, value in more.items():
            if key in _OWN_PARAMETERS:
                instead = _OWN_PARAMETERS[key]
                raise ConfigurationException(
                    f"the key 'aws.deploy.{key}' is not allowed: "
                    + (f"the key {instead!r} sets it" if instead else "it is set for each deployment")
                )
            if key not in known:
                others = ", ".join(sorted(known.keys() - _OWN_PARAMETERS.keys()))
                raise ConfigurationException(f"the key 'aws.deploy.{key}' is unknown; known keys: {others}")
            chosen[key] = str(value)
        return chosen

    def _listed(self, key: str) -> list[str]:
        """A list of identifiers in the section ``aws``."""
        value = self.service.section.get(key, [])
        if not isinstance(value, list) or not all(isinstance(each, str) and each for each in value):
            raise ConfigurationException(
                f"the key 'aws.{key}' is {value!r}: it must be a list of identifiers"
            )
        return value

    def tags(self) -> dict[str, str]:
        """The tags of the stack, which its resources get, too."""
        for key, value in self.config.tags.items():
            if not _TAG_KEY.fullmatch(key) or not _TAG_VALUE.fullmatch(value) or key == TAG:
                raise ConfigurationException(
                    f"the key 'tags' has {key!r}: {value!r}: on AWS a tag has a key of 1 to 128 and a value "
                    "of up to 256 letters, digits, spaces and _.:/=+-@; its key is not 'faaskeeper' and "
                    "does not start with 'aws:'"
                )
        if len(self.config.tags) > _MOST_TAGS:
            raise ConfigurationException(f"the key 'tags' has more than {_MOST_TAGS} tags")
        return {TAG: self.config.deployment_name, **self.config.tags}

    def preliminary(self) -> dict[str, object]:
        kept = {key: value for key, value in self.service.section.items() if key in _KEPT}
        return client_configuration(self.config, kept)

    def output(self) -> dict[str, object]:
        """The client configuration."""
        outputs = self.stack.outputs()
        section = {key: value for key, value in self.service.section.items() if key in _KEPT}
        for key, name in (
            ("data-bucket", "DataBucket"),
            ("worker-queue-url", "WorkerQueueUrl"),
            ("worker-queue-table", "WorkerQueueTable"),
        ):
            if name in outputs:
                section[key] = outputs[name]
        former = self.stack.parameters().get("FormerWorkerQueue", formerqueue.NONE)
        if former != formerqueue.NONE:
            section["former-worker-queue"] = former
        section["policies"] = {name: outputs[key] for name, key in _POLICIES.items() if key in outputs}
        return client_configuration(self.config, section)

    # ---- deploying ---------------------------------------------------------------------

    def prepare(self, progress: Progress) -> None:
        if self.stack.settle(progress) == STUCK:
            self.stack.unstick(progress)

    def changes(self) -> Plan:
        self.tags()
        parameters = self.parameters(self.code_bucket, package().key)
        status = self.stack.status()
        if under_way(status) or status == STUCK:
            return Plan(notes=(f"the stack is {status}: deploying first waits until that is over",))
        if status in ABSENT:
            left = self._removal.outlived()
            return Plan(tuple(self.outline()), refused=_outlived(left) if left else "")
        if status in FAILED_FIRST:
            note = (
                f"an earlier deployment failed ({status}): what it left is removed first, if it holds no data"
            )
            return Plan(tuple(self.outline()), (note,))
        before = self.stack.parameters()
        self._same_storage(before, parameters)
        if not self._buckets.exists(self.code_bucket):
            return Plan(
                notes=(f"the bucket {self.code_bucket} is missing: deploying creates it, then plans",)
            )
        planned, note = self._plan(before, parameters)
        drifted, warning = self.stack.drift()
        lost = _lost(planned)
        return Plan(
            tuple(
                f"{each.action:8} {each.kind} {each.resource}"
                + ("  (replaced: its data is lost)" if each.loses else "")
                for each in planned
            ),
            tuple(each for each in (note, warning, *_drift(drifted)) if each),
            f"{lost} would be replaced, which loses the data: run 'fk export', then --clean" if lost else "",
        )

    def _plan(self, before: Mapping[str, str], parameters: dict[str, str]) -> tuple[list[Change], str]:
        """Make the change set; returns its changes and a line on the former worker queue."""
        note = ""
        if "FormerWorkerQueue" in template().parameters and "FormerWorkerQueue" not in parameters:
            parameters["FormerWorkerQueue"], note = formerqueue.former(
                self.aws,
                self.config.deployment_name,
                before.get("WorkerQueue", ""),
                before.get("FormerWorkerQueue", ""),
                parameters["WorkerQueue"],
            )
        url = self._buckets.put_template(self.code_bucket, text())
        self._planned = self.stack.plan(parameters, url, self.tags())
        return self._planned[1], note

    def _same_storage(self, before: Mapping[str, str], parameters: Mapping[str, str]) -> None:
        was = before.get("UserStorage", parameters["UserStorage"])
        if was != parameters["UserStorage"]:
            raise ProviderException(
                f"{self.config.deployment_name} was deployed with user-storage {was!r}, but the "
                f"configuration has {parameters['UserStorage']!r}: its znodes would be lost. Keep the old "
                "value, or move the data to another deployment with 'fk export' and 'fk import'"
            )

    def deploy(self, progress: Progress) -> dict[str, object]:
        code = package()
        status = self.stack.status()
        if status in FAILED_FIRST:
            self._removal.clean_up(status, progress)
        self._upload(code)
        if self._planned is None:
            left = self._removal.outlived()
            if self.stack.status() in ABSENT and left:
                raise ProviderException(_outlived(left))
            before = self.stack.parameters()
            parameters = self.parameters(self.code_bucket, code.key)
            self._same_storage(before, parameters)
            self._plan(before, parameters)
        assert self._planned is not None
        name, planned = self._planned
        lost = _lost(planned)
        if lost:
            raise ProviderException(f"{lost} would be replaced, which loses the data")
        self._planned = None  # from here on it is the stack's
        gone = {each.resource for each in planned if each.kind == TABLE and each.action == "Remove"}
        if gone:  # tables of queues that are not used any more
            self._leftovers.unprotect(each.name for each in self.stack.resources() if each.logical in gone)
        if name:
            self.stack.apply(name, progress)
        self.stack.protect(True)
        self._start(progress)
        return self.output()

    def _upload(self, code: Package) -> None:
        """Upload the functions' code; creates the bucket if necessary."""
        self._buckets.make(self.code_bucket, self.tags())
        self._buckets.put(self.code_bucket, code.key, code.body)

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
        self._deployed(progress)
        code = package()
        self._upload(code)
        parameters: dict[str, str | None] = dict.fromkeys(self.stack.parameters())
        pins = dict.fromkeys(parameters.keys() & set(PINS.values()), "")  # the newest versions run
        self._update({**parameters, **pins, "CodeBucket": self.code_bucket, "CodeKey": code.key}, progress)

    def _update(self, parameters: Mapping[str, str | None], progress: Progress) -> None:
        """Change parameters of the stack and nothing else. ``parameters``: see :meth:`Stack.plan`."""
        name, planned = self.stack.plan(parameters, "", None)
        lost = _lost(planned)
        if lost:
            self.stack.discard(name)
            raise ProviderException(
                f"{lost} would be replaced, which loses the data: run 'fk deploy service'"
            )
        if name:
            self.stack.apply(name, progress)

    def roll_back(self, progress: Progress) -> None:
        self._deployed(progress)
        parameters: dict[str, str | None] = dict.fromkeys(self.stack.parameters())
        if not parameters.keys() >= set(PINS.values()):
            raise ProviderException(
                f"{self.config.deployment_name} was deployed by a release without versions of functions: "
                "run 'fk deploy service' once, from then on there are some"
            )
        present = {each.name for each in self.stack.resources() if each.kind == _FUNCTION}
        pins = earlier(self.aws, self.config.deployment_name, present)
        for parameter, version in pins.items():
            progress(f"{parameter.removeprefix('Pinned').lower()}: back to version {version}")
        self._update({**parameters, **pins}, progress)

    def _deployed(self, progress: Progress) -> None:
        """Raise unless there is a stack that can be updated; waits for changes that are under way."""
        name, status = self.config.deployment_name, self.stack.settle(progress)
        if status in ABSENT:
            raise ProviderException(f"{name} is not deployed: run 'fk deploy service' first")
        if status in (*FAILED_FIRST, STUCK):
            raise ProviderException(f"the stack {name} is {status}: run 'fk deploy service', which mends it")

    # ---- removing ----------------------------------------------------------------------

    @cached_property
    def _removal(self) -> Removal:
        return Removal(self.service, self.stack, self._leftovers, self._identity[1])

    def holdings(self) -> list[str]:
        removal = self._removal
        lines = [f"{each.kind} {each.name or each.logical}" for each in removal.held()]
        if not lines and self.stack.status() not in ABSENT:
            lines.append(f"the stack {self.config.deployment_name}")
        lines += [str(each) for each in removal.outlived()]
        if self._buckets.exists(self.code_bucket):
            lines.append(f"every object in the bucket {self.code_bucket}")
        return lines

    def clean(self, progress: Progress) -> None:
        """Remove the clients' queues, the stack, what outlives it, and finally the code's bucket."""
        self._removal.remove(progress)
        self._buckets.delete(self.code_bucket, progress)


def _lost(changes: Iterable[Change]) -> str:
    return ", ".join(each.resource for each in changes if each.loses)


def _drift(drifted: Iterable[Drift]) -> list[str]:
    lines: list[str] = []
    for each in drifted:
        lines.append(f"drifted  {each.resource} {each.status}")
        lines += [f"         {line}" for line in each.differences]
    return lines


def _outlived(left: Iterable[object]) -> str:
    listed = ", ".join(map(str, left))
    return (
        f"{listed}: left by an earlier deployment of this name, whose stack is gone. Remove them with "
        "--clean, or choose another deployment-name"
    )
