"""Time, sessions and the service in a real browser; and that everybody can use the page."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.lock import Lock
from tests.ui.browsers import Person
from tests.ui.pages import Page

# ---- time ----------------------------------------------------------------------------------------


def test_the_slider_shows_the_tree_and_a_node_as_they_were(person: Person, other: FaaSKeeperClient) -> None:
    other.create("/app", b'{"rate": 1}')
    then = other.create("/app/old").stat.czxid
    other.set_data("/app", b'{"rate": 2}')
    other.delete("/app/old")
    last = other.create("/app/new").stat.czxid
    page = person.go("#/time/now/app")
    expect(page.locator(".moment")).to_contain_text(f"Transaction {last} (now)")
    person.row("/app").dblclick()
    expect(person.row("/app/new")).to_be_visible()
    slider = page.get_by_role("slider", name="Transaction")
    slider.focus()
    for _ in range(last - then):
        page.keyboard.press("ArrowLeft")
    expect(page.locator(".moment")).to_contain_text(
        f"created /app/old by session {int(other.session_id, 16):x}"
    )
    expect(person.row("/app/old")).to_be_visible()
    expect(person.row("/app/new")).to_have_count(0)
    expect(person.card("Data then")).to_contain_text("rate: 1")
    expect(person.card("Compare").locator(".diff .from").last).to_contain_text('"rate": 1')
    expect(person.card("Compare").locator(".diff .to").last).to_contain_text('"rate": 2')
    assert page.url.endswith(f"#/time/{then}/app")
    below = person.card("Below it, from then to now").locator("li")
    expect(below).to_have_text(
        [re.compile("^/app/new is new, 1 change"), re.compile("^/app/old is gone, 1 change")]
    )
    person.button("The next change").click()
    expect(page.locator(".moment")).to_contain_text(f"Transaction {then + 1}")
    person.button("The change before").click()
    expect(page.locator(".moment")).to_contain_text(f"Transaction {then}")
    person.button("Now").click()
    expect(person.row("/app/new")).to_be_visible()


def test_the_rest_of_a_long_log_is_looked_at_when_somebody_asks(
    person: Person, other: FaaSKeeperClient
) -> None:
    other.create("/old")
    other.create("/busy")
    page = person.go()
    page.route(
        "**/api/past/history?*whole=0*",
        lambda route: route.fulfill(json={"rows": [], "more": False, "since": 7}),
    )
    page = person.go("#/time/1/")
    card = "Below it, from then to now"
    expect(person.card(card)).to_contain_text("looked at back to transaction 7")
    expect(person.card(card)).not_to_contain_text("Nothing has changed")
    person.card(card).get_by_role("button", name="Look at all of it").click()
    expect(person.card(card)).to_contain_text("/old is new")
    for view, card in (("#/tree/old", "History"), ("#/time/now/old", "What happened to it")):
        page = person.go(view)
        expect(person.card(card)).to_contain_text("looked at back to transaction 7")
        person.card(card).get_by_role("button", name="Look at all of it").click()
        expect(person.card(card)).to_contain_text("created")
        expect(person.card(card).get_by_role("button")).to_have_count(0)


def test_a_node_that_is_gone_is_found_in_the_past_and_restored(
    person: Person, other: FaaSKeeperClient
) -> None:
    other.create("/app", b"precious")
    other.delete("/app")
    page = person.go("#/tree/app")
    page.get_by_role("link", name="Look at its past").click()
    expect(person.card("What happened to it")).to_contain_text("deleted")
    person.card("What happened to it").get_by_role("link").last.click()
    expect(person.card("Data then")).to_contain_text("precious")
    person.button("Restore this").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("It is created with the data and the ACL")
    dialog.get_by_role("button", name="Restore", exact=True).click()
    expect(dialog).to_have_count(0)
    expect(page.locator("pre.data")).to_have_text("precious")
    assert other.get_data("/app").data == b"precious"


def test_a_restore_of_what_somebody_changed_meanwhile_changes_nothing(
    person: Person, other: FaaSKeeperClient
) -> None:
    then = other.create("/app", b"old").stat.czxid
    other.set_data("/app", b"new")
    page = person.go(f"#/time/{then}/app")
    person.button("Restore this").click()
    expect(page.get_by_role("dialog").locator(".diff")).to_contain_text("+ old")
    other.set_data("/app", b"newer")
    page.get_by_role("dialog").get_by_role("button", name="Restore", exact=True).click()
    expect(page.get_by_role("dialog").get_by_role("alert")).to_contain_text("somebody else changed it")
    assert other.get_data("/app").data == b"newer"


# ---- sessions, locks ---------------------------------------------------------------------------------


@pytest.fixture
def held(join: Callable[..., FaaSKeeperClient]) -> Lock:
    """A lock that somebody holds, and another one waits for."""
    lock = Lock(join(), "/locks/orders", "worker one")
    lock.acquire()
    second = join()
    second.create("/locks/orders/lock-0123abcd-", b"worker two", ephemeral=True, sequential=True)
    return lock


def test_locks_show_who_holds_and_who_waits_behind_whom(person: Person, held: Lock) -> None:
    page = person.go("#/sessions")
    items = page.locator(".contenders li")
    expect(items).to_have_count(2)
    expect(items.nth(0)).to_contain_text("holds")
    expect(items.nth(0)).to_contain_text("worker one")
    expect(items.nth(0)).to_contain_text(f"token {held.token}")
    expect(items.nth(1)).to_contain_text("behind session")
    expect(page.get_by_role("region", name="Sessions")).to_contain_text(str(held.node))
    held.release()
    expect(items).to_have_count(1)
    expect(items.nth(0)).to_contain_text("worker two")
    page.goto(f"{person.address}#/tree/locks/orders")
    expect(person.card("Who holds, who waits")).to_contain_text("worker two")


def test_the_super_user_ends_a_session_after_being_asked_twice(
    sit: Callable[..., Person], page: Page, tmp_path: Path, held: Lock
) -> None:
    config = json.loads(page.file.read_text())
    person = sit(Page(tmp_path / "other", config=config, environment={"FK_AUTH": "super:test"}))
    shown = person.go("#/sessions")
    row = shown.locator("tbody tr", has_text=str(held.node))
    row.get_by_role("button", name="End …").click()
    dialog = shown.get_by_role("dialog")
    expect(dialog).to_contain_text("locks that it holds are free then")
    dialog.get_by_role("button", name="End it …").click()
    dialog.get_by_role("textbox").fill("wrong")
    dialog.get_by_role("button", name="End the session").click()
    expect(dialog.get_by_role("alert")).to_contain_text("to end this session")
    dialog.get_by_role("textbox").fill(dialog.get_by_role("alert").inner_text().split()[1])
    dialog.get_by_role("button", name="End the session").click()
    expect(shown.locator(".contenders li")).to_have_count(1)
    expect(shown.locator(".contenders li").nth(0)).to_contain_text("worker two")
    expect(row).to_have_count(0)


def test_others_may_end_their_own_session_only(person: Person, held: Lock) -> None:
    page = person.go("#/sessions")
    expect(page.get_by_role("button", name="End …")).to_have_count(1)
    expect(page.get_by_text("Only the super user may end other sessions")).to_be_visible()
    expect(page.locator("tbody tr", has_text="this page").get_by_role("button")).to_have_count(1)


# ---- the service -------------------------------------------------------------------------------------


def test_the_service_shows_numbers_their_course_and_what_is_not_known(
    person: Person, other: FaaSKeeperClient
) -> None:
    person.go("#/service")
    for each in range(20):
        other.create(f"/n{each}")
    writes = person.card("Writes")
    expect(writes.locator(".figure")).to_have_text(re.compile("/s$"))
    expect(writes.locator("polyline")).to_have_attribute("points", re.compile(r"\d.* .*\d"))
    expect(person.card("Sessions").locator(".figure")).to_have_text("2")
    expect(person.card("Commit to event").locator(".figure")).to_contain_text("ms")
    expect(person.card("Not known")).to_contain_text("nobody counts")
    expect(person.card("Queue and dead letters")).to_contain_text("no queues")
    expect(person.card("Cost")).to_contain_text("no prices for 'local'")


def test_the_picture_explains_each_stage_and_lights_up_with_a_write(
    person: Person, other: FaaSKeeperClient
) -> None:
    page = person.go("#/service")
    stages = page.locator(".stage")
    expect(stages).to_have_count(5)
    for number, word in enumerate(("Client", "Writer", "Log", "Distributor", "Watch"), 1):
        stages.nth(number - 1).focus()
        expect(page.locator(".flow-words")).to_contain_text(f"{number}. {word}: ")
    page.evaluate(
        "() => new MutationObserver(() => { if (document.querySelector('.lit')) window.lit = true; })"
        ".observe(document.querySelector('.flow'), {subtree: true, attributes: true})"
    )
    other.create("/a")
    deadline = time.monotonic() + 60
    while not page.evaluate("window.lit") and time.monotonic() < deadline:
        page.wait_for_timeout(50)
    assert page.evaluate("window.lit")


# ---- everybody ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(
    sit: Callable[..., Person], page: Page, held: Lock, other: FaaSKeeperClient, scheme: str, width: int
) -> None:
    other.create("/app", b'{"a": {"b": [1, "two", null]}}')
    then = other.create("/app/child", b"name: x\nlist:\n  - 1\n", ephemeral=True).stat.czxid
    other.set_data("/app", b'{"a": {"b": [1, "three", null]}}')
    person = sit(page, color_scheme=scheme, viewport={"width": width, "height": 800})
    shown = person.go("#/tree/app")
    expect(shown.locator(".history li")).to_have_count(2)
    assert person.flaws() == []
    for name in ("New child", "ACL", "Help: keys"):
        person.button(name).click()
        assert person.flaws() == [], name
        shown.keyboard.press("Escape")
    person.button("Edit").click()
    other.set_data("/app", b"{}")
    expect(shown.locator(".warning")).to_be_visible()
    person.button("Save").click()
    expect(shown.locator(".conflict")).to_be_visible()
    assert person.flaws() == []
    person.button("Take theirs").click()
    if width > 1000:
        shown.get_by_role("searchbox").fill("app")
        expect(shown.locator(".results li")).to_have_count(2)
        assert person.flaws() == []
    for view, there in (
        (f"#/time/{then}/app", ".diff"), ("#/tree/app/child", ".facts"), ("#/tree/none", ".empty"),
        ("#/sessions", ".contenders"), ("#/service", ".figures"), ("#/tree/", ".row"),
    ):  # fmt: skip
        person.go(view)
        expect(shown.locator(there).first).to_be_visible()
        shown.wait_for_timeout(100)
        assert person.flaws() == [], view
        wide = shown.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert wide <= 0, (view, wide)


def test_a_narrow_window_shows_the_tree_or_a_node(
    sit: Callable[..., Person], page: Page, other: FaaSKeeperClient
) -> None:
    other.create("/app", b"data")
    person = sit(page, viewport={"width": 390, "height": 800}, has_touch=True)
    shown = person.go()
    expect(shown.get_by_role("tree")).to_be_visible()
    person.row("/app").tap()
    expect(shown.locator("pre.data")).to_be_visible()
    expect(shown.get_by_role("tree")).to_be_hidden()
    shown.get_by_role("link", name="All nodes").tap()
    expect(shown.get_by_role("tree")).to_be_visible()
