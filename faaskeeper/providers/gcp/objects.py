"""ObjectStore on Cloud Storage, with preconditions on an object's generation."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from google.api_core.exceptions import GoogleAPICallError, NotFound, from_http_response

from faaskeeper.core.drivers.storage import Object
from faaskeeper.core.errors import Conflict
from faaskeeper.providers.gcp.clients import TRY_S, Gcp, retried

_MOST = 1000
MAX_BATCH = 100
"""Deletions of one call: as many as Google allows."""
_TIMEOUT = (TRY_S, TRY_S)


class GcsStore:
    """Objects of a bucket. An object's tag is its generation, which is never reused."""

    def __init__(self, gcp: Gcp, bucket: str) -> None:
        self._gcp = gcp
        self._bucket = bucket

    def _blob(self, key: str) -> Any:
        return self._gcp.storage().bucket(self._bucket).blob(key)

    def get(self, key: str) -> Object | None:

        def read() -> Object | None:
            blob = self._blob(key)
            try:
                body = blob.download_as_bytes(timeout=_TIMEOUT, retry=self._gcp.retry)
            except NotFound as error:
                if _no_bucket(error):
                    raise
                return None
            return Object(body, str(blob.generation))

        result: Object | None = self._gcp.call("objects.get", read)
        return result

    def put(self, key: str, body: bytes, *, absent: bool = False, match: str | None = None) -> str:
        generation = 0 if absent else _generation(key, match)

        def write() -> str:
            blob = self._blob(key)
            try:
                blob.upload_from_string(
                    body,
                    content_type="application/octet-stream",
                    if_generation_match=generation,
                    timeout=_TIMEOUT,
                    retry=self._gcp.retry,
                )
            except NotFound as error:
                if match is not None and not _no_bucket(error):
                    raise Conflict(f"the object {key} does not exist") from error
                raise
            return str(blob.generation)

        return str(self._gcp.call("objects.put", write))

    def delete(self, key: str, *, match: str | None = None) -> None:
        generation = _generation(key, match)

        def remove() -> None:
            try:
                self._blob(key).delete(
                    if_generation_match=generation, timeout=_TIMEOUT, retry=self._gcp.retry
                )
            except NotFound as error:
                if _no_bucket(error):
                    raise
                if match is not None:
                    raise Conflict(f"the object {key} does not exist") from error

        self._gcp.call("objects.delete", remove)

    def delete_keys(self, keys: Sequence[str]) -> None:
        """Delete objects without conditions, 100 in a call."""
        for at in range(0, len(keys), MAX_BATCH):
            some = [(key, None) for key in keys[at : at + MAX_BATCH]]
            self._gcp.call("objects.delete_many", partial(delete_batch, self._gcp, self._bucket, some))

    def list(self, prefix: str, after: str, limit: int) -> list[str]:

        def names() -> list[str]:
            found = self._gcp.storage().list_blobs(
                self._bucket,
                prefix=prefix,
                start_offset=after or None,
                max_results=limit + 1,  # the result may include the offset itself
                page_size=min(limit + 1, _MOST),
                fields="items(name),nextPageToken",
                timeout=_TIMEOUT,
                retry=self._gcp.retry,
            )
            return [blob.name for blob in found if blob.name > after][:limit]

        result: list[str] = self._gcp.call("objects.list", names)
        return result


def _batch(client: Any) -> Any:
    """A batch of calls with the ``answers`` to each; leaving one of Google's keeps them to itself."""
    from google.cloud.storage import Batch

    class Answered(Batch):  # type: ignore[misc]
        answers: list[Any]

        def finish(self, *given: Any, **named: Any) -> list[Any]:
            self.answers = super().finish(*given, **named)
            return self.answers

    return Answered(client, raise_exception=False)


def delete_batch(gcp: Gcp, bucket: str, objects: Sequence[tuple[str, int | None]]) -> None:
    """Delete objects, or generations of them, at most :data:`MAX_BATCH`, in one call.

    Absent ones are no error. What fails for the moment is tried again; raises Google's error of the
    first one that lasts, after all others of the call were tried.
    """
    left = list(objects)

    def attempt() -> None:
        client = gcp.storage()
        with _batch(client) as batch:
            for key, generation in left:
                client.bucket(bucket).delete_blob(key, generation=generation, timeout=_TIMEOUT, retry=None)
        errors = [_error_of(each) for each in batch.answers]
        left[:] = [each for each, error in zip(left, errors, strict=True) if error is not None]
        failed = [error for error in errors if error is not None]
        lasting = [error for error in failed if not retried(error)]
        if failed:
            raise (lasting or failed)[0]

    gcp.retry(attempt)()


def _error_of(response: Any) -> GoogleAPICallError | None:
    """The error of one deletion of a batch."""
    if 200 <= response.status_code < 300:
        return None
    error: GoogleAPICallError = from_http_response(response)
    return None if isinstance(error, NotFound) and not _no_bucket(error) else error


def _generation(key: str, match: str | None) -> int | None:
    """The generation of a tag. Raises Conflict if it cannot be one."""
    if match is None:
        return None
    if not match.isdigit() or match == "0":
        raise Conflict(f"the object {key} never had the tag {match!r}")
    return int(match)


def _no_bucket(error: NotFound) -> bool:
    return "bucket does not exist" in str(error).lower()
