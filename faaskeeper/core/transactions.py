"""The judge: one pure function from a state and a request to a transaction or an error.

No clock, no store, no log in here; whoever calls brings the view, the time and the txid. The order
in which rules are checked is observed behaviour of ZooKeeper 3.8 (``PrepRequestProcessor``), and
``faaskeeper/testing/golden.json`` holds it.

What happened to a path is written in letters: ``C`` created, ``S`` data set, ``D`` deleted, ``K``
a child created or deleted; no letter: written for another reason. The first three are in the order in which
they happened, through all of a transaction's changes; a ``K`` happened with each ``C`` and ``D`` of a child,
so neither its place nor how often it stands there tells anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from heapq import nsmallest
from typing import NamedTuple, Protocol, Union

from faaskeeper.core import acl, paths
from faaskeeper.core.acl import Identity
from faaskeeper.core.blobs import parse_blob_name
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import (
    NO_DATA,
    Check,
    Close,
    Create,
    Data,
    Delete,
    Multi,
    Operation,
    Outcome,
    Reap,
    SetAcl,
    SetData,
)
from faaskeeper.core.znode import CONFIG, CONTAINER, MAX_DATA_BYTES, MAX_TTL_MS, OPEN_ACL, Meta, wrapped

MAX_SEQUENCE = 2**31 - 1
"""The greatest sequence number. ZooKeeper, whose counter has 32 bits, goes on with negative ones, which sort
before all others, and then uses numbers again: recipes break in silence. Here there are no more."""
MAX_TRANSACTION_BYTES = 24 * 1024 * 1024
"""Most that a multi may take in the log, by :func:`weight`. Whatever fits a message of 1 MiB stays below it,
unless long ACLs are repeated in many images."""


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
    more: bool = False


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


class State(Protocol):
    """What the judge may ask."""

    def node(self, path: str) -> Meta | None:
        """Metadata of a znode, None where there is none."""

    def ephemerals(self, session: int) -> Iterable[str]:
        """Paths of the ephemerals that a session owns."""


class Limits(NamedTuple):
    """What the deployment's stores can hold; checked before anything is logged.

    ``page_names``: the most children in a znode's own record; beyond that, how many a page holds on average.
    With names of at most 960 bytes a page of twice as many fits the smallest item of a store (400 KB).
    ``close_changes``: the most ephemerals that one transaction deletes when a session is closed; a session
    that owns more is closed by several.
    ``blobs``: whether there is a store of blobs, which a request's data may be in.
    """

    inline_bytes: int = MAX_DATA_BYTES
    page_names: int = 128
    close_changes: int = 1_000
    blobs: bool = False


Judgement = tuple[Outcome, Union[Transaction, None]]


def apply(
    state: State,
    operation: Operation,
    session: int,
    now: int,
    txid: int,
    limits: Limits,
    who: tuple[Identity, ...] = (),
) -> Judgement:
    """Judge a request against a state: its outcome, and a transaction ``txid`` if it changes anything.

    ``now`` in ms; ``who``: the identities of who asks. Raises nothing but what ``state`` raises.
    """
    if isinstance(operation, SetData):
        return _set_data(state, operation, session, now, txid, limits, who)
    if isinstance(operation, Create):
        return _create(state, operation, session, now, txid, limits, who)
    if isinstance(operation, Delete):
        return _delete(state, operation, now, txid, limits, who)
    if isinstance(operation, Multi):
        return _multi(state, operation, session, now, txid, limits, who)
    if isinstance(operation, SetAcl):
        return _set_acl(state, operation, txid, who)
    if isinstance(operation, Check):
        return _check(state, operation, txid, who)
    if isinstance(operation, Reap):
        return _reap(state, operation, now, txid, limits)
    if isinstance(operation, Close):
        return _close(state, session, now, txid, limits)
    return _refuse(Code.UNIMPLEMENTED, txid)


def _refuse(code: Code, txid: int) -> Judgement:
    return Outcome(code, txid - 1), None


def _denied(path: str, meta: Meta, permission: int, who: tuple[Identity, ...]) -> bool:
    given = meta.acl if path != CONFIG else acl.held(path, meta.acl)
    return given is not OPEN_ACL and not acl.permits(given, permission, who)


def _impossible(path: str) -> Code:
    """Why nothing can be done to an invalid path: one that is only too long to be here is just not here."""
    return Code.NO_NODE if paths.overlong(path) else Code.BAD_ARGUMENTS


def _oversized(data: Data, limits: Limits) -> bool:
    return data.length > MAX_DATA_BYTES or len(data.inline) > limits.inline_bytes


def _believed(data: Data, path: str, session: int, limits: Limits, sequential: bool = False) -> bool:
    """Whether data is what it claims to be: of its own length, or in a blob that this very session stored for
    this very path. So nobody has an object read, or deleted, that is another's.
    """
    if not data.blob:
        return data.length == len(data.inline) or data == NO_DATA
    if not limits.blobs or data.inline or not 0 <= data.length <= MAX_DATA_BYTES:
        return False
    said = parse_blob_name(data.blob)
    return said is not None and (said.path, said.sequential, said.session) == (path, sequential, session)


def _create(
    state: State,
    operation: Create,
    session: int,
    now: int,
    txid: int,
    limits: Limits,
    who: tuple[Identity, ...],
) -> Judgement:
    path = operation.path
    if operation.ttl and (
        operation.ephemeral
        or not CONTAINER <= operation.ttl <= MAX_TTL_MS
        or (operation.ttl == CONTAINER and operation.sequential)
    ):
        return _refuse(Code.BAD_ARGUMENTS, txid)
    if "/" not in path or "\0" in path:
        return _refuse(Code.BAD_ARGUMENTS, txid)
    if not _believed(operation.data, path, session, limits, operation.sequential):
        return _refuse(Code.BAD_ARGUMENTS, txid)
    kept = acl.fixed(operation.acl, who)
    if kept is None:
        return _refuse(Code.INVALID_ACL, txid)
    above = paths.parent(path)
    parent = state.node(above)
    if parent is None:
        return _refuse(Code.NO_NODE, txid)
    if _denied(above, parent, acl.CREATE, who):
        return _refuse(Code.NO_AUTH, txid)
    if operation.sequential:
        if parent.creations > MAX_SEQUENCE:
            return _refuse(Code.SEQUENCE_USED_UP, txid)
        path = f"{path}{parent.creations:010d}"
    if paths.invalid(path):
        return _refuse(Code.BAD_ARGUMENTS, txid)
    if state.node(path) is not None:
        return _refuse(Code.NODE_EXISTS, txid)
    if parent.owner:
        return _refuse(Code.NO_CHILDREN_FOR_EPHEMERALS, txid)
    if _oversized(operation.data, limits):
        return _refuse(Code.TOO_LARGE, txid)
    meta = Meta(
        czxid=txid,
        mzxid=txid,
        pzxid=txid,
        ctime=now,
        mtime=now,
        owner=session if operation.ephemeral else 0,
        length=operation.data.length,
        blob=operation.data.blob,
        acl=kept,
        ttl=operation.ttl,
    )
    gained = _gained(parent, txid, limits)
    changes = (
        Change(path, "C", meta, operation.data.inline),
        Change(above, "K", gained, None),
    )
    effects = (Owned(session, path, True),) if operation.ephemeral else ()
    resized = _resized(above, parent, gained)
    transaction = Transaction(txid, changes, effects, (), resized, max(meta.length, 0))
    return Outcome(Code.OK, txid, path, meta), transaction


def _gained(parent: Meta, txid: int, limits: Limits) -> Meta:
    children = parent.children + 1
    pages = parent.pages
    if children > (pages or 1) * limits.page_names:
        pages = pages + 1 if pages else 2
    return parent._replace(
        pzxid=txid, creations=parent.creations + 1, children=children, pages=pages, emptied=0
    )


def _lost(parent: Meta, now: int, txid: int, limits: Limits) -> Meta:
    """One child less. A page is given up at half of what makes one, so that none goes to and fro."""
    children = parent.children - 1
    pages = parent.pages
    if pages and not children:
        pages = 0
    elif pages and 2 * children < (pages - 1) * limits.page_names:
        pages = pages - 1 if pages > 2 else 0
    emptied = now if parent.ttl == CONTAINER and not children else 0
    return parent._replace(pzxid=txid, children=children, pages=pages, emptied=emptied)


def _resized(path: str, before: Meta, after: Meta | None) -> tuple[tuple[str, int], ...]:
    pages = 0 if after is None else after.pages
    return () if pages == before.pages else ((path, before.pages),)


def _set_data(
    state: State,
    operation: SetData,
    session: int,
    now: int,
    txid: int,
    limits: Limits,
    who: tuple[Identity, ...],
) -> Judgement:
    path, data = operation.path, operation.data
    if paths.invalid(path):
        return _refuse(_impossible(path), txid)
    if not _believed(data, path, session, limits):
        return _refuse(Code.BAD_ARGUMENTS, txid)
    meta = state.node(operation.path)
    if meta is None:
        return _refuse(Code.NO_NODE, txid)
    if _denied(operation.path, meta, acl.WRITE, who):
        return _refuse(Code.NO_AUTH, txid)
    if operation.version not in (-1, meta.version):
        return _refuse(Code.BAD_VERSION, txid)
    if _oversized(operation.data, limits):
        return _refuse(Code.TOO_LARGE, txid)
    after = Meta(
        meta.czxid,
        txid,
        meta.pzxid,
        meta.ctime,
        now,
        wrapped(meta.version + 1),
        meta.creations,
        meta.aversion,
        meta.owner,
        operation.data.length,
        meta.children,
        operation.data.blob,
        meta.acl,
        meta.ttl,
        meta.pages,
        meta.emptied,
    )
    change = Change(operation.path, "S", after, operation.data.inline)
    garbage = (meta.blob,) if meta.blob not in ("", after.blob) else ()
    grown = max(after.length, 0) - max(meta.length, 0)
    return Outcome(Code.OK, txid, "", after), Transaction(txid, (change,), (), garbage, (), grown)


def _delete(
    state: State, operation: Delete, now: int, txid: int, limits: Limits, who: tuple[Identity, ...]
) -> Judgement:
    path = operation.path
    if "/" not in path or "\0" in path or path in paths.RESERVED:
        return _refuse(Code.BAD_ARGUMENTS, txid)
    above = paths.parent(path)
    parent = state.node(above)
    if parent is None:
        return _refuse(Code.NO_NODE, txid)
    if _denied(above, parent, acl.DELETE, who):
        return _refuse(Code.NO_AUTH, txid)
    meta = state.node(path)
    if meta is None:
        return _refuse(Code.NO_NODE, txid)
    if operation.version not in (-1, meta.version):
        return _refuse(Code.BAD_VERSION, txid)
    if meta.children:
        return _refuse(Code.NOT_EMPTY, txid)
    return _removed(path, meta, parent, now, txid, limits)


def _removed(path: str, meta: Meta, parent: Meta, now: int, txid: int, limits: Limits) -> Judgement:
    above = paths.parent(path)
    lost = _lost(parent, now, txid, limits)
    changes = (Change(path, "D", None, None), Change(above, "K", lost, None))
    effects = (Owned(meta.owner, path, False),) if meta.owner else ()
    garbage = (meta.blob,) if meta.blob else ()
    resized = _resized(above, parent, lost)
    transaction = Transaction(txid, changes, effects, garbage, resized, min(-meta.length, 0))
    return Outcome(Code.OK, txid), transaction


def _reap(state: State, operation: Reap, now: int, txid: int, limits: Limits) -> Judgement:
    """Heartbeat saw that a znode was due; it goes if it still is."""
    meta = state.node(operation.path)
    parent = state.node(paths.parent(operation.path))
    if meta is None or parent is None or not meta.due(now):
        return _refuse(Code.NO_NODE, txid)
    return _removed(operation.path, meta, parent, now, txid, limits)


def _set_acl(state: State, operation: SetAcl, txid: int, who: tuple[Identity, ...]) -> Judgement:
    if paths.invalid(operation.path):
        return _refuse(_impossible(operation.path), txid)
    kept = acl.fixed(operation.acl, who)
    if kept is None:
        return _refuse(Code.INVALID_ACL, txid)
    meta = state.node(operation.path)
    if meta is None:
        return _refuse(Code.NO_NODE, txid)
    if _denied(operation.path, meta, acl.ADMIN, who):
        return _refuse(Code.NO_AUTH, txid)
    if operation.version not in (-1, meta.aversion):
        return _refuse(Code.BAD_VERSION, txid)
    after = meta._replace(acl=kept, aversion=wrapped(meta.aversion + 1))
    transaction = Transaction(txid, (Change(operation.path, "", after, None),))
    return Outcome(Code.OK, txid, "", after), transaction


def _check(state: State, operation: Check, txid: int, who: tuple[Identity, ...]) -> Judgement:
    if paths.invalid(operation.path):
        return _refuse(_impossible(operation.path), txid)
    meta = state.node(operation.path)
    if meta is None:
        return _refuse(Code.NO_NODE, txid)
    if _denied(operation.path, meta, acl.READ, who):
        return _refuse(Code.NO_AUTH, txid)
    if operation.version not in (-1, meta.version):
        return _refuse(Code.BAD_VERSION, txid)
    return Outcome(Code.OK, txid), None


class _Within:
    """The state inside a multi: what the operations before did, over what was there."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._nodes: dict[str, Meta | None] = {}

    def node(self, path: str) -> Meta | None:
        return self._nodes[path] if path in self._nodes else self._state.node(path)

    def ephemerals(self, session: int) -> Iterable[str]:
        return self._state.ephemerals(session)

    def take(self, transaction: Transaction) -> None:
        for change in transaction.changes:
            self._nodes[change.path] = change.meta


