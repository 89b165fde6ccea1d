"""Buckets around a stack: the one of code and templates, and emptying one of any size."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from itertools import islice
from typing import Any

from botocore.exceptions import ClientError

from faaskeeper.deploy.deployment import Progress
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.aws.clients import Aws

_AT_ONCE = 8
"""Batches that are deleted side by side."""
_READ_S = 60.0
_GONE = ("404", "NoSuchBucket", "NotFound")
_BLOCKED = ("BlockPublicAcls", "IgnorePublicAcls", "BlockPublicPolicy", "RestrictPublicBuckets")


class Buckets:
    """Buckets of an account."""

    def __init__(self, aws: Aws) -> None:
        self._aws = aws

    def _s3(self) -> Any:
        return self._aws.client("s3", read_timeout=_READ_S)

    def exists(self, bucket: str) -> bool:
        """Whether there is a bucket."""

        def look(**parameters: Any) -> bool:
            try:
                self._s3().head_bucket(**parameters)
            except ClientError as error:
                if error.response["Error"]["Code"] in _GONE:
                    return False
                raise
            return True

        return bool(self._aws.call(f"bucket {bucket}", look, Bucket=bucket))

    def make(self, bucket: str, tags: dict[str, str]) -> None:
        """Create a bucket, unless it exists, that shows nothing to the public."""
        s3, what = self._s3(), f"bucket {bucket}"
        if not self.exists(bucket):
            where = {"CreateBucketConfiguration": {"LocationConstraint": self._aws.region}}
            if self._aws.region == "us-east-1":  # this region must not be named
                where = {}
            self._aws.call(what, s3.create_bucket, Bucket=bucket, **where)
        self._aws.call(
            what,
            s3.put_public_access_block,
            Bucket=bucket,
            PublicAccessBlockConfiguration=dict.fromkeys(_BLOCKED, True),
        )
        tagging = {"TagSet": [{"Key": key, "Value": value} for key, value in tags.items()]}
        self._aws.call(what, s3.put_bucket_tagging, Bucket=bucket, Tagging=tagging)

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """Put an object."""
        self._aws.call(f"upload of {key}", self._s3().put_object, Bucket=bucket, Key=key, Body=body)

    def put_template(self, bucket: str, template: str) -> str:
        """Put a template, whose key is made of its contents; returns its URL for CloudFormation.

        CloudFormation reads it with the rights of whoever deploys. It takes 51,200 bytes in a
        call, and a megabyte from a bucket.
        """
        body = template.encode()
        key = f"template-{hashlib.sha256(body).hexdigest()[:16]}.yaml"
        self.put(bucket, key, body)
        # by path: the endpoint is right in every partition, and a name with dots works
        return f"{self._s3().meta.endpoint_url}/{bucket}/{key}"

    def empty(self, bucket: str, progress: Progress) -> None:
        """Delete every object, with its versions and delete markers.

        It may be interrupted: what is left is listed again.
        """
        number = 0
        while True:
            before, pages = number, self._listed(bucket)
            while batches := list(islice(pages, _AT_ONCE)):
                self._aws.gather([partial(self._delete, bucket, each) for each in batches])
                number += sum(map(len, batches))
                progress(f"deleted {number:,} objects in {bucket}")
            if number == before:  # and nobody has put another one meanwhile
                return

    def _listed(self, bucket: str) -> Iterator[list[dict[str, str]]]:
        """Versions and delete markers, up to 1,000 at a time: as many as one call deletes."""
        marker: dict[str, str] = {}
        while True:
            page = self._aws.call("objects", self._s3().list_object_versions, Bucket=bucket, **marker)
            found = [
                {"Key": each["Key"], "VersionId": each["VersionId"]}
                for kind in ("Versions", "DeleteMarkers")
                for each in page.get(kind, ())
            ]
            if found:
                yield found
            if not page.get("IsTruncated"):
                return
            marker = {
                name: page[f"Next{name}"]
                for name in ("KeyMarker", "VersionIdMarker")
                if page.get(f"Next{name}")
            }

    def _delete(self, bucket: str, objects: list[dict[str, str]]) -> None:
        answer = self._aws.call(
            "objects", self._s3().delete_objects, Bucket=bucket, Delete={"Objects": objects, "Quiet": True}
        )
        if answer.get("Errors"):
            raise ProviderException(f"cannot empty {bucket}: {json.dumps(answer['Errors'][0])}")

    def delete(self, bucket: str, progress: Progress) -> None:
        """Delete a bucket with all that is in it, if it exists."""
        if not self.exists(bucket):
            return
        self.empty(bucket, progress)
        self._aws.call(f"bucket {bucket}", self._s3().delete_bucket, Bucket=bucket)
        progress(f"deleted the bucket {bucket}")
