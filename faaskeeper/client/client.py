"""The client that users program against.

Keeps the API of the published faaskeeper-python library, and adds what users of kazoo expect: a context
manager, states with listeners, operations and replies in the session's order.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from functools import partial
from types import TracebackType
from typing import Any

from faaskeeper.client.arguments import (
    Below,
    NodeKind,
    acl_of,
    check,
    check_version,
    kinds_of,
    raise_error,
    ttl_of,
)
from faaskeeper.client.batches import Part, ReadRequest, ReadResult, Result, TransactionRequest, result_of
from faaskeeper.client.connect import connect
from faaskeeper.client.futures import Future
from faaskeeper.client.rules import Allowed, names_of
from faaskeeper.client.runtime import THREADS, Runtime
from faaskeeper.client.session import Listener, Session, SessionState, Ticket
from faaskeeper.config import Config
from faaskeeper.core import acl as acls
from faaskeeper.core import forks, paths
from faaskeeper.core.acl import Credential, Identity
from faaskeeper.core.blobs import TOKEN_BYTES, TRIES, blob_name, lost, read_blob
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Code, DriverError
from faaskeeper.core.records import Record
from faaskeeper.core.requests import (
    Create,
    Data,
    Delete,
    Multi,
    Outcome,
    SetAcl,
    SetData,
)
from faaskeeper.core.znode import MAX_DATA_BYTES, OPEN_ACL, Acl, Meta, Stat
from faaskeeper.exceptions import (
    FaaSKeeperException,
    ForkedException,
    MalformedInputException,
    NoAuthException,
    NodeDoesntExistException,
    NodeExistsException,
    NoWatcherException,
    ProviderException,
    SessionClosingException,
    TooLargeException,
    ZooKeeperException,
)
from faaskeeper.node import Node
from faaskeeper.watch import WatchCallbackType, WatchType

_START_S = 30.0
_STOP_S = 10.0


class FaaSKeeperClient(forks.Inherited):
    """A connection to a deployment, and one session with it between :meth:`start` and :meth:`stop`.

    :param cfg: the deployment
    :param port: where to listen for answers with the TCP channel; -1: the configuration's, or a free one
    :param heartbeat: renew the session's lease; without, it ends after its time-out whatever it does
    :param verbose: log what is done
    :param debug: log everything
    :param session_timeout: seconds of silence after which the session ends; None: the configuration's
    :param chroot: a path; every path given and shown is below it
    :param runtime, random, connect: threads and time, random bytes, and the way to the deployment; for tests

    Thread-safe. Callbacks (watches, listeners, futures) run one after the other in a thread of
    their own and may call the client, but not wait there for another callback. A process that is forked from
    this one does not inherit the session: it has to :meth:`start` the client again.
    """

    def __init__(
        self,
        cfg: Config,
        port: int = -1,
        heartbeat: bool = True,
        verbose: bool = False,
        debug: bool = False,
        *,
        session_timeout: float | None = None,
        chroot: str = "/",
        runtime: Runtime = THREADS,
        random: Callable[[int], bytes] = os.urandom,
        connect: Callable[[Config, int], Connection] = connect,
    ) -> None:
        self._config = cfg
        self._port = port
        self._heartbeat = heartbeat
        self._timeout = float(session_timeout or cfg.session_timeout)
        self._runtime = runtime
        self._random = random
        self._connect = connect
        self._connection: Connection | None = None
        self._session: Session | None = None
        self._listeners: list[Listener] = []
        self._closing = False
        self._inherited = ""
        check(chroot)
        self._chroot = "" if chroot == "/" else chroot
        self._auth: list[Credential] = []
        self._who: tuple[Identity, ...] = ()
        self._log = logging.getLogger("faaskeeper")
        if debug or verbose or cfg.verbose:
            logging.basicConfig(format="[%(asctime)s] (%(name)s) %(message)s")
            self._log.setLevel(logging.DEBUG if debug else logging.INFO)

    # ---- the session -------------------------------------------------------------------

    def start(self, resume: Ticket | None = None) -> str:
        """Open a session; returns its id. One that is open is closed first.

        ``resume``: go on with a session of another process instead, by its :attr:`ticket`. That process
        learns that the session is not its own any more; what it asked for and was not told may or may not
        have happened, and its watches are not taken over. Raises ProviderException with what is wrong and
        what to do, TimeoutException, or SessionExpiredException.
        """
        if self._session is not None:
            self.stop()
        connection = self._connect(self._config, self._port)
        session = None
        try:
            session = Session(
                connection,
                timeout=self._timeout,
                renew=self._heartbeat,
                random=self._random,
                runtime=self._runtime,
                ticket=resume,
            )
            for listener in self._listeners:
                session.listen(listener)
            session.open(_START_S)
            session.auth = tuple(self._auth)
        except BaseException:
            if session is not None:
                session.abandon()
            connection.close()
            raise
        self._connection = connection
        self._session = session
        self._inherited = ""
        forks.register(self)
        self._prove()
        self._log.info("session %s is open", self.session_id)
        if self._listeners:
            for listener in self._listeners:
                session.call_later(partial(listener, SessionState.CONNECTED))
        return self.session_id or ""

    @property
    def ticket(self) -> Ticket:
        """What another process needs to go on with this session. Keep it as secret as a password."""
        return self._open().ticket

    def stop(self, close: bool = True) -> str:
        """Close the session: its ephemerals are deleted. Returns "closed".

        ``close`` False: only stop, so that another process may go on with the session until its lease ends.
        Raises TimeoutException when the service did not confirm in time; the session then ends with
        its lease. The client is stopped in any case.
        """
        session, connection = self._session, self._connection
        if session is None or connection is None:
            return "closed"
        if self._closing:
            return "closing in progress"
        self._closing = True
        try:
            if close:
                session.close(_STOP_S)
            else:
                session.abandon()
            self._log.info("session %s is closed", self.session_id)
        finally:
            self._session = None
            self._connection = None
            self._closing = False
            connection.close()
        return "closed"

    def __enter__(self) -> FaaSKeeperClient:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    @property
    def session_id(self) -> str | None:
        """Id of the session (hexadecimal), None without one."""
        return None if self._session is None else f"{self._session.id:08x}"

    @property
    def session_status(self) -> str:
        """CONNECTED, SUSPENDED, LOST, or DISCONNECTED without a session."""
        return "DISCONNECTED" if self._session is None else self._session.state.value

    @property
    def state(self) -> SessionState:
        """State of the session; LOST without one."""
        return SessionState.LOST if self._session is None else self._session.state

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener(state)`` whenever the state changes, from the callback thread."""
        self._listeners.append(listener)
        if self._session is not None:
            self._session.listen(listener)

    def remove_listener(self, listener: Listener) -> None:
        """No longer call it."""
        if listener in self._listeners:
            self._listeners.remove(listener)
        if self._session is not None:
            self._session.unlisten(listener)

    @property
    def in_callback(self) -> bool:
        """Whether this is called in the callback thread, in which nothing may wait for another callback."""
        return self._session is not None and self._session.in_callback

    def logs(self) -> str:
        """What the deployment's functions logged lately, where the provider can tell."""
        return "" if self._connection is None else self._connection.logs()

    # ---- for tools that read a deployment as it is stored --------------------------------

    @property
    def connection(self) -> Connection:
        """The drivers of the open session's deployment. Raises SessionClosingException without a session."""
        if self._connection is None:
            raise self._closed()
        return self._connection

    def record(self, path: str) -> Record:
        """A node as it is stored: metadata, data (or its blob's name), names of its children."""
        return self._record(path)

    def check_access(self, path: str, meta: Meta, permission: int) -> None:
        """Raise NoAuthException if a node's ACL denies this client a permission, of :mod:`core.acl`."""
        self._may(path, permission)(meta)

    # ---- the session -------------------------------------------------------------------

    def _open(self) -> Session:
        session = self._session
        if session is None or self._closing:
            raise self._closed()
        return session

    def _closed(self) -> FaaSKeeperException:
        return ForkedException(self._inherited) if self._inherited else SessionClosingException()

    def forked(self, why: str) -> None:
        """See :class:`faaskeeper.core.forks.Inherited`."""
        if self._session is not None:
            self._inherited = why
        self._session = None
        self._connection = None
        self._closing = False

    # ---- who this is -------------------------------------------------------------------

    def add_auth(self, scheme: str, credential: str) -> None:
        """Show a credential with every operation from now on, in later sessions too.

        ``scheme``: ``digest``, with ``user:password``. A wrong password shows when an ACL asks for it.
        """
        if scheme != "digest":
            raise MalformedInputException(f"{scheme!r} is no scheme to authenticate by; there is 'digest'")
        if not isinstance(credential, str) or ":" not in credential:
            raise MalformedInputException("the credential of the scheme 'digest' is 'user:password'")
        if (scheme, credential) not in self._auth:
            if acls.size_of([*self._auth, (scheme, credential)]) > acls.MAX_CREDENTIALS_BYTES:
                most = acls.MAX_CREDENTIALS_BYTES
                raise MalformedInputException(f"a client's credentials may have {most} bytes in all")
            self._auth.append((scheme, credential))
        self._prove()
        if self._session is not None:
            self._session.auth = tuple(self._auth)

    def who_am_i(self) -> list[Identity]:
        """Scheme and name of what this client is known as; no hashes (ZooKeeper's whoAmI)."""
        self._open()
        return [(scheme, name.split(":", 1)[0] if scheme == "digest" else name) for scheme, name in self._who]

    def _prove(self) -> None:
        connection = self._connection
        if connection is None:
            return
        here: tuple[Identity, ...] = (("ip", connection.peer),) if connection.peer else ()
        self._who = (*here, *acls.identities(self._auth, connection.super_digest))

    def _may(self, path: str, permission: int) -> Allowed:
        """What raises where an ACL does not permit something to this client."""

        def allowed(meta: Meta) -> None:
            if not acls.permits(meta.acl, permission, self._who):
                raise NoAuthException(path)

        return allowed

    def _readable(self, path: str, record: Record | None) -> Record:
        """The record of a node that is there and may be read."""
        meta = None if record is None else record.meta
        if record is None or meta is None:
            raise NodeDoesntExistException(path)
        if meta.acl is not OPEN_ACL and not acls.permits(meta.acl, acls.READ, self._who):
            raise NoAuthException(path)
        return record

    # ---- where this is -----------------------------------------------------------------

    def _real(self, path: str, sequential: bool = False) -> str:
        """The path in the whole tree. Raises MalformedInputException."""
        check(f"{path}0" if sequential else path)
        if not self._chroot:
            return path
        real = self._chroot if path == "/" and not sequential else self._chroot + path
        check(f"{real}0" if sequential else real)
        return real

    def _there(self, path: str) -> str:
        """The path in the whole tree, of a node that there can be. Raises MalformedInputException."""
        wrong = paths.invalid(path) if isinstance(path, str) else None
        if wrong is not None:
            raise MalformedInputException(wrong)
        return self._real(path)

    def _shown(self, real: str) -> str:
        """A path of the tree as this client's user sees it."""
        return real[len(self._chroot) :] or "/" if self._chroot else real

    def _watcher(self, callback: WatchCallbackType) -> WatchCallbackType:
        return Below(self._chroot, callback) if self._chroot else callback

    # ---- writing -----------------------------------------------------------------------

    def create(
        self,
        path: str,
        value: bytes = b"",
        ephemeral: bool = False,
        sequential: bool = False,
        *,
        acl: Sequence[Acl] | None = None,
        ttl: int | None = None,
        container: bool = False,
        makepath: bool = False,
    ) -> Node:
        """Create a node; returns it, with its number when sequential.

        :param acl: entries (permissions, scheme, id); None: everything to everybody
        :param ttl: the node goes when it has no children and was not modified for so many ms
        :param container: the node goes when its last child has gone
        :param makepath: create what is missing above it, open to everybody

        Raises NodeExistsException, NodeDoesntExistException (the parent), NoAuthException (the parent's ACL),
        InvalidACLException, or NoChildrenForEphemeralsException.
        """
        kind = NodeKind(ephemeral, sequential, acl, ttl, container)
        try:
            return self._create(path, value, kind, True).get()
        except NodeDoesntExistException:
            if not makepath:
                raise
        return self._create(path, value, kind, True, self._make_above(path)).get()

    def create_async(
        self,
        path: str,
        value: bytes = b"",
        ephemeral: bool = False,
        sequential: bool = False,
        *,
        acl: Sequence[Acl] | None = None,
        ttl: int | None = None,
        container: bool = False,
        makepath: bool = False,
    ) -> Future[Node]:
        """See :meth:`create`."""
        kind = NodeKind(ephemeral, sequential, acl, ttl, container)
        return self._create(path, value, kind, False, self._make_above(path) if makepath else ())

    def _make_above(self, path: str) -> list[Future[Node]]:
        """Ask for everything above a path to be created, without waiting."""
        real = self._real(path, True)
        missing = [each for each in paths.upwards(paths.parent(real)) if each != "/"]
        return [self._create(each, b"", NodeKind(), False, real=True) for each in reversed(missing)]

    def _create(
        self,
        path: str,
        value: bytes,
        kind: NodeKind,
        prompt: bool,
        above: Sequence[Future[Node]] = (),
        real: bool = False,
    ) -> Future[Node]:
        session = self._open()
        operation = self._creation(path, value, kind, real)

        def finish(outcome: Outcome) -> Node:
            for each in above:  # answered before, in the session's order
                try:
                    each.get(0)
                except NodeExistsException:
                    continue
            raise_error(outcome, path)
            if outcome.meta is None:
                raise AssertionError("a create's outcome has the metadata")
            if kind.ephemeral:
                session.owned.add(outcome.path)
            return Node(self._shown(outcome.path), None, outcome.meta.stat())

        return session.submit(operation, f"create {path}", finish, prompt)

    def _creation(self, path: str, value: bytes, kind: NodeKind, real: bool = False) -> Create:
        where = path if real else self._real(path, kind.sequential)
        data = self._data(where, value, kind.sequential)
        ttl = ttl_of(kind)
        return Create(where, data, kind.ephemeral, kind.sequential, acl_of(kind.acl), ttl)

    def set_data(self, path: str, value: bytes = b"", version: int = -1) -> Node:
        """Replace a node's data; returns the node. ``version`` -1: whichever it is.

        Raises NodeDoesntExistException, NoAuthException or BadVersionError.
        """
        return self._set_data(path, value, version, True).get()

    def set_data_async(self, path: str, value: bytes = b"", version: int = -1) -> Future[Node]:
        """See :meth:`set_data`."""
        return self._set_data(path, value, version, False)

    def _set_data(self, path: str, value: bytes, version: int, prompt: bool) -> Future[Node]:
        session = self._open()
        real = self._real(path)
        check_version(version)
        data = self._data(real, value)

        def finish(outcome: Outcome) -> Node:
            if outcome.meta is None:
                raise_error(outcome, path, version)
                raise AssertionError("a set's outcome has the metadata")
            return Node(path, None, outcome.meta.stat())

        operation = SetData(real, data, version)
        return session.submit(operation, f"set_data {path}", finish, prompt)

    def delete(self, path: str, version: int = -1) -> None:
        """Delete a node.

        Raises NodeDoesntExistException, NoAuthException (the parent's ACL), BadVersionError or
        NotEmptyException.
        """
        self._delete(path, version, True).get()

    def delete_async(self, path: str, version: int = -1) -> Future[None]:
        """See :meth:`delete`."""
        return self._delete(path, version, False)

    def _delete(self, path: str, version: int, prompt: bool) -> Future[None]:
        session = self._open()
        real = self._real(path)
        check_version(version)

        def finish(outcome: Outcome) -> None:
            raise_error(outcome, path, version)
            session.owned.discard(real)

        operation = Delete(real, version)
        return session.submit(operation, f"delete {path}", finish, prompt)

    def _data(self, path: str, value: bytes, sequential: bool = False) -> Data:
        """The data as it travels: above the inline limit stored first, and named by the request."""
        if not isinstance(value, (bytes, bytearray, memoryview)):
            raise MalformedInputException(f"data must be bytes, not {type(value).__name__}")
        data = bytes(value)
        if len(data) > MAX_DATA_BYTES:
            raise TooLargeException(f"data of {len(data)} bytes: a node holds at most {MAX_DATA_BYTES}")
        connection = self._connection
        if connection is None:
            raise self._closed()
        if len(data) <= connection.inline_bytes:
            return Data(data, "", len(data))
        if connection.blobs is None:
            raise TooLargeException(
                f"data of {len(data)} bytes: this deployment holds at most {connection.inline_bytes}"
            )
        token = self._random(TOKEN_BYTES)
        name = blob_name(connection.service(), token, self._open().id, data, path, sequential)
        try:
            connection.blobs.put(name, data, absent=True)
        except DriverError as error:
            raise ProviderException(str(error)) from error
        return Data(b"", name, len(data))

    def set_acls(self, path: str, acls: Sequence[Acl], version: int = -1) -> Node:
        """Replace a node's ACL; returns the node. ``version`` is compared with its ``aversion``.

        Raises NodeDoesntExistException, InvalidACLException, NoAuthException or BadVersionError.
        """
        session = self._open()
        real = self._real(path)
        check_version(version)

        def finish(outcome: Outcome) -> Node:
            if outcome.meta is None:
                raise_error(outcome, path, version)
                raise AssertionError("the outcome has the metadata")
            return Node(path, None, outcome.meta.stat())

        operation = SetAcl(real, acl_of(acls), version)
        result: Node = session.submit(operation, f"set_acls {path}", finish, True).get()
        return result

    def transaction(self) -> TransactionRequest:
        """Operations to commit together, all or none: ``with client.transaction() as t: ...``."""
        return TransactionRequest(self)

    def commit(self, operations: Sequence[Part]) -> list[Result]:
        """Commit operations in one transaction; see :meth:`TransactionRequest.commit`."""
        session = self._open()

        def finish(outcome: Outcome) -> list[Result]:
            results: list[Result] = []
            for part, each in zip(operations, outcome.results, strict=True):
                results.append(result_of(part, each, self._shown))
                if isinstance(part, Create) and part.ephemeral and outcome.code is Code.OK:
                    session.owned.add(each.path)
            return results

        future = session.submit(Multi(tuple(operations)), "the transaction", finish, True)
        committed: list[Result] = future.get()
        return committed

    # ---- reading -----------------------------------------------------------------------

    def get_data(self, path: str, watch: WatchCallbackType | None = None) -> Node:
        """Read a node with its data; ``watch`` is called once, when that changes or the node goes.

        Raises NodeDoesntExistException or NoAuthException.
        """
        return self._node(path, self._read(path, "data", watch))

    def get_data_async(self, path: str, watch: WatchCallbackType | None = None) -> Future[Node]:
        """See :meth:`get_data`."""
        return self._read_async(path, "data", watch, lambda record: self._node(path, record))

    def exists(self, path: str, watch: WatchCallbackType | None = None) -> Node | None:
        """The node without its data, or None. ``watch`` also fires when the node is created."""
        return _exists(path, self._read(path, "exists", watch))

    def exists_async(self, path: str, watch: WatchCallbackType | None = None) -> Future[Node | None]:
        """See :meth:`exists`."""
        return self._read_async(path, "exists", watch, lambda record: _exists(path, record))

    def get_children(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> list[Node]:
        """The children of a node, by name; ``include_data`` reads each of them too.

        ``watch`` is called once, when a child is created or deleted, or the node goes. Children
        deleted while they are read, or that may not be read, are left out. Raises NodeDoesntExistException or
        NoAuthException.
        """
        return self._children(path, self._listed(path, watch), include_data)

    def get_children_async(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> Future[list[Node]]:
        """See :meth:`get_children`."""

        def finish(record: Record | None) -> list[Node]:
            return self._children(path, self._with_pages(path, record), include_data)

        return self._read_async(path, "children", watch, finish)

    def get_children_with_stat(
        self, path: str, watch: WatchCallbackType | None = None
    ) -> tuple[list[str], Stat]:
        """Names of the children and the node's Stat, as of one moment (ZooKeeper's getChildren2)."""
        record = self._record(path, watch)
        return list(record.children), meta_of(record).stat()

    def all_children_number(self, path: str) -> int:
        """How many nodes there are below a node, at any depth. Reads every one of them."""
        session = self._open()
        real = self._there(path)
        record = self._record(path)
        number = 0
        level = [paths.child(real, name) for name in record.children]
        while level:
            below: list[str] = []
            for each in level:
                found = self._with_pages(self._shown(each), session.get(each))
                if found is not None and found.meta is not None:
                    number += 1
                    below.extend(paths.child(each, name) for name in found.children)
            level = below
        return number

    def get_ephemerals(self, prefix: str = "/") -> list[str]:
        """Paths of this session's ephemerals that begin with a prefix, in order.

        The session knows what it created; each is read, since others may have deleted it.
        """
        session = self._open()
        alive = []
        for real in sorted(path for path in session.owned if self._shown(path).startswith(prefix)):
            record = session.get(real)
            if record is not None and record.meta is not None and record.meta.owner == session.id:
                alive.append(self._shown(real))
        return alive

    def sync(self, path: str = "/") -> str:
        """Make every later read of this session show at least what is committed now; returns the path."""
        session = self._open()
        self._real(path)
        session.sync()
        return path

    def get_acls(self, path: str) -> tuple[list[Acl], Stat]:
        """A node's ACL and Stat, hashes of passwords only to who may administrate the node.

        Raises NodeDoesntExistException or NoAuthException (neither READ nor ADMIN is permitted).
        """
        there = self._there(path)
        record = self._open().get(there)
        if record is None or record.meta is None:
            raise NodeDoesntExistException(path)
        self._may(path, acls.READ | acls.ADMIN)(record.meta)
        return list(acls.masked(acls.held(there, record.meta.acl), self._who)), record.meta.stat()

    def multi_read(self) -> ReadRequest:
        """Reads to be done as of one transaction: ``with client.multi_read() as r: ...``, ``r.results``."""
        return ReadRequest(self)

    def read_together(self, reads: Sequence[tuple[str, str]]) -> list[ReadResult]:
        """Read (kind, path) pairs as of one transaction; see :meth:`ReadRequest.commit`."""
        session = self._open()
        reals = [self._there(path) for _, path in reads]
        listed = [real for (kind, _), real in zip(reads, reals, strict=True) if kind == "children"]
        for _ in range(TRIES):
            found = session.snapshot(reals, listed)
            results: list[ReadResult] = []
            for (kind, path), real in zip(reads, reals, strict=True):
                record = found[real]
                if record is not None and kind == "children":
                    record = record._replace(children=names_of(real, found))
                results.append(self._read_result(kind, path, record))
            if None not in results:
                return results
        missing = results.index(None)
        raise ProviderException(lost(reads[missing][1], _blob_of(found[reals[missing]])))

    def _read_result(self, kind: str, path: str, record: Record | None) -> ReadResult:
        """None where the data's blob is not there: it was swept, if what was read is long outdated."""
        try:
            meta = meta_of(self._readable(path, record))
        except ZooKeeperException as error:
            return error
        if record is None or kind == "children":
            return self._children(path, record, False)
        data = self._blob(meta) if meta.blob else record.data
        return None if data is None else self._whole(path, data, record)

    # ---- watches -----------------------------------------------------------------------

    def add_watch(self, path: str, watch: WatchCallbackType, recursive: bool = False) -> None:
        """Call ``watch(event)`` for every change of a path from now on, whether there is a node or not.

        Told: creation, deletion, changes of data, and of children; ``recursive``: the first three, of the
        path and of every path below. It stays until :meth:`remove_watches` or the session's end.
        """
        kind = "recursive" if recursive else "persistent"
        self._open().add_watch(self._there(path), kind, self._watcher(watch))

    def remove_watches(
        self,
        path: str,
        kind: WatchType | Sequence[WatchType] | None = None,
        watch: WatchCallbackType | None = None,
    ) -> None:
        """Remove this session's watches of a path: of a kind, or kinds, or any; with a callback, or any.

        Raises NoWatcherException where there is none. A call that is under way already is still made.
        """
        callback = None if watch is None else self._watcher(watch)
        if not self._open().remove_watches(self._real(path), kinds_of(kind), callback):
            raise NoWatcherException(path)

    def check_watches(
        self,
        path: str,
        kind: WatchType | Sequence[WatchType] | None = None,
        watch: WatchCallbackType | None = None,
    ) -> None:
        """Raise NoWatcherException unless this session has such a watch; see :meth:`remove_watches`."""
        callback = None if watch is None else self._watcher(watch)
        if not self._open().rules.found(self._real(path), kinds_of(kind), callback):
            raise NoWatcherException(path)

    # ---- how reading is done -------------------------------------------------------------

    def _read(self, path: str, kind: str, watch: WatchCallbackType | None) -> Record | None:
        session = self._open()
        real = self._there(path)
        if watch is None:
            return session.get(real)
        allowed = None if kind == "exists" else self._may(path, acls.READ)
        return session.watch(real, kind, self._watcher(watch), allowed)

    def _listed(self, path: str, watch: WatchCallbackType | None) -> Record | None:
        """Read a node for its children, and leave a watch of them."""
        return self._with_pages(path, self._read(path, "children", watch))

    def _record(self, path: str, watch: WatchCallbackType | None = None) -> Record:
        """All that is stored of a node that may be read: metadata, data (or the blob's name), children."""
        return self._readable(path, self._listed(path, watch))

    def _with_pages(self, path: str, record: Record | None) -> Record | None:
        """The record with the names of all its children, read again where they are kept in pages.

        What is returned may be newer than the record; a watch that it left has been told of that by then.
        """
        if record is None or record.meta is None or not record.meta.pages:
            return record
        real = self._real(path)
        found = self._open().snapshot([real], [real])
        record = found[real]
        return None if record is None else record._replace(children=names_of(real, found))

    def _whole(self, path: str, data: bytes, record: Record) -> Node:
        """A node with its data; its children are there unless they are kept in pages."""
        meta = meta_of(record)
        children = None if meta.pages else record.children
        return Node(path, data, meta.stat(), children, dataless=meta.length < 0)

    def _read_async(
        self,
        path: str,
        kind: str,
        watch: WatchCallbackType | None,
        finish: Callable[[Record | None], Any],
    ) -> Future[Any]:
        session = self._open()
        real = self._there(path)
        if watch is None:
            return session.later(lambda: session.rules.read(real), f"read {path}", finish)
        session.prepare_callbacks()
        callback = self._watcher(watch)
        allowed = None if kind == "exists" else self._may(path, acls.READ)
        return session.later(
            lambda: session.rules.watch(real, kind, callback, allowed), f"read {path}", finish
        )

    def _node(self, path: str, record: Record | None) -> Node:
        for _ in range(TRIES):
            found = self._readable(path, record)
            meta = meta_of(found)
            if not meta.blob:
                return self._whole(path, found.data, found)
            data = self._blob(meta)
            if data is not None:
                return self._whole(path, data, found)
            # Swept, if the node was changed long enough ago: then it has other data by now.
            record = self._open().get(self._real(path))
        raise ProviderException(lost(path, meta.blob))

    def _blob(self, meta: Meta) -> bytes | None:
        """The data of a node that is kept apart, None where it is not there, or not what was written."""
        connection = self._connection
        if connection is None:
            raise self._closed()
        try:
            return read_blob(connection.blobs, meta.blob, meta.length)
        except DriverError as error:
            raise ProviderException(str(error)) from error

    def _children(self, path: str, record: Record | None, include_data: bool) -> list[Node]:
        nodes: list[Node] = []
        for name in self._readable(path, record).children:
            below = paths.child(path, name)
            if not include_data:
                nodes.append(Node(below, load=partial(self._stat, below)))
                continue
            try:
                nodes.append(self._node(below, self._open().get(self._real(below))))
            except (NodeDoesntExistException, NoAuthException):
                continue  # deleted since the list was read, or not for us
        return nodes

    def _stat(self, path: str) -> Stat:
        node = self.exists(path)
        if node is None:
            raise NodeDoesntExistException(path)
        return node.stat


def meta_of(record: Record) -> Meta:
    """Metadata of a node that is there."""
    if record.meta is None:
        raise AssertionError("a node that is there has metadata")
    return record.meta


def _blob_of(record: Record | None) -> str:
    return "" if record is None else meta_of(record).blob


def _exists(path: str, record: Record | None) -> Node | None:
    if record is None or record.meta is None:
        return None
    return Node(path, None, record.meta.stat())
