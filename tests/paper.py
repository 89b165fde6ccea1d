"""A cloud on paper: the drivers of ``providers/cloud`` in memory, and a record of all that went through."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config, QueueType
from faaskeeper.core import codec
from faaskeeper.core.connection import Connection
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.drivers.channel import Handler
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.drivers.storage import Condition, Item, ObjectStore
from faaskeeper.core.errors import DriverError
from faaskeeper.core.objects import TableObjects
from faaskeeper.exceptions import ProviderException
from faaskeeper.providers.cloud.calls import Calls
from faaskeeper.providers.cloud.channels import RoutedChannel
from faaskeeper.providers.cloud.functions import Warm
from faaskeeper.providers.cloud.service import CloudService
from faaskeeper.providers.inprocess import LocalQueue
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.providers.tcp import TcpChannel

PREFIX = "mem:"


class PaperCalls(Calls):
    """Calls that take no network."""

    def core_error(self, what: str, error: Any) -> DriverError:
        raise AssertionError(f"{what}: {error}")


class PaperTable(MemoryTable):
    """A table that keeps every version of every item, as bytes."""

    def __init__(self) -> None:
        super().__init__(400 * 1024)
        self.versions: list[tuple[str, str, bytes]] = []

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        super().put(partition, key, item, condition)
        self.versions.append((partition, key, codec.item(item)))


class Paper:
    """What the cloud keeps: tables, the worker queue's messages, and the mail of clients.

    ``sent``: what went through the worker queue; ``mail``: what was delivered, with its address.
    """

    def __init__(self, **options: Any) -> None:
        section = options.pop("aws", {})
        self.config = Config.deserialize(
            {
                "cloud-provider": "aws",
                "deployment-name": "paper",
                "deployment-region": "here",
                "user-storage": "key-value",
                **options,
                "aws": section,
            }
        )
        self.tables: dict[str, PaperTable] = {}
        self.sent: list[bytes] = []
        self.mail: list[tuple[str, bytes]] = []
        self.listeners: dict[str, Handler] = {}
        self.deaf = False
        """Nothing arrives at clients."""
        self.now = 1_700_000_000_000
        self._lock = threading.Lock()
        self.begin()
        self.worker = LocalQueue("writer", self._write, lambda: None, lambda error: None)

    def begin(self) -> None:
        """New processes of the functions, of which heartbeat's comes first."""
        self.warm = Warm(PaperService(self, self.config), True)
        self._handle = self.warm.handle_of("writer")

    def _write(self, bodies: Any) -> None:
        self._handle(bodies)

    def stop(self) -> None:
        self.worker.stop()

    def table(self, short: str) -> PaperTable:
        with self._lock:
            return self.tables.setdefault(short, PaperTable())

    # ---- the worker queue ------------------------------------------------------------------------

    ordered = True
    max_message_bytes = 700 * 1024

    def send(self, group: str, identity: str, body: bytes) -> None:
        """See :class:`Queue`."""
        self.sent.append(body)
        self.worker.send(group, identity, body)

    def settle(self) -> None:
        """Wait until the writer has done what was sent."""
        done = threading.Event()
        handle = self._handle
        self._handle = lambda bodies: (handle([each for each in bodies if each != b"last"]), done.set())  # type: ignore[func-returns-value]
        self.worker.send("", "", b"last")
        assert done.wait(60)
        self._handle = handle

    # ---- the channel -----------------------------------------------------------------------------

    def deliver(self, address: str, message: bytes) -> bool:
        """See :class:`faaskeeper.core.drivers.channel.Channel`."""
        self.mail.append((address, message))
        handler = self.listeners.get(address)
        if handler is None or self.deaf:
            return False
        handler(message)
        return True

    def listen(self, handler: Handler) -> PaperListener:
        """See :class:`faaskeeper.core.drivers.channel.ClientChannel`."""
        return PaperListener(self, handler)

    # ---- clients ---------------------------------------------------------------------------------

    def connect(self, config: Config, port: int) -> Connection:
        try:
            return PaperService(self, config).connect(port, lambda: None)
        except DriverError as error:  # as faaskeeper.client.connect does
            raise ProviderException(str(error)) from error

    def client(self, kind: Callable[..., Any] = FaaSKeeperClient, **more: Any) -> Any:
        """A client, not started."""
        return kind(self.config, connect=self.connect, **more)


class PaperListener:
    """A client's address."""

    def __init__(self, paper: Paper, handler: Handler) -> None:
        self._paper = paper
        self.address = f"{PREFIX}{len(paper.listeners) + 1}"
        paper.listeners[self.address] = handler

    def close(self) -> None:
        self._paper.listeners.pop(self.address, None)


class PaperService(CloudService):
    """The deployment as one process has it."""

    inline_bytes = 16 * 1024
    keys = ("client-host", "client-networks", "peer", "deploy")

    def __init__(self, paper: Paper, config: Config) -> None:
        super().__init__(config, PaperCalls())
        self.paper = paper
        self.clock = lambda: paper.now

    def deployment(self, key: bytes, **fields: Any) -> Deployment:
        clocks = {"wall": lambda: self.paper.now, "elapsed": lambda: self.paper.now}
        return super().deployment(key, **{**clocks, **fields})

    def table(self, short: str) -> PaperTable:
        return self.paper.table(short)

    def objects(self) -> ObjectStore:
        return TableObjects(self.table("objects"))

    def queue(self, which: str, kind: QueueType) -> Queue:
        return self.paper

    def watch_queue(self) -> Queue | None:
        return None

    def fallback(self) -> Queue | None:
        return self.paper

    def channel(self) -> RoutedChannel:
        return RoutedChannel(TcpChannel(self.networks), {PREFIX: self.paper})

    def queue_client_channel(self) -> Paper | None:
        return None if self.config.client_channel.value == "tcp" else self.paper

    def logs(self) -> str:
        return ""

    def endpoint(self) -> str:
        return "http://127.0.0.1:1"


@contextmanager
def paper(**options: Any) -> Iterator[Paper]:
    """A cloud whose functions run until the end."""
    made = Paper(**options)
    yield made
    made.stop()
