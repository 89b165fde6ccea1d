"""The mark of a mirror in its target: ``/fk-mirrors/NAME``, and the lock below it.

Its data says of which source the target is a mirror. Each transaction of the mirror sets it, so its
mzxid is that of the mirror's last write. The ephemeral child ``running`` lets one mirror run.
"""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import quote

from faaskeeper.core.requests import SetData, inline
from faaskeeper.exceptions import (
    NodeDoesntExistException,
    NodeExistsException,
    NotEmptyException,
    ProviderException,
)
from faaskeeper.mirror.trees import MARKS, Tree


class Mark(NamedTuple):
    """A mark that was read. ``copied``: the first copy is complete. ``zxid``: of the last write."""

    source: str
    copied: bool
    zxid: int


class Marks:
    """The mark of one target."""

    def __init__(self, target: Tree, source: str) -> None:
        self._client = target.client
        self._target = target
        self._source = source
        self._copied = False
        self.path = f"{MARKS}/{quote(target.top, safe='')}"
        self._lock = f"{self.path}/running"
        self._version = 0

    def read(self) -> Mark | None:
        """The mark that is there. Raises ProviderException if it cannot be understood."""
        try:
            node = self._client.get_data(self.path)
        except NodeDoesntExistException:
            return None
        try:
            found = json.loads(node.data)
            mark = Mark(str(found["source"]), bool(found["copied"]), node.stat.mzxid)
        except (ValueError, KeyError, TypeError) as error:
            raise ProviderException(
                f"{self.path} of {self._target.name} is not the mark of a mirror: delete it"
            ) from error
        self._version, self._copied = node.stat.version, mark.copied
        return mark

    def take(self, wait_s: float, waiting: Callable[[], None]) -> None:
        """Take the lock, below a mark that is made if there is none.

        ``waiting`` is called before a wait of at most ``wait_s``: the lock of a mirror that was
        killed ends with its session. Raises ProviderException if another mirror runs.
        """
        with suppress(NodeExistsException):
            self._client.create(self.path, self._data(), makepath=True)
        while True:
            gone = threading.Event()
            try:
                self._client.create(self._lock, ephemeral=True)
                break
            except NodeExistsException:
                if self._client.exists(self._lock, lambda event: gone.set()) is None:
                    continue
            waiting()
            if not gone.wait(wait_s):
                raise ProviderException(f"another mirror to {self._target.name} is running: end it first")
        self.read()

    def begin(self) -> None:
        """Make the target a mirror of this source from now on."""
        self._copied = False
        self._set()

    def complete(self) -> None:
        """The first copy is complete."""
        if not self._copied:
            self._copied = True
            self._set()

    def _set(self) -> None:
        stat = self._client.set_data(self.path, self._data(), self._version).stat
        self._version = stat.version

    def part(self) -> SetData:
        """The part of a transaction that makes it the mirror's."""
        return SetData(self.path, inline(self._data()), self._version)

    def written(self) -> None:
        """A transaction with :meth:`part` was committed."""
        self._version += 1

    def _data(self) -> bytes:
        return json.dumps({"source": self._source, "copied": self._copied}).encode()

    def remove(self) -> None:
        """The target is no mirror any more."""
        self._client.delete(self._lock)
        self._client.delete(self.path, self._version)
        with suppress(NotEmptyException, NodeDoesntExistException):
            self._client.delete(MARKS)
