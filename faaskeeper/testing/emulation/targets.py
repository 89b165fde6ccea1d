"""Cloud Functions on one machine: targets of the Functions Framework, each a process.

A killed target is started again on the same port, as the platform starts another instance; a caller
is refused meanwhile, and retries by its own rules. :class:`Unruly` stands between a queue and a
target and does what queues may do and emulators do not.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from faaskeeper.testing.emulation import processes
from faaskeeper.testing.patience import PATIENCE_S

_POLL_S = 0.02


class CallFailed(Exception):
    """The function answered with an error, or not at all."""


class Target:
    """One function.

    ``source``: the file whose function ``name`` is served; ``output``: where what it says goes;
    ``port``: a free one; ``threads``: requests that an instance serves at a time.
    """

    def __init__(
        self,
        name: str,
        source: Path,
        environment: Mapping[str, str],
        output: Path,
        port: int,
        *,
        threads: int = 16,
    ) -> None:
        self.name = name
        self.url = f"http://127.0.0.1:{port}/"
        self.starts = 0
        self._source = source
        self._environment = {**environment, "K_SERVICE": name, "THREADS": str(threads)}
        self._output = output
        self._port = port
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; :meth:`wait` waits until it answers."""
        with self._lock, self._output.open("ab") as stream:
            self.starts += 1
            command = [sys.executable, "-m", "functions_framework", f"--target={self.name}"]
            command += [f"--source={self._source}", "--host=127.0.0.1", f"--port={self._port}"]
            self._process = processes.start(
                command, env={**os.environ, **self._environment}, stdout=stream, stderr=stream
            )

    def wait(self) -> None:
        """Wait until it answers, with success or an error."""
        deadline = time.monotonic() + PATIENCE_S
        while time.monotonic() < deadline:
            try:
                self.call(None)
            except CallFailed as error:
                if isinstance(error.__cause__, urllib.error.HTTPError):
                    return
            else:
                return
            if self._process is not None and self._process.poll() is not None:
                break
            time.sleep(_POLL_S)
        raise CallFailed(f"{self.name} does not answer: {self._output.read_text()}")

    def call(self, body: bytes | None, headers: Mapping[str, str] | None = None) -> bytes:
        """POST a body (None: GET) and wait for the answer. Raises CallFailed."""
        request = urllib.request.Request(self.url, body, dict(headers or {}))
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE_S) as response:
                answer: bytes = response.read()
                return answer
        except urllib.error.HTTPError as error:
            with error:
                said = error.read().decode(errors="replace")
            raise CallFailed(f"{self.name} answered {error.code}: {said}") from error
        except OSError as error:
            raise CallFailed(f"{self.name}: {error}") from error

    @property
    def ended(self) -> bool:
        """Whether it was started, and its process has ended by itself."""
        process = self._process
        return process is not None and process.poll() is not None

    def kill(self) -> None:
        """Kill the server and its workers."""
        with self._lock:
            process, self._process = self._process, None
        if process is not None:
            processes.kill(process)

    def crash(self) -> None:
        """Kill it and start it again."""
        self.kill()
        self.start()


class Unruly:
    """A proxy that reorders messages, delivers them twice, and reports finished ones as failed.

    ``late_s``: how long a message is held at most; ``twice``, ``undone``: the chances of the
    others.
    """

    def __init__(
        self, target: Target, seed: int, *, late_s: float = 0.05, twice: float = 0.2, undone: float = 0.1
    ) -> None:
        self.target = target
        self.happened = {"twice": 0, "undone": 0}
        self._random = random.Random(seed)
        self._lock = threading.Lock()
        unruly = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                done = unruly._pass_on(body, dict(self.headers))
                self.send_response(204 if done else 503)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                """Log nothing."""

        self._late_s, self._twice, self._undone = late_s, twice, undone
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"

    def _pass_on(self, body: bytes, headers: dict[str, str]) -> bool:
        with self._lock:
            late = self._random.random() * self._late_s
            twice = self._random.random() < self._twice
            undone = self._random.random() < self._undone
            self.happened["twice"] += twice
            self.happened["undone"] += undone
        time.sleep(late)
        try:
            for _ in range(2 if twice else 1):
                self.target.call(body, headers)
        except CallFailed:
            return False
        return not undone

    def stop(self) -> None:
        """Stop the proxy."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
