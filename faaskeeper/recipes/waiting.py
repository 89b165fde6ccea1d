"""What recipes wait with: watches with a time-out, and ephemerals of which none is left behind."""

from __future__ import annotations

import secrets
import threading
import time

from faaskeeper.client import FaaSKeeperClient, Future, SessionState
from faaskeeper.core import paths
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NodeDoesntExistException,
    SessionClosingException,
    SessionExpiredException,
)
from faaskeeper.node import Node

LOOK_S = 1.0
"""How often whoever waits looks whether the session's state is another: nobody tells that a lease ran out."""


class Deadline:
    """When waiting ends: so many seconds from now; None: never."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """Seconds until then, at least 0; None: for ever."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)


NEVER = Deadline(None)


def is_own(client: FaaSKeeperClient, node: Node) -> bool:
    """Whether an ephemeral is of the client's present session."""
    return client.session_id == f"{node.stat.ephemeralOwner:08x}"


def may_wait(client: FaaSKeeperClient) -> None:
    """Raise in a callback: what a recipe waits for is told by the callback after it, in the same thread."""
    if client.in_callback:
        raise FaaSKeeperException(
            "a callback must not wait for another callback: wait in a thread of your own"
        )


class Own:
    """An ephemeral that a recipe makes for itself: one at a time, found again, and removed for sure.

    Requests are asked again until they are answered or the session ends, and in their order. So a node goes
    with its session, or by a delete that was *asked for*; who is interrupted need not see it done.
    """

    def __init__(self, client: FaaSKeeperClient) -> None:
        self._client = client
        self.node: Node | None = None
        """As it was made. It may be gone, with its session above all: see :meth:`there`."""

    @property
    def current(self) -> bool:
        """Whether there is a node of the client's present session, as far as is known here."""
        return self.node is not None and is_own(self._client, self.node)

    def there(self) -> bool:
        """Whether the node is there, and of the client's present session; reads it, if it may be."""
        node = self.node
        if node is None or not is_own(self._client, node):
            return False
        found = self._client.exists(node.path)
        return found is not None and found.stat.czxid == node.stat.czxid

    def make_numbered(self, prefix: str, data: bytes, deadline: Deadline = NEVER) -> bool:
        """Make a sequential one, and what is missing above it. False: the deadline is over, and the service
        out of reach; one that answers is waited for.

        Its name has something random in it, by which it is found if the call that makes it is interrupted.
        """
        token = secrets.token_hex(4)
        return self._make(f"{prefix}{token}-", data, True, token, deadline)

    def make(self, path: str) -> None:
        """Make one of a given path, and what is missing above it. Raises NodeExistsException."""
        token = secrets.token_hex(16)
        self._make(path, token.encode(), False, token, NEVER)

    def _make(self, path: str, data: bytes, sequential: bool, token: str, deadline: Deadline) -> bool:
        try:
            try:
                made = self._asked(path, data, sequential, False, deadline)
            except NodeDoesntExistException:
                made = self._asked(path, data, sequential, True, deadline)
        except FaaSKeeperException:
            raise  # the create's own error: it made nothing, or its session is over
        except BaseException:
            self._undo(path, sequential, token)
            raise
        if not made:
            self._undo(path, sequential, token)
        return made

    def _asked(self, path: str, data: bytes, sequential: bool, makepath: bool, deadline: Deadline) -> bool:
        future = self._client.create_async(path, data, True, sequential, makepath=makepath)
        while not future.wait(LOOK_S):
            if deadline.left() == 0 and self._client.state is not SessionState.CONNECTED:
                return False
        self.node = future.get()
        return True

    def _undo(self, path: str, sequential: bool, token: str) -> None:
        """Delete what a create makes that nobody waits for: it is looked for after that is decided."""
        client = self._client

        def listed(future: Future[list[Node]]) -> None:
            try:
                for each in future.get():
                    if token in paths.name(each.path):
                        client.delete_async(each.path)
            except FaaSKeeperException:
                return  # nothing was made, or it goes with its session

        def read(future: Future[Node]) -> None:
            try:
                if future.get().data == token.encode():
                    client.delete_async(path)
            except FaaSKeeperException:
                return  # nothing was made, or it goes with its session

        try:
            if sequential:
                client.get_children_async(paths.parent(path)).add_callback(listed)
            else:
                client.get_data_async(path).add_callback(read)
        except FaaSKeeperException:
            return  # the session is over: it goes with it

    def remove(self) -> None:
        """Delete the node; does nothing where there is none. Waits until it is gone, or the service is out of
        reach: it then goes as soon as that is reached, or with the session.
        """
        node = self.node
        if node is None or not is_own(self._client, node):
            self.node = None  # it goes with its session
            return
        try:
            gone = self._client.delete_async(node.path)
            self.node = None
            while not gone.wait(LOOK_S):
                if self._client.state is not SessionState.CONNECTED:
                    return
            gone.get()
        except (NodeDoesntExistException, SessionExpiredException, SessionClosingException):
            self.node = None  # it went with its session
        except FaaSKeeperException:
            self.node = node
            raise


class Waiting:
    """Waits for watches, and wakes also when the session's state changes."""

    def __init__(self, client: FaaSKeeperClient, timeout: float | None) -> None:
        self._client = client
        self.deadline = Deadline(timeout)
        self._changed = threading.Event()
        client.add_listener(self._listen)

    def wake(self, event: object) -> None:
        """A watch's callback."""
        self._changed.set()

    def _listen(self, state: SessionState) -> None:
        self._changed.set()

    def more(self) -> bool:
        """Wait for a change; whether there is time left."""
        left = self.deadline.left()
        if left is not None and left <= 0:
            return False
        may_wait(self._client)
        self._changed.wait(left)
        self._changed.clear()
        return True

    def end(self) -> None:
        """Listen no more."""
        self._client.remove_listener(self._listen)
