"""Runs the code of a page of the documentation, as a reader would: from top to bottom, in one folder.

What a block is, its fence says:

* ``python title="name.py"`` (or another language with a title) is a file;
* ``python`` is a program, ``sh`` commands; a ``text`` block right after it is what it prints;
* ``console`` has commands behind ``$``, what they print, and ``[N]`` where one exits with N;
* ``console title="First terminal"`` is one of several terminals: its last command may run on, and a later
  block with this title says what it prints then. At the end of the page it is killed.

In what is printed ``...`` stands for any lines, or for anything within a line. A comment before a block,
``<!-- not run: reason -->``, exempts it; ``<!-- run until it prints this -->`` is for a look at what another
program is about to do. Ports of 127.0.0.1 are replaced by free ones.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from faaskeeper.testing.emulation import processes
from faaskeeper.testing.patience import PATIENCE_S
from tests.backends import free_port

ROOT = Path(__file__).parent.parent
_BLOCK = re.compile(
    r"(?:<!-- not run: (?P<reason>[^>]+?)\s-->\s*)?(?P<again><!-- run until it prints this -->\s*)?"
    r"^(?P<indent> *)```(?P<language>[a-z]*)(?: title=\"(?P<title>[^\"]+)\")?\n(?P<text>.*?)^ *```$",
    re.DOTALL | re.MULTILINE,
)


class Block(NamedTuple):
    """A block of code. ``line``: of the page; ``near``: only space is between it and the one before."""

    language: str
    title: str
    text: str
    reason: str
    again: bool
    line: int
    near: bool


def blocks(page: str) -> list[Block]:
    found: list[Block] = []
    end = 0
    for each in _BLOCK.finditer(page):
        text = re.sub(rf"^{each['indent']}", "", each["text"], flags=re.MULTILINE)
        near = bool(found) and not page[end : each.start()].strip()
        line = page.count("\n", 0, each.start("language")) + 1
        found.append(
            Block(
                each["language"],
                each["title"] or "",
                text,
                each["reason"] or "",
                bool(each["again"]),
                line,
                near,
            )
        )
        end = each.end()
    return found


class Step:
    """A command of a console, what it prints, and its status."""

    def __init__(self, command: str) -> None:
        self.command = command
        self.lines: list[str] = []
        self.status = 0


def steps(text: str) -> Iterator[Step]:
    """The commands of a console. The first has none if the block goes on with what one prints."""
    step = Step("")
    for line in text.splitlines():
        if line.startswith("$ "):
            if step.command or step.lines:
                yield step
            step = Step(line[2:])
        elif line.startswith("> ") and step.command and not step.lines:
            step.command += "\n" + line[2:]
        elif re.fullmatch(r"\[\d+\]", line):
            step.status = int(line[1:-1])
        else:
            step.lines.append(line)
    yield step


def pattern(lines: list[str]) -> re.Pattern[str]:
    """What matches the lines; shortest first, as more may follow."""
    parts = []
    for line in lines:
        if line.strip() in ("...", "…"):
            parts.append("(?:.*\n)*?")
        else:
            parts.append(".*?".join(re.escape(part) for part in re.split(r"\.\.\.|…", line)) + "\n")
    return re.compile("".join(parts))


class Program:
    """A running command and what it has printed."""

    def __init__(self, command: list[str], environment: dict[str, str], directory: Path) -> None:
        self.command = command[-1]
        self.process = processes.start(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment, cwd=directory
        )
        self._said = ""
        self._closed = False
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self._killing = threading.Lock()
        self._waiter = threading.Thread(target=self._wait)
        self._waiter.start()

    def _wait(self) -> None:
        """End what the command has left behind: it holds the pipe."""
        self.process.wait()
        self._kill()

    def _kill(self) -> None:
        with self._killing:
            processes.kill(self.process)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self._said += line.decode(errors="replace")
                self._changed.notify_all()
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def prints(self, lines: list[str]) -> None:
        """Wait until it has printed these lines, next."""
        wanted = pattern(lines)
        with self._changed:
            self._changed.wait_for(lambda: wanted.match(self._said) or self._closed, PATIENCE_S)
            found = wanted.match(self._said)
            assert found, f"$ {self.command}\nprinted\n{self._said}\ninstead of\n" + "\n".join(lines)
            self._said = self._said[found.end() :]

    def ends(self, lines: list[str], status: int) -> None:
        """Wait for its end: then it has printed these lines and no others."""
        ended = self.process.wait(PATIENCE_S)
        self.close()
        wanted = pattern(lines)
        printed = f"$ {self.command}\nprinted\n{self._said}\n"
        assert wanted.fullmatch(self._said), f"{printed}instead of\n" + "\n".join(lines)
        assert ended == status, f"{printed}and exited with {ended}, not {status}"

    def ended_with(self, lines: list[str]) -> bool:
        """Wait for its end; returns whether it has printed these lines and no others."""
        self.process.wait(PATIENCE_S)
        self.close()
        return pattern(lines).fullmatch(self._said) is not None

    def close(self) -> None:
        self._kill()
        self._waiter.join()
        self._reader.join()
        assert self.process.stdout is not None
        self.process.stdout.close()


class Story:
    """A page that is run, in a copy of a folder with what it needs, or in an empty one."""

    def __init__(self, directory: Path, folder: Path | None = None) -> None:
        self.directory = directory
        self.ports: dict[str, str] = {}
        self.terminals: dict[str, Program] = {}
        programs = directory / ".programs"
        programs.mkdir()
        for name, command in (("fk", f"{sys.executable} -m faaskeeper.cli"), ("python", sys.executable)):
            (programs / name).write_text(f'#!/bin/sh\nexec {command} "$@"\n')
            (programs / name).chmod(0o755)
        left_out = ("FK_", "AWS_", "GOOGLE_", "XDG_")
        self.environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(left_out)},
            "AWS_EC2_METADATA_DISABLED": "true",
            "HOME": str(directory),
            "PATH": f"{programs}:{os.environ['PATH']}",
            "PYTHONPATH": str(ROOT),
            "PYTHONUNBUFFERED": "1",
            "TZ": "UTC",
        }
        self.work = directory / "work"
        if folder is None:
            self.work.mkdir()
        else:
            shutil.copytree(folder, self.work, ignore=shutil.ignore_patterns("__pycache__", "service"))

    def _real(self, text: str) -> str:
        """A text with ports and places of its own."""

        def port(found: re.Match[str]) -> str:
            return self.ports.setdefault(found[0], str(free_port()))

        return re.sub(
            r"(?<=127\.0\.0\.1:)\d{4,5}", port, text.replace("/tmp/first-program", str(self.work / "first"))
        )

    def _started(self, command: list[str]) -> Program:
        return Program(command, self.environment, self.work)

    def run(self, page: str) -> None:
        every = blocks(page)
        try:
            for at, block in enumerate(every):
                after = every[at + 1] if at + 1 < len(every) else None
                printed = after.text if after and after.language == "text" and after.near else None
                if not block.reason:
                    self._block(block, printed)
        finally:
            for program in self.terminals.values():
                program.close()

    def _block(self, block: Block, printed: str | None) -> None:
        text = self._real(block.text)
        if block.language == "console":
            self._console(block.title, text, block.again)
        elif block.title:
            (self.work / block.title).parent.mkdir(parents=True, exist_ok=True)
            (self.work / block.title).write_text(text)
        elif block.language in ("python", "sh"):
            command = (
                [sys.executable, "-c", text] if block.language == "python" else ["bash", "-e", "-c", text]
            )
            lines = ["..."] if printed is None else self._real(printed).splitlines()
            self._started(command).ends(lines, 0)

    def _console(self, title: str, text: str, again: bool) -> None:
        every = list(steps(text))
        for step in every:
            if not step.command:
                self.terminals[title].prints(step.lines)
                continue
            program = self._started(["bash", "-c", step.command])
            deadline = time.monotonic() + PATIENCE_S
            while again and not program.ended_with(step.lines) and time.monotonic() < deadline:
                program = self._started(["bash", "-c", step.command])
            if title and step is every[-1] and step.lines:
                if before := self.terminals.get(title):
                    before.close()
                self.terminals[title] = program
                program.prints(step.lines)
            else:
                program.ends(step.lines, step.status)
