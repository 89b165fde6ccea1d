"""A gateway in a thread of the test's process: to look into it, or to have its stores seem far."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from faaskeeper.clocks import elapsed_s
from faaskeeper.config import Config
from faaskeeper.core.connection import Connection
from faaskeeper.gateway.machine import Machine
from faaskeeper.gateway.server import Gateway, Settings
from faaskeeper.providers.local import connect
from faaskeeper.testing.patience import PATIENCE_S

T = TypeVar("T")


def far(connection: Connection) -> Connection:
    """The same deployment as one whose stores are not in this process."""
    return replace(connection, within=None)


class InThread:
    """Serves an embedded deployment, or a connection."""

    def __init__(
        self,
        directory: Path,
        change: Callable[[Connection], Connection] = lambda each: each,
        connection: Connection | None = None,
        now: Callable[[], float] = elapsed_s,
        config: dict[str, str] | None = None,
        **settings: Any,
    ) -> None:
        data = {"cloud-provider": "local", "deployment-name": "test", "heartbeat-frequency": 1}
        self.config = Config.deserialize({**data, **(config or {}), "directory": str(directory)})
        self._settings = Settings(**{"listen": (("127.0.0.1", 0),), **settings})
        self._change = change
        self._connection = connection
        self._now = now
        self._ready = threading.Event()
        self.gateway: Any = None
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(PATIENCE_S)
        if self._failure is not None:
            raise self._failure
        self.port = self.gateway.addresses[0][1]

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._failure = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        connection = self._connection or self._change(connect(self.config, -1))
        self.gateway = Gateway(connection, self.config, self._settings, Machine(now=self._now))
        await self.gateway.start()
        self._ready.set()
        await self.gateway.run()

    def call(self, function: Callable[[], T]) -> T:
        """Call something in the loop's thread."""

        async def called() -> T:
            return function()

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result(PATIENCE_S)

    def wait(self, coroutine: Any) -> Any:
        """Run a coroutine in the loop."""
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(PATIENCE_S)

    def stop(self) -> None:
        self._loop.call_soon_threadsafe(self.gateway.stop)
        self.ended()

    def ended(self) -> None:
        """Wait for the server's end. Raises what ended it."""
        self._thread.join(PATIENCE_S)
        assert not self._thread.is_alive()
        if self._failure is not None:
            raise self._failure
