"""The examples of docs/holding.md run, and print what the page says."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import ROOT, Fk

PAGE = (ROOT / "docs" / "holding.md").read_text()
EXAMPLES: list[tuple[str, str]] = re.findall(
    r"^```sh\n(.*?)^```\n\n```text\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE
)
"""Commands, and their output; '…' stands for anything within a line."""


@pytest.mark.parametrize(("commands", "output"), EXAMPLES, ids=[each[0].split("\n")[0] for each in EXAMPLES])
def test_an_example_prints_what_the_page_says(commands: str, output: str, tmp_path: Path) -> None:
    fk = tmp_path / "bin" / "fk"
    fk.parent.mkdir()
    fk.write_text(f'#!/bin/sh\nexec {sys.executable} -m faaskeeper.cli "$@"\n')
    fk.chmod(0o755)
    environment = {
        **Fk(tmp_path).environment,
        "PATH": f"{fk.parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
    }
    done = subprocess.run(
        ["bash", "-e", "-c", commands], env=environment, cwd=tmp_path, timeout=PATIENCE_S, check=False,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout
    pattern = ".*".join(re.escape(each) for each in output.split("…"))
    assert re.fullmatch(pattern, done.stdout), done.stdout
