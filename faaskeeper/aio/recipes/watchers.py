"""Watches that renew themselves: a node's state, now and after every change."""

from __future__ import annotations

import asyncio
import logging
from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from typing import Any, Generic, Self, TypeVar, Union

from faaskeeper.aio.client import AsyncClient
from faaskeeper.aio.recipes.port import AsyncPort, result_of
from faaskeeper.core.znode import Stat
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.recipes.rules.watchers import AGAIN_S, ChildrenLooks, Data, DataLooks, Looks
from faaskeeper.session.states import SessionState

T = TypeVar("T")
DataFunction = Callable[[bytes | None, Stat | None], Union[Awaitable[object], object]]
ChildrenFunction = Callable[[list[str]], Union[Awaitable[object], object]]
_log = logging.getLogger(__name__)


class _Watching(ABC, Generic[T]):
    """Reads, and reads again after every event. Of quick changes, it may show only the last."""

    def __init__(self, client: AsyncClient, path: str, calls: bool) -> None:
        self._client = client
        self._port = AsyncPort(client)
        self._path = path
        self._calls = calls
        self._task: asyncio.Task[None] | None = None
        self._over = False

    def __aiter__(self) -> AsyncIterator[T]:
        return self._each(in_later_sessions=False)

    async def _each(self, in_later_sessions: bool) -> AsyncGenerator[T]:
        looks, first = self._looks(), True
        changed = self._port.signal()
        again: float | None

        def wake(event: object) -> None:
            changed.set()

        self._client.add_listener(wake)
        try:
            while not looks.over:
                again = None
                try:
                    new = await looks.look(wake)
                except FaaSKeeperException:
                    lost = self._client.state is SessionState.LOST
                    if first or (lost and not in_later_sessions):
                        raise
                    if not lost:
                        # Maybe only one call failed to reach the store: then no event would wake
                        # this.
                        _log.exception("a watcher could not read, will retry in %g s", AGAIN_S)
                        again = AGAIN_S
                else:
                    first = False
                    if new is not None:
                        yield new
                if not looks.over:
                    await changed.wait(again)
                    changed.clear()
        finally:
            self._client.remove_listener(wake)

    @abstractmethod
    def _looks(self) -> Looks[T]:
        """New reads, from the beginning."""

    @abstractmethod
    def _show(self, new: T) -> Any:
        """Call the function and return its result."""

    # ---- with a function -----------------------------------------------------------------

    async def start(self) -> None:
        """Call the function with the present state, and in the background after every change.

        The calls go on in the client's later sessions, until :meth:`stop`, or until the function
        returns False. Raises the error of the first read, or of the function's first call.
        """
        if not self._calls:
            raise ValueError(f"a watch of {self._path} without a function is for `async for`")
        if self._task is not None and not self._task.done():
            raise ValueError(f"this watch of {self._path} has been started")
        self._over = False
        values = self._each(in_later_sessions=True)
        try:
            if await self._done(await anext(values)):
                await values.aclose()
                return
        except BaseException:
            await values.aclose()
            raise
        self._task = asyncio.get_running_loop().create_task(self._run(values))

    async def _done(self, new: T) -> bool:
        return await result_of(self._show(new)) is False or self._over

    async def _run(self, values: AsyncGenerator[T]) -> None:
        async with aclosing(values):
            async for new in values:
                try:
                    if await self._done(new):
                        return
                except Exception:
                    _log.exception("the function of a watch of %s failed", self._path)

    def stop(self) -> None:
        """Stop calling the function; cancels a running call, unless this runs within that call."""
        self._over = True
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self.stop()
        if self._task is not None:
            await asyncio.wait((self._task,))


class DataWatch(_Watching[Data]):
    """A node's data and Stat, now and after every change; (None, None) if it does not exist.

    ``async for data, stat in DataWatch(client, "/config")`` raises the error that ends the session.
    With ``function(data, stat)``, which may be a coroutine function: ``async with DataWatch(client,
    "/config", function)``, or :meth:`start` and :meth:`stop`.
    """

    def __init__(self, client: AsyncClient, path: str, function: DataFunction | None = None) -> None:
        super().__init__(client, path, function is not None)
        self._function = function or (lambda data, stat: None)

    def _looks(self) -> Looks[Data]:
        return DataLooks(self._port, self._path)

    def _show(self, new: Data) -> Any:
        return self._function(new.data, new.stat)


class ChildrenWatch(_Watching[list[str]]):
    """The names of a node's children, now and after every change, until the node is deleted.

    ``async for names in ChildrenWatch(client, "/members")``, or with ``function(names)``; otherwise
    like :class:`DataWatch`. Raises NodeDoesntExistException if the node does not exist at first.
    """

    def __init__(self, client: AsyncClient, path: str, function: ChildrenFunction | None = None) -> None:
        super().__init__(client, path, function is not None)
        self._function = function or (lambda names: None)

    def _looks(self) -> Looks[list[str]]:
        return ChildrenLooks(self._port, self._path)

    def _show(self, new: list[str]) -> Any:
        return self._function(new)
