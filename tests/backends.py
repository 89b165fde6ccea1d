"""What tests need and may be missing, and servers in processes of their own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faaskeeper.testing.patience import PATIENCE_S


def needs(part: str, there: object, where: str = "'make setup' installs it") -> None:
    """Skip the test if a part that it needs is not there; fail where CI=true.

    Tests skip by this only: a part that CI lacks would go unnoticed otherwise.
    """
    if there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{part} is missing, and this is CI: {where}")
    pytest.skip(f"{part} is missing: {where}")


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextmanager
def process(command: list[str], environment: dict[str, str], url: str, cwd: Path) -> Iterator[str]:
    """A server, from when it answers at its URL."""
    with (cwd / "output").open("wb") as output:
        running = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **environment},
            stdout=output,
            stderr=output,
            start_new_session=True,  # some are scripts, whose server must end with them
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                urllib.request.urlopen(url, timeout=5).close()
            except urllib.error.HTTPError as error:
                error.close()
                break  # it answers
            except OSError:
                assert running.poll() is None, (cwd / "output").read_text()
                assert time.monotonic() < deadline, f"{command[0]} does not answer"
                time.sleep(0.05)
            else:
                break
        yield url
    finally:
        _signal(running, signal.SIGTERM)
        try:
            running.wait(10)
        except subprocess.TimeoutExpired:
            pass
        _signal(running, signal.SIGKILL)
        running.wait()


def _signal(running: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(running.pid, number)
    except ProcessLookupError:
        pass  # all have ended
