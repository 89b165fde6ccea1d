"""Queues of values: a consumer takes a value once, or holds it while it processes it."""

from __future__ import annotations

from collections.abc import Iterable

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.queue import LockingQueueRules, QueueRules
from faaskeeper.recipes.threads import ThreadPort, run


class Queue:
    """Values, each taken by one consumer: by priority, lower first, then in their order.

    If a consumer dies after :meth:`get` returned, its value is lost; see :class:`LockingQueue`.
    """

    def __init__(self, client: FaaSKeeperClient, path: str) -> None:
        self._rules = QueueRules(ThreadPort(client), path)

    def put(self, value: bytes, priority: int = 100) -> None:
        """Put a value in."""
        run(self._rules.put(value, priority))

    def put_all(self, values: Iterable[bytes], priority: int = 100) -> None:
        """Put several in: all of them, or none."""
        run(self._rules.put_all(values, priority))

    def get(self, timeout: float | None = 0) -> bytes | None:
        """Take the first value; None after ``timeout`` seconds without one (None: no limit)."""
        return run(self._rules.get(timeout))

    def __len__(self) -> int:
        return run(self._rules.size())


class LockingQueue:
    """Values, each held by one consumer at a time while it processes it.

    If a consumer dies, another one gets its value; only :meth:`consume` removes a value. An object
    represents one consumer, which holds one value: threads need one object each.
    """

    def __init__(self, client: FaaSKeeperClient, path: str) -> None:
        self._rules = LockingQueueRules(ThreadPort(client), path)

    def put(self, value: bytes, priority: int = 100) -> None:
        """Put a value in."""
        run(self._rules.queue.put(value, priority))

    def put_all(self, values: Iterable[bytes], priority: int = 100) -> None:
        """Put several in: all of them, or none."""
        run(self._rules.queue.put_all(values, priority))

    def get(self, timeout: float | None = None) -> bytes | None:
        """Hold the first free value; returns the same one until it is consumed or released.

        Returns None after ``timeout`` seconds without a value (None: no limit).
        """
        return run(self._rules.get(timeout))

    @property
    def holds(self) -> bool:
        """Whether a value is held, as far as the client knows."""
        return self._rules.holds

    def consume(self) -> bool:
        """Remove the held value, once it is processed.

        Returns False if it was no longer held: another consumer may process it.
        """
        return run(self._rules.consume())

    def release(self) -> None:
        """Release the held value; does nothing if none is held."""
        run(self._rules.release())
