"""Threads for calls that may block: of a store, a queue, a disk's sync."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from queue import SimpleQueue
from typing import Any, TypeVar

from faaskeeper.loops import settle, soon

T = TypeVar("T")

_Work = tuple["asyncio.Future[Any]", Callable[..., Any], tuple[Any, ...]]


class Threads:
    """At most ``most`` daemon threads, started when needed, that make calls for one event loop.

    Unlike the threads of ``concurrent.futures``, they do not keep the process alive if a store
    never answers, and an answer takes one turn of the loop. The methods are for the loop's thread.
    """

    def __init__(self, most: int, name: str) -> None:
        self._loop = asyncio.get_running_loop()
        self._most = most
        self._name = name
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._made = 0
        self._busy = 0
        """The number of requested calls that have not returned."""
        self._quiet: asyncio.Future[None] | None = None

    def run(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Call a function in a thread.

        If its future is cancelled before the call begins, the call is dropped; otherwise it goes
        on, and its outcome is dropped.
        """
        future: asyncio.Future[T] = self._loop.create_future()
        self._busy += 1
        if self._busy > self._made and self._made < self._most:
            self._made += 1
            threading.Thread(target=self._serve, name=f"{self._name}-{self._made}", daemon=True).start()
        self._work.put((future, function, args))
        return future

    def _serve(self) -> None:
        while (work := self._work.get()) is not None:
            future, function, args = work
            result: Any = None
            error: BaseException | None = None
            if not future.cancelled():
                try:
                    result = function(*args)
                except BaseException as raised:
                    error = raised
            soon(self._loop, self._returned, future, result, error)
            del work, future, function, args, result, error  # hold no references during the wait

    def _returned(self, future: asyncio.Future[Any], result: Any, error: BaseException | None) -> None:
        self._busy -= 1
        if not self._busy and self._quiet is not None and not self._quiet.done():
            self._quiet.set_result(None)
        settle(future, result, error)

    async def quiet(self, timeout: float) -> None:
        """Wait until every call has returned, at most ``timeout`` seconds."""
        if self._busy:
            self._quiet = self._loop.create_future()
            await asyncio.wait((self._quiet,), timeout=timeout)

    def end(self) -> None:
        """End the threads, each after its present call."""
        for _ in range(self._made):
            self._work.put(None)


async def through(work: Coroutine[Any, Any, T]) -> T:
    """Run work to its end even if this task is cancelled meanwhile; then raise the cancellation.

    For work that would leak resources if it were interrupted. Such work must end by itself.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait((task,))
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        if not task.cancelled():
            task.exception()  # the caller gets the cancellation instead
        raise cancelled
    return task.result()
