"""Changing nodes in a real browser: two people at once, staged changes, read only, logging in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from faaskeeper.client import FaaSKeeperClient
from tests.ui.browsers import Person
from tests.ui.pages import Page


def test_two_people_edit_one_node_and_nothing_is_lost(
    page: Page, sit: Callable[..., Person], other: FaaSKeeperClient
) -> None:
    other.create("/app", b"one\ntwo\nthree\n")
    anna, ben = sit(page), sit(page)
    for each in (anna, ben):
        each.go("#/tree/app")
        each.button("Edit").click()
    ben.page.locator("textarea.editor").fill("one\nBEN\nthree\n")
    ben.button("Save").click()
    expect(ben.page.locator("pre.data")).to_have_text("one\nBEN\nthree\n")
    expect(anna.page.locator(".warning")).to_contain_text("Somebody changed this node while you edit it")
    anna.page.locator("textarea.editor").fill("one\ntwo\nANNA\n")
    anna.button("Save").click()
    conflict = anna.page.locator(".conflict")
    expect(conflict).to_contain_text("Somebody else was faster")
    expect(conflict.locator(".diff").first.locator(".from")).to_have_text(
        ["- theirs\n", "- BEN\n", "- three\n"]
    )
    assert other.get_data("/app").data == b"one\nBEN\nthree\n"
    anna.button("Keep editing mine").click()
    anna.page.locator("textarea.editor").fill("one\nBEN\nANNA\n")
    anna.button("Save").click()
    for each in (anna, ben):
        expect(each.page.locator("pre.data")).to_have_text("one\nBEN\nANNA\n")
    assert other.get_data("/app").stat.version == 2


def test_who_was_slower_may_take_theirs_or_overwrite(person: Person, other: FaaSKeeperClient) -> None:
    other.create("/app", b"0")
    page = person.go("#/tree/app")
    for choice, expected in (("Take theirs", "theirs"), ("Save mine over theirs", "mine")):
        person.button("Edit").click()
        other.set_data("/app", b"theirs")
        page.locator("textarea.editor").fill("mine")
        expect(page.locator(".warning")).to_be_visible()
        person.button("Save").click()
        person.button(choice).click()
        expect(page.locator("pre.data:not(.diff)")).to_have_text(expected)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (b"one\r\ntwo\r\n", b"ONE\r\ntwo\r\n"),
        (b"\xef\xbb\xbfone\rtwo", b"\xef\xbb\xbfONE\rtwo"),
        (b'{"one": 12345678901234567890, "2": 1.0}', b'{\n  "ONE": 12345678901234567890,\n  "2": 1.0\n}'),
    ],
    ids=["crlf", "mark and cr", "long number"],
)
def test_an_edit_changes_no_more_than_what_was_typed(
    person: Person, other: FaaSKeeperClient, before: bytes, after: bytes
) -> None:
    other.create("/app", before)
    page = person.go("#/tree/app")
    person.button("Edit").click()
    if before.startswith(b"{"):
        person.button("Format").click()
    field = page.locator("textarea.editor")
    field.fill(field.input_value().replace("one", "ONE"))
    person.button("Save").click()
    expect(page.locator(".line").first).to_contain_text("version 1")
    assert other.get_data("/app").data == after


def test_text_that_a_field_would_change_is_edited_in_base64(person: Person, other: FaaSKeeperClient) -> None:
    other.create("/app", b"one\r\ntwo\n")
    page = person.go("#/tree/app")
    person.button("Edit").click()
    page.get_by_label("Data in base64, since its lines end in several ways").fill("b25lDQp0d28K")
    person.button("Save").click()
    expect(page.locator(".line").first).to_contain_text("version 1")
    assert other.get_data("/app").data == b"one\r\ntwo\n"


def test_an_edit_is_still_there_after_a_look_at_something_else(
    person: Person, other: FaaSKeeperClient
) -> None:
    other.create("/app", b"old")
    other.create("/other", b"x")
    page = person.go("#/tree/app")
    person.button("Edit").click()
    page.locator("textarea.editor").fill("mine")
    person.row("/other").click()
    expect(page.locator("pre.data")).to_have_text("x")
    person.go("#/sessions")
    other.set_data("/app", b"theirs")
    person.go("#/tree/app")
    expect(page.locator("textarea.editor")).to_have_value("mine")
    expect(page.locator(".warning")).to_contain_text("Somebody changed this node")
    person.button("Save").click()
    expect(page.locator(".conflict")).to_contain_text("Somebody else was faster")
    other.delete("/app")
    person.row("/other").click()
    person.go("#/tree/app")
    expect(page.locator("textarea.editor")).to_have_value("mine")
    person.button("Save").click()
    expect(page.get_by_role("alert").last).to_contain_text("does not exist")
    person.button("Cancel").click()
    expect(page.locator("textarea.editor")).to_have_count(0)
    person.row("/other").click()
    person.go("#/tree/app")
    expect(page.locator("textarea.editor")).to_have_count(0)


def test_leaving_the_page_with_an_edit_or_staged_changes_is_asked_about(
    page: Page, sit: Callable[..., Person], other: FaaSKeeperClient
) -> None:
    other.create("/app", b"old")
    person = sit(page)
    shown = person.go("#/tree/app")
    person.button("Edit").click()
    shown.locator("textarea.editor").press_sequentially("new")
    with shown.expect_event("dialog") as asked:
        shown.close(run_before_unload=True)
    assert asked.value.type == "beforeunload"
    person.wrong.clear()  # it is a dialog as any other
    person.button("Stage").click()
    with shown.expect_event("dialog") as asked:
        shown.close(run_before_unload=True)
    assert asked.value.type == "beforeunload"
    person.wrong.clear()
    person.button("Staged (1)").click()
    person.button("Discard all").click()
    with shown.expect_event("close"):
        shown.close(run_before_unload=True)


def test_nodes_are_created_in_every_kind_and_their_acl_set(person: Person, other: FaaSKeeperClient) -> None:
    page = person.go()
    person.button("New child").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Name, below /").fill("job-")
    dialog.get_by_label("Data").fill("work")
    dialog.get_by_label("Kind").select_option("ephemeral")
    dialog.get_by_label("sequential").check()
    dialog.get_by_role("button", name="Create", exact=True).click()
    expect(page.locator(".crumbs")).to_contain_text("job-0000000000")
    assert other.get_data("/job-0000000000").data == b"work"
    expect(page.get_by_text("ephemeral: ends with its session")).to_be_visible()
    person.button("ACL").click()
    dialog.get_by_label("Entries").fill("world:anyone:ra,\nip:127.0.0.1:cdrwa")
    dialog.get_by_role("button", name="Set the ACL").click()
    expect(person.card("ACL")).to_contain_text("127.0.0.1")
    person.button("ACL").click()
    dialog.get_by_label("Entries").fill("nonsense")
    dialog.get_by_role("button", name="Set the ACL").click()
    expect(dialog.get_by_role("alert")).to_contain_text("'nonsense' is not an ACL entry")


def test_staged_changes_are_shown_before_they_are_made_together(
    person: Person, other: FaaSKeeperClient
) -> None:
    other.create("/a", b"one")
    other.create("/old")
    page = person.go("#/tree/a")
    person.button("Edit").click()
    page.locator("textarea.editor").fill("two")
    person.button("Stage").click()
    person.row("/old").click()
    person.button("Delete").click()
    page.get_by_role("dialog").get_by_role("button", name="Stage").click()
    person.button("Staged (2)").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.locator(".diff")).to_contain_text("- one")
    expect(dialog).to_contain_text("0 bytes are deleted")
    assert other.get_data("/a").data == b"one"
    other.set_data("/a", b"meanwhile")
    dialog.get_by_role("button", name="Commit all").click()
    expect(dialog.get_by_role("alert")).to_contain_text("nothing was changed")
    expect(dialog).to_contain_text("the version is 1, not 0")
    assert other.exists("/old") is not None
    dialog.get_by_role("button", name="Remove set /a").click()
    dialog.get_by_role("button", name="Commit all").click()
    expect(dialog).to_have_count(0)
    expect(person.row("/old")).to_have_count(0)


def test_a_page_that_only_reads_offers_no_change(sit: Callable[..., Person], tmp_path: Path) -> None:
    person = sit(Page(tmp_path / "page", "--read-only"))
    page = person.go()
    expect(page.get_by_text("read only")).to_be_visible()
    expect(page.get_by_role("link", name="Download")).to_be_visible()
    for name in ("Edit", "New child", "Delete", "ACL", "Upload"):
        expect(person.button(name)).to_have_count(0)
    page.get_by_role("tree").focus()
    for key in ("F2", "Insert", "Delete"):
        page.keyboard.press(key)
    expect(page.get_by_role("dialog")).to_have_count(0)


def test_a_token_is_typed_and_never_in_an_address(sit: Callable[..., Person], tmp_path: Path) -> None:
    served = Page(tmp_path / "page", "--token")
    person = sit(served)
    page, asked = person.page, []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{served.address}#/service")
    page.get_by_label("Token").fill("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_have_text("this is not the token")
    assert person.flaws() == []
    page.get_by_label("Token").fill(served.said["token"])
    person.button("Log in").click()
    expect(page.get_by_role("heading", name="The service")).to_be_visible()
    assert not any(served.said["token"] in each for each in asked)
    assert page.evaluate("document.cookie") == ""
    person.button("Log out").click()
    expect(page.get_by_label("Token")).to_be_visible()
    page.goto(served.address)
    expect(page.get_by_label("Token")).to_be_visible()
