"""The tests that :mod:`faaskeeper.testing.smoke.suites` has pytest run."""

from faaskeeper.testing.conformance import systems


class TestSemanticsSuite(systems.SemanticsSuite):
    """Semantics of operations, on the deployment under test."""


class TestSessionSuite(systems.SessionSuite):
    """Sessions, on the deployment under test."""


class TestWatchSuite(systems.WatchSuite):
    """Watches, on the deployment under test."""


class TestCrashSuite(systems.CrashSuite):
    """Processes that are killed, on the deployment under test."""
