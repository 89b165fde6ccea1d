"""Which znodes the validation of some messages will need, to read them in one call before."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from heapq import nsmallest

from faaskeeper.core import paths
from faaskeeper.core.batch import ServiceOrder
from faaskeeper.core.log import ENTRY_CHANGES
from faaskeeper.core.requests import Close, Create, End, Message, Multi, Operation, SetData
from faaskeeper.core.view import View

_AHEAD = 2 * ENTRY_CHANGES
"""About how many paths are read at once for an order to close sessions: a batch does not need
more."""


def needs_of(message: Message | ServiceOrder, view: View, most: int) -> set[str]:
    """Paths that the validation of a message will need, as far as message and sessions show.

    ``most``: most ephemerals that one transaction removes when a session is closed.
    """
    needed: set[str]
    if isinstance(message, ServiceOrder):
        needed = {path for each in message.reap[:_AHEAD] for path in (paths.parent(each), each)}
        for session in message.close:
            if len(needed) > _AHEAD:
                break
            needed |= _owned(view, session, most)
        return needed
    needed = set()
    for _, operation, _ in message.requests:
        if type(operation) is SetData:  # nearly all are
            needed.add(operation.path)
        elif isinstance(operation, (Close, End)):
            session = operation.session if isinstance(operation, End) else message.session
            needed |= _owned(view, session, most)
        else:
            needed.update(_needs(operation))
    return needed


def _owned(view: View, session: int, most: int) -> set[str]:
    """Ephemerals that the first transaction of a session's closing removes, and their parents."""
    known = view.sessions.get(session)
    if known is None:
        return set()
    owned: Collection[str] = known.ephemerals
    if len(owned) > most:
        owned = nsmallest(most, owned)
    return {*owned, *(paths.parent(path) for path in owned)}


def sequential_paths(waiting: Sequence[Message | ServiceOrder], view: View) -> set[str]:
    """Paths that sequential creates will need if all creates before them succeed."""
    creations: dict[str, int] = {}
    found: set[str] = set()
    for message in waiting:
        if isinstance(message, ServiceOrder):
            continue
        for _, operation, _ in message.requests:
            if type(operation) is SetData:
                continue
            for each in operation.operations if isinstance(operation, Multi) else (operation,):
                if not isinstance(each, Create):
                    continue
                above = paths.parent(each.path)
                if above not in creations:
                    known = view.known(above)
                    creations[above] = known.meta.creations if known and known.meta else 0
                if each.sequential:
                    found.add(f"{each.path}{creations[above]:010d}")
                creations[above] += 1
    return found


def _needs(operation: Operation) -> tuple[str, ...]:
    if isinstance(operation, SetData):
        return (operation.path,)
    if isinstance(operation, Create):
        above = paths.parent(operation.path)
        return (above,) if operation.sequential else (above, operation.path)
    if isinstance(operation, Multi):
        return tuple(path for each in operation.operations for path in _needs(each))
    path = getattr(operation, "path", "")
    return (paths.parent(path), path) if path else ()
