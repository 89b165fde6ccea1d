"""The suites of deployments, run by pytest in this process against what the gate has deployed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.testing.conformance.golden import SCENARIOS, name_of
from faaskeeper.testing.conformance.harness import Harness, patient_clients
from faaskeeper.testing.smoke.stage import Say

SUITES = {
    "semantic": "SemanticsSuite",
    "session": "SessionSuite",
    "watch": "WatchSuite",
    "crash": "CrashSuite",
}
"""By name; the crash suite takes functions that die."""
BY_ADDRESS = ("acl: digest", "acl: ip")
"""Scenarios in which a client has an id of the scheme ip. On clouds nobody knows a client's address."""
_SHOWN = 400
"""Characters of a failure that a report shows; the log has all."""


class Outcome(NamedTuple):
    """What came of a suite. ``failed``: by test, why; ``left_out``: by reason, how many scenarios."""

    passed: int
    failed: dict[str, str]
    left_out: dict[str, int]
    seconds: float


class Deployed(Harness):
    """What the gate has deployed, for the suites.

    ``life_s``: how long a function's process lives at most, where they die by themselves.
    """

    def __init__(
        self,
        config: Config,
        connect: Callable[[Config, int], Connection],
        beat: Callable[[], None],
        life_s: float = 0.0,
    ) -> None:
        self.config = config
        self.connect = connect
        self._beat = beat
        self._life_s = life_s

    def beat(self) -> None:
        self._beat()

    def crash(self) -> None:
        """Let the time pass in which a process that is at work has died; no cloud tells when."""
        time.sleep(self._life_s)


class _Plugin:
    """Gives the tests their deployment, and keeps what comes of them.

    ``share``: of the recorded scenarios, one of so many.
    """

    def __init__(self, harness: Harness, suite: str, share: int, say: Say, log: Path) -> None:
        self._harness = harness
        self._suite = suite
        self._share = share
        self._say = say
        self._log = log
        self.passed = 0
        self.failed: dict[str, str] = {}
        self.left_out: dict[str, int] = {}

    @pytest.fixture(scope="session")
    def harness(self) -> Iterator[Harness]:
        with patient_clients():
            yield self._harness

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        """Leave out other suites, and scenarios beyond the share."""
        ours = [item for item in items if f"::Test{SUITES[self._suite]}::" in item.nodeid]
        items[:] = [item for item in ours if self._chosen(item)]

    def _chosen(self, item: pytest.Item) -> bool:
        scenario = getattr(getattr(item, "callspec", None), "params", {}).get("scenario")
        why = ""
        if scenario is not None and name_of(scenario) in BY_ADDRESS:
            why = "on clouds nobody knows a client's address"
        elif scenario is not None and SCENARIOS.index(scenario) % self._share:
            why = f"one of {self._share} was asked for"
        if why:
            self.left_out[why] = self.left_out.get(why, 0) + 1
        return not why

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Count a test when it is over, or when a part of it fails."""
        test = report.nodeid.rsplit("::", 1)[-1]
        if report.failed:
            with self._log.open("a", encoding="utf-8") as log:
                log.write(f"{test}\n{report.longreprtext}\n")
            lines = [line[1:].strip() for line in report.longreprtext.splitlines() if line.startswith("E ")]
            self.failed[test] = " ".join(lines or report.longreprtext.splitlines()[-3:])[:_SHOWN]
            self._say(f"FAILED {test}")
        elif report.skipped:
            self.failed[test] = "it was skipped"
        elif report.when == "call":
            self.passed += 1
            self._say(f"ok     {test}")


def run(suite: str, harness: Harness, share: int, say: Say, log: Path) -> Outcome:
    """Run a suite. Raises KeyboardInterrupt when it is interrupted."""
    plugin = _Plugin(harness, suite, share, say, log)
    tests = Path(__file__).with_name("tests.py")
    began = time.monotonic()
    options = ["-c", os.devnull, "--rootdir", str(tests.parent), "-o", "python_files=tests.py"]
    for of_others in ("cacheprovider", "terminal", "xdist", "timeout"):
        options += ["-p", f"no:{of_others}"]
    code = pytest.main([*options, str(tests)], [plugin])
    if code is pytest.ExitCode.INTERRUPTED:
        raise KeyboardInterrupt
    if code not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
        plugin.failed[suite] = f"pytest ended with {code!s}"
    return Outcome(plugin.passed, plugin.failed, plugin.left_out, time.monotonic() - began)
