"""Each test is run by one of ``make test``, ``test-clouds`` and ``test-simulator``, and by one only."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faaskeeper.testing.conformance.golden import SCENARIOS, name_of
from tests.conftest import PARTS, group

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = {"test": "basic", "test-clouds": "clouds", "test-simulator": "simulator"}

_COLLECT = """
import json, pathlib, sys
import pytest

class Seen:
    def pytest_collection_finish(self, session):
        marks = {each.nodeid: [mark.name for mark in each.iter_markers()] for each in session.items}
        pathlib.Path(sys.argv[1]).write_text(json.dumps(marks))

sys.exit(pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", "tests"], plugins=[Seen()]))
"""


def recipe(target: str) -> str:
    """What a target of the Makefile needs and does."""
    found = re.search(rf"^{target}:(.*\n(?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    assert found is not None, target
    return found[1]


def test_every_test_is_in_one_part_and_in_no_other(tmp_path: Path) -> None:
    out = tmp_path / "marks"
    done = subprocess.run(
        [sys.executable, "-c", _COLLECT, str(out)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-3_000:] + done.stderr
    tests: dict[str, list[str]] = json.loads(out.read_text())
    parts = {name: sorted(set(PARTS).intersection(marks)) for name, marks in tests.items()}
    assert [name for name, found in parts.items() if len(found) != 1] == []
    assert {found[0] for found in parts.values()} == set(PARTS)
    for cloud in ("aws", "gcp"):
        scenario = re.compile(rf"tests/{cloud}/test_configurations.py::.*server_showed\[[^-]*-(.*)\]")
        shown = [match[1] for match in map(scenario.fullmatch, tests) if match]
        assert sorted(shown) == sorted(map(name_of, SCENARIOS)), cloud


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_its_part(target: str) -> None:
    assert re.findall(r"\$\(PYTEST\) -m (\S+)\n", recipe(target)) == [TARGETS[target]]


def test_the_targets_run_all_parts_and_ci_runs_all_targets_the_quick_one_first() -> None:
    assert sorted(TARGETS.values()) == sorted(PARTS)
    run = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make -s (test\S*)$", run, re.MULTILINE) == list(TARGETS)
    assert recipe("test-all").split() == list(TARGETS)


def test_no_target_sets_up_more_than_it_needs() -> None:
    assert recipe("run").split("\n")[0].split() == ["$(FK)"]
    assert "$(DYNAMODB_LOCAL)" not in recipe("test")
    assert recipe("test-simulator").split("\n")[0].split() == ["$(DEV)"]


def test_tests_that_share_a_server_run_in_one_process() -> None:
    assert group("tests/aws/test_a.py::test") == group("tests/aws/test_b.py::Test::test[x]") == "aws"
    assert group("tests/gateway/test_a.py::test") != group("tests/gateway/test_b.py::test")
    files = ["tests/core/test_paths.py", "tests/core/test_limits.py"]
    command = [sys.executable, "-m", "pytest", "-n", "2", "-vv", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    ran = set(re.findall(r"\[(gw\d)\] .* PASSED (tests/[^:]+)", done.stdout))
    assert sorted(file for _, file in ran) == sorted(files), done.stdout[-3_000:]
    assert len({process for process, _ in ran}) == 2
