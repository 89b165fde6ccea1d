"""Barriers: wait until somebody lets go, or until so many have come."""

from __future__ import annotations

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core import paths
from faaskeeper.exceptions import (
    NodeDoesntExistException,
    NodeExistsException,
    SessionClosingException,
    SessionExpiredException,
)
from faaskeeper.node import Node
from faaskeeper.recipes.contender import ensure
from faaskeeper.recipes.waiting import Waiting, create_own


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
        self._node: Node | None = None
        self._fellows: set[str] = set()

    def enter(self, timeout: float | None = None) -> bool:
        """Come, and wait until so many have come; returns whether they have. Who gives up has not come."""
        if self._node is not None:
            raise ValueError("this participant has come already")
        waiting = Waiting(self._client, timeout)
        try:
            ensure(self._client, self._path)
            data = self._identifier.encode()
            self._node = create_own(self._client, f"{self._path}/p-", data)
            while not self._opened(self._node, waiting):
                if not waiting.more():
                    self._go()
                    return False
            return True
        except BaseException:
            self._go()
            raise
        finally:
            waiting.end()

    def _opened(self, node: Node, waiting: Waiting) -> bool:
        """Whether the sign of this round is there: the one that names this participant among others."""
        sign = f"{self._path}/{self._READY}"
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
        if self._node is None:
            raise ValueError("this participant has not come")
        waiting = Waiting(self._client, timeout)
        try:
            self._go()
            while not self._fellows.isdisjoint(self._participants(waiting)):
                if not waiting.more():
                    return False
            return True
        finally:
            waiting.end()

    def _go(self) -> None:
        node, self._node = self._node, None
        if node is not None:
            try:
                self._client.delete(node.path)
            except (NodeDoesntExistException, SessionExpiredException, SessionClosingException):
                return  # it went with its session
