"""Deployments of the other configurations: chosen so that each value of each key meets those of the others.

Each passes all that the default configuration does (``test_systems.py``), although messages overtake each
other and come twice on their way to the functions.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from faaskeeper.testing.conformance.systems import (
    CrashSuite,
    Harness,
    SemanticsSuite,
    SessionSuite,
    WatchSuite,
)
from tests.gcp.system import System

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "distributor": {"user-storage": "key-value", "distributor-queue": "pubsub"},
    "ordered": {
        "user-storage": "persistent",
        "worker-queue": "pubsub-ordered",
        "distributor-queue": "pubsub-ordered",
    },
    "tcp": {"user-storage": "hybrid", "client-channel": "tcp"},
    "direct": {"user-storage": "hybrid", "worker-queue": "direct"},
}


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def harness(request: pytest.FixtureRequest, emulators: dict[str, str]) -> Iterator[Harness]:
    system = System(
        emulators,
        CONFIGURATIONS[request.param],
        watch_inline=request.param == "direct",
        unruly=True,
    )
    yield system
    system.stop()


class TestWatches(WatchSuite):
    pass


class TestCrashes(CrashSuite):
    pass


class TestSessions(SessionSuite):
    pass


class TestSemantics(SemanticsSuite):
    pass
