"""Commands on locks, watches and the past in processes of their own, on Google Cloud."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import FK, Start, starting
from tests.gcp.system import System
from tests.remembered import Remembered

ROOT = Path(__file__).parents[2]


@pytest.fixture
def system(emulators: dict[str, str]) -> Iterator[System]:
    made = System(emulators, {})
    yield made
    made.stop()


@pytest.fixture
def start(system: System, tmp_path: Path) -> Iterator[Start]:
    config = tmp_path / "out.json"
    config.write_text(json.dumps(system.data))
    with starting([*FK, "--config", str(config)], dict(os.environ)) as run:
        yield run


def said(process: subprocess.Popen[str], status: int = 0) -> str:
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == status, out + err
    return out


def test_a_lock_is_held_by_one_process_until_its_command_ends(start: Start) -> None:
    first = start("lock", "/jobs/a", "--identifier", "first", "--", "sh", "-c", "echo held; read a; echo $a")
    assert first.stdout is not None
    assert first.stdin is not None
    assert first.stdout.readline() == "held\n"
    said(start("lock", "/jobs/a", "--wait", "0.5", "-E", "9", "--", "true"), 9)
    (row,) = json.loads(said(start("who", "/jobs/a", "--json")))
    assert row["identifier"] == "first"
    first.stdin.write("over\n")
    first.stdin.flush()
    assert said(first) == "over\n"


def test_changes_are_watched_and_shown_and_taken_back(start: Start) -> None:
    watching = start("watch", "/app", "-r", "--since", "0", "--data", "--json", "-n", "2")
    said(start("create", "/app", "one"))
    said(start("set", "/app", "two"))
    changes = [json.loads(line) for line in said(watching).splitlines() if line.startswith("{")]
    assert [(each["event"], each["data"]) for each in changes] == [("created", "one"), ("changed", "two")]
    first = str(changes[0]["txid"])
    assert {"path": "/app", "writes": 2} in json.loads(said(start("top", "--once", "--json")))["paths"]
    rows = [json.loads(line) for line in said(start("history", "/app", "--json")).splitlines()]
    assert [(row["kind"], row["version"]) for row in rows] == [("set", 1), ("created", 0)]
    assert said(start("get", "/app", "--at", first)) == "one\n"
    assert "-one" in said(start("diff", "/app", "--at", first))
    assert "two" in said(start("blame", "/app"))
    said(start("revert", "/app", "--at", first, "--yes"))
    assert said(start("get", "/app")) == "one\n"


def test_each_state_of_a_random_program_is_found_again_on_google_cloud(system: System) -> None:
    with system.client() as client:
        program = Remembered(client, 1, larger=600_000)
        for _ in range(12):
            program.write()
        assert program.agree(0) == len(program.states)
        rows = list(client.history("/", recursive=True))
        assert rows == list(client.history("/", recursive=True, newest_first=False))[::-1]
        assert {row.session for row in rows} == {client.session_id}
