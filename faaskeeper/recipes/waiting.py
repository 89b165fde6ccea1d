"""Waiting for watches, with a time-out, and not for ever when the session is lost."""

from __future__ import annotations

import threading
import time

from faaskeeper.client import FaaSKeeperClient, Future, SessionState
from faaskeeper.node import Node


def create_own(client: FaaSKeeperClient, path: str, data: bytes, sequential: bool = True) -> Node:
    """Create an ephemeral; whoever is interrupted while it is made leaves none."""
    future = client.create_async(path, data, ephemeral=True, sequential=sequential, makepath=True)
    try:
        return future.get()
    except BaseException:

        def undo(made: Future[Node]) -> None:
            try:
                client.delete_async(made.get(0).path)
            except Exception:
                return  # nothing was made, or it goes with its session

        future.add_callback(undo)
        raise


class Waiting:
    """Waits for watches, and wakes also when the session's state changes."""

    def __init__(self, client: FaaSKeeperClient, timeout: float | None) -> None:
        self._client = client
        self._deadline = None if timeout is None else time.monotonic() + timeout
        self._changed = threading.Event()
        client.add_listener(self._listen)

    def wake(self, event: object) -> None:
        """A watch's callback."""
        self._changed.set()

    def _listen(self, state: SessionState) -> None:
        self._changed.set()

    def more(self) -> bool:
        """Wait for a change; whether there is time left."""
        left = None if self._deadline is None else self._deadline - time.monotonic()
        if left is not None and left <= 0:
            return False
        self._changed.wait(left)
        self._changed.clear()
        return True

    def end(self) -> None:
        """Listen no more."""
        self._client.remove_listener(self._listen)
