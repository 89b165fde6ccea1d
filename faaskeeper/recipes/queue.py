"""Queues of values: taken once, or taken while they are worked on."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.core import paths
from faaskeeper.exceptions import FaaSKeeperException, NodeDoesntExistException, NodeExistsException
from faaskeeper.recipes.contender import ensure
from faaskeeper.recipes.waiting import Own, Waiting

_DIGITS = 3


def _prefix(priority: int) -> str:
    if not 0 <= priority < 10**_DIGITS:
        raise ValueError(f"a priority is from 0 (first) to {10**_DIGITS - 1}, not {priority}")
    return f"entry-{priority:0{_DIGITS}d}-"


class Queue:
    """Values, each of which one consumer takes: lower priorities first, then in the order they were put.

    A consumer that dies after :meth:`get` returned takes its value along; see :class:`LockingQueue`.
    """

    def __init__(self, client: FaaSKeeperClient, path: str) -> None:
        self._client = client
        self._path = path

    def put(self, value: bytes, priority: int = 100) -> None:
        """Put a value in."""
        self._client.create(f"{self._path}/{_prefix(priority)}", value, sequential=True, makepath=True)

    def put_all(self, values: Iterable[bytes], priority: int = 100) -> None:
        """Put several in: all of them, or none."""
        ensure(self._client, self._path)
        with self._client.transaction() as transaction:
            for value in values:
                transaction.create(f"{self._path}/{_prefix(priority)}", value, sequential=True)

    def get(self, timeout: float | None = 0) -> bytes | None:
        """Take the first value; None when there is none for so many seconds (None: wait for ever)."""
        waiting = Waiting(self._client, timeout)
        try:
            ensure(self._client, self._path)
            while True:
                watch = waiting.wake if timeout != 0 else None
                for node in self._client.get_children(self._path, watch=watch):
                    value = self._take(node.path)
                    if value is not None:
                        return value
                if timeout == 0 or not waiting.more():
                    return None
        finally:
            waiting.end()

    def _take(self, path: str) -> bytes | None:
        try:
            value = self._client.get_data(path).data
            self._client.delete(path)
        except NodeDoesntExistException:
            return None  # another consumer was faster
        return value

    def __len__(self) -> int:
        node = self._client.exists(self._path)
        return 0 if node is None else node.stat.numChildren


class LockingQueue:
    """Values, each of which one consumer at a time holds while it works on it.

    Of a consumer that dies, the value goes to another; only :meth:`consume` removes it. An object stands for
    one consumer, which holds one value: threads have one each.
    """

    def __init__(self, client: FaaSKeeperClient, path: str) -> None:
        self._client = client
        self._entries = f"{path}/entries"
        self._taken = f"{path}/taken"
        self._queue = Queue(client, self._entries)
        self._mark = Own(client)
        self._busy = threading.Lock()

    def put(self, value: bytes, priority: int = 100) -> None:
        """Put a value in."""
        self._queue.put(value, priority)

    def put_all(self, values: Iterable[bytes], priority: int = 100) -> None:
        """Put several in: all of them, or none."""
        self._queue.put_all(values, priority)

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise FaaSKeeperException(
                f"another thread uses {self._entries} by this object: "
                "it stands for one consumer, so give each thread one of its own"
            )
        try:
            yield
        finally:
            self._busy.release()

    def get(self, timeout: float | None = None) -> bytes | None:
        """Hold the first value that nobody holds; the same again until it is consumed or released.

        None when there is none for so many seconds (None: wait for ever).
        """
        with self._alone():
            if self._mark.there():
                try:
                    return self._client.get_data(self._entry()).data
                except NodeDoesntExistException:
                    self._mark.remove()  # somebody deleted the value
            waiting = Waiting(self._client, timeout)
            try:
                ensure(self._client, self._entries)
                ensure(self._client, self._taken)
                while True:
                    value = self._hold(waiting)
                    if value is not None or not waiting.more():
                        return value
            finally:
                waiting.end()

    def _hold(self, waiting: Waiting) -> bytes | None:
        taken = {paths.name(node.path) for node in self._client.get_children(self._taken, watch=waiting.wake)}
        for entry in self._client.get_children(self._entries, watch=waiting.wake):
            name = paths.name(entry.path)
            if name in taken:
                continue
            try:
                self._mark.make(f"{self._taken}/{name}")
            except NodeExistsException:
                continue  # another consumer was faster
            try:
                return self._client.get_data(entry.path).data
            except NodeDoesntExistException:
                self._mark.remove()  # consumed before we held it
            except BaseException:
                self._mark.remove()
                raise
        return None

    def _entry(self) -> str:
        mark = self._mark.node
        if mark is None:
            raise ValueError("no value is held: get() one first")
        return f"{self._entries}/{paths.name(mark.path)}"

    @property
    def holds(self) -> bool:
        """Whether a value is held, as far as is known here."""
        return self._client.state is SessionState.CONNECTED and self._mark.current

    def consume(self) -> bool:
        """Remove the held value: it is done. False: it was held no more, and another may work on it."""
        with self._alone():
            entry, mark = self._entry(), self._mark.node
            if mark is None or not self._mark.current:
                self._mark.remove()
                return False  # the mark went with its session; there may be one of another consumer
            with self._client.transaction() as transaction:
                transaction.delete(entry).delete(mark.path)
            if any(isinstance(each, Exception) for each in transaction.results):
                self._mark.remove()
                return False
            self._mark.node = None
            return True

    def release(self) -> None:
        """Give the held value back; does nothing where none is held."""
        with self._alone():
            self._mark.remove()
