"""The judge: one pure function from a state and a request to a transaction or an error.

No clock, no store, no log in here; whoever calls brings the view, the time and the txid. The order
in which rules are checked is observed behaviour of ZooKeeper 3.8 (``PrepRequestProcessor``), and
``faaskeeper/testing/conformance/golden.json`` holds it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import Any, NamedTuple, Protocol, Union

from faaskeeper.core import acl, paths
from faaskeeper.core.acl import Identity
from faaskeeper.core.blobs import parse_blob_name
from faaskeeper.core.changes import Change, Closed, Owned, Transaction, acl_weight, merged, weight
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


class Case(NamedTuple):
    """What a request is judged by. ``session``: of the client that asks. ``now`` in ms. ``txid``: of the
    transaction that the request makes, if it changes anything. ``who``: the identities of the client.
    """

    state: State
    session: int
    now: int
    txid: int
    limits: Limits
    who: tuple[Identity, ...] = ()

    def refuse(self, code: Code) -> Judgement:
        """The outcome of a request that is refused."""
        return Outcome(code, self.txid - 1), None

    def denied(self, path: str, meta: Meta, permission: int) -> bool:
        """Whether the znode's ACL keeps the client from something."""
        return _denied(path, meta, permission, self.who)


def apply(case: Case, operation: Operation) -> Judgement:
    """Judge a request: its outcome, and a transaction if it changes anything.

    Raises nothing but what the case's state raises.
    """
    judge = JUDGES.get(type(operation))
    return case.refuse(Code.UNIMPLEMENTED) if judge is None else judge(case, operation)


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


def _create(case: Case, operation: Create) -> Judgement:
    state, session, now, txid, limits, who = case
    path = operation.path
    if operation.ttl and (
        operation.ephemeral
        or not CONTAINER <= operation.ttl <= MAX_TTL_MS
        or (operation.ttl == CONTAINER and operation.sequential)
    ):
        return case.refuse(Code.BAD_ARGUMENTS)
    if "/" not in path or "\0" in path:
        return case.refuse(Code.BAD_ARGUMENTS)
    if not _believed(operation.data, path, session, limits, operation.sequential):
        return case.refuse(Code.BAD_ARGUMENTS)
    kept = acl.fixed(operation.acl, who)
    if kept is None:
        return case.refuse(Code.INVALID_ACL)
    above = paths.parent(path)
    parent = state.node(above)
    if parent is None:
        return case.refuse(Code.NO_NODE)
    if case.denied(above, parent, acl.CREATE):
        return case.refuse(Code.NO_AUTH)
    if operation.sequential:
        if parent.creations > MAX_SEQUENCE:
            return case.refuse(Code.SEQUENCE_USED_UP)
        path = f"{path}{parent.creations:010d}"
    if paths.invalid(path):
        return case.refuse(Code.BAD_ARGUMENTS)
    if state.node(path) is not None:
        return case.refuse(Code.NODE_EXISTS)
    if parent.owner:
        return case.refuse(Code.NO_CHILDREN_FOR_EPHEMERALS)
    if _oversized(operation.data, limits):
        return case.refuse(Code.TOO_LARGE)
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


def _set_data(case: Case, operation: SetData) -> Judgement:
    state, session, now, txid, limits, _ = case
    path, data = operation.path, operation.data
    if paths.invalid(path):
        return case.refuse(_impossible(path))
    if not _believed(data, path, session, limits):
        return case.refuse(Code.BAD_ARGUMENTS)
    meta = state.node(operation.path)
    if meta is None:
        return case.refuse(Code.NO_NODE)
    if case.denied(operation.path, meta, acl.WRITE):
        return case.refuse(Code.NO_AUTH)
    if operation.version not in (-1, meta.version):
        return case.refuse(Code.BAD_VERSION)
    if _oversized(operation.data, limits):
        return case.refuse(Code.TOO_LARGE)
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


