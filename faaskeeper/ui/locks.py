"""Routes to sessions, what they hold, and who waits behind whom."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from faaskeeper.cli.contenders import contenders
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core import paths
from faaskeeper.core.acl import SUPER
from faaskeeper.core.sessions import Lease, Session
from faaskeeper.exceptions import NoAuthException, NodeDoesntExistException, ProviderException
from faaskeeper.recipes.places import recipe_of
from faaskeeper.ui.access import access_of, number_in, path_in

_HELD = 50
"""Ephemerals of a session that are shown."""
_LOCKS = 200
_PARTS = frozenset({"taken", "leases"})
"""Names below which contenders are, of recipes whose own children have other names."""


def sessions(request: Request) -> Response:
    """Route: the sessions that are open, with their leases and ephemerals."""
    access = access_of(request)
    connection = access.connection
    if connection is None:
        raise ProviderException("a ZooKeeper server does not tell clients which sessions there are")
    leases = {each.session: each for each in connection.leases.all()}
    known = {} if connection.sessions is None else {each.id: each for each in connection.sessions()}
    serving = {each.under for each in leases.values() if each.under}
    now, mine = connection.service(), access.client.session_id
    rows = [
        _row(id, leases.get(id), known.get(id), now) for id in sorted({*leases, *known}) if id not in serving
    ]
    readable = functools.cache(access.reads)
    for row in rows:
        every = row["ephemerals"]
        row["held"] = len(every)
        row["ephemerals"] = [each for each in every[:_HELD] if readable(paths.parent(each))]
        row["mine"] = row["session"] == mine
    return JSONResponse(
        {
            "sessions": rows,
            "complete": connection.sessions is not None,
            "may_end_others": SUPER in access.who(),
        }
    )


def _row(id: int, lease: Lease | None, session: Session | None, now: int) -> dict[str, Any]:
    row: dict[str, Any] = {"session": f"{id:08x}", "ephemerals": [], "timeout_s": None, "address": None}
    if session is not None:
        row["ephemerals"] = sorted(session.ephemerals)
        row["timeout_s"] = session.timeout / 1000
        row["address"] = session.address or None
    if lease is not None and not lease.under:
        row["lease_s"] = round((lease.expires - now) / 1000, 1)
    elif lease is not None:
        row["server"] = f"{lease.under:08x}"
    return row


def locks(request: Request) -> Response:
    """Route: the places where sessions hold, wait or are members, found by the names of their nodes.

    Sessions know their ephemerals; where a deployment does not show those, the tree is gone through.
    """
    access, index = access_of(request), request.state.index
    connection = access.connection
    every: Iterable[str | None] = index.paths()
    if connection is not None and connection.sessions is not None:
        every = (path for session in connection.sessions() for path in session.ephemerals)
    named = (path for path in every if path and path != "/" and recipe_of(paths.name(path)) is not None)
    places = sorted({paths.parent(path) for path in named})
    found = []
    for path in places[:_LOCKS]:
        try:
            found.append({"path": path, "rows": contenders(access.client, path)})
        except (NodeDoesntExistException, NoAuthException):
            continue
    return JSONResponse({"locks": found, "more": max(len(places) - _LOCKS, 0)})


def contenders_of(request: Request) -> Response:
    """Route: who holds, and who waits for, the lock (or other recipe) of a path."""
    access, path = access_of(request), path_in(request)
    leases = number_in(request, "semaphore", 0) or None
    rows = contenders(access.client, path, leases) if _may_have_some(access.client, path) else []
    return JSONResponse({"path": path, "rows": rows})


def _may_have_some(client: FaaSKeeperClient, path: str) -> bool:
    """Whether a node looks like a recipe's, by names: of 100,000 children the data is not read."""
    names, _ = client.get_children_with_stat(path)
    if any(recipe_of(each) is not None for each in names) or not _PARTS.isdisjoint(names):
        return True
    return path != "/" and client.exists(f"{path}-__lock__") is not None
