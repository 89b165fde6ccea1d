"""What is answered without the writer: the reads and watches of ZooKeeper's protocol.

Each is a generator in the manner of :mod:`faaskeeper.client.rules`, which yields commands and returns the
record of its reply, or raises :class:`~faaskeeper.gateway.protocol.Refused`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from faaskeeper.client import usage
from faaskeeper.client.rules import names_of
from faaskeeper.core import acl as acls
from faaskeeper.core import paths
from faaskeeper.core.acl import Identity
from faaskeeper.core.blobs import TRIES, lost
from faaskeeper.core.errors import Code
from faaskeeper.core.records import Record
from faaskeeper.core.watches import FIRED_BY
from faaskeeper.core.znode import OPEN_ACL, Meta
from faaskeeper.gateway import protocol
from faaskeeper.gateway.hub import ReadBlob, SharedRules, Steps
from faaskeeper.gateway.jute import INT, string, strings
from faaskeeper.gateway.protocol import About, Read, ReadTogether, Refused, SetWatches, refusal
from faaskeeper.watch import WatchCallbackType, WatchedEvent, WatchEventType

_log = logging.getLogger(__name__)

_MANY = 100
"""Znodes that are read in one call."""

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


class Reader:
    """Reads for one connection, whose watches call ``watcher``. ``who``: the identities it has proven."""

    def __init__(
        self, rules: SharedRules, watcher: WatchCallbackType, who: tuple[Identity, ...], session: int
    ) -> None:
        self._rules = rules
        self._watcher = watcher
        self._who = who
        self._session = session

    # ---- one znode -----------------------------------------------------------------------

    def read(self, request: Read) -> Steps:
        """getData, exists, getChildren, getChildren2."""
        path = request.path
        kind = _KINDS.get(request.kind, "children")
        if request.kind == protocol.EXISTS and "\0" in path:
            raise refusal(Code.BAD_ARGUMENTS)
        if paths.invalid(path):
            raise _no_node()
        if request.watch:
            allowed = None if kind == "exists" else self._allowed(acls.READ)
            reading = self._rules.watch(path, kind, self._watcher, allowed)
        else:
            reading = self._rules.read(path)
        if request.kind == protocol.GET_DATA and usage.counted_by(path):
            reading = usage.read(self._rules, path, self._who, reading)
        record: Record | None = yield from reading
        if request.kind == protocol.EXISTS:
            return protocol.stat(_meta(record))
        if request.kind == protocol.GET_DATA:
            return (yield from self._data(path, record))
        record = yield from self._with_names(path, record)
        names = strings(self._readable(record).children)
        return names if request.kind == protocol.GET_CHILDREN else names + protocol.stat(_meta(record))

    def _data(self, path: str, record: Record | None) -> Steps:
        for _ in range(TRIES):
            found = self._readable(record)
            meta = _meta(found)
            if not meta.blob:
                return protocol.data(found.data, meta)
            data: bytes | None = yield ReadBlob(meta.blob, meta.length)
            if data is not None:
                return protocol.data(data, meta)
            # Swept, if the znode was changed long enough ago: then it has other data by now.
            record = yield from self._rules.read(path)
        raise _lost(path, meta)

    def _with_names(self, path: str, record: Record | None) -> Steps:
        """The record with the names of all children, also where they are kept in pages."""
        if record is None or record.meta is None or not record.meta.pages:
            return record
        self._readable(record)
        found = yield from self._rules.snapshot([path], [path])
        record = found[path]
        return None if record is None else record._replace(children=names_of(path, found))

    def _readable(self, record: Record | None) -> Record:
        meta = _meta(record)
        if meta.acl is not OPEN_ACL:
            self._allowed(acls.READ)(meta)
        if record is None:
            raise _no_node()
        return record

    def _allowed(self, permission: int) -> Callable[[Meta], None]:
        def allowed(meta: Meta) -> None:
            if not acls.permits(meta.acl, permission, self._who):
                raise refusal(Code.NO_AUTH)

        return allowed

    # ---- several -------------------------------------------------------------------------

    def read_plainly(self, requests: Sequence[Read]) -> Steps:
        """Several reads without watches, as of one transaction; returns (error, record) of each."""
        return (yield from self._together(requests, self._one_of))

    def read_together(self, request: ReadTogether) -> Steps:
        """multiRead."""
        results = yield from self._together(request.reads, self._one_of)
        kinds = (each.kind for each in request.reads)
        return protocol.together([(kind, *result) for kind, result in zip(kinds, results, strict=True)])

    def _together(
        self, reads: Sequence[Read], one: Callable[[Read, dict[str, Record | None]], Steps]
    ) -> Steps:
        valid = [each for each in reads if not paths.invalid(each.path)]
        listed = [each.path for each in valid if each.kind in (protocol.GET_CHILDREN, protocol.GET_CHILDREN2)]
        data_of = [each.path for each in valid if each.kind == protocol.GET_DATA]
        wanted = list(dict.fromkeys(each.path for each in valid))
        for last in range(TRIES):
            found = yield from usage.snapshot(self._rules, wanted, listed, data_of, self._who)
            results: list[tuple[int, bytes]] = []
            for each in reads:
                try:
                    record = yield from one(each, found)
                except Refused as refused:
                    results.append((refused.error, b""))
                    continue
                if record is not None:
                    results.append((0, record))
                elif last < TRIES - 1:
                    break  # its blob was swept, if what was read is long outdated
                else:
                    results.append((_lost(each.path, _meta(found[each.path])).error, b""))
            else:
                return results
        raise AssertionError("the last try has a result for each")

    def _one_of(self, read: Read, found: dict[str, Record | None]) -> Steps:
        """One read of a snapshot; None where its blob is not there."""
        record = found.get(read.path)
        if read.kind == protocol.EXISTS:
            return protocol.stat(_meta(record))
        record = self._readable(record)
        meta = _meta(record)
        if read.kind == protocol.GET_DATA:
            data: bytes | None = record.data
            if meta.blob:
                data = yield ReadBlob(meta.blob, meta.length)
            return None if data is None else protocol.data(data, meta)
        names = strings(names_of(read.path, found))
        return names if read.kind == protocol.GET_CHILDREN else names + protocol.stat(meta)

    # ---- about a znode -------------------------------------------------------------------

    def about(self, request: About, owned: Iterable[str]) -> Steps:
        """getACL, sync, check- and removeWatches, addWatch, getEphemerals, getAllChildrenNumber, whoAmI.

        ``owned``: paths that may be the session's ephemerals.
        """
        return (yield from self._about[request.kind](self, request, owned))

    def _get_acl(self, request: About, _: object) -> Steps:
        if paths.invalid(request.path):
            raise _no_node()
        record: Record | None = yield from self._rules.read(request.path)
        meta = _meta(record)
        self._allowed(acls.READ | acls.ADMIN)(meta)
        return protocol.acl(acls.masked(acls.held(request.path, meta.acl), self._who)) + protocol.stat(meta)

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
        mine = sorted(path for path in owned if path.startswith(request.path))
        alive: list[str] = []
        for at in range(0, len(mine), _MANY):
            some = mine[at : at + _MANY]
            found: dict[str, Record | None] = yield from self._rules.snapshot(some)
            for path in some:
                record = found[path]
                meta = None if record is None else record.meta
                if meta is not None and meta.owner == self._session:
                    alive.append(path)
        return strings(alive)

    def _number(self, request: About, _: object) -> Steps:
        if paths.invalid(request.path):
            raise _no_node()
        record: Record | None = yield from self._rules.read(request.path)
        self._readable(record)
        counted: usage.Usage = yield from usage.measure(self._rules, request.path)
        return INT.pack(max(counted.znodes - 1, 0))

    def _who_am_i(self, _: About, __: object) -> Steps:
        yield from ()
        shown = [
            (scheme, name.split(":", 1)[0] if scheme == "digest" else name) for scheme, name in self._who
        ]
        return protocol.identities(shown)

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
        """Watch what a client watched where it was connected before; tell it at once what it has missed.

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


def _lost(path: str, meta: Meta) -> Refused:
    _log.error("%s", lost(path, meta.blob))
    return Refused(protocol.DATA_INCONSISTENCY)


def _no_node() -> Refused:
    return refusal(Code.NO_NODE)


def _meta(record: Record | None) -> Meta:
    """Metadata of a znode; refuses where there is none."""
    if record is None or record.meta is None:
        raise _no_node()
    return record.meta


def _kinds_of(number: int) -> tuple[str, ...]:
    kinds: Any = _WATCHED.get(number)
    if kinds is None:
        raise Refused(protocol.MARSHALLING_ERROR)
    return tuple(kinds)
