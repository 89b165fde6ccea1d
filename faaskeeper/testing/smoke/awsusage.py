"""What AWS' services counted for a deployment, times the prices in the package's table."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from faaskeeper.config import Config
from faaskeeper.core.errors import Denied, DriverError
from faaskeeper.deploy.costs import GB, MONTH_S
from faaskeeper.deploy.providers import costs_of
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.testing.smoke.report import Used

Metric = tuple[str, str, Mapping[str, str]]
"""Namespace, name and dimensions."""

_PERIOD_S = 60
_AT_ONCE = 400
_FUNCTIONS = ("writer", "distributor", "watch", "heartbeat")
_TABLES = (
    *("log", "checkpoint", "records", "lease", "watch", "heartbeat", "settings"),
    *("worker-queue", "distributor-queue"),
)
_FILTER = "smoke"
"""The id of the metrics configuration that counts a bucket's requests."""
_PUTS = ("PutRequests", "ListRequests", "PostRequests")
_GETS = ("GetRequests", "HeadRequests")
_QUEUE = (
    "NumberOfMessagesSent",
    "NumberOfMessagesReceived",
    "NumberOfMessagesDeleted",
    "NumberOfEmptyReceives",
)


def memory(aws: Aws, name: str) -> dict[str, int]:
    """The memory of each function that there is, MB."""
    client = aws.client("lambda", read_timeout=60.0)
    found = {}
    for each in _FUNCTIONS:
        try:
            answer = aws.call("function", client.get_function_configuration, FunctionName=f"{name}-{each}")
        except Denied:
            continue
        found[each] = int(answer["MemorySize"])
    return found


def count_requests(aws: Aws, bucket: str) -> None:
    """Have S3 count the requests to a bucket, which it does only where it is asked to."""
    client = aws.client("s3", read_timeout=60.0)
    try:
        aws.call(
            "request metrics",
            client.put_bucket_metrics_configuration,
            Bucket=bucket,
            Id=_FILTER,
            MetricsConfiguration={"Id": _FILTER},
        )
    except DriverError:
        pass  # then they are not counted, which the report says


def sums(aws: Aws, metrics: Sequence[Metric], began: float, ended: float) -> list[float | None]:
    """The sum of each metric between two moments (s since 1970); None: it has no data."""
    client = aws.client("cloudwatch", read_timeout=60.0)
    found: list[float | None] = []
    for start in range(0, len(metrics), _AT_ONCE):
        asked = metrics[start : start + _AT_ONCE]
        queries = [
            {
                "Id": f"m{number}",
                "MetricStat": {
                    "Metric": {
                        "Namespace": namespace,
                        "MetricName": name,
                        "Dimensions": [{"Name": key, "Value": value} for key, value in dimensions.items()],
                    },
                    "Period": _PERIOD_S,
                    "Stat": "Sum",
                },
            }
            for number, (namespace, name, dimensions) in enumerate(asked)
        ]
        values: dict[str, list[float]] = {f"m{number}": [] for number in range(len(asked))}
        more: dict[str, str] = {}
        while True:
            page = aws.call(
                "metrics",
                client.get_metric_data,
                MetricDataQueries=queries,
                StartTime=datetime.fromtimestamp(began - _PERIOD_S, UTC),
                EndTime=datetime.fromtimestamp(ended + _PERIOD_S, UTC),
                **more,
            )
            for each in page["MetricDataResults"]:
                values[each["Id"]] += each["Values"]
            if not page.get("NextToken"):
                break
            more = {"NextToken": page["NextToken"]}
        found += [sum(each) if each else None for each in values.values()]
    return found


def _total(found: Sequence[float | None]) -> float | None:
    counted = [each for each in found if each is not None]
    return sum(counted) if counted else None


