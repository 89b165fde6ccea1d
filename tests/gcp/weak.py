"""Queries of deployments on the emulator: without the transactions that it would keep for them.

For each strongly consistent query the emulator of Datastore begins a transaction that it forgets to end. It
keeps that for up to 50 minutes, with a copy of all entities of the project, made at the next write: gigabytes
after some hundred tests. An eventually consistent query begins none, and sees as much where each write is
applied at once (``--consistency=1.0``). Tests of the driver ask for what the driver does.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

from google.cloud.datastore_v1 import types

from faaskeeper.providers.gcp import clients, functions


def weaken(gcp: clients.Gcp) -> None:
    """Have the queries of a process' clients, made later or before, begin no transaction."""
    strong = gcp.grpc

    def weakly(name: str, client: Callable[[], Any], operation: str, request: Any) -> Any:
        if operation == "run_query":
            request.read_options.read_consistency = types.ReadOptions.ReadConsistency.EVENTUAL
        return strong(name, client, operation, request)

    gcp.grpc = weakly  # type: ignore[method-assign]


_make = clients.Gcp.__init__


def _made_weak(self: clients.Gcp, project: str, *, credentials: str = "") -> None:
    _make(self, project, credentials=credentials)
    weaken(self)


def writer(request: Any) -> Any:
    return functions.writer(request)


def distributor(request: Any) -> Any:
    return functions.distributor(request)


def watch(request: Any) -> Any:
    return functions.watch(request)


def heartbeat(request: Any) -> Any:
    return functions.heartbeat(request)


if os.environ.get("FUNCTION_TARGET"):  # not where a test imports it
    clients.Gcp.__init__ = _made_weak  # type: ignore[method-assign]
