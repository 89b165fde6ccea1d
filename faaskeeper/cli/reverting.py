"""Going back to what a node was: ``fk revert`` and the page."""

from __future__ import annotations

from faaskeeper.cli.errors import Failed
from faaskeeper.cli.moments import Moment
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core.znode import OPEN_ACL
from faaskeeper.node import Node


def reverted(client: FaaSKeeperClient, path: str, at: Moment, then: Node | None, now: Node | None) -> str:
    """Give a node the data that it had, on condition that it is as it was shown; returns what was done.

    ``then``: the node as of ``at``; ``now``: as it was shown; None: there is none, but not for both.
    Raises Failed: a node that is gone cannot be made as it was.
    """
    if then is None and now is not None:
        client.delete(path, now.stat.version)
        return f"Deleted {path}"
    if then is None:
        raise AssertionError("there is something to do")
    if now is not None:
        node = client.set_data(path, then.data, now.stat.version)
        return f"Set {path}, version {node.stat.version}"
    if then.stat.ephemeralOwner:
        raise Failed(
            f"{path} was ephemeral: it ended with its session; create it with the session it is for", 2
        )
    acl, _ = client.get_acls(path, at=at)
    if any(scheme == "digest" and name.endswith(":x") for _, scheme, name in acl):
        raise Failed(
            f"the ACL of {path} had passwords whose hashes you may not see: create it with 'fk create --acl'",
            9,
        )
    client.create(path, then.data, acl=None if tuple(acl) == OPEN_ACL else acl)
    return f"Created {path}"