def usage(aws: Aws, config: Config, memory_mb: Mapping[str, int], began: float, ended: float) -> list[Used]:
    """What was used between two moments."""
    name = config.deployment_name
    costs = costs_of(config)
    assert costs is not None
    price = costs.table

    def total(namespace: str, names: Sequence[str], dimensions: Sequence[Mapping[str, str]]) -> float | None:
        asked = [(namespace, each, one) for each in names for one in dimensions]
        return _total(sums(aws, asked, began, ended))

    tables = [{"TableName": f"{name}-{each}"} for each in _TABLES]
    used = [
        Used(
            f"DynamoDB, {what} units",
            total("AWS/DynamoDB", [f"Consumed{what.title()}CapacityUnits"], tables),
            price["dynamodb"][f"{what}-unit"],
            f"AWS/DynamoDB Consumed{what.title()}CapacityUnits",
        )
        for what in ("write", "read")
    ]
    bucket = {"BucketName": _bucket(aws, config), "FilterId": _FILTER}
    for what, names in (("put", _PUTS), ("get", _GETS)):
        used.append(
            Used(f"S3, {what} requests", total("AWS/S3", names, [bucket]), price["s3"][what],
                 f"AWS/S3 {', '.join(names)}")
        )  # fmt: skip
    for kind, queues in _queues(aws, name).items():
        used.append(
            Used(
                f"SQS, requests to {kind} queues, at most",
                total("AWS/SQS", _QUEUE, [{"QueueName": each} for each in queues]),
                price["sqs"]["fifo-request" if kind == "fifo" else "request"],
                "AWS/SQS messages sent, received and deleted, and empty receives",
            )
        )
    calls, seconds = [], []
    for function, megabytes in memory_mb.items():
        dimensions = [{"FunctionName": f"{name}-{function}"}]
        calls.append(total("AWS/Lambda", ["Invocations"], dimensions))
        took = total("AWS/Lambda", ["Duration"], dimensions)
        seconds.append(None if took is None else took / 1000 * megabytes / 1024)
    used.append(Used("Lambda, requests", _total(calls), price["lambda"]["request"], "AWS/Lambda Invocations"))
    used.append(
        Used("Lambda, GB-seconds", _total(seconds), price["lambda"]["gb-second"], "AWS/Lambda Duration")
    )
    groups = [{"LogGroupName": f"/aws/lambda/{name}-{each}"} for each in memory_mb]
    written = total("AWS/Logs", ["IncomingBytes"], groups)
    used.append(
        Used("CloudWatch, GB of logs", None if written is None else written / GB,
             price["cloudwatch"]["log-gb"], "AWS/Logs IncomingBytes")
    )  # fmt: skip
    months = (ended - began) / MONTH_S
    section = config.provider_config.get("deploy", {})
    if section.get("Monitoring", "yes") != "no":
        rest = costs.at_rest()
        each = sum(value for key, value in rest.items() if "free" in key)
        used.append(Used("alarms and dashboard, months", months, each, "the time they were there"))
    return used


def _bucket(aws: Aws, config: Config) -> str:
    """The name of the bucket of data, as in the template."""
    identity = aws.call("who am I", aws.client("sts").get_caller_identity)
    return f"{config.deployment_name}-{identity['Account']}-{config.deployment_region}"


def _queues(aws: Aws, name: str) -> dict[str, list[str]]:
    """The names of queues of the deployment and its clients that CloudWatch knows of, by kind.

    Clients' queues are gone when this is asked.
    """
    client = aws.client("cloudwatch", read_timeout=60.0)

    def pages() -> list[Any]:
        return list(client.get_paginator("list_metrics").paginate(Namespace="AWS/SQS"))

    names = {
        each["Value"]
        for page in aws.call("metrics", pages)
        for metric in page["Metrics"]
        for each in metric["Dimensions"]
        if each["Name"] == "QueueName" and each["Value"].startswith(f"{name}-")
    }
    kinds: dict[str, list[str]] = {"fifo": [], "standard": []}
    for each in sorted(names):
        kinds["fifo" if each.endswith(".fifo") else "standard"].append(each)
    return kinds
