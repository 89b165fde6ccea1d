"""Uploads data that is too large for a request to the blob store, before the request is sent."""

from __future__ import annotations

from collections.abc import Callable

from faaskeeper.core import paths
from faaskeeper.core.blobs import TOKEN_BYTES, blob_name
from faaskeeper.core.requests import Create, Data, Multi, Operation, SetData
from faaskeeper.session.commands import PutBlob, Steps


def largest(operation: Operation, limit: int) -> int:
    """The length of the largest data above the limit in an operation; 0 if none is above it."""
    if isinstance(operation, Multi):
        return max((largest(each, limit) for each in operation.operations), default=0)
    data = operation.data if isinstance(operation, (Create, SetData)) else None
    return len(data.inline) if data is not None and len(data.inline) > limit else 0


def upload(operation: Operation, limit: int, session: int, now: int, random: Callable[[int], bytes]) -> Steps:
    """Store an operation's data above the limit; returns the operation to send.

    ``now``: the service's clock, in ms.
    """
    if isinstance(operation, Multi):
        parts = []
        for each in operation.operations:
            parts.append((yield from upload(each, limit, session, now, random)))
        return Multi(tuple(parts))
    if not largest(operation, limit) or not isinstance(operation, (Create, SetData)):
        return operation
    sequential = isinstance(operation, Create) and operation.sequential
    if paths.invalid(f"{operation.path}0" if sequential else operation.path):
        return operation._replace(data=Data(b"", "", 0))  # the writer rejects the path
    data = operation.data.inline
    name = blob_name(now, random(TOKEN_BYTES), session, data, operation.path, sequential)
    yield PutBlob(name, data)
    return operation._replace(data=Data(b"", name, operation.data.length))
