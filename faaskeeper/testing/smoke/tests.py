"""The tests that :mod:`faaskeeper.testing.smoke.suites` has pytest run."""

from faaskeeper.testing.conformance import systems


class TestSemanticsSuite(systems.SemanticsSuite):
    """See the suite."""


class TestSessionSuite(systems.SessionSuite):
    """See the suite."""


class TestWatchSuite(systems.WatchSuite):
    """See the suite."""


class TestCrashSuite(systems.CrashSuite):
    """See the suite."""
