"""``find``, ``grep``, ``du``, ``ls -R``: commands that look at a whole tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from faaskeeper.cli import walks
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed
from faaskeeper.cli.shell import execute
from tests.cli.console import Fk

TREE = b"""
create /app root
create /app/b '{"debug": true}'
create /app/b/deep needle
create /app/a "first needle"
create /app/c --container
create /app/t xx --ttl 3600000
"""


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    made = Fk(tmp_path)
    made.said("shell", stdin=TREE)
    return made


def run(context: Context, lines: bytes) -> None:
    for line in lines.decode().splitlines():
        assert execute(context, line) == 0


def paths_of(context: Context, top: str, **options: object) -> list[str]:
    walk = walks.Walk(context, **options)  # type: ignore[arg-type]
    found = [visit.node.path for visit in walk.visits(top)]
    walk.end()
    return found


def test_find_prints_a_node_before_those_below_it_in_the_order_of_names(fk: Fk) -> None:
    expected = ["/app", "/app/a", "/app/b", "/app/b/deep", "/app/c", "/app/t"]
    assert fk.said("find", "/app").splitlines() == expected
    assert fk.said("ls", "-R", "/app").splitlines() == expected
    assert fk.said("find", "/app", "-0").split("\0") == [*expected, ""]
    assert fk.said("find", "/app", "--depth", "0").splitlines() == ["/app"]


def test_find_prints_what_meets_all_conditions(fk: Fk) -> None:
    cases = {
        ("--name", "d*"): ["/app/b/deep"],
        ("--path", "/app/*e*"): ["/app/b/deep"],
        ("--type", "container"): ["/app/c"],
        ("--type", "container", "--type", "ttl"): ["/app/c", "/app/t"],
        ("--type", "ephemeral"): [],
        ("--larger", "6", "--name", "[ab]"): ["/app/a", "/app/b"],
        ("--smaller", "1"): ["/app/c"],
        ("--older", "1h"): [],
        ("--newer", "1h", "--name", "a"): ["/app/a"],
        ("--acl", "world:*:r"): [],
        ("--acl", "world:anyone:*a*", "--name", "t"): ["/app/t"],
        ("--owner", "1"): [],
    }
    for options, expected in cases.items():
        assert fk.said("find", "/app", *options).splitlines() == expected, options
    for wrong in (["--owner", "xyz"], ["--older", "soon"], ["--type", "odd"], ["--print0", "--json"]):
        assert fk.run("find", "/app", *wrong).returncode == 2


def test_find_tells_ephemerals_by_their_session(context: Context, capsys: pytest.CaptureFixture[str]) -> None:
    run(context, b"create /e x -e\n")
    capsys.readouterr()
    assert execute(context, f"find / --owner {context.client.session_id} --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["path"], found["kind"]) == ("/e", "ephemeral")


def test_grep_prints_lines_that_match_and_says_by_its_status_whether_any_did(fk: Fk) -> None:
    assert fk.said("grep", "needle", "/app") == "/app/a:first needle\n/app/b/deep:needle\n"
    assert fk.said("grep", "-n", "NEED", "-i", "/app/b") == "/app/b/deep:1:needle\n"
    assert fk.said("grep", "-F", "{", "-l") == "/app/b\n"
    assert fk.said("grep", "-c", "^first", "/app/a") == "/app/a:1\n"
    assert fk.said("grep", "-v", "needle", "/app", "--depth", "0") == "/app:root\n"
    assert json.loads(fk.said("grep", "debug", "--json"))["line"] == 1
    nothing = fk.run("grep", "absent")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (3, b"", b"")
    assert b"not a regular expression" in fk.run("grep", "(").stderr
    fk.said("create", "/binary", "--file", "-", stdin=b"\xff needle \0")
    assert fk.said("grep", "needle", "/binary") == "/binary: binary data matches\n"


def test_du_counts_what_is_below_each_node(fk: Fk) -> None:
    assert fk.said("du", "/app") == "21\t/app/b\n39\t/app\n"
    assert fk.said("du", "-s", "/app") == "39\t/app\n"
    assert fk.said("du", "--nodes", "/app", "--depth", "0") == "6\t/app\n"
    assert fk.said("du", "-a", "/app/b") == "6\t/app/b/deep\n21\t/app/b\n"
    fk.said("create", "/big", "--file", "-", stdin=b"x" * 1536)
    assert fk.said("du", "--human", "/big") == "1.5K\t/big\n"
    totals = [json.loads(line) for line in fk.said("du", "/app", "--json").splitlines()]
    assert totals[-1] == {"path": "/app", "bytes": 39, "nodes": 6}


def test_a_list_may_be_printed_unsorted_and_with_data(fk: Fk) -> None:
    assert sorted(fk.said("ls", "-U", "/app").split()) == ["a", "b", "c", "t"]
    assert fk.said("ls", "-R", "-i", "/app/b") == '/app/b\t{"debug": true}\n/app/b/deep\tneedle\n'
    assert fk.run("ls", "-R", "-w", "/").returncode == 2


def test_nodes_that_may_not_be_read_are_said_and_the_others_are_found(fk: Fk) -> None:
    fk.environment["FK_AUTH"] = "me:secret"
    fk.said("create", "/app/b/mine", "needle", "--acl", "auth::cdrwa")
    fk.said("create", "/app/b/mine/below", "needle")
    del fk.environment["FK_AUTH"]
    done = fk.run("grep", "-l", "needle", "/app")
    assert done.stdout == b"/app/a\n/app/b/deep\n"
    assert done.returncode == 9
    assert done.stderr.decode().splitlines() == [
        "fk: the ACL of /app/b/mine does not permit this: authenticate with --auth USER:PASSWORD or $FK_AUTH",
        "fk: one node was left out",
    ]
    done = fk.run("find", "/app", "--json", "--name", "below")
    assert (done.returncode, done.stdout) == (9, b"")
    assert [json.loads(line)["kind"] for line in done.stderr.splitlines()] == ["not permitted"] * 2
    assert json.loads(done.stderr.splitlines()[0])["path"] == "/app/b/mine"


def test_nodes_that_vanish_during_the_walk_are_said_and_the_walk_goes_on(
    context: Context, capsys: pytest.CaptureFixture[str]
) -> None:
    run(context, TREE)
    walk = walks.Walk(context)
    found = []
    for node, _ in walk.visits("/app"):
        found.append(node.path)
        if node.path == "/app/a":
            context.client.delete("/app/b/deep")
            context.client.delete("/app/b")
    assert found == ["/app", "/app/a", "/app/b", "/app/c", "/app/t"]
    assert "fk: /app/b was deleted meanwhile" in capsys.readouterr().err
    with pytest.raises(Failed, match="one node was left out") as failed:
        walk.end()
    assert failed.value.status == 3


def test_a_walk_holds_a_batch_of_nodes_and_not_the_tree(
    context: Context, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = context.client
    client.create("/p")
    with client.transaction() as transaction:
        for number in range(500):
            transaction.create(f"/p/{number:04d}", b"x")
    sizes: list[int] = []
    read = client.read_together
    monkeypatch.setattr(client, "read_together", lambda reads: (sizes.append(len(reads)), read(reads))[1])
    for options, most in (({}, walks.LOOKED_AT), ({"data": True}, walks.READ), ({"unsorted": True}, 100)):
        sizes.clear()
        walk = walks.Walk(context, **options).visits("/p")  # type: ignore[arg-type]
        for _ in range(2):
            next(walk)
        assert sum(sizes) == most
        assert len(list(walk)) == 499
        assert max(sizes) == most
    assert sorted(paths_of(context, "/p", unsorted=True)) == paths_of(context, "/p")
