"""What both clients promise is tested with both: the asyncio client behind the threaded one's interface."""

from __future__ import annotations

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.testing.conformance.blocking import BlockingClient


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "make" in metafunc.fixturenames:
        one = metafunc.definition.get_closest_marker("threads") is not None
        kinds = (
            {"threads": FaaSKeeperClient} if one else {"threads": FaaSKeeperClient, "asyncio": BlockingClient}
        )
        metafunc.parametrize("make", kinds.values(), ids=kinds)
