"""Routes that read nodes and lists of children, of now."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from faaskeeper.cli import acls
from faaskeeper.cli.kinds import kind_of
from faaskeeper.core import paths
from faaskeeper.core.errors import DriverError
from faaskeeper.core.znode import Acl, Stat
from faaskeeper.exceptions import NoAuthException, NodeDoesntExistException
from faaskeeper.node import Node
from faaskeeper.recipes.places import recipe_of
from faaskeeper.ui.access import RIGHTS, Access, Invalid, access_of, number_in, path_in

_ROWS = 100
"""Most rows of a tree that are asked for at once."""


def me(request: Request) -> Response:
    """Route: the deployment, the session, and what there is to see."""
    access = access_of(request)
    config, settings = access.config, request.app.state.settings
    client = access.client
    zookeeper = config.provider_name == "zookeeper"
    return JSONResponse(
        {
            "provider": config.provider_name,
            "deployment": config.deployment_name,
            "directory": config.directory,
            "session": client.session_id,
            "session_timeout_s": client.session_timeout,
            "identities": [":".join(each).rstrip(":") for each in access.who()],
            "page": settings.page,
            "read_only": settings.read_only,
            "login": settings.login,
            "missing": _MISSING if zookeeper else {},
        }
    )


_MISSING = {
    "time": "A ZooKeeper server keeps no history: it shows how things are, not how they were.",
    "sessions": "A ZooKeeper server does not tell clients which sessions there are. Locks are found by "
    "the names of their nodes.",
    "service": "A ZooKeeper server shows its numbers by four-letter words: start the page with "
    "--server HOST:PORT.",
    "watches": "A ZooKeeper server does not tell clients who watches a node.",
}


def stat_of(stat: Stat) -> dict[str, Any]:
    """A Stat as JSON. Transactions of a ZooKeeper server are beyond a JavaScript number's precision."""
    return {
        name: f"{value:x}" if name == "ephemeralOwner" else str(value) if "zxid" in name else value
        for name, value in stat._asdict().items()
    }


def node_of(node: Node) -> dict[str, Any]:
    """A node with its data as JSON."""
    return {
        "path": node.path,
        "data": b64encode(node.data).decode(),
        "dataless": node.dataless,
        "stat": stat_of(node.stat),
        "kind": kind_of(node),
        "ttl": node.ttl,
        "recipe": recipe_of(paths.name(node.path)) if node.path != "/" else None,
    }


def node(request: Request) -> Response:
    """Route: a node with its data, Stat, ACL, what the session may do with it, and who watches it."""
    access, path = access_of(request), path_in(request)
    client = access.client
    found: dict[str, Any]
    try:
        found = node_of(client.get_data(path))
    except NoAuthException:
        there = client.exists(path)
        if there is None:
            raise NodeDoesntExistException(path) from None
        found = {"path": path, "data": None, "stat": stat_of(there.stat), "kind": kind_of(there)}
    found.update(_access_to(access, path), watches=_watches(access, path))
    return JSONResponse(found)


def _access_to(access: Access, path: str) -> dict[str, Any]:
    """The ACL and the rights. Deleting a node takes the right to it of the parent's ACL."""
    acl: list[Acl] | None
    who = access.who()
    try:
        acl, _ = access.client.get_acls(path)
        rights = access.rights(acl, who)
    except NoAuthException:
        acl, rights = None, dict.fromkeys(RIGHTS, False)
    try:
        rights["delete"] = path not in paths.RESERVED and access.rights_on(paths.parent(path))["delete"]
    except NodeDoesntExistException:
        rights["delete"] = False  # deleted meanwhile, like the node
    shown = None if acl is None else [[acls.show(each), list(each)] for each in acl]
    return {"acl": shown, "rights": rights}


def _watches(access: Access, path: str) -> list[dict[str, Any]] | None:
    """The registered watches on a path and above it; None where they are not known."""
    connection = access.connection
    if connection is None:
        return None
    try:
        rows = [(path, row) for row in connection.watches.rows(path)]
        rows += [
            (each, row) for each in paths.upwards(path) for row in connection.watches.recursive_rows(each)
        ]
    except DriverError:
        return None
    found = {(row.session, row.kind, at): (at, row) for at, row in rows}
    return [{"session": f"{row.session:08x}", "kind": row.kind, "path": at} for at, row in found.values()]


def children(request: Request) -> Response:
    """Route: the names of all children, or of the ``first`` ones, sorted."""
    path, first = path_in(request), number_in(request, "first", -1)
    names, stat = access_of(request).client.get_children_with_stat(path)
    return JSONResponse({"path": path, "names": names if first < 0 else names[:first], "stat": stat_of(stat)})


def rows(request: Request) -> Response:
    """Route: what a tree shows of some children beside their names."""
    parent = path_in(request)
    names = request.query_params.getlist("name")
    if len(names) > _ROWS:
        raise Invalid(f"at most {_ROWS} names may be asked for at once")
    wanted = [("exists", paths.child(parent, name)) for name in names]
    for _, path in wanted:
        if (wrong := paths.invalid(path)) is not None:
            raise Invalid(wrong)
    found = access_of(request).client.read_together(wanted)
    return JSONResponse(
        {name: _row(each) for name, each in zip(names, found, strict=True) if isinstance(each, Node)}
    )


def _row(node: Node) -> dict[str, Any]:
    stat = node.stat
    return {
        "children": stat.numChildren,
        "size": stat.dataLength,
        "kind": kind_of(node),
        "created": str(stat.czxid),
        "changed": str(stat.pzxid),
    }


def download(request: Request) -> Response:
    """Route: a node's data as a file."""
    path = path_in(request)
    data = access_of(request).client.get_data(path).data
    return attachment(path, data)


def attachment(path: str, data: bytes) -> Response:
    """Data as a file to keep, which no browser interprets."""
    from urllib.parse import quote

    name = quote(paths.name(path) or "root", safe="")
    headers = {"Content-Disposition": f"attachment; filename=\"data\"; filename*=UTF-8''{name}"}
    return Response(data, media_type="application/octet-stream", headers=headers)
