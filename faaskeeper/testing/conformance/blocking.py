"""The asyncio client behind the threaded client's interface: for tests of what both promise.

Each client has an event loop in a thread of its own. Calls wait for it; callbacks run in another
thread, one after the other, so that they may block and call the client. An event is put in line for
that thread in the loop, so before the caller has the result of any read that the asyncio client
answers after it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import threading
from collections.abc import Callable, Coroutine, Sequence
from functools import partial
from queue import SimpleQueue
from types import TracebackType
from typing import Any, TypeVar, Union, cast

from faaskeeper.aio import AsyncClient
from faaskeeper.aio.session import AsyncSession
from faaskeeper.client import FaaSKeeperClient, Future, SessionState, Ticket
from faaskeeper.client.batches import ReadRequest, TransactionRequest
from faaskeeper.client.connect import connect
from faaskeeper.config import Config
from faaskeeper.core.acl import Identity
from faaskeeper.core.connection import Connection
from faaskeeper.core.records import Record
from faaskeeper.core.znode import Acl, Meta, Stat
from faaskeeper.exceptions import SessionClosingException
from faaskeeper.node import Node
from faaskeeper.session.arguments import NodeKind
from faaskeeper.session.calls import Calls, Part, ReadResult, Result, stat_of
from faaskeeper.session.commands import Steps
from faaskeeper.session.states import Listener
from faaskeeper.watch import WatchCallbackType, WatchType

T = TypeVar("T")
_JOIN_S = 10.0
_log = logging.getLogger(__name__)


class _Forwarded:
    """A callback that is put in line; equal where its callback is."""

    __slots__ = ("_callback", "_later")

    def __init__(self, callback: Callable[[Any], Any], later: Callable[[Callable[[], None]], None]) -> None:
        self._callback = callback
        self._later = later

    def __call__(self, event: Any) -> None:
        self._later(partial(self._callback, event))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Forwarded) and other._callback == self._callback

    def __hash__(self) -> int:
        return hash(self._callback)


class BlockingSession:
    """A session of the asyncio client, with what tests use of the threaded client's
    :class:`Session`.

    Methods run in the loop; attributes are those of the session.
    """

    def __init__(self, client: BlockingClient, session: AsyncSession) -> None:
        self._client = client
        self._session = session

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._session, name)
        if inspect.ismethod(found):
            return partial(self._client.in_loop, found)
        return found

    @property
    def incarnation(self) -> int:
        """Which process' part in the session this is."""
        return self._session.ticket.incarnation

    def drive(self, steps: Steps) -> Any:
        """Perform steps in the session's order."""
        return self._client.in_loop(self._session.requests.read, steps)

    def get(self, path: str) -> Record | None:
        """A path's record (its tombstone, or None), as it may be shown now."""
        return cast("Record | None", self.drive(self._session.rules.read(path)))

    def call_later(self, callback: Callable[[], Any]) -> None:
        """Run a callback in the callback thread, after those that the session knows of."""
        self._client.in_loop(self._session.call_later, partial(self._client.call_later, callback))


