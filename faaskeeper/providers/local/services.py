"""The directories of embedded services that this process uses: it owns them, or has joined.

Clients of one process with the same directory share one service. The first ``connect`` starts it,
or joins the process that has it, and the last ``close`` stops it. This table is the only
process-wide state of this project: a directory has one owner, so the process must know whether it
is the owner.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from copy import copy
from typing import TYPE_CHECKING, Any

from faaskeeper.config import Config
from faaskeeper.core import logs
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Denied, DriverError
from faaskeeper.core.forks import Inherited, register
from faaskeeper.providers.local.database import InUse
from faaskeeper.providers.local.directories import directory_of
from faaskeeper.providers.local.service import EmbeddedService

if TYPE_CHECKING:  # importing sockets takes time that a command with a service of its own need not spend
    from faaskeeper.providers.local.sharing.link import Asking, Greeted

_OPENING_S = 20.0
"""How long to wait for an owner that has the lock and does not listen yet."""
_UNABLE_S = 10.0
"""How long others may take a directory over that this process cannot."""
_PAUSE_S = 0.01

_log = logs.logger(__name__)


class _Place(Inherited):
    """One directory: the service, if this process owns it, and the number of its connections."""

    def __init__(self, directory: str) -> None:
        self._directory = directory
        self._lock = threading.Lock()
        self.service: EmbeddedService | None = None
        self._users = 0
        register(self)

    def forked(self, why: str) -> None:
        self._lock = threading.Lock()
        self.service = None
        self._users = 0

    def connect(self, config: Config, port: int) -> Connection:
        """A client's connection: within this process if it owns the directory, or can."""
        deadline = time.monotonic() + _OPENING_S
        alone = 0
        while True:
            with self._lock:
                try:
                    service = self._owned(config)
                    self._users += 1
                    return service.connection(port, self._closing(service))
                except InUse as error:
                    in_use = error
            if in_use.shared:
                joined = self._join(config, port)
                if joined is not None:
                    return joined
            else:
                alone += 1
            if alone > 2:  # a new owner may not have replaced what an earlier one has written
                raise in_use
            if time.monotonic() > deadline:
                raise Denied(f"{in_use}; that process does not answer")
            time.sleep(_PAUSE_S)

    def _owned(self, config: Config, **options: Any) -> EmbeddedService:
        """The service. Raises InUse if another process has it. The caller holds the lock."""
        if self.service is None:
            self.service = EmbeddedService(config, self._directory, **options)
        return self.service

    def _closing(self, service: EmbeddedService | None) -> Callable[[], None]:
        """Releases a connection, once. ``service``: the one that it is within."""
        closed = threading.Event()

        def close() -> None:
            if closed.is_set():
                return
            closed.set()
            with self._lock:
                if service is not None and self.service is not service:
                    return  # the service belongs to another process
                self._users -= 1
                if self._users > 0 or self.service is None:
                    return
                ended, self.service = self.service, None
                ended.stop()

        return close

    # ---- joining -----------------------------------------------------------------------

    def _join(self, config: Config, port: int) -> Connection | None:
        """Join the owner. None: it does not listen. Raises Denied if it refuses."""
        from faaskeeper.providers.local.sharing import wire
        from faaskeeper.providers.local.sharing.link import Asking, Link, greet
        from faaskeeper.providers.local.sharing.remote import connection

        stated = config.super_digest if config.sets_super_user else None
        asking = Asking(self._directory, config.user_storage.value, stated)
        name = f"shared:{os.urandom(8).hex()}"
        try:
            was = self._identity()
            first = greet(asking, name)
        except (OSError, wire.Absent):
            return None
        keeping = copy(config).with_super_user(first.welcome["super"])
        reach = _Reach(self, asking, keeping, was)
        link = Link(asking, name, first, reach)
        with self._lock:
            self._users += 1
        close = self._closing(None)
        try:
            return connection(link, config, port, close)
        except BaseException:  # no thread can be started
            first.connection.close()
            close()
            raise

    def _identity(self) -> tuple[int, int]:
        found = os.stat(self._directory)
        return found.st_dev, found.st_ino

    def take_over(self, config: Config, was: tuple[int, int]) -> None:
        """Own the directory, unless another process does: then raises InUse.

        ``was``: what the directory was. Raises what opening the service raises, and Denied if it is
        another directory now.
        """
        with self._lock:
            self.check(was)
            if self._users:  # otherwise nobody would stop the service
                unshared = self._owned(config, share_after=0.0).unshared
                if unshared:
                    raise Denied(unshared)

    def check(self, was: tuple[int, int]) -> None:
        """Raise Denied if there is another directory now."""
        try:
            moved = self._identity() != was
        except (FileNotFoundError, NotADirectoryError):
            moved = True
        if moved:
            raise _Moved(f"the directory {self._directory} was moved, deleted or replaced")


class _Moved(Denied):
    """There is another directory, or none."""


class _Reach:
    """Reaches the next owner for a link; see :data:`faaskeeper.providers.local.sharing.link.Reach`."""

    def __init__(self, place: _Place, asking: Asking, config: Config, was: tuple[int, int]) -> None:
        self._place = place
        self._asking = asking
        self._config = config
        self._was = was
        self._unable = 0.0
        """Since when this process cannot take over; 0: it can, as far as is known."""

    def __call__(self, stream: str) -> Greeted:
        from faaskeeper.providers.local.sharing import wire
        from faaskeeper.providers.local.sharing.link import greet

        try:
            greeted = greet(self._asking, stream)
        except wire.Absent:
            self._take_over()
            raise
        try:
            self._place.check(self._was)
        except BaseException:
            greeted.connection.close()
            raise
        self._unable = 0.0
        return greeted

    def _take_over(self) -> None:
        """Try to own the directory. Raises DriverError if neither this process can nor others do."""
        try:
            self._place.take_over(self._config, self._was)
        except _Moved:
            raise
        except (DriverError, OSError, RuntimeError) as error:  # the latter: no thread can be started
            if not (isinstance(error, InUse) and error.shared):  # that one listens, or will
                self._cannot(error)
                return
        self._unable = 0.0

    def _cannot(self, error: Exception) -> None:
        now = time.monotonic()
        if not self._unable:
            self._unable = now
            _log.error("this process cannot take over %s: %s", self._asking.directory, error)
        elif now - self._unable > _UNABLE_S:
            raise Denied(str(error)) from error


class Services(Inherited):
    """The directories that this process uses."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._places: dict[str, _Place] = {}
        register(self)

    def forked(self, why: str) -> None:
        self._lock = threading.Lock()
        self._places = {}

    def connect(self, config: Config, port: int) -> Connection:
        """Connect to the service of the configuration's directory; starts it if nobody has it."""
        directory = directory_of(config)
        with self._lock:
            place = self._places.get(directory)
            if place is None:
                place = self._places[directory] = _Place(directory)
        return place.connect(config, port)

    def owned(self, directory: str) -> EmbeddedService | None:
        """The service of a directory, if this process owns it."""
        place = self._places.get(directory)
        return None if place is None else place.service


services = Services()
