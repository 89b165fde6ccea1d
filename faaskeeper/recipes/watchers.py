"""Watches that renew themselves: they call a function with the state, now and after changes."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.core.znode import Stat
from faaskeeper.exceptions import FaaSKeeperException, SessionClosingException, SessionExpiredException
from faaskeeper.recipes.rules.watchers import AGAIN_S, ChildrenLooks, Data, DataLooks, Looks
from faaskeeper.recipes.threads import ThreadPort, run

T = TypeVar("T")
DataFunction = Callable[[bytes | None, Stat | None], Any]
ChildrenFunction = Callable[[list[str]], Any]
_log = logging.getLogger(__name__)


class _Watching(ABC, Generic[T]):
    """Reads, and reads again after every event and when the client has a new session.

    The first read runs in the caller's thread, later ones in the client's callback thread. If
    several changes happen in a short time, the function may see only the last.
    """

    def __init__(self, client: FaaSKeeperClient, looks: Looks[T]) -> None:
        self._client = client
        self._port = ThreadPort(client)
        self._looks = looks
        self._looking = threading.RLock()
        self._over = False
        client.add_listener(self._listen)
        try:
            self._look()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop calling the function."""
        self._over = True
        self._client.remove_listener(self._listen)

    def _listen(self, state: SessionState) -> None:
        if state is SessionState.CONNECTED:
            self._woken()

    def _woken(self, event: object = None) -> None:
        if self._over:
            return
        try:
            self._look()
        except (SessionExpiredException, SessionClosingException):
            return  # reads again when there is a session
        except FaaSKeeperException:
            # The store was unreachable, maybe for this one call only: then no event would wake
            # this.
            _log.exception("a watcher could not read, will retry in %g s", AGAIN_S)
            self._port.call_after(AGAIN_S, self._woken)

    def _look(self) -> None:
        with self._looking:
            if self._over:
                return
            new = run(self._looks.look(self._woken))
            if self._looks.over or (new is not None and self._show(new) is False):
                self.stop()

    @abstractmethod
    def _show(self, new: T) -> Any:
        """Call the function and return its result."""


class DataWatch(_Watching[Data]):
    """Calls ``function(data, stat)`` with a node's data; (None, None) if the node does not exist.

    Stops when the function returns False. Usable as a decorator: ``@partial(DataWatch, client,
    "/path")``.
    """

    def __init__(self, client: FaaSKeeperClient, path: str, function: DataFunction) -> None:
        self._function = function
        super().__init__(client, DataLooks(ThreadPort(client), path))

    def _show(self, new: Data) -> Any:
        return self._function(new.data, new.stat)


class ChildrenWatch(_Watching[list[str]]):
    """Calls ``function(names)`` with the names of a node's children.

    Stops when the function returns False, or when the node is deleted. Usable as a decorator like
    :class:`DataWatch`. Raises NodeDoesntExistException if the node does not exist at first.
    """

    def __init__(self, client: FaaSKeeperClient, path: str, function: ChildrenFunction) -> None:
        self._function = function
        super().__init__(client, ChildrenLooks(ThreadPort(client), path))

    def _show(self, new: list[str]) -> Any:
        return self._function(new)
