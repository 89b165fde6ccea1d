"""Programs that docs/operations.md has people run by hand."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from faaskeeper.testing.patience import PATIENCE_S

ROOT = Path(__file__).parent.parent
OPERATIONS = (ROOT / "docs" / "operations.md").read_text()


def program(naming: str) -> str:
    """The one program of the page that names this."""
    found = re.findall(r"^python - .*?<<'PY'\n(.*?)^PY$", OPERATIONS, re.DOTALL | re.MULTILINE)
    (one,) = (each for each in found if naming in each)
    return str(one)


def run(source: str, directory: Path, *arguments: str, environment: Mapping[str, str] | None = None) -> None:
    """Run a program in a directory."""
    done = subprocess.run(
        [sys.executable, "-", *arguments], input=source, capture_output=True, text=True, check=False,
        env=None if environment is None else {**environment, "PYTHONPATH": str(ROOT)}, cwd=directory,
        timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
