"""Checks of a deployment from the client's side. A failed check says how to fix the problem."""

from __future__ import annotations

import email.utils
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Generic, TypeVar

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.clocks import clock
from faaskeeper.config import Config
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.deploy.findings import Finding as Finding
from faaskeeper.exceptions import FaaSKeeperException
from faaskeeper.providers.cloud.calls import NoCredentials
from faaskeeper.providers.cloud.service import CloudService

_SKEW_MS = 5_000
_OLD_MS = 36 * 3600 * 1000
_LAG_MS = 60_000

Service = TypeVar("Service", bound=CloudService)


Check = Callable[[], Finding]


def clock_finding(asked: float, date: str, whose: str) -> Finding:
    """Compare this machine's clock with a service's.

    ``asked``: time of the request, s since 1970; ``date``: header of the response; ``whose``: the
    service's name.
    """
    if not date:
        return Finding("clock", None, "the response has no date")
    skew = asked - email.utils.parsedate_to_datetime(date).timestamp() - 0.5
    if abs(skew) * 1000 > _SKEW_MS:
        return Finding("clock", False, f"{skew:+.1f} s from {whose}: synchronize this machine's clock by NTP")
    return Finding("clock", True, f"within two seconds of {whose}")


class Doctor(ABC, Generic[Service]):
    """The checks, ordered such that the first failure is the cause."""

    def __init__(self, config: Config, service: Service) -> None:
        self.config = config
        self.service = service
        self._deployment = service.deployment(b"", distributor_queue=None, worker_queue=None)

    def close(self) -> None:
        """Close all connections."""
        self.service.calls.close()

    @abstractmethod
    def before(self) -> Iterator[tuple[str, Check]]:
        """Checks of the prerequisites for reading the deployment."""

    @abstractmethod
    def queue(self) -> Finding:
        """What waits in the worker queue."""

    @abstractmethod
    def after(self) -> Iterator[tuple[str, Check]]:
        """Checks of the queues."""

    def findings(self) -> Iterator[Finding]:
        """The finding of each check, as soon as it is made.

        Without credentials no check after that could find anything, so none is made.
        """
        for what, check in (
            *self.before(),
            ("tree", self._tree),
            ("heartbeat", self._heartbeat),
            ("log", self._lag),
            *self.after(),
            ("session", self._session),
        ):
            try:
                yield self._checked(what, check)
            except NoCredentials as error:
                yield Finding(what, False, str(error))
                return

    @staticmethod
    def _checked(what: str, check: Callable[[], Finding]) -> Finding:
        try:
            return check()
        except NoCredentials:
            raise
        except (DriverError, StaleView, FaaSKeeperException) as error:
            return Finding(what, False, str(error))

    def _tree(self) -> Finding:
        began = time.perf_counter()
        record = self._deployment.records.get("/")
        took = (time.perf_counter() - began) * 1000
        if record is None:
            return Finding(
                "tree", False, "there is no tree: invoke the heartbeat function once, which creates it"
            )
        return Finding("tree", True, f"read in {took:.0f} ms")

    def _heartbeat(self) -> Finding:
        age = clock() - self._deployment.checkpoints.header().asof
        if age > _OLD_MS:
            return Finding(
                "heartbeat",
                False,
                f"the checkpoint is {age // 3_600_000} hours old: check the schedule and heartbeat's logs",
            )
        return Finding("heartbeat", True, f"the checkpoint is {age // 60_000} minutes old")

    def _lag(self) -> Finding:
        applied = self._deployment.checkpoints.applied()
        entries, more = self._deployment.log.after(applied)
        if not entries:
            return Finding("log", True, f"applied up to its end, txid {applied}")
        age = clock() - entries[0].time
        many = f"{len(entries)}{'+' if more else ''}"
        if age > _LAG_MS:
            return Finding(
                "log",
                False,
                f"{many} entries above the mark, the oldest {age // 1000} s old: check the logs of the "
                "writer and the distributor",
            )
        return Finding("log", True, f"{many} entries above the mark, the oldest {age // 1000} s old")

    def _session(self) -> Finding:
        client = FaaSKeeperClient(self.config)
        began = time.perf_counter()
        try:
            client.start()
            opened = (time.perf_counter() - began) * 1000
            began = time.perf_counter()
            client.create("/fk-doctor-", ephemeral=True, sequential=True)
            written = (time.perf_counter() - began) * 1000
        except FaaSKeeperException as error:
            return Finding("session", False, str(error))
        finally:
            client.stop()
        return Finding("session", True, f"opened in {opened:.0f} ms, a write took {written:.0f} ms")