def _multi(
    state: State,
    operation: Multi,
    session: int,
    now: int,
    txid: int,
    limits: Limits,
    who: tuple[Identity, ...],
) -> Judgement:
    within = _Within(state)
    done: list[Transaction] = []
    results: list[Outcome] = []
    size = 0
    for number, each in enumerate(operation.operations):
        outcome, transaction = apply(within, each, session, now, txid, limits, who)
        size += 100 + acl_weight(outcome.meta) + (weight(transaction.changes) if transaction else 0)
        if size > MAX_TRANSACTION_BYTES:
            outcome = Outcome(Code.TOO_LARGE, txid - 1)
        if outcome.code is not Code.OK:
            before = [Outcome(Code.OK, txid - 1)] * number
            after = [Outcome(Code.RUNTIME_INCONSISTENCY, txid - 1)] * (len(operation.operations) - number - 1)
            return Outcome(outcome.code, txid - 1, results=(*before, outcome, *after)), None
        results.append(outcome)
        if transaction is not None:
            within.take(transaction)
            done.append(transaction)
    return Outcome(Code.OK, txid, results=tuple(results)), _merged(txid, done)


def _merged(txid: int, parts: Sequence[Transaction]) -> Transaction:
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


def _close(state: State, session: int, now: int, txid: int, limits: Limits) -> Judgement:
    """All ephemerals go in one transaction, as ZooKeeper's ``closeSession`` does it; or in several, each of
    which deletes ``limits.close_changes`` of them. The first ends the session.

    Ephemerals have no children, so the order does not matter.
    """
    gone: list[Change] = []
    garbage: list[str] = []
    parents: dict[str, Meta] = {}
    first: dict[str, Meta] = {}
    grown = 0
    owned = nsmallest(limits.close_changes + 1, state.ephemerals(session))
    for path in owned[: limits.close_changes]:
        meta = state.node(path)
        if meta is None or meta.owner != session:
            continue
        above = paths.parent(path)
        parent = parents.get(above) or state.node(above)
        if parent is None:
            raise AssertionError(f"the znode {path} has no parent")
        first.setdefault(above, parent)
        parents[above] = _lost(parent, now, txid, limits)
        gone.append(Change(path, "D", None, None))
        grown += min(-meta.length, 0)
        if meta.blob:
            garbage.append(meta.blob)
    more = len(owned) > limits.close_changes and bool(gone)
    touched = [Change(path, "K", meta, None) for path, meta in parents.items()]
    resized = tuple(pair for path, meta in parents.items() for pair in _resized(path, first[path], meta))
    changes, effects = (*gone, *touched), (Closed(session, more),)
    transaction = Transaction(txid, changes, effects, tuple(garbage), resized, grown)
    return Outcome(Code.OK, txid), transaction
