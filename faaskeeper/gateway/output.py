"""Output batching: one write to a socket for all frames that one event causes."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Protocol


class Output(Protocol):
    """Frames of one connection that wait to be sent."""

    def flush(self) -> None:
        """Send them."""


class OutputBatch:
    """Flushes outputs when the outermost ``with`` ends; outside of one, in the loop's next turn."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._depth = 0
        self._waiting: list[Output] = []

    def add(self, output: Output) -> None:
        """Have an output flushed; to be called once until then."""
        if not self._depth and not self._waiting:
            self._loop.call_soon(self.flush)
        self._waiting.append(output)

    def __enter__(self) -> None:
        self._depth += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._depth -= 1
        if not self._depth and self._waiting:
            self.flush()

    def flush(self) -> None:
        """Flush all outputs that wait, now."""
        waiting, self._waiting = self._waiting, []
        for output in waiting:
            output.flush()
