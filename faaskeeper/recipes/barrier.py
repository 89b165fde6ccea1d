"""Barriers: wait until somebody lets go, or until so many have come."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core import paths
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NodeDoesntExistException,
    NodeExistsException,
    SessionExpiredException,
)
from faaskeeper.recipes.waiting import Own, Waiting


class Barrier:
    """Holds up all who :meth:`wait` while it is there. It stays if who made it dies."""

    def __init__(self, client: FaaSKeeperClient, path: str) -> None:
        self._client = client
        self._path = path

    def create(self) -> bool:
        """Put the barrier up; returns whether it was not up before."""
        try:
            self._client.create(self._path, makepath=True)
        except NodeExistsException:
            return False
        return True

    def remove(self) -> bool:
        """Let all go; returns whether the barrier was up."""
        try:
            self._client.delete(self._path)
        except NodeDoesntExistException:
            return False
        return True

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until the barrier is not up, at most so many seconds; returns whether it is not."""
        waiting = Waiting(self._client, timeout)
        try:
            while self._client.exists(self._path, waiting.wake) is not None:
                if not waiting.more():
                    return False
            return True
        finally:
            waiting.end()


class DoubleBarrier:
    """Lets ``number`` participants begin together, and end together.

    A participant is an ephemeral node: one that dies before all have come has not come, and one that dies
    inside holds nobody up. What stays is the sign that the last round began, one node.
    """

    _READY = "ready"

    def __init__(self, client: FaaSKeeperClient, path: str, number: int, identifier: str = "") -> None:
        if number < 1:
            raise ValueError(f"a barrier is for at least one participant, not {number}")
        self._client = client
        self._path = path
        self._number = number
        self._identifier = identifier
        self._own = Own(client)
        self._busy = threading.Lock()
        self._fellows: set[str] = set()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise FaaSKeeperException(
                f"another thread enters or leaves {self._path} by this object: "
                "it stands for one participant, so give each thread one of its own"
            )
        try:
            yield
        finally:
            self._busy.release()

    def enter(self, timeout: float | None = None) -> bool:
        """Come, and wait until so many have come; returns whether they have. Who gives up has not come."""
        with self._alone():
            if self._own.current:
                raise ValueError("this participant has come already")
            waiting = Waiting(self._client, timeout)
            come = False
            try:
                data = self._identifier.encode()
                come = self._own.make_numbered(f"{self._path}/p-", data, waiting.deadline)
                while come and not self._opened(waiting):
                    come = waiting.more()
                return come
            except BaseException:
                come = False
                raise
            finally:
                waiting.end()
                if not come:
                    self._own.remove()

    def _opened(self, waiting: Waiting) -> bool:
        """Whether the sign of this round is there: the one that names this participant among others."""
        sign = f"{self._path}/{self._READY}"
        node = self._own.node
        if node is None or not self._own.current:
            raise SessionExpiredException("the session has ended, and this participant's node with it")
        own = paths.name(node.path)
        while True:
            there = self._client.exists(sign, waiting.wake) is not None
            if there and own in (names := self._client.get_data(sign).data.decode().split()):
                self._fellows = set(names)
                return True
            names = self._participants(waiting)
            if len(names) < self._number:
                return False
            transaction = self._client.transaction()
            if there:  # of an earlier round, or of those who came before
                transaction.delete(sign)
            transaction.create(sign, " ".join(names).encode()).commit()  # or somebody else has: look again

    def _participants(self, waiting: Waiting) -> list[str]:
        names = [paths.name(node.path) for node in self._client.get_children(self._path, watch=waiting.wake)]
        return [name for name in names if name != self._READY]

    def leave(self, timeout: float | None = None) -> bool:
        """Be done, and wait until all are; returns whether they are."""
        with self._alone():
            if self._own.node is None:
                raise ValueError("this participant has not come")
            waiting = Waiting(self._client, timeout)
            try:
                self._own.remove()
                while not self._fellows.isdisjoint(self._participants(waiting)):
                    if not waiting.more():
                        return False
                return True
            finally:
                waiting.end()
