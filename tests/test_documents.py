"""What people read is true: the README's program runs, and documents name what is there."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests.gateway.servers import Server

ROOT = Path(__file__).parent.parent
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])


PROGRAMS: list[str] = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def ran(program: str, directory: Path, address: str = "") -> str:
    """What a program of the README prints, with files in a directory, or a server, of the test's own."""
    script = program.replace("/tmp/first-program", str(directory)).replace("127.0.0.1:2181", address)
    assert script != program
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE_S, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_first_program_of_the_readme_runs_twice(tmp_path: Path) -> None:
    for turn in range(2):
        said = ran(PROGRAMS[0], tmp_path)
        assert "changed: /greeting" in said
        assert f"/member-{turn + 1:010d}" in said or turn == 1


def test_the_program_of_the_readme_that_speaks_zookeeper_runs(tmp_path: Path) -> None:
    (program,) = (each for each in PROGRAMS if "KazooClient" in each)
    server = Server(tmp_path)
    assert ran(program, tmp_path, f"127.0.0.1:{server.port}") == "holding it\n"
    assert server.stop() == 0


def test_every_other_program_of_the_readme_runs(tmp_path: Path) -> None:
    assert "holding it with the fencing token" in ran(PROGRAMS[1], tmp_path)
    for turn in range(2):
        said = ran(PROGRAMS[2], tmp_path)
        for part in ("NodeDataChanged", "/mine", "b'2'", f"{2 + turn}"):  # two threads print
            assert part in said


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_that_documents_link_to_are_there(document: Path) -> None:
    for target in re.findall(r"\]\((?!https?:)([^)#]+)", document.read_text()):
        assert (document.parent / target).exists(), target


def test_modules_that_the_architecture_names_are_there() -> None:
    text = (ROOT / "docs" / "architecture.md").read_text()
    for module in re.findall(r"`((?:core|client|providers)/[a-z_/]+\.py)`", text):
        assert (ROOT / "faaskeeper" / module).exists(), module


def test_targets_that_the_readme_types_are_in_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"make (?:-s )?([a-z-]+)", (ROOT / "README.md").read_text()):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
