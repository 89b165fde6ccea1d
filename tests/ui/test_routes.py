"""What the page's server answers: nodes, changes, events, the past, locks, the service."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from starlette.requests import Request

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.acl import digest
from faaskeeper.exceptions import SessionExpiredException
from faaskeeper.recipes.lock import Lock
from faaskeeper.ui import locks, past
from faaskeeper.ui.access import Access
from tests.ui.pages import SUPER, Page

OPEN = (31, "world", "anyone")


def coded(data: bytes) -> str:
    return b64encode(data).decode()


def test_a_node_has_its_data_stat_acl_rights_and_watches(page: Page, other: FaaSKeeperClient) -> None:
    other.create("/a", b"\x00\xff")
    other.create("/a/<script>", b"x")
    other.get_data("/a", watch=lambda event: None)
    found = page.get("node", path="/a")
    assert b64decode(found["data"]) == b"\x00\xff"
    assert (found["stat"]["version"], found["stat"]["numChildren"], found["kind"]) == (0, 1, "persistent")
    assert found["acl"] == [["world:anyone:cdrwa", list(OPEN)]]
    assert found["rights"] == dict.fromkeys(("read", "write", "create", "delete", "admin"), True)
    assert {"session": other.session_id, "kind": "data", "path": "/a"} in found["watches"]
    assert page.get("children", path="/a")["names"] == ["<script>"]
    assert page.get("children", path="/a", first=0)["names"] == []
    assert page.get("rows", path="/", name=["a", "none"]).keys() == {"a"}
    answer = page.ask("GET", "/api/node", path="/none")
    assert (answer.status, answer.json["kind"]) == (404, "no node")
    assert page.ask("GET", "/api/node", path="a//b").status == 400
    assert page.ask("GET", "/api/rows", path="/", name=["a/../b"]).status == 400


def test_data_is_downloaded_as_a_file_that_no_browser_interprets(page: Page, other: FaaSKeeperClient) -> None:
    other.create('/<script> "x"', b"<script>alert(1)</script>")
    answer = page.ask("GET", "/api/download", path='/<script> "x"')
    assert answer.body == b"<script>alert(1)</script>"
    assert answer.headers["Content-Type"] == "application/octet-stream"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    name = "filename=\"data\"; filename*=UTF-8''%3Cscript%3E%20%22x%22"
    assert answer.headers["Content-Disposition"] == f"attachment; {name}"


def test_an_edit_of_a_version_that_is_gone_shows_what_is_there(page: Page, other: FaaSKeeperClient) -> None:
    other.create("/a", b"0")
    assert page.ask("PUT", "/api/node", b"1", path="/a", version=0).status == 200
    answer = page.ask("PUT", "/api/node", b"2", path="/a", version=0)
    assert (answer.status, answer.json["kind"]) == (409, "bad version")
    assert b64decode(answer.json["theirs"]["data"]) == b"1"
    assert other.get_data("/a").data == b"1"
    assert page.ask("PUT", "/api/node", b"2", path="/a").status == 400
    assert page.ask("PUT", "/api/node", b"2", path="/a", version=-1).status == 400


def test_a_node_takes_a_mebibyte_and_no_more(page: Page, other: FaaSKeeperClient) -> None:
    other.create("/a")
    assert page.ask("PUT", "/api/node", b"x" * (1 << 20), path="/a", version=0).status == 200
    assert len(b64decode(page.get("node", path="/a")["data"])) == 1 << 20
    assert page.ask("PUT", "/api/node", b"x" * ((1 << 20) + 1), path="/a", version=1).status == 413


def test_nodes_are_created_and_deleted_and_their_acls_set(page: Page, other: FaaSKeeperClient) -> None:
    step = {"path": "/a", "data": coded(b"x"), "acl": "world:anyone:crwda", "container": True}
    assert page.ask("POST", "/api/node", step).json["path"] == "/a"
    assert page.ask("POST", "/api/node", step).status == 409
    made = page.ask("POST", "/api/node", {"path": "/a/n-", "sequential": True, "ephemeral": True})
    assert made.json["path"] == "/a/n-0000000000"
    assert other.exists("/a/n-0000000000") is not None
    acl = {"acl": "world:anyone:r"}
    assert page.ask("PUT", "/api/acl", acl, path="/a/n-0000000000", version=0).status == 200
    assert page.ask("PUT", "/api/node", b"", path="/a/n-0000000000", version=0).status == 403
    assert page.ask("DELETE", "/api/node", path="/a", version=0).status == 409
    assert page.ask("DELETE", "/api/node", path="/a/n-0000000000", version=0).status == 200
    for wrong in ({"path": "/b", "data": "é"}, {"path": "b"}, {"path": "/b", "acl": "x"}, {"ttl": "x"}):
        assert page.ask("POST", "/api/node", wrong).status == 400
    assert page.ask("POST", "/api/node", b"[]").status == 400


def test_what_an_acl_does_not_permit_is_not_sent(page: Page, join: Callable[..., FaaSKeeperClient]) -> None:
    alice = join("alice:secret")
    mine = (31, "digest", digest("alice:secret"))
    alice.create("/mine", b"secret", acl=[mine])
    alice.create("/shown", b"x", acl=[mine, (1, "world", "anyone")])
    before = next(alice.history("/", True)).txid
    found = page.get("node", path="/mine")
    assert (found["data"], found["acl"], found["rights"]["read"]) == (None, None, False)
    shown = page.get("node", path="/shown")
    assert shown["rights"] == {**dict.fromkeys(shown["rights"], False), "read": True, "delete": True}
    assert page.ask("PUT", "/api/node", b"y", path="/shown", version=0).status == 403
    step = {"op": "set", "path": "/shown", "data": "", "version": 0}
    assert page.ask("POST", "/api/transaction", {"steps": [step]}).status == 400
    assert page.ask("POST", "/api/node", {"path": "/shown/a"}).status == 403
    assert list(alice.history("/", True, since=before)) == []


def test_a_transaction_is_previewed_and_then_all_or_nothing(page: Page, other: FaaSKeeperClient) -> None:
    other.create("/a", b"0")
    steps = [
        {"op": "check", "path": "/a", "version": 0},
        {"op": "set", "path": "/a", "data": coded(b"1"), "version": 0},
        {"op": "create", "path": "/b", "data": coded(b"b")},
        {"op": "create", "path": "/b/c"},
        {"op": "delete", "path": "/b/c"},
    ]
    previews = page.ask("POST", "/api/transaction/preview", {"steps": steps}).json["steps"]
    assert [each["problem"] for each in previews] == [""] * 5
    assert b64decode(previews[1]["now"]["data"]) == b"0"
    assert other.get_data("/a").data == b"0"
    wrong = [
        *steps,
        {"op": "set", "path": "/none", "data": "", "version": -1},
        {"op": "create", "path": "/a"},
    ]
    previews = page.ask("POST", "/api/transaction/preview", {"steps": wrong}).json["steps"]
    assert [each["problem"] for each in previews[5:]] == ["the node does not exist", "the node exists"]
    other.set_data("/a", b"theirs")
    answer = page.ask("POST", "/api/transaction", {"steps": steps})
    assert (answer.status, answer.json["step"]) == (409, 1)
    assert other.exists("/b") is None
    steps[0]["version"] = steps[1]["version"] = 1
    assert page.ask("POST", "/api/transaction", {"steps": steps}).status == 200
    assert (other.get_data("/a").data, other.exists("/b/c")) == (b"1", None)
    assert page.ask("POST", "/api/transaction", {"steps": []}).status == 400


# ---- events --------------------------------------------------------------------------------------


def told(page: Page, since: int | None, until: str) -> tuple[list[tuple[str, str]], int]:
    """What the stream tells up to an event of a path, and the id of the last batch."""
    found: list[tuple[str, str]] = []
    for batch in page.events(since):
        assert not batch["reset"]
        found += [(each["kind"], each["path"]) for each in batch["events"]]
        if any(path == until for _, path in found):
            return found, int(batch["id"])
    raise AssertionError(found)


def events_up_to(page: Page, since: int, path: str) -> list[dict[str, Any]]:
    """The stream's batches up to an event of a path."""
    found = []
    for batch in page.events(since):
        found.append(batch)
        if any(each["path"] == path for each in batch["events"]):
            break
    return found


