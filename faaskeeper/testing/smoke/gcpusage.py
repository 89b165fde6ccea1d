"""What Google's services counted for a deployment, times the prices in the package's table."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from faaskeeper.config import Config
from faaskeeper.core.errors import Denied
from faaskeeper.deploy.costs import GB, MONTH_S
from faaskeeper.deploy.gcp.rest import Rest
from faaskeeper.deploy.providers import costs_of
from faaskeeper.deploy.templates import templates
from faaskeeper.testing.smoke.report import Used

_READS = ("ReadObject", "GetObjectMetadata", "GetBucketMetadata")
"""Methods of Cloud Storage whose requests cost what a get costs; all others cost what a put does."""
_ENTITIES = {"read": "read_ops_count", "write": "write_ops_count", "delete": "delete_ops_count"}


class Metrics:
    """The metrics of a project between two moments (s since 1970)."""

    def __init__(self, rest: Rest, project: str, began: float, ended: float) -> None:
        self._rest = rest
        self._project = project
        self._span = "&".join(
            f"interval.{name}={time.strftime('%Y-%m-%dT%H:%M:%SZ', time.gmtime(moment))}"
            for name, moment in (("startTime", began - 60), ("endTime", ended + 60))
        )

    def series(self, metric: str, chosen: str) -> list[tuple[Mapping[str, str], float]]:
        """Each series of a metric: the metric's labels, and the sum of its points.

        ``chosen``: a condition on its resource.
        """
        asked = quote(f'metric.type="{metric}" AND {chosen}')
        found, token = [], ""
        while True:
            path = f"v3/projects/{self._project}/timeSeries?filter={asked}&{self._span}"
            try:
                answer, _ = self._rest.call(
                    "monitoring", path + (f"&pageToken={quote(token)}" if token else "")
                )
            except Denied as error:
                if "find metric" in str(error):  # nothing has been counted by it in this project, ever
                    return []
                raise
            for each in answer.get("timeSeries", ()):
                labels = each.get("metric", {}).get("labels", {})
                found.append((labels, sum(_number(point["value"]) for point in each.get("points", ()))))
            token = answer.get("nextPageToken", "")
            if not token:
                return found

    def total(self, metric: str, chosen: str) -> float | None:
        """The sum of all series; None: there are none."""
        found = self.series(metric, chosen)
        return sum(value for _, value in found) if found else None


def _number(value: Mapping[str, Any]) -> float:
    return float(value.get("int64Value", value.get("doubleValue", 0)))


def usage(rest: Rest, project: str, config: Config, began: float, ended: float) -> list[Used]:
    """What was used between two moments."""
    name, region = config.deployment_name, config.deployment_region
    costs = costs_of(config)
    assert costs is not None
    price = costs.table
    metrics = Metrics(rest, project, began, ended)
    databases = f'resource.labels.database_id=starts_with("{name}")'
    used = []
    for what, metric in _ENTITIES.items():
        source = f"firestore.googleapis.com/document/{metric}"
        used.append(
            Used(f"Datastore, {what}s", metrics.total(source, databases), price["datastore"][what], source)
        )
    source = "storage.googleapis.com/api/request_count"
    bucket = f'resource.labels.bucket_name=starts_with("{name}-")'
    requests = metrics.series(source, bucket)
    for what in ("put", "get"):
        counts = [
            value
            for labels, value in requests
            if (labels.get("method", "").rsplit(".", 1)[-1] in _READS) == (what == "get")
        ]
        used.append(
            Used(f"Cloud Storage, {what}s", sum(counts) if counts else None, price["storage"][what], source)
        )
    for kind in ("topic", "subscription"):
        source = f"pubsub.googleapis.com/{kind}/byte_cost"
        chosen = f'resource.labels.{kind}_id=starts_with("{name}-")'
        used.append(
            Used(f"Pub/Sub, bytes of {kind}s", metrics.total(source, chosen), price["pubsub"]["byte"], source)
        )
    services = f'resource.labels.service_name=starts_with("{name}-")'
    source = "run.googleapis.com/request_count"
    used.append(Used("Cloud Run, requests", metrics.total(source, services), price["run"]["request"], source))
    source = "run.googleapis.com/container/billable_instance_time"
    described = json.loads(templates("gcp").joinpath("resources.json").read_text(encoding="utf-8"))
    for function, each in described["functions"].items():
        seconds = metrics.total(source, f'resource.labels.service_name="{name}-{function}"')
        memory = each["memory_mb"] / 1024
        second = price["run"]["cpu-second"] + memory * price["run"]["gb-second"]
        if function != "distributor" or config.distributor_queue.value != "inline":
            used.append(Used(f"Cloud Run, seconds of {function}", seconds, second, source))
    source = "logging.googleapis.com/byte_count"
    written = metrics.total(source, services)
    used.append(
        Used("Cloud Logging, GB", None if written is None else written / GB, price["logging"]["gb"], source)
    )
    used.append(_builds(rest, project, region, name, price, began))
    alerts = costs.at_rest().get("alert policies", 0.0)
    if alerts:
        used.append(
            Used("alert policies, months", (ended - began) / MONTH_S, alerts, "the time they were there")
        )
    return used


def _builds(rest: Rest, project: str, region: str, name: str, price: Mapping[str, Any], began: float) -> Used:
    """The minutes of Cloud Build as the deployment's account."""
    answer, _ = rest.call("cloudbuild", f"v1/projects/{project}/locations/{region}/builds?pageSize=100")
    minutes = [
        (moment(each["finishTime"]) - moment(each["startTime"])) / 60
        for each in answer.get("builds", ())
        if f"/{name}-build@" in str(each.get("serviceAccount", ""))
        and {"startTime", "finishTime"} <= set(each)
        and moment(each["startTime"]) >= began
    ]
    count = sum(minutes) if minutes else None
    return Used("Cloud Build, minutes", count, price["build"]["minute"], "the list of builds")


def moment(text: str) -> float:
    """Seconds since 1970 of a time as Google writes it, with up to nine digits of a second."""
    whole, _, rest = text.rstrip("Z").partition(".")
    return datetime.fromisoformat(f"{whole}+00:00").timestamp() + float(f"0.{rest or 0}")
