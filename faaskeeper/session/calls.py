"""Turns the calls of a client's API into operations and steps, for every kind of client.

Input is validated at once; nothing here waits or sends. Paths in arguments are the user's, below
the client's chroot; the resulting operations and steps hold paths in the whole tree.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol, Union

from faaskeeper.core import acl as acls
from faaskeeper.core import paths
from faaskeeper.core.acl import Credential, Identity
from faaskeeper.core.children import Span
from faaskeeper.core.errors import Code
from faaskeeper.core.records import Record
from faaskeeper.core.requests import (
    Check,
    Create,
    Data,
    Delete,
    End,
    Multi,
    Operation,
    Outcome,
    SetAcl,
    SetData,
    inline,
)
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import MAX_DATA_BYTES, OPEN_ACL, Acl, Meta, Stat
from faaskeeper.exceptions import (
    FaaSKeeperException,
    MalformedInputException,
    NoAuthException,
    NodeDoesntExistException,
    NodeExistsException,
    NoWatcherException,
    ProviderException,
    RolledBackException,
    TooLargeException,
    ZooKeeperException,
)
from faaskeeper.node import Node
from faaskeeper.session.arguments import (
    Below,
    NodeKind,
    acl_of,
    check,
    check_version,
    error_of,
    kinds_of,
    raise_error,
    ttl_of,
)
from faaskeeper.session.commands import Steps
from faaskeeper.session.reads import TOGETHER, Answer, Found, Lost, Reads, Refused, readable
from faaskeeper.session.rules import Rules
from faaskeeper.session.usage import counted_by
from faaskeeper.watch import WatchCallbackType, WatchType

if TYPE_CHECKING:
    from faaskeeper.core.acl import SuperUser
    from faaskeeper.core.drivers.storage import ObjectStore
    from faaskeeper.session.history import Moment, Revision, Walk

Part = Union[Create, SetData, Delete, Check]
Result = Union[Node, bool, FaaSKeeperException]
ReadResult = Union[Node, list[Node], ZooKeeperException, None]
WITH_DATA = 16
"""Children that are read with their data in one call while they are iterated over: 16 MiB at most."""


class Access(Protocol):
    """What calls need to know of the deployment: see :class:`~faaskeeper.core.connection.Connection`."""

    @property
    def blobs(self) -> ObjectStore | None: ...
    @property
    def inline_bytes(self) -> int: ...
    @property
    def peer(self) -> str: ...
    @property
    def super_digest(self) -> SuperUser: ...


class Write(NamedTuple):
    """An operation to send. ``what`` names it in errors.

    ``finish`` converts its outcome to the user's result, or raises the operation's error.
    """

    operation: Operation
    what: str
    finish: Callable[[Outcome], Any]


class Identities:
    """A client's credentials, and the identities (``who``) that they prove."""

    def __init__(self) -> None:
        self.credentials: tuple[Credential, ...] = ()
        self.who: tuple[Identity, ...] = ()

    def add(self, scheme: str, credential: str) -> None:
        """Add a credential, used from now on. Raises MalformedInputException."""
        if scheme != "digest":
            raise MalformedInputException(f"{scheme!r} is not a scheme to authenticate by: use 'digest'")
        if not isinstance(credential, str) or ":" not in credential:
            raise MalformedInputException("a credential of the scheme 'digest' must be 'user:password'")
        if (scheme, credential) not in self.credentials:
            shown = (*self.credentials, (scheme, credential))
            if acls.size_of(shown) > acls.MAX_CREDENTIALS_BYTES:
                most = acls.MAX_CREDENTIALS_BYTES
                raise MalformedInputException(f"a client's credentials may have at most {most} bytes in all")
            self.credentials = shown

    def prove(self, connection: Access | None) -> None:
        """Compute the identities that the credentials prove to a deployment."""
        if connection is not None:
            here: tuple[Identity, ...] = (("ip", connection.peer),) if connection.peer else ()
            self.who = (*here, *acls.identities(self.credentials, connection.super_digest, by=id(self)))


