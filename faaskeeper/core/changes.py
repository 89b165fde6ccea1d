"""Contents of a transaction: the images of the znodes that it changed, and its other effects.

Letters say what happened to a path: ``C`` created, ``S`` data set, ``D`` deleted, ``K`` a child
created or deleted; no letter: written for another reason. The first three are in the order in which
they happened, across all changes of a transaction. A ``K`` happened with each ``C`` and ``D`` of a
child, so neither its position nor how often it occurs carries information.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from typing import Union

from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import OPEN_ACL, Acl, Meta


class Change(NamedTuple):
    """Image of a path after the transaction.

    ``meta`` None: deleted. ``data`` None: unchanged (or deleted).
    """

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
    """The session continues as another incarnation."""

    session: int
    incarnation: int


class Closed(NamedTuple):
    """The session ended: the writer accepts none of its requests any more.

    The session no longer owns the ephemerals that the transaction deletes. ``partial``: it still
    owns others, and transactions like this one follow.
    """

    session: int
    partial: bool = False


class Owned(NamedTuple):
    """An ephemeral of the session was created (``kept``) or deleted."""

    session: int
    path: str
    kept: bool


class Restored(NamedTuple):
    """The deployment is being set to the state of a backup; no view may be used beyond this.

    The transaction and those that follow, up to one with ``planned``, are not for folding: what
    they begin is in user storage and the checkpoint, as of the last of them. ``of``: the backup.
    """

    of: str
    planned: bool = False


Effect = Union[Opened, Resumed, Closed, Owned, Restored]


class Replaced(NamedTuple):
    """The version that a change replaced: the transaction that wrote its data.

    ``version``, ``acl``: its number and its ACL; known of a deleted znode, whose image has neither.
    """

    mzxid: int
    version: int = 0
    acl: tuple[Acl, ...] = OPEN_ACL


ACLS_BYTES = 128 * 1024
"""Most bytes of ACLs of deleted znodes that a transaction tells. What it does not tell is unknown."""
NOTHING = Replaced(0, -1)
"""In place of what a creation replaced."""


class Transaction(NamedTuple):
    """The changes of one request; replaying it changes nothing more.

    ``garbage``: blobs that it no longer refers to. ``resized``: paths whose lists of children now
    have another number of pages, with the number before. ``grown``: growth of all data together, in
    bytes (negative: it shrank). ``order``: the events in order, if the changes do not give the
    order because one of several paths was changed more than once: (index of the change, its letters
    without ``K``). ``replaced``: what the changes replaced, in their order, as far as they created,
    set or deleted something; the last ones may be missing, and all of an entry of an earlier
    release. ``by``: the identities of the client, without hashes (:func:`faaskeeper.core.acl.labels`).
    """

    txid: int
    changes: tuple[Change, ...]
    effects: tuple[Effect, ...] = ()
    garbage: tuple[str, ...] = ()
    resized: tuple[tuple[str, int], ...] = ()
    grown: int = 0
    order: tuple[tuple[int, str], ...] = ()
    replaced: tuple[Replaced | None, ...] = ()
    by: tuple[str, ...] = ()


def acl_weight(meta: Meta | None) -> int:
    """Approximate size of a znode's ACL in bytes, 0 for the default ACL."""
    return 0 if meta is None or meta.acl is OPEN_ACL else acl_bytes(meta.acl)


def acl_memory(meta: Meta | None) -> int:
    """About how many bytes of memory a znode's ACL takes; the default ACL is there once."""
    return 0 if meta is None or meta.acl is OPEN_ACL else 225 * len(meta.acl)


def acl_bytes(acl: tuple[Acl, ...]) -> int:
    """Approximate size of an ACL in the log in bytes."""
    return sum(20 + len(scheme) + len(name) for _, scheme, name in acl)


def weight(changes: Iterable[Change]) -> int:
    """Approximate size of changes in the log in bytes; an upper bound."""
    total = 0
    for path, _, meta, data in changes:
        total += 200 + len(path)
        if meta is not None and meta.acl is not OPEN_ACL:
            total += acl_weight(meta)
        if data:
            total += len(data)
    return total


def merged(txid: int, parts: Sequence[Transaction]) -> Transaction:
    """Merge transactions into one: for each path the last image and the letters of all events."""
    changes: dict[str, Change] = {}
    replaced: dict[str, Replaced] = {}
    happened: list[tuple[str, str]] = []
    repeated = False
    for part in parts:
        for change, was in zip_longest(part.changes, part.replaced):
            path, letters, meta, data = change
            if was is not None:
                replaced.setdefault(path, was)
            events = letters.replace("K", "")
            if events:
                happened.append((path, events))
            before = changes.get(path)
            if before is not None:
                if events:
                    if before.letters.strip("K"):
                        repeated = True
                    else:
                        del changes[path]  # its position is that of its first event
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
    order = _order(changes, happened) if repeated else ()
    was_there = trimmed([replaced.get(path) for path in changes])
    return Transaction(txid, tuple(changes.values()), effects, garbage, resized, grown, order, was_there)


def trimmed(replaced: list[Replaced | None]) -> tuple[Replaced | None, ...]:
    """What changes replaced, without those at the end that replaced nothing known.

    Nor those whose ACLs would take more than ``ACLS_BYTES`` together: many znodes with long ACLs may
    be deleted by one short request.
    """
    room = ACLS_BYTES
    for place, was in enumerate(replaced):
        if was is not None and was.acl is not OPEN_ACL:
            room -= acl_bytes(was.acl)
            if room < 0:
                replaced[place] = None
    while replaced and replaced[-1] is None:
        replaced.pop()
    return tuple(replaced)


def _order(changes: dict[str, Change], happened: Sequence[tuple[str, str]]) -> tuple[tuple[int, str], ...]:
    """The events in order; empty if the changes already give the order."""
    shown = [(path, letter) for path, change in changes.items() for letter in change.letters if letter != "K"]
    if shown == [(path, letter) for path, letters in happened for letter in letters]:
        return ()
    places = {path: place for place, path in enumerate(changes)}
    return tuple((places[path], letters) for path, letters in happened)
