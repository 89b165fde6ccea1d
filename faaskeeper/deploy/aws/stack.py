"""A CloudFormation stack: plans and applies changes, reports progress, and deletes the stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

from botocore.exceptions import ClientError

from faaskeeper.deploy.deployment import Progress
from faaskeeper.deploy.templates import templates
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.clients import Aws

_POLL_S = 2.0
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed", "no changes")
_CAPABILITIES = ["CAPABILITY_NAMED_IAM"]


def template() -> str:
    """The template's text."""
    return templates("aws").joinpath("template.yaml").read_text(encoding="utf-8")


class Change(NamedTuple):
    """A planned change of a resource.

    ``replaced``: the resource is recreated and loses its data.
    """

    action: str
    resource: str
    kind: str
    replaced: bool


class Drift(NamedTuple):
    """A resource that differs from what the template created."""

    resource: str
    status: str
    differences: tuple[str, ...]


class StackFailed(ProviderException):
    """Creating, changing or deleting the stack failed. The message has the events that say why."""


class Stack:
    """A stack by its name. ``pause``: waits this many seconds between two polls."""

    def __init__(self, aws: Aws, name: str, pause: Callable[[float], None] = time.sleep) -> None:
        self.name = name
        self._aws = aws
        self._pause = pause
        self._seen: set[str] = set()

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._aws.call(f"stack {self.name}", getattr(self._client(), operation), **parameters)

    def describe(self) -> Mapping[str, Any] | None:
        """CloudFormation's description.

        None if there is no stack, or only an unfinished change set.
        """

        def look(**parameters: Any) -> Any:
            try:
                return self._client().describe_stacks(**parameters)
            except ClientError as error:
                if "does not exist" in error.response["Error"]["Message"]:
                    return {"Stacks": []}
                raise

        stacks = self._aws.call(f"stack {self.name}", look, StackName=self.name)["Stacks"]
        if not stacks or stacks[0]["StackStatus"] in ("REVIEW_IN_PROGRESS", "DELETE_COMPLETE"):
            return None
        found: Mapping[str, Any] = stacks[0]
        return found

    def _client(self) -> Any:
        return self._aws.client("cloudformation", read_timeout=30.0)

    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        found = self.describe() or {}
        return {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", ())}

    def parameters(self) -> dict[str, str]:
        """The parameters of the last deployment."""
        found = self.describe() or {}
        return {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", ())}

    # ---- planning ----------------------------------------------------------------------

    def plan(self, parameters: Mapping[str, str]) -> tuple[str, list[Change]]:
        """Create a change set; returns its name and its changes.

        An empty name: nothing to change.
        """
        name = f"fk-{uuid4().hex[:12]}"
        self._call(
            "create_change_set",
            StackName=self.name,
            ChangeSetName=name,
            ChangeSetType="CREATE" if self.describe() is None else "UPDATE",
            TemplateBody=template(),
            Capabilities=_CAPABILITIES,
            Parameters=[{"ParameterKey": key, "ParameterValue": value} for key, value in parameters.items()],
            Tags=[{"Key": "faaskeeper", "Value": self.name}],
        )
        while True:
            made = self._call("describe_change_set", StackName=self.name, ChangeSetName=name)
            if made["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                break
            self._pause(_POLL_S)
        if made["Status"] == "FAILED":
            reason = made.get("StatusReason", "")
            self._call("delete_change_set", StackName=self.name, ChangeSetName=name)
            if any(words in reason for words in _NO_CHANGES):
                return "", []
            raise StackFailed(f"cannot change the stack {self.name}: {reason}")
        changes = [_change(each["ResourceChange"]) for each in made["Changes"]]
        while "NextToken" in made:
            made = self._call(
                "describe_change_set",
                StackName=self.name,
                ChangeSetName=name,
                NextToken=made["NextToken"],
            )
            changes.extend(_change(each["ResourceChange"]) for each in made["Changes"])
        return name, sorted(changes, key=lambda each: (each.kind, each.resource))

    def discard(self, plan: str) -> None:
        """Delete a change set without executing it, and a stack that exists only for it."""
        if plan:
            self._call("delete_change_set", StackName=self.name, ChangeSetName=plan)
        if self.describe() is None:
            self._call("delete_stack", StackName=self.name)

    def drift(self) -> list[Drift]:
        """Resources that were changed outside CloudFormation."""
        started = self._call("detect_stack_drift", StackName=self.name)
        while True:
            answer = self._call(
                "describe_stack_drift_detection_status",
                StackDriftDetectionId=started["StackDriftDetectionId"],
            )
            if answer["DetectionStatus"] != "DETECTION_IN_PROGRESS":
                break
            self._pause(_POLL_S)
        if answer["DetectionStatus"] == "DETECTION_FAILED":
            raise ProviderException(f"cannot detect drift: {answer.get('DetectionStatusReason', '')}")
        found = self._call(
            "describe_stack_resource_drifts",
            StackName=self.name,
            StackResourceDriftStatusFilters=["MODIFIED", "DELETED"],
        )
        return [
            Drift(
                each["LogicalResourceId"],
                each["StackResourceDriftStatus"],
                tuple(
                    f"{one['PropertyPath']}: expected {one.get('ExpectedValue')}, is {one.get('ActualValue')}"
                    for one in each.get("PropertyDifferences", ())
                ),
            )
            for each in found["StackResourceDrifts"]
        ]

    # ---- changes -----------------------------------------------------------------------

    def apply(self, plan: str, progress: Progress) -> None:
        """Execute a change set and wait until it is complete. Raises StackFailed."""
        self._seen.update(each["EventId"] for each in self._events())
        self._call("execute_change_set", StackName=self.name, ChangeSetName=plan)
        self._wait(progress, ("CREATE_COMPLETE", "UPDATE_COMPLETE"))

    def delete(self, progress: Progress) -> None:
        """Delete the stack and wait until it is gone. Raises StackFailed."""
        found = self.describe()
        if found is None:
            return
        self._seen.update(each["EventId"] for each in self._events())
        self.name = found["StackId"]  # a deleted stack is found by its id only
        self._call("delete_stack", StackName=self.name)
        self._wait(progress, ("DELETE_COMPLETE",))

    def resources(self) -> list[tuple[str, str, str]]:
        """Type, logical and physical name of each resource."""
        found: list[tuple[str, str, str]] = []
        token: dict[str, str] = {}
        while True:
            page = self._call("list_stack_resources", StackName=self.name, **token)
            found.extend(
                (each["ResourceType"], each["LogicalResourceId"], each.get("PhysicalResourceId", ""))
                for each in page["StackResourceSummaries"]
            )
            if not page.get("NextToken"):
                return sorted(found)
            token = {"NextToken": page["NextToken"]}

    def _events(self) -> Iterator[Mapping[str, Any]]:
        """The latest events, oldest first."""
        found: list[Mapping[str, Any]]
        found = self._call("describe_stack_events", StackName=self.name)["StackEvents"]
        return iter(found[::-1])

    def _wait(self, progress: Progress, good: tuple[str, ...]) -> None:
        failed: list[str] = []
        while True:
            answer = self._call("describe_stacks", StackName=self.name)["Stacks"][0]
            for event in self._events():
                if event["EventId"] in self._seen:
                    continue
                self._seen.add(event["EventId"])
                line = f"{event['ResourceStatus']} {event['LogicalResourceId']}"
                reason = event.get("ResourceStatusReason", "")
                if event["ResourceStatus"].endswith("_FAILED"):
                    failed.append(f"{line}: {reason}")
                progress(f"{line}: {reason}" if failed and reason else line)
            status = answer["StackStatus"]
            if not status.endswith("_IN_PROGRESS"):
                break
            self._pause(_POLL_S)
        if status not in good:
            why = "\n  ".join(failed or [answer.get("StackStatusReason", "no event gives a reason")])
            raise StackFailed(f"the stack is {status}:\n  {why}")


def _change(described: Mapping[str, Any]) -> Change:
    replaced = described.get("Replacement", "False") in ("True", "Conditional")
    return Change(described["Action"], described["LogicalResourceId"], described["ResourceType"], replaced)
