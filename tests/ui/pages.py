"""``fk ui`` in a process of its own, and requests to it without a browser."""

from __future__ import annotations

import http.client
import json
import os
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from time import monotonic
from typing import Any, ClassVar
from urllib.parse import urlencode

from faaskeeper.testing.emulation import processes
from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import FK, ROOT

SUPER = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
"""Of ``super:test``."""


class Page:
    """The page of an embedded service in a directory, or of a configuration."""

    made: ClassVar[list[Page]] = []

    def __init__(
        self,
        directory: Path,
        *options: str,
        config: dict[str, Any] | None = None,
        where: list[str] | None = None,
        environment: dict[str, str] | None = None,
        port: int = 0,
    ) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        embedded = {
            "cloud-provider": "local",
            "deployment-name": "page",
            "directory": str(directory / "data"),
            "heartbeat-frequency": 1,
            "super-digest": SUPER,
        }
        self.file = directory / "config.json"
        self.file.write_text(json.dumps(config or embedded))
        self.options = options
        self.where = where or ["-c", str(self.file)]
        self.environment = {**os.environ, **(environment or {})}
        self.log = directory / "page.log"
        self.port = port
        self.said: dict[str, Any] = {}
        self.process: subprocess.Popen[bytes] | None = None
        self.cookie = ""
        self.made.append(self)
        self.start()

    def start(self) -> None:
        """Start, at the port of before if there was one; returns when it is served."""
        listen = [] if "--listen" in self.options else ["--listen", f"127.0.0.1:{self.port}"]
        command = [*FK, *self.where, "ui", "--json", *listen, *self.options]
        said = self.log.with_name("said")
        with self.log.open("ab") as log, said.open("wb") as out:
            self.process = processes.start(command, stdout=out, stderr=log, cwd=ROOT, env=self.environment)
        while not (line := said.read_bytes()).endswith(b"\n"):
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            self.kill()
            raise RuntimeError(self.log.read_text())
        self.said = json.loads(line)
        self.port = int(self.said["address"].rstrip("/").rpartition(":")[2])

    @property
    def address(self) -> str:
        return str(self.said["address"])

    def kill(self) -> None:
        """End it without a word."""
        assert self.process is not None
        processes.kill(self.process)

    def stop(self) -> int:
        """End it in order; returns its exit status."""
        assert self.process is not None
        if self in self.made:
            self.made.remove(self)
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE_S)
        self.kill()
        return status

    # ---- requests ------------------------------------------------------------------------

    def connect(self) -> http.client.HTTPConnection:
        if self.address.startswith("https"):
            context = ssl.create_default_context()
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=PATIENCE_S, context=context)
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_S)

    def ask(
        self,
        method: str,
        route: str,
        body: bytes | dict[str, Any] | None = None,
        headers: dict[str, str] | None = None,
        /,
        **query: Any,
    ) -> Answer:
        """A request as the page makes it; ``headers`` replace what it sends, "" leaves one out."""
        sent = {"X-FK-UI": "1", **({"Cookie": self.cookie} if self.cookie else {}), **(headers or {})}
        if isinstance(body, dict):
            body = json.dumps(body).encode()
        connection = self.connect()
        try:
            words = f"?{urlencode(query, doseq=True)}" if query else ""
            connection.request(method, route + words, body, {k: v for k, v in sent.items() if v})
            return Answer(connection.getresponse())
        finally:
            connection.close()

    def get(self, route: str, /, **query: Any) -> Any:
        """What a route under /api says."""
        answer = self.ask("GET", f"/api/{route}", **query)
        assert answer.status == 200, answer.body
        return answer.json

    def log_in(self, secret: str, user: str = "") -> Answer:
        answer = self.ask("POST", "/login", {"user": user, "secret": secret})
        if answer.status == 200:
            self.cookie = answer.headers["Set-Cookie"].partition(";")[0]
        return answer

    def events(self, since: int | None = None) -> Iterator[dict[str, Any]]:
        """Batches of the stream of events, each with its id."""
        connection = self.connect()
        try:
            headers = {"Last-Event-ID": str(since)} if since is not None else {}
            connection.request("GET", "/api/events", headers={**headers, "Cookie": self.cookie})
            answer = connection.getresponse()
            assert answer.status == 200
            id, deadline = "", monotonic() + PATIENCE_S
            while (line := answer.readline()) and monotonic() < deadline:
                name, _, value = line.decode().rstrip("\n").partition(": ")
                if name == "id":
                    id = value
                elif name == "data":
                    yield {"id": id, **json.loads(value)}
        finally:
            connection.close()


class Answer:
    """The server's answer."""

    def __init__(self, response: http.client.HTTPResponse) -> None:
        self.status = response.status
        self.headers = response.headers
        self.body = response.read()

    @property
    def json(self) -> Any:
        return json.loads(self.body)
