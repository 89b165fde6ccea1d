"""A deployment whose drivers' calls can be held, refused and counted, with the thread that made each."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from faaskeeper.aio import AsyncClient
from faaskeeper.aio.session import AsyncSession
from faaskeeper.config import Config
from faaskeeper.core import codec, trust
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Unavailable
from faaskeeper.providers.local.service import EmbeddedService
from faaskeeper.testing.conformance.memory import MemorySystem

WAIT_S = 60
_DRIVERS = ("records", "log", "leases", "watches", "worker_queue", "prompt_queue", "channel", "blobs")
_FUNCTIONS = ("applied", "ring", "close")


class Call(NamedTuple):
    """A call of a driver: ``records.get``, say."""

    name: str
    thread: threading.Thread


class Hold:
    """Calls that wait; as a context manager, until its end."""

    def __init__(self, stage: Stage, name: str) -> None:
        self._stage = stage
        self._name = name
        self.reached = threading.Event()
        self._go = threading.Event()

    def __enter__(self) -> Hold:
        self._stage.before[self._name] = self._wait
        return self

    def _wait(self) -> None:
        self.reached.set()
        assert self._go.wait(WAIT_S)

    def release(self) -> None:
        self._stage.before.pop(self._name, None)
        self._go.set()

    def __exit__(self, *_: object) -> None:
        self.release()


class Stage:
    """See the module."""

    def __init__(self, config: Config, connect: Callable[[], Connection]) -> None:
        self.config = config
        self._connect = connect
        self.calls: list[Call] = []
        self.before: dict[str, Callable[[], None]] = {}
        """What to do before a call."""
        self.sent: list[int] = []
        """Numbers of the requests that were sent, each when it was sent first."""
        self.connections = 0
        """Those that are open."""
        self.ears = 0
        """Listeners that are open."""

    def client(self, **options: Any) -> AsyncClient:
        options.setdefault("session_timeout", 30.0)
        return AsyncClient(self.config, connect=lambda config, port: self.connect(), **options)

    def connect(self) -> Connection:
        self._called("connect")
        plain = self._connect()
        self.connections += 1
        fields: dict[str, Any] = {}
        for name in _DRIVERS:
            driver = getattr(plain, name)
            fields[name] = driver if driver is None else _Driver(self, name, driver)
        for name in _FUNCTIONS:
            function = getattr(plain, name)
            fields[name] = function if function is None else self.watched(name, function)
        return replace(plain, **fields)

    def watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **more: Any) -> Any:
            self._called(name)
            if name.endswith("queue.send"):
                self._note(args[-1])
            result = function(*args, **more)
            if name == "close":
                self.connections -= 1
            elif name == "ear.close":
                self.ears -= 1
            elif name == "channel.listen":
                self.ears += 1
                return _Driver(self, "ear", result)
            return result

        return call

    def _called(self, name: str) -> None:
        self.calls.append(Call(name, threading.current_thread()))
        before = self.before.get(name)
        if before is not None:
            before()

    def _note(self, signed: bytes) -> None:
        for request in codec.to_message(trust.body(signed)).requests:
            if request.cxid and request.cxid not in self.sent:
                self.sent.append(request.cxid)

    def hold(self, name: str) -> Hold:
        """Have calls of a driver wait, until the end of the block."""
        return Hold(self, name)

    @contextmanager
    def failing(self, name: str) -> Iterator[None]:
        """Have calls of a driver fail."""

        def fail() -> None:
            raise Unavailable("no answer")

        self.before[name] = fail
        yield
        self.before.pop(name, None)

    @property
    def sending(self) -> str:
        """The call by which requests are sent."""
        return (
            "prompt_queue.send"
            if any(c.name == "prompt_queue.send" for c in self.calls)
            else "worker_queue.send"
        )


class _Driver:
    def __init__(self, stage: Stage, name: str, driver: Any) -> None:
        self._stage, self._name, self._driver = stage, name, driver

    def __getattr__(self, attribute: str) -> Any:
        found = getattr(self._driver, attribute)
        return self._stage.watched(f"{self._name}.{attribute}", found) if callable(found) else found


@contextmanager
def near(directory: Path, **options: str) -> Iterator[Stage]:
    """The embedded service, in this process."""
    config = Config.deserialize(
        {"cloud-provider": "local", "deployment-name": "near", "directory": str(directory), **options}
    )
    service = EmbeddedService(config, directory, beat=False)
    stage = Stage(config, lambda: service.connection(0, lambda: None))
    yield stage
    service.stop()
    assert (stage.connections, stage.ears) == (0, 0)


@contextmanager
def far() -> Iterator[Stage]:
    """A service whose every call may wait."""
    system = MemorySystem()
    stage = Stage(system.config, lambda: system.connect(system.config, 0))
    yield stage
    system.stop()
    assert (stage.connections, stage.ears) == (0, 0)


def session_of(client: AsyncClient) -> AsyncSession:
    assert client._session is not None
    return client._session


def at_rest(client: AsyncClient) -> None:
    """Assert that nothing is under way in a session, nor counted as if it were."""
    session = session_of(client)
    order = session.requests._order
    assert (len(order), order.reading, order.writing, session.requests._held) == (0, 0, 0, None)
    assert len(session.outbox) == 0
    assert session.rules._registering == {}
    assert session.rules._tracks == []
