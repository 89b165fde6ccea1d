"""The contracts of a whole deployment, as tests that see it through the client alone.

Subclass a suite and give it a fixture ``harness``, a :class:`Harness` of a deployment that works::

    class TestSemantics(SemanticsSuite):
        @pytest.fixture
        def harness(self):
            with MyDeployment() as deployment:
                yield deployment

One deployment may serve many tests, one after the other: each test works below a znode of its own.
"""

from faaskeeper.testing.conformance.crashes import CrashSuite
from faaskeeper.testing.conformance.harness import Harness
from faaskeeper.testing.conformance.semantics import SemanticsSuite
from faaskeeper.testing.conformance.sessions import SessionSuite
from faaskeeper.testing.conformance.watches import WatchSuite

__all__ = ["CrashSuite", "Harness", "SemanticsSuite", "SessionSuite", "WatchSuite"]
