"""Logs and metrics as Cloud Logging reads them off a function's output: a JSON object in a line.

A metric of Cloud Monitoring is made of them by a log-based metric on ``jsonPayload.metrics``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from faaskeeper.providers.cloud import logs, metrics


class JsonFormatter(logs.JsonFormatter):
    """The level as a severity, the request as a trace, by the names that Cloud Logging knows."""

    level = "severity"
    request_key = "logging.googleapis.com/trace"


class Metrics(metrics.Metrics):
    """See :class:`faaskeeper.providers.cloud.metrics.Metrics`."""

    def _line(self, now: int, values: Mapping[str, Any], stages: Mapping[str, list[float]]) -> str:
        medians = {name: sorted(took)[len(took) // 2] for name, took in stages.items()}
        told = {**values, "stages": medians}
        return json.dumps({"severity": "INFO", "message": "metrics", **self.names, "metrics": told})
