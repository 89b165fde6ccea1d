"""The kinds of nodes, as commands and the page name them."""

from __future__ import annotations

from faaskeeper.node import Node

KINDS = ("ephemeral", "container", "ttl", "persistent")


def kind_of(node: Node) -> str:
    """One of :data:`KINDS`."""
    if node.stat.ephemeralOwner:
        return "ephemeral"
    return "container" if node.container else "persistent" if node.ttl is None else "ttl"
