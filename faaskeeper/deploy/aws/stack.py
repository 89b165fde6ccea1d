"""A CloudFormation stack: plans and applies changes, reports progress, and deletes the stack."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple
from uuid import uuid4

from faaskeeper.core.errors import Denied, DriverError, Throttled, Unavailable
from faaskeeper.deploy.deployment import Progress
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.clients import Aws

_POLL_S = 2.0
_POLLS_IN_VAIN = 150
"""So many polls in a row may fail before that ends the command: CloudFormation works on meanwhile."""
_DRIFT_POLLS = 300
_NO_CHANGES = ("didn't contain changes", "No updates are to be performed", "no changes")
_CAPABILITIES = ["CAPABILITY_NAMED_IAM"]

REVIEW = "REVIEW_IN_PROGRESS"
"""There is a change set that would create the stack, and nothing else."""
ABSENT = ("", "DELETE_COMPLETE", REVIEW)
"""States in which there is nothing of a stack: a change set creates it."""
FAILED_FIRST = ("CREATE_FAILED", "ROLLBACK_COMPLETE", "ROLLBACK_FAILED", "DELETE_FAILED")
"""States that only a deletion ends: of a stack whose creation, or deletion, failed."""
STUCK = "UPDATE_ROLLBACK_FAILED"
"""An update failed, and so did its rollback: that has to be continued before anything else."""


def under_way(status: str) -> bool:
    """Whether CloudFormation works on a stack."""
    return status.endswith("_IN_PROGRESS") and status != REVIEW


class Change(NamedTuple):
    """A planned change of a resource.

    ``replaced``: the resource is recreated and loses its data.
    """

    action: str
    resource: str
    kind: str
    replaced: bool

    @property
    def loses(self) -> bool:
        """Whether it loses data. A queue's table that is removed is not needed any more."""
        return self.replaced and self.kind.endswith(("DynamoDB::Table", "S3::Bucket"))


class Drift(NamedTuple):
    """A resource that differs from what the template created."""

    resource: str
    status: str
    differences: tuple[str, ...]


class Held(NamedTuple):
    """A resource of a stack: its type, its name in the template, its own name, and its state."""

    kind: str
    logical: str
    name: str
    status: str


class _Followed(NamedTuple):
    """An operation's stack by its id, the state before it, and the ids of the events that are known."""

    stack: str
    status: str
    seen: set[str]


class StackFailed(ProviderException):
    """Creating, changing or deleting the stack failed. The message has the events that say why."""


