"""Queues of values: a consumer takes a value once, or holds it while it processes it."""

from __future__ import annotations

from collections.abc import Iterable

from faaskeeper.aio.client import AsyncClient
from faaskeeper.aio.recipes.port import AsyncPort
from faaskeeper.recipes.rules.queue import LockingQueueRules, QueueRules


class Queue:
    """Values, each taken by one consumer: by priority, lower first, then in their order.

    If a consumer dies after :meth:`get` returned, its value is lost; see :class:`LockingQueue`. If
    a task is cancelled while it takes a value, it puts the value back in its place.
    """

    def __init__(self, client: AsyncClient, path: str) -> None:
        self._rules = QueueRules(AsyncPort(client), path)

    async def put(self, value: bytes, priority: int = 100) -> None:
        """Put a value in."""
        await self._rules.put(value, priority)

    async def put_all(self, values: Iterable[bytes], priority: int = 100) -> None:
        """Put several in: all of them, or none."""
        await self._rules.put_all(values, priority)

    async def get(self, timeout: float | None = 0) -> bytes | None:
        """Take the first value; None after ``timeout`` seconds without one (None: no limit)."""
        return await self._rules.get(timeout)

    async def size(self) -> int:
        """The number of values."""
        return await self._rules.size()


class LockingQueue:
    """Values, each held by one consumer at a time while it processes it.

    If a consumer dies, another one gets its value; only :meth:`consume` removes a value. An object
    represents one consumer, which holds one value: tasks need one object each.
    """

    def __init__(self, client: AsyncClient, path: str) -> None:
        self._rules = LockingQueueRules(AsyncPort(client), path)

    async def put(self, value: bytes, priority: int = 100) -> None:
        """Put a value in."""
        await self._rules.queue.put(value, priority)

    async def put_all(self, values: Iterable[bytes], priority: int = 100) -> None:
        """Put several in: all of them, or none."""
        await self._rules.queue.put_all(values, priority)

    async def get(self, timeout: float | None = None) -> bytes | None:
        """Hold the first free value; returns the same one until it is consumed or released.

        Returns None after ``timeout`` seconds without a value (None: no limit). A task that is
        cancelled here holds no value that it did not hold before.
        """
        return await self._rules.get(timeout)

    @property
    def holds(self) -> bool:
        """Whether a value is held, as far as the client knows."""
        return self._rules.holds

    async def consume(self) -> bool:
        """Remove the held value, once it is processed.

        Returns False if it was no longer held: another consumer may process it.
        """
        return await self._rules.consume()

    async def release(self) -> None:
        """Release the held value; does nothing if none is held."""
        await self._rules.release()