def test_events_go_on_behind_the_last_one_without_a_gap(page: Page, other: FaaSKeeperClient) -> None:
    begun = next(page.events())
    other.create("/a", b"0")
    other.set_data("/a", b"1")
    other.delete("/a")
    other.create("/end")
    found, last = told(page, int(begun["id"]), "/end")
    assert found == [("created", "/a"), ("set", "/a"), ("deleted", "/a"), ("created", "/end")]
    other.create("/later")
    assert told(page, last, "/later")[0] == [("created", "/later")]


def test_a_killed_server_leaves_no_gap(page: Page, other: FaaSKeeperClient) -> None:
    last = int(next(page.events())["id"])
    page.kill()
    other.create("/meanwhile")  # another process owns the directory now
    page.start()
    other.create("/after")
    found, _ = told(page, last, "/after")
    assert found == [("created", "/meanwhile"), ("created", "/after")]


def test_a_page_that_was_away_for_too_long_reads_everything_again(page: Page) -> None:
    assert next(page.events(10**12))["reset"]


def test_events_tell_nobody_of_what_they_may_not_read(
    page: Page, join: Callable[..., FaaSKeeperClient]
) -> None:
    alice = join("alice:secret")
    mine = (31, "digest", digest("alice:secret"))
    alice.create("/closed", acl=[mine])
    last = int(next(page.events())["id"])
    alice.create("/closed/child", acl=[mine])
    alice.set_data("/closed", b"x")
    alice.set_acls("/closed", [mine, (2, "world", "anyone")])
    alice.delete("/closed/child")
    alice.create("/open")
    assert told(page, last, "/open")[0] == [("created", "/open")]


