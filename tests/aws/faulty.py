"""The functions' handlers, whose calls to AWS meet faults."""

from __future__ import annotations

import os
from typing import Any

from faaskeeper.providers.aws import functions
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.testing.emulation.faults import Faults, Rates

RATES = Rates(throttled=0.04, failed=0.03, conflicting=0.02, lost=0.04)
_faults = Faults(RATES, os.getpid())
_make = Aws._make


def _faulty(self: Aws, service: str, options: dict[str, Any]) -> Any:
    client = _make(self, service, options)
    _faults.attach(client)
    return client


Aws._make = _faulty  # type: ignore[method-assign]
writer, distributor, watch, heartbeat = (
    functions.writer,
    functions.distributor,
    functions.watch,
    functions.heartbeat,
)
