"""Routes to what was: the log's range, nodes and lists of children as of a transaction, who did it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from faaskeeper.cli.errors import Failed
from faaskeeper.cli.following import LogReader, entry_before
from faaskeeper.clocks import elapsed_s
from faaskeeper.core import paths
from faaskeeper.core.log import Log, Trimmed
from faaskeeper.core.znode import Acl
from faaskeeper.exceptions import NodeDoesntExistException, ProviderException
from faaskeeper.session.history import Revision, Scope, revisions_of
from faaskeeper.ui.access import Access, Invalid, access_of, number_in, path_in
from faaskeeper.ui.follower import event_of
from faaskeeper.ui.nodes import attachment, node_of

_ROWS = 500
_ENTRIES, _TOGETHER = 1000, 20
"""So many entries are looked at for one with a change that may be shown; so many at once."""
_GLANCE, _GLANCE_S = 2_000, 0.5
"""Of a node, the log's last transactions are looked at; of one that changed rarely more, for so long."""
_ALL = Scope("/", True)
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
    """Route: the last change up to a transaction or a time (ms), and the transaction of the next one."""
    access = access_of(request)
    log = _log_of(access)
    if request.query_params.get("time"):
        reader = LogReader()
        reader.start(access.client.connection, None)
        at = log.as_of(number_in(request, "time"), reader.position)
    else:
        at = number_in(request, "at")
    row = None if at is None else last_change(access, log, at)
    later = None if row is None else next_change(access, row.txid)
    return JSONResponse({"at": None if row is None else event_of(row), "next": later})


def last_change(access: Access, log: Log, at: int) -> Revision | None:
    """The last change up to a transaction that the session may know of."""
    for _ in range(_ENTRIES):
        entry = log.holding(at)
        if entry is None or entry.first > at:
            return None  # there is none, or the log begins later
        for row, acl in reversed(list(revisions_of(entry, _ALL))):
            if row.txid <= at and _visible(access, row, acl):
                return row
        at = entry.first - 1
    return None


def next_change(access: Access, after: int) -> int | None:
    """The first transaction after another one that changed what the session may know of."""
    log = access.client.connection.log
    at, more = entry_before(log, after), True
    for _ in range(0, _ENTRIES, _TOGETHER):
        try:
            entries, more = log.after(at, _TOGETHER) if more else ([], False)
        except Trimmed:  # meanwhile
            return None
        for entry in entries:
            for row, acl in revisions_of(entry, _ALL):
                if row.txid > after and _visible(access, row, acl):
                    return row.txid
            at = entry.last
    return None


def _visible(access: Access, row: Revision, acl: tuple[Acl, ...] | None) -> bool:
    """Whether the session may read a node then and now; of one that is gone, the history tells."""
    if not access.sees(acl, access.who()):
        return False
    try:
        return access.rights_on(row.path)["read"]
    except NodeDoesntExistException:
        found = access.client.history(row.path, since=row.txid - 1, until=row.txid)
        return next(found, None) is not None


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

    They are those of now, with each change since undone, the newest first: what was created is left
    out, what was changed or deleted was there. The names are read before the changes. So a change in
    between may be undone although it is not in the names, which makes no difference: what is undone
    last for a name, its first change after the transaction, decides alone. Nodes that the session
    may not read, or could not then, are as now.
    """
    client = access.client
    client.get_data(path, at=at)  # there was one, and the log reaches back
    try:
        now, stat = client.get_children_with_stat(path)
    except NodeDoesntExistException:
        now = []
    else:
        if stat.pzxid <= at:
            return list(now)  # no child came or went since
    names = set(now)
    for number, row in enumerate(client.history(path, True, since=at)):
        if number >= _LOOKED_AT:
            raise Failed(f"more than {_LOOKED_AT} changes have happened below {path} since then", 7)
        if row.path != path and paths.parent(row.path) == path:
            (names.discard if row.kind == "created" else names.add)(paths.name(row.path))
    return sorted(names)


def history(request: Request) -> Response:
    """Route: what happened to a node, or (``below``) to it and all below it, newest first.

    Unless the ``whole`` log is asked for, it is read back as far as it goes in a moment: for each
    node that somebody looks at, a long log would keep a thread for minutes. ``since``: as far as
    that; 0: all of it, or to the transaction ``after`` which changes are asked for.
    """
    access, path = access_of(request), path_in(request)
    below = request.query_params.get("below") == "1"
    until, after = number_in(request, "until", -1), max(number_in(request, "after", 0), 0)
    limit = number_in(request, "limit", 100)
    if not 0 < limit <= _ROWS:
        raise Invalid(f"a page of history has up to {_ROWS} rows")
    more: dict[str, Any] = {} if until < 0 else {"until": until}
    whole = request.query_params.get("whole") == "1"
    client, began, back = access.client, elapsed_s(), _GLANCE
    last = 0 if access.connection is None or whole else client.connection.applied()
    while True:
        since = max(last - back, after)
        found: Iterator[Revision] = client.history(path, below, since=since, **more)
        rows = list(islice(found, limit + 1))
        if since == after or len(rows) > limit or elapsed_s() - began > _GLANCE_S:
            break
        back *= 8  # so all looks together are little more than the last
    shown = [event_of(row) for row in rows[:limit]]
    return JSONResponse({"rows": shown, "more": len(rows) > limit, "since": since if since > after else 0})