def test_what_comes_and_goes_below_a_parent_that_one_may_list_is_told_by_its_name_alone(
    page: Page, join: Callable[..., FaaSKeeperClient]
) -> None:
    alice = join("alice:secret")
    mine = (31, "digest", digest("alice:secret"))
    first = next(page.events())
    alice.create("/mine", b"secret", acl=[mine])
    alice.set_data("/mine", b"more")
    alice.delete("/mine")
    alice.create("/open")
    found = [each for batch in events_up_to(page, int(first["id"]), "/open") for each in batch["events"]]
    assert [(each["kind"], each["path"], set(each)) for each in found[:-1]] == [
        ("created", "/mine", {"kind", "path", "txid"}),
        ("deleted", "/mine", {"kind", "path", "txid"}),
    ]


def test_what_was_open_and_is_not_any_more_is_not_told_afterwards(
    page: Page, join: Callable[..., FaaSKeeperClient]
) -> None:
    alice = join("alice:secret")
    mine = (31, "digest", digest("alice:secret"))
    alice.create("/app")
    begun = int(next(page.events())["id"])
    alice.create("/app/open", b"x")
    alice.set_data("/app/open", b"y")
    alice.set_acls("/app/open", [mine])
    alice.set_acls("/app", [mine])
    alice.create("/end")
    assert told(page, begun, "/end")[0] == [("created", "/end")]


def test_the_search_finds_paths_and_data_and_stays_right(page: Page, other: FaaSKeeperClient) -> None:
    def found(query: str, data: int = 0) -> list[dict[str, Any]]:
        lines = page.ask("GET", "/api/search", q=query, data=data).body.splitlines()
        return [json.loads(line) for line in lines if line]

    other.create("/app", b"first\nThe Needle here\nlast")
    other.create("/app/needle")
    assert [each["path"] for each in found("needle")[:-1]] == ["/app/needle"]
    assert {"path": "/app", "line": "The Needle here"} in found("needle", 1)
    last = int(next(page.events())["id"])
    other.create("/app/second-needle")
    other.delete("/app/needle")
    other.create("/end")
    told(page, last, "/end")
    for _ in page.events(last):  # the index is told by the same thread
        if [each["path"] for each in found("needle")[:-1]] == ["/app/second-needle"]:
            return