def _delete(case: Case, operation: Delete) -> Judgement:
    state = case.state
    path = operation.path
    if "/" not in path or "\0" in path or path in paths.RESERVED:
        return case.refuse(Code.BAD_ARGUMENTS)
    above = paths.parent(path)
    parent = state.node(above)
    if parent is None:
        return case.refuse(Code.NO_NODE)
    if case.denied(above, parent, acl.DELETE):
        return case.refuse(Code.NO_AUTH)
    meta = state.node(path)
    if meta is None:
        return case.refuse(Code.NO_NODE)
    if operation.version not in (-1, meta.version):
        return case.refuse(Code.BAD_VERSION)
    if meta.children:
        return case.refuse(Code.NOT_EMPTY)
    return _removed(case, path, meta, parent)


def _removed(case: Case, path: str, meta: Meta, parent: Meta) -> Judgement:
    txid = case.txid
    above = paths.parent(path)
    lost = _lost(parent, case.now, txid, case.limits)
    changes = (Change(path, "D", None, None), Change(above, "K", lost, None))
    effects = (Owned(meta.owner, path, False),) if meta.owner else ()
    garbage = (meta.blob,) if meta.blob else ()
    resized = _resized(above, parent, lost)
    transaction = Transaction(txid, changes, effects, garbage, resized, min(-meta.length, 0))
    return Outcome(Code.OK, txid), transaction


def _reap(case: Case, operation: Reap) -> Judgement:
    """Heartbeat saw that a znode was due; it goes if it still is."""
    state = case.state
    meta = state.node(operation.path)
    parent = state.node(paths.parent(operation.path))
    if meta is None or parent is None or not meta.due(case.now):
        return case.refuse(Code.NO_NODE)
    return _removed(case, operation.path, meta, parent)


def _set_acl(case: Case, operation: SetAcl) -> Judgement:
    txid = case.txid
    if paths.invalid(operation.path):
        return case.refuse(_impossible(operation.path))
    kept = acl.fixed(operation.acl, case.who)
    if kept is None:
        return case.refuse(Code.INVALID_ACL)
    meta = case.state.node(operation.path)
    if meta is None:
        return case.refuse(Code.NO_NODE)
    if case.denied(operation.path, meta, acl.ADMIN):
        return case.refuse(Code.NO_AUTH)
    if operation.version not in (-1, meta.aversion):
        return case.refuse(Code.BAD_VERSION)
    after = meta._replace(acl=kept, aversion=wrapped(meta.aversion + 1))
    transaction = Transaction(txid, (Change(operation.path, "", after, None),))
    return Outcome(Code.OK, txid, "", after), transaction


def _check(case: Case, operation: Check) -> Judgement:
    if paths.invalid(operation.path):
        return case.refuse(_impossible(operation.path))
    meta = case.state.node(operation.path)
    if meta is None:
        return case.refuse(Code.NO_NODE)
    if case.denied(operation.path, meta, acl.READ):
        return case.refuse(Code.NO_AUTH)
    if operation.version not in (-1, meta.version):
        return case.refuse(Code.BAD_VERSION)
    return Outcome(Code.OK, case.txid), None


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


def _multi(case: Case, operation: Multi) -> Judgement:
    txid = case.txid
    within = _Within(case.state)
    inner = case._replace(state=within)
    done: list[Transaction] = []
    results: list[Outcome] = []
    size = 0
    for number, each in enumerate(operation.operations):
        outcome, transaction = apply(inner, each)
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
    return Outcome(Code.OK, txid, results=tuple(results)), merged(txid, done)


def _close(case: Case, _: Close) -> Judgement:
    """All ephemerals go in one transaction, as ZooKeeper's ``closeSession`` does it; or in several, each of
    which deletes ``limits.close_changes`` of them. The first ends the session.

    Ephemerals have no children, so the order does not matter.
    """
    state, session, now, txid, limits, _who = case
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


JUDGES: dict[type, Callable[[Case, Any], Judgement]] = {
    SetData: _set_data,
    Create: _create,
    Delete: _delete,
    Multi: _multi,
    SetAcl: _set_acl,
    Check: _check,
    Reap: _reap,
    Close: _close,
}
"""How each operation is judged, by its type."""
