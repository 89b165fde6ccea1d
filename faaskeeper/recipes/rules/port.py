"""The interface that recipes need: a client's operations, and a way for callers to wait."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Iterator
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from typing import Any, Generic, TypeVar

from faaskeeper.core.znode import Stat
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.node import Node
from faaskeeper.session.batches import WriteBatch
from faaskeeper.session.calls import Result
from faaskeeper.session.client import BaseClient
from faaskeeper.session.states import Listener, SessionState
from faaskeeper.watch import WatchCallbackType

T = TypeVar("T")


class Pending(ABC, Generic[T]):
    """A requested operation, which runs whether or not a caller waits for it."""

    @abstractmethod
    def done(self) -> bool:
        """Whether there is a result or an error."""

    @abstractmethod
    async def wait(self, timeout: float) -> bool:
        """Wait at most ``timeout`` seconds; returns whether it is done.

        An interrupt has no effect on it.
        """

    @abstractmethod
    def get(self) -> T:
        """The result, once it is done; raises the operation's error."""

    @abstractmethod
    def add_callback(self, callback: Callable[[Pending[T]], None]) -> None:
        """Call ``callback`` once this is done, where the client runs its callbacks."""


class Signal(ABC):
    """Like :class:`threading.Event`."""

    @abstractmethod
    def set(self) -> None:
        """Wake the present waiter and later ones; any callback may call this."""

    @abstractmethod
    def clear(self) -> None:
        """Reset the signal: later waits block."""

    @abstractmethod
    async def wait(self, timeout: float | None) -> None:
        """Wait until it is set, at most ``timeout`` seconds (None: no limit)."""


class Port(ABC):
    """A client and a way to wait. The operations are those of the clients, with their errors.

    The ``ask_`` methods request an operation and return at once. As soon as one is called, the
    operation is certain to run, unless the session ends before.
    """

    worker: str
    """The word for a caller in messages: thread or task."""

    def __init__(self, client: BaseClient[Any]) -> None:
        self._client = client

    # ---- the session ---------------------------------------------------------------------

    @property
    def state(self) -> SessionState:
        """The session's state; LOST without a session."""
        return self._client.state

    @property
    def session_id(self) -> str | None:
        """The session's id in hexadecimal; None without a session."""
        return self._client.session_id

    @property
    @abstractmethod
    def in_callback(self) -> bool:
        """Whether the caller runs in a callback, which must not wait for another callback."""

    def add_listener(self, listener: Listener) -> None:
        """Call ``listener(state)`` on every change."""
        self._client.add_listener(listener)

    def remove_listener(self, listener: Listener) -> None:
        """Stop calling a listener."""
        self._client.remove_listener(listener)

    # ---- operations ----------------------------------------------------------------------

    @abstractmethod
    async def create(
        self, path: str, value: bytes = b"", *, sequential: bool = False, makepath: bool = False
    ) -> Node:
        """Create a persistent node."""

    @abstractmethod
    async def set_data(self, path: str, value: bytes, version: int) -> Node:
        """Replace a node's data."""

    @abstractmethod
    async def delete(self, path: str) -> None:
        """Delete a node."""

    @abstractmethod
    def transaction(self) -> WriteBatch:
        """A new batch for :meth:`commit`."""

    @abstractmethod
    async def commit(self, batch: WriteBatch) -> list[Result]:
        """Commit all operations or none."""

    @abstractmethod
    async def get_data(self, path: str, watch: WatchCallbackType | None = None) -> Node:
        """Read a node with its data."""

    @abstractmethod
    async def exists(self, path: str, watch: WatchCallbackType | None = None) -> Node | None:
        """The node without its data, or None."""

    @abstractmethod
    async def get_children(
        self, path: str, include_data: bool = False, watch: WatchCallbackType | None = None
    ) -> list[Node]:
        """The children of a node, sorted by name."""

    @abstractmethod
    async def get_children_with_stat(
        self, path: str, watch: WatchCallbackType | None = None
    ) -> tuple[list[str], Stat]:
        """The children's names, and the node's Stat."""

    @abstractmethod
    def ask_create(
        self, path: str, value: bytes, *, ephemeral: bool, sequential: bool = False, makepath: bool = False
    ) -> Pending[Node]:
        """Create a node."""

    @abstractmethod
    def ask_delete(self, path: str, prompt: bool = False) -> Pending[None]:
        """Delete a node. ``prompt``: the caller waits next, so a thread may already block here."""

    @abstractmethod
    def ask_children(self, path: str) -> Pending[list[Node]]:
        """Read the children of a node."""

    @abstractmethod
    def ask_data(self, path: str) -> Pending[Node]:
        """Read a node with its data."""

    # ---- waiting -------------------------------------------------------------------------

    @abstractmethod
    def signal(self) -> Signal:
        """A new signal that is not set."""

    @abstractmethod
    def guard(self) -> AbstractContextManager[object]:
        """A lock for short sections without operations and waits."""

    @abstractmethod
    def turns(self) -> AbstractAsyncContextManager[object]:
        """A lock for sections with operations: callers enter one after the other."""

    @abstractmethod
    def call_after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` after a delay, where callbacks run, if there is a session then."""


class Alone:
    """Refuses a second caller while one is inside."""

    def __init__(self, port: Port, refused: str) -> None:
        self._guard = port.guard()
        self._refused = refused
        self._busy = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Enter. Raises FaaSKeeperException if another caller is inside."""
        with self._guard:
            if self._busy:
                raise FaaSKeeperException(self._refused)
            self._busy = True
        try:
            yield
        finally:
            self._busy = False


Rule = Coroutine[Any, Any, T]
"""A running rule: awaited in a loop, run to its end in a thread."""
