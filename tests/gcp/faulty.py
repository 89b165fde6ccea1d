"""The functions' targets, whose calls to Google Cloud meet faults below Google's own libraries."""

from __future__ import annotations

import os
from random import Random
from typing import Any

import grpc

from faaskeeper.providers.gcp import clients
from tests.gcp.weak import distributor, heartbeat, watch, writer

__all__ = ["Faults", "distributor", "heartbeat", "watch", "writer"]

_NO_LIMITS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
RATES = {"throttled": 0.04, "failed": 0.03, "aborted": 0.02, "lost": 0.04}
_CODES = {
    "throttled": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "failed": grpc.StatusCode.UNAVAILABLE,
    "aborted": grpc.StatusCode.ABORTED,
    "lost": grpc.StatusCode.UNAVAILABLE,
}


class Fault(grpc.RpcError):
    """What a call meets."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name}, injected")
        self._name = name

    def code(self) -> grpc.StatusCode:
        return _CODES[self._name]

    def details(self) -> str:
        return str(self)

    def result(self, timeout: float | None = None) -> Any:
        raise self

    def trailing_metadata(self) -> tuple[()]:
        return ()


class Faults(grpc.UnaryUnaryClientInterceptor):  # type: ignore[misc]
    """Refuses calls, and loses the answers of calls that had their effect."""

    def __init__(self, seed: int) -> None:
        self.happened: dict[str, int] = dict.fromkeys(RATES, 0)
        self.calm = False
        self._random = Random(seed)

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        chance = self._random.random()
        for name, rate in RATES.items():
            if chance < rate and not self.calm:
                self.happened[name] += 1
                if name == "lost":
                    continuation(details, request).result()
                raise Fault(name)
            chance -= rate
        return continuation(details, request)

    def attach(self, gcp: clients.Gcp) -> None:
        """From now on, to what is called by gRPC."""
        make = grpc.insecure_channel
        gcp._transport = lambda kind, emulator: kind(  # type: ignore[method-assign]
            channel=grpc.intercept_channel(make(os.environ[emulator], _NO_LIMITS), self)
        )


_make = clients.Gcp.__init__


def _faulty(self: clients.Gcp, project: str, *, credentials: str = "") -> None:
    _make(self, project, credentials=credentials)
    Faults(os.getpid()).attach(self)


if os.environ.get("FUNCTION_TARGET"):  # not where a test imports it
    clients.Gcp.__init__ = _faulty  # type: ignore[method-assign]
