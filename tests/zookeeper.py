"""A real ZooKeeper server (Debian's 3.8) in a process and a directory of its own, to compare with."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from shutil import which

from faaskeeper.testing.emulation import processes
from faaskeeper.testing.patience import PATIENCE_S
from tests.backends import free_port, needs

JAR = Path("/usr/share/java/zookeeper.jar")
SUPER_DIGEST = "super:D/InIHSb7yEEbrWz8b9l71RjZJU="
"""Of ``super:test``."""


@contextmanager
def zookeeper(directory: Path, extended: bool = True, **more: str) -> Iterator[int]:
    """A server, from when it answers: its port. Skips the test where ZooKeeper is not installed.

    ``extended``: it has times to live. ``more``: further properties.
    """
    needs("ZooKeeper", which("java") and JAR.exists(), "'apt-get install zookeeper' installs it")
    directory.mkdir(parents=True, exist_ok=True)
    port = free_port()
    settings = {
        "dataDir": directory / "data",
        "clientPort": port,
        "clientPortAddress": "127.0.0.1",
        "admin.enableServer": "false",
        "tickTime": 2000,
        "maxClientCnxns": 0,
    }
    (directory / "zoo.cfg").write_text("".join(f"{name}={value}\n" for name, value in settings.items()))
    options = {
        "zookeeper.extendedTypesEnabled": str(extended).lower(),
        "zookeeper.forceSync": "no",  # what it has written need not outlive it
        "zookeeper.DigestAuthenticationProvider.superDigest": SUPER_DIGEST,
        **more,
    }
    with (directory / "output").open("wb") as output:
        running = processes.start(
            [
                "java",
                "-Xmx256m",
                "-XX:TieredStopAtLevel=1",
                *(f"-D{name}={value}" for name, value in options.items()),
                "-cp",
                f"/etc/zookeeper/conf:{JAR}",
                "org.apache.zookeeper.server.quorum.QuorumPeerMain",
                str(directory / "zoo.cfg"),
            ],
            cwd=directory,
            stdout=output,
            stderr=output,
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while not _answers(port):
            assert running.poll() is None, (directory / "output").read_text()
            assert time.monotonic() < deadline, "ZooKeeper does not answer"
        yield port
    finally:
        processes.kill(running)


def _answers(port: int) -> bool:
    """Whether it serves by now: ``srvr`` is answered with its mode then."""
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5) as client:
            client.sendall(b"srvr")
            answer = b""
            while more := client.recv(4096):
                answer += more
            return b"Mode:" in answer
    except OSError:
        time.sleep(0.05)
        return False
