"""Requests that need no writer: the reads and watches of ZooKeeper's protocol.

Each is a generator as in :mod:`faaskeeper.session.rules`: it yields commands and returns the record
of its reply, or raises :class:`~faaskeeper.gateway.protocol.Refused`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

from faaskeeper.core import acl as acls
from faaskeeper.core import paths
from faaskeeper.core.acl import Identity
from faaskeeper.core.errors import Code
from faaskeeper.core.firing import FIRED_BY
from faaskeeper.core.records import Record
from faaskeeper.core.znode import OPEN_ACL, Meta
from faaskeeper.gateway import protocol
from faaskeeper.gateway.jute import INT, string, strings
from faaskeeper.gateway.protocol import About, Read, ReadTogether, Refused, SetWatches, refusal
from faaskeeper.gateway.watches import SharedRules
from faaskeeper.session.commands import Steps
from faaskeeper.session.reads import Answer, Found, Lost, Reads
from faaskeeper.session.reads import Refused as NotReadable
from faaskeeper.session.usage import counted_by
from faaskeeper.watch import WatchCallbackType, WatchedEvent, WatchEventType

_log = logging.getLogger(__name__)

_KINDS = {protocol.GET_DATA: "data", protocol.EXISTS: "exists"}

_CHILDREN, _DATA, _ANY, _PERSISTENT, _RECURSIVE = range(1, 6)
_WATCHED: dict[int, tuple[str, ...]] = {
    _CHILDREN: ("children",),
    _DATA: ("data", "exists"),
    _ANY: tuple(FIRED_BY),
    _PERSISTENT: ("persistent",),
    _RECURSIVE: ("recursive",),
}
"""Kinds of watch by the numbers of ``Watcher.WatcherType``."""
_NO_NODE = protocol.ERRORS[Code.NO_NODE], b""
_NO_AUTH = protocol.ERRORS[Code.NO_AUTH], b""


class Reader:
    """Reads of one connection. ``watcher`` gets its watches' events, ``who``: its identities."""

    def __init__(
        self, rules: SharedRules, watcher: WatchCallbackType, who: tuple[Identity, ...], session: int
    ) -> None:
        self._rules = rules
        self._reads = Reads(rules, who)
        self._watcher = watcher
        self._session = session

    # ---- one znode -----------------------------------------------------------------------

    def read(self, request: Read) -> Steps:
        """getData, exists, getChildren, getChildren2."""
        path, kind = request.path, request.kind
        if kind == protocol.EXISTS and "\0" in path:
            raise refusal(Code.BAD_ARGUMENTS)
        if paths.invalid(path):
            raise _no_node()
        watch = self._watcher if request.watch else None
        if kind == protocol.EXISTS:
            meta: Meta | None = yield from self._reads.exists(path, watch)
            if meta is None:
                raise _no_node()
            return protocol.stat(meta)
        read = self._reads.data if kind == protocol.GET_DATA else self._reads.children
        found: Found = yield from _as_refused(read(path, watch))
        return _encoded(kind, found)

    def at_once(self, kind: int, path: str, record: Record | None) -> tuple[int, bytes] | None:
        """Error and record of the reply to a plain read whose path's record may be shown as it is.

        None where it takes more: the path is invalid, the data is in a blob or has to be counted,
        the children are in pages.
        """
        meta = None if record is None else record.meta
        if record is None or meta is None:
            return None if paths.invalid(path) else _NO_NODE
        if "//" in path:
            return None  # a page of children has a record, too
        if kind == protocol.EXISTS:
            return 0, protocol.stat(meta)
        if meta.acl is not OPEN_ACL and not acls.permits(meta.acl, acls.READ, self._reads.who):
            return _NO_AUTH
        if kind == protocol.GET_DATA:
            if meta.blob or counted_by(path):
                return None
            return 0, protocol.data(record.data, meta)
        return None if meta.pages else (0, _children(kind, record.children, meta))

    # ---- several -------------------------------------------------------------------------

    def read_plainly(self, requests: Sequence[Read]) -> Steps:
        """Several reads without watches, as of one transaction; returns (error, record) of each."""
        valid = [not paths.invalid(each.path) for each in requests]
        wanted = [
            (_KINDS.get(each.kind, "children"), each.path)
            for each, fits in zip(requests, valid, strict=True)
            if fits
        ]
        answers: Iterator[Answer] = iter((yield from self._reads.together(wanted)))
        return [
            _result(each, next(answers) if fits else None) for each, fits in zip(requests, valid, strict=True)
        ]

    def read_together(self, request: ReadTogether) -> Steps:
        """multiRead."""
        results = yield from self.read_plainly(request.reads)
        kinds = (each.kind for each in request.reads)
        return protocol.together([(kind, *result) for kind, result in zip(kinds, results, strict=True)])

    # ---- about a znode -------------------------------------------------------------------

    def about(self, request: About, owned: Iterable[str]) -> Steps:
        """getACL, sync, check- and removeWatches, addWatch, getEphemerals, getAllChildrenNumber,
        whoAmI.

        ``owned``: paths that may be the session's ephemerals.
        """
        return (yield from self._about[request.kind](self, request, owned))

    def _get_acl(self, request: About, _: object) -> Steps:
        if paths.invalid(request.path):
            raise _no_node()
        acl, meta = yield from _as_refused(self._reads.acl(request.path))
        return protocol.acl(acl) + protocol.stat(meta)

    def _sync(self, request: About, _: object) -> Steps:
        yield from self._rules.sync()
        return string(request.path)

    def _check_watches(self, request: About, _: object) -> Steps:
        yield from ()
        if request.path and "/" not in request.path:
            raise Refused(protocol.MARSHALLING_ERROR)
        if not self._rules.found(request.path, _kinds_of(request.number), self._watcher):
            raise Refused(protocol.NO_WATCHER)
        return b""

    def _remove_watches(self, request: About, _: object) -> Steps:
        kinds = _kinds_of(request.number)
        removed = yield from self._rules.remove_watches(request.path, kinds, self._watcher)
        if not removed:
            raise Refused(protocol.NO_WATCHER)
        return b""

    def _add_watch(self, request: About, _: object) -> Steps:
        if request.number not in (0, 1):
            raise Refused(protocol.MARSHALLING_ERROR)
        if paths.invalid(request.path):
            return INT.pack(0)  # nothing ever happens there
        kind = "recursive" if request.number else "persistent"
        yield from self._rules.add_watch(request.path, kind, self._watcher)
        return INT.pack(0)

    def _ephemerals(self, request: About, owned: Iterable[str]) -> Steps:
        mine = (path for path in owned if path.startswith(request.path))
        return strings((yield from self._reads.owned_by(self._session, mine)))

    def _number(self, request: About, _: object) -> Steps:
        if paths.invalid(request.path):
            raise _no_node()
        return INT.pack((yield from _as_refused(self._reads.number_below(request.path))))

    def _who_am_i(self, _: About, __: object) -> Steps:
        yield from ()
        return protocol.identities(acls.named(self._reads.who))

    _about: dict[int, Callable[..., Steps]] = {  # noqa: RUF012
        protocol.GET_ACL: _get_acl,
        protocol.SYNC: _sync,
        protocol.CHECK_WATCHES: _check_watches,
        protocol.REMOVE_WATCHES: _remove_watches,
        protocol.ADD_WATCH: _add_watch,
        protocol.GET_EPHEMERALS: _ephemerals,
        protocol.GET_ALL_CHILDREN_NUMBER: _number,
        protocol.WHO_AM_I: _who_am_i,
    }

    # ---- coming back -----------------------------------------------------------------------

    def set_watches(self, request: SetWatches) -> Steps:
        """Set the watches of a client that has reconnected; send it the events that it missed.

        The rules are ``DataTree.setWatches``' of release 3.8.
        """
        for kind in ("data", "exists", "children"):
            missed = partial(_MISSED[kind], request.zxid)
            for path in getattr(request, kind):
                if not paths.invalid(path):
                    yield from self._watch_again(path, kind, missed)
                elif (event := missed(None)) is not None:
                    self._watcher(WatchedEvent(event, path, self._rules.seen))
        for kind in ("persistent", "recursive"):
            for path in getattr(request, kind):
                if not paths.invalid(path):
                    yield from self._rules.add_watch(path, kind, self._watcher)
        return b""

    def _watch_again(
        self, path: str, kind: str, missed: Callable[[Meta | None], WatchEventType | None]
    ) -> Steps:
        record: Record | None = yield from self._rules.read(path)
        event = missed(None if record is None else record.meta)
        if event is None:
            record = yield from self._rules.watch(path, kind, self._watcher)
            event = missed(None if record is None else record.meta)
            if event is not None:
                yield from self._rules.remove_watches(path, (kind,), self._watcher)
        if event is not None:
            self._watcher(WatchedEvent(event, path, self._rules.seen))


