"""What the page does on any deployment: run with a client of it, and the page's server."""

from __future__ import annotations

from base64 import b64decode, b64encode
from time import monotonic
from typing import Any

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.recipes.lock import Lock
from faaskeeper.testing.patience import PATIENCE_S
from tests.ui.pages import Page


def told(page: Page, since: int | None, until: str) -> list[tuple[str, str]]:
    """What the stream of events tells, up to an event of a path."""
    found: list[tuple[str, str]] = []
    for batch in page.events(since):
        found += [(each["kind"], each["path"]) for each in batch["events"]]
        if any(path == until for _, path in found):
            return found
    raise AssertionError(found)


def nodes_are_shown_and_changed(client: FaaSKeeperClient, page: Page) -> None:
    client.create("/app", b"\x00\xff" * 100_000)
    client.create("/app/child", b"needle", ephemeral=True)
    found = page.get("node", path="/app")
    assert b64decode(found["data"]) == b"\x00\xff" * 100_000
    assert all(found["rights"].values())
    assert page.get("children", path="/app")["names"] == ["child"]
    assert page.get("rows", path="/app", name=["child"])["child"]["kind"] == "ephemeral"
    assert page.ask("PUT", "/api/node", b"1", path="/app", version=0).status == 200
    answer = page.ask("PUT", "/api/node", b"2", path="/app", version=0)
    assert (answer.status, b64decode(answer.json["theirs"]["data"])) == (409, b"1")
    steps: list[dict[str, Any]] = [
        {"op": "check", "path": "/app", "version": 1},
        {"op": "create", "path": "/made", "data": b64encode(b"x").decode()},
    ]
    assert page.ask("POST", "/api/transaction", {"steps": steps}).status == 200
    steps[1]["path"] = "/app/x"
    steps.append({"op": "delete", "path": "/none"})
    assert page.ask("POST", "/api/transaction", {"steps": steps}).status == 404
    acl = {"acl": "world:anyone:r"}
    assert page.ask("PUT", "/api/acl", acl, path="/made", version=0).status == 200
    assert page.ask("PUT", "/api/node", b"", path="/made", version=0).status == 403
    assert page.ask("DELETE", "/api/node", path="/made", version=0).status == 200
    lines = page.ask("GET", "/api/search", q="needle", data=1).body.splitlines()
    assert b'{"path": "/app/child", "line": "needle"}' in lines


def events_come(client: FaaSKeeperClient, page: Page) -> None:
    begun = page.events()
    next(begun)
    client.create("/live", b"0")
    client.set_data("/live", b"1")
    client.delete("/live")
    found: list[tuple[str, str]] = []
    while ("deleted", "/live") not in found:
        found += [(each["kind"], each["path"]) for each in next(begun)["events"]]
    assert [each for each in found if each[1] == "/live"] == [
        ("created", "/live"), ("set", "/live"), ("deleted", "/live"),
    ]  # fmt: skip


def holders_are_shown(client: FaaSKeeperClient, page: Page) -> None:
    page.get("locks")
    lock = Lock(client, "/locks/one", "me")
    lock.acquire()
    (row,) = page.get("contenders", path="/locks/one")["rows"]
    deadline = monotonic() + PATIENCE_S
    while not (locks := page.get("locks")["locks"]) and monotonic() < deadline:
        continue  # on a ZooKeeper server an event has to come first
    (found,) = locks
    assert found == {"path": "/locks/one", "rows": [{**row, **_lease(found)}]}
    assert (row["role"], row["identifier"], row["token"]) == ("holds", "me", lock.token)
    lock.release()


def _lease(found: dict[str, Any]) -> dict[str, float]:
    """What runs down between two looks."""
    return {name: value for name, value in found["rows"][0].items() if name == "lease_s"}


def the_page_works(client: FaaSKeeperClient, page: Page) -> None:
    """On a deployment of FaaSKeeper."""
    nodes_are_shown_and_changed(client, page)
    events_come(client, page)
    holders_are_shown(client, page)
    then = client.create("/past", b"old").stat.czxid
    client.create("/past/child")
    client.set_data("/past", b"new")
    assert told(page, then, "/past") == [("created", "/past/child"), ("set", "/past")]
    assert b64decode(page.get("past/node", path="/past", at=then)["data"]) == b"old"
    assert page.get("past/children", path="/past", at=then)["names"] == []
    rows = page.get("past/history", path="/past")["rows"]
    assert [(row["kind"], row["session"]) for row in rows] == [
        ("set", client.session_id), ("created", client.session_id),
    ]  # fmt: skip
    asked = {"path": "/past", "at": then, "version": 1}
    assert page.ask("POST", "/api/past/restore", asked).status == 200
    assert client.get_data("/past").data == b"old"
    sessions = {each["session"]: each for each in page.get("sessions")["sessions"]}
    assert "/app/child" in sessions[str(client.session_id)]["ephemerals"]
    assert page.get("service")["transaction"] >= then
    assert page.get("me")["missing"] == {}


def the_page_works_on_zookeeper(client: FaaSKeeperClient, page: Page) -> None:
    """On a server that has znodes and nothing else."""
    nodes_are_shown_and_changed(client, page)
    events_come(client, page)
    holders_are_shown(client, page)
    assert set(page.get("me")["missing"]) == {"time", "sessions", "service", "watches"}
    assert page.get("node", path="/app")["watches"] is None
    assert next(page.events(5))["reset"]
    for route in ("past/range", "sessions"):
        answer = page.ask("GET", f"/api/{route}")
        assert answer.status == 502
        assert "ZooKeeper server" in answer.json["error"]
    asked = {"session": "1", "again": "1"}
    assert "ends no session" in page.ask("POST", "/api/sessions/end", asked).json["error"]
