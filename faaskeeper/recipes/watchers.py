"""Watches that renew themselves: a function that is called with what is there, now and after every change."""

from __future__ import annotations

import logging
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

from faaskeeper.client import FaaSKeeperClient, SessionState
from faaskeeper.core.znode import Stat
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NodeDoesntExistException,
    SessionClosingException,
    SessionExpiredException,
)

DataFunction = Callable[[bytes | None, Stat | None], Any]
ChildrenFunction = Callable[[list[str]], Any]
_log = logging.getLogger(__name__)

AGAIN_S = 1.0
"""After how long a watcher that could not read tries again."""


class _Watching(ABC):
    """Looks, and looks again after every event, and when the client has a session again.

    The first look is in the caller's thread, later ones in the client's callback thread. Of several changes
    in a short time only the last need be shown.
    """

    def __init__(self, client: FaaSKeeperClient) -> None:
        self._client = client
        self._looking = threading.RLock()
        self._over = False
        client.add_listener(self._listen)
        try:
            self._look()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Call the function no more."""
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
            return  # looks again when there is a session
        except FaaSKeeperException:
            # The store is out of reach, maybe for this one call: then nothing else would wake us.
            _log.exception("a watcher could not read; it tries again in %g s", AGAIN_S)
            timer = threading.Timer(AGAIN_S, self._again)
            timer.daemon = True
            timer.start()

    def _again(self) -> None:
        if not self._over:
            self._client.call_later(self._woken)

    def _look(self) -> None:
        with self._looking:
            if not self._over and self._show() is False:
                self.stop()

    @abstractmethod
    def _show(self) -> Any:
        """Read, leave a watch, and call the function if there is something new; its answer."""


class DataWatch(_Watching):
    """Calls ``function(data, stat)`` with a node's data, (None, None) where there is no node.

    Until the function returns False. Usable as a decorator: ``@partial(DataWatch, client, "/path")``.
    """

    def __init__(self, client: FaaSKeeperClient, path: str, function: DataFunction) -> None:
        self._path = path
        self._function = function
        self._shown: tuple[int, int] | None = (-1, -1)
        super().__init__(client)

    def _show(self) -> Any:
        while True:
            try:
                node = self._client.get_data(self._path, self._woken)
            except NodeDoesntExistException:
                if self._client.exists(self._path, self._woken) is not None:
                    continue  # made since
                if self._shown is not None:
                    self._shown = None
                    return self._function(None, None)
                return None
            version = (node.stat.czxid, node.stat.mzxid)
            if version != self._shown:
                self._shown = version
                return self._function(node.data, node.stat)
            return None


class ChildrenWatch(_Watching):
    """Calls ``function(names)`` with the names of a node's children.

    Until the function returns False, or the node is gone. Usable as a decorator like :class:`DataWatch`.
    Raises NodeDoesntExistException where there is no node at first.
    """

    def __init__(self, client: FaaSKeeperClient, path: str, function: ChildrenFunction) -> None:
        self._path = path
        self._function = function
        self._shown = -1
        self._czxid = 0
        super().__init__(client)

    def _show(self) -> Any:
        try:
            names, stat = self._client.get_children_with_stat(self._path, self._woken)
        except NodeDoesntExistException:
            if self._shown < 0:
                raise
            return False
        if self._shown >= 0 and stat.czxid != self._czxid:
            return False  # the node is gone, and another is there
        self._czxid = stat.czxid
        if stat.pzxid != self._shown:
            self._shown = stat.pzxid
            return self._function(names)
        return None
