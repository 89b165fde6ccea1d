"""Validation of one request: a pure function from a state and a request to an outcome.

No clock, store or log is used here: the caller passes the state, the time and the txid. The order
of the checks is the observed behaviour of ZooKeeper 3.8 (``PrepRequestProcessor``), recorded in
``faaskeeper/testing/conformance/golden.json``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from heapq import nsmallest
from typing import Any, Protocol, Union

from faaskeeper.core import acl, paths
from faaskeeper.core.acl import Identity
from faaskeeper.core.blobs import parse_blob_name
from faaskeeper.core.changes import (
    NOTHING,
    Change,
    Closed,
    Owned,
    Replaced,
    Transaction,
    acl_weight,
    merged,
    trimmed,
    weight,
)
from faaskeeper.core.errors import Code
from faaskeeper.core.log import ENTRY_BYTES, ENTRY_CHANGES
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
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import CONFIG, CONTAINER, MAX_DATA_BYTES, MAX_TTL_MS, OPEN_ACL, Meta, wrapped

MAX_SEQUENCE = 2**31 - 1
"""The greatest sequence number. ZooKeeper's counter has 32 bits. It continues with negative
numbers, which sort before all others, and then reuses numbers: recipes fail silently. Here there
are no more numbers."""
MAX_TRANSACTION_BYTES = 24 * 1024 * 1024
"""Most bytes of a multi in the log, by :func:`weight`. What fits a message of 1 MiB stays below it,
unless many images repeat long ACLs."""


class State(Protocol):
    """The state on which a request is validated."""

    def node(self, path: str) -> Meta | None:
        """Metadata of a znode, None if there is none."""

    def ephemerals(self, session: int) -> Iterable[str]:
        """Paths of the ephemerals that a session owns."""


class Limits(NamedTuple):
    """Limits of the deployment's stores, checked before anything is logged.

    ``inline_bytes``: most data in a request itself. ``page_names``: most children in a znode's own
    record; beyond that, the average number in a page. With names of at most 960 bytes, a page of
    twice as many fits the smallest item of a store (400 KB). ``close_changes``: most ephemerals
    that one transaction deletes when a session is closed; several transactions close a session that
    owns more. ``blobs``: whether there is a blob store, which may hold a request's data.
    ``entry_bytes``, ``entry_paths``: about how many bytes an entry has at most, and how many znodes it
    changes; the last request of a batch may exceed them.
    """

    inline_bytes: int = MAX_DATA_BYTES
    page_names: int = 128
    close_changes: int = 1_000
    blobs: bool = False
    entry_bytes: int = ENTRY_BYTES
    entry_paths: int = ENTRY_CHANGES


Decision = tuple[Outcome, Union[Transaction, None]]


class Context(NamedTuple):
    """The context of a request.

    ``session``: of the client. ``now``: ms. ``txid``: of the request's transaction, if it changes
    anything. ``who``: the identities of the client.
    """

    state: State
    session: int
    now: int
    txid: int
    limits: Limits
    who: tuple[Identity, ...] = ()

    def refuse(self, code: Code) -> Decision:
        """Refuse the request with an error."""
        return Outcome(code, self.txid - 1), None

    def denied(self, path: str, meta: Meta, permission: int) -> bool:
        """Whether the znode's ACL denies the client a permission."""
        if meta.acl is OPEN_ACL and path != CONFIG:  # nearly all are
            return False
        return _denied(path, meta, permission, self.who)


def apply(context: Context, operation: Operation) -> Decision:
    """Validate a request and apply it: its outcome, and a transaction if it changes anything.

    Raises only what the context's state raises.
    """
    handle = HANDLERS.get(type(operation))
    return context.refuse(Code.UNIMPLEMENTED) if handle is None else handle(context, operation)


def _denied(path: str, meta: Meta, permission: int, who: tuple[Identity, ...]) -> bool:
    given = meta.acl if path != CONFIG else acl.effective(path, meta.acl)
    return given is not OPEN_ACL and not acl.permits(given, permission, who)


def _code_of_invalid(path: str) -> Code:
    """The error for an invalid path: if it is only too long, no znode has it."""
    return Code.NO_NODE if paths.overlong(path) else Code.BAD_ARGUMENTS


def _oversized(data: Data, limits: Limits) -> bool:
    return data.length > MAX_DATA_BYTES or len(data.inline) > limits.inline_bytes


def _is_valid(data: Data, path: str, session: int, limits: Limits, sequential: bool = False) -> bool:
    """Whether data is valid: of its stated length, or in a blob of this session for this path.

    So no client can have an object read or deleted that another client stored.
    """
    if not data.blob:
        return data.length == len(data.inline) or data == NO_DATA
    if not limits.blobs or data.inline or not 0 <= data.length <= MAX_DATA_BYTES:
        return False
    parsed = parse_blob_name(data.blob)
    return parsed is not None and (parsed.path, parsed.sequential, parsed.session) == (
        path,
        sequential,
        session,
    )


