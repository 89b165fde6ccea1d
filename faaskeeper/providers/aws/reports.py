"""What functions say: JSON lines for people, and metrics in CloudWatch's embedded format.

Neither holds a secret or a znode's data. Metrics cost money by the name, so they are said only where the
configuration asks for them (``configuration.benchmarking``), every so many requests.
"""

from __future__ import annotations

import json
import logging
import sys
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, TextIO

from faaskeeper.core.errors import Conflict

NAMESPACE = "FaaSKeeper"
_MOST_VALUES = 100
"""Values of one metric in one line, by CloudWatch's rules."""
_FIELDS = ("session", "txid")


class JsonFormatter(logging.Formatter):
    """A line of JSON: time, level, logger, message, request id, and session and txid where they are known."""

    def __init__(self) -> None:
        super().__init__()
        self.request = ""

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self.request:
            line["request_id"] = self.request
        for name in _FIELDS:
            if hasattr(record, name):
                line[name] = getattr(record, name)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_as_json(level: str, stream: TextIO | None = None) -> JsonFormatter:
    """Have all that is logged go to the stream as JSON; returns the formatter, to tell it the request."""
    formatter = JsonFormatter()
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("faaskeeper").setLevel(level)
    return formatter


class Metrics:
    """Collects what calls took, and says it. ``every``: requests between two lines, 0: never."""

    def __init__(
        self,
        deployment: str,
        function: str,
        every: int,
        say: Callable[[str], None],
        clock: Callable[[], int],
    ) -> None:
        self._names = {"deployment": deployment, "function": function}
        self._every = every
        self._say = say
        self._clock = clock
        self._lock = threading.Lock()
        self._took: dict[str, list[float]] = {}
        self._conflicts = 0
        self._requests = 0

    def observe(self, name: str, took: float, failed: Exception | None) -> None:
        """See :data:`faaskeeper.providers.aws.clients.Observer`."""
        if not self._every:
            return
        with self._lock:
            values = self._took.setdefault(name, [])
            if len(values) < _MOST_VALUES:
                values.append(round(took, 3))
            self._conflicts += isinstance(failed, Conflict)

    def finish(self, *, messages: int, sent: int, failed: int, took: float) -> None:
        """An invocation is over: how many messages it had and gave back, when the first was sent (ms)."""
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
        units = {"invocation": "Milliseconds", "lag": "Milliseconds"}
        metrics = [{"Name": name, "Unit": units.get(name, "Count")} for name in values]
        metrics += [{"Name": name, "Unit": "Milliseconds"} for name in stages]
        self._say(json.dumps(self._line(now, metrics, {**values, **stages})))

    def _line(self, now: int, metrics: list[dict[str, str]], values: Mapping[str, Any]) -> dict[str, Any]:
        described = {
            "Namespace": NAMESPACE,
            "Dimensions": [list(self._names)],
            "Metrics": metrics,
        }
        return {"_aws": {"Timestamp": now, "CloudWatchMetrics": [described]}, **self._names, **values}
