"""A deployment of the default configuration passes all that a provider's must, on the emulators of AWS."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faaskeeper.testing.conformance.systems import (
    CrashSuite,
    Harness,
    SemanticsSuite,
    SessionSuite,
    WatchSuite,
)
from tests.aws.system import System

CLIENTS = [
    pytest.param("threads", marks=pytest.mark.basic),
    pytest.param("asyncio", marks=pytest.mark.clouds),
]
"""Of what needs emulators, these alone are for ``make test``: each client on one of the clouds."""


@pytest.fixture(scope="module", params=CLIENTS)
def harness(request: pytest.FixtureRequest, ministack: str) -> Iterator[Harness]:
    system = System(ministack, {})
    system.asynchronous = request.param == "asyncio"
    yield system
    system.stop()


class TestSemantics(SemanticsSuite):
    pass


class TestSessions(SessionSuite):
    pass


class TestWatches(WatchSuite):
    pass


class TestCrashes(CrashSuite):
    pass
