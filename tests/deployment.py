"""Deployments on emulators and their clients, as far as they are the same on each cloud."""

from __future__ import annotations

from typing import Any, TypeVar
from weakref import WeakSet

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.testing.conformance.blocking import BlockingClient, Client
from faaskeeper.testing.conformance.systems import Harness

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
