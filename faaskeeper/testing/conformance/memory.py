"""A whole deployment in memory: the smallest provider, to read and to test the suites with.

Functions run in threads of this process; their memory and the stores end with it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from faaskeeper.config import Config
from faaskeeper.core import trust
from faaskeeper.core.answers import wake_up
from faaskeeper.core.connection import Connection, connection_to
from faaskeeper.core.deployment import Deployment, begin, on_tables
from faaskeeper.core.distribution import DistributorFunction
from faaskeeper.core.drivers.storage import Condition, Item
from faaskeeper.core.errors import Unavailable
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.transactions import Limits
from faaskeeper.core.writer import Writer, order
from faaskeeper.providers.inprocess import LocalQueue
from faaskeeper.providers.local.channels import LocalChannel
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.testing.conformance.harness import Harness

INLINE_BYTES = 1024 * 1024


class MemorySystem(Harness):
    """The deployment, and the harness of the suites for it."""

    def __init__(self, own_distributor: bool = False) -> None:
        self.config = Config.local(name="memory")
        self._ahead_ms = 0
        self._dying = threading.Event()
        names = ("log", "checkpoint", "records", "lease", "watch", "heartbeat")
        self.tables = {name: _MortalTable(self._dying) for name in names}
        self.channel = LocalChannel()
        self.deployment = on_tables(
            self.tables.__getitem__,
            expiring_log=False,
            worker_queue=_NoQueue(),
            channel=self.channel,
            key=b"k" * trust.KEY_BYTES,
            clock=self.clock,
            limits=Limits(INLINE_BYTES),
            peer="127.0.0.1",
        )
        begin(self.deployment)
        if own_distributor:
            self.deployment.distributor_queue = self._queue("distributor", DistributorFunction)
        self.deployment.worker_queue = self._queue("writer", Writer)

    def _queue(self, name: str, make: Callable[[Deployment], Any]) -> LocalQueue:
        """A queue and the function behind it, which is made again after it died."""
        made: list[Any] = [make(self.deployment)]

        def handle(bodies: Sequence[bytes]) -> None:
            try:
                made[0].handle(bodies)
            except _Died as error:
                made[0] = make(self.deployment)
                raise Unavailable("the function died") from error

        return LocalQueue(name, handle, lambda: made[0].idle(), lambda error: None)

    def clock(self) -> int:
        """Milliseconds since 1970, plus the time passed by :meth:`pass_time`."""
        return time.time_ns() // 1_000_000 + self._ahead_ms

    # ---- the harness -------------------------------------------------------------------

    def connect(self, config: Config, port: int) -> Connection:
        """Connect a client to the deployment."""
        return connection_to(self.deployment, self.channel, ring=self._ring)

    def _ring(self) -> None:
        if self.deployment.distributor_queue is not None:
            self.deployment.distributor_queue.send("distributor", "ring", wake_up(None, 0, ()))
        else:
            self.deployment.worker_queue.send("writer", "ring", order(self.deployment))

    def beat(self) -> None:
        Heartbeat(self.deployment, self.tables["heartbeat"]).run()

    def crash(self) -> None:
        """Kill the function that writes next, before it writes."""
        self._dying.set()

    def pass_time(self, seconds: float) -> None:
        self._ahead_ms += int(seconds * 1000)

    def stop(self) -> None:
        """Stop the functions' threads."""
        for queue in (self.deployment.worker_queue, self.deployment.distributor_queue):
            if isinstance(queue, LocalQueue):
                queue.stop()


class _Died(BaseException):
    """A function's process has died. Not an Exception, so that no code under test catches it."""


class _MortalTable(MemoryTable):
    """A table in whose next conditional write a function may die."""

    def __init__(self, dying: threading.Event) -> None:
        super().__init__()
        self._dying = dying

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        if self._dying.is_set() and threading.current_thread().name in _FUNCTIONS:
            self._dying.clear()
            raise _Died
        super().put(partition, key, item, condition)


_FUNCTIONS = ("faaskeeper-writer", "faaskeeper-distributor")


class _NoQueue:
    """Stands for a queue until its function is there."""

    ordered = True
    max_message_bytes = 0

    def send(self, group: str, identity: str, body: bytes) -> None:
        raise AssertionError("the queue is not there yet")
