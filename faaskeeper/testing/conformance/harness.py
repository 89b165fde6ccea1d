"""A deployment under test, and what the suites of deployments share."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from uuid import uuid4

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.client.session import Session
from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.testing.conformance.blocking import BlockingClient, BlockingSession, Client
from faaskeeper.testing.patience import PATIENCE_S

TIMEOUT_S = 4.0
"""Time-out of sessions that are to end: the shortest possible."""
LASTING_S = 60.0
"""Time-out of all others: a client on a loaded machine keeps it."""
_BOUNDS = (
    "faaskeeper.client.client.START_S",
    "faaskeeper.client.client.STOP_S",
    "faaskeeper.aio.client.START_S",
    "faaskeeper.aio.client.STOP_S",
)
"""How long clients wait until their sessions are open, and closed."""
_ROOTS = 16
"""Znodes for tests that a harness makes at once: a session for each took a tenth of all the time."""


@contextmanager
def patient_clients() -> Iterator[None]:
    """Have clients wait for functions that were killed and begin again on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        for bound in _BOUNDS:
            patch.setattr(bound, PATIENCE_S)
        yield


class Harness(ABC):
    """A deployment under test. A provider overrides what differs."""

    config: Config
    connect: Callable[[Config, int], Connection] | None = None
    """How clients connect; None: by the configuration's provider."""
    asynchronous = False
    """Whether the clients are asyncio's, behind the interface of the threaded client."""
    _roots: tuple[str, ...] = ()
    """Znodes that no test has had yet."""

    def client(self, **options: Any) -> Client:
        """A client of the deployment, not started."""
        options.setdefault("session_timeout", LASTING_S)
        if self.connect is not None:
            options["connect"] = self.connect
        if self.asynchronous:
            return BlockingClient(self.config, **options)
        return FaaSKeeperClient(self.config, **options)

    @abstractmethod
    def beat(self) -> None:
        """Run heartbeat once, to its end."""

    @abstractmethod
    def crash(self) -> None:
        """Kill the functions' processes, in the middle of their work if they have some.

        What the provider does to recover (a restart, a redelivery) must happen by itself.
        """

    def pass_time(self, seconds: float) -> None:
        """Let so much time pass by the service's clock."""
        time.sleep(seconds)

    def root(self) -> str:
        """The path of a znode that no test has had."""
        if not self._roots:
            with self.client() as client:
                made = [client.create_async(f"/test-{uuid4().hex}") for _ in range(_ROOTS)]
                self._roots = tuple(each.get(PATIENCE_S).path for each in made)
        path, self._roots = self._roots[0], self._roots[1:]
        return path


class Suite:
    """What all suites share: started clients, and a znode for each test."""

    @pytest.fixture
    def start(self, harness: Harness) -> Iterator[Callable[..., Client]]:
        """Makes started clients, and stops those that the test leaves open."""
        with ExitStack() as stack:

            def started(**options: Any) -> Client:
                client = harness.client(**options)
                stack.callback(client.stop)
                client.start()
                return client

            yield started

    @pytest.fixture
    def root(self, harness: Harness) -> str:
        """The path of a znode of the test's own."""
        return harness.root()


def session_of(client: Client) -> Session | BlockingSession:
    """The session of a started client."""
    session = client.session
    assert session is not None
    return session


def flush(client: Client) -> None:
    """Wait until the callbacks that are due now have run."""
    done = threading.Event()
    session_of(client).call_later(done.set)
    assert done.wait(PATIENCE_S)


def expire(harness: Harness, gone: Client, others: list[Client]) -> None:
    """Kill a client; heartbeat must end its session after the time-out, and no other."""
    session = session_of(gone)
    with harness.client() as witness:
        path = witness.create("/witness-", ephemeral=True, sequential=True).path
        session.abandon()
        harness.pass_time(TIMEOUT_S + 1)
        for other in (*others, witness):
            session_of(other).renew()
        deadline = time.monotonic() + PATIENCE_S
        connection = session_of(witness).connection
        while connection.leases.get(session.id) is not None:
            assert time.monotonic() < deadline, "heartbeat does not end the session"
            harness.beat()
            witness.set_data(path)  # answered after the close, where that was asked for
    gone.stop(close=False)  # what is left of it: its loop, if it is of asyncio
