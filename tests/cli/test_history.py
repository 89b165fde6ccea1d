"""Commands on the past print what docs/history.md says, and refuse what would lose a write."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from faaskeeper.cli.context import Context
from faaskeeper.cli.differences import ABSENT, Blamed, Difference, differences, parsed
from faaskeeper.cli.shell import execute
from tests.cli.console import ROOT, Fk

Captured = pytest.CaptureFixture[str]

TIMES = r"\d{4}-\d\d-\d\dT[\d:.]+\+\d\d:\d\d|(?<=\"time\": )\d+"


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    fk = Fk(tmp_path)
    fk.environment["TZ"] = "UTC"
    return fk


def examples() -> list[tuple[str, str]]:
    """Each command of the section on history, and what it prints."""
    page = (ROOT / "docs" / "history.md").read_text()
    section = page[page.index("\n## Commands\n") :].split("\n## ")[1]
    blocks = re.findall(r"^```console\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    found: list[tuple[str, str]] = []
    for each in "".join(blocks).removeprefix("$ ").split("\n$ "):
        command, _, printed = each.rstrip("\n").partition("\n")
        found.append((command, printed))
    return found


def test_the_examples_of_the_documentation_print_what_it_says(fk: Fk) -> None:
    assert len(examples()) == 12
    for command, printed in examples():
        done = fk.run(*shlex.split(command)[1:])
        said = (done.stdout + done.stderr).decode().rstrip("\n")
        assert re.sub(TIMES, "TIME", said) == re.sub(TIMES, "TIME", printed), command


def test_a_deleted_node_is_reverted_with_its_acl_and_a_new_one_goes(fk: Fk) -> None:
    fk.said("--auth", "bob:pw", "create", "/a", "one\ntwo", "--acl", "auth::cdrwa")
    acl = fk.said("--auth", "bob:pw", "getAcl", "/a")
    fk.said("delete", "/a")
    assert "\n-two\n" in fk.said("--auth", "bob:pw", "diff", "/a")
    for words in (["diff", "/a"], ["history", "/a"]):
        done = fk.run(*words)
        assert (done.returncode, b"no change of it that you may read" in done.stderr) == (3, True)
    assert "Created /a" in fk.said("--auth", "bob:pw", "revert", "/a", "--at", "2", "--yes")
    assert fk.said("--auth", "bob:pw", "getAcl", "/a") == acl
    assert "Deleted /a" in fk.said("--auth", "bob:pw", "revert", "/a", "--at", "1", "--yes")
    assert fk.run("get", "/a").returncode == 3


def test_wrong_moments_are_named(fk: Fk) -> None:
    for wrong in ("yesterday", "-1", "2y", "0xg"):
        done = fk.run("get", "/", f"--at={wrong}")
        assert done.returncode == 2
        assert b"is neither a transaction" in done.stderr
    done = fk.run("get", "/", "--at", "1d")
    assert done.returncode == 1
    assert b"before the retained history: the history begins at transaction 0" in done.stderr
    for words in (["get", "/", "--at"], ["history", "--since"], ["diff", "/", "--at"]):
        assert b"is in the future" in fk.run(*words, "2999-01-01").stderr
        done = fk.run(*words, "10000")
        assert (done.returncode, b"there is no transaction 10000 yet" in done.stderr) == (2, True)
    assert fk.run("get", "/", "--at", "1", "-w").returncode == 2
    assert fk.run("diff", "/", "--at", "1", "--at", "1", "--at", "1").returncode == 2


def test_a_node_that_never_was_is_named(fk: Fk) -> None:
    for words in (["history", "/a"], ["diff", "/a"], ["revert", "/a", "--at", "0"], ["blame", "/a"]):
        done = fk.run(*words)
        assert (done.returncode, b"the node /a does not exist" in done.stderr) == (3, True), words
    assert fk.said("history", "/zookeeper") == ""  # it exists, and nothing happened to it
    assert fk.run("diff", "/zookeeper").returncode == 2


def test_what_is_before_the_retained_history_is_noted(context: Context, capsys: Captured) -> None:
    for number in range(4):
        context.client.create(f"/n{number}")
    log = context.client.connection.log
    log.trim([entry for entry in log.after(0)[0] if entry.last <= 3])
    for since in ("0", "2", "1h"):
        assert execute(context, f"history --since {since}") == 0
        said = capsys.readouterr()
        assert len(said.out.splitlines()) == 2
        assert "fk: what happened before transaction 4 (" in said.err
        assert "is before the retained history" in said.err
    assert execute(context, "history --since 3") == 0
    assert execute(context, "history --since 1h -n 1") == 0  # and there may be more
    assert execute(context, "history") == 0
    assert capsys.readouterr().err == ""


def test_json_is_compared_by_its_smallest_parts() -> None:
    before = parsed(b'{"a": {"b": 1, "c/d": [1, 2]}, "e": null, "f": true}')
    after = parsed(b'{"f": 1, "a": {"b": 1, "c/d": [1, 3, {}]}}')
    assert list(differences(before, after)) == [
        Difference("/a/c~1d/1", 2, 3),
        Difference("/a/c~1d/2", ABSENT, {}),
        Difference("/e", None, ABSENT),
        Difference("/f", True, 1),
    ]
    assert parsed(b"1") is parsed(b"\xff") is parsed(None) is ABSENT


def test_each_line_is_blamed_on_who_changed_it_last() -> None:
    blamed: Blamed[int] = Blamed(by_value=False)
    for origin, data in enumerate((b"a\nb\nc", b"a\nB\nc\nd", b"", b"a\nB", b"0\na\nB")):
        blamed.take(data, origin)
    assert blamed.parts == [("", "0", 4), ("", "a", 3), ("", "B", 3)]


def test_each_value_is_blamed_on_who_changed_it_last() -> None:
    blamed: Blamed[int] = Blamed(by_value=True)
    for origin, data in enumerate((b'{"a": 1, "b": [1, 2]}', b'{"b": [1, 3], "a": 1}', b'{"a": 1, "b": []}')):
        blamed.take(data, origin)
    assert blamed.parts == [("/a", "1", 0), ("/b", "[]", 2)]
