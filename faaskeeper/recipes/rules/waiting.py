"""Tools for recipes that wait: watches with a time-out, and ephemerals that never leak."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence

from faaskeeper.core import paths
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NodeDoesntExistException,
    NodeExistsException,
    ProviderException,
    RolledBackException,
    SessionClosingException,
    SessionExpiredException,
)
from faaskeeper.node import Node
from faaskeeper.recipes.rules.port import Pending, Port
from faaskeeper.session.calls import Result
from faaskeeper.session.states import SessionState

LOOK_S = 1.0
"""The interval, in s, at which waiting recipes read the session's state: expiry fires no event."""


class Deadline:
    """The end of a wait, ``timeout`` seconds from now; None: never."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else time.monotonic() + timeout

    def left(self) -> float | None:
        """The seconds left, at least 0; None: no limit."""
        return None if self._end is None else max(self._end - time.monotonic(), 0.0)


NEVER = Deadline(None)


async def ensure(port: Port, path: str) -> None:
    """Create a path and its ancestors, unless it exists."""
    if await port.exists(path) is None:
        try:
            await port.create(path, makepath=True)
        except NodeExistsException:
            return  # another client was faster


async def identifiers(port: Port, path: str) -> list[str]:
    """The data of a node's sequential children as text, in the order of their numbers."""
    if await port.exists(path) is None:
        return []
    nodes = await port.get_children(path, include_data=True)
    nodes.sort(key=lambda node: number(paths.name(node.path)))
    return [(node.data or b"").decode(errors="backslashreplace") for node in nodes]


def number(name: str) -> str:
    """A sequential node's number; numbers sort as text."""
    return name[-10:]


async def size(port: Port, path: str) -> int:
    """The number of a node's children; 0 if it does not exist."""
    node = await port.exists(path)
    return 0 if node is None else node.stat.numChildren


def raise_of(results: Sequence[Result], *expected: type[Exception]) -> None:
    """Raise the error of a failed transaction, unless it is an expected one."""
    for each in results:
        if isinstance(each, Exception) and not isinstance(each, (RolledBackException, *expected)):
            raise each


def is_own(port: Port, node: Node) -> bool:
    """Whether an ephemeral belongs to the client's present session."""
    return port.session_id == f"{node.stat.ephemeralOwner:08x}"


def may_wait(port: Port) -> None:
    """Raise FaaSKeeperException in a callback: only a later callback could end the wait."""
    if port.in_callback:
        raise FaaSKeeperException("a callback must not wait for another callback: wait in another thread")


