"""ObjectStore on Cloud Storage, with preconditions on an object's generation."""

from __future__ import annotations

from typing import Any

from google.api_core.exceptions import NotFound

from faaskeeper.core.drivers.storage import Object
from faaskeeper.core.errors import Conflict
from faaskeeper.providers.gcp.clients import TRY_S, Gcp

_MOST = 1000
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


def _generation(key: str, match: str | None) -> int | None:
    """The generation of a tag. Raises Conflict if it cannot be one."""
    if match is None:
        return None
    if not match.isdigit() or match == "0":
        raise Conflict(f"the object {key} never had the tag {match!r}")
    return int(match)


def _no_bucket(error: NotFound) -> bool:
    return "bucket does not exist" in str(error).lower()
