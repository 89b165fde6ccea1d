"""What tests need and may be missing, and servers in processes of their own."""

from __future__ import annotations

import os
import socket
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from faaskeeper.testing.emulation import processes
from faaskeeper.testing.patience import PATIENCE_S
from tests.conftest import FAILED

JAVA = {
    "JAVA_TOOL_OPTIONS": " ".join(
        (os.environ.get("JAVA_TOOL_OPTIONS", ""), "-Xmx1g -XX:+UseSerialGC -XX:TieredStopAtLevel=1")
    ).strip()
}
"""The environment of servers in Java: by itself each takes a quarter of the memory, and compiles for long."""


CURATOR = Path("/usr/share/java/curator-recipes.jar")
CURATOR_WHERE = "'apt-get install libcurator-recipes-java' installs it"


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
def no_clients_left(test: pytest.Item) -> Iterator[None]:
    """The clients of a test end with it: they would try for ever to reach an emulator that is gone.

    Not those of a test that failed: nobody may be left to stop them.
    """
    before = set(threading.enumerate())
    yield
    if FAILED in test.stash:
        return
    left = [each for each in threading.enumerate() if each not in before and _is_a_client_s(each.name)]
    deadline = time.monotonic() + PATIENCE_S
    for thread in left:
        thread.join(deadline - time.monotonic())
    assert [each.name for each in left if each.is_alive()] == []


def _is_a_client_s(thread: str) -> bool:
    return thread.startswith("faaskeeper-") and not thread.startswith("faaskeeper-calls")  # a deployment's


@contextmanager
def process(command: list[str], environment: dict[str, str], url: str, cwd: Path) -> Iterator[str]:
    """A server, from when it answers at its URL."""
    with (cwd / "output").open("wb") as output:
        running = processes.start(
            command, cwd=cwd, env={**os.environ, **environment}, stdout=output, stderr=output
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
        processes.kill(running)
