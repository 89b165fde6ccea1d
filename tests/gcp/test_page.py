"""``fk ui`` on a deployment on Google Cloud."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.gcp.system import System
from tests.ui.everywhere import the_page_works
from tests.ui.pages import Page


@pytest.fixture
def system(emulators: dict[str, str]) -> Iterator[System]:
    made = System(emulators, {})
    yield made
    made.stop()


def test_the_page_works_on_google_cloud(system: System, tmp_path: Path) -> None:
    page = Page(tmp_path / "page", config=system.data)
    try:
        with system.client() as client:
            the_page_works(client, page)
        assert page.get("service")["month"]["dollars"] >= 0
        assert "emulators" in page.get("service")["waiting"]
    finally:
        assert page.stop() == 0
