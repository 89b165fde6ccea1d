"""A load whose every acknowledged write is known, for tests of what faults must not change."""

from __future__ import annotations

import threading
import time

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.exceptions import BadVersionError, ProviderException
from faaskeeper.testing.patience import PATIENCE_S


class Load:
    """Clients that create sequential znodes and count one up together, each knowing what was acknowledged."""

    def __init__(self, clients: list[FaaSKeeperClient]) -> None:
        self._clients = clients
        self._stop = threading.Event()
        self.created: list[str] = []
        self.counted = 0
        self._lock = threading.Lock()
        self._failed: list[BaseException] = []
        clients[0].create("/load")
        clients[0].create("/count", b"0")
        self._threads = [threading.Thread(target=self._run, args=(each,), daemon=True) for each in clients]
        for thread in self._threads:
            thread.start()

    def _run(self, client: FaaSKeeperClient) -> None:
        try:
            while not self._stop.is_set():
                path = client.create("/load/n-", sequential=True).path
                with self._lock:
                    self.created.append(path)
                try:
                    node = client.get_data("/count")
                except ProviderException:
                    continue  # a read whose tries all failed may be asked for again
                try:
                    client.set_data("/count", b"%d" % (int(node.data) + 1), node.stat.version)
                except BadVersionError:
                    continue
                with self._lock:
                    self.counted += 1
        except BaseException as error:
            self._failed.append(error)

    def wait(self, number: int) -> None:
        """Until so many znodes were created."""
        deadline = time.monotonic() + PATIENCE_S
        while len(self.created) < number:
            assert not self._failed, self._failed
            assert time.monotonic() < deadline, len(self.created)
            self._stop.wait(0.01)

    def end(self) -> None:
        """Nothing acknowledged is lost, nothing was done twice."""
        self._stop.set()
        for thread in self._threads:
            thread.join(PATIENCE_S)
            assert not thread.is_alive()
        assert not self._failed, self._failed
        client = self._clients[0]
        client.sync()
        there = [each.path for each in client.get_children("/load")]
        assert sorted(there) == sorted(self.created)
        node = client.get_data("/count")
        assert int(node.data) == node.stat.version == self.counted
        for each in self._clients:
            each.stop()


CLIENT = """
import sys, threading
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
with FaaSKeeperClient(Config.load(sys.argv[1])) as client:
    assert client.create("/a", b"1").path == "/a"
    fired = threading.Event()
    assert client.get_data("/a", lambda event: fired.set()).data == b"1"
    client.set_data("/a", b"2" * 100_000)
    assert fired.wait(60)
    assert client.get_data("/a").data == b"2" * 100_000
    client.create("/a/e", ephemeral=True)
    assert [each.path for each in client.get_children("/a")] == ["/a/e"]
    client.delete("/a/e")
    client.delete("/a")
print("as it should be")
"""
"""A program that uses a deployment: its argument is the configuration's file."""
