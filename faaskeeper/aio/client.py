"""The client for asyncio: the operations of the threaded client as coroutines."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar, cast

from faaskeeper.aio.batches import ReadRequest, TransactionRequest
from faaskeeper.aio.events import States, Watch
from faaskeeper.aio.requests import Later, Requests
from faaskeeper.aio.session import AsyncSession
from faaskeeper.aio.threads import Threads, through
from faaskeeper.client.connect import connect
from faaskeeper.config import Config
from faaskeeper.core.children import Span
from faaskeeper.core.connection import Connection
from faaskeeper.core.znode import Acl, Stat
from faaskeeper.exceptions import (
    FaaSKeeperException,
    MalformedInputException,
    NodeDoesntExistException,
)
from faaskeeper.node import Node
from faaskeeper.session.arguments import NodeKind
from faaskeeper.session.calls import WITH_DATA, Part, ReadResult, Result, Write
from faaskeeper.session.client import START_S, STOP_S, BaseClient
from faaskeeper.session.commands import Steps
from faaskeeper.session.states import Listener, SessionState, Ticket
from faaskeeper.watch import WatchCallbackType, WatchType

if TYPE_CHECKING:
    from faaskeeper.session.history import Moment, Revision, Walk

T = TypeVar("T")


class AsyncClient(BaseClient[AsyncSession]):
    """A connection to a deployment, and one session with it inside ``async with``.

    :param config: the deployment
    :param port: the port for answers with the TCP channel; -1: the configuration's, or a free one
    :param heartbeat: renew the session's lease; otherwise the session ends after its time-out
    :param session_timeout: seconds without a renewal after which the session ends; None: the
        configuration's
    :param chroot: a path; all paths of arguments and results are relative to it
    :param random: the source of random bytes; for tests
    :param connect: opens the connection to the deployment; for tests

    Belongs to the event loop in which it is started; runs on asyncio's loop and on uvloop. Any
    number of tasks may use it. Each request sees the effects of all earlier requests of all tasks,
    and of no later ones: writes take effect and are answered in the order of the requests; a read
    follows the writes before it and precedes the writes after it.

    A cancelled task, or one whose time-out is over, does not affect the session. If its write was
    not sent, the client withdraws it; if it was sent, it goes on. The CancelledError has a note
    that says which; after ``asyncio.timeout`` it is the ``__cause__`` of the TimeoutError.

    Callbacks of watches and listeners are functions, not coroutines. They run in the loop, one
    after the other, before any read returns the state that they announce. What one raises is
    logged.
    """

    def __init__(
        self,
        config: Config,
        port: int = -1,
        heartbeat: bool = True,
        *,
        session_timeout: float | None = None,
        chroot: str = "/",
        random: Callable[[int], bytes] = os.urandom,
        connect: Callable[[Config, int], Connection] = connect,
    ) -> None:
        super().__init__(config, port, heartbeat, session_timeout, chroot, random, connect)
        self._lock: asyncio.Lock | None = None
        self._lock_of: asyncio.AbstractEventLoop | None = None

    # ---- the session -------------------------------------------------------------------

    async def start(self, resume: Ticket | None = None) -> str:
        """Open a session; returns its id. Closes an open session first.

        ``resume``: the :attr:`ticket` of another process or client, whose session this one resumes
        instead. Raises ProviderException with the problem and its remedy, TimeoutException, or
        SessionExpiredException.
        """
        async with self._one_at_a_time():
            await self._stop(True)
            session = await self._started(resume)
            self._begun(session)
            for listener in self._listeners:
                session.call_later(partial(listener, SessionState.CONNECTED))
            return self.session_id or ""

    async def _started(self, resume: Ticket | None) -> AsyncSession:
        connections: list[Connection] = []
        connecting = Threads(1, "faaskeeper-aio-connect")
        session: AsyncSession | None = None
        try:
            await through(self._connected(connecting, connections))
            session = AsyncSession(
                connections[0],
                self._listeners,
                timeout=self._timeout,
                renewing=self._heartbeat,
                random=self._random,
                ticket=resume,
            )
            await session.open(START_S)
        except BaseException:
            if session is not None:
                await through(_ended(session))
            elif connections:
                await through(_closed(connecting, connections[0]))
            raise
        finally:
            connecting.end()
        return session

    async def _connected(self, threads: Threads, connections: list[Connection]) -> None:
        connections.append(await threads.run(self._connect, self._config, self._port))

    def _one_at_a_time(self) -> asyncio.Lock:
        """The lock by which start() and stop() in tasks of this loop exclude each other."""
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock_of is not loop:
            self._lock, self._lock_of = asyncio.Lock(), loop
        return self._lock

    async def stop(self, close: bool = True) -> None:
        """Close the session: its ephemerals are deleted.

        ``close`` False: only stop, so that another process may resume the session until its lease
        ends. Raises TimeoutException if the service did not confirm in time; the session then ends
        with its lease. The client is stopped in any case, even if the task is cancelled.
        """
        async with self._one_at_a_time():
            await self._stop(close)

    async def _stop(self, close: bool) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            if session.loop is asyncio.get_running_loop():
                await _ended(session, STOP_S if close else None)
            elif session.loop.is_closed():
                session.desert()
            else:
                self._session = session
                raise RuntimeError("this client was started in another event loop: stop() it there")
        finally:
            if self._session is None:
                self._connection = None

    async def __aenter__(self) -> AsyncClient:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def states(self) -> AsyncIterator[SessionState]:
        """The session's state, now and after each change: ``async for state in client.states()``.

        Ends after LOST.
        """
        return States(self).each()

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener(state)``, a function, whenever the state changes."""
        super().add_listener(_function(listener))

    def _open(self) -> AsyncSession:
        if self._session is None:
            raise self._closed()
        self._session.check()
        return self._session

    def _requests(self) -> Requests:
        return self._open().requests

    def why_lost(self) -> FaaSKeeperException:
        """The error that ended the session."""
        error = None if self._session is None else self._session.error
        return error or self._closed()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a task that ends with the session at the latest; raises the session's error."""
        try:
            return self._open().start(coroutine, name)
        except BaseException:
            coroutine.close()
            raise

    @property
    def connection(self) -> Connection:
        """The connection to the deployment, while a session is open: for the deployment's tools."""
        self._open()
        if self._connection is None:
            raise self._closed()
        return self._connection

    # ---- writing -----------------------------------------------------------------------

    async def create(
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
        kind = NodeKind(ephemeral, sequential, acl, ttl, container)
        write = self._ready().create(path, value, kind)
        try:
            return cast(Node, await self._requests().write(write))
        except NodeDoesntExistException:
            if not makepath:
                raise
        return await self._with_ancestors(path, write)

    async def _with_ancestors(self, path: str, write: Write) -> Node:
        requests = self._requests()
        above, last = self._calls.with_ancestors(path, write)
        creates = [requests.ask(each) for each in above]
        try:
            return cast(Node, await requests.write(last))
        except asyncio.CancelledError:
            for each in creates:
                each.cancel()  # those that have not begun never will
            raise

    async def set_data(self, path: str, value: bytes = b"", version: int = -1) -> Node:
        """Replace a node's data; returns the node. ``version`` -1: any version.

        Raises NodeDoesntExistException, NoAuthException or BadVersionError.
        """
        return cast(Node, await self._requests().write(self._calls.set_data(path, value, version)))

    async def delete(self, path: str, version: int = -1) -> None:
        """Delete a node.

        Raises NodeDoesntExistException, NoAuthException (the parent's ACL), BadVersionError or
        NotEmptyException.
        """
        await self._requests().write(self._calls.delete(path, version))

    async def set_acls(self, path: str, acls: Sequence[Acl], version: int = -1) -> Node:
        """Replace a node's ACL; returns the node. ``version`` is compared with its ``aversion``.

        Raises NodeDoesntExistException, InvalidACLException, NoAuthException or BadVersionError.
        """
        return cast(Node, await self._requests().write(self._calls.set_acls(path, acls, version)))

    async def end_session(self, session: str) -> bool:
        """End another session, or this one; its ephemerals are deleted. Returns whether it was open.

        ``session``: an id as :attr:`session_id` has it. For the super user: raises NoAuthException
        for others, except for their own session.
        """
        return cast(bool, await self._requests().write(self._calls.end_session(session)))

    def transaction(self) -> TransactionRequest:
        """Operations that commit together, or none: ``async with client.transaction() as t``."""
        return TransactionRequest(self._calls, self.commit)

    async def commit(self, operations: Sequence[Part]) -> list[Result]:
        """Commit operations in one transaction; see :meth:`TransactionRequest.commit`."""
        return cast(list[Result], await self._requests().write(self._calls.commit(operations)))

    # ---- reading -----------------------------------------------------------------------

    async def get_data(
        self, path: str, watch: WatchCallbackType | None = None, *, at: Moment | None = None
    ) -> Node:
        """Read a node with its data; ``watch`` is called once, on a data change or deletion.

        ``at``: as of this transaction or time (a datetime; one without a zone is local), as
        :meth:`history` has it, without the names of children. Needs READ then and now.

        Raises NodeDoesntExistException or NoAuthException; with ``at`` also BeforeHistoryException.
        """
        requests, calls = self._requests(), self._calls
        if at is not None:
            if watch is not None:
                raise MalformedInputException("the past does not change: a read 'at' a moment takes no watch")
            return cast(Node, await requests.read(calls.get_data_at(path, at)))
        if watch is None:
            real = calls.there(path)
            record = requests.at_once(real)
            if not isinstance(record, Later) and (node := calls.node_of(path, real, record)) is not None:
                return node
        return cast(Node, await requests.read(calls.get_data(path, _function(watch))))

    async def exists(self, path: str, watch: WatchCallbackType | None = None) -> Node | None:
        """The node without its data, or None. A creation of the node fires ``watch`` too."""
        requests, calls = self._requests(), self._calls
        if watch is None:
            record = requests.at_once(calls.there(path))
            if not isinstance(record, Later):
                meta = None if record is None else record.meta
                return None if meta is None else Node(path, None, meta.stat(), ttl=meta.ttl)
        return cast("Node | None", await requests.read(calls.exists(path, _function(watch))))

    async def get_children(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> list[Node]:
        """The children of a node, sorted by name; ``include_data`` reads each of them too.

        ``watch`` is called once, when a child is created or deleted, or when the node is deleted.
        The result leaves out children that are deleted meanwhile or that may not be read. Without
        ``include_data`` their Stat is not read. Raises NodeDoesntExistException or NoAuthException.
        """
        requests, calls = self._requests(), self._calls
        if watch is None and not include_data:
            real = calls.there(path)
            record = requests.at_once(real)
            if not isinstance(record, Later) and (nodes := calls.children_of(path, real, record)) is not None:
                return nodes
        return cast(list[Node], await requests.read(calls.get_children(path, include_data, _function(watch))))

    async def iter_children(self, path: str, include_data: bool = False) -> AsyncIterator[Node]:
        """Each child of a node, without ever holding a long list of them: one page after the other.

        In the order of storage: sorted within a page only. Children that exist all the time come
        once, others once or not at all. ``include_data`` and what is left out are as in
        :meth:`get_children`; an error comes at the step of the iteration that meets it.
        """
        part: Span | None = Span()
        while part is not None:
            nodes, part = await self._requests().read(self._calls.children_part(path, part))
            for at in range(0, len(nodes), WITH_DATA):
                some = nodes[at : at + WITH_DATA]
                if include_data:
                    some = await self.read_together([("data", node.path) for node in some])
                for each in some:
                    if isinstance(each, Node):
                        yield each

    async def get_children_with_stat(
        self, path: str, watch: WatchCallbackType | None = None
    ) -> tuple[list[str], Stat]:
        """The children's names and the node's Stat, as of one moment (ZooKeeper's getChildren2)."""
        steps = self._ready().get_children_with_stat(path, _function(watch))
        return cast("tuple[list[str], Stat]", await self._requests().read(steps))

    async def all_children_number(self, path: str) -> int:
        """The number of nodes below a node, at any depth. Reads each of them."""
        return cast(int, await self._requests().read(self._calls.all_children_number(path)))

    async def get_ephemerals(self, prefix: str = "/") -> list[str]:
        """The sorted paths of this session's ephemerals that begin with a prefix.

        The session knows which it created; it reads each, since other sessions may have deleted it.
        """
        session = self._open()
        steps = self._calls.get_ephemerals(prefix, session.id, session.owned)
        return cast(list[str], await session.requests.read(steps))

    async def sync(self, path: str = "/") -> str:
        """Make later reads show at least what is committed now; returns the path."""
        return cast(str, await self._requests().read(self._calls.sync(path)))

    async def get_acls(self, path: str, *, at: Moment | None = None) -> tuple[list[Acl], Stat]:
        """A node's ACL and Stat; password hashes only if this client may administer the node.

        ``at``: as of this transaction or time; see :meth:`get_data`. Raises NodeDoesntExistException
        or NoAuthException (neither READ nor ADMIN is permitted; with ``at``, READ is not).
        """
        calls = self._ready()
        steps = calls.get_acls(path) if at is None else calls.get_acls_at(path, at)
        return cast("tuple[list[Acl], Stat]", await self._requests().read(steps))

    def history(
        self,
        path: str,
        recursive: bool = False,
        *,
        since: Moment | None = None,
        until: Moment | None = None,
        session: str | None = None,
        newest_first: bool = True,
    ) -> AsyncIterator[Revision]:
        """What happened to a node, as far back as the log is retained: ``async for`` over it.

        :param recursive: and to everything below it
        :param since: after this transaction, or from this time on (a datetime)
        :param until: up to this transaction or time
        :param session: what this session did; an id as :attr:`session_id` has it

        Leaves out what the client may not read, then or now. Changes after the first step of the
        iteration are left out, too.
        """
        steps = self._ready().history(path, recursive, since, until, session, newest_first)
        return self._pages(steps)

    async def _pages(self, steps: Steps) -> AsyncIterator[Revision]:
        walk: Walk = await self._requests().read(steps)
        while (rows := await self._requests().read(self._calls.page(walk))) is not None:
            for row in rows:
                yield row

    def multi_read(self) -> ReadRequest:
        """Reads as of one transaction: ``async with client.multi_read() as r: ...``."""
        return ReadRequest(self._calls, self.read_together)

    async def read_together(self, reads: Sequence[tuple[str, str]]) -> list[ReadResult]:
        """Read (kind, path) pairs as of one transaction; see :meth:`ReadRequest.commit`."""
        return cast(list[ReadResult], await self._requests().read(self._calls.read_together(reads)))

    # ---- watches -----------------------------------------------------------------------

    def watch(self, path: str, recursive: bool = False) -> Watch:
        """The events of a path: ``async for event in client.watch("/jobs", recursive=True)``.

        The watch is set at the first step of the iteration; in ``async with client.watch(...) as
        events``, at the beginning of the block. It raises the error that ends the session.
        """
        return Watch(self, path, recursive)

    async def add_watch(self, path: str, watch: WatchCallbackType, recursive: bool = False) -> None:
        """Call ``watch(event)`` for every later change of a path, whether a node exists or not.

        Events: creation, deletion, changes of data and of children. ``recursive``: the first three,
        for the path and every path below. The watch stays until :meth:`remove_watches` or the
        session's end.
        """
        await self._requests().read(self._calls.add_watch(path, _function(watch), recursive))

    async def remove_watches(
        self,
        path: str,
        kind: WatchType | Sequence[WatchType] | None = None,
        watch: WatchCallbackType | None = None,
    ) -> None:
        """Remove this session's watches of a path: all, or those of some kinds or a callback.

        Raises NoWatcherException if none matches.
        """
        await self._requests().read(self._calls.remove_watches(path, kind, watch))


def _function(callback: T) -> T:
    """Return the callback.

    Raises MalformedInputException for a coroutine function: nothing awaits it.
    """
    if callback is not None and inspect.iscoroutinefunction(callback):
        raise MalformedInputException(
            "a callback must be a function, not a coroutine function; to await something for each event, use "
            "'async for event in client.watch(...)'"
        )
    return callback


async def _ended(session: AsyncSession, close: float | None = None) -> None:
    """Stop a session and release its resources.

    ``close``: close it at the service too, within this many seconds.
    """
    try:
        await (through(session.abandon()) if close is None else session.close(close))
    finally:
        await through(session.release())


async def _closed(threads: Threads, connection: Connection) -> None:
    await threads.run(connection.close)
