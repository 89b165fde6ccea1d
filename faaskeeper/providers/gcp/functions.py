"""The four functions as targets of the Functions Framework: writer, distributor, watch, heartbeat.

Each is an HTTP function. Pub/Sub pushes a message by POST, bare or in a CloudEvent; it takes 2xx as
success and repeats after 5xx. Cloud Scheduler calls heartbeat. GET checks the function's health.
The platform decides who may call (OIDC tokens, ``roles/run.invoker``).

An instance serves many requests at a time, and commits them in batches: one request's thread takes
the messages of all waiting requests and processes them together.

The configuration is in the environment (``FAASKEEPER_CONFIG``, JSON; ``FAASKEEPER_LOG_LEVEL``;
``FAASKEEPER_TIMEOUT_S``, the function's time-out). Nothing is created at import time.
"""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any, TypedDict

from faaskeeper import __version__
from faaskeeper.clocks import clock
from faaskeeper.config import Config
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.core.sweeping import WITHIN_MS
from faaskeeper.providers.cloud.functions import Handle, Warm
from faaskeeper.providers.cloud.logs import log_as_json
from faaskeeper.providers.cloud.serving import Message, serve
from faaskeeper.providers.gcp.clients import CALL_S, TRY_S
from faaskeeper.providers.gcp.events import message_of
from faaskeeper.providers.gcp.reports import JsonFormatter, Metrics
from faaskeeper.providers.gcp.service import ENTRY_BYTES, GcpService

if TYPE_CHECKING:
    from flask import Request

RESERVE_MS = int((CALL_S + TRY_S) * 1000) + 3_000
"""Time that must remain to start a part of a batch: the longest possible call, and a margin."""
TIMEOUT_S = 60
"""The functions' time-out in the templates."""
_MOST = 500
_log = logging.getLogger(__name__)

Answer = tuple[str, int]


class Batch(TypedDict):
    """A batch's result: messages, time of the first (ms), failed messages, duration (ms)."""

    messages: int
    sent: int
    failed: int
    took: float


class _Waiting:
    __slots__ = ("deadline", "done", "message", "served")

    def __init__(self, message: Message, deadline: float) -> None:
        self.message = message
        self.deadline = deadline
        self.served = False
        self.done = False


