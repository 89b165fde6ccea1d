"""Buckets: whether one exists, and emptying one of any size.

Objects are deleted by the page, many at a time. What is cut off continues with what is left.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from google.api_core.exceptions import NotFound

from faaskeeper.deploy.deployment import Progress
from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.objects import MAX_BATCH, delete_batch

_PAGE = 1000
_SAID_EVERY = 10_000


def bucket_exists(gcp: Gcp, bucket: str) -> bool:
    """Whether there is such a bucket."""

    def look() -> bool:
        try:
            gcp.storage().get_bucket(bucket, retry=gcp.retry)
        except NotFound:
            return False
        return True

    return bool(gcp.call(f"bucket {bucket}", look))


def bucket_made(gcp: Gcp, bucket: str) -> str:
    """When a bucket was made, as 14 digits; empty if there is none."""

    def look() -> str:
        try:
            found = gcp.storage().get_bucket(bucket, retry=gcp.retry)
        except NotFound:
            return ""
        return found.time_created.strftime("%Y%m%d%H%M%S") if found.time_created else ""

    return str(gcp.call(f"bucket {bucket}", look))


def empty_bucket(gcp: Gcp, bucket: str, progress: Progress) -> None:
    """Delete every version of every object of a bucket that exists."""
    number = 0
    while found := _some(gcp, bucket):
        batches = [found[at : at + MAX_BATCH] for at in range(0, len(found), MAX_BATCH)]
        gcp.gather([partial(_delete, gcp, bucket, each) for each in batches])
        if number // _SAID_EVERY != (number + len(found)) // _SAID_EVERY:
            progress(f"deleted {number + len(found):,} objects in {bucket} so far")
        number += len(found)
    progress(f"deleted {number:,} objects in {bucket}")


def remove_bucket(gcp: Gcp, bucket: str, progress: Progress) -> None:
    """Empty and delete a bucket, if there is one."""
    if not bucket_exists(gcp, bucket):
        return
    empty_bucket(gcp, bucket, progress)
    storage = gcp.call(f"bucket {bucket}", gcp.storage)
    gcp.call(f"bucket {bucket}", storage.bucket(bucket).delete, retry=gcp.retry)
    progress(f"deleted the bucket {bucket}")


def _some(gcp: Gcp, bucket: str) -> list[Any]:
    """The first versions of objects that are there."""

    def listed() -> list[Any]:
        found = gcp.storage().list_blobs(bucket, versions=True, max_results=_PAGE, retry=gcp.retry)
        return list(found)

    versions: list[Any] = gcp.call(f"objects of {bucket}", listed)
    return versions


def _delete(gcp: Gcp, bucket: str, versions: Sequence[Any]) -> None:
    generations = [(each.name, each.generation) for each in versions]
    gcp.call(f"objects of {bucket}", partial(delete_batch, gcp, bucket, generations))
