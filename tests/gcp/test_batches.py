"""Many deletions in one call to Cloud Storage."""

from __future__ import annotations

from typing import Any

import pytest
from google.api_core.retry import Retry, if_exception_type
from google.cloud.storage import batch

from faaskeeper.core.errors import Denied
from faaskeeper.deploy.gcp.buckets import empty_bucket
from faaskeeper.providers.gcp.clients import _RETRIED, Gcp
from faaskeeper.providers.gcp.objects import GcsStore
from tests.gcp import backends


class Calls:
    """Requests of Cloud Storage's client, by method and path."""

    def __init__(self, gcp: Gcp, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[tuple[str, str]] = []
        session = gcp.storage()._http
        request = session.request

        def kept(method: str, url: str, *arguments: Any, **parameters: Any) -> Any:
            self.seen.append((method, url.split("?")[0].split("//", 1)[1].split("/", 1)[1]))
            return request(method, url, *arguments, **parameters)

        monkeypatch.setattr(session, "request", kept)

    def batches(self) -> int:
        assert not any(method == "DELETE" for method, _ in self.seen)
        return self.seen.count(("POST", "batch/storage/v1"))


def test_objects_are_deleted_100_in_a_call(gcp: Gcp, monkeypatch: pytest.MonkeyPatch) -> None:
    store = GcsStore(gcp, backends.create_bucket(gcp))
    names = [f"b/{number:03d}" for number in range(250)]
    for name in names:
        store.put(name, b"")
    calls = Calls(gcp, monkeypatch)
    store.delete_keys(names)
    assert calls.batches() == 3
    assert store.list("", "", 10) == []


def test_a_bucket_is_emptied_100_objects_in_a_call(gcp: Gcp, monkeypatch: pytest.MonkeyPatch) -> None:
    bucket = backends.create_bucket(gcp)
    store = GcsStore(gcp, bucket)
    for number in range(150):
        store.put(f"b/{number:03d}", b"")
    calls, said = Calls(gcp, monkeypatch), list[str]()
    empty_bucket(gcp, bucket, said.append)
    assert calls.batches() == 2
    assert said == [f"deleted 150 objects in {bucket}"]
    assert store.list("", "", 10) == []


def test_only_what_failed_for_the_moment_is_repeated_and_what_is_refused_is_an_error(
    gcp: Gcp, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = GcsStore(gcp, backends.create_bucket(gcp))
    for name in ("a", "b", "c"):
        store.put(name, b"")
    gcp.retry = Retry(predicate=if_exception_type(*_RETRIED), initial=0.001, maximum=0.001, timeout=10)
    unpack, statuses, sizes = batch._unpack_batch_response, [{1: 503, 2: 429}, {1: 404}], list[int]()

    def answered(response: Any) -> Any:
        found = list(unpack(response))
        sizes.append(len(found))
        for at, status in (statuses.pop(0) if statuses else {}).items():
            found[at].status_code, found[at]._content = status, b"{}"
        return found

    monkeypatch.setattr(batch, "_unpack_batch_response", answered)
    store.delete_keys(["a", "b", "c"])
    assert sizes == [3, 2]
    statuses.append({0: 403})
    with pytest.raises(Denied):
        store.delete_keys(["a", "b"])
    assert sizes == [3, 2, 2]