class BlockingClient:
    """See the module. The arguments are those of :class:`~faaskeeper.client.FaaSKeeperClient`.

    ``loop_factory``: makes the event loop.
    """

    def __init__(
        self,
        cfg: Config,
        port: int = -1,
        heartbeat: bool = True,
        *,
        session_timeout: float | None = None,
        chroot: str = "/",
        random: Callable[[int], bytes] = os.urandom,
        connect: Callable[[Config, int], Connection] = connect,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
    ) -> None:
        self.client = AsyncClient(
            cfg,
            port,
            heartbeat,
            session_timeout=session_timeout,
            chroot=chroot,
            random=random,
            connect=connect,
        )
        self.client._calls._load = lambda path: stat_of(path, self.exists(path))
        self._loop_factory = loop_factory
        self._loop: asyncio.AbstractEventLoop | None = None
        self._line: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    # ---- the loop ------------------------------------------------------------------------

    def in_loop(self, function: Callable[..., Any], *args: Any) -> Any:
        """Call a function in the loop's thread, await what it returns, and return that."""
        done: Future[Any] = Future("a call in the loop")
        loop = self._loop
        if loop is None:
            raise SessionClosingException()

        async def call() -> None:
            try:
                result = function(*args)
                done.set_result(await result if inspect.isawaitable(result) else result)
            except BaseException as error:
                done.set_exception(error)

        loop.call_soon_threadsafe(loop.create_task, call())
        return done.get()

    def _wait(self, coroutine: Coroutine[Any, Any, T]) -> T:
        if self._loop is None:
            return asyncio.run(coroutine)  # it says that there is no session
        return cast(T, self.in_loop(lambda: coroutine))

    def _later(self, coroutine: Coroutine[Any, Any, T], what: str, write: bool = True) -> Future[T]:
        """Ask, in the order of calls, without waiting."""
        future: Future[T] = Future(what, write, self.call_later)

        async def ask() -> None:
            try:
                future.set_result(await coroutine)
            except BaseException as error:
                future.set_exception(error)

        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._loop.create_task, ask())
        return future

    def call_later(self, callback: Callable[[], Any]) -> None:
        """Run a callback in the callback thread, after those before it."""
        self._line.put(callback)

    def _begin(self) -> None:
        ready = threading.Event()

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            self._end = asyncio.Event()
            ready.set()
            await self._end.wait()

        def loop() -> None:
            with asyncio.Runner(loop_factory=self._loop_factory) as runner:
                runner.run(serve())

        def callbacks() -> None:
            while (callback := self._line.get()) is not None:
                try:
                    callback()
                except BaseException:
                    _log.exception("a callback failed")

        self._threads = [threading.Thread(target=run, daemon=True) for run in (loop, callbacks)]
        for thread in self._threads:
            thread.start()
        ready.wait()

    def _finish(self) -> None:
        loop, self._loop = self._loop, None
        if loop is not None:
            loop.call_soon_threadsafe(self._end.set)
            self._line.put(None)
            for thread in self._threads:
                if thread is not threading.current_thread():
                    thread.join(_JOIN_S)

    # ---- the session -----------------------------------------------------------------------

    def start(self, resume: Ticket | None = None) -> str:
        """See the threaded client."""
        if self._loop is None:
            self._begin()
        try:
            return self._wait(self.client.start(resume))
        except BaseException:
            self._finish()
            raise

    def stop(self, close: bool = True) -> str:
        """See the threaded client."""
        if self._loop is not None:
            try:
                self._wait(self.client.stop(close))
            finally:
                self._finish()
        return "closed"

    def __enter__(self) -> BlockingClient:
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
    def _session(self) -> BlockingSession | None:
        session = self.client._session
        return None if session is None else BlockingSession(self, session)

    @property
    def _connection(self) -> Connection | None:
        return self.client._connection

    @property
    def in_callback(self) -> bool:
        """See the threaded client."""
        return threading.current_thread() in self._threads

    @property
    def _calls(self) -> Calls:
        return self.client._calls

    @property
    def ticket(self) -> Ticket:
        """See the threaded client."""
        return self.client.ticket

    @property
    def session_id(self) -> str | None:
        """See the threaded client."""
        return self.client.session_id

    @property
    def session_status(self) -> str:
        """See the threaded client."""
        return "DISCONNECTED" if self.client._session is None else self.client.state.value

    @property
    def state(self) -> SessionState:
        """See the threaded client."""
        return self.client.state

    def add_listener(self, listener: Listener) -> None:
        """See the threaded client."""
        self.client.add_listener(_Forwarded(listener, self.call_later))

    def remove_listener(self, listener: Listener) -> None:
        """See the threaded client."""
        self.client.remove_listener(_Forwarded(listener, self.call_later))

    def add_auth(self, scheme: str, credential: str) -> None:
        """See the threaded client."""
        self.client.add_auth(scheme, credential)

    @property
    def connection(self) -> Connection:
        """See the threaded client."""
        return self.client.connection

    def who_am_i(self) -> list[Identity]:
        """See the threaded client."""
        return self.client.who_am_i()

    def logs(self) -> str:
        """See the threaded client."""
        return "" if self._connection is None else self._connection.logs()

    # ---- writing ---------------------------------------------------------------------------

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
        """See the threaded client."""
        kind = NodeKind(ephemeral, sequential, acl, ttl, container)
        return self._wait(self.client.create(path, value, **kind._asdict(), makepath=makepath))

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
        """See the threaded client."""
        kind = NodeKind(ephemeral, sequential, acl, ttl, container)
        what = self.client._ready().create(path, value, kind).what
        return self._later(self.client.create(path, value, **kind._asdict(), makepath=makepath), what)

    def set_data(self, path: str, value: bytes = b"", version: int = -1) -> Node:
        """See the threaded client."""
        return self._wait(self.client.set_data(path, value, version))

    def set_data_async(self, path: str, value: bytes = b"", version: int = -1) -> Future[Node]:
        """See the threaded client."""
        what = self.client._ready().set_data(path, value, version).what
        return self._later(self.client.set_data(path, value, version), what)

    def delete(self, path: str, version: int = -1) -> None:
        """See the threaded client."""
        self._wait(self.client.delete(path, version))

    def delete_async(self, path: str, version: int = -1) -> Future[None]:
        """See the threaded client."""
        what = self.client._ready().delete(path, version).what
        return self._later(self.client.delete(path, version), what)

    def set_acls(self, path: str, acls: Sequence[Acl], version: int = -1) -> Node:
        """See the threaded client."""
        return self._wait(self.client.set_acls(path, acls, version))

    def transaction(self) -> TransactionRequest:
        """See the threaded client."""
        return TransactionRequest(self._calls, self.commit)

    def commit(self, operations: Sequence[Part]) -> list[Result]:
        """See the threaded client."""
        return self._wait(self.client.commit(operations))

    # ---- reading ---------------------------------------------------------------------------

    def _callback(self, watch: WatchCallbackType | None) -> WatchCallbackType | None:
        return None if watch is None else _Forwarded(watch, self.call_later)

    def _read(self, path: str, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        try:
            self.client._ready().there(path)
        except BaseException:
            coroutine.close()
            raise
        return self._later(coroutine, f"read {path}", False)

    def get_data(self, path: str, watch: WatchCallbackType | None = None) -> Node:
        """See the threaded client."""
        return self._wait(self.client.get_data(path, self._callback(watch)))

    def get_data_async(self, path: str, watch: WatchCallbackType | None = None) -> Future[Node]:
        """See the threaded client."""
        return self._read(path, self.client.get_data(path, self._callback(watch)))

    def exists(self, path: str, watch: WatchCallbackType | None = None) -> Node | None:
        """See the threaded client."""
        return self._wait(self.client.exists(path, self._callback(watch)))

    def exists_async(self, path: str, watch: WatchCallbackType | None = None) -> Future[Node | None]:
        """See the threaded client."""
        return self._read(path, self.client.exists(path, self._callback(watch)))

    def get_children(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> list[Node]:
        """See the threaded client."""
        return self._wait(self.client.get_children(path, include_data, self._callback(watch)))

    def get_children_async(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> Future[list[Node]]:
        """See the threaded client."""
        return self._read(path, self.client.get_children(path, include_data, self._callback(watch)))

    def get_children_with_stat(
        self, path: str, watch: WatchCallbackType | None = None
    ) -> tuple[list[str], Stat]:
        """See the threaded client."""
        return self._wait(self.client.get_children_with_stat(path, self._callback(watch)))

    def all_children_number(self, path: str) -> int:
        """See the threaded client."""
        return self._wait(self.client.all_children_number(path))

    def get_ephemerals(self, prefix: str = "/") -> list[str]:
        """See the threaded client."""
        return self._wait(self.client.get_ephemerals(prefix))

    def sync(self, path: str = "/") -> str:
        """See the threaded client."""
        return self._wait(self.client.sync(path))

    def get_acls(self, path: str) -> tuple[list[Acl], Stat]:
        """See the threaded client."""
        return self._wait(self.client.get_acls(path))

    def record(self, path: str) -> Record:
        """See the threaded client."""
        return cast(Record, self._wait(self.client._requests().read(self._calls.record(path))))

    def may_read(self, path: str, meta: Meta) -> None:
        """See the threaded client."""
        self._calls.may_read(path, meta)

    def multi_read(self) -> ReadRequest:
        """See the threaded client."""
        return ReadRequest(self._calls, self.read_together)

    def read_together(self, reads: Sequence[tuple[str, str]]) -> list[ReadResult]:
        """See the threaded client."""
        return self._wait(self.client.read_together(reads))

    # ---- watches ---------------------------------------------------------------------------

    def add_watch(self, path: str, watch: WatchCallbackType, recursive: bool = False) -> None:
        """See the threaded client."""
        self._wait(self.client.add_watch(path, _Forwarded(watch, self.call_later), recursive))

    def remove_watches(
        self,
        path: str,
        kind: WatchType | Sequence[WatchType] | None = None,
        watch: WatchCallbackType | None = None,
    ) -> None:
        """See the threaded client."""
        self._wait(self.client.remove_watches(path, kind, self._callback(watch)))

    def check_watches(
        self,
        path: str,
        kind: WatchType | Sequence[WatchType] | None = None,
        watch: WatchCallbackType | None = None,
    ) -> None:
        """See the threaded client."""
        self.client.check_watches(path, kind, self._callback(watch))


Client = Union[FaaSKeeperClient, BlockingClient]
"""A client of either kind."""
