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
from typing import Any, Union

from faaskeeper.client.connect import connect
from faaskeeper.client.futures import Future
from faaskeeper.client.rules import Steps
from faaskeeper.client.runtime import THREADS, Runtime
from faaskeeper.client.session import Listener, Session, SessionState
from faaskeeper.config import Config
from faaskeeper.core import paths
from faaskeeper.core.blobs import blob_name
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Code, DriverError
from faaskeeper.core.records import Record
from faaskeeper.core.requests import (
    Check,
    Create,
    Data,
    Delete,
    Multi,
    Outcome,
    SetAcl,
    SetData,
)
from faaskeeper.core.znode import MAX_DATA_BYTES, Acl, Stat
from faaskeeper.exceptions import (
    BadVersionError,
    FaaSKeeperException,
    MalformedInputException,
    NoChildrenForEphemeralsException,
    NodeDoesntExistException,
    NodeExistsException,
    NotEmptyException,
    ProviderException,
    RolledBackException,
    SessionClosingException,
    TooLargeException,
    ZooKeeperException,
)
from faaskeeper.node import Node
from faaskeeper.watch import WatchCallbackType

_START_S = 30.0
_STOP_S = 10.0


class FaaSKeeperClient:
    """A connection to a deployment, and one session with it between :meth:`start` and :meth:`stop`.

    :param cfg: the deployment
    :param port: where to listen for answers with the TCP channel; -1: the configuration's, or a free one
    :param heartbeat: renew the session's lease; without, it ends after its time-out whatever it does
    :param verbose: log what is done
    :param debug: log everything
    :param session_timeout: seconds of silence after which the session ends; None: the configuration's
    :param runtime, random, connect: threads and time, random bytes, and the way to the deployment; for tests

    Thread-safe. Callbacks (watches, listeners, futures) run one after the other in a thread of
    their own and may call the client, but not wait there for another callback.
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
        self._log = logging.getLogger("faaskeeper")
        if debug or verbose or cfg.verbose:
            logging.basicConfig(format="[%(asctime)s] (%(name)s) %(message)s")
            self._log.setLevel(logging.DEBUG if debug else logging.INFO)

    # ---- the session -------------------------------------------------------------------

    def start(self) -> str:
        """Open a session; returns its id. One that is open is closed first.

        Raises ProviderException with what is wrong and what to do, or TimeoutException.
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
            )
            for listener in self._listeners:
                session.listen(listener)
            session.open(_START_S)
        except BaseException:
            if session is not None:
                session.abandon()
            connection.close()
            raise
        self._connection = connection
        self._session = session
        self._log.info("session %s is open", self.session_id)
        if self._listeners:
            for listener in self._listeners:
                session.call_later(partial(listener, SessionState.CONNECTED))
        return self.session_id or ""

    def stop(self) -> str:
        """Close the session: its ephemerals are deleted. Returns "closed".

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
            session.close(_STOP_S)
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

    def logs(self) -> str:
        """What the deployment's functions logged lately, where the provider can tell."""
        return "" if self._connection is None else self._connection.logs()

    def _open(self) -> Session:
        session = self._session
        if session is None or self._closing:
            raise SessionClosingException()
        return session

    # ---- writing -----------------------------------------------------------------------

    def create(
        self, path: str, value: bytes = b"", ephemeral: bool = False, sequential: bool = False
    ) -> Node:
        """Create a node; returns it, with its number when sequential.

        Raises NodeExistsException, NodeDoesntExistException (the parent), or
        NoChildrenForEphemeralsException.
        """
        return self._create(path, value, ephemeral, sequential, True).get()

    def create_async(
        self, path: str, value: bytes = b"", ephemeral: bool = False, sequential: bool = False
    ) -> Future[Node]:
        """See :meth:`create`."""
        return self._create(path, value, ephemeral, sequential, False)

    def _create(
        self, path: str, value: bytes, ephemeral: bool, sequential: bool, prompt: bool
    ) -> Future[Node]:
        session = self._open()
        _check(f"{path}0" if sequential else path)
        data = self._data(path, value, sequential)

        def finish(outcome: Outcome) -> Node:
            _raise(outcome, path)
            if outcome.meta is None:
                raise AssertionError("a create's outcome has the metadata")
            if ephemeral:
                session.owned.add(outcome.path)
            return Node(outcome.path, None, outcome.meta.stat())

        operation = Create(path, data, ephemeral, sequential)
        return session.submit(operation, f"create {path}", finish, prompt)

    def set_data(self, path: str, value: bytes = b"", version: int = -1) -> Node:
        """Replace a node's data; returns the node. ``version`` -1: whichever it is.

        Raises NodeDoesntExistException or BadVersionError.
        """
        return self._set_data(path, value, version, True).get()

    def set_data_async(self, path: str, value: bytes = b"", version: int = -1) -> Future[Node]:
        """See :meth:`set_data`."""
        return self._set_data(path, value, version, False)

    def _set_data(self, path: str, value: bytes, version: int, prompt: bool) -> Future[Node]:
        session = self._open()
        _check(path)
        _check_version(version)
        data = self._data(path, value)

        def finish(outcome: Outcome) -> Node:
            if outcome.meta is None:
                _raise(outcome, path, version)
                raise AssertionError("a set's outcome has the metadata")
            return Node(path, None, outcome.meta.stat())

        operation = SetData(path, data, version)
        return session.submit(operation, f"set_data {path}", finish, prompt)

    def delete(self, path: str, version: int = -1) -> None:
        """Delete a node. Raises NodeDoesntExistException, BadVersionError or NotEmptyException."""
        self._delete(path, version, True).get()

    def delete_async(self, path: str, version: int = -1) -> Future[None]:
        """See :meth:`delete`."""
        return self._delete(path, version, False)

    def _delete(self, path: str, version: int, prompt: bool) -> Future[None]:
        session = self._open()
        _check(path)
        _check_version(version)

        def finish(outcome: Outcome) -> None:
            _raise(outcome, path, version)
            session.owned.discard(path)

        operation = Delete(path, version)
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
            raise SessionClosingException()
        if len(data) <= connection.inline_bytes:
            return Data(data, "", len(data))
        if connection.blobs is None:
            raise TooLargeException(
                f"data of {len(data)} bytes: this deployment holds at most {connection.inline_bytes}"
            )
        name = blob_name(connection.clock(), self._random(8).hex(), path, sequential)
        try:
            connection.blobs.put(name, data, absent=True)
        except DriverError as error:
            raise ProviderException(str(error)) from error
        return Data(b"", name, len(data))

    def set_acls(self, path: str, acls: Sequence[Acl], version: int = -1) -> Node:
        """Replace a node's ACL; returns the node. ``version`` is compared with its ``aversion``.

        Raises NodeDoesntExistException or BadVersionError.
        """
        session = self._open()
        _check(path)
        _check_version(version)

        def finish(outcome: Outcome) -> Node:
            if outcome.meta is None:
                _raise(outcome, path, version)
                raise AssertionError("the outcome has the metadata")
            return Node(path, None, outcome.meta.stat())

        operation = SetAcl(path, tuple(acls), version)
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
                results.append(_result(part, each))
                if isinstance(part, Create) and part.ephemeral and outcome.code is Code.OK:
                    session.owned.add(each.path)
            return results

        future = session.submit(Multi(tuple(operations)), "the transaction", finish, True)
        committed: list[Result] = future.get()
        return committed

    # ---- reading -----------------------------------------------------------------------

    def get_data(self, path: str, watch: WatchCallbackType | None = None) -> Node:
        """Read a node with its data; ``watch`` is called once, when that changes or the node goes.

        Raises NodeDoesntExistException.
        """
        session = self._open()
        _check(path)
        if watch is not None:
            return self._node(path, session.watch(path, "data", watch))
        return self._node(path, session.get(path))

    def get_data_async(self, path: str, watch: WatchCallbackType | None = None) -> Future[Node]:
        """See :meth:`get_data`."""
        return self._read_async(path, "data", watch, lambda record: self._node(path, record))

    def exists(self, path: str, watch: WatchCallbackType | None = None) -> Node | None:
        """The node without its data, or None. ``watch`` also fires when the node is created."""
        session = self._open()
        _check(path)
        if watch is not None:
            return _exists(path, session.watch(path, "exists", watch))
        return _exists(path, session.get(path))

    def exists_async(self, path: str, watch: WatchCallbackType | None = None) -> Future[Node | None]:
        """See :meth:`exists`."""
        return self._read_async(path, "exists", watch, lambda record: _exists(path, record))

    def get_children(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> list[Node]:
        """The children of a node, by name; ``include_data`` reads each of them too.

        ``watch`` is called once, when a child is created or deleted, or the node goes. Children
        deleted while they are read are left out. Raises NodeDoesntExistException.
        """
        session = self._open()
        _check(path)
        if watch is not None:
            record = session.watch(path, "children", watch)
        else:
            record = session.get(path)
        return self._children(path, record, include_data)

    def get_children_async(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> Future[list[Node]]:
        """See :meth:`get_children`."""

        def finish(record: Record | None) -> list[Node]:
            return self._children(path, record, include_data)

        return self._read_async(path, "children", watch, finish)

    def get_children_with_stat(
        self, path: str, watch: WatchCallbackType | None = None
    ) -> tuple[list[str], Stat]:
        """Names of the children and the node's Stat, as of one moment (ZooKeeper's getChildren2)."""
        session = self._open()
        _check(path)
        if watch is not None:
            record = session.watch(path, "children", watch)
        else:
            record = session.get(path)
        if record is None or record.meta is None:
            raise NodeDoesntExistException(path)
        return list(record.children), record.meta.stat()

    def all_children_number(self, path: str) -> int:
        """How many nodes there are below a node, at any depth. Reads every one of them."""
        session = self._open()
        _check(path)
        record = session.get(path)
        if record is None or record.meta is None:
            raise NodeDoesntExistException(path)
        number = 0
        level = [paths.child(path, name) for name in record.children]
        while level:
            below: list[str] = []
            for each in level:
                record = session.get(each)
                if record is not None and record.meta is not None:
                    number += 1
                    below.extend(paths.child(each, name) for name in record.children)
            level = below
        return number

    def get_ephemerals(self, prefix: str = "/") -> list[str]:
        """Paths of this session's ephemerals that begin with a prefix, in order.

        The session knows what it created; each is read, since others may have deleted it.
        """
        session = self._open()
        alive = []
        for path in sorted(path for path in session.owned if path.startswith(prefix)):
            record = session.get(path)
            if record is not None and record.meta is not None and record.meta.owner == session.id:
                alive.append(path)
        return alive

    def sync(self, path: str = "/") -> str:
        """Make every later read of this session show at least what is committed now; returns the path."""
        session = self._open()
        _check(path)
        session.sync()
        return path

    def get_acls(self, path: str) -> tuple[list[Acl], Stat]:
        """A node's ACL and Stat. Raises NodeDoesntExistException."""
        session = self._open()
        _check(path)
        record = session.get(path)
        if record is None or record.meta is None:
            raise NodeDoesntExistException(path)
        return list(record.meta.acl), record.meta.stat()

    def _read_async(
        self,
        path: str,
        kind: str,
        watch: WatchCallbackType | None,
        finish: Callable[[Record | None], Any],
    ) -> Future[Any]:
        session = self._open()
        _check(path)
        if watch is not None:
            session.prepare_callbacks()
        return session.later(lambda: _steps(session, path, kind, watch), f"read {path}", finish)

    def _node(self, path: str, record: Record | None) -> Node:
        while True:
            if record is None or record.meta is None:
                raise NodeDoesntExistException(path)
            meta = record.meta
            if not meta.blob:
                return Node(path, record.data, meta.stat(), record.children)
            data = self._blob(meta.blob)
            if data is not None:
                return Node(path, data, meta.stat(), record.children)
            # Swept: the node was changed long enough ago, so read it as it is by now.
            record = self._open().get(path)

    def _blob(self, name: str) -> bytes | None:
        connection = self._connection
        if connection is None or connection.blobs is None:
            raise SessionClosingException()
        try:
            found = connection.blobs.get(name)
        except DriverError as error:
            raise ProviderException(str(error)) from error
        return None if found is None else found.body

    def _children(self, path: str, record: Record | None, include_data: bool) -> list[Node]:
        if record is None or record.meta is None:
            raise NodeDoesntExistException(path)
        nodes: list[Node] = []
        for name in record.children:
            below = paths.child(path, name)
            if not include_data:
                nodes.append(Node(below, load=partial(self._stat, below)))
                continue
            try:
                nodes.append(self._node(below, self._open().get(below)))
            except NodeDoesntExistException:
                continue  # deleted since the list was read
        return nodes

    def _stat(self, path: str) -> Stat:
        node = self.exists(path)
        if node is None:
            raise NodeDoesntExistException(path)
        return node.stat


Part = Union[Create, SetData, Delete, Check]
Result = Union[Node, bool, FaaSKeeperException]


def _result(part: Part, outcome: Outcome) -> Result:
    """What a transaction's caller gets for one operation: its error is returned, not raised."""
    if outcome.code is Code.RUNTIME_INCONSISTENCY:
        return RolledBackException("an operation before it failed")
    try:
        _raise(outcome, part.path, getattr(part, "version", -1))
    except FaaSKeeperException as error:
        return error
    if outcome.meta is not None:
        return Node(outcome.path or part.path, None, outcome.meta.stat())
    return True


class TransactionRequest:
    """Operations that are committed together. Each is checked when it is added, and judged in order."""

    def __init__(self, client: FaaSKeeperClient) -> None:
        self._client = client
        self._parts: list[Part] = []
        self.results: list[Result] = []
        """After :meth:`commit`: a Node or True for each operation, or in its place an exception."""

    def create(
        self, path: str, value: bytes = b"", ephemeral: bool = False, sequential: bool = False
    ) -> TransactionRequest:
        """Add a create."""
        _check(f"{path}0" if sequential else path)
        data = self._client._data(path, value, sequential)
        self._parts.append(Create(path, data, ephemeral, sequential))
        return self

    def set_data(self, path: str, value: bytes = b"", version: int = -1) -> TransactionRequest:
        """Add a set."""
        _check(path)
        _check_version(version)
        self._parts.append(SetData(path, self._client._data(path, value), version))
        return self

    def delete(self, path: str, version: int = -1) -> TransactionRequest:
        """Add a delete."""
        _check(path)
        _check_version(version)
        self._parts.append(Delete(path, version))
        return self

    def check(self, path: str, version: int) -> TransactionRequest:
        """Have the transaction fail unless the node has this version (-1: unless it exists)."""
        _check(path)
        _check_version(version)
        self._parts.append(Check(path, version))
        return self

    def commit(self) -> list[Result]:
        """Commit: all happen, or none. Returns a Node or True for each operation; where one failed, its
        exception in its place, True for those before it, RolledBackException for those after it.
        """
        self.results = self._client.commit(self._parts)
        return self.results

    def __enter__(self) -> TransactionRequest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None:
            self.commit()


def _steps(session: Session, path: str, kind: str, watch: WatchCallbackType | None) -> Steps:
    if watch is None:
        return session.rules.read(path)
    return session.rules.watch(path, kind, watch)


def _exists(path: str, record: Record | None) -> Node | None:
    if record is None or record.meta is None:
        return None
    return Node(path, None, record.meta.stat())


def _check(path: str) -> None:
    if not isinstance(path, str):
        raise MalformedInputException(f"a path must be a text, not {type(path).__name__}")
    wrong = paths.malformed(path)
    if wrong is not None:
        raise MalformedInputException(wrong)


def _check_version(version: int) -> None:
    if type(version) is not int or not -1 <= version < 2**31:
        raise MalformedInputException(f"a version is a number from -1 (any) on, not {version!r}")


_ERRORS: dict[Code, Callable[[str], FaaSKeeperException]] = {
    Code.NO_NODE: NodeDoesntExistException,
    Code.NODE_EXISTS: NodeExistsException,
    Code.NOT_EMPTY: NotEmptyException,
    Code.NO_CHILDREN_FOR_EPHEMERALS: NoChildrenForEphemeralsException,
    Code.BAD_ARGUMENTS: lambda path: MalformedInputException(f"the service does not allow this for {path}"),
    Code.TOO_LARGE: lambda path: TooLargeException(f"the data of {path} is over a limit"),
}


def _raise(outcome: Outcome, path: str, version: int = -1) -> None:
    """Raise the error of an outcome that is one."""
    code = outcome.code
    if code is Code.OK:
        return
    if code is Code.BAD_VERSION:
        raise BadVersionError(version, path)
    error = _ERRORS.get(code)
    raise error(path) if error else ZooKeeperException(f"{path}: {code.value}")
