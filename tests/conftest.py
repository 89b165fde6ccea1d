"""What all tests share."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Generator, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.register_assert_rewrite("faaskeeper.testing")

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.testing.conformance.golden import SCENARIOS

PARTS = ("basic", "clouds", "simulator")
"""Markers: which of ``make test``, ``make test-clouds`` and ``make test-simulator`` runs a test.

The last has what takes long and needs no emulator: long runs, larger sizes, more random programs.
"""
_EMULATORS = {"ministack", "dynamodb_local", "emulators", "browser"}
"""Fixtures that start the emulator of a cloud, or a browser."""
_SLOW = ("gcp", "aws", "gateway", "examples", "test_pages.py")
"""Folders and files whose tests take longest: they begin first, so that all processes end at about the same
time."""
BASIC_S = 600
"""After this long a test of ``make test`` hangs: the slowest takes 15 s by itself, and ten times that on a
machine with a load of 20. A wait that ends after PATIENCE_S says before what did not come."""


FAILED = pytest.StashKey[bool]()
"""Of a test that has failed."""


_MEMORY = Path("/dev/shm")
_ENOUGH = 2 << 30
"""Bytes: a whole run leaves less than a tenth of it."""


def pytest_configure(config: pytest.Config) -> None:
    """Keep temporary files in memory where there is room: half of the time would go into fsync.

    Whoever sets TMPDIR has them there.
    """
    if "TMPDIR" in os.environ or not _MEMORY.is_dir():
        return
    memory = os.statvfs(_MEMORY)
    if memory.f_bavail * memory.f_frsize > _ENOUGH and not memory.f_flag & os.ST_NOEXEC:
        os.environ["TMPDIR"] = tempfile.tempdir = str(_MEMORY)


@pytest.hookimpl(tryfirst=True)  # before -m selects by part
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Give each test its part: its own marker counts; of the others, what uses an emulator is for clouds."""
    others = [item for item in items if _is_another_s(item)]
    items[:] = [item for item in items if item not in others]
    config.hook.pytest_deselected(items=others)
    here = Path(__file__).parent

    def place(item: pytest.Item) -> int:
        folder = item.path.relative_to(here).parts[0]
        return _SLOW.index(folder) if folder in _SLOW else len(_SLOW)

    items.sort(key=place)
    for item in items:
        marked = {part for part in PARTS if item.get_closest_marker(part)}
        part = part_of(item.nodeid, marked, getattr(item, "fixturenames", ()))
        item.add_marker(part)
        if part == "basic" and item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(BASIC_S))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Have fixtures know of a failure: see :data:`FAILED`."""
    report = yield
    if report.failed:
        item.stash[FAILED] = True
    return report


def part_of(test: str, marked: Collection[str], fixtures: Collection[str]) -> str:
    """The part of a test that is marked for these and uses these fixtures."""
    if len(marked) > 1:
        raise pytest.UsageError(f"{test} is marked for more than one part: {', '.join(sorted(marked))}")
    return next(iter(marked), "basic" if _EMULATORS.isdisjoint(fixtures) else "clouds")


def _is_another_s(item: pytest.Item) -> bool:
    """Whether the scenario of a test is for another configuration of its cloud.

    A cloud's default configuration shows all scenarios, the others share them: what a request does is decided
    apart from how it comes and where its effects are stored.
    """
    found: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    if item.path.name != "test_configurations.py" or "scenario" not in found:
        return False
    names = list(item.module.CONFIGURATIONS)  # type: ignore[attr-defined]
    return SCENARIOS.index(found["scenario"]) % len(names) != names.index(found["harness"])


def group(test: str) -> str:
    """The tests that must run in one process with a test, by its id.

    The tests of a cloud share its emulators, those of a file its servers, those of the simulator and the
    pages of the documentation nothing.
    """
    file = test.split("::")[0]
    alone = (
        "/test_simulator.py",
        "/test_simulated_servers.py",
        "/test_simulated_sharing.py",
        "/test_pages.py",
    )
    if file.endswith(alone):
        return test
    folder = file.split("/")[1]
    return folder if folder in ("aws", "gcp") else file


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Spread groups over processes in the order of the tests.

    Groups of ``--dist loadgroup`` would do, but are lost without a word with pytest 9.2 and pytest-xdist 3.8.
    """
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """An embedded service in a directory of the test's own."""
    return Config.local(tmp_path / "service")


@pytest.fixture
def make() -> Callable[..., Any]:
    """Makes a client: ``tests/client`` has one of each kind here."""
    return FaaSKeeperClient


@pytest.fixture
def connect(
    config: Config, make: Callable[..., FaaSKeeperClient]
) -> Iterator[Callable[..., FaaSKeeperClient]]:
    """Makes started clients of one embedded service, and stops those that the test leaves open."""
    clients: list[FaaSKeeperClient] = []

    def start(**options: object) -> FaaSKeeperClient:
        client = make(config, **options)
        clients.append(client)
        client.start()
        return client

    yield start
    for client in clients:
        client.stop()


@pytest.fixture
def client(connect: Callable[..., FaaSKeeperClient]) -> FaaSKeeperClient:
    """A started client of an embedded service."""
    return connect()
