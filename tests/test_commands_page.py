"""docs/commands.md is true: each command has a section, its options are named, its examples run."""

from __future__ import annotations

import io
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from faaskeeper.cli.commands import COMMANDS, DEPLOYMENT_COMMANDS
from faaskeeper.cli.groups import grouped
from faaskeeper.cli.main import main

PAGE = (Path(__file__).parent.parent / "docs" / "commands.md").read_text(encoding="utf-8")
SECTIONS = re.split(r"^##+ ", PAGE, flags=re.MULTILINE)[1:]
WITH_EXAMPLES = [section for section in SECTIONS if "```console" in section]


def name_of(section: str) -> str:
    return section.splitlines()[0].replace("`", "")


def section_of(command: str) -> str:
    (found,) = (each for each in SECTIONS if re.search(rf"`fk {command}`", each.splitlines()[0]))
    return found


class Step:
    """A command of an example, what it prints, and its exit status."""

    def __init__(self, line: str) -> None:
        self.line = line
        self.lines: list[str] = []
        self.status = 0


def steps(section: str) -> Iterator[Step]:
    for block in re.findall(r"```console\n(.*?)```", section, re.DOTALL):
        step: Step | None = None
        for line in block.splitlines():
            if line.startswith("$ "):
                if step is not None:
                    yield step
                step = Step(line[2:])
            elif step is not None and re.fullmatch(r"\[\d+\]", line):
                step.status = int(line[1:-1])
            elif step is not None:
                step.lines.append(line)
        if step is not None:
            yield step


def run(line: str, monkeypatch: pytest.MonkeyPatch) -> tuple[str, int]:
    """What ``fk`` prints to both streams, and its status: in this process, as a hundred take too long."""
    words = shlex.split(line)
    stdin = b""
    if words[0] == "printf":
        stdin, words = words[1].replace("\\n", "\n").encode(), words[3:]
    with monkeypatch.context() as patch:
        while "=" in words[0]:
            patch.setenv(*words.pop(0).split("=", 1))
        assert words.pop(0) == "fk"
        out = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
        patch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        patch.setattr(sys, "stdout", out)
        patch.setattr(sys, "stderr", out)
        with pytest.raises(SystemExit) as ended:
            main(words)
        assert isinstance(out.buffer, io.BytesIO)
        return out.buffer.getvalue().decode(), int(ended.value.code or 0)


@pytest.mark.parametrize("section", WITH_EXAMPLES, ids=name_of)
def test_the_examples_print_what_the_page_says(
    section: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in list(os.environ):
        if name.startswith(("FK_", "AWS_")) or name in ("EDITOR", "VISUAL"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "share"))
    limit = sys.getrecursionlimit()
    try:
        for step in steps(section):
            said, status = run(step.line, monkeypatch)
            expected = "".join(rf"{re.escape(line)}\n" for line in step.lines)
            expected = expected.replace(r"\.\.\.\n", "(.*\n)*").replace(r"\.\.\.", ".*")
            assert re.fullmatch(expected, said), f"{step.line}\n{said}"
            assert status == step.status, step.line
    finally:
        sys.setrecursionlimit(limit)


def test_each_command_has_a_section_with_an_example_in_the_order_of_help() -> None:
    names = [*COMMANDS, *DEPLOYMENT_COMMANDS]
    headings = re.findall(r"^(##+) (.+)$", PAGE, re.MULTILINE)
    group, listed = "", {}
    for level, heading in headings:
        if level == "##":
            group = heading
        for name in re.findall(r"`fk (\w+)`", heading):
            listed[name] = group
    assert [name for name in listed if name in names] == [
        name for _, members in grouped(names) for name in members
    ]
    for heading, members in grouped(names):
        for name in members:
            assert listed[name] == heading
            assert "```console" in section_of(name)
            assert section_of(name).split("```text\n")[1].count(name if name != "getChildren" else "ls")


def test_each_option_of_a_command_is_in_its_section() -> None:
    for name, command in (*COMMANDS.items(), *DEPLOYMENT_COMMANDS.items()):
        section = section_of(name)
        every = command.commands.values() if isinstance(command, click.Group) else [command]
        for option in (each for made in every for each in made.params if isinstance(each, click.Option)):
            assert any(re.search(rf"(?<![\w-]){word}(?![\w-])", section) for word in option.opts), (
                name,
                option.opts,
            )


def test_options_that_the_page_names_exist() -> None:
    for name, command in (*COMMANDS.items(), *DEPLOYMENT_COMMANDS.items()):
        every = command.commands.values() if isinstance(command, click.Group) else [command]
        known = {word for made in every for each in made.params for word in each.opts}
        synopsis = section_of(name).split("```text\n")[1].split("```")[0]
        for word in re.findall(r"(?<![\w-])--?[a-zA-Z0][\w-]*", synopsis):
            assert word in known, (name, word)
