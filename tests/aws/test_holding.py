"""``fk lock``, ``who``, ``watch``, ``top`` and the past, in processes of their own, on a deployment."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests.aws import backends
from tests.aws.system import System
from tests.cli.console import FK, Start, starting

ROOT = Path(__file__).parents[2]


@pytest.fixture
def system(ministack: str) -> Iterator[System]:
    made = System(ministack, {})
    (made.directory / "out.json").write_text(json.dumps(made.data))
    yield made
    made.stop()


@pytest.fixture
def start(system: System) -> Iterator[Start]:
    command = [*FK, "--config", str(system.directory / "out.json")]
    with starting(command, {**os.environ, **backends.KEYS}) as run:
        yield run


def said(process: subprocess.Popen[str], status: int = 0) -> str:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status, out + err
    return out + err


HOLDS = 'echo $FK_FENCING_TOKEN; read a; echo "end $a"'


def test_a_lock_is_held_by_one_process_until_its_command_ends(start: Start) -> None:
    first = start("lock", "/jobs/a", "--identifier", "first", "--", "sh", "-c", HOLDS)
    assert first.stdout is not None
    token = int(first.stdout.readline())
    refused = said(start("lock", "/jobs/a", "--wait", "0.5", "-E", "9", "--", "true"), 9)
    assert "/jobs/a was not free within 0.5 s: first" in refused
    second = start("lock", "/jobs/a", "--identifier", "second", "--", "sh", "-c", HOLDS)
    rows: list[dict[str, object]] = []
    while len(rows) < 2:
        rows = json.loads(said(start("who", "/jobs/a", "--json")))
    assert (rows[0]["role"], rows[0]["identifier"], rows[0]["token"]) == ("holds", "first", token)
    assert (rows[1]["role"], rows[1]["identifier"]) == ("waits", "second")
    assert all(each["address"] for each in rows)
    assert "end now" in said_to(first, "now\n")
    assert second.stdout is not None
    assert int(second.stdout.readline()) > token
    assert "end then" in said_to(second, "then\n")


def said_to(process: subprocess.Popen[str], words: str) -> str:
    out, err = process.communicate(words, timeout=PATIENCE_S)
    assert process.returncode == 0, out + err
    return out


def test_the_command_of_a_killed_fk_is_gone_before_another_holds_the_lock(
    start: Start, system: System
) -> None:
    script = 'trap "" TERM; echo $$; while :; do sleep 0.05; done'
    options = ("--session-timeout", "8", "--grace", "1")
    first = start("lock", "/jobs/b", *options, "--", "sh", "-c", script)
    assert first.stdout is not None
    pid = int(first.stdout.readline())
    os.kill(first.pid, signal.SIGKILL)
    second = start("lock", "/jobs/b", "--", "sh", "-c", f"test ! -e /proc/{pid}/fd/0 && echo gone")
    while second.poll() is None:
        system.beat()
        try:
            second.wait(0.2)
        except subprocess.TimeoutExpired:
            continue
    assert said(second) == "gone\n"


def test_changes_of_one_process_are_watched_by_another(start: Start) -> None:
    watching = start("watch", "/app", "-r", "--since", "0", "--data", "--json", "-n", "3")
    for words in ("create /app one", "set /app two", "create /app/x y"):
        said(start(*words.split()))
    changes = [json.loads(line) for line in said(watching).splitlines() if line.startswith("{")]
    assert [(each["event"], each["path"], each["data"]) for each in changes] == [
        ("created", "/app", "one"),
        ("changed", "/app", "two"),
        ("created", "/app/x", "y"),
    ]
    assert changes[1]["old"]["data"] == "one"
    found = json.loads(said(start("top", "--once", "--json")))
    assert {"path": "/app", "writes": 2} in found["paths"]
    assert found["month"]["dollars"] > 0
    assert found["znodes"] == 6


def test_the_past_is_shown_and_taken_back(start: Start) -> None:
    said(start("create", "/app", "one"))
    said(start("set", "/app", "two"))
    rows = [json.loads(line) for line in said(start("history", "/app", "--json")).splitlines()]
    assert [(row["kind"], row["version"]) for row in rows] == [("set", 1), ("created", 0)]
    first = str(rows[1]["txid"])
    assert said(start("get", "/app", "--at", first)) == "one\n"
    assert "-one" in said(start("diff", "/app", "--at", first))
    assert "two" in said(start("blame", "/app"))
    said(start("revert", "/app", "--at", first, "--yes"))
    assert said(start("get", "/app")) == "one\n"
