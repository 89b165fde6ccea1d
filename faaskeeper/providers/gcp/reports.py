"""Logs and metrics as JSON lines, which Cloud Logging reads from a function's output.

A log-based metric on ``jsonPayload.metrics`` makes a metric of Cloud Monitoring of them.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from faaskeeper.providers.cloud import logs, metrics


class JsonFormatter(logs.JsonFormatter):
    """Uses Cloud Logging's names: severity for the level, trace for the request."""

    level = "severity"
    request_key = "logging.googleapis.com/trace"


class Metrics(metrics.Metrics):
    """Metrics of a function, as Cloud Logging reads them."""

    def _line(self, now: int, values: Mapping[str, Any], stages: Mapping[str, list[float]]) -> str:
        medians = {name: sorted(took)[len(took) // 2] for name, took in stages.items()}
        content = {**values, "stages": medians}
        return json.dumps({"severity": "INFO", "message": "metrics", **self.names, "metrics": content})
