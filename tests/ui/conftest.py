"""Pages for tests, and what has to be ended with them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from tests.ui.pages import Page

if TYPE_CHECKING:
    from playwright.sync_api import Browser

    from tests.ui.browsers import Person


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


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A browser for the tests of a file: while it is there, this thread has an event loop that runs."""
    from tests.ui.browsers import chromium

    with chromium() as launched:
        yield launched


@pytest.fixture
def sit(browser: Browser) -> Iterator[Callable[..., Person]]:
    """Sits somebody at a browser of their own; nothing may go wrong in it."""
    from tests.ui.browsers import Person

    made: list[Person] = []

    def start(page: Page, **options: object) -> Person:
        made.append(Person(browser, page.address, **options))
        return made[-1]

    yield start
    for person in made:
        person.context.close()
        assert person.wrong == []


@pytest.fixture
def person(sit: Callable[..., Person], page: Page) -> Person:
    """Somebody at the page of an embedded service."""
    return sit(page)
