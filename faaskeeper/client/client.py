"""The client that users program against.

Keeps the API of the published faaskeeper-python library, and adds what users of kazoo expect: a
context manager, states with listeners, operations and replies in the session's order.

Programs import it that may never make a client: what a client is made of is imported with the first
one, and what a session is made of when it starts.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from faaskeeper.client.connect import connect
from faaskeeper.client.runtime import THREADS, Runtime
from faaskeeper.core import logs
from faaskeeper.exceptions import MalformedInputException, NodeDoesntExistException
from faaskeeper.node import Node
from faaskeeper.session.client import START_S, STOP_S, BaseClient
from faaskeeper.session.states import SessionState, Ticket

if TYPE_CHECKING:
    from faaskeeper.client.batches import ReadRequest, TransactionRequest
    from faaskeeper.client.futures import Future
    from faaskeeper.client.session import Session
    from faaskeeper.config import Config
    from faaskeeper.core.connection import Connection
    from faaskeeper.core.records import Record
    from faaskeeper.core.znode import Acl, Stat
    from faaskeeper.session.calls import Part, ReadResult, Result, Write
    from faaskeeper.session.commands import Steps
    from faaskeeper.session.history import Moment, Revision, Walk
    from faaskeeper.watch import WatchCallbackType, WatchType

    _Base = BaseClient[Session]
else:
    _Base = BaseClient


class FaaSKeeperClient(_Base):
    """A connection to a deployment, and one session with it between :meth:`start` and :meth:`stop`.

    :param cfg: the deployment
    :param port: the port for answers with the TCP channel; -1: the configuration's, or a free one
    :param heartbeat: renew the session's lease; otherwise the session ends after its time-out
    :param verbose: log at level INFO
    :param debug: log at level DEBUG
    :param session_timeout: seconds without a renewal after which the session ends; None: the
        configuration's
    :param chroot: a path; all paths of arguments and results are relative to it
    :param runtime: threads and time; for tests
    :param random: the source of random bytes; for tests
    :param connect: opens the connection to the deployment; for tests

    Thread-safe. Callbacks (watches, listeners, futures) run one after the other in their own
    thread. They may call the client, but must not wait for another callback. A process that is
    forked from this one does not inherit the session: it has to :meth:`start` the client again.
    """

    def __new__(cls, cfg: Config, *_: Any, **__: Any) -> FaaSKeeperClient:
        """A client of the kind that the deployment needs."""
        kind = cfg.provider_spec.client if cls is FaaSKeeperClient else ""
        if not kind:
            return object.__new__(cls)
        from faaskeeper import registry

        made: FaaSKeeperClient = object.__new__(registry.load(kind))
        return made

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
        super().__init__(cfg, port, heartbeat, session_timeout, chroot, random, connect, self._stat)
        self._runtime = runtime
        self._closing = False
        self._log = logs.logger("faaskeeper")
        if debug or verbose or cfg.verbose:
            import logging

            logging.basicConfig(format="[%(asctime)s] (%(name)s) %(message)s")
            self._log.setLevel(logging.DEBUG if debug else logging.INFO)

    def _stat(self, path: str) -> Stat:
        from faaskeeper.session.calls import stat_of

        return stat_of(path, self.exists(path))

    # ---- the session -------------------------------------------------------------------

    def start(self, resume: Ticket | None = None) -> str:
        """Open a session; returns its id. Closes an open session first.

        ``resume``: the :attr:`ticket` of another process, whose session this one resumes instead.
        The other process learns that it has lost the session. Its requests without an answer may or
        may not have taken effect, and its watches are not taken over. Raises ProviderException with
        the problem and its remedy, TimeoutException, or SessionExpiredException.
        """
        if self._session is not None:
            self.stop()
        from faaskeeper.client.session import Session

        connection = self._connect(self._config, self._port)
        session = None
        try:
            session = Session(
                connection,
                self._listeners,
                timeout=self._timeout,
                renew=self._heartbeat,
                random=self._random,
                runtime=self._runtime,
                ticket=resume,
            )
            session.open(START_S)
        except BaseException:
            if session is not None:
                session.abandon()
            connection.close()
            raise
        self._begun(session)
        self._log.info("session %s is open", self.session_id)
        for listener in self._listeners:
            session.call_later(partial(listener, SessionState.CONNECTED))
        return self.session_id or ""

    def stop(self, close: bool = True) -> str:
        """Close the session: its ephemerals are deleted. Returns "closed".

        ``close`` False: only stop, so that another process may resume the session until its lease
        ends. Raises TimeoutException if the service did not confirm in time; the session then ends
        with its lease. The client is stopped in any case.
        """
        session, connection = self._session, self._connection
        if session is None or connection is None:
            return "closed"
        if self._closing:
            return "closing in progress"
        self._closing = True
        try:
            if close:
                session.close(STOP_S)
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

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def session_status(self) -> str:
        """CONNECTED, SUSPENDED, LOST, or DISCONNECTED without a session."""
        return "DISCONNECTED" if self._session is None else self._session.state.value

    @property
    def in_callback(self) -> bool:
        """Whether the caller runs in the callback thread, which must not wait for a callback."""
        return self._session is not None and self._session.in_callback

    def call_later(self, callback: Callable[[], None]) -> None:
        """Run ``callback`` in the callback thread, after earlier ones, if a session is open."""
        if self._session is not None:
            self._session.call_later(callback)

    def logs(self) -> str:
        """The recent logs of the deployment's functions, if the provider has them."""
        return "" if self._connection is None else self._connection.logs()

    def _open(self) -> Session:
        session = self._session
        if session is None or self._closing:
            raise self._closed()
        return session

    def forked(self, why: str) -> None:
        """In a forked child: drop the session; ``why`` is the reason that calls raise."""
        super().forked(why)
        self._closing = False

    @property
    def connection(self) -> Connection:
        """The connection to the deployment, while a session is open: for the deployment's tools."""
        if self._connection is None:
            raise self._closed()
        return self._connection

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
        """Create a node; returns it, with its number if it is sequential.

        :param acl: entries (permissions, scheme, id); None: all permissions for everybody
        :param ttl: delete the node once it has no children and was not modified for this many ms
        :param container: delete the node after its last child is deleted
        :param makepath: create missing ancestors, with all permissions for everybody

        Raises NodeExistsException, NodeDoesntExistException (the parent), NoAuthException (the
        parent's ACL), InvalidACLException, or NoChildrenForEphemeralsException.
        """
        kind = self._calls.kind(ephemeral, sequential, acl, ttl, container)
        write = self._ready().create(path, value, kind)
        try:
            return cast(Node, self._write(write))
        except NodeDoesntExistException:
            if not makepath:
                raise
        return cast(Node, self._with_ancestors(path, write).get())

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
        """Begin :meth:`create`; its result or error comes by the future."""
        kind = self._calls.kind(ephemeral, sequential, acl, ttl, container)
        write = self._ready().create(path, value, kind)
        return self._with_ancestors(path, write) if makepath else self._ask(write)

    def _with_ancestors(self, path: str, write: Write) -> Future[Any]:
        above, last = self._calls.with_ancestors(path, write)
        for each in above:
            self._ask(each)
        return self._ask(last)

    def _ask(self, write: Write) -> Future[Any]:
        return self._open().ask(write)

    def _write(self, write: Write) -> Any:
        return self._open().ask(write, True).get()

    def set_data(self, path: str, value: bytes = b"", version: int = -1) -> Node:
        """Replace a node's data; returns the node. ``version`` -1: any version.

        Raises NodeDoesntExistException, NoAuthException or BadVersionError.
        """
        node: Node = self._write(self._ready().set_data(path, value, version))
        return node

    def set_data_async(self, path: str, value: bytes = b"", version: int = -1) -> Future[Node]:
        """Begin :meth:`set_data`; its result or error comes by the future."""
        return self._ask(self._ready().set_data(path, value, version))

    def delete(self, path: str, version: int = -1) -> None:
        """Delete a node.

        Raises NodeDoesntExistException, NoAuthException (the parent's ACL), BadVersionError or
        NotEmptyException.
        """
        self._write(self._ready().delete(path, version))

    def delete_async(self, path: str, version: int = -1) -> Future[None]:
        """Begin :meth:`delete`; its result or error comes by the future."""
        return self._ask(self._ready().delete(path, version))

    def set_acls(self, path: str, acls: Sequence[Acl], version: int = -1) -> Node:
        """Replace a node's ACL; returns the node. ``version`` is compared with its ``aversion``.

        Raises NodeDoesntExistException, InvalidACLException, NoAuthException or BadVersionError.
        """
        node: Node = self._write(self._ready().set_acls(path, acls, version))
        return node

    def end_session(self, session: str) -> bool:
        """End another session, or this one; its ephemerals are deleted. Returns whether it was open.

        ``session``: an id as :attr:`session_id` has it. For the super user: raises NoAuthException
        for others, except for their own session.
        """
        ended: bool = self._write(self._ready().end_session(session))
        return ended

    def transaction(self) -> TransactionRequest:
        """Operations that commit together, all or none: ``with client.transaction() as t: ...``."""
        from faaskeeper.client.batches import TransactionRequest

        return TransactionRequest(self._calls, self.commit)

    def commit(self, operations: Sequence[Part]) -> list[Result]:
        """Commit operations in one transaction; see :meth:`TransactionRequest.commit`."""
        results: list[Result] = self._write(self._ready().commit(operations))
        return results

    # ---- reading -----------------------------------------------------------------------

    def _run(self, steps: Steps, watch: WatchCallbackType | None = None) -> Any:
        session = self._open()
        if watch is not None:
            session.prepare_callbacks()
        return session.run(steps)

    def _later(self, path: str, steps: Steps, watch: WatchCallbackType | None) -> Future[Any]:
        session = self._open()
        if watch is not None:
            session.prepare_callbacks()
        return session.later(steps, f"read {path}")

    def get_data(
        self, path: str, watch: WatchCallbackType | None = None, *, at: Moment | None = None
    ) -> Node:
        """Read a node with its data; ``watch`` is called once, on a data change or deletion.

        ``at``: as of this transaction or time (a datetime; one without a zone is local), as
        :meth:`history` has it, without the names of children. Needs READ then and now.

        Raises NodeDoesntExistException or NoAuthException; with ``at`` also BeforeHistoryException.
        """
        if at is not None:
            if watch is not None:
                raise MalformedInputException("the past does not change: a read 'at' a moment takes no watch")
            return cast(Node, self._run(self._ready().get_data_at(path, at)))
        session, calls = self._open(), self._calls
        real = calls.there(path)
        if watch is not None or calls.counted_by(real):
            return cast(Node, self._run(calls.get_data(path, watch), watch))
        record = session.get(real)
        node = calls.node_of(path, real, record)
        if node is None:
            node = session.drive(calls.data_of(path, record))
        return cast(Node, node)

    def get_data_async(self, path: str, watch: WatchCallbackType | None = None) -> Future[Node]:
        """Begin :meth:`get_data`; its result or error comes by the future."""
        return self._later(path, self._ready().get_data(path, watch), watch)

    def exists(self, path: str, watch: WatchCallbackType | None = None) -> Node | None:
        """The node without its data, or None. A creation of the node fires ``watch`` too."""
        if watch is not None:
            return cast("Node | None", self._run(self._ready().exists(path, watch), watch))
        session = self._open()
        record = session.get(self._calls.there(path))
        meta = None if record is None else record.meta
        return None if meta is None else Node(path, None, meta.stat(), ttl=meta.ttl)

    def exists_async(self, path: str, watch: WatchCallbackType | None = None) -> Future[Node | None]:
        """Begin :meth:`exists`; its result or error comes by the future."""
        return self._later(path, self._ready().exists(path, watch), watch)

    def get_children(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> list[Node]:
        """The children of a node, sorted by name; ``include_data`` reads each of them too.

        ``watch`` is called once, when a child is created or deleted, or when the node is deleted.
        The result leaves out children that are deleted meanwhile or that may not be read. Raises
        NodeDoesntExistException or NoAuthException.
        """
        if watch is None and not include_data:
            session, calls = self._open(), self._calls
            real = calls.there(path)
            listed = calls.children_of(path, real, session.get(real))
            if listed is not None:
                return listed
        return cast(list[Node], self._run(self._ready().get_children(path, include_data, watch), watch))

    def get_children_async(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> Future[list[Node]]:
        """Begin :meth:`get_children`; its result or error comes by the future."""
        return self._later(path, self._ready().get_children(path, include_data, watch), watch)

    def iter_children(self, path: str, include_data: bool = False) -> Iterator[Node]:
        """Each child of a node, without ever holding a long list of them: one page after the other.

        In the order of storage: sorted within a page only. Children that exist all the time come
        once, others once or not at all. ``include_data`` and what is left out are as in
        :meth:`get_children`; an error comes at the step of the iteration that meets it.
        """
        from faaskeeper.core.children import Span

        part: Span | None = Span()
        while part is not None:
            nodes, part = self._run(self._ready().children_part(path, part))
            yield from self._with_data(nodes) if include_data else nodes

    def _with_data(self, nodes: list[Node]) -> Iterator[Node]:
        from faaskeeper.session.calls import WITH_DATA

        for at in range(0, len(nodes), WITH_DATA):
            reads = [("data", node.path) for node in nodes[at : at + WITH_DATA]]
            yield from (each for each in self.read_together(reads) if isinstance(each, Node))

    def get_children_with_stat(
        self, path: str, watch: WatchCallbackType | None = None
    ) -> tuple[list[str], Stat]:
        """The children's names and the node's Stat, as of one moment (ZooKeeper's getChildren2)."""
        steps = self._ready().get_children_with_stat(path, watch)
        return cast("tuple[list[str], Stat]", self._run(steps, watch))

    def all_children_number(self, path: str) -> int:
        """The number of nodes below a node, at any depth. Reads each of them."""
        return cast(int, self._run(self._ready().all_children_number(path)))

    def get_ephemerals(self, prefix: str = "/") -> list[str]:
        """The sorted paths of this session's ephemerals that begin with a prefix.

        The session knows which it created; it reads each, since other sessions may have deleted it.
        """
        session = self._open()
        return cast(list[str], session.run(self._calls.get_ephemerals(prefix, session.id, session.owned)))

    def sync(self, path: str = "/") -> str:
        """Make later reads show at least what is committed now; returns the path."""
        return cast(str, self._run(self._ready().sync(path)))

    def get_acls(self, path: str, *, at: Moment | None = None) -> tuple[list[Acl], Stat]:
        """A node's ACL and Stat; password hashes only if this client may administer the node.

        ``at``: as of this transaction or time; see :meth:`get_data`. Raises NodeDoesntExistException
        or NoAuthException (neither READ nor ADMIN is permitted; with ``at``, READ is not).
        """
        calls = self._ready()
        steps = calls.get_acls(path) if at is None else calls.get_acls_at(path, at)
        return cast("tuple[list[Acl], Stat]", self._run(steps))

    def record(self, path: str) -> Record:
        """A node's whole record, with the names of all its children: for the deployment's tools.

        Raises NodeDoesntExistException or NoAuthException.
        """
        return cast("Record", self._run(self._ready().record(path)))

    def history(
        self,
        path: str,
        recursive: bool = False,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        session: str | None = None,
        newest_first: bool = True,
    ) -> Iterator[Revision]:
        """What happened to a node, as far back as the log is retained; read as it is iterated.

        :param recursive: and to everything below it
        :param since: after this transaction, or from this time on (a datetime)
        :param until: up to this transaction or time
        :param session: what this session did; an id as :attr:`session_id` has it

        Leaves out what the client may not read, then or now. Changes after the first step of the
        iteration are left out, too.
        """
        steps = self._ready().history(path, recursive, since, until, session, newest_first)
        return self._pages(steps)

    def _pages(self, steps: Steps) -> Iterator[Revision]:
        walk: Walk = self._run(steps)
        while (rows := self._run(self._ready().page(walk))) is not None:
            yield from rows

    def multi_read(self) -> ReadRequest:
        """Reads as of one transaction: ``with client.multi_read() as r: ...``; ``r.results``."""
        from faaskeeper.client.batches import ReadRequest

        return ReadRequest(self._calls, self.read_together)

    def read_together(self, reads: Sequence[tuple[str, str]]) -> list[ReadResult]:
        """Read (kind, path) pairs as of one transaction; see :meth:`ReadRequest.commit`."""
        return cast("list[ReadResult]", self._run(self._ready().read_together(reads)))

    # ---- watches -----------------------------------------------------------------------

    def add_watch(self, path: str, watch: WatchCallbackType, recursive: bool = False) -> None:
        """Call ``watch(event)`` for every later change of a path, whether a node exists or not.

        Events: creation, deletion, changes of data and of children. ``recursive``: the first three,
        for the path and every path below. The watch stays until :meth:`remove_watches` or the
        session's end.
        """
        self._run(self._ready().add_watch(path, watch, recursive), watch)

    def remove_watches(
        self,
        path: str,
        kind: WatchType | Sequence[WatchType] | None = None,
        watch: WatchCallbackType | None = None,
    ) -> None:
        """Remove this session's watches of a path: all, or those of some kinds or a callback.

        Raises NoWatcherException if none matches. A call that is already queued is still made.
        """
        self._run(self._ready().remove_watches(path, kind, watch))
