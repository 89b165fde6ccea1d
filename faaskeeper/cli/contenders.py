"""Who holds a lock and who waits, with what the deployment knows of them: ``fk who`` and the page."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from faaskeeper.cli.following import connection_of
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core import paths
from faaskeeper.core.log import Log
from faaskeeper.exceptions import NoAuthException, NodeDoesntExistException
from faaskeeper.node import Node
from faaskeeper.recipes.places import HOLDS, WAITS, Place, places

_WALK = 16
"""How many transactions before the opening of a session its entry may begin, to be found."""


def contenders(client: FaaSKeeperClient, path: str, leases: int | None = None) -> list[dict[str, Any]]:
    """The contenders of a path, with what the deployment knows of each. Raises NodeDoesntExistException."""
    rows = list(_rows(client, path, leases))
    names = {paths.name(each.path) for each in client.get_children(path)}
    if "taken" in names:  # of a LockingQueue: marks with the names of entries
        for node in client.get_children(f"{path}/taken", include_data=True):
            rows.append(_row(client, node, Place(paths.name(node.path), "LockingQueue", HOLDS)))
    if {"leases", "locks"} <= names:  # of Curator's InterProcessSemaphoreV2
        rows += _rows(client, f"{path}/leases", None)
        rows += ({**row, "role": WAITS} for row in _rows(client, f"{path}/locks", None))
    if path != "/" and client.exists(f"{path}-__lock__") is not None:  # of kazoo's Semaphore
        rows += ({**row, "role": WAITS} for row in _rows(client, f"{path}-__lock__", None))
    return rows


def _rows(client: FaaSKeeperClient, path: str, leases: int | None) -> Iterator[dict[str, Any]]:
    nodes = {paths.name(each.path): each for each in client.get_children(path, include_data=True)}
    for place in places(nodes, leases):
        yield _row(client, nodes[place.name], place)


def _row(client: FaaSKeeperClient, node: Node, place: Place) -> dict[str, Any]:
    stat = node.stat
    owner = stat.ephemeralOwner
    connection = connection_of(client)
    row: dict[str, Any] = {
        "role": place.role,
        "recipe": place.recipe,
        "identifier": node.data.decode(errors="backslashreplace"),
        "session": f"{owner:08x}" if owner else None,
        "identities": _identities(client, node.path),
        "address": _address(connection.log, owner) if owner and connection else None,
        "since": stat.ctime,
        "token": stat.czxid,
        "node": node.path,
    }
    lease = connection.leases.get(owner) if owner and connection else None
    if connection is not None and lease is not None and not lease.under:
        row["lease_s"] = round((lease.expires - connection.service()) / 1000, 1)
    elif lease is not None:
        row["server"] = f"{lease.under:08x}"
    return row


def _identities(client: FaaSKeeperClient, path: str) -> list[str]:
    """The identities that the node's ACL names: the creator's, if its recipe gives an ACL."""
    try:
        acl, _ = client.get_acls(path)
    except (NoAuthException, NodeDoesntExistException):
        return []
    return sorted({f"{scheme}:{name.split(':')[0]}" for _, scheme, name in acl if scheme != "world"})


def _address(log: Log, session: int) -> str | None:
    """Where a session that was opened not too long ago has its answers sent: the log says it."""
    for first in range(session, max(session - _WALK, 0), -1):
        entry = log.at(first)
        if entry is not None:
            found = (each.address for each in entry.answers if each.session == session)
            return next(found, None) or None
    return None


def duration(ms: float) -> str:
    """A duration in words: 7s, 3m12s, 5h07m, 2d03h."""
    seconds = max(int(ms / 1000), 0)
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h{seconds // 60 % 60:02}m"
    return f"{seconds // 86_400}d{seconds // 3600 % 24:02}h"
