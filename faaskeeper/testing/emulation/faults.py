"""Faults and latencies for calls to AWS, injected where botocore sends.

A call may be throttled, answered with an error, or have its effect while its answer is lost;
botocore's own retries then do what they do on the cloud. The code under test is not touched.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

from botocore.awsrequest import AWSResponse
from botocore.exceptions import ConnectionClosedError


@dataclass(frozen=True)
class Rates:
    """The chance of each fault for each request that botocore sends."""

    throttled: float = 0.0
    failed: float = 0.0
    conflicting: float = 0.0
    """TransactionConflictException, which DynamoDB may raise during another's transaction."""
    lost: float = 0.0
    """The call has its effect, and the answer is lost."""


class Faults:
    """Faults of the clients that it is attached to. ``happened`` counts them.

    ``latency``: ms that a call takes longer, by service and operation, as
    :class:`faaskeeper.testing.simulator.latencies.Latencies` draws it; None: not at all.
    """

    def __init__(
        self,
        rates: Rates,
        seed: int,
        latency: Callable[[str, str], float] | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.happened: Counter[str] = Counter()
        self._rates = rates
        self._random = Random(seed)
        self._latency = latency
        self._sleep = sleep
        self._lock = threading.Lock()

    def attach(self, client: Any) -> None:
        """Inject faults into the requests of a client of boto3's from now on."""
        service = client.meta.service_model.service_name
        send = client._endpoint.http_session.send

        def before_send(request: Any, event_name: str, **more: Any) -> Any:
            return self._before(service, event_name.rsplit(".", 1)[-1], request, send)

        client.meta.events.register(
            f"before-send.{client.meta.service_model.service_id.hyphenize()}", before_send
        )

    def calm(self) -> None:
        """Inject no faults from now on."""
        self._rates = Rates()

    def _before(self, service: str, operation: str, request: Any, send: Callable[[Any], Any]) -> Any:
        if self._latency is not None:
            self._sleep(self._latency(service, operation) / 1000)
        with self._lock:
            chance = self._random.random()
        for name, rate in vars(self._rates).items():
            if chance < rate:
                if name == "conflicting" and operation not in ("PutItem", "DeleteItem"):
                    return None
                self.happened[name] += 1
                return self._fault(name, service, request, send)
            chance -= rate
        return None

    def _fault(self, name: str, service: str, request: Any, send: Callable[[Any], Any]) -> Any:
        if name == "lost":
            send(request)
            raise ConnectionClosedError(endpoint_url=request.url)
        if name == "failed":
            return _answer(service, request.url, 500, "InternalServerError")
        if name == "conflicting":
            return _answer(service, request.url, 400, "TransactionConflictException")
        if service == "s3":
            return _answer(service, request.url, 503, "SlowDown")
        return _answer(service, request.url, 400, "ThrottlingException")


def _answer(service: str, url: str, status: int, code: str) -> AWSResponse:
    if service == "s3":
        body = f"<Error><Code>{code}</Code><Message>injected</Message></Error>".encode()
    else:
        body = json.dumps({"__type": code, "message": "injected"}).encode()
    return AWSResponse(url, status, {"content-length": str(len(body))}, _Raw(body))


class Capacity:
    """DynamoDB's own count of what calls cost, by table and operation: its capacity units."""

    def __init__(self) -> None:
        self.units: Counter[str] = Counter()

    def attach(self, client: Any) -> None:
        """Count the calls of a client of DynamoDB from now on."""
        client.meta.events.register("provide-client-params.dynamodb", self._ask)
        client.meta.events.register("after-call.dynamodb", self._count)

    def _ask(self, params: dict[str, Any], model: Any, **more: Any) -> dict[str, Any]:
        if "ReturnConsumedCapacity" in model.input_shape.members:
            return {**params, "ReturnConsumedCapacity": "TOTAL"}
        return params

    def _count(self, parsed: dict[str, Any], model: Any, **more: Any) -> None:
        consumed = parsed.get("ConsumedCapacity") or []
        for each in consumed if isinstance(consumed, list) else [consumed]:
            self.units[f"{each['TableName'].rsplit('-', 1)[-1]}.{model.name}"] += each["CapacityUnits"]


class _Raw:
    """What botocore reads a body from."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def stream(self, **options: Any) -> Any:
        """The whole body."""
        yield self._body

    def read(self, amount: int | None = None) -> bytes:
        """The body, or what is left of it."""
        body, self._body = self._body, b""
        return body
