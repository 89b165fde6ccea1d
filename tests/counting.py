"""What operations cost on a cloud: calls counted where they are made."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config, StorageType
from faaskeeper.core import sweeping
from faaskeeper.core.connection import Connection, connection_to
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.writer import Writer
from faaskeeper.providers.cloud.service import CloudService
from faaskeeper.providers.inprocess import LocalQueue
from faaskeeper.testing.patience import PATIENCE_S

DATA = b"x" * 1024
Calls = dict[str, dict[str, dict[str, int]]]


class Counted:
    """A deployment whose writer runs in this process, every call to the cloud counted, by whom.

    ``mine``, ``theirs``: the service as the client's process and as the functions' have it.
    """

    def __init__(self, mine: CloudService, theirs: CloudService) -> None:
        self.config = mine.config
        self._mine, self.theirs = mine, theirs
        self.by_client: Counter[str] = Counter()
        self.by_function: Counter[str] = Counter()
        mine.calls.observe(lambda name, took, failed: self.by_client.update([name]))
        theirs.calls.observe(lambda name, took, failed: self.by_function.update([name]))
        self.deployment = theirs.deployment(theirs.initialize(), worker_queue=None)
        writer = Writer(self.deployment)
        self.queue = LocalQueue("writer", writer.handle, lambda: None, lambda error: None)
        self.deployment.worker_queue = self.queue

    def client(self) -> FaaSKeeperClient:
        def connect(config: Config, port: int) -> Connection:
            made = self._mine.deployment(b"", worker_queue=self.queue)
            return connection_to(made, self._mine.client_channel(port))

        return FaaSKeeperClient(self.config, session_timeout=3600, connect=connect)

    def count(self, act: Callable[[], object]) -> tuple[dict[str, int], dict[str, int]]:
        """Calls of the client's process and of the function's that an operation causes."""
        self.settle()
        self.by_client.clear()
        self.by_function.clear()
        act()
        self.settle()  # the writer may have more to do once the client has its answer
        return dict(self.by_client), dict(self.by_function)

    def settle(self) -> None:
        """Wait until the writer has done all that was sent to it."""
        while True:
            with self.queue._running:
                if not self.queue._waiting:
                    return
            self.queue.serve_promptly(())

    def stop(self) -> None:
        self.queue.stop()
        self.deployment.channel.close()  # type: ignore[attr-defined]
        self._mine.calls.close()
        self.theirs.calls.close()


def operations(counted: Counted) -> Calls:
    """The calls of each operation, by who makes them."""
    seen: Calls = {}
    with counted.client() as client, counted.client() as other:
        client.create("/p")
        client.create("/p/a", DATA)
        client.set_data("/p/a", DATA)
        for operation, act in (
            ("set", lambda: client.set_data("/p/a", DATA)),
            ("create", lambda: client.create("/p/b", DATA)),
            ("delete", lambda: client.delete("/p/b")),
            ("get", lambda: client.get_data("/p/a")),
            ("exists", lambda: client.exists("/p/a")),
            ("children", lambda: client.get_children("/p")),
        ):
            mine, theirs = counted.count(act)
            seen[operation] = {"client": mine, "function": theirs}
        told = threading.Event()
        other.get_data("/p/a", lambda event: told.set())  # so that the index of the session is there
        client.set_data("/p/a", DATA)
        assert told.wait(PATIENCE_S)
        other.sync()
        mine, _ = counted.count(lambda: other.get_data("/p/a", lambda event: None))
        seen["watch"] = {"client": mine, "function": {}}
        _, theirs = counted.count(lambda: client.set_data("/p/a", DATA))
        extra = Counter(theirs)
        extra.subtract(seen["set"]["function"])
        seen["notification"] = {
            "client": {},
            "function": {name: many for name, many in extra.items() if many},
        }
        lease = client._session
        assert lease is not None
        lease.renew()
        mine, _ = counted.count(lease.renew)
        seen["lease"] = {"client": mine, "function": {}}
    return seen


def at_rest(counted: Counted) -> tuple[dict[str, int], dict[str, int]]:
    """The calls of heartbeat's each minute and each sweep, where there is nothing to do."""
    beat = Heartbeat(counted.deployment, counted.theirs.table("heartbeat"))

    def minute() -> None:
        assert beat.expire() == []
        assert beat.reap() == []
        assert beat.wake() is False

    def hour() -> None:
        beat.tend()

    hour()
    # as on a deployment in use for a month: there are old notes, and old blobs may be among the young
    table = counted.theirs.table("heartbeat")
    progress = sweeping._progress(table.get(*sweeping._KEY))
    progress.notes = [sweeping.Note(-sweeping.BLOB_MS, 0, progress.clock - sweeping.BLOB_MS)]
    progress.young = 0
    table.put(*sweeping._KEY, sweeping._item(progress))
    beats, swept = counted.count(minute)[1], counted.count(hour)[1]
    if counted.deployment.blobs is None:
        assert "objects.list" not in swept  # what does not exist is not listed
        swept["objects.list"] = 1
    elif counted.config.user_storage is StorageType.KEY_VALUE:
        assert swept["records.query"] == 3  # where objects are in a table, too: their list, and their parts
        swept.update({"records.query": 1, "objects.list": 1})
    elif counted.config.user_storage is StorageType.PERSISTENT:
        assert "records.query" not in swept  # objects have no parts
        swept["records.query"] = 1
    return beats, swept
