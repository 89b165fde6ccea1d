"""What could go wrong between a page and its server, and data that is hard to show, in a real browser."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import expect

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.acl import digest
from tests.ui.browsers import Person
from tests.ui.pages import Page

# ---- what data says is what is shown, and what is saved ----------------------------------------------


def test_numbers_keep_their_digits(person: Person, other: FaaSKeeperClient) -> None:
    other.create("/a", b'{"id": 12345678901234567890, "rate": 1.0, "b": 1, "b": 1e400}')
    page = person.go("#/tree/a")
    expect(page.locator(".json-number")).to_have_text(["12345678901234567890", "1.0", "1", "1e400"])
    person.button("YAML").click()
    expect(page.locator(".data")).to_contain_text("id: 12345678901234567890")
    person.button("Edit").click()
    person.button("Format").click()
    other.set_data("/a", b'{"id": 12345678901234567891, "rate": 1.0, "b": 1, "b": 1e400}')
    expect(page.locator(".warning")).to_be_visible()
    person.button("Save").click()
    shown = page.locator(".conflict .diff").first
    expect(shown.locator(".from").last).to_contain_text("12345678901234567891")
    expect(shown.locator(".to").last).to_contain_text("12345678901234567890")
    person.button("Save mine over theirs").click()
    expect(person.card("Data").locator("textarea")).to_have_count(0)
    expected = b'{\n  "id": 12345678901234567890,\n  "rate": 1.0,\n  "b": 1,\n  "b": 1e400\n}'
    assert other.get_data("/a").data == expected


@pytest.mark.parametrize(
    "data",
    [
        b"a: 1\n" + b" " * 190_000 + b"}",
        b"[" * 50_000 + b"]" * 50_000,
        json.dumps([[[0] * 60] * 60] * 60).encode(),
        b"\xac\xed\x00\x05" + b"r" * 1_000_000,
        b"\n" * (1 << 20),
    ],
    ids=["spaces", "depth", "width", "names", "lines"],
)
def test_data_that_is_made_to_be_hard_is_shown(person: Person, other: FaaSKeeperClient, data: bytes) -> None:
    then = other.create("/a", b"x\n" * (1 << 19)).stat.czxid
    other.set_data("/a", data)
    page = person.go("#/tree/a")
    expect(page.locator(".data").first).to_be_visible()
    assert page.locator("*").count() < 20_000
    page = person.go(f"#/time/{then}/a")
    expect(person.card("Compare").locator(".diff, .hint").first).to_be_visible()
    assert page.locator("*").count() < 20_000


def test_keys_of_yaml_stand_out(person: Person, other: FaaSKeeperClient) -> None:
    other.create("/a", b"# of all\nname: one: two\nlist:\n  - item: http://x\n")
    page = person.go("#/tree/a")
    expect(page.locator(".json-key")).to_have_text(["name", "list", "item"])
    expect(page.locator("pre.data")).to_have_text("# of all\nname: one: two\nlist:\n  - item: http://x\n\n")


# ---- nothing is missed -------------------------------------------------------------------------------


def test_a_node_that_comes_while_its_parent_is_read_is_shown(person: Person, other: FaaSKeeperClient) -> None:
    other.create("/app")
    other.create("/app/gone")
    page = person.go()
    held: list[tuple[Any, Any]] = []
    page.route("**/api/children?path=%2Fapp", lambda route: held.append((route, route.fetch())))
    expect(person.row("/app")).to_have_attribute("aria-expanded", "false")
    person.row("/app").dblclick()
    while not held:
        page.wait_for_timeout(20)
    other.create("/app/late")
    other.delete("/app/gone")
    other.create("/sign")
    expect(person.row("/sign")).to_be_visible()  # so the page knows of the others
    route, answer = held[0]
    route.fulfill(response=answer)
    expect(person.row("/app/late")).to_be_visible()
    expect(person.row("/app/gone")).to_have_count(0)


def test_sessions_are_looked_at_while_much_happens_and_once_at_a_time(
    person: Person, join: Callable[..., FaaSKeeperClient]
) -> None:
    writer, ended, asking, most = join(), threading.Event(), [0], [0]

    def write() -> None:
        while not ended.wait(0.02):
            writer.set_data("/busy", b"x")

    def count(request: Any, by: int) -> None:
        if "/api/sessions" in request.url:
            asking[0] += by
            most[0] = max(most[0], asking[0])

    writer.create("/busy")
    thread = threading.Thread(target=write)
    page = person.page
    page.on("request", lambda request: count(request, 1))
    page.on("requestfinished", lambda request: count(request, -1))
    page.on("requestfailed", lambda request: count(request, -1))
    person.go("#/sessions")
    thread.start()
    try:
        page.wait_for_timeout(1000)
        join().create("/held", ephemeral=True)
        expect(page.get_by_role("link", name="/held")).to_be_visible()
    finally:
        ended.set()
        thread.join()
    assert most[0] == 1


def test_a_page_of_another_deployment_changes_nothing(
    page: Page, person: Person, other: FaaSKeeperClient, tmp_path: Path
) -> None:
    other.create("/app", b"mine")
    shown = person.go("#/tree/app")
    person.button("Edit").click()
    shown.locator("textarea.editor").fill("meant for the other one")
    assert page.stop() == 0
    second = Page(tmp_path / "second", port=page.port)
    with FaaSKeeperClient(Config.load(second.file)) as client:
        client.create("/app", b"theirs")
        expect(shown.locator(".note.bad")).to_contain_text("loaded from another deployment")
        person.button("Save").click()
        expect(shown.locator(".pane-body .error")).to_contain_text("loaded from another deployment")
        assert client.get_data("/app").data == b"theirs"
    expect(shown.locator("textarea.editor")).to_have_value("meant for the other one")


# ---- addresses and logins ----------------------------------------------------------------------------


def test_an_address_with_a_word_of_the_language_is_a_node_s(person: Person) -> None:
    for word in ("constructor", "toString", "__proto__"):
        page = person.go(f"#/{word}/x")
        expect(page.get_by_role("tree")).to_be_visible()
        person.page.goto("about:blank")


def test_a_link_of_another_page_leads_to_its_node_without_a_login(
    sit: Callable[..., Person], tmp_path: Path
) -> None:
    served = Page(tmp_path / "page", "--token")
    person = sit(served)
    page = person.page
    page.goto(served.address)
    page.get_by_label("Token").fill(f" {served.said['token']} ")
    person.button("Log in").click()
    expect(page.locator("#live")).to_have_text("live")
    page.goto(f"data:text/html,<a href='{served.address}%23/tree/zookeeper'>there</a>")
    page.get_by_role("link", name="there").click()
    expect(page.locator(".crumbs")).to_contain_text("zookeeper")


def test_a_password_is_what_is_typed(sit: Callable[..., Person], tmp_path: Path) -> None:
    with FaaSKeeperClient(Config.local(tmp_path / "page" / "data", "page")) as client:
        client.create("/gate", acl=[(31, "digest", digest("alice: with spaces "))])
    person = sit(Page(tmp_path / "page", "--login-node", "/gate"))
    page = person.page
    page.goto(person.address)
    page.get_by_label("User").fill("alice")
    page.get_by_label("Password").fill(" with spaces ")
    person.button("Log in").click()
    expect(page.locator("#live")).to_have_text("live")


def test_what_is_deleted_by_a_key_is_what_was_shown(person: Person, other: FaaSKeeperClient) -> None:
    other.create("/app", b"old")
    page = person.go("#/tree/app")
    expect(page.locator("pre.data")).to_have_text("old")
    page.get_by_role("tree").focus()
    page.keyboard.press("Delete")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("version 0")
    other.set_data("/app", b"new")
    dialog.get_by_role("button", name="Delete", exact=True).click()
    expect(dialog.get_by_role("alert")).to_contain_text("somebody else changed it")
    assert other.get_data("/app").data == b"new"
