"""The commands on trees, on Google Cloud."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.trees import commands_on_trees_work
from tests.gcp.system import System

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture
def system(emulators: dict[str, str]) -> Iterator[System]:
    made = System(emulators, {})
    yield made
    made.stop()


def test_commands_on_trees_work_on_google_cloud(system: System, tmp_path: Path) -> None:
    out = tmp_path / "out.json"
    out.write_text(json.dumps(system.data))

    def fk(*arguments: str, stdin: str = "") -> str:
        done = subprocess.run(
            [sys.executable, "-m", "faaskeeper.cli", "-c", str(out), *arguments],
            input=stdin, capture_output=True, text=True, env=dict(os.environ), cwd=ROOT,
            timeout=PATIENCE_S, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    with system.client() as client:
        commands_on_trees_work(client, fk)
