"""The kinds of watches, and what fires them."""

from __future__ import annotations

from collections.abc import Mapping

FIRED_BY: Mapping[str, str] = {
    "data": "SD",
    "exists": "CSD",
    "children": "DK",
    "persistent": "CSDK",
    "recursive": "CSD?",
}
"""Kinds of watch, and the letters (:mod:`faaskeeper.core.transactions`) that fire them. What
happens to the path or to any path below it fires a *recursive* watch. ``?``: an unknown event."""
STAYING = frozenset({"persistent", "recursive"})
"""Kinds that stay after they have fired."""
