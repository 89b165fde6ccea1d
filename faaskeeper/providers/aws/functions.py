"""The four functions as Lambda handlers: writer, distributor, watch, heartbeat.

One process of Lambda's runs one of them, one call at a time. Connections, the writer's view and what else is
costly to make live from the first call to the process' end; the configuration is in the environment
(``FAASKEEPER_CONFIG``, JSON; ``FAASKEEPER_LOG_LEVEL``). Nothing is made at import time.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from enum import Enum
from functools import cache
from typing import Any, Protocol

from faaskeeper.config import ClientChannel, Config
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.distributor import DistributorFunction
from faaskeeper.core.errors import Denied, DriverError, StaleView
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.log import ENTRY_BYTES, Log
from faaskeeper.core.watches import Secrets, WatchFunction
from faaskeeper.core.writer import Writer
from faaskeeper.providers.aws import channels
from faaskeeper.providers.aws.clients import CONNECT_S, READ_S, TRIES
from faaskeeper.providers.aws.events import Message, failures, messages_of
from faaskeeper.providers.aws.reports import JsonFormatter, Metrics, log_as_json
from faaskeeper.providers.aws.service import Place, clock
from faaskeeper.providers.direct import Contended

RESERVE_MS = int((CONNECT_S + READ_S) * TRIES * 1000) + 3_000
"""Time that must be left to begin with a part of a batch: the longest that one call may last, and some."""
_LOSSES = 50
"""Appends lost in a row to direct writers after which a batch is looked at anew, and its time."""
_PAUSES_S = (0.02, 0.1, 0.5)
_log = logging.getLogger(__name__)


class Context(Protocol):
    """What is used of Lambda's context."""

    aws_request_id: str

    def get_remaining_time_in_millis(self) -> int:
        """Ms until the call is cut off."""


def parts(messages: Sequence[Message]) -> Iterator[list[Message]]:
    """A batch in parts of about an entry's size, so that time can be looked at in between."""
    part: list[Message] = []
    size = 0
    for each in messages:
        part.append(each)
        size += len(each.body or b"")
        if size >= ENTRY_BYTES:
            yield part
            part, size = [], 0
    if part:
        yield part


def serve(
    messages: Sequence[Message],
    handle: Callable[[Sequence[bytes]], None],
    time_left: Callable[[], int],
    pause: Callable[[float], None] = time.sleep,
) -> list[Message]:
    """Hand messages to a function; returns those that must come again.

    What a store refuses for now is tried again while there is time, then given back. What fails for another
    reason is tried message by message, so that one that cannot be handled takes no others with it, but those
    that follow it in its own group: they must not overtake it.
    """
    failed: list[Message] = []
    blocked: set[str] = set()

    def give_back(messages: Sequence[Message]) -> None:
        failed.extend(messages)
        blocked.update(each.group for each in messages)

    for part in parts(messages):
        failed.extend(each for each in part if each.group in blocked)
        taken = [each for each in part if each.group not in blocked]
        if not taken:
            continue
        if time_left() < RESERVE_MS:
            _log.warning("%d messages are given back: the time is up", len(taken))
            give_back(taken)
            continue
        outcome = _attempt(taken, handle, time_left, pause)
        if outcome is _Outcome.LATER or (outcome is _Outcome.BROKEN and len(taken) == 1):
            give_back(taken)
        elif outcome is _Outcome.BROKEN:
            for each in taken:
                fits = each.group not in blocked and time_left() >= RESERVE_MS
                if not fits or _attempt([each], handle, time_left, pause) is not _Outcome.DONE:
                    give_back([each])
    return failed


class _Outcome(Enum):
    DONE = "done"
    LATER = "a store does not let us, or not now"
    BROKEN = "it cannot be handled"


def _attempt(
    part: Sequence[Message],
    handle: Callable[[Sequence[bytes]], None],
    time_left: Callable[[], int],
    pause: Callable[[float], None],
) -> _Outcome:
    bodies = [each.body for each in part if each.body is not None]
    for seconds in (*_PAUSES_S, 0.0):
        try:
            handle(bodies)
        except (DriverError, StaleView) as error:
            _log.warning("the function failed on %d messages: %s", len(part), error)
            if isinstance(error, Denied) or time_left() < RESERVE_MS:
                break
            pause(seconds)
        except Exception:
            _log.exception("the function failed on %d messages", len(part))
            return _Outcome.BROKEN
        else:
            return _Outcome.DONE
    return _Outcome.LATER


