"""Queues of values: taken once, or taken while they are worked on."""

from __future__ import annotations

from collections.abc import Iterable

from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.core import paths
from faaskeeper.exceptions import FaaSKeeperException, NodeDoesntExistException, NodeExistsException
from faaskeeper.node import Node
from faaskeeper.recipes.contender import ensure
from faaskeeper.recipes.waiting import Waiting, create_own

_DIGITS = 3


def _prefix(priority: int) -> str:
    if not 0 <= priority < 10**_DIGITS:
        raise ValueError(f"a priority is from 0 (first) to {10**_DIGITS - 1}, not {priority}")
    return f"entry-{priority:0{_DIGITS}d}-"


def _of_now(client: FaaSKeeperClient, mark: Node) -> bool:
    """Whether an ephemeral is of the client's present session: then it is there, or the session has ended."""
    return client.session_id == f"{mark.stat.ephemeralOwner:08x}"


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

    Of a consumer that dies, the value goes to another; only :meth:`consume` removes it.
    """

    def __init__(self, client: FaaSKeeperClient, path: str) -> None:
        self._client = client
        self._entries = f"{path}/entries"
        self._taken = f"{path}/taken"
        self._queue = Queue(client, self._entries)
        self._held: Node | None = None

    def put(self, value: bytes, priority: int = 100) -> None:
        """Put a value in."""
        self._queue.put(value, priority)

    def put_all(self, values: Iterable[bytes], priority: int = 100) -> None:
        """Put several in: all of them, or none."""
        self._queue.put_all(values, priority)

    def get(self, timeout: float | None = None) -> bytes | None:
        """Hold the first value that nobody holds; the same again until it is consumed or released.

        None when there is none for so many seconds (None: wait for ever).
        """
        if self.holds and self._held is not None:
            return self._client.get_data(self._entry(self._held)).data
        self._held = None
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
                mark = create_own(self._client, f"{self._taken}/{name}", b"", sequential=False)
            except NodeExistsException:
                continue  # another consumer was faster
            try:
                value = self._client.get_data(entry.path).data
            except NodeDoesntExistException:
                self._client.delete(mark.path)  # consumed before we held it
                continue
            self._held = mark
            return value
        return None

    def _entry(self, mark: Node) -> str:
        return f"{self._entries}/{paths.name(mark.path)}"

    @property
    def holds(self) -> bool:
        """Whether a value is held, as far as is known here."""
        mark = self._held
        return (
            mark is not None and self._client.state is SessionState.CONNECTED and _of_now(self._client, mark)
        )

    def consume(self) -> bool:
        """Remove the held value: it is done. False: it was held no more, and another may work on it."""
        mark, self._held = self._held, None
        if mark is None:
            raise ValueError("no value is held: get() one first")
        try:
            if not _of_now(self._client, mark):
                return False  # the mark went with its session; there may be one of another consumer
            with self._client.transaction() as transaction:
                transaction.delete(self._entry(mark)).delete(mark.path)
        except FaaSKeeperException:
            self._held = mark
            raise
        return not any(isinstance(each, Exception) for each in transaction.results)

    def release(self) -> None:
        """Give the held value back."""
        mark, self._held = self._held, None
        if mark is not None and _of_now(self._client, mark):
            try:
                self._client.delete(mark.path)
            except NodeDoesntExistException:
                return  # it went with its session
