"""Each test is run by one of ``make test``, ``test-clouds`` and ``test-simulator``, and by one only."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests.conftest import BASIC_S, PARTS, group, part_of

ROOT = Path(__file__).parent.parent
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = {"test": "basic", "test-clouds": "clouds", "test-simulator": "simulator"}


def recipe(target: str) -> str:
    """What a target of the Makefile needs and does."""
    found = re.search(rf"^{target}:(.*\n(?:\t.*\n)*)", MAKEFILE, re.MULTILINE)
    assert found is not None, target
    return found[1]


def test_every_test_is_in_one_part_and_in_no_other() -> None:
    assert part_of("test", [], ["tmp_path"]) == "basic"
    assert part_of("test", [], ["tmp_path", "ministack"]) == "clouds"
    assert part_of("test", ["basic"], ["ministack"]) == "basic"
    assert part_of("test", ["simulator"], []) == "simulator"
    with pytest.raises(pytest.UsageError, match="more than one part: basic, clouds"):
        part_of("test", ["clouds", "basic"], [])


def test_a_test_for_newcomers_that_hangs_costs_ten_minutes_and_a_wait_in_it_ends_before(
    request: pytest.FixtureRequest,
) -> None:
    marker = request.node.get_closest_marker("timeout")
    assert marker is not None
    assert marker.args == (BASIC_S,)
    assert PATIENCE_S < BASIC_S <= 600


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_runs_its_part(target: str) -> None:
    assert re.findall(r"\$\(PYTEST\) -m (\S+)\n", recipe(target)) == [TARGETS[target]]


def test_the_targets_run_all_parts_and_ci_always_runs_all_targets_the_quick_one_first() -> None:
    assert sorted(TARGETS.values()) == sorted(PARTS)
    run = (ROOT / ".ci" / "run").read_text()
    assert re.findall(r"^make -s (test\S*)$", run, re.MULTILINE) == list(TARGETS)
    assert recipe("test-all").split() == list(TARGETS)


def test_no_target_sets_up_more_than_it_needs() -> None:
    assert recipe("run").split("\n")[0].split() == ["$(FK)"]
    assert "$(DYNAMODB_LOCAL)" not in recipe("test")
    assert recipe("test-simulator").split("\n")[0].split() == ["$(DEV)"]


def test_only_needs_skips_tests_so_that_a_part_that_ci_lacks_is_a_failure_there() -> None:
    skips = re.compile(r"\b(pytest\.skip\(|importorskip\(|mark\.skip|unittest\.skip)")
    found = {path.name for path in (ROOT / "tests").rglob("*.py") if skips.search(path.read_text())}
    assert found == {"backends.py"}
    kit = (ROOT / "faaskeeper" / "testing").rglob("*.py")
    assert [path.name for path in kit if skips.search(path.read_text())] == []


def test_tests_that_share_a_server_run_in_one_process() -> None:
    assert group("tests/aws/test_a.py::test") == group("tests/aws/test_b.py::Test::test[x]") == "aws"
    assert group("tests/gateway/test_a.py::test") != group("tests/gateway/test_b.py::test")
    files = ["tests/core/test_paths.py", "tests/core/test_limits.py"]
    command = [sys.executable, "-m", "pytest", "-n", "2", "-vv", "-p", "no:cacheprovider", *files]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    ran = set(re.findall(r"\[(gw\d)\] .* PASSED (tests/[^:]+)", done.stdout))
    assert sorted(file for _, file in ran) == sorted(files), done.stdout[-3_000:]
    assert len({process for process, _ in ran}) == 2
