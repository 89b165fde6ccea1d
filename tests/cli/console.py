"""``fk`` in processes of its own, as a person or a script runs it; and a terminal to run it at."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from faaskeeper.testing.patience import PATIENCE_S

ROOT = Path(__file__).parent.parent.parent
FK = [sys.executable, "-m", "faaskeeper.cli"]


class Fk:
    """Runs ``fk`` on a directory of the test's own."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.endswith("_EMULATOR_HOST")},
            "FK_DIRECTORY": str(directory / "data"),
            "XDG_STATE_HOME": str(directory / "state"),
            "XDG_DATA_HOME": str(directory / "share"),
        }
        self.environment.pop("FK_CONFIG", None)

    def run(
        self, *arguments: str, stdin: bytes = b"", command: list[str] | None = None
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [*(command or FK), *arguments],
            input=stdin,
            capture_output=True,
            env=self.environment,
            timeout=PATIENCE_S,
            cwd=ROOT,
            check=False,
        )

    def said(self, *arguments: str, stdin: bytes = b"") -> str:
        done = self.run(*arguments, stdin=stdin)
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()


Start = Callable[..., subprocess.Popen[str]]


@contextmanager
def starting(command: list[str], environment: dict[str, str]) -> Iterator[Start]:
    """Starts a command with other arguments; kills the processes at the end."""
    made: list[subprocess.Popen[str]] = []

    def run(*arguments: str) -> subprocess.Popen[str]:
        made.append(
            subprocess.Popen(
                [*command, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                text=True, cwd=ROOT, env=environment, start_new_session=True,
            )
        )  # fmt: skip
        return made[-1]

    yield run
    for each in made:
        if each.poll() is None:
            each.kill()
        each.communicate(timeout=PATIENCE_S)


class Terminal:
    """A program at a pseudo-terminal."""

    def __init__(self, command: list[str], environment: dict[str, str]) -> None:
        self.pid, self.handle = pty.fork()
        if self.pid == 0:
            os.chdir(ROOT)
            os.execvpe(command[0], command, {**environment, "TERM": "xterm"})
        self.seen = ""

    def wait_for(self, pattern: str) -> str:
        """Read until the pattern is on the screen; returns what came up to its end."""
        while not (found := re.search(pattern, self.seen)):
            ready, _, _ = select.select([self.handle], [], [], PATIENCE_S)
            assert ready, self.seen
            try:
                text = os.read(self.handle, 4096).decode(errors="replace")
            except OSError:
                text = ""
            assert text, f"{pattern} did not come: {self.seen}"
            self.seen += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
            if "\x1b[6n" in text:  # where is the cursor?
                os.write(self.handle, b"\x1b[1;1R")
        before, self.seen = self.seen[: found.end()], self.seen[found.end() :]
        return before

    def type(self, text: str) -> None:
        os.write(self.handle, text.encode())

    def wait(self) -> int:
        """Read to the end; returns the exit status."""
        while True:
            try:
                if not os.read(self.handle, 4096):
                    break
            except OSError:
                break
        os.close(self.handle)
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