# ---- the past ------------------------------------------------------------------------------------


def test_the_past_has_nodes_children_and_who_did_it(page: Page, other: FaaSKeeperClient) -> None:
    other.create("/a", b"0")
    other.create("/a/one")
    then = other.create("/a/two").stat.czxid
    other.set_data("/a", b"1")
    other.delete("/a/one")
    other.create("/a/three")
    other.delete("/a/two")
    other.create("/a/two")
    assert page.get("past/children", path="/a", at=then)["names"] == ["one", "two"]
    assert page.get("children", path="/a")["names"] == ["three", "two"]
    assert b64decode(page.get("past/node", path="/a", at=then)["data"]) == b"0"
    assert page.ask("GET", "/api/past/node", path="/a/three", at=then).status == 404
    rows = page.get("past/history", path="/a", below=1)["rows"]
    assert [row["kind"] for row in rows] == [
        "created", "deleted", "created", "deleted", "set", "created", "created", "created",
    ]  # fmt: skip
    assert {row["session"] for row in rows} == {other.session_id}
    moment = page.get("past/moment", at=then)
    assert (moment["at"]["path"], moment["next"]) == ("/a/two", rows[4]["txid"])
    assert page.get("past/moment", time=rows[0]["time"])["at"]["txid"] == rows[0]["txid"]
    found = page.get("past/range")
    assert found["first"] < then < found["last"]
    answer = page.ask("GET", "/api/past/download", path="/a", at=then)
    assert answer.body == b"0"


