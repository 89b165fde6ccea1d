"""ObjectStore on S3, with its conditional writes (If-None-Match, If-Match)."""

from __future__ import annotations

from typing import Any

from botocore.exceptions import ClientError

from faaskeeper.core.drivers.storage import Object
from faaskeeper.core.errors import Conflict
from faaskeeper.providers.aws.clients import Aws

_MISSING = ("NoSuchKey", "404")
_MOST = 1000


class S3Store:
    """Objects of a bucket; an object's tag is its ETag."""

    def __init__(self, aws: Aws, bucket: str) -> None:
        self._aws = aws
        self._bucket = bucket

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