class Functions:
    """The functions of one process. ``environment``: as Lambda sets it.

    ``begins``: it is heartbeat's process, which begins the deployment where nobody has.
    """

    def __init__(
        self, environment: Mapping[str, str], begins: bool, say: Callable[[str], None] = print
    ) -> None:
        config = Config.deserialize(json.loads(environment["FAASKEEPER_CONFIG"]))
        self._formatter: JsonFormatter = log_as_json(environment.get("FAASKEEPER_LOG_LEVEL", "WARNING"))
        every = config.benchmarking_frequency if config.benchmarking else 0
        function = environment.get("AWS_LAMBDA_FUNCTION_NAME", "")
        self.metrics = Metrics(config.deployment_name, function, every, say, clock)
        self.place = Place(config)
        if every:
            self.place.aws.observe(self.metrics.observe)
        key = self.place.begun() if begins else self.place.key()
        log = Log(Contended(self.place.table("log"), losses=_LOSSES))
        self.deployment: Deployment = self.place.deployment(key, log=log)
        self._handles: dict[str, Callable[[Sequence[bytes]], None]] = {}

    def _handle_of(self, which: str) -> Callable[[Sequence[bytes]], None]:
        handle = self._handles.get(which)
        if handle is None:
            deployment = self.deployment
            if which == "writer":
                handle = Writer(deployment).handle
            elif which == "distributor":
                handle = DistributorFunction(deployment).handle
            else:
                secrets = Secrets(deployment.key)
                handle = WatchFunction(
                    deployment.watches, deployment.channel, secrets, deployment.gather, deployment.key
                ).handle
            self._handles[which] = handle
        return handle

    def batch(self, which: str, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """A batch for the writer, the distributor or the watch function."""
        self._formatter.request = context.aws_request_id
        began = time.perf_counter()
        messages = messages_of(event)
        ours = [each for each in messages if each.body is not None]
        if len(ours) < len(messages):
            _log.warning("dropped %d messages that no client made", len(messages) - len(ours))
        failed = serve(ours, self._handle_of(which), context.get_remaining_time_in_millis)
        self.metrics.finish(
            messages=len(messages),
            sent=min((each.sent for each in messages), default=0),
            failed=len(failed),
            took=(time.perf_counter() - began) * 1000,
        )
        if failed and any(not each.identity for each in failed):
            raise DriverError("the call failed, as the log says: it is to be repeated")
        return failures(failed)

    def heartbeat(self, event: Mapping[str, Any], context: Context) -> dict[str, Any]:
        """A beat, or with ``{"sweep": true}`` what is enough now and then."""
        self._formatter.request = context.aws_request_id
        began = time.perf_counter()
        deployment = self.deployment
        beat = Heartbeat(deployment, self.place.table("heartbeat"))
        done: dict[str, Any] = {}
        if event.get("sweep"):
            beat.refresh()
            beat.sweep()
            if self.place.config.client_channel is ClientChannel.SQS:
                wanted = _addresses(deployment.checkpoints)
                leases = self.place.table("lease")
                done["queues"] = len(channels.leftovers(self.place.aws, leases, wanted, clock()))
        else:
            done["expired"] = len(beat.expire())
            done["reaped"] = len(beat.reap())
            done["rang"] = beat.ring()
        self.metrics.finish(messages=0, sent=0, failed=0, took=(time.perf_counter() - began) * 1000)
        return done


def _addresses(checkpoints: Checkpoints) -> list[str]:
    """Where the sessions of the last checkpoint are told things."""
    return [session.address for session in checkpoints.load(clock())[1] if not session.closed]


@cache
def _functions(begins: bool = False) -> Functions:
    return Functions(os.environ, begins)


def writer(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Judges and commits requests; distributes too, where that is inline."""
    return _functions().batch("writer", event, context)


def distributor(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Brings the log into user storage and answers."""
    return _functions().batch("distributor", event, context)


def watch(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Tells watchers."""
    return _functions().batch("watch", event, context)


def heartbeat(event: Mapping[str, Any], context: Context) -> dict[str, Any]:
    """Ends sessions whose clients are silent, and more that must happen although nobody asks."""
    return _functions(True).heartbeat(event, context)
