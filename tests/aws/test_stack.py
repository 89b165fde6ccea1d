"""A stack in each of its states: what is waited for, mended, removed, or left with what to do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from faaskeeper.config import Config
from faaskeeper.deploy.aws.leftovers import Leftovers
from faaskeeper.deploy.aws.removal import Removal
from faaskeeper.deploy.aws.stack import Stack, StackFailed
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.service import AwsService
from tests.aws import backends
from tests.aws.stacks import Account, CloudFormation, refused


def nothing(_: Any) -> None:
    pass


def of(cloudformation: CloudFormation, pause: Callable[[float], None] = nothing) -> Stack:
    return Stack(Account(cloudformation), "fk", pause)


def test_a_deployment_that_fails_says_which_events_explain_it() -> None:
    cloudformation = CloudFormation("REVIEW_IN_PROGRESS")
    seen: list[str] = []

    def pause(_: float) -> None:
        cloudformation.event("CREATE_IN_PROGRESS", "LogTable")
        cloudformation.event("CREATE_FAILED", "LogTable", "fk-log already exists")
        cloudformation.event("CREATE_FAILED", "WriterRole", "Resource creation cancelled")
        cloudformation.next = ["ROLLBACK_COMPLETE"]

    stack = of(cloudformation, pause)
    with pytest.raises(StackFailed, match=r"is ROLLBACK_COMPLETE:\n.*fk-log already exists"):
        stack.apply("plan", seen.append)
    assert seen[:2] == ["CREATE_IN_PROGRESS LogTable", "CREATE_FAILED LogTable: fk-log already exists"]


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ("CREATE_IN_PROGRESS", "CREATE_COMPLETE"),
        ("UPDATE_COMPLETE_CLEANUP_IN_PROGRESS", "UPDATE_COMPLETE"),
        ("UPDATE_ROLLBACK_IN_PROGRESS", "UPDATE_ROLLBACK_FAILED"),
        ("ROLLBACK_IN_PROGRESS", "ROLLBACK_COMPLETE"),
        ("DELETE_IN_PROGRESS", "DELETE_COMPLETE"),
    ],
)
def test_an_operation_that_somebody_else_began_is_waited_for(first: str, then: str) -> None:
    cloudformation = CloudFormation(first)
    pauses = 0

    def pause(_: float) -> None:
        nonlocal pauses
        pauses += 1
        if pauses == 3:
            cloudformation.next = [then]

    said: list[str] = []
    assert of(cloudformation, pause).settle(said.append) == then
    assert said == [f"the stack is {first}: waiting until that is over", f"{then} fk"]
    assert pauses == 3


def test_what_nobody_works_on_is_not_waited_for() -> None:
    for status in ("", "REVIEW_IN_PROGRESS", "CREATE_COMPLETE", "DELETE_FAILED"):
        assert of(CloudFormation(status)).settle(nothing) == status


def test_an_update_is_not_complete_before_it_has_begun() -> None:
    """The state from before is shown for a moment, and it is the same as the one after."""
    cloudformation = CloudFormation("UPDATE_COMPLETE")
    states = ["", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"]

    def pause(_: float) -> None:
        state = states.pop(0)
        if state:
            cloudformation.next = [state]

    of(cloudformation, pause).apply("plan", nothing)
    assert states == []


def test_a_moment_without_an_answer_does_not_end_a_deployment() -> None:
    cloudformation = CloudFormation("CREATE_IN_PROGRESS")
    failures = [refused("Rate exceeded", "Throttling"), refused("oh", "InternalFailure", 500)]
    look = cloudformation.describe_stack_events

    def events(StackName: str) -> Any:
        if failures and cloudformation.called:
            raise failures.pop()
        cloudformation.called.append(("events", {}))
        return look(StackName)

    cloudformation.describe_stack_events = events  # type: ignore[method-assign]

    def pause(_: float) -> None:
        if not failures:
            cloudformation.next = ["CREATE_COMPLETE"]

    assert of(cloudformation, pause).settle(nothing) == "CREATE_COMPLETE"
    assert failures == []


def test_a_rollback_that_failed_is_continued_and_says_what_to_do_if_it_fails_again() -> None:
    cloudformation = CloudFormation("UPDATE_ROLLBACK_FAILED")
    stack = of(cloudformation, lambda _: cloudformation.next.append("UPDATE_ROLLBACK_COMPLETE"))
    assert stack.unstick(nothing) == "UPDATE_ROLLBACK_COMPLETE"
    assert cloudformation.called == [("continue_update_rollback", {"StackName": "fk"})]

    cloudformation = CloudFormation("UPDATE_ROLLBACK_FAILED")

    def pause(_: float) -> None:
        cloudformation.event("UPDATE_FAILED", "WriterFunction", "the code is gone")
        cloudformation.next = ["UPDATE_ROLLBACK_FAILED"]

    with pytest.raises(StackFailed, match=r"(?s)WriterFunction: the code is gone\n.*repeat this command"):
        of(cloudformation, pause).unstick(nothing)


DRIFTED = {
    "StackResourceDrifts": [
        {
            "LogicalResourceId": "WorkerRequests",
            "StackResourceDriftStatus": "MODIFIED",
            "PropertyDifferences": [{"PropertyPath": "/A", "ExpectedValue": "1", "ActualValue": "2"}],
        }
    ]
}


def test_drift_that_cannot_be_detected_is_a_note_and_no_failure() -> None:
    cloudformation = CloudFormation("CREATE_COMPLETE")
    cloudformation.answers["detect_stack_drift"] = refused("not authorized", "AccessDenied", 403)
    found, note = of(cloudformation).drift()
    assert found == []
    assert note.startswith("drift cannot be detected: ")
    assert "not authorized" in note

    cloudformation.answers = {
        "detect_stack_drift": {"StackDriftDetectionId": "1"},
        "describe_stack_drift_detection_status": [
            {"DetectionStatus": "DETECTION_IN_PROGRESS"},
            {"DetectionStatus": "DETECTION_FAILED", "DetectionStatusReason": "no right to read WatchCalls"},
        ],
        "describe_stack_resource_drifts": DRIFTED,
    }
    found, note = of(cloudformation).drift()
    assert [each.resource for each in found] == ["WorkerRequests"]
    assert found[0].differences == ("/A: expected 1, is 2",)
    assert note == "drift cannot be detected for all resources: no right to read WatchCalls"


def test_drift_that_is_not_found_in_time_is_a_note() -> None:
    cloudformation = CloudFormation("CREATE_COMPLETE")
    cloudformation.answers = {
        "detect_stack_drift": {"StackDriftDetectionId": "1"},
        "describe_stack_drift_detection_status": {"DetectionStatus": "DETECTION_IN_PROGRESS"},
        "describe_stack_resource_drifts": {"StackResourceDrifts": []},
    }
    assert of(cloudformation).drift()[1].endswith("DETECTION_IN_PROGRESS")


def test_a_name_that_is_taken_is_named() -> None:
    cloudformation = CloudFormation("")
    cloudformation.answers = {
        "describe_change_set": {"Status": "FAILED", "StatusReason": "call DescribeEvents"},
        "describe_events": {
            "OperationEvents": [{"LogicalResourceId": "DataBucket", "ValidationStatusReason": "it exists"}]
        },
    }
    with pytest.raises(StackFailed, match=r"call DescribeEvents\n  DataBucket: it exists"):
        of(cloudformation).plan({}, "https://template", {})
    assert cloudformation.called[-1][0] == "delete_change_set"


# ---- removing ----------------------------------------------------------------------------------

NAME = "fk"


@pytest.fixture
def made(ministack: str) -> Any:
    """A table and a bucket with an object, both with a protection, on the emulator.

    In the end they are gone, and what other tests have there is not.
    """
    dynamodb, s3 = backends.raw("dynamodb", ministack), backends.raw("s3", ministack)

    def there() -> set[str]:
        pages = dynamodb.get_paginator("list_tables").paginate()
        tables = {name for page in pages for name in page["TableNames"]}
        return tables | {each["Name"] for each in s3.list_buckets()["Buckets"]}

    before = there()
    backends.create_table(ministack, f"{NAME}-log")
    dynamodb.update_table(TableName=f"{NAME}-log", DeletionProtectionEnabled=True)
    bucket = backends.create_bucket(ministack)
    s3.put_object(Bucket=bucket, Key="b/1", Body=b"")
    yield [("AWS::DynamoDB::Table", "LogTable", f"{NAME}-log"), ("AWS::S3::Bucket", "DataBucket", bucket)]
    assert there() == before
    dynamodb.close()
    s3.close()


def removal(cloudformation: CloudFormation, endpoint: str) -> Removal:
    data = {"cloud-provider": "aws", "deployment-name": NAME, "deployment-region": backends.REGION}
    account = Account(cloudformation, endpoint)
    service = AwsService(Config.deserialize(data), account)
    leftovers = Leftovers(account, NAME, "aws", "000000000000", nothing)
    return Removal(service, Stack(account, NAME, nothing), leftovers, "000000000000")


@pytest.mark.parametrize(
    "status",
    [
        "CREATE_COMPLETE",
        "CREATE_FAILED",
        "ROLLBACK_COMPLETE",
        "ROLLBACK_FAILED",
        "UPDATE_ROLLBACK_COMPLETE",
        "UPDATE_ROLLBACK_FAILED",
        "DELETE_FAILED",
    ],
)
def test_a_stack_is_removed_in_any_state_with_what_it_leaves(
    status: str, ministack: str, made: list[tuple[str, str, str]]
) -> None:
    """CloudFormation leaves the table, as its policy is to retain it."""
    cloudformation = CloudFormation(status, made)
    cloudformation.protected = True
    removal(cloudformation, ministack).remove(nothing)
    assert cloudformation.status == "DELETE_COMPLETE"


def test_a_stack_that_somebody_else_is_changing_is_removed_afterwards(
    ministack: str, made: list[tuple[str, str, str]]
) -> None:
    cloudformation = CloudFormation("UPDATE_IN_PROGRESS", made)
    cloudformation.next = ["UPDATE_IN_PROGRESS", "UPDATE_IN_PROGRESS", "UPDATE_COMPLETE"]
    removal(cloudformation, ministack).remove(nothing)
    assert cloudformation.status == "DELETE_COMPLETE"


def test_what_a_stack_cannot_delete_is_left_by_it_and_deleted_directly(
    ministack: str, made: list[tuple[str, str, str]]
) -> None:
    cloudformation = CloudFormation("CREATE_COMPLETE", made)
    cloudformation.undeletable = {"LogTable", "DataBucket"}
    said: list[str] = []
    removal(cloudformation, ministack).remove(said.append)
    retained = [each["RetainResources"] for name, each in cloudformation.called if name == "delete_stack"]
    assert retained == [[], [], ["DataBucket", "LogTable"]]
    assert f"deleted AWS::DynamoDB::Table {NAME}-log" in said


def test_what_cannot_be_deleted_at_all_is_named_and_the_rest_may_be_repeated(
    ministack: str, made: list[tuple[str, str, str]]
) -> None:
    cloudformation = CloudFormation("CREATE_COMPLETE", [*made, ("AWS::IAM::Role", "WriterRole", "fk-writer")])
    cloudformation.undeletable = {"WriterRole"}
    with pytest.raises(StackFailed, match="DELETE_FAILED WriterRole: it is in use"):
        removal(cloudformation, ministack).remove(nothing)
    cloudformation.undeletable = set()
    cloudformation.resources |= {
        logical: [kind, name, "CREATE_COMPLETE"] for kind, logical, name in made
    }  # which the stack left
    removal(cloudformation, ministack).remove(nothing)
    assert cloudformation.status == "DELETE_COMPLETE"


def test_a_failed_stack_is_cleaned_up_unless_it_holds_data(
    ministack: str, made: list[tuple[str, str, str]]
) -> None:
    cloudformation = CloudFormation("DELETE_FAILED", made)
    dynamodb = backends.raw("dynamodb", ministack)
    backends.create_table(ministack, f"{NAME}-records")
    with pytest.raises(ProviderException, match=r"fk-records may have znodes"):
        removal(cloudformation, ministack).clean_up("DELETE_FAILED", nothing)
    assert removal(cloudformation, ministack).data("ROLLBACK_FAILED") == ""
    dynamodb.delete_table(TableName=f"{NAME}-records")
    item = {"partition": {"S": "log"}, "sort": {"S": "00000000000000000001"}, "stamp": {"N": "1"}}
    dynamodb.put_item(TableName=f"{NAME}-log", Item=item)
    with pytest.raises(ProviderException, match=r"fk-log has entries: .* then --clean"):
        removal(cloudformation, ministack).clean_up("DELETE_FAILED", nothing)
    assert cloudformation.called == []
    del item["stamp"]
    dynamodb.delete_item(TableName=f"{NAME}-log", Key=item)
    dynamodb.close()
    removal(cloudformation, ministack).clean_up("DELETE_FAILED", nothing)
    assert cloudformation.status == "DELETE_COMPLETE"
