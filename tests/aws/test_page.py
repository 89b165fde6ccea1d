"""``fk ui`` on a deployment on AWS."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.aws import backends
from tests.aws.system import System
from tests.ui.everywhere import the_page_works
from tests.ui.pages import Page


@pytest.fixture
def system(ministack: str) -> Iterator[System]:
    made = System(ministack, {})
    yield made
    made.stop()


def test_the_page_works_on_aws(system: System, tmp_path: Path) -> None:
    page = Page(tmp_path / "page", config=system.data, environment=backends.KEYS)
    try:
        with system.client() as client:
            the_page_works(client, page)
        assert page.get("service")["month"]["dollars"] >= 0
        assert page.get("service")["letters"]["counts"] == {"worker-dead.fifo": 0}
        assert page.get("service")["waiting"].startswith("0 requests")
    finally:
        assert page.stop() == 0
