"""A pytest plugin by which kazoo's own tests meet ``fk serve``, in ``$GATEWAY_DIRECTORY``.

They are written for a cluster of servers that their harness starts and stops; here it has one member.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

for _name in ("OpenSSL", "jks"):  # the harness imports them for a cluster with TLS, which is not used
    sys.modules.setdefault(_name, ModuleType(_name))

from kazoo.testing import harness

from tests.gateway.servers import Server


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


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Serve no more."""
    for member in _cluster.members:
        member.end()
