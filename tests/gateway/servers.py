"""Server processes for tests: ``fk serve``, each in places of its own, killed for real."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

from faaskeeper.testing.emulation import processes
from faaskeeper.testing.patience import PATIENCE_S


class Server:
    """``fk serve`` on an embedded service in a directory, or on a configuration's deployment."""

    made: ClassVar[list[Server]] = []
    """All that may run still."""

    def __init__(
        self,
        directory: Path,
        *options: str,
        config: dict[str, Any] | None = None,
        port: int = 0,
        usual: bool = True,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        file = directory / "config.json"
        embedded = {
            "cloud-provider": "local",
            "deployment-name": "gateway",
            "directory": str(directory / "data"),
            "heartbeat-frequency": 1,
            "super-digest": "super:D/InIHSb7yEEbrWz8b9l71RjZJU=",
        }
        file.write_text(json.dumps({**(embedded if usual else {}), **(config or {})}))
        self._command = [sys.executable, "-m", "faaskeeper.cli", "serve", str(file)]
        self._options = options
        self.log = directory / "log"
        self.port = port
        self.process: subprocess.Popen[bytes] | None = None
        self.made.append(self)
        self.start()

    def start(self) -> None:
        """Start, at the port of before if there was one; returns when clients may connect."""
        listen = ("--listen", f"127.0.0.1:{self.port}")
        before = self.log.stat().st_size if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = processes.start([*self._command, *listen, *self._options], stderr=log, stdout=log)
        while True:
            text = self.log.read_bytes()[before:].decode()
            found = re.search(r"serving .* on [\d.]+:(\d+)", text)
            if found:
                self.port = int(found[1])
                return
            if self.process.poll() is not None:
                self.kill()  # its watcher runs still
                raise RuntimeError(text)
            self._nap()

    def _nap(self) -> None:
        assert self.process is not None
        try:
            self.process.wait(0.02)
        except subprocess.TimeoutExpired:
            return

    @property
    def text(self) -> str:
        """What the server has logged."""
        return self.log.read_text()

    def kill(self) -> None:
        """End it without a word."""
        assert self.process is not None
        processes.kill(self.process)

    def stop(self) -> int:
        """End it in order; returns its exit status."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        if self in self.made:
            self.made.remove(self)
        status = self.process.wait(PATIENCE_S)
        processes.kill(self.process)
        return status