class Own:
    """An ephemeral of a recipe: one at a time, found again after an interrupt, always removed.

    Requests are resent until they are answered or the session ends, and keep their order. So a node
    is deleted with its session, or by a delete that was *requested*; an interrupted caller need not
    wait for it.
    """

    def __init__(self, port: Port) -> None:
        self._port = port
        self.node: Node | None = None
        """The node as created.

        It may be gone since, above all with its session: see :meth:`there`.
        """

    @property
    def current(self) -> bool:
        """Whether the present session has a node, as far as the client knows."""
        return self.node is not None and is_own(self._port, self.node)

    async def there(self) -> bool:
        """Whether the node exists and belongs to the present session; reads it if necessary."""
        node = self.node
        if node is None or not is_own(self._port, node):
            return False
        found = await self._port.exists(node.path)
        return found is not None and found.stat.czxid == node.stat.czxid

    async def make_numbered(self, prefix: str, data: bytes, deadline: Deadline = NEVER) -> bool:
        """Create a sequential node and its missing ancestors.

        Returns False if the deadline is over and the service is unreachable; while the service
        answers, this waits. The name contains a random token, by which the node is found if the
        create is interrupted.
        """
        token = secrets.token_hex(4)
        return await self._make(f"{prefix}{token}-", data, True, token, deadline)

    async def make(self, path: str) -> None:
        """Create a node at a path, and its missing ancestors. Raises NodeExistsException."""
        token = secrets.token_hex(16)
        await self._make(path, token.encode(), False, token, NEVER)

    async def _make(self, path: str, data: bytes, sequential: bool, token: str, deadline: Deadline) -> bool:
        asked: Pending[Node] | None = None
        makepath = False
        try:
            while True:
                asked = None
                asked = self._port.ask_create(
                    path, data, ephemeral=True, sequential=sequential, makepath=makepath
                )
                while not await asked.wait(LOOK_S):
                    if deadline.left() == 0 and self._port.state is not SessionState.CONNECTED:
                        self._undo(path, sequential, token, asked)
                        return False
                try:
                    self.node = asked.get()
                    return True
                except NodeDoesntExistException:
                    if makepath:
                        raise
                    makepath = True
        except FaaSKeeperException:
            raise  # the create's own error: it created nothing, or its session is over
        except BaseException:
            self.node = None
            self._undo(path, sequential, token, asked)
            raise

    def _undo(self, path: str, sequential: bool, token: str, asked: Pending[Node] | None) -> None:
        """Delete the node of a create that no caller waits for.

        If the create is not answered yet, its answer will name the node. Otherwise this searches
        for the node: an interrupt may have come before the answer was taken, or between the request
        and its future.
        """

        def answered(done: Pending[Node]) -> None:
            try:
                self._port.ask_delete(done.get().path)
            except FaaSKeeperException:
                return  # nothing was created, or the node is deleted with its session

        if asked is not None and not asked.done():
            asked.add_callback(answered)
        elif sequential:
            self._find(
                lambda: self._port.ask_children(paths.parent(path)),
                lambda each: token in paths.name(each.path),
            )
        else:
            self._find(lambda: self._port.ask_data(path), lambda each: each.data == token.encode())

    def _find(
        self, ask: Callable[[], Pending[list[Node]] | Pending[Node]], ours: Callable[[Node], bool]
    ) -> None:
        """Delete this recipe's node among those that a read finds, after the create's commit."""

        def read(done: Pending[list[Node]] | Pending[Node]) -> None:
            try:
                found = done.get()
                for each in found if isinstance(found, list) else [found]:
                    if ours(each):
                        self._port.ask_delete(each.path)
            except ProviderException:
                self._port.call_after(LOOK_S, lambda: self._find(ask, ours))
            except FaaSKeeperException:
                return  # nothing was created, or the node is deleted with its session

        try:
            ask().add_callback(read)
        except FaaSKeeperException:
            return  # the session is over, and the node is deleted with it

    async def remove(self) -> None:
        """Delete the node; does nothing if there is none.

        Waits until it is deleted, or the service is unreachable: the node is then deleted as soon
        as the service is reachable, or with the session.
        """
        node = self.node
        if node is None or not is_own(self._port, node):
            self.node = None  # it is deleted with its session
            return
        try:
            gone = self._port.ask_delete(node.path)
            self.node = None
            while not await gone.wait(LOOK_S):
                if self._port.state is not SessionState.CONNECTED:
                    return
            gone.get()
        except (NodeDoesntExistException, SessionExpiredException, SessionClosingException):
            self.node = None  # it was deleted with its session
        except FaaSKeeperException:
            self.node = node
            raise

    async def remove_after(self, error: BaseException) -> None:
        """Delete the node because of ``error``; an error of the delete becomes a note of it."""
        try:
            await self.remove()
        except FaaSKeeperException as failed:
            error.add_note(f"its node stays until the session ends: {failed}")


class Waiting:
    """Waits for watches; changes of the session's state wake it too."""

    def __init__(self, port: Port, timeout: float | None) -> None:
        self._port = port
        self.deadline = Deadline(timeout)
        self._changed = port.signal()
        port.add_listener(self._listen)

    def wake(self, event: object) -> None:
        """The callback to set as a watch."""
        self._changed.set()

    def _listen(self, state: SessionState) -> None:
        self._changed.set()

    async def more(self) -> bool:
        """Wait for a change; returns whether there was time left."""
        left = self.deadline.left()
        if left is not None and left <= 0:
            return False
        may_wait(self._port)
        await self._changed.wait(left)
        self._changed.clear()
        return True

    def end(self) -> None:
        """Stop listening."""
        self._port.remove_listener(self._listen)
