"""The asyncio client and its recipes with the API of the threaded ones: for tests of what both
promise.

Each call runs in a loop in a thread of its own, and is waited for. In that thread, where the loop
calls callbacks, a call returns its coroutine instead.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Coroutine, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, Self

from faaskeeper.aio import AsyncClient, recipes
from faaskeeper.session.states import SessionState

ANSWERED_S = 120.0


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        if threading.current_thread() is self._thread:
            return coroutine
        return self.begin(coroutine).result(ANSWERED_S)

    def begin(self, coroutine: Coroutine[Any, Any, Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def call(self, function: Callable[..., Any], *args: Any) -> Any:
        async def called() -> Any:
            return function(*args)

        return self.run(called())

    async def in_thread(self, function: Callable[..., Any], *args: Any) -> Any:
        return await self._loop.run_in_executor(None, function, *args)

    def stop(self) -> None:
        self.run(self._loop.shutdown_default_executor())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


class Asked:
    """In place of a client's future."""

    def __init__(self, future: Future[Any]) -> None:
        self.get = future.result


class Blocking:
    """An object whose coroutine functions block."""

    def __init__(self, loop: Loop, real: Any) -> None:
        self.loop = loop
        self.real = real

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.real, name)
        if inspect.iscoroutinefunction(found):
            return lambda *args, **more: self.loop.run(found(*args, **more))
        if inspect.ismethod(found):
            return partial(self.loop.call, found)
        return found


class BlockingClient(Blocking):
    """In place of a FaaSKeeperClient."""

    def __init__(self, loop: Loop, real: AsyncClient) -> None:
        super().__init__(loop, real)
        self.watches: list[Any] = []

    def end(self) -> None:
        """Stop the client, and what watches with it."""
        for each in self.watches:
            each.stop()
        self.stop()

    @property
    def _session(self) -> Blocking:
        return Blocking(self.loop, self.real._session)

    @property
    def state(self) -> SessionState:
        return self.real.state  # type: ignore[no-any-return]

    def exists_async(self, path: str) -> Asked:
        return Asked(self.loop.begin(self.real.exists(path)))

    @contextmanager
    def transaction(self) -> Iterator[Any]:
        batch = self.real.transaction()
        yield batch
        self.loop.run(batch.commit())

    def resend(self) -> None:
        """Send what is not answered again."""

        def again() -> None:
            session = self.real._session
            session.sender.resend(session.outbox.resend(session.outbox.acked + 1))

        self.loop.call(again)


class _Recipe(Blocking):
    kind: type[Any]

    def __init__(self, client: BlockingClient, *args: Any, **more: Any) -> None:
        async def make() -> Any:
            return self.kind(client.real, *args, **more)

        super().__init__(client.loop, client.loop.run(make()))

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def __len__(self) -> int:
        return self.loop.run(self.real.size())  # type: ignore[no-any-return]

    def __iter__(self) -> Iterator[str]:
        return iter(self.loop.run(self.real.members()))

    @property
    def joined(self) -> bool:
        return self.loop.run(self.real.joined())  # type: ignore[no-any-return]

    @property
    def value(self) -> int:
        return self.loop.run(self.real.value())  # type: ignore[no-any-return]


class _Watch(_Recipe):
    def __init__(self, client: BlockingClient, path: str, function: Callable[..., Any]) -> None:
        super().__init__(client, path, function)
        client.watches.append(self)
        self.loop.run(self.real.start())


class _Election(_Recipe):
    def run(self, lead: Callable[[Any], None], *args: Any) -> bool:
        async def leads(_: object) -> None:
            await self.loop.in_thread(lead, self)

        return self.loop.run(self.real.run(leads, *args))  # type: ignore[no-any-return]


def blocking(name: str) -> type[Any]:
    """The recipe of that name."""
    base = {"Election": _Election, "DataWatch": _Watch, "ChildrenWatch": _Watch}.get(name, _Recipe)
    return type(name, (base,), {"kind": getattr(recipes, name)})