def test_a_long_log_is_read_back_as_far_as_it_goes_in_a_moment(
    config: Config, client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(past, "_GLANCE", 5)
    client.create("/old")
    client.create("/busy")
    for _ in range(100):
        client.set_data("/busy", b"x")
    access, asked = Access(config), SimpleNamespace

    def history(path: str, seconds: float, **query: str) -> dict[str, Any]:
        monkeypatch.setattr(past, "_GLANCE_S", seconds)
        request = asked(state=asked(access=access), query_params={"path": path, **query})
        found: dict[str, Any] = json.loads(bytes(past.history(cast(Request, request)).body))
        return found

    quick = history("/old", -1)
    assert (quick["rows"], quick["since"] > 0) == ([], True)
    for found in (history("/old", -1, whole="1"), history("/old", 60)):
        assert ([row["kind"] for row in found["rows"]], found["since"]) == (["created"], 0)
    assert len(history("/busy", -1, limit="3")["rows"]) == 3
    last, seen = client.get_data("/busy").stat.mzxid, quick["since"]
    for after, since in ((seen + 1, 0), (seen, 0), (seen - 1, seen)):
        found = history("/busy", -1, after=str(after))
        assert [row["txid"] for row in found["rows"]] == [*range(last, max(after, seen), -1)]
        assert found["since"] == since
    access.close()


def test_the_data_of_children_that_are_no_contenders_is_not_read(
    config: Config, client: FaaSKeeperClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    for each in range(3):
        client.create(f"/many/{each}", makepath=True)
    Lock(client, "/one", "me").acquire()
    access, read = Access(config), []
    contenders = locks.contenders
    monkeypatch.setattr(locks, "contenders", lambda *asked: read.append(asked[1]) or contenders(*asked))
    for path, number in (("/many", 0), ("/one", 1)):
        request = SimpleNamespace(state=SimpleNamespace(access=access), query_params={"path": path})
        found = json.loads(bytes(locks.contenders_of(cast(Request, request)).body))
        assert len(found["rows"]) == number
    assert read == ["/one"]
    access.close()


def test_a_node_gets_back_what_it_had(page: Page, other: FaaSKeeperClient) -> None:
    then = other.create("/a", b"0").stat.czxid
    other.set_data("/a", b"1")
    asked = {"path": "/a", "at": then, "version": 1}
    other.set_data("/a", b"2")
    assert page.ask("POST", "/api/past/restore", asked).status == 409
    assert page.ask("POST", "/api/past/restore", {**asked, "version": 2}).json["did"] == "Set /a, version 3"
    assert other.get_data("/a").data == b"0"
    other.delete("/a")
    assert page.ask("POST", "/api/past/restore", {**asked, "version": None}).json["did"] == "Created /a"
    deleted = {"path": "/a", "at": then - 1, "version": 0}
    assert page.ask("POST", "/api/past/restore", deleted).json["did"] == "Deleted /a"


# ---- sessions, locks, the service ------------------------------------------------------------------


def test_locks_show_who_holds_and_who_waits(page: Page, join: Callable[..., FaaSKeeperClient]) -> None:
    first, second = join(), join()
    held = Lock(first, "/locks/one", "first")
    held.acquire()
    waiting = Lock(second, "/locks/one", "second")
    assert not waiting.acquire(timeout=0.2)
    second.create("/locks/one/" + "lock-0123abcd-", b"second", ephemeral=True, sequential=True)
    (lock,) = page.get("locks")["locks"]
    assert lock["path"] == "/locks/one"
    assert [row["role"] for row in lock["rows"]] == ["holds", "waits"]
    assert lock["rows"][0]["token"] == held.token
    sessions = {each["session"]: each for each in page.get("sessions")["sessions"]}
    assert sessions[str(first.session_id)]["ephemerals"] == [held.node]
    assert sessions[str(first.session_id)]["lease_s"] > 0
    assert [each["session"] for each in sessions.values() if each["mine"]] == [page.get("me")["session"]]


def test_a_session_is_ended_by_the_super_user_only_and_asked_for_twice(
    tmp_path: Path, page: Page, join: Callable[..., FaaSKeeperClient]
) -> None:
    victim = join()
    victim.create("/held", ephemeral=True)
    asked = {"session": victim.session_id, "again": victim.session_id}
    assert page.ask("POST", "/api/sessions/end", {**asked, "again": ""}).status == 400
    answer = page.ask("POST", "/api/sessions/end", asked)
    assert (answer.status, answer.json["kind"]) == (403, "not permitted")
    assert not page.get("sessions")["may_end_others"]
    config = json.loads(page.file.read_text())
    assert config["super-digest"] == SUPER
    second = Page(tmp_path / "second", config=config, environment={"FK_AUTH": "super:test"})
    assert second.get("sessions")["may_end_others"]
    assert second.ask("POST", "/api/sessions/end", asked).json["ended"] is True
    assert second.ask("POST", "/api/sessions/end", asked).json["ended"] is False
    with pytest.raises(SessionExpiredException):
        victim.create("/b")
    assert page.ask("GET", "/api/node", path="/held").status == 404


def test_a_page_whose_session_is_ended_opens_another_and_tells_everything(
    page: Page, join: Callable[..., FaaSKeeperClient]
) -> None:
    admin = join("super:test")
    first = page.get("me")["session"]
    stream = page.events()
    last = int(next(stream)["id"])
    assert admin.end_session(first)
    admin.create("/after")
    page.ask("POST", "/api/node", {"path": "/x"})  # finds out
    assert page.get("me")["session"] != first
    admin.create("/later")
    assert next(path for _, path in told(page, last, "/later")[0]) == "/after"
    seen: list[str] = []
    while "/later" not in seen:
        seen += [each["path"] for each in next(stream)["events"]]


def test_the_page_may_end_its_own_session_and_opens_another(page: Page) -> None:
    mine = page.get("me")["session"]
    assert page.ask("POST", "/api/sessions/end", {"session": mine, "again": mine}).json["ended"]
    assert page.get("me")["session"] != mine
    assert page.ask("POST", "/api/node", {"path": "/a"}).status == 200


def test_the_service_shows_what_it_does_and_says_what_is_not_known(
    page: Page, other: FaaSKeeperClient
) -> None:
    for each in range(5):
        other.create(f"/a{each}")
    found = page.get("service")
    assert found["writes_per_s"] > 0
    assert found["sessions"] == 2
    assert set(found["stages"]) == {"read", "log", "event"}
    assert "why" in found["letters"]
    assert "owner's process" in found["waiting"]
    assert {"reads", "cost"} <= set(found["unknown"])
