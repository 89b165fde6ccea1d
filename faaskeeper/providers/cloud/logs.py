"""Logs of functions: lines of JSON. They hold neither a secret nor a znode's data."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any, TextIO

_FIELDS = ("session", "txid")


class JsonFormatter(logging.Formatter):
    """A line of JSON: time, level, logger, message, request id, and session and txid where they are known."""

    level = "level"
    """Key of the level's name."""
    request_key = "request_id"

    def __init__(self) -> None:
        super().__init__()
        self._request: ContextVar[str] = ContextVar("request", default="")

    @property
    def request(self) -> str:
        """Id of the request that this thread serves ("": none)."""
        return self._request.get()

    @request.setter
    def request(self, id: str) -> None:
        self._request.set(id)

    def format(self, record: logging.LogRecord) -> str:
        """See :class:`logging.Formatter`."""
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            "time": f"{moment}.{int(record.msecs):03d}Z",
            self.level: record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if self.request:
            line[self.request_key] = self.request
        for name in _FIELDS:
            if hasattr(record, name):
                line[name] = getattr(record, name)
        if record.exc_info:
            line["trace"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_as_json(
    level: str, stream: TextIO | None = None, kind: type[JsonFormatter] = JsonFormatter
) -> JsonFormatter:
    """Have all that is logged go to the stream as JSON; returns the formatter, to tell it the request."""
    formatter = kind()
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("faaskeeper").setLevel(level)
    return formatter
