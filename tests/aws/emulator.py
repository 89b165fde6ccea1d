"""Starts ministack with condition keys and actions that it lacks, as AWS documents them.

``s3:if-none-match`` of a put, ``iam:PermissionsBoundary`` and ``iam:PolicyARN`` of a change to a role;
``lambda:GetAlias`` and others of one alias.
Run by ministack's own Python, by the name of this file.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ministack import app
from ministack.core import iam_actions
from ministack.services import iam

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


if __name__ == "__main__":
    iam_actions._lambda_action = _of_an_alias
    iam_actions._s3_object_context = _with_precondition
    iam_actions.request_tag_context = _with_boundary
    sys.exit(app.main())
