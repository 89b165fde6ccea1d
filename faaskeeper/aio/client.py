"""The client for asyncio: every operation of the threaded client's, awaited."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from functools import partial
from types import TracebackType
from typing import Any, TypeVar, cast

from faaskeeper.aio.batches import ReadRequest, TransactionRequest
from faaskeeper.aio.events import States, Watch
from faaskeeper.aio.session import AsyncSession, Later, Listener
from faaskeeper.aio.threads import Threads, through
from faaskeeper.client.connect import connect
from faaskeeper.config import Config
from faaskeeper.core import acl as acls
from faaskeeper.core import forks
from faaskeeper.core.acl import Identity
from faaskeeper.core.connection import Connection
from faaskeeper.core.znode import Acl, Stat
from faaskeeper.exceptions import (
    FaaSKeeperException,
    ForkedException,
    MalformedInputException,
    NodeDoesntExistException,
    NodeExistsException,
    SessionClosingException,
)
from faaskeeper.node import Node
from faaskeeper.session.arguments import NodeKind
from faaskeeper.session.calls import Calls, Part, ReadResult, Result, Write
from faaskeeper.session.commands import Steps
from faaskeeper.session.states import SessionState, Ticket
from faaskeeper.watch import WatchCallbackType, WatchType

_START_S = 30.0
_STOP_S = 10.0

T = TypeVar("T")


class AsyncClient(forks.Inherited):
    """A connection to a deployment, and one session with it inside ``async with``.

    :param config: the deployment
    :param port: where to listen for answers with the TCP channel; -1: the configuration's, or a free one
    :param heartbeat: renew the session's lease; without, it ends after its time-out whatever it does
    :param session_timeout: seconds of silence after which the session ends; None: the configuration's
    :param chroot: a path; every path given and shown is below it
    :param random, connect: random bytes, and the way to the deployment; for tests

    Belongs to the event loop that it is started in; runs on asyncio's and on uvloop. Any number of
    tasks may use it. Each sees what was asked for before it, in whichever task, and no more: writes
    happen and are answered in the order in which they are asked for, reads after the writes before
    them, and before those after.

    A task that is cancelled, or whose time-out is over, leaves the session as it is. A write that was not
    sent by then is taken back; one that was sent is carried through. The CancelledError has a note that
    says which; after ``asyncio.timeout`` it is the ``__cause__`` of the TimeoutError.

    Watches' callbacks and listeners are functions, not coroutines; they are called in the loop, one after the
    other, before any read is answered that shows what they announce. What one raises is logged.
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
        self._config = config
        self._port = port
        self._heartbeat = heartbeat
        self._timeout = float(session_timeout or config.session_timeout)
        self._random = random
        self._connect = connect
        self._calls = Calls(chroot)
        self._session: AsyncSession | None = None
        self._connection: Connection | None = None
        self._listeners: list[Listener] = []
        self._lock: asyncio.Lock | None = None
        self._lock_of: asyncio.AbstractEventLoop | None = None
        self._inherited = ""

    # ---- the session -------------------------------------------------------------------

    async def start(self, resume: Ticket | None = None) -> str:
        """Open a session; returns its id. One that is open is closed first.

        ``resume``: go on with a session of another process, or client, instead, by its :attr:`ticket`.
        Raises ProviderException with what is wrong and what to do, TimeoutException, or
        SessionExpiredException.
        """
        async with self._one_at_a_time():
            await self._stop(True)
            session = await self._started(resume)
            self._connection, self._session = session.connection, session
            self._inherited = ""
            forks.register(self)
            self._calls.begin(session.rules, session.connection)
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
            session.auth = self._calls.identities.credentials
            await session.open(_START_S)
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
        """Excludes start() and stop() in several tasks of this loop from each other."""
        loop = asyncio.get_running_loop()
        if self._lock is None or self._lock_of is not loop:
            self._lock, self._lock_of = asyncio.Lock(), loop
        return self._lock

    @property
    def ticket(self) -> Ticket:
        """What another process needs to go on with this session. Keep it as secret as a password."""
        return self._open().ticket

    async def stop(self, close: bool = True) -> None:
        """Close the session: its ephemerals are deleted.

        ``close`` False: only stop, so that another process may go on with the session until its lease ends.
        Raises TimeoutException when the service did not confirm in time; the session then ends with its
        lease. The client is stopped in any case, also when the task is cancelled.
        """
        async with self._one_at_a_time():
            await self._stop(close)

    async def _stop(self, close: bool) -> None:
        session, self._session = self._session, None
        if session is None:
            return
        try:
            if session.loop is asyncio.get_running_loop():
                await _ended(session, _STOP_S if close else None)
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

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    @property
    def session_id(self) -> str | None:
        """Id of the session (hexadecimal), None without one."""
        return None if self._session is None else f"{self._session.id:08x}"

    @property
    def state(self) -> SessionState:
        """State of the session; LOST without one."""
        return SessionState.LOST if self._session is None else self._session.state

    def states(self) -> AsyncIterator[SessionState]:
        """The session's state, now and whenever it changes: ``async for state in client.states()``.

        Ends after LOST.
        """
        return States(self).each()

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener(state)`` whenever the state changes."""
        self._listeners.append(_function(listener))

    def remove_listener(self, listener: Listener) -> None:
        """No longer call it."""
        if listener in self._listeners:
            self._listeners.remove(listener)

    def _open(self) -> AsyncSession:
        if self._session is None:
            raise self._closed()
        self._session.check()
        return self._session

    def why_lost(self) -> FaaSKeeperException:
        """What ended the session."""
        error = None if self._session is None else self._session.error
        return error or self._closed()

    def spawn(self, coroutine: Coroutine[Any, Any, Any], name: str) -> asyncio.Task[Any]:
        """Start a task that ends with the session, at the latest; raises what ended it."""
        try:
            return self._open().start(coroutine, name)
        except BaseException:
            coroutine.close()
            raise

    def _closed(self) -> FaaSKeeperException:
        return ForkedException(self._inherited) if self._inherited else SessionClosingException()

    def _ready(self) -> Calls:
        """The client's operations, while a session is open."""
        self._open()
        return self._calls

    def forked(self, why: str) -> None:
        """See :class:`faaskeeper.core.forks.Inherited`."""
        if self._session is not None:
            self._inherited = why
        self._session = self._connection = None

    # ---- who this is -------------------------------------------------------------------

    def add_auth(self, scheme: str, credential: str) -> None:
        """Show a credential with every operation from now on, in later sessions too.

        ``scheme``: ``digest``, with ``user:password``. A wrong password shows when an ACL asks for it.
        """
        self._calls.identities.add(scheme, credential)
        self._calls.prove(self._connection)
        if self._session is not None:
            self._session.auth = self._calls.identities.credentials

    def who_am_i(self) -> list[Identity]:
        """Scheme and name of what this client is known as; no hashes (ZooKeeper's whoAmI)."""
        self._open()
        return acls.named(self._calls.identities.who)

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
        """Create a node; returns it, with its number when sequential.

        :param acl: entries (permissions, scheme, id); None: everything to everybody
        :param ttl: delete the node when it has no children and did not change for so many ms
        :param container: delete the node when its last child is deleted
        :param makepath: create what is missing above it, open to everybody

        Raises NodeExistsException, NodeDoesntExistException (the parent), NoAuthException (the parent's ACL),
        InvalidACLException, or NoChildrenForEphemeralsException.
        """
        kind = NodeKind(ephemeral, sequential, acl, ttl, container)
        write = self._ready().create(path, value, kind)
        try:
            return cast(Node, await self._open().write(write))
        except NodeDoesntExistException:
            if not makepath:
                raise
        return await self._with_parents(path, write)

    async def _with_parents(self, path: str, write: Write) -> Node:
        session = self._open()
        above = [session.ask(each) for each in self._calls.above(path)]
        node: Node | FaaSKeeperException
        try:
            node = cast(Node, await session.write(write))
        except FaaSKeeperException as error:
            node = error
        except asyncio.CancelledError:
            for each in above:
                each.cancel()  # so that those are not begun that were not
            raise
        for each in above:  # answered before, in the session's order
            error_above = each.exception() if each.done() else None
            if error_above is not None and not isinstance(error_above, NodeExistsException):
                raise error_above
        if isinstance(node, FaaSKeeperException):
            raise node
        return node

    async def set_data(self, path: str, value: bytes = b"", version: int = -1) -> Node:
        """Replace a node's data; returns the node. ``version`` -1: whichever it is.

        Raises NodeDoesntExistException, NoAuthException or BadVersionError.
        """
        return cast(Node, await self._open().write(self._calls.set_data(path, value, version)))

    async def delete(self, path: str, version: int = -1) -> None:
        """Delete a node.

        Raises NodeDoesntExistException, NoAuthException (the parent's ACL), BadVersionError or
        NotEmptyException.
        """
        await self._open().write(self._calls.delete(path, version))

    async def set_acls(self, path: str, acls: Sequence[Acl], version: int = -1) -> Node:
        """Replace a node's ACL; returns the node. ``version`` is compared with its ``aversion``.

        Raises NodeDoesntExistException, InvalidACLException, NoAuthException or BadVersionError.
        """
        return cast(Node, await self._open().write(self._calls.set_acls(path, acls, version)))

    def transaction(self) -> TransactionRequest:
        """Operations to commit together, all or none: ``async with client.transaction() as t: ...``."""
        return TransactionRequest(self._calls, self.commit)

    async def commit(self, operations: Sequence[Part]) -> list[Result]:
        """Commit operations in one transaction; see :meth:`TransactionRequest.commit`."""
        return cast(list[Result], await self._open().write(self._calls.commit(operations)))

    # ---- reading -----------------------------------------------------------------------

    async def get_data(self, path: str, watch: WatchCallbackType | None = None) -> Node:
        """Read a node with its data; ``watch`` is called once, when that changes or the node is deleted.

        Raises NodeDoesntExistException or NoAuthException.
        """
        session, calls = self._open(), self._calls
        if watch is None:
            real = calls.there(path)
            record = session.at_once(real)
            if not isinstance(record, Later) and (node := calls.node_of(path, real, record)) is not None:
                return node
        return cast(Node, await session.read(calls.get_data(path, _function(watch))))

    async def exists(self, path: str, watch: WatchCallbackType | None = None) -> Node | None:
        """The node without its data, or None. ``watch`` also fires when the node is created."""
        session, calls = self._open(), self._calls
        if watch is None:
            record = session.at_once(calls.there(path))
            if not isinstance(record, Later):
                meta = None if record is None else record.meta
                return None if meta is None else Node(path, None, meta.stat())
        return cast("Node | None", await session.read(calls.exists(path, _function(watch))))

    async def get_children(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> list[Node]:
        """The children of a node, by name; ``include_data`` reads each of them too.

        ``watch`` is called once, when a child is created or deleted, or the node is deleted. Children
        deleted while they are read, or that may not be read, are left out. Without ``include_data`` their
        Stat is not read. Raises NodeDoesntExistException or NoAuthException.
        """
        session, calls = self._open(), self._calls
        if watch is None and not include_data:
            real = calls.there(path)
            record = session.at_once(real)
            if not isinstance(record, Later) and (nodes := calls.children_of(path, real, record)) is not None:
                return nodes
        return cast(list[Node], await session.read(calls.get_children(path, include_data, _function(watch))))

    async def get_children_with_stat(
        self, path: str, watch: WatchCallbackType | None = None
    ) -> tuple[list[str], Stat]:
        """Names of the children and the node's Stat, as of one moment (ZooKeeper's getChildren2)."""
        steps = self._ready().get_children_with_stat(path, _function(watch))
        return cast("tuple[list[str], Stat]", await self._open().read(steps))

    async def all_children_number(self, path: str) -> int:
        """How many nodes there are below a node, at any depth. Reads every one of them."""
        return cast(int, await self._open().read(self._calls.all_children_number(path)))

    async def get_ephemerals(self, prefix: str = "/") -> list[str]:
        """Paths of this session's ephemerals that begin with a prefix, in order.

        The session knows what it created; each is read, since others may have deleted it.
        """
        session = self._open()
        return cast(list[str], await session.read(self._ephemerals(session, prefix)))

    def _ephemerals(self, session: AsyncSession, prefix: str) -> Steps:
        """Steps whose first is in their turn: what was created before is known by then."""
        return (yield from self._calls.get_ephemerals(prefix, session.id, list(session.owned)))

    async def sync(self, path: str = "/") -> str:
        """Make every later read of this session show at least what is committed now; returns the path."""
        return cast(str, await self._open().read(self._calls.sync(path)))

    async def get_acls(self, path: str) -> tuple[list[Acl], Stat]:
        """A node's ACL and Stat, hashes of passwords only to who may administrate the node.

        Raises NodeDoesntExistException or NoAuthException (neither READ nor ADMIN is permitted).
        """
        return cast("tuple[list[Acl], Stat]", await self._open().read(self._calls.get_acls(path)))

    def multi_read(self) -> ReadRequest:
        """Reads to be done as of one transaction: ``async with client.multi_read() as r: ...``."""
        return ReadRequest(self._calls, self.read_together)

    async def read_together(self, reads: Sequence[tuple[str, str]]) -> list[ReadResult]:
        """Read (kind, path) pairs as of one transaction; see :meth:`ReadRequest.commit`."""
        return cast(list[ReadResult], await self._open().read(self._calls.read_together(reads)))

    # ---- watches -----------------------------------------------------------------------

    def watch(self, path: str, recursive: bool = False) -> Watch:
        """Events of a path as they happen: ``async for event in client.watch("/jobs", recursive=True)``.

        They count from the first step of the iteration; from the beginning of the block with ``async with
        client.watch(...) as events``. It ends with the session, by the error that ended it.
        """
        return Watch(self, path, recursive)

    async def add_watch(self, path: str, watch: WatchCallbackType, recursive: bool = False) -> None:
        """Call ``watch(event)`` for every change of a path from now on, whether a node exists or not.

        Announced are creation, deletion, changes of data, and of children; ``recursive``: the first three,
        of the path and of every path below. It stays until :meth:`remove_watches` or the session's end.
        """
        await self._open().read(self._calls.add_watch(path, _function(watch), recursive))

    async def remove_watches(
        self,
        path: str,
        kind: WatchType | Sequence[WatchType] | None = None,
        watch: WatchCallbackType | None = None,
    ) -> None:
        """Remove this session's watches of a path: of a kind, or kinds, or any; with a callback, or any.

        Raises NoWatcherException where there is none.
        """
        await self._open().read(self._calls.remove_watches(path, kind, watch))

    def check_watches(
        self,
        path: str,
        kind: WatchType | Sequence[WatchType] | None = None,
        watch: WatchCallbackType | None = None,
    ) -> None:
        """Raise NoWatcherException unless this session has such a watch; see :meth:`remove_watches`."""
        self._ready().check_watches(path, kind, watch)


def _function(callback: T) -> T:
    """A callback, or None. Raises MalformedInputException for a coroutine function, which nothing awaits."""
    if callback is not None and inspect.iscoroutinefunction(callback):
        raise MalformedInputException(
            "a callback must be a function, not a coroutine function; to await something for each event, use "
            "'async for event in client.watch(...)'"
        )
    return callback


async def _ended(session: AsyncSession, close: float | None = None) -> None:
    """End a session here, and give back what it took. ``close``: end it for the service, within so many s."""
    try:
        await (through(session.abandon()) if close is None else session.close(close))
    finally:
        await through(session.release())


async def _closed(threads: Threads, connection: Connection) -> None:
    await threads.run(connection.close)
