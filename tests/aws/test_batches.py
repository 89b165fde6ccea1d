"""Many deletions in one call to AWS: what it leaves undone is repeated, what it refuses is told."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from faaskeeper.core.errors import Denied, Throttled
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.objects import S3Store
from faaskeeper.providers.aws.tables import DynamoTable

Answer = Callable[[dict[str, Any]], dict[str, Any]]


class Stub:
    """A client of AWS that answers its calls in turn."""

    def __init__(self, *answers: Answer) -> None:
        self.sent: list[dict[str, Any]] = []
        self._answers = list(answers)

    def _call(self, **parameters: Any) -> dict[str, Any]:
        self.sent.append(parameters)
        return self._answers[min(len(self.sent), len(self._answers)) - 1](parameters)

    batch_write_item = delete_objects = _call

    def close(self) -> None:
        pass


@pytest.fixture
def aws() -> Iterator[Aws]:
    made = Aws("us-east-1")
    made.gather = lambda calls: [call() for call in calls]  # type: ignore[method-assign]
    yield made
    made.close()


def answering(aws: Aws, service: str, *answers: Answer) -> Stub:
    stub = aws._clients[service] = Stub(*answers)
    return stub


def all_done(parameters: dict[str, Any]) -> dict[str, Any]:
    return {}


def keys(sent: dict[str, Any]) -> list[str]:
    return [each["DeleteRequest"]["Key"]["sort"]["S"] for each in sent["RequestItems"]["t"]]


def test_items_are_deleted_25_in_a_call_and_each_once(aws: Aws) -> None:
    stub = answering(aws, "dynamodb", all_done)
    names = [f"{number:02d}" for number in range(60)]
    DynamoTable(aws, "t", "watch").delete_many([("p", name) for name in [*names, names[0]]])
    assert [len(keys(each)) for each in stub.sent] == [25, 25, 10]
    assert sorted(name for each in stub.sent for name in keys(each)) == names


def test_items_that_a_table_left_are_deleted_after_a_pause(aws: Aws) -> None:
    def some_left(parameters: dict[str, Any]) -> dict[str, Any]:
        return {"UnprocessedItems": {"t": parameters["RequestItems"]["t"][3:]}}

    pauses: list[float] = []
    stub = answering(aws, "dynamodb", some_left, some_left, all_done)
    table = DynamoTable(aws, "t", "watch", pause=pauses.append)
    table.delete_many([("p", str(number)) for number in range(8)])
    assert [keys(each) for each in stub.sent] == [list("01234567"), list("34567"), list("67")]
    assert len(pauses) == 2


def test_a_table_that_goes_on_to_leave_items_is_throttled(aws: Aws) -> None:
    stub = answering(aws, "dynamodb", lambda sent: {"UnprocessedItems": sent["RequestItems"]})
    with pytest.raises(Throttled, match="left 2 items"):
        DynamoTable(aws, "t", "watch", pause=lambda s: None).delete_many([("p", "a"), ("p", "b")])
    assert len(stub.sent) == 8


def errors(code: str, *names: str) -> Answer:
    return lambda sent: {"Errors": [{"Key": name, "Code": code, "Message": "why"} for name in names]}


def named(sent: dict[str, Any]) -> list[str]:
    return [each["Key"] for each in sent["Delete"]["Objects"]]


def test_objects_are_deleted_250_in_a_call(aws: Aws) -> None:
    stub = answering(aws, "s3", all_done)
    S3Store(aws, "b").delete_keys([f"{number:03d}" for number in range(600)])
    assert [len(named(each)) for each in stub.sent] == [250, 250, 100]


@pytest.mark.parametrize("code", ["InternalError", "SlowDown", "ServiceUnavailable"])
def test_single_keys_that_fail_for_the_moment_are_repeated(aws: Aws, code: str) -> None:
    stub = answering(aws, "s3", errors(code, "b", "c"), errors("NoSuchKey", "b"))
    S3Store(aws, "b", pause=lambda s: None).delete_keys(["a", "b", "c"])
    assert [named(each) for each in stub.sent] == [["a", "b", "c"], ["b", "c"]]


def test_a_key_that_may_not_be_deleted_is_an_error_with_its_name(aws: Aws) -> None:
    stub = answering(aws, "s3", errors("AccessDenied", "c"))
    with pytest.raises(Denied, match="c: AccessDenied"):
        S3Store(aws, "b", pause=lambda s: None).delete_keys(["a", "b", "c"])
    assert len(stub.sent) == 1


def test_keys_that_go_on_to_fail_are_an_error(aws: Aws) -> None:
    stub = answering(aws, "s3", errors("SlowDown", "a"))
    with pytest.raises(Throttled):
        S3Store(aws, "b", pause=lambda s: None).delete_keys(["a"])
    assert len(stub.sent) == 4
