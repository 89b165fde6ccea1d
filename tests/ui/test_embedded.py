"""The page on an embedded service: what it does everywhere."""

from __future__ import annotations

from faaskeeper.client import FaaSKeeperClient
from tests.ui.everywhere import the_page_works
from tests.ui.pages import Page


def test_the_page_works_on_an_embedded_service(page: Page, other: FaaSKeeperClient) -> None:
    the_page_works(other, page)
