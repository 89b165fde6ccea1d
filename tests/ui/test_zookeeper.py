"""The page on ZooKeeper's own server, and on ``fk serve`` as one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from tests.gateway.servers import Server
from tests.ui.everywhere import the_page_works_on_zookeeper
from tests.ui.pages import Page
from tests.zookeeper import zookeeper

if TYPE_CHECKING:
    from tests.ui.browsers import Person


@pytest.fixture(params=["real", "served"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[int]:
    """Its port."""
    if request.param == "real":
        with zookeeper(tmp_path / "zookeeper") as port:
            yield port
        return
    made = Server(tmp_path / "served", "--commands", "*")
    yield made.port
    made.kill()


def test_the_page_works_on_a_server(server: int, tmp_path: Path) -> None:
    address = f"zk://127.0.0.1:{server}"
    page = Page(tmp_path / "page", where=["-c", address])
    with FaaSKeeperClient(Config.load(address)) as client:
        the_page_works_on_zookeeper(client, page)


def test_the_page_says_what_a_server_does_not_have(
    server: int, tmp_path: Path, sit: Callable[..., Person]
) -> None:
    from playwright.sync_api import expect

    address = f"zk://127.0.0.1:{server}"
    page = Page(tmp_path / "page", "--server", f"127.0.0.1:{server}", where=["-c", address])
    person = sit(page)
    with FaaSKeeperClient(Config.load(address)) as client:
        shown = person.go()
        client.create("/live", b"first")
        person.row("/live").click()
        expect(shown.locator("pre.data")).to_have_text("first")
        client.set_data("/live", b"second")
        expect(shown.locator("pre.data")).to_have_text("second")
        person.go("#/time/now/live")
        expect(shown.get_by_text("A ZooKeeper server keeps no history")).to_be_visible()
        person.go("#/sessions")
        expect(shown.get_by_text("does not tell clients which sessions there are")).to_be_visible()
        person.go("#/service")
        expect(person.card(f"127.0.0.1:{server}")).to_be_visible()
        assert person.flaws() == []
