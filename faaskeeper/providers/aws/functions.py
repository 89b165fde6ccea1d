"""The four functions as Lambda handlers: writer, distributor, watch, heartbeat.

A Lambda process runs one of them, one invocation at a time. Connections, the writer's view and
other costly objects live from the first invocation to the end of the process. The configuration is
in the environment (``FAASKEEPER_CONFIG``, JSON; ``FAASKEEPER_LOG_LEVEL``). Nothing is created at
import time.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any, Protocol

from faaskeeper.clocks import clock
from faaskeeper.config import ClientChannel, Config
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.errors import DriverError
from faaskeeper.providers.aws import channels
from faaskeeper.providers.aws.clients import CONNECT_S, READ_S, TRIES
from faaskeeper.providers.aws.events import failures, messages_of
from faaskeeper.providers.aws.reports import JsonFormatter, Metrics
from faaskeeper.providers.aws.service import AwsService
from faaskeeper.providers.cloud.functions import Warm
from faaskeeper.providers.cloud.logs import log_as_json
from faaskeeper.providers.cloud.serving import serve

RESERVE_MS = int((CONNECT_S + READ_S) * TRIES * 1000) + 3_000
"""Time that must remain to start a part of a batch: the longest possible call, and a margin."""
_log = logging.getLogger(__name__)


class Context(Protocol):
    """The part of Lambda's context that is used."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Milliseconds until Lambda stops the invocation."""


class Functions:
    """The functions of one process. ``environment``: as Lambda sets it.

    ``begins``: this is heartbeat's process, which initializes a new deployment.
    """

    def __init__(
        self, environment: Mapping[str, str], begins: bool, say: Callable[[str], None] = print
    ) -> None:
        config = Config.deserialize(json.loads(environment["FAASKEEPER_CONFIG"]))
        self._formatter = log_as_json(environment.get("FAASKEEPER_LOG_LEVEL", "WARNING"), kind=JsonFormatter)
        every = config.benchmarking_frequency if config.benchmarking else 0
        function = environment.get("AWS_LAMBDA_FUNCTION_NAME", "")
        self.metrics = Metrics(config.deployment_name, function, every, say, clock)
        self.service = AwsService(config)
        if every:
            self.service.aws.observe(self.metrics.observe)
        self._warm = Warm(self.service, begins)
        self.deployment = self._warm.deployment

    def batch(self, which: str, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Process a batch for the writer, the distributor or the watch function."""
        self._formatter.request = context.aws_request_id
        began = time.perf_counter()
        messages = messages_of(event)
        ours = [each for each in messages if each.body is not None]
        if len(ours) < len(messages):
            _log.warning("dropped %d messages that no client sent", len(messages) - len(ours))
        failed = serve(ours, self._warm.handle_of(which), context.get_remaining_time_in_millis, RESERVE_MS)
        self.metrics.finish(
            messages=len(messages),
            sent=min((each.sent for each in messages), default=0),
            failed=len(failed),
            took=(time.perf_counter() - began) * 1000,
        )
        if failed and any(not each.identity for each in failed):
            raise DriverError("the invocation failed and must be repeated: see the log above")
        return failures(failed)

    def heartbeat(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """Heartbeat; see :meth:`faaskeeper.providers.cloud.functions.Warm.beat`."""
        self._formatter.request = context.aws_request_id
        began = time.perf_counter()
        done = self._warm.beat(event)
        if event.get("sweep") and self.service.config.client_channel is ClientChannel.SQS:
            wanted = _addresses(self.deployment.checkpoints)
            leases = self.service.table("lease")
            done["queues"] = len(channels.leftovers(self.service.aws, leases, wanted, clock()))
        self.metrics.finish(messages=0, sent=0, failed=0, took=(time.perf_counter() - began) * 1000)
        return done


def _addresses(checkpoints: Checkpoints) -> list[str]:
    """The addresses of the sessions in the last checkpoint."""
    return [session.address for session in checkpoints.load(clock())[1] if not session.closed]


@cache
def _functions(begins: bool = False) -> Functions:
    return Functions(os.environ, begins)


def writer(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Validates and commits requests; distributes too, if that is inline."""
    return _functions().batch("writer", event, context)


def distributor(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Applies committed entries to user storage and answers clients."""
    return _functions().batch("distributor", event, context)


def watch(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Notifies watchers."""
    return _functions().batch("watch", event, context)


def heartbeat(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Expires sessions of silent clients and performs other periodic work."""
    return _functions(True).heartbeat(event, context)
