"""What a recipe needs of a client, and of the way in which its callers wait."""

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
from faaskeeper.session.states import SessionState
from faaskeeper.watch import WatchCallbackType

T = TypeVar("T")
Listener = Callable[[SessionState], None]


class Pending(ABC, Generic[T]):
    """What was asked for, and is done whether or not anybody waits for it."""

    @abstractmethod
    def done(self) -> bool:
        """Whether there is a result or an error."""

    @abstractmethod
    async def wait(self, timeout: float) -> bool:
        """Wait at most so many seconds; whether it is done. An interrupt changes nothing."""

    @abstractmethod
    def get(self) -> T:
        """The result, once it is done; raises the operation's error."""

    @abstractmethod
    def add_callback(self, callback: Callable[[Pending[T]], None]) -> None:
        """Call it once this is done, where the client calls its callbacks."""


class Signal(ABC):
    """As :class:`threading.Event`."""

    @abstractmethod
    def set(self) -> None:
        """Wake what waits, or will wait; from any callback."""

    @abstractmethod
    def clear(self) -> None:
        """Wake it no more."""

    @abstractmethod
    async def wait(self, timeout: float | None) -> None:
        """Wait until it is set, at most so many seconds (None: for ever)."""


class Port(ABC):
    """A client and a way to wait. The operations are those of the clients, with their errors.

    The ``ask_`` methods ask for an operation and return at once. In that very step the operation is
    bound to be done, unless the session ends before.
    """

    worker: str
    """What a caller is, in messages: a thread, a task."""

    # ---- the session ---------------------------------------------------------------------

    @property
    @abstractmethod
    def state(self) -> SessionState:
        """State of the session; LOST without one."""

    @property
    @abstractmethod
    def session_id(self) -> str | None:
        """Id of the session (hexadecimal), None without one."""

    @property
    @abstractmethod
    def in_callback(self) -> bool:
        """Whether this is a callback, in which nothing may wait for another."""

    @abstractmethod
    def add_listener(self, listener: Listener) -> None:
        """Call ``listener(state)`` on every change."""

    @abstractmethod
    def remove_listener(self, listener: Listener) -> None:
        """No longer call it."""

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
        """What :meth:`commit` takes."""

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
        """The children of a node, by name."""

    @abstractmethod
    async def get_children_with_stat(
        self, path: str, watch: WatchCallbackType | None = None
    ) -> tuple[list[str], Stat]:
        """Names of the children, and the node's Stat."""

    @abstractmethod
    def ask_create(
        self, path: str, value: bytes, *, ephemeral: bool, sequential: bool = False, makepath: bool = False
    ) -> Pending[Node]:
        """Create a node."""

    @abstractmethod
    def ask_delete(self, path: str, prompt: bool = False) -> Pending[None]:
        """Delete a node. ``prompt``: the caller waits next, so that a thread may wait here."""

    @abstractmethod
    def ask_children(self, path: str) -> Pending[list[Node]]:
        """Read the children of a node."""

    @abstractmethod
    def ask_data(self, path: str) -> Pending[Node]:
        """Read a node with its data."""

    # ---- waiting -------------------------------------------------------------------------

    @abstractmethod
    def signal(self) -> Signal:
        """One that is not set."""

    @abstractmethod
    def guard(self) -> AbstractContextManager[object]:
        """A lock around what takes no time: no operation is done and nothing waited for inside."""

    @abstractmethod
    def turns(self) -> AbstractAsyncContextManager[object]:
        """A lock around operations: callers enter one after the other."""

    @abstractmethod
    def call_after(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call it then, where the client calls its callbacks, if there is a session then."""


class Alone:
    """Refuses a second caller while one is inside."""

    def __init__(self, port: Port, refused: str) -> None:
        self._guard = port.guard()
        self._refused = refused
        self._busy = False

    @contextmanager
    def __call__(self) -> Iterator[None]:
        """Be inside. Raises FaaSKeeperException where another is."""
        with self._guard:
            if self._busy:
                raise FaaSKeeperException(self._refused)
            self._busy = True
        try:
            yield
        finally:
            self._busy = False


Rule = Coroutine[Any, Any, T]
"""A rule that is performed: awaited in a loop, run to its end in a thread."""
