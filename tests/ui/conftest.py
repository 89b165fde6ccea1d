"""Pages for tests, and what has to be ended with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from tests.ui.pages import Page


@pytest.fixture(autouse=True)
def _ended() -> Iterator[None]:
    yield
    while Page.made:
        Page.made.pop().kill()


@pytest.fixture
def page(tmp_path: Path) -> Page:
    """A page on an embedded service."""
    return Page(tmp_path / "page")


@pytest.fixture
def join(page: Page) -> Iterator[Callable[..., FaaSKeeperClient]]:
    """Makes clients of the page's service, in this process."""
    made: list[FaaSKeeperClient] = []

    def start(*credentials: str) -> FaaSKeeperClient:
        client = FaaSKeeperClient(Config.load(page.file))
        for each in credentials:
            client.add_auth("digest", each)
        client.start()
        made.append(client)
        return client

    yield start
    for client in made:
        client.stop()


@pytest.fixture
def other(join: Callable[..., FaaSKeeperClient]) -> FaaSKeeperClient:
    """Another program that uses the page's service."""
    return join()
