"""A place in a queue of ephemeral sequential nodes: what locks and elections have in common.

A contender's node is deleted with its session; a contender that gives up, or is interrupted wherever it
waits, deletes its own. Each waits for the one node before it that is in its way, so that a node that goes
wakes one contender, not all; only where several places come first (a semaphore) all are woken.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from faaskeeper.client import FaaSKeeperClient, Future, SessionState
from faaskeeper.core import paths
from faaskeeper.exceptions import (
    NodeDoesntExistException,
    NodeExistsException,
    SessionClosingException,
    SessionExpiredException,
)
from faaskeeper.node import Node

Blocks = Callable[[str], bool]
"""Whether an earlier contender, by the name of its node, is in the way."""

_NUMBER = 10


def ensure(client: FaaSKeeperClient, path: str) -> None:
    """Create a path with everything above it, where it is not there."""
    if client.exists(path) is None:
        try:
            client.create(path, makepath=True)
        except NodeExistsException:
            return  # somebody else was faster


class Contender:
    """One place in the queue below ``path``, taken with :meth:`wait` and given back with :meth:`leave`.

    ``places``: how many come first.
    ``on_loss`` is called once, from the client's callback thread, when a place that came first can no longer
    be relied on: the session is suspended or lost.
    """

    def __init__(
        self,
        client: FaaSKeeperClient,
        path: str,
        prefix: str,
        data: bytes,
        blocks: Blocks,
        on_loss: Callable[[], None],
        places: int = 1,
    ) -> None:
        self._client = client
        self._path = path
        self._prefix = prefix
        self._data = data
        self._blocks = blocks
        self._on_loss = on_loss
        self._places = places
        self._changed = threading.Event()
        self._node: Node | None = None
        self.first = False

    @property
    def token(self) -> int:
        """The fencing token: the czxid of this contender's node, higher than that of every one before it.

        Send it along with what the lock protects, and let that refuse lower ones than it has seen.
        """
        if self._node is None or not self.first:
            raise ValueError("there is a token only while the place is first")
        return self._node.stat.czxid

    def wait(self, timeout: float | None) -> bool:
        """Queue up, and wait to be first for at most so many seconds; leaves the queue when that fails."""
        deadline = None if timeout is None else time.monotonic() + timeout
        self._client.add_listener(self._listen)
        future: Future[Node] | None = None
        try:
            ensure(self._client, self._path)
            future = self._client.create_async(
                f"{self._path}/{self._prefix}", self._data, ephemeral=True, sequential=True
            )
            self._node = future.get()
            while not self._is_first():
                left = None if deadline is None else deadline - time.monotonic()
                if left is not None and left <= 0:
                    self.leave()
                    return False
                self._changed.wait(left)
                self._changed.clear()
            return True
        except BaseException:
            if self._node is None and future is not None:
                future.add_callback(self._created_in_vain)
            self.leave()
            raise

    def _is_first(self) -> bool:
        """Look who is before us; if somebody is in the way, watch the nearest of those."""
        node = self._node
        if node is None:
            raise AssertionError("queued up")
        own = paths.name(node.path)
        while True:
            watch = self._wake if self._places > 1 else None
            names = [paths.name(child.path) for child in self._client.get_children(self._path, watch=watch)]
            if own not in names:
                raise SessionExpiredException("the contender's node is gone: its session has ended")
            before = [name for name in names if name[-_NUMBER:] < own[-_NUMBER:] and self._blocks(name)]
            if len(before) < self._places:
                self.first = self._client.state is SessionState.CONNECTED
                return self.first
            if watch is not None:
                return False
            nearest = max(before, key=lambda name: name[-_NUMBER:])
            if self._client.exists(f"{self._path}/{nearest}", self._wake) is not None:
                return False

    def _wake(self, event: object) -> None:
        self._changed.set()

    def _listen(self, state: SessionState) -> None:
        self._changed.set()
        if state is not SessionState.CONNECTED and self.first:
            self.first = False
            self._on_loss()

    def _created_in_vain(self, future: Future[Node]) -> None:
        """The create was under way when its contender was interrupted: what it made is removed."""
        try:
            self._node = future.get(0)
        except Exception:
            return  # nothing was made
        self._remove(asynchronously=True)

    def leave(self) -> None:
        """Give the place back; does nothing where there is none."""
        self.first = False
        self._client.remove_listener(self._listen)
        self._remove(asynchronously=False)

    def _remove(self, asynchronously: bool) -> None:
        node, self._node = self._node, None
        if node is None:
            return
        try:
            if asynchronously:
                self._client.delete_async(node.path)
            else:
                self._client.delete(node.path)
        except (NodeDoesntExistException, SessionExpiredException, SessionClosingException):
            return  # it went with its session