def _missed_data(zxid: int, meta: Meta | None) -> WatchEventType | None:
    if meta is None:
        return WatchEventType.NODE_DELETED
    return WatchEventType.NODE_DATA_CHANGED if meta.mzxid > zxid else None


def _missed_exists(_: int, meta: Meta | None) -> WatchEventType | None:
    return None if meta is None else WatchEventType.NODE_CREATED


def _missed_children(zxid: int, meta: Meta | None) -> WatchEventType | None:
    if meta is None:
        return WatchEventType.NODE_DELETED
    return WatchEventType.NODE_CHILDREN_CHANGED if meta.pzxid > zxid else None


_MISSED: dict[str, Callable[[int, Meta | None], WatchEventType | None]] = {
    "data": _missed_data,
    "exists": _missed_exists,
    "children": _missed_children,
}


def _as_refused(steps: Steps) -> Steps:
    """Steps whose errors are ZooKeeper's."""
    try:
        return (yield from steps)
    except NotReadable as refused:
        raise refusal(refused.code) from None
    except Lost as error:
        raise Refused(_lost(error)) from None


def _lost(error: Lost) -> int:
    _log.error("%s", error)
    return protocol.DATA_INCONSISTENCY


def _encoded(kind: int, found: Found) -> bytes:
    if kind == protocol.GET_DATA:
        return protocol.data(found.data, found.meta)
    if kind == protocol.EXISTS:
        return protocol.stat(found.meta)
    return _children(kind, found.children, found.meta)


def _children(kind: int, children: Sequence[str], meta: Meta) -> bytes:
    names = strings(children)
    return names if kind == protocol.GET_CHILDREN else names + protocol.stat(meta)


def _result(request: Read, answer: Answer) -> tuple[int, bytes]:
    """Error and record of one read among several."""
    if isinstance(answer, Found):
        return 0, _encoded(request.kind, answer)
    if isinstance(answer, Lost):
        return _lost(answer), b""
    return protocol.ERRORS[Code.NO_NODE if answer is None else answer.code], b""


def _no_node() -> Refused:
    return refusal(Code.NO_NODE)


def _kinds_of(number: int) -> tuple[str, ...]:
    kinds: Any = _WATCHED.get(number)
    if kinds is None:
        raise Refused(protocol.MARSHALLING_ERROR)
    return tuple(kinds)
