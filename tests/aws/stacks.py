"""A CloudFormation for one stack, which goes through the states that a test tells it to."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from botocore.exceptions import ClientError

from faaskeeper.providers.aws.clients import Aws
from tests.aws import backends

ID = "arn:aws:cloudformation:eu-central-1:000000000000:stack/fk/1"


def refused(message: str, code: str = "ValidationError", status: int = 400) -> ClientError:
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": {"HTTPStatusCode": status}}
    return ClientError(answer, "any")


class CloudFormation:
    """The client. ``status``: the stack's state; ``resources``: type, logical and physical name of each."""

    def __init__(self, status: str, resources: Iterable[tuple[str, str, str]] = ()) -> None:
        self.status = status
        self.reason = ""
        self.protected = False
        self.resources = {logical: [kind, name, "CREATE_COMPLETE"] for kind, logical, name in resources}
        self.events: list[dict[str, str]] = []
        self.called: list[tuple[str, dict[str, Any]]] = []
        self.undeletable: set[str] = set()
        """Logical names of resources that no deletion deletes."""
        self.next: list[str] = []
        """States of the next looks at the stack, before it stays as it is."""
        self.answers: dict[str, Any] = {"describe_events": {"OperationEvents": []}}
        """Answers of other operations, or errors, by their names."""

    def event(self, status: str, logical: str = "fk", why: str = "") -> None:
        self.events.append(
            {
                "EventId": str(len(self.events)),
                "ResourceStatus": status,
                "LogicalResourceId": logical,
                "ResourceStatusReason": why,
            }
        )

    def describe_stacks(self, StackName: str) -> Any:
        if self.next:
            self.status = self.next.pop(0)
            self.event(self.status)
        if not self.status or (self.status == "DELETE_COMPLETE" and StackName != ID):
            raise refused(f"Stack with id {StackName} does not exist")
        stack = {"StackStatus": self.status, "StackId": ID, "StackStatusReason": self.reason}
        return {"Stacks": [stack]}

    def describe_stack_events(self, StackName: str) -> Any:
        return {"StackEvents": self.events[::-1]}

    def list_stack_resources(self, StackName: str) -> Any:
        return {
            "StackResourceSummaries": [
                {
                    "ResourceType": kind,
                    "LogicalResourceId": logical,
                    "PhysicalResourceId": name,
                    "ResourceStatus": status,
                }
                for logical, (kind, name, status) in self.resources.items()
            ]
        }

    def update_termination_protection(self, StackName: str, EnableTerminationProtection: bool) -> None:
        self.protected = EnableTerminationProtection

    def delete_stack(self, StackName: str, RetainResources: Iterable[str] = ()) -> None:
        self.called.append(("delete_stack", {"RetainResources": list(RetainResources)}))
        if self.protected:
            raise refused(f"Stack [{StackName}] cannot be deleted while TerminationProtection is enabled")
        if RetainResources and self.status != "DELETE_FAILED":
            raise refused("RetainResources can only be specified for a stack in DELETE_FAILED state")
        failed = self.undeletable & self.resources.keys() - set(RetainResources)
        self.resources = {
            name: [*each[:2], "DELETE_FAILED"] for name, each in self.resources.items() if name in failed
        }
        for name in failed:
            self.event("DELETE_FAILED", name, "it is in use")
        self.next = ["DELETE_IN_PROGRESS", "DELETE_FAILED" if failed else "DELETE_COMPLETE"]

    def __getattr__(self, operation: str) -> Callable[..., Any]:
        if operation.startswith("__"):
            raise AttributeError(operation)

        def call(**parameters: Any) -> Any:
            self.called.append((operation, parameters))
            answer = self.answers.get(operation, {})
            if isinstance(answer, list):
                answer = answer.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call


class Account(Aws):
    """Calls to AWS, with this CloudFormation and an emulator of everything else."""

    def __init__(self, cloudformation: CloudFormation, endpoint: str = "") -> None:
        super().__init__(backends.REGION, endpoint=endpoint)
        self._cloudformation = cloudformation

    def client(self, service: str, **options: Any) -> Any:
        return self._cloudformation if service == "cloudformation" else super().client(service, **options)
