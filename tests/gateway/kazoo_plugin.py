"""A pytest plugin by which kazoo's own tests meet ``fk serve``, in ``$GATEWAY_DIRECTORY``.

They are written for a cluster of servers that their harness starts and stops; here it has one member.
"""

from __future__ import annotations

import functools
import os
import queue
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

for _name in ("OpenSSL", "jks"):  # the harness imports them for a cluster with TLS, which is not used
    sys.modules.setdefault(_name, ModuleType(_name))

from kazoo.client import KazooClient
from kazoo.protocol.connection import _CONNECTION_DROP, ConnectionDropped, ConnectionHandler
from kazoo.testing import harness

from faaskeeper.testing.patience import PATIENCE_S
from tests.gateway.servers import Server


def _patient(wait: Callable[..., Any]) -> Callable[..., Any]:
    """A wait of kazoo's tests, which lasts as much longer as the machine is busier than it should be.

    No longer than that: some wait to the end for what does not come.
    """

    @functools.wraps(wait)
    def waited(self: Any, *given: Any, **named: Any) -> Any:
        asks: str = sys._getframe(1).f_globals["__name__"]
        if asks.startswith("kazoo.tests"):
            busy = max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))
            given = tuple(each * busy if type(each) in (int, float) else each for each in given)
            if named.get("timeout"):
                named["timeout"] *= busy
        return wait(self, *given, **named)

    return waited


threading.Event.wait = _patient(threading.Event.wait)  # type: ignore[method-assign]
threading.Condition.wait = _patient(threading.Condition.wait)  # type: ignore[method-assign]
queue.Queue.get = _patient(queue.Queue.get)  # type: ignore[method-assign]
KazooClient.start.__defaults__ = (PATIENCE_S,)
harness.KazooTestHarness.DEFAULT_CLIENT_TIMEOUT = 60


_read_socket = ConnectionHandler._read_socket


def _unless_it_is_to_be_dropped(self: ConnectionHandler, read_timeout: float) -> Any:
    """Reads an answer, but not from a connection that a test drops: that the answer was slower was luck."""
    queued = self.client._queue
    if queued and queued[0][0] is _CONNECTION_DROP:
        raise ConnectionDropped("Connection dropped: Testing")
    return _read_socket(self, read_timeout)


ConnectionHandler._read_socket = _unless_it_is_to_be_dropped


class _Fair(threading.Condition):
    """A condition on which all that were told have looked before another thread changes what it is about.

    kazoo's tests of locks wait until nobody has the lock. The next one may have it before they wake: then
    they wait for ever, and a fast server makes it likely.
    """

    _told = 0

    def __enter__(self) -> bool:
        for _ in range(1_000):
            super().__enter__()
            if not self._told:
                return True
            super().__exit__(None, None, None)
            time.sleep(0.001)
        return super().__enter__()

    def notify_all(self) -> None:
        self._told += len(self._waiters)  # type: ignore[attr-defined]
        super().notify_all()

    def wait(self, timeout: float | None = None) -> bool:
        told = super().wait(timeout)
        self._told -= told and self._told > 0
        return told


class Member:
    """What the harness calls a server."""

    def __init__(self) -> None:
        self._server = Server(Path(os.environ["GATEWAY_DIRECTORY"]), "--commands", "*")
        self.address = self.secure_address = f"127.0.0.1:{self._server.port}"
        self.client_port = self._server.port
        self.running = True

    def stop(self) -> None:
        """End it without a word."""
        self._server.kill()
        self.running = False

    def run(self) -> None:
        """Start it again."""
        if not self.running:
            self._server.start()
            self.running = True

    def end(self) -> None:
        """The tests are over."""
        assert self._server.stop() == 0


class Cluster:
    """What the harness calls a cluster."""

    members: tuple[Member, ...] = ()

    def __iter__(self) -> Iterator[Member]:
        return iter(self.members)

    def __getitem__(self, number: int) -> Member:
        return self.members[number]

    def start(self) -> None:
        """Start what does not run."""
        for member in self.members:
            member.run()

    def terminate(self) -> None:
        """It goes on: the next class of tests is for it too."""

    def get_logs(self) -> list[str]:
        """For the harness' report of a failure."""
        return []


_cluster = Cluster()
harness.get_global_cluster = lambda: _cluster


def pytest_sessionstart(session: pytest.Session) -> None:
    """Begin to serve."""
    _cluster.members = (Member(),)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give the tests that have a condition a fair one."""
    for made_for in {item.cls for item in items if isinstance(item, pytest.Function)}:
        if hasattr(made_for, "make_condition"):
            made_for.make_condition = staticmethod(_Fair)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Serve no more."""
    for member in _cluster.members:
        member.end()
