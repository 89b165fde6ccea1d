"""Programs of the examples, as processes that print and are killed."""

from __future__ import annotations

import json
import os
import queue
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.recipes import DataWatch
from faaskeeper.testing.emulation import processes
from faaskeeper.testing.patience import PATIENCE_S

ROOT = Path(__file__).parents[2]


def copied(example: str, directory: Path) -> Path:
    """A copy of an example, to run in: it keeps its service there."""
    folder = directory / example
    shutil.copytree(
        ROOT / "examples" / example, folder, ignore=shutil.ignore_patterns("__pycache__", "service")
    )
    return folder


def config(folder: Path) -> Config:
    """The example's service, for the test's own client."""
    data = json.loads((folder / "service.json").read_text())
    return Config.deserialize({**data, "directory": str(folder / data["directory"])})


class Program:
    """A running program; all programs print into one queue, as (name, line)."""

    running: ClassVar[list[Program]] = []

    def __init__(self, folder: Path, said: queue.Queue[tuple[str, str]], name: str, *command: str) -> None:
        self.name = name
        self._said = said
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONUNBUFFERED": "1"}
        self.process = processes.start(
            command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        self.running.append(self)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._said.put((self.name, line.decode().rstrip("\n")))

    def send(self, signal: int) -> None:
        self.process.send_signal(signal)

    def kill(self) -> None:
        """End it without a word."""
        processes.kill(self.process)
        self._reader.join()
        if self in self.running:
            self.running.remove(self)
            assert self.process.stdout is not None
            self.process.stdout.close()


def python(folder: Path, said: queue.Queue[tuple[str, str]], name: str, *words: str) -> Program:
    """Run a Python program of the example."""
    return Program(folder, said, name, sys.executable, *words)


def heard(
    said: queue.Queue[tuple[str, str]], wanted: Callable[[str, str], bool], into: list[tuple[str, str]]
) -> tuple[str, str]:
    """Wait for a line that is wanted; all lines until then go ``into`` a list."""
    while True:
        try:
            name, line = said.get(timeout=PATIENCE_S)
        except queue.Empty:
            raise AssertionError(f"it was not printed; this was: {into}") from None
        into.append((name, line))
        if wanted(name, line):
            return name, line


def until(client: FaaSKeeperClient, path: str, wanted: Callable[[bytes], bool]) -> bytes:
    """Wait until a node has the data that is wanted."""
    found: queue.Queue[bytes] = queue.Queue()

    def look(data: bytes | None, stat: object) -> bool:
        if data is None or not wanted(data):
            return True
        found.put(data)
        return False

    DataWatch(client, path, look)
    return found.get(timeout=PATIENCE_S)
