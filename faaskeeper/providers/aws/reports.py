"""Logs and metrics as JSON lines. Metrics are in CloudWatch's embedded metric format; each name costs money.

Lambda with its log format JSON passes lines that are JSON on as they are. It reads ``level`` and
``timestamp`` of them. A line without both counts as INFO, so its filter must let INFO pass.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from faaskeeper.providers.cloud import logs, metrics

NAMESPACE = "FaaSKeeper"
_UNITS = {"invocation": "Milliseconds", "lag": "Milliseconds"}


class JsonFormatter(logs.JsonFormatter):
    """Uses Lambda's name for the time."""

    time = "timestamp"


class Metrics(metrics.Metrics):
    """Metrics of a function, as CloudWatch reads them."""

    def _line(self, now: int, values: Mapping[str, Any], stages: Mapping[str, list[float]]) -> str:
        named = [{"Name": name, "Unit": _UNITS.get(name, "Count")} for name in values]
        named += [{"Name": name, "Unit": "Milliseconds"} for name in stages]
        described = {"Namespace": NAMESPACE, "Dimensions": [list(self.names)], "Metrics": named}
        line = {
            "_aws": {"Timestamp": now, "CloudWatchMetrics": [described]},
            **self.names,
            **values,
            **stages,
        }
        return json.dumps(line)