def _create(context: Context, operation: Create) -> Decision:
    state, session, now, txid, limits, who = context
    path = operation.path
    if operation.ttl and (
        operation.ephemeral
        or not CONTAINER <= operation.ttl <= MAX_TTL_MS
        or (operation.ttl == CONTAINER and operation.sequential)
    ):
        return context.refuse(Code.BAD_ARGUMENTS)
    if "/" not in path or "\0" in path:
        return context.refuse(Code.BAD_ARGUMENTS)
    if not _is_valid(operation.data, path, session, limits, operation.sequential):
        return context.refuse(Code.BAD_ARGUMENTS)
    kept = acl.fixed(operation.acl, who)
    if kept is None:
        return context.refuse(Code.INVALID_ACL)
    above = paths.parent(path)
    parent = state.node(above)
    if parent is None:
        return context.refuse(Code.NO_NODE)
    if context.denied(above, parent, acl.CREATE):
        return context.refuse(Code.NO_AUTH)
    if operation.sequential:
        if parent.creations > MAX_SEQUENCE:
            return context.refuse(Code.SEQUENCE_USED_UP)
        path = f"{path}{parent.creations:010d}"
    if paths.invalid(path):
        return context.refuse(Code.BAD_ARGUMENTS)
    if state.node(path) is not None:
        return context.refuse(Code.NODE_EXISTS)
    if parent.owner:
        return context.refuse(Code.NO_CHILDREN_FOR_EPHEMERALS)
    if _oversized(operation.data, limits):
        return context.refuse(Code.TOO_LARGE)
    owner = session if operation.ephemeral else 0
    _, blob, length = operation.data
    meta = Meta(txid, txid, txid, now, now, 0, 0, 0, owner, length, 0, blob, kept, operation.ttl)
    gained = _gained(parent, txid, limits)
    changes = (
        Change(path, "C", meta, operation.data.inline),
        Change(above, "K", gained, None),
    )
    effects = (Owned(session, path, True),) if operation.ephemeral else ()
    resized = _resized(above, parent, gained)
    transaction = Transaction(txid, changes, effects, (), resized, max(meta.length, 0), (), (NOTHING,))
    return Outcome(Code.OK, txid, path, meta), transaction


def _gained(parent: Meta, txid: int, limits: Limits) -> Meta:
    children = parent.children + 1
    pages = parent.pages
    if children > (pages or 1) * limits.page_names:
        pages = pages + 1 if pages else 2
    return _listing(parent, txid, parent.creations + 1, children, pages, 0)


def _listing(parent: Meta, txid: int, creations: int, children: int, pages: int, emptied: int) -> Meta:
    """Metadata of a parent whose list changed; ``_replace`` takes three times as long."""
    return Meta(
        parent.czxid,
        parent.mzxid,
        txid,
        parent.ctime,
        parent.mtime,
        parent.version,
        creations,
        parent.aversion,
        parent.owner,
        parent.length,
        children,
        parent.blob,
        parent.acl,
        parent.ttl,
        pages,
        emptied,
    )


def _lost(parent: Meta, now: int, txid: int, limits: Limits) -> Meta:
    """Metadata of a parent after it lost a child.

    A page is removed at half the number of names at which one is added, so that the number of pages
    does not oscillate.
    """
    children = parent.children - 1
    pages = parent.pages
    if pages and not children:
        pages = 0
    elif pages and 2 * children < (pages - 1) * limits.page_names:
        pages = pages - 1 if pages > 2 else 0
    emptied = now if parent.ttl == CONTAINER and not children else 0
    return _listing(parent, txid, parent.creations, children, pages, emptied)


def _resized(path: str, before: Meta, after: Meta | None) -> tuple[tuple[str, int], ...]:
    pages = 0 if after is None else after.pages
    return () if pages == before.pages else ((path, before.pages),)


def _set_data(context: Context, operation: SetData) -> Decision:
    state, session, now, txid, limits, _ = context
    path, data = operation.path, operation.data
    if paths.invalid(path):
        return context.refuse(_code_of_invalid(path))
    if not _is_valid(data, path, session, limits):
        return context.refuse(Code.BAD_ARGUMENTS)
    meta = state.node(path)
    if meta is None:
        return context.refuse(Code.NO_NODE)
    if context.denied(path, meta, acl.WRITE):
        return context.refuse(Code.NO_AUTH)
    if operation.version not in (-1, meta.version):
        return context.refuse(Code.BAD_VERSION)
    if _oversized(data, limits):
        return context.refuse(Code.TOO_LARGE)
    inline, blob, length = data
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
        length,
        meta.children,
        blob,
        meta.acl,
        meta.ttl,
        meta.pages,
        meta.emptied,
    )
    before, replaced = meta.length, meta.blob
    change = Change(path, "S", after, inline)
    garbage = (replaced,) if replaced and replaced != blob else ()
    grown = (length if length > 0 else 0) - (before if before > 0 else 0)
    was = (Replaced(meta.mzxid),)
    return Outcome(Code.OK, txid, "", after), Transaction(txid, (change,), (), garbage, (), grown, (), was)


