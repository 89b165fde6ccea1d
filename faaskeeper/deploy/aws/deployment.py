"""Creates, updates and removes a deployment on AWS."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from functools import cached_property
from typing import Any

from faaskeeper.config import Config
from faaskeeper.core.errors import Denied, DriverError
from faaskeeper.deploy.aws import formerqueue
from faaskeeper.deploy.aws.buckets import Buckets
from faaskeeper.deploy.aws.leftovers import TABLE, Leftovers
from faaskeeper.deploy.aws.package import package
from faaskeeper.deploy.aws.parameters import parameters, tags
from faaskeeper.deploy.aws.removal import Removal
from faaskeeper.deploy.aws.stack import ABSENT, FAILED_FIRST, STUCK, Change, Drift, Stack, under_way
from faaskeeper.deploy.aws.template import release, rights, template, text
from faaskeeper.deploy.aws.versions import ALIAS, PINS, earlier
from faaskeeper.deploy.deployment import Plan, Progress, client_configuration
from faaskeeper.deploy.names import check_name
from faaskeeper.deploy.package import Changed, Package, as_it_is
from faaskeeper.deploy.supers import save_super_user, super_user_notes
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.clients import Aws, no_credentials
from faaskeeper.providers.aws.service import AwsService

_FUNCTION = "AWS::Lambda::Function"
_START_S = 90.0
_PAUSE_S = 2.0
_POLICIES = {"client": "ClientPolicy", "distribution": "DistributionPolicy", "direct": "DirectPolicy"}
_KEPT = (
    "profile",
    "endpoint-url",
    "client-host",
    "client-networks",
    "subnets",
    "security-groups",
    "kms-key",
    "deploy",
)
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
        self._code_planned: tuple[Mapping[str, str | None], str, list[Change]] | None = None
        """The parameters that :meth:`code_changes` planned for, the change set, and its changes."""

    def close(self) -> None:
        made = [each[-2] for each in (self._planned, self._code_planned) if each is not None]
        self._planned = self._code_planned = None
        try:
            for name in made:
                self.stack.discard(name)
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
        return "" if found else str(no_credentials())

    def outline(self) -> list[str]:
        return [f"{'Add':8} {each.kind} {each.logical}" for each in self._resources()]

    def _resources(self) -> list[Any]:
        return template().resources(parameters(self.service, "", ""))

    def rights(self) -> list[str]:
        return [f"{service}: {', '.join(verbs)}" for service, verbs in rights().items()]

    # ---- configuration -----------------------------------------------------------------

    def parameters(self, code: str) -> dict[str, str]:
        """The template's parameters. ``code``: the key of the functions' code."""
        return parameters(self.service, self.code_bucket, code)

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
        status = self.stack.settle(progress)
        if status == STUCK:
            self.stack.unstick(progress)
        if status not in (*ABSENT, *FAILED_FIRST):  # a plan needs a place for the template
            self._buckets.make(self.code_bucket, tags(self.config))

    def changes(self) -> Plan:
        tags(self.config)
        wanted = self.parameters(self._package().key)
        status = self.stack.status()
        if under_way(status) or status == STUCK:
            return Plan(refused=f"the stack is {status}: changes can be planned when that is over")
        if status in ABSENT:
            left = self._removal.outlived()
            return Plan(tuple(self.outline()), refused=_outlived(left) if left else "")
        if status in FAILED_FIRST:
            note = (
                f"an earlier deployment failed ({status}): what it left is removed first, if it holds no data"
            )
            return Plan(tuple(self.outline()), (note,))
        before = self.stack.parameters()
        self._same_storage(before, wanted)
        if not self._buckets.exists(self.code_bucket):
            return Plan(refused=f"a plan needs the bucket {self.code_bucket}, which deploying creates")
        changes, note = self._plan(before, wanted)
        drifted, warning = self.stack.drift()
        lost = _lost(changes)
        return Plan(
            _lines(changes),
            tuple(each for each in (note, warning, *_drift(drifted), *super_user_notes(self.config)) if each),
            f"{lost} would be replaced, which loses the data: run 'fk export', then --clean" if lost else "",
        )

    def _plan(self, before: Mapping[str, str], parameters: dict[str, str]) -> tuple[list[Change], str]:
        """Make the change set; returns its changes and a line on the former worker queue."""
        note, known = "", template().parameters
        if "PermissionsBoundary" in known and "PermissionsBoundary" not in parameters:
            parameters["PermissionsBoundary"] = self._boundary() or before.get("PermissionsBoundary", "")
        if "FormerWorkerQueue" in known and "FormerWorkerQueue" not in parameters:
            parameters["FormerWorkerQueue"], note = formerqueue.former(
                self.aws,
                self.config.deployment_name,
                before.get("WorkerQueue", ""),
                before.get("FormerWorkerQueue", ""),
                parameters["WorkerQueue"],
            )
        if "Release" in known:
            parameters["Release"] = release(parameters)
        url = self._buckets.put_template(self.code_bucket, text())
        self._planned = self.stack.plan(parameters, url, tags(self.config))
        return self._planned[1], note

    def _boundary(self) -> str:
        """The policy that bounds the roles of functions, if an administrator made it with deployer.yaml."""
        partition, account = self._identity
        policy = f"arn:{partition}:iam::{account}:policy/{self.config.deployment_name}-boundary"
        try:
            self.aws.call("boundary", self.aws.client("iam").get_policy, PolicyArn=policy)
        except Denied:
            return ""  # there is none, or these credentials may not see it, and then need not use it
        return policy

    def _same_storage(self, before: Mapping[str, str], parameters: Mapping[str, str]) -> None:
        was = before.get("UserStorage", parameters["UserStorage"])
        if was != parameters["UserStorage"]:
            raise ProviderException(
                f"{self.config.deployment_name} was deployed with user-storage {was!r}, but the "
                f"configuration has {parameters['UserStorage']!r}: its znodes would be lost. Keep the old "
                "value, or move the data to another deployment with 'fk export' and 'fk import'"
            )

    def _package(self) -> Package:
        """The functions' code for the architecture that the configuration sets."""
        chosen = self.service.section.get("deploy", {})
        return package(str(chosen.get("Architecture", "arm64")) if isinstance(chosen, Mapping) else "arm64")

    def deploy(self, progress: Progress) -> dict[str, object]:
        code = self._package()
        status = self.stack.status()
        if status in FAILED_FIRST:
            self._removal.clean_up(status, progress)
        self._upload(code)
        if self._planned is None:
            left = self._removal.outlived()
            if self.stack.status() in ABSENT and left:
                raise ProviderException(_outlived(left))
            before = self.stack.parameters()
            wanted = self.parameters(code.key)
            self._same_storage(before, wanted)
            self._plan(before, wanted)
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
        save_super_user(self.service, progress)
        self._start(progress)
        return self.output()

    def _upload(self, code: Package) -> None:
        """Upload the functions' code; creates the bucket if necessary."""
        self._buckets.make(self.code_bucket, tags(self.config))
        self._buckets.put(self.code_bucket, code.key, code.body)

    def _start(self, progress: Progress) -> None:
        """Invoke heartbeat once, which initializes a new deployment."""
        name = self.service.names.function("heartbeat")
        client = self.aws.client("lambda", read_timeout=60.0, retries={"total_max_attempts": 1})
        alias = {"Qualifier": ALIAS} if PINS["heartbeat"] in self.stack.parameters() else {}
        deadline = time.monotonic() + _START_S
        while True:
            try:
                answer = self.aws.call(
                    f"function {name}", client.invoke, FunctionName=name, Payload=b"{}", **alias
                )
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

    def update_code(self, progress: Progress, changed: Changed = as_it_is) -> None:
        self._deployed(progress)
        code = changed(self._newest())
        self._upload(code)
        self._update(self._with_code(code), progress)

    def _newest(self) -> Package:
        return package(self.stack.parameters().get("Architecture", "arm64"))

    def _with_code(self, code: Package) -> dict[str, str | None]:
        parameters: dict[str, str | None] = dict.fromkeys(self.stack.parameters())
        pins = dict.fromkeys(parameters.keys() & set(PINS.values()), "")  # the newest versions run
        return {**parameters, **pins, "CodeBucket": self.code_bucket, "CodeKey": code.key}

    def code_changes(self, progress: Progress, *, back: bool = False) -> Plan:
        self._deployed(progress)
        pins = self._earlier() if back else {}
        wanted = self._with_pins(pins) if back else self._with_code(self._newest())
        name, changes = self.stack.plan(wanted, "", None)
        self._code_planned = wanted, name, changes
        return Plan(_lines(changes), tuple(_going_back(pins)), _replaced(_lost(changes)))

    def _update(self, parameters: Mapping[str, str | None], progress: Progress) -> None:
        """Change parameters of the stack and nothing else. ``parameters``: see :meth:`Stack.plan`."""
        if self._code_planned is not None and self._code_planned[0] == parameters:
            _, name, planned = self._code_planned
            self._code_planned = None
        else:
            name, planned = self.stack.plan(parameters, "", None)
        lost = _lost(planned)
        if lost:
            self.stack.discard(name)
            raise ProviderException(_replaced(lost))
        if name:
            self.stack.apply(name, progress)

    def roll_back(self, progress: Progress) -> None:
        self._deployed(progress)
        pins = self._earlier()
        for line in _going_back(pins):
            progress(line)
        self._update(self._with_pins(pins), progress)

    def _with_pins(self, pins: Mapping[str, str]) -> dict[str, str | None]:
        return {**dict.fromkeys(self.stack.parameters()), **pins}

    def _earlier(self) -> dict[str, str]:
        """The versions from before the last update, by the parameters that pin them."""
        if not self.stack.parameters().keys() >= set(PINS.values()):
            raise ProviderException(
                f"{self.config.deployment_name} was deployed by a release without versions of functions: "
                "run 'fk deploy service' once, from then on there are some"
            )
        present = {each.name for each in self.stack.resources() if each.kind == _FUNCTION}
        return earlier(self.aws, self.config.deployment_name, present)

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


def _lines(changes: Iterable[Change]) -> tuple[str, ...]:
    return tuple(
        f"{each.action:8} {each.kind} {each.resource}"
        + ("  (replaced: its data is lost)" if each.loses else "")
        for each in changes
    )


def _going_back(pins: Mapping[str, str]) -> list[str]:
    return [f"{each.removeprefix('Pinned').lower()}: back to version {pins[each]}" for each in pins]


def _replaced(lost: str) -> str:
    """Why only the code is not updated; empty if nothing would be lost."""
    return f"{lost} would be replaced, which loses the data: run 'fk deploy service'" if lost else ""


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
