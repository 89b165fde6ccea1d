"""Deployments on emulators and their clients, as far as they are the same on each cloud."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar
from weakref import WeakSet

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.testing.conformance.blocking import BlockingClient, Client
from faaskeeper.testing.conformance.systems import Harness
from faaskeeper.testing.patience import PATIENCE_S

_BOUNDS = (
    "faaskeeper.client.client.START_S",
    "faaskeeper.client.client.STOP_S",
    "faaskeeper.aio.client.START_S",
    "faaskeeper.aio.client.STOP_S",
)
"""How long clients wait until their sessions are open, and closed."""
_C = TypeVar("_C", FaaSKeeperClient, BlockingClient)


class Deployment(Harness):
    """A deployment that takes its clients along when it stops: those of a failed test still run.

    They would try for ever to reach a deployment, and later an emulator, that is gone.
    """

    def __init__(self) -> None:
        self._made: WeakSet[Client] = WeakSet()

    def client(self, **options: Any) -> Client:
        """See :class:`Harness`."""
        return self.keep(super().client(**options))

    def keep(self, client: _C) -> _C:
        """Stop a client with the deployment."""
        self._made.add(client)
        return client

    def stop_clients(self) -> None:
        """Stop the clients that run still, without a word to the service."""
        for client in list(self._made):
            client.stop(close=False)


@contextmanager
def patient_clients() -> Iterator[None]:
    """Clients that wait for functions that were killed and begin again on a busy machine."""
    with pytest.MonkeyPatch.context() as patch:
        for bound in _BOUNDS:
            patch.setattr(bound, PATIENCE_S)
        yield