class Stack:
    """A stack by its name. ``pause``: waits this many seconds between two polls."""

    def __init__(self, aws: Aws, name: str, pause: Callable[[float], None] = time.sleep) -> None:
        self.name = name
        self._aws = aws
        self._pause = pause

    def _call(self, operation: str, **parameters: Any) -> Any:
        return self._aws.call(f"stack {self.name}", getattr(self._client(), operation), **parameters)

    def _client(self) -> Any:
        return self._aws.client("cloudformation", read_timeout=30.0)

    def _look(self, name: str) -> Mapping[str, Any] | None:
        """CloudFormation's description in any state; None if it knows no such stack."""
        try:
            stacks = self._call("describe_stacks", StackName=name)["Stacks"]
        except Denied as error:
            if "does not exist" in str(error):
                return None
            raise
        return stacks[0] if stacks else None

    def status(self) -> str:
        """Its state in CloudFormation's words; empty: there is none."""
        return str((self._look(self.name) or {}).get("StackStatus", ""))

    def describe(self) -> Mapping[str, Any] | None:
        """CloudFormation's description.

        None if there is no stack, or only an unfinished change set.
        """
        found = self._look(self.name)
        return None if found is None or found["StackStatus"] in ABSENT else found

    def outputs(self) -> dict[str, str]:
        """The stack's outputs."""
        found = self.describe() or {}
        return {each["OutputKey"]: each["OutputValue"] for each in found.get("Outputs", ())}

    def parameters(self) -> dict[str, str]:
        """The parameters of the last deployment. Those that hold a secret have asterisks."""
        found = self.describe() or {}
        return {each["ParameterKey"]: each["ParameterValue"] for each in found.get("Parameters", ())}

    def resources(self) -> list[Held]:
        """Each resource; those that are deleted already are left out."""
        found: list[Held] = []
        token: dict[str, str] = {}
        while True:
            page = self._call("list_stack_resources", StackName=self.name, **token)
            found.extend(
                Held(
                    each["ResourceType"],
                    each["LogicalResourceId"],
                    _name(each),
                    each.get("ResourceStatus", ""),
                )
                for each in page["StackResourceSummaries"]
                if each.get("ResourceStatus") != "DELETE_COMPLETE"
            )
            if not page.get("NextToken"):
                return sorted(found)
            token = {"NextToken": page["NextToken"]}

    # ---- planning ----------------------------------------------------------------------

    def plan(
        self, parameters: Mapping[str, str | None], template: str, tags: Mapping[str, str] | None
    ) -> tuple[str, list[Change]]:
        """Create a change set; returns its name and its changes.

        ``parameters``: those with None keep their value. ``template``: its URL; empty: the stack
        keeps its own. ``tags``: of the stack and its resources; None: it keeps its own. An empty
        name: nothing to change.
        """
        name = f"fk-{uuid4().hex[:12]}"
        more: dict[str, Any] = {"TemplateURL": template} if template else {"UsePreviousTemplate": True}
        if tags is not None:
            more["Tags"] = [{"Key": key, "Value": value} for key, value in tags.items()]
        self._call(
            "create_change_set",
            StackName=self.name,
            ChangeSetName=name,
            ChangeSetType="CREATE" if self.describe() is None else "UPDATE",
            Capabilities=_CAPABILITIES,
            Parameters=[
                {"ParameterKey": key}
                | ({"UsePreviousValue": True} if value is None else {"ParameterValue": value})
                for key, value in parameters.items()
            ],
            **more,
        )
        while True:
            made = self._call("describe_change_set", StackName=self.name, ChangeSetName=name)
            if made["Status"] not in ("CREATE_PENDING", "CREATE_IN_PROGRESS"):
                break
            self._pause(_POLL_S)
        if made["Status"] == "FAILED":
            reason = made.get("StatusReason", "")
            unchanged = any(words in reason for words in _NO_CHANGES)
            found = [] if unchanged else self._invalid(StackName=self.name, ChangeSetName=name)
            self._call("delete_change_set", StackName=self.name, ChangeSetName=name)
            if unchanged:
                return "", []
            raise StackFailed("\n  ".join([f"cannot change the stack {self.name}: {reason}", *found]))
        changes = [_change(each["ResourceChange"]) for each in made["Changes"]]
        while made.get("NextToken"):
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
        if self.status() == REVIEW:
            self._call("delete_stack", StackName=self.name)

    def drift(self) -> tuple[list[Drift], str]:
        """Resources that were changed outside CloudFormation, and why not all of them are known.

        Drift is a hint. What keeps it from being found (a right, a type that CloudFormation cannot
        compare, an operation under way) is said and does not fail.
        """
        try:
            started = self._call("detect_stack_drift", StackName=self.name)
            answer = self._detected(started["StackDriftDetectionId"])
            found = self._drifted()
        except DriverError as error:
            return [], f"drift cannot be detected: {error}"
        if answer["DetectionStatus"] == "DETECTION_COMPLETE":
            return found, ""
        reason = answer.get("DetectionStatusReason", "") or answer["DetectionStatus"]
        return found, f"drift cannot be detected for all resources: {reason}"

    def _detected(self, detection: str) -> Mapping[str, Any]:
        """How a detection of drift ended, or its state if it takes too long."""
        for _ in range(_DRIFT_POLLS):
            answer: Mapping[str, Any] = self._call(
                "describe_stack_drift_detection_status", StackDriftDetectionId=detection
            )
            if answer["DetectionStatus"] != "DETECTION_IN_PROGRESS":
                break
            self._pause(_POLL_S)
        return answer

    def _drifted(self) -> list[Drift]:
        found: list[Drift] = []
        token: dict[str, str] = {}
        while True:
            page = self._call(
                "describe_stack_resource_drifts",
                StackName=self.name,
                StackResourceDriftStatusFilters=["MODIFIED", "DELETED"],
                **token,
            )
            for each in page["StackResourceDrifts"]:
                differences = tuple(
                    f"{one['PropertyPath']}: expected {one.get('ExpectedValue')}, is {one.get('ActualValue')}"
                    for one in each.get("PropertyDifferences", ())
                )
                found.append(Drift(each["LogicalResourceId"], each["StackResourceDriftStatus"], differences))
            if not page.get("NextToken"):
                return found
            token = {"NextToken": page["NextToken"]}

    # ---- changes -----------------------------------------------------------------------

    def apply(self, plan: str, progress: Progress) -> None:
        """Execute a change set and wait until it is complete. Raises StackFailed.

        What it creates and cannot complete is deleted again, whatever the template retains: it
        holds nothing yet, and its name is needed for the next attempt.
        """
        followed = self._followed()
        self._call("execute_change_set", StackName=self.name, ChangeSetName=plan, RetainExceptOnCreate=True)
        self._wait(followed, progress, ("CREATE_COMPLETE", "UPDATE_COMPLETE"))

    def settle(self, progress: Progress) -> str:
        """Wait until no operation is under way, whoever began it; returns the state."""
        status = self.status()
        if not under_way(status):
            return status
        progress(f"the stack is {status}: waiting until that is over")
        return self._follow(self._followed(), progress, [])[0]

    def unstick(self, progress: Progress) -> str:
        """Continue a rollback that failed; returns the state afterwards."""
        followed = self._followed()
        progress("an update of the stack was not rolled back: continuing that")
        self._call("continue_update_rollback", StackName=self.name)
        failed: list[str] = []
        status, _ = self._follow(followed, progress, failed)
        if status != "UPDATE_ROLLBACK_COMPLETE":
            why = "\n  ".join(failed or ["no event gives a reason"])
            raise StackFailed(
                f"the stack is {status}: an update failed and cannot be rolled back:\n  {why}\n"
                "Mend what the events name and repeat this command, or continue the rollback in "
                "CloudFormation's console, where these resources can be skipped"
            )
        return status

    def protect(self, on: bool) -> None:
        """Switch its protection from deletion on or off."""
        self._call("update_termination_protection", StackName=self.name, EnableTerminationProtection=on)

    def delete(self, progress: Progress, retain: Collection[str] = ()) -> None:
        """Delete the stack and wait until it is gone. Raises StackFailed.

        ``retain``: resources to leave, by their names in the template; only if a deletion failed.
        """
        if self.status() in ("", "DELETE_COMPLETE"):
            return
        followed = self._followed()
        more = {"RetainResources": sorted(retain)} if retain else {}
        self._call("delete_stack", StackName=followed.stack, **more)
        self._wait(followed, progress, ("DELETE_COMPLETE",))

    # ---- following an operation ----------------------------------------------------------

    def _followed(self) -> _Followed:
        """The stack before an operation. By its id it is found after a deletion, too."""
        found = self._look(self.name)
        if found is None:
            raise StackFailed(f"the stack {self.name} does not exist any more")
        stack = str(found["StackId"])
        return _Followed(stack, found["StackStatus"], {each["EventId"] for each in self._events(stack)})

    def _events(self, stack: str) -> list[Mapping[str, Any]]:
        """The latest events, oldest first."""
        found: list[Mapping[str, Any]]
        found = self._call("describe_stack_events", StackName=stack)["StackEvents"]
        return found[::-1]

    def _wait(self, followed: _Followed, progress: Progress, good: tuple[str, ...]) -> None:
        failed: list[str] = []
        status, reason = self._follow(followed, progress, failed)
        if status not in good:
            found = [*failed, *self._invalid(StackName=followed.stack)]
            why = "\n  ".join(found or [reason or "no event gives a reason"])
            raise StackFailed(f"the stack is {status}:\n  {why}")

    def _follow(self, followed: _Followed, progress: Progress, failed: list[str]) -> tuple[str, str]:
        """Report events until no operation is under way; returns the state and its reason.

        ``failed``: gets a line for each event that says what failed. The state from before the
        operation may last for a moment: it counts only once an event has shown that the operation
        began, and it is read after the events.
        """
        began, in_vain = under_way(followed.status), 0
        while True:
            try:
                fresh = self._report(followed, progress, failed)
                found = self._look(followed.stack) or {"StackStatus": "DELETE_COMPLETE"}
                in_vain = 0
            except (Throttled, Unavailable):
                in_vain += 1
                if in_vain > _POLLS_IN_VAIN:
                    raise
                self._pause(_POLL_S)
                continue
            status = str(found["StackStatus"])
            began = began or fresh or status != followed.status
            if began and not under_way(status):
                self._report(followed, progress, failed)
                return status, str(found.get("StackStatusReason", ""))
            self._pause(_POLL_S)

    def _invalid(self, **what: str) -> list[str]:
        """What CloudFormation found wrong before it changed anything, such as a name that is taken.

        An addition to an error: empty if it cannot be read.
        """
        if not hasattr(self._client(), "describe_events"):  # before boto3 1.41
            return []
        try:
            answer = self._call("describe_events", Filters={"FailedEvents": True}, **what)
        except DriverError:
            return []
        return [
            f"{each.get('LogicalResourceId', self.name)}: {each['ValidationStatusReason']}"
            for each in answer["OperationEvents"]
            if each.get("ValidationStatusReason")
        ]

    def _report(self, followed: _Followed, progress: Progress, failed: list[str]) -> bool:
        """Report the events that were not seen yet; returns whether there were any."""
        fresh = [each for each in self._events(followed.stack) if each["EventId"] not in followed.seen]
        for event in fresh:
            followed.seen.add(event["EventId"])
            line = f"{event['ResourceStatus']} {event['LogicalResourceId']}"
            reason = event.get("ResourceStatusReason", "")
            if event["ResourceStatus"].endswith("_FAILED"):
                failed.append(f"{line}: {reason}" if reason else line)
            progress(f"{line}: {reason}" if failed and reason else line)
        return bool(fresh)


def _name(described: Mapping[str, Any]) -> str:
    """A resource's own name. CloudFormation names queues by their URLs."""
    name = str(described.get("PhysicalResourceId", ""))
    return name.rpartition("/")[2] if described["ResourceType"] == "AWS::SQS::Queue" else name


def _change(described: Mapping[str, Any]) -> Change:
    replaced = described.get("Replacement", "False") in ("True", "Conditional")
    return Change(described["Action"], described["LogicalResourceId"], described["ResourceType"], replaced)
