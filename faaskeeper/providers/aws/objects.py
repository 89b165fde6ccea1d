"""ObjectStore on S3, with its conditional writes (If-None-Match, If-Match)."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from botocore.exceptions import ClientError

from faaskeeper.core.drivers.storage import Object
from faaskeeper.core.errors import Conflict, DriverError, Throttled, Unavailable
from faaskeeper.providers.aws.clients import Aws, core_error

_MISSING = ("NoSuchKey", "404")
_MOST = 1000
_MOST_DELETED = 250
"""Keys of one DeleteObjects, which takes 1,000: few enough to end well within an attempt's time-out."""
_TRIES = 4
_TEMPORARY = ("InternalError", "ServiceUnavailable")
"""Errors of single keys that have a status of 5xx; S3 does not tell the status."""


class S3Store:
    """Objects of a bucket; an object's tag is its ETag."""

    def __init__(self, aws: Aws, bucket: str, *, pause: Callable[[float], None] = time.sleep) -> None:
        self._aws = aws
        self._bucket = bucket
        self._pause = pause

    def _call(self, method: str, operation: str, **parameters: Any) -> Any:
        made = getattr(self._aws.client("s3"), operation)
        return self._aws.call(f"objects.{method}", made, Bucket=self._bucket, **parameters)

    def get(self, key: str) -> Object | None:

        def read(**parameters: Any) -> Object | None:
            try:
                found = self._aws.client("s3").get_object(**parameters)
            except ClientError as error:
                if error.response["Error"]["Code"] in _MISSING:
                    return None
                raise
            with found["Body"] as body:
                return Object(body.read(), found["ETag"])

        result: Object | None = self._aws.call("objects.get", read, Bucket=self._bucket, Key=key)
        return result

    def put(self, key: str, body: bytes, *, absent: bool = False, match: str | None = None) -> str:
        condition: dict[str, str] = {}
        if absent:
            condition["IfNoneMatch"] = "*"
        if match is not None:
            condition["IfMatch"] = match

        def write(**parameters: Any) -> str:
            try:
                return str(self._aws.client("s3").put_object(**parameters)["ETag"])
            except ClientError as error:
                if match is not None and error.response["Error"]["Code"] in _MISSING:
                    raise Conflict(f"the object {key} does not exist") from error
                raise

        return str(self._aws.call("objects.put", write, Bucket=self._bucket, Key=key, Body=body, **condition))

    def delete(self, key: str, *, match: str | None = None) -> None:

        def remove(**parameters: Any) -> None:
            try:
                self._aws.client("s3").delete_object(**parameters)
            except ClientError as error:
                if match is not None and error.response["Error"]["Code"] in _MISSING:
                    raise Conflict(f"the object {key} does not exist") from error
                raise

        condition = {} if match is None else {"IfMatch": match}
        self._aws.call("objects.delete", remove, Bucket=self._bucket, Key=key, **condition)

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Delete objects without conditions, many in a call.

        Keys that fail for the moment are tried again. Raises the first error that lasts, after the
        others of its call were tried.
        """
        for at in range(0, len(keys), _MOST_DELETED):
            self._delete_some(keys[at : at + _MOST_DELETED])

    def _delete_some(self, keys: Sequence[str]) -> None:
        left = list(keys)
        for turn in range(_TRIES):
            if turn:
                self._pause(0.05 * 2**turn)
            request = {"Objects": [{"Key": key} for key in left], "Quiet": True}
            answer = self._call("delete_many", "delete_objects", Delete=request)
            failed = [each for each in answer.get("Errors", ()) if each.get("Code") not in _MISSING]
            errors = [_of_key(each) for each in failed]
            lasting = [each for each in errors if not isinstance(each, (Throttled, Unavailable))]
            if lasting:
                raise lasting[0]
            if not failed:
                return
            left = [each["Key"] for each in failed]
        raise errors[0]

    def list(self, prefix: str, after: str, limit: int) -> list[str]:
        keys: list[str] = []
        while len(keys) < limit:
            most = min(limit - len(keys), _MOST)
            page = self._call("list", "list_objects_v2", Prefix=prefix, StartAfter=after, MaxKeys=most)
            keys.extend(each["Key"] for each in page.get("Contents", ()))
            if not page["IsTruncated"] or not keys:
                break
            after = keys[-1]
        return keys


def _of_key(found: dict[str, str]) -> DriverError:
    """Map the error of one key in the answer to DeleteObjects."""
    code = found.get("Code", "")
    response: Any = {
        "Error": {"Code": code, "Message": found.get("Message", "")},
        "ResponseMetadata": {"HTTPStatusCode": 500 if code in _TEMPORARY else 400},
    }
    return core_error(f"objects.delete_many: {found.get('Key')}", ClientError(response, "DeleteObjects"))
