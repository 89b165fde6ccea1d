"""A deployment of the default configuration passes all that a provider's must, on Google's emulators."""

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
from tests.gcp.system import System

CLIENTS = [
    pytest.param("asyncio", marks=pytest.mark.basic),
    pytest.param("threads", marks=pytest.mark.clouds),
]
"""Of what needs emulators, these alone are for ``make test``: each client on one of the clouds."""


@pytest.fixture(scope="module", params=CLIENTS)
def harness(request: pytest.FixtureRequest, emulators: dict[str, str]) -> Iterator[Harness]:
    system = System(emulators, {})
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
