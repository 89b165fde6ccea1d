"""Runs the recipes' rules over the asyncio client.

An operation that is requested without a wait runs in its own task: a cancellation of the caller
does not reach it.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, AbstractContextManager, nullcontext, suppress
from typing import Any, TypeVar, Union

from faaskeeper.aio.client import AsyncClient
from faaskeeper.core.znode import Stat
from faaskeeper.exceptions import SessionClosingException
from faaskeeper.node import Node
from faaskeeper.recipes.rules.port import Pending, Port, Signal
from faaskeeper.session.batches import WriteBatch
from faaskeeper.session.calls import Result
from faaskeeper.watch import WatchCallbackType

T = TypeVar("T")
OnLoss = Callable[[], Union[Awaitable[object], object]]
"""A function or a coroutine function."""
_log = logging.getLogger(__name__)


async def result_of(answer: Awaitable[T] | T) -> T:
    """The result of a function or a coroutine function, given the object that its call returned."""
    return await answer if inspect.isawaitable(answer) else answer


class _Task(Pending[T]):
    def __init__(self, task: asyncio.Task[T]) -> None:
        self._task = task

    def done(self) -> bool:
        return self._task.done()

    async def wait(self, timeout: float) -> bool:
        done, _ = await asyncio.wait((self._task,), timeout=timeout)
        return bool(done)

    def get(self) -> T:
        if self._task.cancelled():
            raise SessionClosingException("the event loop is closing")
        return self._task.result()

    def add_callback(self, callback: Callable[[Pending[T]], None]) -> None:
        self._task.add_done_callback(lambda _: callback(self))


class _Event(Signal):
    def __init__(self) -> None:
        self._event = asyncio.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    async def wait(self, timeout: float | None) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(timeout):
                await self._event.wait()


class AsyncPort(Port):
    """The port of the asyncio client."""

    worker = "task"
    _client: AsyncClient
    in_callback = False

    def __init__(self, client: AsyncClient) -> None:
        super().__init__(client)
        self._tasks: set[asyncio.Task[Any]] = set()

    def _begin(self, coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = asyncio.get_running_loop().create_task(coroutine)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            task.exception()  # its caller may be gone

    def calling(self, function: OnLoss | None) -> Callable[[], None] | None:
        """A function for the rules that calls the user's; a coroutine runs in its own task."""
        if function is None:
            return None

        async def finish(answer: Awaitable[object]) -> None:
            try:
                await answer
            except Exception:
                _log.exception("on_loss failed")

        def call() -> None:
            answer = function()
            if inspect.isawaitable(answer):
                self._begin(finish(answer))

        return call

    async def create(
        self, path: str, value: bytes = b"", *, sequential: bool = False, makepath: bool = False
    ) -> Node:
        return await self._client.create(path, value, sequential=sequential, makepath=makepath)

    async def set_data(self, path: str, value: bytes, version: int) -> Node:
        return await self._client.set_data(path, value, version)

    async def delete(self, path: str) -> None:
        await self._client.delete(path)

    def transaction(self) -> WriteBatch:
        return self._client.transaction()

    async def commit(self, batch: WriteBatch) -> list[Result]:
        return await self._client.commit(batch.parts)

    async def get_data(self, path: str, watch: WatchCallbackType | None = None) -> Node:
        return await self._client.get_data(path, watch)

    async def exists(self, path: str, watch: WatchCallbackType | None = None) -> Node | None:
        return await self._client.exists(path, watch)

    async def get_children(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> list[Node]:
        return await self._client.get_children(path, include_data, watch)

    async def get_children_with_stat(
        self, path: str, watch: WatchCallbackType | None = None
    ) -> tuple[list[str], Stat]:
        return await self._client.get_children_with_stat(path, watch)

    def ask_create(
        self, path: str, value: bytes, *, ephemeral: bool, sequential: bool = False, makepath: bool = False
    ) -> Pending[Node]:
        create = self._client.create(path, value, ephemeral, sequential, makepath=makepath)
        return _Task(self._begin(create))

    def ask_delete(self, path: str, prompt: bool = False) -> Pending[None]:
        return _Task(self._begin(self._client.delete(path)))

    def ask_children(self, path: str) -> Pending[list[Node]]:
        return _Task(self._begin(self._client.get_children(path)))

    def ask_data(self, path: str) -> Pending[Node]:
        return _Task(self._begin(self._client.get_data(path)))

    def signal(self) -> Signal:
        return _Event()

    def guard(self) -> AbstractContextManager[object]:
        return nullcontext()  # one task runs at a time

    def turns(self) -> AbstractAsyncContextManager[object]:
        return asyncio.Lock()

    def call_after(self, seconds: float, callback: Callable[[], None]) -> None:
        def call() -> None:
            if self.session_id is not None:
                callback()

        asyncio.get_running_loop().call_later(seconds, call)
