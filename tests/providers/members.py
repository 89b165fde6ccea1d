"""Processes that share one embedded service, for tests: each has a client, and does what it is told.

A member evaluates the expressions that it reads, one a line, and answers each with JSON. It ends with its
input, which ends with the test.
"""

from __future__ import annotations

import json
import os
import resource
import select
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError
from faaskeeper.exceptions import BadVersionError, FaaSKeeperException, ProviderException
from faaskeeper.providers.local.services import Services, services
from faaskeeper.recipes import Lock
from faaskeeper.testing.patience import PATIENCE_S

ROOT = Path(__file__).parent.parent.parent


class Member:
    """A process with a client of a directory.

    ``options``: of the client; ``heartbeat``: of the service, if this starts one: its period in s.
    """

    def __init__(self, directory: Path, **options: Any) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.providers.members", str(directory), json.dumps(options)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            cwd=ROOT,
            text=True,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        try:
            self.session: str = self.read()
        except BaseException:
            self.kill()
            raise

    @property
    def pid(self) -> int:
        return self.process.pid

    def read(self, within: float = PATIENCE_S) -> Any:
        """What it answers next. Raises RuntimeError with its error."""
        assert self.process.stdout is not None
        assert select.select([self.process.stdout], [], [], within)[0], "the member does not answer"
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the member has ended")
        answer = json.loads(line)
        if isinstance(answer, dict) and "error" in answer:
            raise RuntimeError(answer["error"])
        return answer

    def ask(self, expression: str) -> None:
        """Have it evaluate an expression, and do not wait."""
        assert self.process.stdin is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()

    def do(self, expression: str, within: float = PATIENCE_S) -> Any:
        """Have it evaluate an expression; returns its value, as JSON gives it."""
        self.ask(expression)
        return self.read(within)

    def until(self, expression: str) -> Any:
        """Have it evaluate an expression until that is true; returns its value."""
        deadline = time.monotonic() + PATIENCE_S
        while not (found := self.do(expression)):
            assert time.monotonic() < deadline, expression
        return found

    def kill(self) -> None:
        """End it without a word."""
        self.process.kill()
        self._ended()

    def end(self) -> None:
        """End it in order."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._ended()

    def _ended(self) -> None:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.wait(PATIENCE_S)
        self.process.stdin.close()
        self.process.stdout.close()


Join = Callable[..., Member]
"""Starts a member, by the fixture ``join``."""


def owner_of(directory: Path) -> int:
    """The id of the process that has a directory, as far as is known: it may be about to."""
    try:
        return int(json.loads((directory / "owner.lock").read_text())["pid"])
    except (OSError, ValueError):
        return 0


def wait_for(condition: Callable[[], object]) -> None:
    """Wait until a condition holds."""
    deadline = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < deadline
        threading.Event().wait(0.01)


def joining(config: Config, **options: Any) -> FaaSKeeperClient:
    """A client that joins, although its process may have the directory."""
    services = Services()

    def connect(config: Config, port: int) -> Connection:
        try:
            return services.connect(config, port)
        except DriverError as error:
            raise ProviderException(str(error)) from error

    return FaaSKeeperClient(config, connect=connect, **options)


class Load:
    """Writes and reads for as long as it runs, and keeps what was acknowledged.

    Each turn creates a znode, raises a counter by compare and set, and reads the counter. What was
    acknowledged is written to a file, which outlives the process: see :func:`acknowledged`.
    """

    def __init__(self, client: FaaSKeeperClient, name: str, folder: str) -> None:
        self._client = client
        self._name = name
        self._file = os.open(f"{folder}/{name}.acknowledged", os.O_WRONLY | os.O_CREAT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.created = 0
        """The znodes that exist as far as it knows, numbered from 0."""
        self.raised = 0
        self.wrong: list[str] = []
        self.longest = 0.0
        """The longest time that a turn took."""

    def begin(self) -> None:
        self._note()
        self._thread.start()

    def end(self) -> dict[str, Any]:
        self._stop.set()
        self._thread.join()
        return {"wrong": self.wrong, "longest": self.longest}

    def _note(self) -> None:
        os.pwrite(self._file, b"%09d %09d" % (self.created, self.raised), 0)

    def _run(self) -> None:
        shown = 0
        while not self._stop.is_set():
            began = time.monotonic()
            try:
                self._client.create(f"/load/{self._name}-{self.created}")
                self.created += 1
                self._note()
                node = self._client.get_data("/counter")
                value = int(node.data)
                if value < shown:
                    self.wrong.append(f"the counter went from {shown} back to {value}")
                shown = value
                try:
                    self._client.set_data("/counter", b"%d" % (value + 1), node.stat.version)
                    self.raised += 1
                    self._note()
                    shown = value + 1
                except BadVersionError:
                    pass  # another member was faster
                if int(self._client.get_data("/counter").data) < shown:
                    self.wrong.append(f"a read does not show {shown}, which was written before")
            except FaaSKeeperException as error:
                self.wrong.append(repr(error))
                return
            self.longest = max(self.longest, time.monotonic() - began)


def acknowledged(folder: Path, name: str) -> tuple[int, int]:
    """How many znodes a load has created, and how often it has raised the counter, at the least."""
    created, raised = (folder / f"{name}.acknowledged").read_text().split()
    return int(created), int(raised)


def main() -> None:
    options = json.loads(sys.argv[2])
    data = {"cloud-provider": "local", "deployment-name": "local", "directory": sys.argv[1]}
    if "heartbeat" in options:
        data["heartbeat-frequency"] = options.pop("heartbeat")
    client = FaaSKeeperClient(Config.deserialize(data), **options)
    states: list[str] = []
    events: list[list[Any]] = []
    client.add_listener(lambda state: states.append(state.value))
    names: dict[str, Any] = {
        "client": client,
        "states": states,
        "events": events,
        "noting": lambda event: events.append([str(event.event_type), event.path]),
        "Lock": Lock,
        "Load": Load,
        "link": lambda: client.connection.on_failure.__self__,  # type: ignore[attr-defined]
        "host": lambda: services.owned(sys.argv[1])._host,  # type: ignore[union-attr]
        "os": os,
        "resource": resource,
        "time": time,
        "kept": {},
    }
    try:
        print(json.dumps(client.start()), flush=True)
    except FaaSKeeperException as error:
        print(json.dumps({"error": str(error)}), flush=True)
        return
    for line in sys.stdin:
        try:
            answer = eval(line, names)
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer, default=lambda value: value.decode()), flush=True)
    client.stop()


if __name__ == "__main__":
    main()
