"""The client's reads and watches on a ZooKeeper server; writes are those of every client.

What :class:`~faaskeeper.session.calls.Calls` reads from records, this asks the server for. Paths
that end in ``real`` are in the whole tree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from functools import partial
from typing import Any, ParamSpec, cast

from faaskeeper.core import paths
from faaskeeper.core.children import Span
from faaskeeper.core.errors import Code
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Create, Outcome
from faaskeeper.core.znode import Meta
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NodeDoesntExistException,
    NoWatcherException,
    ZooKeeperException,
)
from faaskeeper.gateway import protocol
from faaskeeper.gateway.jute import Decoder
from faaskeeper.node import Node
from faaskeeper.session.arguments import kinds_of
from faaskeeper.session.calls import Calls, Part, ReadResult, Result
from faaskeeper.session.commands import Steps
from faaskeeper.session.reads import Found, Lost, Refused
from faaskeeper.watch import WatchCallbackType, WatchType
from faaskeeper.zookeeper import wire
from faaskeeper.zookeeper.session import Ask, Asks, ZooKeeperSession
from faaskeeper.zookeeper.watches import KINDS

P = ParamSpec("P")
_MODES = {"persistent": 0, "recursive": 1}


def _steps(function: Callable[P, Asks]) -> Callable[P, Steps]:
    """Steps that ask a server, where the type says that they read a deployment's stores.

    Nothing looks into them but the session that drives them.
    """
    return cast(Callable[P, Steps], function)


def _get(kind: int, decode: Callable[[Decoder], Any], real: str) -> Ask:
    return Ask(kind, wire.read(real), real, decode)


class ZooKeeperCalls(Calls):
    """The operations of a client of a ZooKeeper server."""

    def use(self, session: ZooKeeperSession) -> None:
        """Use a new session from now on."""
        self._session = session

    def _result(self, part: Part, outcome: Outcome) -> Result:
        if isinstance(part, Create) and outcome.code is Code.OK and outcome.meta is None and outcome.path:
            path = self.shown(outcome.path)  # a server answers some creates in a transaction without a stat
            load = self.load
            return Node(path, load=None if load is None else partial(load, path))
        return super()._result(part, outcome)

    def error(self, error: Refused | Lost) -> FaaSKeeperException:
        """The user's exception for a read's error; a chroot that does not exist is shown as it is."""
        if isinstance(error, Refused) and error.path == self.chroot and error.code is Code.NO_NODE:
            return NodeDoesntExistException(error.path)
        return super().error(error)

    # ---- reads -----------------------------------------------------------------------------

    @_steps
    def _get_data(self, path: str, real: str, watch: WatchCallbackType | None) -> Asks:
        data, meta = yield self._watched(protocol.GET_DATA, wire.data, real, "data", watch)
        return Node(path, data, meta.stat(), dataless=meta.length < 0)

    @_steps
    def _exists(self, path: str, real: str, watch: WatchCallbackType | None) -> Asks:
        ask = self._watched(protocol.EXISTS, wire.stat, real, "data", watch)
        meta: Meta | None = yield ask._replace(missing=True)
        return None if meta is None else Node(path, None, meta.stat())

    @_steps
    def _record(self, real: str) -> Asks:
        """The whole record, of three reads: what changes in between is in one and not in another."""
        children, _ = yield _get(protocol.GET_CHILDREN2, wire.children, real)
        acl, _ = yield Ask(protocol.GET_ACL, wire.named(real), real, wire.acl)
        data, meta = yield _get(protocol.GET_DATA, wire.data, real)
        return Record(meta.mzxid, meta._replace(acl=acl), data, children, 0, 0, "")

    @_steps
    def _get_children(
        self, path: str, real: str, include_data: bool, watch: WatchCallbackType | None
    ) -> Asks:
        names, meta = yield self._watched(protocol.GET_CHILDREN2, wire.children, real, "children", watch)
        if not include_data:
            return self._children(path, Found(meta, b"", names))
        nodes: list[Node] = []
        for name in names:
            ask = _get(protocol.GET_DATA, wire.data, paths.child(real, name))
            try:
                data, meta = yield ask
            except Refused:
                continue  # deleted meanwhile, or not to be read
            nodes.append(Node(paths.child(path, name), data, meta.stat(), dataless=meta.length < 0))
        return nodes

    @_steps
    def _with_stat(self, real: str, watch: WatchCallbackType | None) -> Asks:
        names, meta = yield self._watched(protocol.GET_CHILDREN2, wire.children, real, "children", watch)
        return names, meta.stat()

    def all_children_number(self, path: str) -> Steps:
        """Returns the number of nodes below one, at any depth."""
        return self._read(self._number(self.there(path)))

    @_steps
    def _number(self, real: str) -> Asks:
        ask = Ask(protocol.GET_ALL_CHILDREN_NUMBER, wire.named(real), real, Decoder.number)
        return (yield ask)

    def get_ephemerals(self, prefix: str, session: int, owned: Collection[str]) -> Steps:
        """Returns the paths of this session's ephemerals that begin with a prefix."""
        return self._read(self._ephemerals(self.chroot + prefix))

    @_steps
    def _ephemerals(self, prefix: str) -> Asks:
        found = yield Ask(protocol.GET_EPHEMERALS, wire.named(prefix), prefix, wire.names)
        return [self.shown(each) for each in found]

    @_steps
    def _get_acls(self, real: str) -> Asks:
        acl, meta = yield Ask(protocol.GET_ACL, wire.named(real), real, wire.acl)
        return list(acl), meta.stat()

    def sync(self, path: str) -> Steps:
        """Returns the path once the server has all that was committed before."""
        return self._read(self._synced(path, self.real(path)))

    @_steps
    def _synced(self, path: str, real: str) -> Asks:
        yield Ask(protocol.SYNC, wire.named(real), real, Decoder.text)
        return path

    @_steps
    def who_am_i(self) -> Asks:
        """Returns the identities that the server has for this client."""
        return (yield Ask(protocol.WHO_AM_I, b"", "/", wire.identities))

    def children_part(self, path: str, part: Span) -> Steps:
        """All children: a server has no part of a list to give."""
        return self._read(self._children_part(path, self.there(path), part))

    @_steps
    def _children_part(self, path: str, real: str, part: Span) -> Asks:
        names, meta = yield _get(protocol.GET_CHILDREN2, wire.children, real)
        return self._children(path, Found(meta, b"", names)), None

    @_steps
    def _read_together(self, shown: Sequence[str], reads: Sequence[tuple[str, str]]) -> Asks:
        """What a server reads together it has as of one transaction; it has no exists among that."""
        kinds = {"data": protocol.GET_DATA, "children": protocol.GET_CHILDREN}
        places = [place for place, (kind, _) in enumerate(reads) if kind in kinds]
        results: list[ReadResult] = [None] * len(reads)
        if places:
            body = wire.reads([(kinds[reads[place][0]], reads[place][1]) for place in places])
            decode = partial(self._answers, [(shown[place], reads[place]) for place in places])
            answers = yield Ask(protocol.MULTI_READ, body, "/", decode)
            for place, answer in zip(places, answers, strict=True):
                results[place] = answer
        for place, (kind, real) in enumerate(reads):
            if kind not in kinds:
                ask = _get(protocol.EXISTS, wire.stat, real)
                meta: Meta | None = yield ask._replace(missing=True)
                results[place] = None if meta is None else Node(shown[place], None, meta.stat())
        return results

    def _answers(self, reads: Iterable[tuple[str, tuple[str, str]]], decoder: Decoder) -> list[ReadResult]:
        each = iter(reads)

        def result(kind: int) -> ReadResult:
            path, (_, real) = next(each)
            if kind == -1:
                code = wire.code_of(decoder.number()) or Code.RUNTIME_INCONSISTENCY
                error = self.error(Refused(code, real))
                if isinstance(error, ZooKeeperException):
                    return error
                raise error
            if kind == protocol.GET_DATA:
                data, meta = wire.data(decoder)
                return Node(path, data, meta.stat(), dataless=meta.length < 0)
            return self._children(path, Found(Meta(0, 0, 0, 0, 0), b"", wire.names(decoder)))

        return wire.several(decoder, result)

    # ---- watches ---------------------------------------------------------------------------

    def _watched(
        self,
        asked: int,
        decode: Callable[[Decoder], Any],
        real: str,
        kind: str,
        watch: WatchCallbackType | None,
    ) -> Ask:
        watched = None if watch is None else (kind, real, watch)
        return Ask(asked, wire.read(real, watch is not None), real, decode, watched)

    def add_watch(self, path: str, watch: WatchCallbackType, recursive: bool) -> Steps:
        """Sets a watch that stays when it fires."""
        kind = "recursive" if recursive else "persistent"
        return self._read(self._add_watch(self.there(path), kind, self.watcher(watch)))

    @_steps
    def _add_watch(self, real: str, kind: str, watch: WatchCallbackType) -> Asks:
        body = wire.named(real, _MODES[kind])
        yield Ask(protocol.ADD_WATCH, body, real, lambda _: None, (kind, real, watch))

    def remove_watches(
        self, path: str, kind: WatchType | Sequence[WatchType] | None, watch: WatchCallbackType | None
    ) -> Steps:
        """Removes watches; raises NoWatcherException if none matches."""
        self.check_watches(path, kind, watch)
        return self._read(self._removed(path, self.real(path), kinds_of(kind), self._watcher(watch)))

    @_steps
    def _removed(self, path: str, real: str, kinds: list[str], watch: WatchCallbackType | None) -> Asks:
        """The server's watch ends with the last one of its path: it does not tell them apart."""
        watches = self._session.watches
        watches.remove(watches.found(real, kinds, watch))
        if not watches.found(real, KINDS, None):
            body = wire.named(real, wire.ANY_WATCH)
            try:
                yield Ask(protocol.REMOVE_WATCHES, body, real, lambda _: None)
            except ZooKeeperException:
                pass  # it has fired meanwhile

    def check_watches(
        self, path: str, kind: WatchType | Sequence[WatchType] | None, watch: WatchCallbackType | None
    ) -> None:
        """Raise NoWatcherException unless the session has a watch that matches."""
        found = self._session.watches.found(self.real(path), kinds_of(kind), self._watcher(watch))
        if not found:
            raise NoWatcherException(path)
