"""Runs the recipes' rules over the threaded client: each operation blocks its thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import TypeVar

from faaskeeper.client import FaaSKeeperClient, Future
from faaskeeper.core.znode import Stat
from faaskeeper.node import Node
from faaskeeper.recipes.rules.port import Pending, Port, Rule, Signal
from faaskeeper.session.batches import WriteBatch
from faaskeeper.session.calls import Result
from faaskeeper.watch import WatchCallbackType

T = TypeVar("T")


def run(rule: Rule[T]) -> T:
    """Perform a rule in this thread."""
    try:
        rule.send(None)
    except StopIteration as done:
        return done.value  # type: ignore[no-any-return]
    finally:
        rule.close()
    raise AssertionError("a rule of the threaded client waits in its thread")


class _Future(Pending[T]):
    def __init__(self, future: Future[T]) -> None:
        self._future = future

    def done(self) -> bool:
        return self._future.done()

    async def wait(self, timeout: float) -> bool:
        return self._future.wait(timeout)

    def get(self) -> T:
        return self._future.get()

    def add_callback(self, callback: Callable[[Pending[T]], None]) -> None:
        self._future.add_callback(lambda _: callback(self))


class _Done(Pending[None]):
    def done(self) -> bool:
        return True

    async def wait(self, timeout: float) -> bool:
        return True

    def get(self) -> None:
        return None

    def add_callback(self, callback: Callable[[Pending[None]], None]) -> None:
        callback(self)


class _Event(Signal):
    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        self._event.set()

    def clear(self) -> None:
        self._event.clear()

    async def wait(self, timeout: float | None) -> None:
        self._event.wait(timeout)


class _Turns(AbstractAsyncContextManager[None]):
    def __init__(self) -> None:
        self._lock = threading.Lock()

    async def __aenter__(self) -> None:
        self._lock.acquire()

    async def __aexit__(self, *_: object) -> None:
        self._lock.release()


class ThreadPort(Port):
    """The port of the threaded client."""

    worker = "thread"
    _client: FaaSKeeperClient

    @property
    def in_callback(self) -> bool:
        return self._client.in_callback

    async def create(
        self, path: str, value: bytes = b"", *, sequential: bool = False, makepath: bool = False
    ) -> Node:
        return self._client.create(path, value, sequential=sequential, makepath=makepath)

    async def set_data(self, path: str, value: bytes, version: int) -> Node:
        return self._client.set_data(path, value, version)

    async def delete(self, path: str) -> None:
        self._client.delete(path)

    def transaction(self) -> WriteBatch:
        return self._client.transaction()

    async def commit(self, batch: WriteBatch) -> list[Result]:
        return self._client.commit(batch.parts)

    async def get_data(self, path: str, watch: WatchCallbackType | None = None) -> Node:
        return self._client.get_data(path, watch)

    async def exists(self, path: str, watch: WatchCallbackType | None = None) -> Node | None:
        return self._client.exists(path, watch)

    async def get_children(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> list[Node]:
        return self._client.get_children(path, include_data, watch)

    async def get_children_with_stat(
        self, path: str, watch: WatchCallbackType | None = None
    ) -> tuple[list[str], Stat]:
        return self._client.get_children_with_stat(path, watch)

    def ask_create(
        self, path: str, value: bytes, *, ephemeral: bool, sequential: bool = False, makepath: bool = False
    ) -> Pending[Node]:
        return _Future(self._client.create_async(path, value, ephemeral, sequential, makepath=makepath))

    def ask_delete(self, path: str, prompt: bool = False) -> Pending[None]:
        if prompt:  # a waiting thread may run a direct writer
            self._client.delete(path)
            return _Done()
        return _Future(self._client.delete_async(path))

    def ask_children(self, path: str) -> Pending[list[Node]]:
        return _Future(self._client.get_children_async(path))

    def ask_data(self, path: str) -> Pending[Node]:
        return _Future(self._client.get_data_async(path))

    def signal(self) -> Signal:
        return _Event()

    def guard(self) -> AbstractContextManager[object]:
        return threading.Lock()

    def turns(self) -> AbstractAsyncContextManager[object]:
        return _Turns()

    def call_after(self, seconds: float, callback: Callable[[], None]) -> None:
        timer = threading.Timer(seconds, self._client.call_later, (callback,))
        timer.daemon = True
        timer.start()
