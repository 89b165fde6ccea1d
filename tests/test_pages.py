"""Every block of code of the documentation runs, or says why it does not."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from shutil import which

import pytest

from faaskeeper.testing.patience import PATIENCE_S
from tests.backends import CURATOR, CURATOR_WHERE, needs
from tests.pages import Block, Story, blocks
from tests.test_documents import CHANGES, DOCUMENTS, ROOT, name_of

ELSEWHERE = {
    "README.md": ("python",),  # tests/test_documents.py
    "docs/asyncio.md": ("python",),  # tests/test_documents.py
    "docs/commands.md": ("console",),  # tests/test_commands_page.py
    "docs/history.md": ("console", "python"),  # tests/cli/test_history.py; python: an outline of calls
    "docs/holding.md": ("sh",),  # tests/cli/test_documented_commands.py
    "docs/migrating.md": ("sh", "json"),  # tests/test_migrating.py
    "docs/tutorial/tour.md": ("python",),  # tests/test_documents.py
}
"""Pages whose blocks in these languages are run by a test of their own."""
STORIES = sorted(
    [
        ROOT / "docs" / "README.md",
        ROOT / "docs" / "comparison.md",
        ROOT / "docs" / "ui.md",
        *(page for page in (ROOT / "examples").glob("*/README.md") if page.parent.name != "redis"),
        *(
            page
            for folder in ("tutorial", "howto", "reference")
            for page in (ROOT / "docs" / folder).glob("*.md")
            if name_of(page) not in ELSEWHERE
        ),
    ]
)
"""Pages that are run here."""
NO_CODE = ("", "text", "mermaid")
"""Output, synopses and pictures."""


def unexplained(document: Path, found: list[Block]) -> list[str]:
    """Blocks of code that no test runs, and that do not say why."""
    ran = ELSEWHERE.get(name_of(document), ())
    return [
        f"{name_of(document)}:{block.line}: {block.language}"
        for block in found
        if block.language not in (*NO_CODE, *ran) and not block.reason and document not in STORIES
    ]


@pytest.mark.parametrize("document", [each for each in DOCUMENTS if each != CHANGES], ids=name_of)
def test_each_block_of_code_is_run_or_says_why_not(document: Path) -> None:
    assert unexplained(document, blocks(document.read_text())) == []


@pytest.mark.parametrize("page", STORIES, ids=name_of)
def test_a_page_does_what_it_says(page: Path, tmp_path: Path) -> None:
    example = page.is_relative_to(ROOT / "examples")
    text = page.read_text()
    if page.parent.name == "curator":
        needs("Curator", CURATOR.exists() and which("java"), CURATOR_WHERE)
    for program in ("curl", "openssl"):
        if re.search(rf"^(\$ )?{program} ", text, re.MULTILINE):
            needs(program, which(program), f"'apt-get install {program}' installs it")
    Story(tmp_path, page.parent if example else None).run(text)


def test_the_shell_prints_what_the_readme_shows(tmp_path: Path) -> None:
    (session,) = (
        each.text for each in blocks((ROOT / "README.md").read_text()) if each.text.startswith("[fk: ")
    )
    typed = re.findall(r"^\[fk: .*?\] (.*)$", session, re.MULTILINE)
    printed = [line for line in session.splitlines() if not line.startswith("[fk: ")]
    command = [sys.executable, "-m", "faaskeeper.cli", "-d", str(tmp_path / "service"), "shell"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "HOME": str(tmp_path)}
    done = subprocess.run(
        command,
        input="".join(f"{line}\n" for line in typed),
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == sorted(printed)  # an event has a thread of its own


def test_a_look_is_repeated_until_it_prints_what_the_page_says(tmp_path: Path) -> None:
    command = "echo x >> tries; wc -l < tries"
    Story(tmp_path).run(f"<!-- run until it prints this -->\n```console\n$ {command}\n3\n```\n")


def test_what_a_page_says_wrongly_is_found(tmp_path: Path) -> None:
    assert unexplained(ROOT / "docs" / "architecture.md", blocks("```sh\nls\n```\n")) != []
    assert (
        unexplained(ROOT / "docs" / "architecture.md", blocks("<!-- not run: a root -->\n```sh\nls\n```\n"))
        == []
    )
    for number, wrong in enumerate(
        (
            "```console\n$ echo one\ntwo\n```\n",
            "```console\n$ false\n```\n",
            '```console title="A"\n$ echo one; exec tail -f /dev/null\none\n```\n'
            '```console title="A"\n$ echo a\nb\n```\n',
            "```sh\nfalse\n```\n",
            "<!-- run until it prints this -->\n```console\n$ echo one; exit 1\none\n```\n",
            "```python\nprint(1)\n```\n\n```text\n2\n```\n",
        )
    ):
        directory = tmp_path / str(number)
        directory.mkdir()
        with pytest.raises(AssertionError):
            Story(directory).run(wrong)
