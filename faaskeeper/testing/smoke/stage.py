"""What the gate needs of a cloud, and the commands of ``fk`` that it runs as a person would."""

from __future__ import annotations

import signal
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.testing.smoke.report import Report, Used

Say = Callable[[str], None]
"""Called with a line of progress."""
_LAST_LINES = 5
"""Lines of a command's output that its failure shows."""


class Failed(Exception):
    """A step failed; the message says how."""


class Attempt(NamedTuple):
    """What a client tried and must not be able to do. ``said``: the cloud's answer."""

    what: str
    refused: bool
    said: str


class Files(NamedTuple):
    """The files of a run, in a directory of its own."""

    directory: Path

    @property
    def config(self) -> Path:
        """What is deployed."""
        return self.directory / "config.json"

    @property
    def out(self) -> Path:
        """The clients' configuration."""
        return self.directory / "out.json"

    @property
    def log(self) -> Path:
        """What the commands said."""
        return self.directory / "log.txt"


class Stage(ABC):
    """A cloud, for one run. ``data``: the configuration that is deployed; ``emulated``: it is no cloud."""

    cloud: str
    who: str
    """With whose rights it deploys."""
    unreal: tuple[tuple[str, str], ...] = ()
    """What emulators do not show, and why: lines of their reports."""

    def __init__(self, files: Files, data: dict[str, Any], say: Say) -> None:
        self.files = files
        self.data = data
        self.name: str = data["deployment-name"]
        self.say = say

    @property
    @abstractmethod
    def emulated(self) -> bool:
        """Whether emulators stand for the cloud."""

    @property
    def direct(self) -> bool:
        """Whether clients write by themselves, with rights that other clients do not have."""
        return self.data.get("worker-queue") == "direct"

    @property
    def clients(self) -> Config:
        """The clients' configuration."""
        return Config.load(self.files.out)

    # ---- accounts ------------------------------------------------------------------------

    @abstractmethod
    def prepare(self, report: Report) -> str | None:
        """Make the rights of who deploys.

        This one and others return what came of it; None: no more than that; empty: there was
        nothing to do.
        """

    @abstractmethod
    def deployer(self) -> Mapping[str, str]:
        """The environment of commands that deploy."""

    def remover(self) -> Mapping[str, str]:
        """The environment of commands that remove; of who deploys, as long as there are these rights."""
        return self.deployer()

    @abstractmethod
    def own(self) -> Mapping[str, str]:
        """The environment of commands that look."""

    @abstractmethod
    def deployed(self, report: Report) -> None:
        """Look at what a first deployment has made, and prepare the rights of a client."""

    @abstractmethod
    def second(self, report: Report) -> str | None:
        """Look at what a second deployment has changed."""

    # ---- the suites ----------------------------------------------------------------------

    @abstractmethod
    def renew(self) -> None:
        """Get a client's credentials anew: those of before may end while a suite runs."""

    @abstractmethod
    def connect(self, config: Config, port: int) -> Connection:
        """Connect a client that has a client's rights."""

    @abstractmethod
    def beat(self) -> None:
        """Run heartbeat."""

    @abstractmethod
    def mortal(self) -> tuple[float, float]:
        """For how many seconds a process of a function lives, least and most, while they are to die."""

    @abstractmethod
    def dying(self) -> None:
        """Prepare for functions that die, beside their code."""

    @abstractmethod
    def deaths(self) -> int:
        """How many processes of functions have said that they die, by the cloud's log."""

    @abstractmethod
    def attempts(self) -> list[Attempt]:
        """Try, with a client's credentials, what no client may do."""

    # ---- what it used, and what is left --------------------------------------------------

    @abstractmethod
    def usage(self, began: float, ended: float) -> list[Used]:
        """What the services counted between two moments (s since 1970)."""

    @abstractmethod
    def left(self) -> list[str]:
        """All resources of the run that exist, as the cloud lists them."""

    @abstractmethod
    def remove(self) -> str | None:
        """Remove the rights of a client, before the deployment is removed; may be repeated."""

    @abstractmethod
    def finished(self) -> str | None:
        """Remove the rights of who deploys, after that; may be repeated."""

    @abstractmethod
    def close(self) -> None:
        """Close all connections."""

    # ---- commands ------------------------------------------------------------------------

    def fk(self, environment: Mapping[str, str], *arguments: str) -> str:
        """Run ``fk`` and return what it said. Raises Failed."""
        return self.run(environment, "faaskeeper.cli", *arguments)

    def run(self, environment: Mapping[str, str], module: str, *arguments: str) -> str:
        """Run a module of this package. Its output goes to the log, too. Raises Failed."""
        shown = " ".join(("fk" if module == "faaskeeper.cli" else module, *arguments))
        self.say(shown)
        lines: list[str] = []
        with (
            self.files.log.open("a", encoding="utf-8") as log,
            subprocess.Popen(
                [sys.executable, "-m", module, *arguments],
                env=dict(environment),
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
                text=True,
            ) as process,
        ):
            log.write(f"$ {shown}\n")
            assert process.stdout is not None
            try:
                for line in process.stdout:
                    lines.append(line)
                    log.write(line)
                    log.flush()  # somebody may follow it: a deployment takes minutes
            except BaseException:
                process.send_signal(signal.SIGINT)  # as a terminal does; a removal goes on from there
                raise
        said = "".join(lines)
        if process.returncode:
            told = [line.strip() for line in lines if line.strip()]
            raise Failed(
                f"'{shown}' failed with status {process.returncode}: {' '.join(told[-_LAST_LINES:])}"
            )
        return said

    def deploy(self, environment: Mapping[str, str], *more: str) -> str:
        """``fk deploy service``."""
        files = ("deploy", "service", str(self.files.out), "--config", str(self.files.config))
        return self.fk(environment, *files, *more)
