"""Whole deployments on the emulators of AWS pass the suites that every provider's must."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from faaskeeper.testing.systems import CrashSuite, Harness, SemanticsSuite, SessionSuite, WatchSuite
from tests.aws.system import System

DEFAULT = {"default": {}}


@pytest.fixture(scope="module", params=list(DEFAULT))
def harness(request: pytest.FixtureRequest, ministack: str) -> Iterator[Harness]:
    system = System(ministack, DEFAULT[request.param])
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
