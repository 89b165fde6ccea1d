"""Whole deployments, in memory and embedded, pass the suites that every provider's must."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Unavailable
from faaskeeper.providers.inprocess import LocalQueue
from faaskeeper.providers.local import service as service_module
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.providers.local.services import Services
from faaskeeper.testing.conformance.drivers import QueueSuite
from faaskeeper.testing.conformance.memory import MemorySystem
from faaskeeper.testing.conformance.systems import (
    CrashSuite,
    Harness,
    SemanticsSuite,
    SessionSuite,
    WatchSuite,
)
from faaskeeper.testing.patience import PATIENCE_S

CONFIGURATIONS: dict[str, dict[str, str]] = {
    "key-value": {},
    "hybrid, own distributor": {"user-storage": "hybrid", "distributor-queue": "local"},
    "persistent, tcp": {"user-storage": "persistent", "client-channel": "tcp"},
}


class _Died(BaseException):
    """A function's process is gone."""


class EmbeddedSystem(Harness):
    """An embedded service whose clock can be put forward and whose functions can be made to die."""

    def __init__(self, options: dict[str, str], directory: Path) -> None:
        self.config = Config.deserialize({"cloud-provider": "local", "deployment-name": "suite", **options})
        self._ahead = 0
        self._dying = threading.Event()
        self.service = EmbeddedService(
            self.config, directory, clock=self._clock, steady=self._clock, beat=False
        )
        for queue in self.service._queues:
            self._mortal(queue)

    def _clock(self) -> int:
        return service_module.clock() + self._ahead

    def _mortal(self, queue: LocalQueue) -> None:
        """The queue's function dies where it first writes after :meth:`crash`, and is made anew."""
        handle = queue._handle

        def mortal(bodies: Sequence[bytes]) -> None:
            try:
                handle(bodies)
            except _Died as error:
                function = handle.__self__  # type: ignore[attr-defined]
                function.__init__(self.service.deployment)
                raise Unavailable("the function died") from error

        queue._handle = mortal
        deployment = self.service.deployment
        deployment.records.put = self._dies_in(deployment.records.put)  # type: ignore[method-assign]
        deployment.log.append = self._dies_in(deployment.log.append)  # type: ignore[method-assign]

    def _dies_in(self, call: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*arguments: Any) -> Any:
            if self._dying.is_set():
                self._dying.clear()
                raise _Died
            return call(*arguments)

        return dying

    def connect(self, config: Config, port: int) -> Connection:  # type: ignore[override]
        return self.service.connection(0, lambda: None)

    def beat(self) -> None:
        self.service.heartbeat.run()

    def stop(self) -> None:
        self.service.stop()

    def crash(self) -> None:
        self._dying.set()

    def pass_time(self, seconds: float) -> None:
        self._ahead += int(seconds * 1000)


class JoinedSystem(EmbeddedSystem):
    """An embedded service whose clients have joined it, over its socket."""

    def __init__(self, options: dict[str, str], directory: Path) -> None:
        super().__init__({**options, "directory": str(directory)}, directory)
        self._services = Services()

    def connect(self, config: Config, port: int) -> Connection:  # type: ignore[override]
        return self._services.connect(self.config, 0)


JOINED = "joined"
SYSTEMS = ["in memory", "in memory, own distributor", *CONFIGURATIONS, JOINED]
ASYNCIO = {"in memory", "key-value"}
"""Those that ``make test`` runs with the asyncio client, too: one far from its stores, and one near them."""


@pytest.fixture(
    scope="module",
    params=[
        *SYSTEMS,
        *(
            pytest.param(f"asyncio, {name}", marks=[] if name in ASYNCIO else pytest.mark.simulator)
            for name in SYSTEMS
        ),
    ],
)
def harness(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Harness]:
    name = request.param.removeprefix("asyncio, ")
    system: EmbeddedSystem | MemorySystem
    if name in CONFIGURATIONS:
        system = EmbeddedSystem(CONFIGURATIONS[name], tmp_path_factory.mktemp("suite"))
    elif name == JOINED:
        system = JoinedSystem(CONFIGURATIONS["hybrid, own distributor"], tmp_path_factory.mktemp("suite"))
    else:
        system = MemorySystem(own_distributor="own" in name)
    system.asynchronous = name != request.param
    yield system
    system.stop()


class TestSemantics(SemanticsSuite):
    pass


class TestSessions(SessionSuite):
    pass


class TestWatches(WatchSuite):
    pass


class TestCrashes(CrashSuite):
    pass


class LocalQueueHarness:
    def __init__(self) -> None:
        self._came: list[bytes] = []
        self._more = threading.Condition()
        self.queue = LocalQueue("suite", self._handle, lambda: None, lambda error: None)

    def _handle(self, bodies: Sequence[bytes]) -> None:
        with self._more:
            self._came.extend(bodies)
            self._more.notify_all()

    def receive(self, number: int) -> list[bytes]:
        with self._more:
            assert self._more.wait_for(lambda: len(self._came) >= number, PATIENCE_S)
            return list(self._came)


class TestLocalQueue(QueueSuite):
    @pytest.fixture
    def harness(self) -> Iterator[LocalQueueHarness]:
        harness = LocalQueueHarness()
        yield harness
        harness.queue.stop()


def test_who_waits_for_its_own_answer_does_not_serve_all_others_for_ever() -> None:
    """Others send all the time: their messages are the queue's own thread's after a few batches."""
    served: list[threading.Thread] = []
    enough = threading.Event()

    def handle(bodies: Sequence[bytes]) -> None:
        served.append(threading.current_thread())
        if len(served) < 500:
            queue.send("writer", "", b"more")
        else:
            enough.set()

    queue = LocalQueue("suite", handle, lambda: None, lambda error: None)
    queue.send_prompt(b"mine")
    assert served.count(threading.current_thread()) <= 4
    assert enough.wait(PATIENCE_S)  # and nothing is left lying
    queue.stop()