class Gathering:
    """Gathers the messages of concurrent requests into batches; one batch runs at a time.

    A request's thread runs the batch with its message, unless another thread has done so.
    ``finish`` receives the result of each batch.
    """

    def __init__(
        self,
        handle: Handle,
        finish: Callable[[Batch], None] = lambda batch: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._handle = handle
        self._finish = finish
        self._clock = clock
        self._turn = threading.Lock()
        self._lock = threading.Lock()
        self._waiting: list[_Waiting] = []

    def submit(self, message: Message, deadline: float) -> bool:
        """Process a message; returns False if it must be delivered again.

        ``deadline``: of the request, in seconds by the clock.
        """
        mine = _Waiting(message, deadline)
        with self._lock:
            self._waiting.append(mine)
        while not mine.served:
            with self._turn:
                if not mine.served:
                    self._run()
        return mine.done

    def _run(self) -> None:
        with self._lock:
            batch, self._waiting = self._waiting[:_MOST], self._waiting[_MOST:]
        began = self._clock()
        # a request that has waited for long must not make the others fail
        deadline = max(each.deadline for each in batch)
        failed: set[int] = set(range(len(batch)))
        messages = [each.message for each in batch]
        try:
            left = serve(
                messages,
                self._handle,
                lambda: int((deadline - self._clock()) * 1000),
                RESERVE_MS,
                entry_bytes=ENTRY_BYTES,
            )
            given_back = {id(each) for each in left}
            failed = {number for number, each in enumerate(messages) if id(each) in given_back}
        finally:
            for number, each in enumerate(batch):
                each.done = number not in failed
                each.served = True
            self._finish(
                Batch(
                    messages=len(batch),
                    sent=min((each.sent for each in messages), default=0),
                    failed=len(failed),
                    took=(self._clock() - began) * 1000,
                )
            )


class Functions:
    """The functions of one process. ``environment``: as the platform sets it.

    ``begins``: this is heartbeat's process, which initializes a new deployment.
    """

    def __init__(
        self, environment: Mapping[str, str], begins: bool, say: Callable[[str], None] = print
    ) -> None:
        config = Config.deserialize(json.loads(environment["FAASKEEPER_CONFIG"]))
        self._formatter = log_as_json(environment.get("FAASKEEPER_LOG_LEVEL", "WARNING"), kind=JsonFormatter)
        self._timeout_s = float(environment.get("FAASKEEPER_TIMEOUT_S", TIMEOUT_S))
        every = config.benchmarking_frequency if config.benchmarking else 0
        self.name = environment.get("K_SERVICE", "")
        self.metrics = Metrics(config.deployment_name, self.name, every, say, clock)
        self.service = GcpService(config)
        if every:
            self.service.gcp.observe(self.metrics.observe)
        self._warm = Warm(self.service, begins)
        self.deployment = self._warm.deployment
        self._lock = threading.Lock()
        self._gatherings: dict[str, Gathering] = {}

    def _gathering(self, which: str) -> Gathering:
        with self._lock:
            made = self._gatherings.get(which)
            if made is None:
                made = Gathering(self._warm.handle_of(which), lambda batch: self.metrics.finish(**batch))
                self._gatherings[which] = made
            return made

    def push(self, which: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Process a message for the writer, the distributor or the watch function."""
        deadline = time.monotonic() + self._timeout_s
        self._trace(headers)
        try:
            message = message_of(body)
        except ValueError as error:
            _log.warning("dropped a request: %s", error)
            return "", 204  # repeating it would not help
        if message.body is None:
            _log.warning("dropped a message that no client sent")
            return "", 204
        if self._gathering(which).submit(message, deadline):
            return "", 204
        return "not processed, see the log; send it again", 503

    def heartbeat(self, body: bytes, headers: Mapping[str, str]) -> Answer:
        """Heartbeat; see :meth:`faaskeeper.providers.cloud.functions.Warm.beat`."""
        self._trace(headers)
        began = time.perf_counter()
        try:
            content = json.loads(body or b"{}")
        except ValueError:
            content = {}
        try:
            asked = content if isinstance(content, dict) else {}
            # The hour's only sweep: what is left for the next one adds up. It ends early when it is done.
            done = self._warm.beat(asked, max(int(self._timeout_s * 1000) - 2 * RESERVE_MS, WITHIN_MS))
        except (DriverError, StaleView) as error:
            _log.error("heartbeat failed: %s", error)
            return str(error), 503
        took = (time.perf_counter() - began) * 1000
        self.metrics.finish(messages=0, sent=0, failed=0, took=took)
        return json.dumps(done), 200

    def health(self) -> Answer:
        """Whether the function works: it has read the deployment's key and can read the mark."""
        content: dict[str, Any] = {"version": __version__, "function": self.name}
        try:
            content["applied"] = self.deployment.checkpoints.applied()
        except DriverError as error:
            return json.dumps({**content, "problem": str(error)}), 503
        return json.dumps(content), 200

    def _trace(self, headers: Mapping[str, str]) -> None:
        trace = headers.get("X-Cloud-Trace-Context", "").split("/")[0]
        self._formatter.request = f"projects/{self.service.project}/traces/{trace}" if trace else ""


_making = threading.Lock()


@cache
def _made(begins: bool) -> Functions:
    return Functions(os.environ, begins)


def _functions(begins: bool = False) -> Functions:
    with _making:  # an instance's first requests are concurrent
        return _made(begins)


def _serve(which: str, request: Request) -> Answer:
    try:
        functions = _functions(which == "heartbeat")
    except DriverError as error:
        _log.error("the function %s cannot start: %s", which, error)
        return str(error), 503
    if request.method == "GET":
        return functions.health()
    if which == "heartbeat":
        return functions.heartbeat(request.get_data(), request.headers)
    return functions.push(which, request.get_data(), request.headers)


def writer(request: Request) -> Answer:
    """Validates and commits requests; distributes too, if that is inline."""
    return _serve("writer", request)


def distributor(request: Request) -> Answer:
    """Applies committed entries to user storage and answers clients."""
    return _serve("distributor", request)


def watch(request: Request) -> Answer:
    """Notifies watchers."""
    return _serve("watch", request)


def heartbeat(request: Request) -> Answer:
    """Expires sessions of silent clients and performs other periodic work."""
    return _serve("heartbeat", request)
