"""A standalone ZooKeeper server to compare with: Debian's package ``zookeeper``."""

from __future__ import annotations

import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

JAR = Path("/usr/share/java/zookeeper.jar")


class ZooKeeperServer:
    """A server with a data directory of its own. It syncs every write, as by default."""

    def __init__(self, parent: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="zookeeper-", dir=parent))
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        settings = {
            "dataDir": self.directory,
            "clientPort": self.port,
            "clientPortAddress": "127.0.0.1",
            "admin.enableServer": "false",
            "tickTime": 2000,
            "maxClientCnxns": 0,
        }
        config = self.directory / "zoo.cfg"
        config.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        main = "org.apache.zookeeper.server.quorum.QuorumPeerMain"
        path = f"/etc/zookeeper/conf:{JAR}"
        self._process = subprocess.Popen(
            ["java", "-Xmx1g", "-cp", path, main, str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def _wait(self) -> None:
        for _ in range(300):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=1) as asked:
                    asked.sendall(b"srvr")
                    if asked.recv(100).startswith(b"Zookeeper version"):
                        return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError("the ZooKeeper server did not start")

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._process.pid

    def stop(self) -> None:
        """Stop the server and remove its data."""
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)


def available() -> bool:
    """Whether the server and its client are installed."""
    try:
        import kazoo  # noqa: F401
    except ImportError:
        return False
    return JAR.exists() and shutil.which("java") is not None