def _delete(context: Context, operation: Delete) -> Decision:
    state = context.state
    path = operation.path
    if "/" not in path or "\0" in path or path in paths.RESERVED:
        return context.refuse(Code.BAD_ARGUMENTS)
    above = paths.parent(path)
    parent = state.node(above)
    if parent is None:
        return context.refuse(Code.NO_NODE)
    if context.denied(above, parent, acl.DELETE):
        return context.refuse(Code.NO_AUTH)
    meta = state.node(path)
    if meta is None:
        return context.refuse(Code.NO_NODE)
    if operation.version not in (-1, meta.version):
        return context.refuse(Code.BAD_VERSION)
    if meta.children:
        return context.refuse(Code.NOT_EMPTY)
    return _removed(context, path, meta, parent)


def _removed(context: Context, path: str, meta: Meta, parent: Meta) -> Decision:
    txid = context.txid
    above = paths.parent(path)
    lost = _lost(parent, context.now, txid, context.limits)
    changes = (Change(path, "D", None, None), Change(above, "K", lost, None))
    effects = (Owned(meta.owner, path, False),) if meta.owner else ()
    garbage = (meta.blob,) if meta.blob else ()
    resized = _resized(above, parent, lost)
    was = trimmed([Replaced(meta.mzxid, meta.version, meta.acl)])
    transaction = Transaction(txid, changes, effects, garbage, resized, min(-meta.length, 0), (), was)
    return Outcome(Code.OK, txid), transaction


def _reap(context: Context, operation: Reap) -> Decision:
    """Remove a znode that heartbeat found due, if it is still due."""
    state = context.state
    meta = state.node(operation.path)
    parent = state.node(paths.parent(operation.path))
    if meta is None or parent is None or not meta.due(context.now):
        return context.refuse(Code.NO_NODE)
    return _removed(context, operation.path, meta, parent)


def _set_acl(context: Context, operation: SetAcl) -> Decision:
    txid = context.txid
    if paths.invalid(operation.path):
        return context.refuse(_code_of_invalid(operation.path))
    kept = acl.fixed(operation.acl, context.who)
    if kept is None:
        return context.refuse(Code.INVALID_ACL)
    meta = context.state.node(operation.path)
    if meta is None:
        return context.refuse(Code.NO_NODE)
    if context.denied(operation.path, meta, acl.ADMIN):
        return context.refuse(Code.NO_AUTH)
    if operation.version not in (-1, meta.aversion):
        return context.refuse(Code.BAD_VERSION)
    after = meta._replace(acl=kept, aversion=wrapped(meta.aversion + 1))
    transaction = Transaction(txid, (Change(operation.path, "", after, None),))
    return Outcome(Code.OK, txid, "", after), transaction


def _check(context: Context, operation: Check) -> Decision:
    if paths.invalid(operation.path):
        return context.refuse(_code_of_invalid(operation.path))
    meta = context.state.node(operation.path)
    if meta is None:
        return context.refuse(Code.NO_NODE)
    if context.denied(operation.path, meta, acl.READ):
        return context.refuse(Code.NO_AUTH)
    if operation.version not in (-1, meta.version):
        return context.refuse(Code.BAD_VERSION)
    return Outcome(Code.OK, context.txid), None


class _Overlay:
    """The state inside a multi: the effects of its earlier operations over the state before."""

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


def _multi(context: Context, operation: Multi) -> Decision:
    txid = context.txid
    overlay = _Overlay(context.state)
    inner = context._replace(state=overlay)
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
            overlay.take(transaction)
            done.append(transaction)
    return Outcome(Code.OK, txid, results=tuple(results)), merged(txid, done)


def _close(context: Context, _: Close) -> Decision:
    """Close a session and delete its ephemerals.

    They are deleted in one transaction, as in ZooKeeper's ``closeSession``, or in several, each of
    which deletes ``limits.close_changes`` of them. The first one ends the session. Ephemerals have
    no children, so the order does not matter.
    """
    state, session, now, txid, limits, _who = context
    gone: list[Change] = []
    were: list[Replaced | None] = []
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
        were.append(Replaced(meta.mzxid, meta.version, meta.acl))
        grown += min(-meta.length, 0)
        if meta.blob:
            garbage.append(meta.blob)
    more = len(owned) > limits.close_changes and bool(gone)
    touched = [Change(path, "K", meta, None) for path, meta in parents.items()]
    resized = tuple(pair for path, meta in parents.items() for pair in _resized(path, first[path], meta))
    changes, effects = (*gone, *touched), (Closed(session, more),)
    transaction = Transaction(txid, changes, effects, tuple(garbage), resized, grown, (), trimmed(were))
    return Outcome(Code.OK, txid), transaction


HANDLERS: dict[type, Callable[[Context, Any], Decision]] = {
    SetData: _set_data,
    Create: _create,
    Delete: _delete,
    Multi: _multi,
    SetAcl: _set_acl,
    Check: _check,
    Reap: _reap,
    Close: _close,
}
"""The function that validates and applies each type of operation."""
