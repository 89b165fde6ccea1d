"""Deployments of the other configurations: chosen so that each value of each key meets those of the others.

Each passes all that the default configuration does (``test_systems.py``).
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
from tests.aws.system import System

CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "tables alone": {
        "user-storage": "key-value",
        "worker-queue": "dynamodb",
        "distributor-queue": "dynamodb",
        "client-channel": "tcp",
    },
    "queues": {"user-storage": "persistent", "worker-queue": "sqs", "distributor-queue": "sqs"},
    "unordered": {"user-storage": "key-value", "worker-queue": "sqs-unordered"},
    "direct": {"user-storage": "hybrid", "worker-queue": "direct"},
}


@pytest.fixture(scope="module", params=list(CONFIGURATIONS))
def harness(request: pytest.FixtureRequest, ministack: str) -> Iterator[Harness]:
    system = System(ministack, CONFIGURATIONS[request.param], watch_inline=request.param == "unordered")
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
