"""Queues of values: taken once, or held while they are worked on."""

from __future__ import annotations

from collections.abc import Iterable

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.rules.queue import LockingQueueRules, QueueRules
from faaskeeper.recipes.threads import ThreadPort, run


class Queue:
    """Values, each of which one consumer takes: by priority, lower first, then in their order.

    A consumer that dies after :meth:`get` returned takes its value along; see
    :class:`LockingQueue`.
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
        """Take the first value; None if there is none for so many seconds (None: for ever)."""
        return run(self._rules.get(timeout))

    def __len__(self) -> int:
        return run(self._rules.size())


class LockingQueue:
    """Values, each of which one consumer at a time holds while it works on it.

    Of a consumer that dies, the value goes to another; only :meth:`consume` removes it. An object
    stands for one consumer, which holds one value: threads have one each.
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
        """Hold the first value that is not held; the same again until it is consumed or released.

        None when there is none for so many seconds (None: wait for ever).
        """
        return run(self._rules.get(timeout))

    @property
    def holds(self) -> bool:
        """Whether a value is held, as far as is known here."""
        return self._rules.holds

    def consume(self) -> bool:
        """Remove the held value: it is done.

        Returns False where it was held no more: another consumer may work on it.
        """
        return run(self._rules.consume())

    def release(self) -> None:
        """Give the held value back; does nothing where none is held."""
        run(self._rules.release())
