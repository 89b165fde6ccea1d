"""The pictures of docs/ui.md, of a page with something to see; ``make pictures`` writes them there."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest
from playwright.sync_api import expect

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.lock import Lock
from tests.ui.browsers import Person
from tests.ui.pages import Page

WHERE = "FK_PICTURES"
MOST_BYTES = 150_000
CONFIG = {"currency": "CHF", "limits": {"orders_per_minute": 120, "burst": [10, 20, 40]}, "open": True}


@pytest.fixture
def pictures(tmp_path: Path) -> Iterator[Path]:
    """Where they go."""
    found = Path(os.environ.get(WHERE) or tmp_path / "pictures")
    found.mkdir(parents=True, exist_ok=True)
    yield found
    for each in found.glob("*.png"):
        assert 5_000 < each.stat().st_size < MOST_BYTES, each


@pytest.fixture
def shop(tmp_path: Path, join: Callable[..., FaaSKeeperClient]) -> FaaSKeeperClient:
    """A service with a history, locks and sessions."""
    client = join()
    for path in ("/shop", "/shop/orders", "/shop/flags", "/shop/workers"):
        client.create(path)
    client.create("/shop/config", json.dumps({**CONFIG, "open": False}).encode())
    for number in range(24):
        client.create("/shop/orders/order-", b'{"state": "paid"}', sequential=True)
        if number == 9:
            client.set_data("/shop/config", json.dumps({**CONFIG, "currency": "EUR"}).encode())
    client.create("/shop/flags/new-checkout", b"enabled: true\nshare: 0.25\n")
    client.create("/shop/leases", container=True)
    client.set_data("/shop/config", json.dumps(CONFIG).encode())
    for number in range(3):
        worker = join()
        worker.create(f"/shop/workers/worker-{number}", b"10.0.0.%d" % (number + 4), ephemeral=True)
        if number == 0:
            Lock(worker, "/shop/locks/invoices", "worker-0").acquire()
            client.create("/shop/locks/refunds")
        else:
            name = f"/shop/locks/invoices/lock-0123abc{number}-"
            worker.create(name, b"worker-%d" % number, ephemeral=True, sequential=True)
    return client


def test_the_pictures_are_made(
    page: Page, sit: Callable[..., Person], shop: FaaSKeeperClient, pictures: Path
) -> None:
    light = sit(page, viewport={"width": 1180, "height": 760})
    dark = sit(page, viewport={"width": 1180, "height": 760}, color_scheme="dark")
    phone = sit(page, viewport={"width": 390, "height": 760}, color_scheme="dark")

    shown = light.go("#/tree/shop/config")
    expect(light.card("History").locator("li")).to_have_count(3)
    expect(shown.locator(".line")).to_contain_text("by session")
    light.row("/shop/orders").locator(".twisty").click()
    light.row("/shop/orders/order-0000000002").wait_for()
    shown.screenshot(path=pictures / "tree.png")

    rows = list(shop.history("/shop/config"))
    shown = dark.go(f"#/time/{rows[1].txid}/shop/config")
    expect(dark.card("Compare").locator(".diff")).to_contain_text('"currency": "EUR"')
    shown.screenshot(path=pictures / "time.png")

    shown = light.go("#/tree/shop/config")
    light.button("Edit").click()
    light.button("Format").click()
    shown.locator("textarea.editor").fill(json.dumps({**CONFIG, "open": "soon"}, indent=2))
    shop.set_data("/shop/config", json.dumps({**CONFIG, "currency": "USD"}).encode())
    expect(shown.locator(".warning")).to_be_visible()
    light.button("Save").click()
    expect(shown.locator(".conflict")).to_be_visible()
    shown.locator(".conflict").scroll_into_view_if_needed()
    shown.locator("section.right").evaluate("pane => { pane.scrollTop = 330 }")
    shown.screenshot(path=pictures / "conflict.png")

    shown = light.go("#/sessions")
    expect(shown.locator(".contenders li")).to_have_count(3)
    shown.screenshot(path=pictures / "sessions.png")

    random = Random(1)
    shown = dark.go("#/service")
    for _ in range(7):
        for each in range(random.randrange(10, 60)):
            shop.set_data("/shop/flags/new-checkout", b"share: 0.%d\n" % each)
        shown.wait_for_timeout(2000)  # a chart takes some looks
    shown.screenshot(path=pictures / "service.png")
    light.go("#/service")
    light.page.locator("figure.flowcard").screenshot(path=pictures / "flow.png")

    shown = phone.go("#/tree/shop/flags/new-checkout")
    expect(shown.locator(".facts")).to_be_visible()
    shown.screenshot(path=pictures / "narrow.png")
