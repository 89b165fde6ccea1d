"""The live tree and nodes in a real browser, as a person uses them."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core.acl import digest
from tests.ui.browsers import Person
from tests.ui.pages import Page


def test_nodes_appear_change_and_vanish_as_they_do(person: Person, other: FaaSKeeperClient) -> None:
    person.go()
    other.create("/app", b"first")
    expect(person.row("/app")).to_be_visible()
    person.row("/app").click()
    expect(person.page.locator("pre.data")).to_have_text("first")
    other.set_data("/app", b"second")
    expect(person.page.locator("pre.data")).to_have_text("second")
    other.create("/app/child")
    expect(person.row("/app").locator(".number")).to_contain_text("1")
    expect(person.row("/app")).to_have_attribute("aria-expanded", "false")
    other.delete("/app/child")
    other.delete("/app")
    expect(person.row("/app")).to_have_count(0)
    expect(person.page.locator(".pane-body")).to_contain_text("the node /app does not exist")


def test_each_node_has_an_address_and_going_back_works(person: Person, other: FaaSKeeperClient) -> None:
    name = 'a b%2F#?"&<script>é'
    other.create("/x")
    other.create(f"/x/{name}", b"here")
    page = person.go()
    person.row("/x").dblclick()
    page.locator(".row", has_text="script").click()
    expect(page.locator("pre.data")).to_have_text("here")
    address = page.url
    person.row("/").click()
    page.go_back()
    expect(page.locator("pre.data")).to_have_text("here")
    page.goto("about:blank")
    page.goto(address)
    expect(page.locator("pre.data")).to_have_text("here")
    expect(page.locator(".row.selected .name")).to_have_text(name)


def test_nothing_of_a_deployment_is_taken_for_a_part_of_the_page(
    person: Person, other: FaaSKeeperClient
) -> None:
    evil = "<script>window.hacked=1<script>"
    html = b"<img src=x onerror=window.hacked=1><script>window.hacked=1</script>"
    other.create(f"/{evil}", html)
    other.create(f"/{evil}/<img src=x onerror=window.hacked=1>", b'{"<b>": "<script>alert(1)</script>"}')
    page = person.go()
    page.locator(".row", has_text="hacked").first.click()
    expect(page.locator("pre.data")).to_have_text(html.decode())
    page.get_by_role("searchbox").fill("onerror")
    page.get_by_label("data, too").check()
    expect(page.locator(".results li")).to_have_count(2)
    page.locator(".results a").first.click()
    expect(page.locator(".json-string")).to_have_text('"<script>alert(1)</script>"')
    for view in ("#/time/now/", "#/sessions", "#/service"):
        person.go(view)
    assert page.evaluate("window.hacked") is None
    assert page.locator("main img, main script").count() == 0


def test_a_hundred_thousand_children_scroll(person: Person, other: FaaSKeeperClient) -> None:
    other.create("/many")
    for at in range(0, 100_000, 1000):
        with other.transaction() as transaction:
            for each in range(at, at + 1000):
                transaction.create(f"/many/n-{each:06d}")
    page = person.go("#/tree/many")
    person.row("/many").dblclick()
    expect(person.row("/many")).to_have_attribute("aria-expanded", "true")
    expect(person.row("/many/n-000000")).to_have_attribute("aria-setsize", "100000")
    tree = page.get_by_role("tree")
    tree.focus()
    page.keyboard.press("End")
    expect(person.row("/zookeeper")).to_be_visible()
    page.keyboard.press("ArrowUp")
    expect(person.row("/many/n-099999")).to_have_attribute("aria-posinset", "100000")
    assert page.locator(".row").count() < 100
    tree.evaluate("tree => { tree.scrollTop = 50000 * 28 }")
    expect(person.row("/many/n-050000")).to_be_visible()
    other.delete("/many/n-050000")
    expect(person.row("/many/n-050000")).to_have_count(0)
    other.create("/many/n-050000")
    expect(person.row("/many/n-050000")).to_be_visible()
    page.get_by_role("searchbox").fill("n-09999")
    expect(page.locator(".results li")).to_have_count(10)


def test_long_names_have_their_kinds_and_children_too(person: Person, other: FaaSKeeperClient) -> None:
    other.create("/long")
    for each in range(60):
        name = f"/long/{each:02}{'名' * 250}"
        other.create(name)
        other.create(f"{name}/x")
    page = person.go("#/tree/long")
    person.row("/long").dblclick()
    expect(page.locator(".row .number")).not_to_have_count(0)
    first = page.locator('.row[aria-level="3"]').first
    expect(first).to_have_attribute("aria-expanded", "false")


def test_the_search_goes_over_paths_and_data_as_somebody_types(
    person: Person, other: FaaSKeeperClient
) -> None:
    other.create("/app", b"the needle is in here")
    other.create("/app/needle")
    page = person.go()
    page.get_by_role("tree").focus()
    page.keyboard.press("/")
    page.keyboard.type("need", delay=30)
    expect(page.locator(".results li")).to_have_text(["/app/needle"])
    page.get_by_label("data, too").check()
    expect(page.locator(".results mark")).to_have_text(["need", "need"])
    page.get_by_role("searchbox").press("ArrowDown")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    expect(page.locator("pre.data")).to_have_text("the needle is in here")
    page.get_by_role("searchbox").press("Escape")
    expect(page.get_by_role("tree")).to_be_visible()


def test_the_keyboard_is_enough(person: Person, other: FaaSKeeperClient) -> None:
    other.create("/app")
    other.create("/app/config", b"old")
    page = person.go()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("#/tree/")
    page.get_by_role("tree").focus()
    expect(person.row("/app")).to_be_visible()
    expect(person.row("/app")).to_have_attribute("aria-expanded", "false")
    for key in ("Home", "a", "ArrowRight"):
        page.keyboard.press(key)
    expect(person.row("/app/config")).to_be_visible()
    page.keyboard.press("ArrowRight")
    expect(page.locator("pre.data")).to_have_text("old")
    active = page.get_by_role("tree").get_attribute("aria-activedescendant")
    assert page.locator(f"#{active}").get_attribute("data-path") == "/app/config"
    page.keyboard.press("F2")
    expect(page.locator("textarea.editor")).to_be_focused()
    page.keyboard.press("Control+a")
    page.keyboard.type("new")
    page.keyboard.press("Control+Enter")
    expect(page.locator("pre.data")).to_have_text("new")
    assert other.get_data("/app/config").data == b"new"
    page.get_by_role("tree").focus()
    page.keyboard.press("Insert")
    page.keyboard.type("below")
    page.keyboard.press("Enter")
    expect(page.locator(".crumbs")).to_contain_text("below")
    assert other.exists("/app/config/below") is not None
    page.get_by_role("tree").focus()
    page.keyboard.press("Delete")
    expect(page.get_by_role("dialog")).to_contain_text("Delete below?")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    page.keyboard.press("Delete")
    page.get_by_role("dialog").get_by_role("button", name="Delete", exact=True).press("Enter")
    expect(person.row("/app/config/below")).to_have_count(0)
    page.get_by_role("button", name="Help: keys").press("Enter")
    expect(page.get_by_role("dialog")).to_contain_text("F2, Insert, Delete")


def test_a_killed_server_costs_nothing_but_time(page: Page, person: Person, other: FaaSKeeperClient) -> None:
    other.create("/app", b"before")
    shown = person.go("#/tree/app")
    expect(shown.locator("pre.data")).to_have_text("before")
    page.kill()
    expect(shown.locator("#live")).to_have_text("reconnecting")
    other.set_data("/app", b"meanwhile")
    other.create("/new")
    other.create("/gone")
    other.delete("/gone")
    page.start()
    expect(shown.locator("#live")).to_have_text("live")
    expect(person.row("/new")).to_be_visible()
    expect(shown.locator("pre.data")).to_have_text("meanwhile")
    expect(person.row("/gone")).to_have_count(0)
    other.set_data("/app", b"after")
    expect(shown.locator("pre.data")).to_have_text("after")


def test_a_tab_that_was_hidden_goes_on_where_it_was(person: Person, other: FaaSKeeperClient) -> None:
    page = person.go()
    hide = "hidden => { Object.defineProperty(document, 'hidden', {get: () => hidden, configurable: true});"
    hide += " document.dispatchEvent(new Event('visibilitychange')); }"
    page.evaluate(hide, True)
    other.create("/meanwhile")
    page.evaluate(hide, False)
    expect(person.row("/meanwhile")).to_be_visible()


@pytest.mark.parametrize(
    ("data", "form", "shown"),
    [
        (json.dumps({"a": [1, {"b": None}], "c": "é"}).encode(), "JSON", '"é"'),
        (json.dumps({"a": [1, {"b": None}], "c": "x y"}).encode(), "YAML", "  - b: null"),
        (b"# settings\nname: one\nlist:\n  - 1\n", "YAML", "# settings"),
        (b"plain", "Text", "plain"),
        (b"\x00\x01\xff", "Hex", "00000000  00 01 ff"),
        (b"\x00\x01\xff", "Base64", "AAH/"),
        (b"\xac\xed\x00\x05sr\x00\x0ejava.util.Date" + bytes(12) + b"w\x08", "Java", "java.util.Date"),
        (b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\xff\x01", "Protobuf", "testing"),
        (b"\n$" + b"0" * 36, "Protobuf", "1 (text): 000000"),
        (b"\x09" + (5).to_bytes(8, "little") + b"\x12\x00", "Protobuf", "1 (64 bits): 5, or"),
        (b'{"id": 12345678901234567890, "10": 1.0, "2": 2}', "JSON", "id: 1234567890123456789010: 1.02: 2"),
        (b'{"id": 12345678901234567890, "10": 1.0}', "YAML", 'id: 12345678901234567890\n"10": 1.0'),
    ],
    ids=lambda value: value if isinstance(value, str) and value.isalnum() else "",
)
def test_data_is_shown_as_what_it_is(
    person: Person, other: FaaSKeeperClient, data: bytes, form: str, shown: str
) -> None:
    other.create("/a", data)
    page = person.go("#/tree/a")
    person.button(form).click()
    expect(person.button(form)).to_have_attribute("aria-pressed", "true")
    expect(page.locator(".data")).to_contain_text(shown)


def test_a_mebibyte_is_shown_edited_and_downloaded(
    person: Person, other: FaaSKeeperClient, tmp_path: Path
) -> None:
    line = b"0123456789abcdef" * 4 + b"\n"
    data = (line * (1 << 20))[: 1 << 20]
    other.create("/big", data)
    page = person.go("#/tree/big")
    page.get_by_role("button", name="Show all").click()
    assert page.locator("pre.data").evaluate("shown => shown.textContent.length") == 1 << 20
    with page.expect_download() as download:
        page.get_by_role("link", name="Download").click()
    assert download.value.suggested_filename == "big"
    download.value.save_as(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == data
    person.button("Edit").click()
    page.locator("textarea.editor").evaluate("field => { field.value = field.value.replaceAll('a', 'A') }")
    person.button("Save").click()
    expect(page.locator(".line").first).to_contain_text("version 1")
    assert other.get_data("/big").data == data.replace(b"a", b"A")


def test_a_file_is_uploaded_after_its_difference_was_shown(
    person: Person, other: FaaSKeeperClient, tmp_path: Path
) -> None:
    other.create("/a", b"one\ntwo\n")
    (tmp_path / "file").write_bytes(b"one\n2\n")
    page = person.go("#/tree/a")
    with page.expect_file_chooser() as chooser:
        person.button("Upload").click()
    chooser.value.set_files(tmp_path / "file")
    expect(page.get_by_role("dialog").locator(".diff")).to_contain_text("- two")
    page.get_by_role("dialog").get_by_role("button", name="Save").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.locator("pre.data")).to_have_text("one\n2\n")
    assert other.get_data("/a").data == b"one\n2\n"


def test_what_the_rights_do_not_allow_is_not_offered(
    person: Person, join: Callable[..., FaaSKeeperClient]
) -> None:
    alice = join("alice:secret")
    alice.create("/shown", b"x", acl=[(31, "digest", digest("alice:secret")), (1, "world", "anyone")])
    alice.create("/hidden", b"x", acl=[(31, "digest", digest("alice:secret"))])
    page = person.go("#/tree/shown")
    for name in ("Edit", "New child", "ACL", "Upload"):
        expect(person.button(name)).to_be_disabled()
    expect(person.button("Delete")).to_be_enabled()
    expect(person.card("ACL")).to_contain_text("alice")
    person.go("#/tree/hidden")
    expect(page.get_by_text("does not let this session read the data")).to_be_visible()
    expect(person.button("Edit")).to_be_disabled()