class Calls:
    """The operations of one client. :meth:`begin` sets the session that they are for.

    ``load`` reads the Stat of a listed child when it is first accessed (None: it cannot be read).
    """

    kind = NodeKind
    counted_by = staticmethod(counted_by)

    def __init__(self, chroot: str, load: Callable[[str], Stat] | None = None) -> None:
        check(chroot)
        self.load = load
        self.chroot = "" if chroot == "/" else chroot
        self.identities = Identities()
        self._reads = Reads(Rules(0, lambda callback, event: None), ())
        self._rules = Rules(0, lambda callback, event: None)
        self._most = MAX_DATA_BYTES

    def begin(self, rules: Rules, connection: Access) -> None:
        """Use a new session from now on."""
        self._rules = rules
        self._most = MAX_DATA_BYTES if connection.blobs is not None else connection.inline_bytes
        self.prove(connection)

    def prove(self, connection: Access | None) -> None:
        """Use the client's present credentials from now on."""
        self.identities.prove(connection)
        self._reads = Reads(self._rules, self.identities.who)

    # ---- paths ---------------------------------------------------------------------------

    def real(self, path: str, sequential: bool = False) -> str:
        """The path in the whole tree. Raises MalformedInputException."""
        check(f"{path}0" if sequential else path)
        if not self.chroot:
            return path
        real = self.chroot if path == "/" and not sequential else self.chroot + path
        check(f"{real}0" if sequential else real)
        return real

    def there(self, path: str) -> str:
        """The path in the whole tree, of a node that can exist. Raises MalformedInputException."""
        if not isinstance(path, str):
            return self.real(path)
        wrong = paths.invalid(path)
        if wrong is not None:
            raise MalformedInputException(wrong)
        return self.real(path) if self.chroot else path

    def shown(self, real: str) -> str:
        """The user's path, below the chroot, for a path in the whole tree."""
        return real[len(self.chroot) :] or "/" if self.chroot else real

    def watcher(self, callback: WatchCallbackType) -> WatchCallbackType:
        """A watch's callback in the form that the session keeps."""
        return Below(self.chroot, callback) if self.chroot else callback

    def _watcher(self, callback: WatchCallbackType | None) -> WatchCallbackType | None:
        return None if callback is None else self.watcher(callback)

    # ---- operations ----------------------------------------------------------------------

    def create_part(self, path: str, value: bytes, kind: NodeKind) -> Create:
        """A validated create."""
        return self._create(self.real(path, kind.sequential), value, kind)

    def _create(self, real: str, value: bytes, kind: NodeKind) -> Create:
        data, ttl = self._data(value), ttl_of(kind)
        return Create(real, data, kind.ephemeral, kind.sequential, acl_of(kind.acl), ttl)

    def set_part(self, path: str, value: bytes, version: int) -> SetData:
        """A validated set."""
        real = self.real(path)
        check_version(version)
        return SetData(real, self._data(value), version)

    def delete_part(self, path: str, version: int) -> Delete:
        """A validated delete."""
        real = self.real(path)
        check_version(version)
        return Delete(real, version)

    def check_part(self, path: str, version: int) -> Check:
        """A validated check, for a transaction."""
        real = self.real(path)
        check_version(version)
        return Check(real, version)

    def _data(self, value: bytes) -> Data:
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise MalformedInputException(f"data must be bytes, not {type(value).__name__}")
        data = bytes(value)
        if len(data) > self._most:
            where = "a node" if self._most == MAX_DATA_BYTES else "this deployment"
            raise TooLargeException(f"data of {len(data)} bytes: {where} holds at most {self._most}")
        return inline(data)

    # ---- writes --------------------------------------------------------------------------

    def create(self, path: str, value: bytes, kind: NodeKind) -> Write:
        """Result: the Node; the path of a sequential one includes its number."""
        return self._creation(path, self.create_part(path, value, kind))

    def _creation(self, path: str, operation: Create) -> Write:
        return Write(operation, f"create {path}", partial(self._created, path))

    def _created(self, path: str, outcome: Outcome) -> Node:
        raise_error(outcome, path)
        return _known(self.shown(outcome.path), _meta(outcome))

    def with_ancestors(self, path: str, write: Write) -> tuple[list[Write], Write]:
        """Creates for all ancestors of a path, top down, and its own create, to be sent last.

        Any of the ancestors may exist. Another error of one is that of the last create, too.
        """
        failed: list[FaaSKeeperException] = []

        def above(finish: Callable[[Outcome], Any], outcome: Outcome) -> Any:
            try:
                return finish(outcome)
            except FaaSKeeperException as error:
                if not isinstance(error, NodeExistsException):
                    failed.append(error)
                raise

        def last(outcome: Outcome) -> Any:
            if failed:  # by the session's order, their outcomes came before
                raise failed[0]
            return write.finish(outcome)

        real = self.real(path, True)
        missing = [each for each in paths.upwards(paths.parent(real)) if each != "/"]
        creates = [self._creation(each, self._create(each, b"", NodeKind())) for each in reversed(missing)]
        ancestors = [each._replace(finish=partial(above, each.finish)) for each in creates]
        return ancestors, write._replace(finish=last)

    def set_data(self, path: str, value: bytes, version: int) -> Write:
        """Result: the Node."""
        operation = self.set_part(path, value, version)
        return Write(operation, f"set_data {path}", partial(self._changed, path, version))

    def _changed(self, path: str, version: int, outcome: Outcome) -> Node:
        raise_error(outcome, path, version)
        return _known(path, _meta(outcome))

    def delete(self, path: str, version: int) -> Write:
        """Result: None."""
        operation = self.delete_part(path, version)
        return Write(operation, f"delete {path}", lambda outcome: raise_error(outcome, path, version))

    def set_acls(self, path: str, acl: Sequence[Acl], version: int) -> Write:
        """Result: the Node."""
        real = self.real(path)
        check_version(version)
        operation = SetAcl(real, acl_of(acl), version)
        return Write(operation, f"set_acls {path}", partial(self._changed, path, version))

    def commit(self, parts: Sequence[Part]) -> Write:
        """Result: a Result for each part."""
        return Write(Multi(tuple(parts)), "the transaction", partial(self._committed, tuple(parts)))

    def _committed(self, parts: Sequence[Part], outcome: Outcome) -> list[Result]:
        return [self._result(part, each) for part, each in zip(parts, outcome.results, strict=True)]

    def _result(self, part: Part, outcome: Outcome) -> Result:
        """The result of one operation of a transaction: its error is returned, not raised."""
        if outcome.code is Code.RUNTIME_INCONSISTENCY:
            return RolledBackException("an operation before it failed")
        try:
            raise_error(outcome, self.shown(part.path), getattr(part, "version", -1))
        except FaaSKeeperException as error:
            return error
        if outcome.meta is not None:
            return _known(self.shown(outcome.path or part.path), outcome.meta)
        return True

    def end_session(self, session: str | int) -> Write:
        """Result: whether the session was open."""
        from faaskeeper.session.history import session_of

        number = session_of(session)
        return Write(End(number), f"end session {number:x}", partial(self._ended, number))

    def _ended(self, session: int, outcome: Outcome) -> bool:
        if outcome.code is Code.NO_AUTH:
            raise NoAuthException("/", f"only the super user may end session {session:08x}, or itself")
        if outcome.code is Code.NO_NODE:
            return False
        raise_error(outcome, "/")
        return True

    # ---- reads -----------------------------------------------------------------------------

    def error(self, error: Refused | Lost) -> FaaSKeeperException:
        """The user's exception for a read's error."""
        if isinstance(error, Lost):
            return ProviderException(str(error))
        return error_of(error.code, self.shown(error.path))

    def _read(self, steps: Steps) -> Steps:
        try:
            return (yield from steps)
        except (Refused, Lost) as error:
            raise self.error(error) from None

    def may_read(self, path: str, meta: Meta) -> None:
        """Raise NoAuthException unless the client may read a node with this metadata."""
        if not acls.permits(meta.acl, acls.READ, self.identities.who):
            raise error_of(Code.NO_AUTH, path)

    def node_of(self, path: str, real: str, record: Record | None) -> Node | None:
        """A node with its data, of its record; None where the data is kept apart. Raises its error."""
        meta = None if record is None else record.meta
        if record is None or meta is None or meta.acl is not OPEN_ACL:
            try:
                found = readable(real, record, self.identities.who)
            except Refused as refused:
                raise self.error(refused) from None
            return None if found.meta.blob else _node(path, found)
        if meta.blob:
            return None
        children = None if meta.pages else record.children  # nothing changes a record that was read
        return Node(path, record.data, meta.stat(), children, None, meta.length < 0, meta.ttl)

    def children_of(self, path: str, real: str, record: Record | None) -> list[Node] | None:
        """A Node for each child, from the parent's record; None if the names are in pages."""
        try:
            found = readable(real, record, self.identities.who)
        except Refused as refused:
            raise self.error(refused) from None
        return None if found.meta.pages else self._children(path, found)

    def get_data(self, path: str, watch: WatchCallbackType | None) -> Steps:
        """Returns the Node, with its data."""
        return self._read(self._get_data(path, self.there(path), self._watcher(watch)))

    def _get_data(self, path: str, real: str, watch: WatchCallbackType | None) -> Steps:
        return _node(path, (yield from self._reads.data(real, watch)))

    def data_of(self, path: str, record: Record | None) -> Steps:
        """Like :meth:`get_data`, from a record that was read before."""
        return self._read(self._data_of(path, self.there(path), record))

    def _data_of(self, path: str, real: str, record: Record | None) -> Steps:
        return _node(path, (yield from self._reads.data_of(real, record)))

    def get_data_at(self, path: str, at: Moment) -> Steps:
        """Returns the Node as of a moment, with its data and without the names of its children."""
        from faaskeeper.session.history import History, check_moment  # few clients read the past

        real = self.there(path)
        check_moment(at)
        return self._read(self._get_data_at(path, History(self._rules, self.identities.who).data(real, at)))

    def _get_data_at(self, path: str, steps: Steps) -> Steps:
        found: Found = yield from steps
        return Node(path, found.data, found.meta.stat(), dataless=found.meta.length < 0)

    def get_acls_at(self, path: str, at: Moment) -> Steps:
        """Returns the ACL and the Stat as of a moment."""
        from faaskeeper.session.history import History, check_moment

        real = self.there(path)
        check_moment(at)
        return self._read(self._get_acls_at(History(self._rules, self.identities.who).acl(real, at)))

    def _get_acls_at(self, steps: Steps) -> Steps:
        shown, meta = yield from steps
        return list(shown), meta.stat()

    def history(
        self,
        path: str,
        recursive: bool,
        since: Moment | None,
        until: Moment | None,
        session: str | int | None,
        newest_first: bool,
    ) -> Steps:
        """Returns a :class:`~faaskeeper.session.history.Walk`, for :meth:`page`."""
        from faaskeeper.session.history import History, Scope, check_moment, session_of

        scope = Scope(self.there(path), recursive)
        for each in (since, until):
            if each is not None:
                check_moment(each)
        number = None if session is None else session_of(session)
        past = History(self._rules, self.identities.who)
        return past.walk(scope, since, until, number, newest_first)

    def page(self, walk: Walk) -> Steps:
        """Returns some Revisions of a walk; None: there are no more."""
        rows: list[Revision] | None = yield from walk.page()
        return rows and [row._replace(path=self.shown(row.path)) for row in rows]

    def exists(self, path: str, watch: WatchCallbackType | None) -> Steps:
        """Returns the Node without its data, or None."""
        return self._read(self._exists(path, self.there(path), self._watcher(watch)))

    def _exists(self, path: str, real: str, watch: WatchCallbackType | None) -> Steps:
        meta: Meta | None = yield from self._reads.exists(real, watch)
        return None if meta is None else _known(path, meta)

    def record(self, path: str) -> Steps:
        """Returns a node's whole record, with the names of all its children, if it may be read."""
        return self._read(self._record(self.there(path)))

    def _record(self, real: str) -> Steps:
        record: Record | None = yield from self._reads.read(real, "children", None)
        record = yield from self._reads.whole(real, record)
        readable(real, record, self.identities.who)
        return record

    def get_children(self, path: str, include_data: bool, watch: WatchCallbackType | None) -> Steps:
        """Returns a Node for each child, sorted by name."""
        return self._read(self._get_children(path, self.there(path), include_data, self._watcher(watch)))

    def _get_children(
        self, path: str, real: str, include_data: bool, watch: WatchCallbackType | None
    ) -> Steps:
        found: Found = yield from self._reads.children(real, watch)
        if not include_data:
            return self._children(path, found)
        nodes: list[Node] = []
        for at in range(0, len(found.children), TOGETHER):
            names = found.children[at : at + TOGETHER]
            below = [("data", paths.child(real, name)) for name in names]
            answers: list[Answer] = yield from self._reads.together(below)
            for name, answer in zip(names, answers, strict=True):
                if isinstance(answer, Found):
                    nodes.append(_node(paths.child(path, name), answer))
                elif isinstance(answer, Lost):
                    raise answer
        return nodes

    def children_part(self, path: str, part: Span) -> Steps:
        """Returns a Node for each child of one part of the list, and the part after it or None."""
        return self._read(self._children_part(path, self.there(path), part))

    def _children_part(self, path: str, real: str, part: Span) -> Steps:
        found, after = yield from self._reads.children_part(real, part)
        return self._children(path, found), after

    def get_children_with_stat(self, path: str, watch: WatchCallbackType | None) -> Steps:
        """Returns the names of the children, and the node's Stat."""
        return self._read(self._with_stat(self.there(path), self._watcher(watch)))

    def _with_stat(self, real: str, watch: WatchCallbackType | None) -> Steps:
        found: Found = yield from self._reads.children(real, watch)
        return list(found.children), found.meta.stat()

    def all_children_number(self, path: str) -> Steps:
        """Returns the number of nodes below one, at any depth."""
        return self._read(self._reads.number_below(self.there(path)))

    def get_ephemerals(self, prefix: str, session: int, owned: Collection[str]) -> Steps:
        """Returns the paths of a session's ephemerals that begin with a prefix.

        ``owned``: the candidates, paths in the whole tree, at the time of the read: by then earlier
        creates are answered.
        """
        candidates = [path for path in owned if self.shown(path).startswith(prefix)]
        alive: list[str] = yield from self._reads.owned_by(session, candidates)
        return [self.shown(each) for each in alive]

    def get_acls(self, path: str) -> Steps:
        """Returns the ACL and the Stat."""
        return self._read(self._get_acls(self.there(path)))

    def _get_acls(self, real: str) -> Steps:
        shown, meta = yield from self._reads.acl(real)
        return list(shown), meta.stat()

    def sync(self, path: str) -> Steps:
        """Returns the path once reads show at least everything that was committed before."""
        self.real(path)
        return self._sync(path)

    def _sync(self, path: str) -> Steps:
        yield from self._rules.sync()
        return path

    def read_together(self, reads: Sequence[tuple[str, str]]) -> Steps:
        """Performs reads of (kind, path) as of one transaction; returns a ReadResult for each."""
        return self._read_together([path for _, path in reads], [(k, self.there(path)) for k, path in reads])

    def _read_together(self, shown: Sequence[str], reads: Sequence[tuple[str, str]]) -> Steps:
        answers: list[Answer] = yield from self._reads.together(reads)
        results: list[ReadResult] = []
        for path, (kind, _), answer in zip(shown, reads, answers, strict=True):
            if isinstance(answer, Lost):
                raise self.error(answer)
            if isinstance(answer, Refused):
                error = self.error(answer)
                if not isinstance(error, ZooKeeperException):
                    raise error
                results.append(error)
            elif answer is None:
                results.append(None)
            else:
                results.append(self._together(kind, path, answer))
        return results

    def _together(self, kind: str, path: str, found: Found) -> Node | list[Node]:
        if kind == "children":
            return self._children(path, found)
        return _node(path, found) if kind == "data" else _known(path, found.meta)

    def _children(self, path: str, found: Found) -> list[Node]:
        load = self.load
        below = [paths.child(path, name) for name in found.children]
        return [Node(each, load=None if load is None else partial(load, each)) for each in below]

    # ---- watches -----------------------------------------------------------------------------

    def add_watch(self, path: str, watch: WatchCallbackType, recursive: bool) -> Steps:
        """Sets a watch that stays when it fires."""
        kind = "recursive" if recursive else "persistent"
        return self._rules.add_watch(self.there(path), kind, self.watcher(watch))

    def remove_watches(
        self, path: str, kind: WatchType | Sequence[WatchType] | None, watch: WatchCallbackType | None
    ) -> Steps:
        """Removes watches; raises NoWatcherException if none matches."""
        return self._remove_watches(path, self.real(path), kinds_of(kind), self._watcher(watch))

    def _remove_watches(
        self, path: str, real: str, kinds: list[str], watch: WatchCallbackType | None
    ) -> Steps:
        if not (yield from self._rules.remove_watches(real, kinds, watch)):
            raise NoWatcherException(path)

    def check_watches(
        self, path: str, kind: WatchType | Sequence[WatchType] | None, watch: WatchCallbackType | None
    ) -> None:
        """Raise NoWatcherException unless the session has a watch that matches."""
        if not self._rules.found(self.real(path), kinds_of(kind), self._watcher(watch)):
            raise NoWatcherException(path)


def stat_of(path: str, node: Node | None) -> Stat:
    """The Stat that an ``exists`` found. Raises NodeDoesntExistException if it found None."""
    if node is None:
        raise NodeDoesntExistException(path)
    return node.stat


def _node(path: str, found: Found) -> Node:
    """A node with its data; with its children too, unless their names are in pages."""
    children = None if found.meta.pages else list(found.children)
    meta = found.meta
    return Node(path, found.data, meta.stat(), children, None, meta.length < 0, meta.ttl)


def _known(path: str, meta: Meta) -> Node:
    """A node without its data."""
    return Node(path, None, meta.stat(), ttl=meta.ttl)


def _meta(outcome: Outcome) -> Meta:
    if outcome.meta is None:
        raise AssertionError("what changed a node has its metadata")
    return outcome.meta
