"""Checks of a deployment on AWS."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any

from faaskeeper.config import Config
from faaskeeper.core.errors import Denied
from faaskeeper.deploy.aws import formerqueue
from faaskeeper.deploy.aws.deadletters import AwsDeadLetters
from faaskeeper.deploy.doctor import Check, Doctor, Finding, clock_finding
from faaskeeper.providers.aws.service import AwsService


class AwsDoctor(Doctor[AwsService]):
    """Checks of a deployment on AWS."""

    def __init__(self, config: Config) -> None:
        super().__init__(config, AwsService(config))
        self._identity: Mapping[str, Any] = {}
        self._asked = 0.0

    def before(self) -> Iterator[tuple[str, Check]]:
        yield "credentials", self._credentials
        yield "clock", self._clock

    def after(self) -> Iterator[tuple[str, Check]]:
        yield "worker queue", self.queue
        if self.service.section.get("former-worker-queue"):
            yield "former queue", self._former
        yield "dead letters", self._dead

    def _credentials(self) -> Finding:
        began = time.time()
        aws = self.service.aws
        self._identity = aws.call("who am I", aws.client("sts").get_caller_identity)
        self._asked = (began + time.time()) / 2
        return Finding("credentials", True, str(self._identity["Arn"]))

    def _clock(self) -> Finding:
        date = self._identity["ResponseMetadata"]["HTTPHeaders"].get("date", "") if self._identity else ""
        return clock_finding(self._asked, date, "AWS'")

    def queue(self) -> Finding:
        """What waits in the worker queue."""
        url = self.service.section.get("worker-queue-url")
        if not url:
            return Finding("worker queue", None, "the length of a table's stream is not available")
        aws, attribute = self.service.aws, "ApproximateNumberOfMessages"
        try:
            answer = aws.call(
                "worker queue",
                aws.client("sqs").get_queue_attributes,
                QueueUrl=url,
                AttributeNames=[attribute],
            )
            oldest = self._oldest(str(url))
        except Denied:
            return Finding("worker queue", None, "these credentials may not read its attributes")
        number = int(answer["Attributes"][attribute])
        if oldest is not None and oldest > 60:
            return Finding("worker queue", False, f"{number} requests, the oldest waiting for {oldest:.0f} s")
        waited = "" if oldest is None else f", the oldest waiting for {oldest:.0f} s"
        return Finding("worker queue", True, f"{number} requests{waited}")

    def _former(self) -> Finding:
        kind = self.service.text("former-worker-queue")
        if kind not in formerqueue.KINDS:
            return Finding("former queue", False, f"'aws.former-worker-queue' is {kind!r}: deploy again")
        try:
            used = formerqueue.use(self.service.aws, self.config.deployment_name, kind)
        except Denied:
            return Finding("former queue", None, "these credentials may not read its attributes")
        if used is None:
            return Finding(
                "former queue",
                True,
                f"{kind}: it is gone: 'fk deploy service' writes the clients' configuration without it",
            )
        if used.over:
            return Finding("former queue", True, f"{kind}: {used}; the next 'fk deploy service' removes it")
        return Finding("former queue", True, f"{kind}: {used}; it stays for these clients")

    def _oldest(self, url: str) -> float | None:
        """Age of the oldest message in s, from its metric; None if it is not available."""
        aws, now = self.service.aws, time.time()
        try:
            answer = aws.call(
                "age of the oldest message",
                aws.client("cloudwatch").get_metric_statistics,
                Namespace="AWS/SQS",
                MetricName="ApproximateAgeOfOldestMessage",
                Dimensions=[{"Name": "QueueName", "Value": url.rsplit("/", 1)[-1]}],
                StartTime=now - 300,
                EndTime=now,
                Period=60,
                Statistics=["Maximum"],
            )
        except Denied:
            return None
        points: list[Any] = sorted(answer["Datapoints"], key=lambda each: each["Timestamp"])
        return float(points[-1]["Maximum"]) if points else None

    def _dead(self) -> Finding:
        try:
            found = AwsDeadLetters(self.service).counts()
        except Denied:
            return Finding("dead letters", None, "these credentials may not read the queues")
        number = sum(found.values())
        if number:
            where = ", ".join(f"{many} in {name}" for name, many in found.items() if many)
            return Finding("dead letters", False, f"{where}: 'fk deadletters' lists them")
        return Finding("dead letters", True, "none")
