"""Routes to what was: the log's range, nodes and lists of children as of a transaction, who did it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from faaskeeper.cli.errors import Failed
from faaskeeper.core import paths
from faaskeeper.core.log import Log, Trimmed
from faaskeeper.exceptions import NodeDoesntExistException, ProviderException
from faaskeeper.session.history import Revision
from faaskeeper.ui.access import Access, Invalid, access_of, number_in, path_in
from faaskeeper.ui.follower import event_of
from faaskeeper.ui.nodes import attachment, node_of

_ROWS = 500
_LOOKED_AT = 200_000
"""Changes since a moment above which lists of children of then are not put together."""


def _log_of(access: Access) -> Log:
    connection = access.connection
    if connection is None:
        raise ProviderException("a ZooKeeper server keeps no history")
    return connection.log


def span(request: Request) -> Response:
    """Route: the transactions that the log has, from the first one whose state is known, with times."""
    access = access_of(request)
    log = _log_of(access)
    kept = access.client.connection.kept
    horizon = 0 if kept is None else kept("/").horizon
    try:
        entries, _ = log.after(0, 1)
        first = entries[0] if entries else None
    except Trimmed as error:
        first = log.at(error.first)
    if first is None:
        raise Failed("the log is empty", 1)
    newest = next(access.client.history("/", True), None)
    last = first.last if newest is None else newest.txid
    return JSONResponse(
        {
            "first": max(first.first - 1, horizon),
            "first_time": first.time,
            "last": max(last, first.last),
            "last_time": first.time if newest is None else newest.time,
        }
    )


def moment(request: Request) -> Response:
    """Route: a moment, with the last change up to it: by its transaction, or by a time (ms)."""
    access = access_of(request)
    at: int | datetime
    if request.query_params.get("time"):
        at = datetime.fromtimestamp(number_in(request, "time") / 1000, UTC)
    else:
        at = number_in(request, "at")
    row = next(access.client.history("/", True, until=at), None)
    later = (
        None
        if row is None
        else next(access.client.history("/", True, since=row.txid, newest_first=False), None)
    )
    return JSONResponse({"at": None if row is None else event_of(row), "next": later and later.txid})


def node(request: Request) -> Response:
    """Route: a node as of a transaction."""
    access, path, at = access_of(request), path_in(request), number_in(request, "at")
    return JSONResponse(node_of(access.client.get_data(path, at=at)))


def download(request: Request) -> Response:
    """Route: a node's data of then, as a file."""
    access, path, at = access_of(request), path_in(request), number_in(request, "at")
    return attachment(path, access.client.get_data(path, at=at).data)


def children(request: Request) -> Response:
    """Route: the names of a node's children as of a transaction; see :func:`names_at`."""
    access, path, at = access_of(request), path_in(request), number_in(request, "at")
    return JSONResponse({"path": path, "names": names_at(access, path, at)})


def names_at(access: Access, path: str, at: int) -> list[str]:
    """The children's names as of a transaction.

    They are those of now, but for each name that was created or deleted since: its first change
    after the transaction tells whether it was there. The names of now are read first, so a change
    that comes in between counts once. Nodes that the session may not read, or could not then, are
    as now.
    """
    client = access.client
    client.get_data(path, at=at)  # there was one, and the log reaches back
    try:
        names = set(client.get_children_with_stat(path)[0])
    except NodeDoesntExistException:
        names = set()
    decided: set[str] = set()
    rows = client.history(path, True, since=at, newest_first=False)
    for number, row in enumerate(rows):
        if number >= _LOOKED_AT:
            raise Failed(f"more than {_LOOKED_AT} changes have happened below {path} since then", 7)
        name = paths.name(row.path)
        if row.path == path or paths.parent(row.path) != path or name in decided:
            continue
        decided.add(name)
        (names.discard if row.kind == "created" else names.add)(name)
    return sorted(names)


def history(request: Request) -> Response:
    """Route: what happened to a node, or (``below``) to it and all below it, newest first."""
    access, path = access_of(request), path_in(request)
    below = request.query_params.get("below") == "1"
    until = number_in(request, "until", -1)
    limit = number_in(request, "limit", 100)
    if not 0 < limit <= _ROWS:
        raise Invalid(f"a page of history has up to {_ROWS} rows")
    more: dict[str, Any] = {} if until < 0 else {"until": until}
    found: Iterator[Revision] = access.client.history(path, below, **more)
    rows = list(islice(found, limit + 1))
    return JSONResponse({"rows": [event_of(row) for row in rows[:limit]], "more": len(rows) > limit})
