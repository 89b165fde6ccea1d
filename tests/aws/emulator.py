"""Starts ministack with what it lacks, as AWS documents it.

Condition keys and actions: ``s3:if-none-match`` of a put, ``iam:PermissionsBoundary`` and
``iam:PolicyARN`` of a change to a role; ``lambda:GetAlias`` and others of one alias. DynamoDB's
restores to a moment: ministack copies what a table has now. SQS's long polls, which end when a
message comes: ministack looks ten times a second. Run by ministack's own Python, by the name of this
file.
"""

from __future__ import annotations

import asyncio
import copy
import json
import sys
import time
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ministack import app
from ministack.core import iam_actions
from ministack.services import dynamodb, iam, sqs

_of_objects = iam_actions._s3_object_context
_of_requests = iam_actions.request_tag_context
_of_lambda = iam_actions._lambda_action
_OF_AN_ALIAS = {"GET": "GetAlias", "PUT": "UpdateAlias", "DELETE": "DeleteAlias"}


def _with_precondition(action: str, query: Mapping[str, Any], path: str, headers: Mapping[str, str]) -> Any:
    context = _of_objects(action, query, path, headers)
    if action == "s3:PutObject" and headers.get("if-none-match"):
        context["s3:if-none-match"] = headers["if-none-match"]
    return context


def _with_boundary(service: str, action: str, body: bytes, parameters: Mapping[str, Any]) -> Any:
    context = _of_requests(service, action, body, parameters)
    if service == "iam":
        role = iam._roles.get(iam_actions._query_param(parameters, "RoleName") or "") or {}
        asked = iam_actions._query_param(parameters, "PermissionsBoundary")
        for key, value in (
            ("iam:PermissionsBoundary", asked or role.get("PermissionsBoundary")),
            ("iam:PolicyARN", iam_actions._query_param(parameters, "PolicyArn")),
        ):
            if value:
                context[key] = value
    return context


def _of_an_alias(method: str, path: str) -> str | None:
    if path.rstrip("/").split("/")[-2] == "aliases":
        return _OF_AN_ALIAS.get(method)
    action: str | None = _of_lambda(method, path)
    return action


_handle = dynamodb.handle_request
_describe = dynamodb._describe_continuous_backups
_restore = dynamodb._restore_table_to_point_in_time
_history: dict[str, list[tuple[float, Any]]] = {}
"""By the tables that can be restored, all states that they have had."""
_AROUND_S = 60
"""How far a table can be restored to beyond its states, so that no test waits for AWS's five minutes."""


async def _with_history(
    method: str, path: str, headers: Mapping[str, str], body: bytes, query: Mapping[str, Any]
) -> Any:
    answer = await _handle(method, path, headers, body, query)
    if headers.get("x-amz-target", "").endswith(("Item", "Items", "UpdateContinuousBackups")):
        for name, states in _history.items():
            if name in dynamodb._tables:
                items = dynamodb._tables[name]["items"]
                if not states or states[-1][1] != items:
                    states.append((time.time(), copy.deepcopy(items)))
    return answer


def _describe_with_times(data: Any) -> Any:
    status, headers, body = _describe(data)
    told = json.loads(body)
    states = _history.setdefault(data["TableName"], []) if status == 200 else []
    recovery = told.get("ContinuousBackupsDescription", {}).get("PointInTimeRecoveryDescription", {})
    if states and "EarliestRestorableDateTime" in recovery:
        recovery["EarliestRestorableDateTime"] = states[0][0] - _AROUND_S
        recovery["LatestRestorableDateTime"] = time.time() + _AROUND_S
    return status, headers, json.dumps(told).encode()


def _update_with_history(data: Any) -> Any:
    _history.setdefault(data["TableName"], [])
    return _update(data)


def _restore_to_moment(data: Any) -> Any:
    table = dynamodb._tables.get(data.get("SourceTableName"))
    states = _history.get(data.get("SourceTableName"), [])
    if table is None or not states:
        return _restore(data)
    before = [items for at, items in states if at <= data["RestoreDateTime"]]
    now, table["items"] = table["items"], before[-1] if before else states[0][1]
    try:
        return _restore(data)
    finally:
        table["items"] = now


_update = dynamodb._update_continuous_backups
_dispatch = sqs._dispatch
_changed = asyncio.Event()
"""Of any queue: set for a moment, by which all who wait look again."""


async def _dispatch_and_wake(action: str, data: Any, queue: str) -> Any:
    answer = await _dispatch(action, data, queue)
    if action != "ReceiveMessage":  # it was sent, or its group or itself was let go
        _changed.set()
        _changed.clear()
    return answer


async def _until_changed(seconds: float) -> None:
    """A pause between two looks: what becomes visible by time alone is found as before."""
    try:
        await asyncio.wait_for(_changed.wait(), seconds)
    except TimeoutError:
        return


if __name__ == "__main__":
    iam_actions._lambda_action = _of_an_alias
    dynamodb.handle_request = _with_history
    dynamodb._describe_continuous_backups = _describe_with_times
    dynamodb._update_continuous_backups = _update_with_history
    dynamodb._restore_table_to_point_in_time = _restore_to_moment
    sqs._dispatch = _dispatch_and_wake
    sqs.asyncio = SimpleNamespace(sleep=_until_changed, iscoroutine=asyncio.iscoroutine)
    iam_actions._s3_object_context = _with_precondition
    iam_actions.request_tag_context = _with_boundary
    sys.exit(app.main())
