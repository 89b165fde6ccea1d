"""Metrics of functions: collected here, printed in the format of the cloud's console.

They contain no secret and no data of znodes. The functions print them only if the configuration
asks for it (``configuration.benchmarking``), after every so many requests.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from faaskeeper.core.errors import Conflict

MOST_VALUES = 100
"""Maximum number of values of one metric in a line (CloudWatch's rule)."""


class Metrics(ABC):
    """Collects durations of calls and prints them.

    ``every``: requests between two lines; 0: never.
    """

    def __init__(
        self,
        deployment: str,
        function: str,
        every: int,
        say: Callable[[str], None],
        clock: Callable[[], int],
    ) -> None:
        self.names = {"deployment": deployment, "function": function}
        self._every = every
        self._say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._took: dict[str, list[float]] = {}
        self._conflicts = 0
        self._requests = 0

    def observe(self, name: str, took: float, failed: Exception | None) -> None:
        if not self._every:
            return
        with self._lock:
            values = self._took.setdefault(name, [])
            if len(values) < MOST_VALUES:
                values.append(round(took, 3))
            self._conflicts += isinstance(failed, Conflict)

    def finish(self, *, messages: int, sent: int, failed: int, took: float) -> None:
        """End an invocation: messages, time of the first (ms), failed messages, duration (ms)."""
        if not self._every:
            return
        with self._lock:
            before, self._requests = self._requests, self._requests + max(messages, 1)
            stages, self._took = self._took, {}
            conflicts, self._conflicts = self._conflicts, 0
        if before // self._every == self._requests // self._every:
            return
        now = self._clock()
        values: dict[str, Any] = {
            "invocation": round(took, 3),
            "batch": messages,
            "given back": failed,
            "conflicts": conflicts,
            "calls": sum(len(each) for each in stages.values()),
        }
        if sent:
            values["lag"] = max(now - sent, 0)
        self._say(self._line(now, values, stages))

    @abstractmethod
    def _line(self, now: int, values: Mapping[str, Any], stages: Mapping[str, list[float]]) -> str:
        """Format a line.

        ``stages``: ms of each call by name; ``values``: all other metrics by name.
        """
