"""What a client sees of its deployment: each check says what it found and, where that is bad, what to do."""

from __future__ import annotations

import email.utils
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from faaskeeper.cli.aws.deadletters import DeadLetters
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.errors import Denied, DriverError, StaleView
from faaskeeper.core.log import PARTITION, key
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.providers.aws.service import Place
from faaskeeper.providers.cloud.place import clock

_SKEW_MS = 5_000
_OLD_MS = 36 * 3600 * 1000
_LAG_MS = 60_000


class Finding(NamedTuple):
    """``good``: None where it could not be found out, which is no fault."""

    what: str
    good: bool | None
    said: str


class Doctor:
    """The checks, in the order in which a fault shows first."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._place = Place(config)
        self._told: Mapping[str, Any] = {}
        self._asked = 0.0
        self._made = self._place.deployment(b"", distributor_queue=None, worker_queue=None)

    def close(self) -> None:
        """Close all connections."""
        self._place.aws.close()

    def findings(self) -> Iterator[Finding]:
        """Each check's finding, as it is made."""
        for what, check in (
            ("credentials", self._credentials),
            ("clock", self._clock),
            ("tree", self._tree),
            ("heartbeat", self._heartbeat),
            ("log", self._lag),
            ("requests that wait", self._queue),
            ("dead letters", self._dead),
            ("a session", self._session),
        ):
            yield self._checked(what, check)

    @staticmethod
    def _checked(what: str, check: Callable[[], Finding]) -> Finding:
        try:
            return check()
        except (DriverError, StaleView, FaaSKeeperException) as error:
            return Finding(what, False, str(error))

    def _credentials(self) -> Finding:
        began = time.time()
        aws = self._place.aws
        self._told = aws.call("who am I", aws.client("sts").get_caller_identity)
        self._asked = (began + time.time()) / 2
        return Finding("credentials", True, str(self._told["Arn"]))

    def _clock(self) -> Finding:
        date = self._told["ResponseMetadata"]["HTTPHeaders"].get("date", "") if self._told else ""
        if not date:
            return Finding("clock", None, "the service did not tell its time")
        skew = self._asked - email.utils.parsedate_to_datetime(date).timestamp() - 0.5
        if abs(skew) * 1000 > _SKEW_MS:
            return Finding("clock", False, f"{skew:+.1f} s from AWS': have NTP set this machine's clock")
        return Finding("clock", True, "agrees with AWS' within a second or two")

    def _tree(self) -> Finding:
        began = time.perf_counter()
        record = self._made.records.get("/")
        took = (time.perf_counter() - began) * 1000
        if record is None:
            return Finding(
                "tree", False, "there is no tree: call the heartbeat's function once, it begins one"
            )
        return Finding("tree", True, f"read in {took:.0f} ms")

    def _heartbeat(self) -> Finding:
        age = clock() - self._made.checkpoints.header().asof
        if age > _OLD_MS:
            return Finding(
                "heartbeat",
                False,
                f"the checkpoint is {age // 3_600_000} hours old: is the schedule on, what does its log say?",
            )
        return Finding("heartbeat", True, f"the checkpoint is {age // 60_000} minutes old")

    def _lag(self) -> Finding:
        applied = self._made.checkpoints.applied()
        page = self._place.table("log").query(PARTITION, key(applied), 100)
        if not page.items:
            return Finding("log", True, f"applied up to its end, {applied}")
        oldest = page.items[0][1]["time"]
        age = clock() - oldest if isinstance(oldest, int) else 0
        many = f"{len(page.items)}{'+' if page.more else ''}"
        if age > _LAG_MS:
            return Finding(
                "log",
                False,
                f"{many} entries above the mark, the oldest {age // 1000} s old: what do the logs of writer "
                "and distributor say?",
            )
        return Finding("log", True, f"{many} entries above the mark, the oldest {age // 1000} s old")

    def _queue(self) -> Finding:
        url = self._place.section.get("worker-queue-url")
        if not url:
            return Finding("requests that wait", None, "a table's stream hands them over; it cannot be asked")
        aws, asked = self._place.aws, ["ApproximateNumberOfMessages"]
        try:
            told = aws.call(
                "worker queue",
                aws.client("sqs").get_queue_attributes,
                QueueUrl=url,
                AttributeNames=asked,
            )
            oldest = self._oldest(str(url))
        except Denied:
            return Finding("requests that wait", None, "these credentials may not look")
        number = int(told["Attributes"][asked[0]])
        if oldest is not None and oldest > 60:
            return Finding("requests that wait", False, f"{number}, the oldest for {oldest:.0f} s")
        waited = "" if oldest is None else f", the oldest for {oldest:.0f} s"
        return Finding("requests that wait", True, f"{number}{waited}")

    def _oldest(self, url: str) -> float | None:
        """Age of the oldest message in s, by the metric; None where it is not known."""
        aws, now = self._place.aws, time.time()
        try:
            told = aws.call(
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
        points: list[Any] = sorted(told["Datapoints"], key=lambda each: each["Timestamp"])
        return float(points[-1]["Maximum"]) if points else None

    def _dead(self) -> Finding:
        try:
            found = DeadLetters(self._place).counts()
        except Denied:
            return Finding("dead letters", None, "these credentials may not look")
        number = sum(found.values())
        if number:
            where = ", ".join(f"{many} in {name}" for name, many in found.items() if many)
            return Finding("dead letters", False, f"{where}: 'fk deadletters' shows them")
        return Finding("dead letters", True, "none")

    def _session(self) -> Finding:
        client = FaaSKeeperClient(self._config)
        began = time.perf_counter()
        try:
            client.start()
            opened = (time.perf_counter() - began) * 1000
            began = time.perf_counter()
            client.create("/fk-doctor-", ephemeral=True, sequential=True)
            written = (time.perf_counter() - began) * 1000
        except FaaSKeeperException as error:
            return Finding(
                "a session",
                False,
                f"{error}. By TCP the functions must reach this machine: aws.client-host says where, "
                "'client-channel': 'sqs' does without",
            )
        finally:
            client.stop()
        return Finding("a session", True, f"opened in {opened:.0f} ms, a write in {written:.0f} ms")
