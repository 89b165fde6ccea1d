"""What a client sees of its deployment: each check says what it found and, where that is bad, what to do."""

from __future__ import annotations

import email.utils
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import NamedTuple

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.core.log import PARTITION, key
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.providers.clocks import clock
from faaskeeper.providers.cloud.service import CloudService

_SKEW_MS = 5_000
_OLD_MS = 36 * 3600 * 1000
_LAG_MS = 60_000


class Finding(NamedTuple):
    """``good``: None where it could not be found out, which is no fault."""

    what: str
    good: bool | None
    said: str


Check = Callable[[], Finding]


def clock_finding(asked: float, date: str, whose: str) -> Finding:
    """How this machine's clock stands to a service's. ``asked``: when it was, s; ``date``: as it answered."""
    if not date:
        return Finding("clock", None, "the service did not tell its time")
    skew = asked - email.utils.parsedate_to_datetime(date).timestamp() - 0.5
    if abs(skew) * 1000 > _SKEW_MS:
        return Finding("clock", False, f"{skew:+.1f} s from {whose}: have NTP set this machine's clock")
    return Finding("clock", True, f"agrees with {whose} within a second or two")


class Doctor(ABC):
    """The checks, in the order in which a fault shows first. ``without_tcp``: the channel without TCP."""

    without_tcp: str

    def __init__(self, config: Config, service: CloudService) -> None:
        self._config = config
        self._cloud = service
        self._made = service.deployment(b"", distributor_queue=None, worker_queue=None)

    def close(self) -> None:
        """Close all connections."""
        self._cloud.calls.close()

    @abstractmethod
    def before(self) -> Iterator[tuple[str, Check]]:
        """Checks of what must be there before the deployment can be looked at."""

    @abstractmethod
    def after(self) -> Iterator[tuple[str, Check]]:
        """Checks of the queues."""

    def findings(self) -> Iterator[Finding]:
        """Each check's finding, as it is made."""
        for what, check in (
            *self.before(),
            ("tree", self._tree),
            ("heartbeat", self._heartbeat),
            ("log", self._lag),
            *self.after(),
            ("a session", self._session),
        ):
            yield self._checked(what, check)

    @staticmethod
    def _checked(what: str, check: Callable[[], Finding]) -> Finding:
        try:
            return check()
        except (DriverError, StaleView, FaaSKeeperException) as error:
            return Finding(what, False, str(error))

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
        page = self._cloud.table("log").query(PARTITION, key(applied), 100)
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
                f"{error}. By TCP the functions must reach this machine: "
                f"{self._config.provider_name}.client-host says where, "
                f"'client-channel': {self.without_tcp!r} does without",
            )
        finally:
            client.stop()
        return Finding("a session", True, f"opened in {opened:.0f} ms, a write in {written:.0f} ms")
