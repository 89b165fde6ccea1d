"""Logs of functions as JSON lines. They contain no secret and no data of znodes."""

from __future__ import annotations

import json
import logging
import sys
import time
from contextvars import ContextVar
from typing import Any, TextIO

_FIELDS = ("session", "txid")


class JsonFormatter(logging.Formatter):
    """Formats JSON lines: time, level, logger, message, request id; session and txid if known."""

    time = "time"
    """Key of the time, in RFC 3339's format."""
    level = "level"
    """Key of the level's name."""
    request_key = "request_id"

    def __init__(self) -> None:
        super().__init__()
        self._request: ContextVar[str] = ContextVar("request", default="")

    @property
    def request(self) -> str:
        """Id of the request that this thread handles; "" if none."""
        return self._request.get()

    @request.setter
    def request(self, id: str) -> None:
        self._request.set(id)

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line: dict[str, Any] = {
            self.time: f"{moment}.{int(record.msecs):03d}Z",
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
    """Log everything to the stream as JSON; returns the formatter, which takes the request id."""
    formatter = kind()
    handler = logging.StreamHandler(stream or sys.stdout)
    handler.setFormatter(formatter)
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(logging.WARNING)
    logging.getLogger("faaskeeper").setLevel(level)
    return formatter
