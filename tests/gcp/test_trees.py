"""The commands on znodes and on trees, on Google Cloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.trees import (
    commands_on_trees_work,
    commands_on_znodes_work,
    trees_move_between_deployments,
)
from tests.gcp.system import System

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def system(emulators: dict[str, str]) -> Iterator[System]:
    made = System(emulators, {})
    yield made
    made.stop()


Run = Callable[..., str]


@pytest.fixture
def out(system: System, tmp_path: Path) -> Path:
    """The deployment's configuration."""
    file = tmp_path / "out.json"
    file.write_text(json.dumps(system.data))
    return file


@pytest.fixture
def fk(out: Path) -> Run:
    def run(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "faaskeeper.cli", "-c", str(out), *arguments],
            input=stdin, capture_output=True, text=True, env=dict(os.environ), cwd=ROOT,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    return run


def test_commands_on_znodes_and_trees_work_on_google_cloud(system: System, fk: Run) -> None:
    commands_on_znodes_work(lambda lines: fk("shell", stdin=lines.decode()))
    with system.client() as client:
        commands_on_trees_work(client, fk)


def test_trees_move_to_google_cloud_and_back(fk: Run, out: Path, tmp_path: Path) -> None:
    trees_move_between_deployments(fk, out, tmp_path)


def test_a_node_is_edited_on_google_cloud(fk: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDITOR", "sed -i s/true/false/")
    fk("create", "/app.json", '{"debug": true}')
    assert fk("edit", "/app.json") == "Set /app.json, version 1\n"
    assert fk("get", "/app.json") == '{"debug": false}\n'
