"""What a transaction holds: the images of the znodes that it changed, and what else it did.

What happened to a path is written in letters: ``C`` created, ``S`` data set, ``D`` deleted, ``K``
a child created or deleted; no letter: written for another reason. The first three are in the order in which
they happened, through all of a transaction's changes; a ``K`` happened with each ``C`` and ``D`` of a child,
so neither its place nor how often it stands there tells anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Union

from faaskeeper.core.znode import OPEN_ACL, Meta


class Change(NamedTuple):
    """Post-image of one path. ``meta`` None: the znode is gone. ``data`` None: as it was (or gone)."""

    path: str
    letters: str
    meta: Meta | None
    data: bytes | None


class Opened(NamedTuple):
    """The transaction opened a session (its txid is the id). ``sealed``: the secret, encrypted."""

    nonce: str
    sealed: bytes
    timeout: int


class Resumed(NamedTuple):
    """A session goes on as another incarnation."""

    session: int
    incarnation: int


class Closed(NamedTuple):
    """A session ended: none of its requests is accepted any more. The ephemerals that the transaction deletes
    are not the session's any more; ``more``: it owns others, and transactions like this one follow.
    """

    session: int
    partial: bool = False


class Owned(NamedTuple):
    """A session's ephemeral was created (``kept``) or deleted."""

    session: int
    path: str
    kept: bool


Effect = Union[Opened, Resumed, Closed, Owned]


class Transaction(NamedTuple):
    """What one request changes; replaying it changes nothing more. ``garbage``: blobs let go.

    ``resized``: paths whose lists of children have another number of pages now, and the number before.
    ``grown``: by how many bytes there is more data in all znodes together (below 0: less). ``order``: what
    happened, in order, where the changes do not tell it, since one of several paths was changed more than
    once: (index of the change, its letters without ``K``).
    """

    txid: int
    changes: tuple[Change, ...]
    effects: tuple[Effect, ...] = ()
    garbage: tuple[str, ...] = ()
    resized: tuple[tuple[str, int], ...] = ()
    grown: int = 0
    order: tuple[tuple[int, str], ...] = ()


def acl_weight(meta: Meta | None) -> int:
    """About how many bytes a znode's ACL takes, 0 for the usual one."""
    if meta is None or meta.acl is OPEN_ACL:
        return 0
    return sum(20 + len(scheme) + len(name) for _, scheme, name in meta.acl)


def weight(changes: Iterable[Change]) -> int:
    """About how many bytes changes take in the log; not less."""
    total = 0
    for path, _, meta, data in changes:
        total += 200 + len(path) + acl_weight(meta)
        if data:
            total += len(data)
    return total


def merged(txid: int, parts: Sequence[Transaction]) -> Transaction:
    """One transaction of several: per path the last image, and the letters of all that happened."""
    changes: dict[str, Change] = {}
    happened: list[tuple[str, str]] = []
    again = False
    for part in parts:
        for change in part.changes:
            path, letters, meta, data = change
            told = letters.replace("K", "")
            if told:
                happened.append((path, told))
            before = changes.get(path)
            if before is not None:
                if told:
                    if before.letters.strip("K"):
                        again = True
                    else:
                        del changes[path]  # its place is that of what happened to it first
                data = before.data if data is None and meta is not None else data
                change = Change(path, before.letters + letters, meta, data)
            changes[path] = change
    effects = tuple(effect for part in parts for effect in part.effects)
    named = {change.meta.blob for change in changes.values() if change.meta is not None}
    garbage = tuple(blob for part in parts for blob in part.garbage if blob not in named)
    sizes: dict[str, int] = {}
    for part in parts:
        for path, pages in part.resized:
            sizes.setdefault(path, pages)
    resized = tuple(
        (path, pages)
        for path, pages in sizes.items()
        if (meta := changes[path].meta) is None or meta.pages != pages
    )
    grown = sum(part.grown for part in parts)
    order = _order(changes, happened) if again else ()
    return Transaction(txid, tuple(changes.values()), effects, garbage, resized, grown, order)


def _order(changes: dict[str, Change], happened: Sequence[tuple[str, str]]) -> tuple[tuple[int, str], ...]:
    """What happened in order; nothing where the changes tell it."""
    shown = [(path, letter) for path, change in changes.items() for letter in change.letters if letter != "K"]
    if shown == [(path, letter) for path, letters in happened for letter in letters]:
        return ()
    places = {path: place for place, path in enumerate(changes)}
    return tuple((places[path], letters) for path, letters in happened)
