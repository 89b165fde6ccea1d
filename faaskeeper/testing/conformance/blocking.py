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
import threading
from collections.abc import Callable, Coroutine, Iterator, Sequence
from functools import partial
from queue import SimpleQueue
from typing import Any, TypeVar, Union, cast

from faaskeeper.aio import AsyncClient
from faaskeeper.aio.session import AsyncSession
from faaskeeper.client import FaaSKeeperClient, Future, Ticket
from faaskeeper.client.batches import ReadRequest, TransactionRequest
from faaskeeper.config import Config
from faaskeeper.core.records import Record
from faaskeeper.core.znode import Stat
from faaskeeper.exceptions import SessionClosingException
from faaskeeper.node import Node
from faaskeeper.session.arguments import NodeKind
from faaskeeper.session.calls import Calls, Part, ReadResult, Result, stat_of
from faaskeeper.session.commands import Steps

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

    def drive(self, steps: Steps) -> Any:
        """Perform steps in the session's order."""
        return self._client.in_loop(self._session.requests.read, steps)

    def get(self, path: str) -> Record | None:
        """A path's record (its tombstone, or None), as it may be shown now."""
        return cast("Record | None", self.drive(self._session.rules.read(path)))

    def call_later(self, callback: Callable[[], Any]) -> None:
        """Run a callback in the callback thread, after those that the session knows of."""
        self._client.in_loop(self._session.call_later, partial(self._client.call_later, callback))


class _Client(AsyncClient):
    """The asyncio client, whose nodes load their Stat as those of the threaded client do."""

    def __init__(self, config: Config, *args: Any, load: Callable[[str], Stat], **options: Any) -> None:
        super().__init__(config, *args, **options)
        self._calls.load = load

    def operations(self) -> Calls:
        """The operations, while a session is open."""
        return self._ready()

    def read_record(self, path: str) -> Coroutine[Any, Any, Record]:
        """As ``record`` of the threaded client."""
        return cast("Coroutine[Any, Any, Record]", self._requests().read(self._calls.record(path)))


class BlockingClient:
    """See the module.

    The arguments are those of :class:`~faaskeeper.aio.AsyncClient`. What is not defined here is its
    own: coroutine functions wait for their result, and callbacks are forwarded.
    ``loop_factory``: makes the event loop.
    """

    def __init__(
        self,
        config: Config,
        *args: Any,
        loop_factory: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop,
        **options: Any,
    ) -> None:
        self.client = _Client(config, *args, load=self._stat, **options)
        self._loop_factory = loop_factory
        self._loop: asyncio.AbstractEventLoop | None = None
        self._line: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._threads: list[threading.Thread] = []

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.client, name)
        if not inspect.ismethod(found):
            return found

        def call(*args: Any, **more: Any) -> Any:
            result = found(*map(self._forward, args), **{key: self._forward(more[key]) for key in more})
            return self._wait(result) if inspect.iscoroutine(result) else result

        return call

    def _forward(self, argument: Any) -> Any:
        return _Forwarded(argument, self.call_later) if callable(argument) else argument

    def _stat(self, path: str) -> Stat:
        return stat_of(path, self.exists(path))

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

    # ---- the session -------------------------------------------------------------------

    def start(self, resume: Ticket | None = None) -> str:
        if self._loop is None:
            self._begin()
        try:
            return self._wait(self.client.start(resume))
        except BaseException:
            self._finish()
            raise

    def stop(self, close: bool = True) -> str:
        if self._loop is not None:
            try:
                self._wait(self.client.stop(close))
            finally:
                self._finish()
        return "closed"

    def __enter__(self) -> BlockingClient:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def session(self) -> BlockingSession | None:
        """The session, to be used by any thread."""
        session = self.client.session
        return None if session is None else BlockingSession(self, session)

    @property
    def _session(self) -> BlockingSession | None:
        return self.session

    @property
    def in_callback(self) -> bool:
        return threading.current_thread() in self._threads

    @property
    def session_status(self) -> str:
        return "DISCONNECTED" if self.client.session is None else self.client.state.value

    def logs(self) -> str:
        return "" if self.client.session is None else self.client.session.connection.logs()

    # ---- operations --------------------------------------------------------------------

    def create_async(
        self, path: str, value: bytes = b"", *kinds: Any, makepath: bool = False, **more: Any
    ) -> Future[Node]:
        what = self.client.operations().create(path, value, NodeKind(*kinds, **more)).what
        return self._later(self.client.create(path, value, *kinds, makepath=makepath, **more), what)

    def set_data_async(self, path: str, value: bytes = b"", version: int = -1) -> Future[Node]:
        what = self.client.operations().set_data(path, value, version).what
        return self._later(self.client.set_data(path, value, version), what)

    def delete_async(self, path: str, version: int = -1) -> Future[None]:
        what = self.client.operations().delete(path, version).what
        return self._later(self.client.delete(path, version), what)

    def _read_later(
        self, read: Callable[..., Coroutine[Any, Any, T]], path: str, *args: Any, **more: Any
    ) -> Future[T]:
        self.client.operations().there(path)
        coroutine = read(path, *map(self._forward, args), **{key: self._forward(more[key]) for key in more})
        return self._later(coroutine, f"read {path}", False)

    def get_data_async(self, path: str, *args: Any, **more: Any) -> Future[Node]:
        return self._read_later(self.client.get_data, path, *args, **more)

    def exists_async(self, path: str, *args: Any, **more: Any) -> Future[Node | None]:
        return self._read_later(self.client.exists, path, *args, **more)

    def get_children_async(self, path: str, *args: Any, **more: Any) -> Future[list[Node]]:
        return self._read_later(self.client.get_children, path, *args, **more)

    def iter_children(self, path: str, include_data: bool = False) -> Iterator[Node]:
        """See :meth:`AsyncClient.iter_children`."""
        nodes = self.client.iter_children(path, include_data)

        async def step() -> Node | None:
            return await anext(nodes, None)

        while (node := self._wait(step())) is not None:
            yield node

    def record(self, path: str) -> Record:
        return self._wait(self.client.read_record(path))

    def transaction(self) -> TransactionRequest:
        return TransactionRequest(self._calls, self.commit)

    def commit(self, operations: Sequence[Part]) -> list[Result]:
        return self._wait(self.client.commit(operations))

    def multi_read(self) -> ReadRequest:
        return ReadRequest(self._calls, self.read_together)

    def read_together(self, reads: Sequence[tuple[str, str]]) -> list[ReadResult]:
        return self._wait(self.client.read_together(reads))


Client = Union[FaaSKeeperClient, BlockingClient]
"""A client of either kind."""
