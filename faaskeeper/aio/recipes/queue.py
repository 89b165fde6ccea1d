"""Queues of values: taken once, or held while they are worked on."""

from __future__ import annotations

from collections.abc import Iterable

from faaskeeper.aio.client import AsyncClient
from faaskeeper.aio.recipes.port import AsyncPort
from faaskeeper.recipes.rules.queue import LockingQueueRules, QueueRules


class Queue:
    """Values, each of which one consumer takes: by priority, lower first, then in their order.

    A consumer that dies after :meth:`get` returned takes its value along; see
    :class:`LockingQueue`. A task that is cancelled while it takes a value puts it back where it
    was.
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
        """Take the first value; None if there is none for so many seconds (None: for ever)."""
        return await self._rules.get(timeout)

    async def size(self) -> int:
        """How many values there are."""
        return await self._rules.size()


class LockingQueue:
    """Values, each of which one consumer at a time holds while it works on it.

    Of a consumer that dies, the value goes to another; only :meth:`consume` removes it. An object
    stands for one consumer, which holds one value: tasks have one each.
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
        """Hold the first value that is not held; the same again until it is consumed or released.

        None when there is none for so many seconds (None: wait for ever). A task that is cancelled
        here holds no value that it did not hold before.
        """
        return await self._rules.get(timeout)

    @property
    def holds(self) -> bool:
        """Whether a value is held, as far as is known here."""
        return self._rules.holds

    async def consume(self) -> bool:
        """Remove the held value: it is done.

        Returns False where it was held no more: another consumer may work on it.
        """
        return await self._rules.consume()

    async def release(self) -> None:
        """Give the held value back; does nothing where none is held."""
        await self._rules.release()
