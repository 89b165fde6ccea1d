"""Calls to AWS: how they are made, timed, and what their errors mean to core. All of it is here.

Retries are botocore's own (mode *standard*: jittered, capped, with a quota). Time-outs are short, so that a
call with all its tries ends well before the function that makes it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import boto3
import botocore.config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    NoCredentialsError,
    NoRegionError,
    ProfileNotFound,
    TokenRetrievalError,
)

from faaskeeper.core.errors import Conflict, Denied, DriverError, Throttled, TooLarge, Unavailable

CONNECT_S = 1.0
READ_S = 2.0
TRIES = 3
"""Of one call, the first included. With these a call lasts at most 12 s, pauses included."""
_CONNECTIONS = 32
_THREADS = "faaskeeper-aws"

_KINDS: dict[str, type[DriverError]] = {
    "ConditionalCheckFailedException": Conflict,
    "PreconditionFailed": Conflict,
    "ProvisionedThroughputExceededException": Throttled,
    "ThrottlingException": Throttled,
    "Throttling": Throttled,
    "RequestLimitExceeded": Throttled,
    "RequestThrottled": Throttled,
    "TooManyRequestsException": Throttled,
    "SlowDown": Throttled,
    "LimitExceededException": Throttled,
    "OverLimit": Throttled,
    "TransactionConflictException": Throttled,
    "ConditionalRequestConflict": Throttled,
    "ItemCollectionSizeLimitExceededException": TooLarge,
    "EntityTooLarge": TooLarge,
    "KeyTooLongError": TooLarge,
    "RequestEntityTooLargeException": TooLarge,
    "BatchRequestTooLong": TooLarge,
}
"""Kinds by AWS' codes; a code that is not here is Unavailable from 500 on, and Denied below."""
_ABSENT = "is the deployment's name right, and is it deployed?"
_NOT_ALLOWED = "the deployment's client policy allows what clients need"
_INVALID = "are the credentials still valid?"
_HINTS: dict[str, str] = {
    "ResourceNotFoundException": _ABSENT,
    "NoSuchBucket": _ABSENT,
    "QueueDoesNotExist": _ABSENT,
    "AWS.SimpleQueueService.NonExistentQueue": _ABSENT,
    "AccessDenied": _NOT_ALLOWED,
    "AccessDeniedException": _NOT_ALLOWED,
    "UnrecognizedClientException": _INVALID,
    "InvalidClientTokenId": _INVALID,
    "ExpiredToken": _INVALID,
    "ExpiredTokenException": _INVALID,
}
_TOO_LARGE = ("size has exceeded", "exceeds the maximum", "too long", "must be shorter", "maximum message")


def core_error(what: str, error: ClientError | BotoCoreError) -> DriverError:
    """The error as core knows it. ``what``: the call, as a person would say it."""
    if isinstance(error, ClientError):
        response = error.response
        code = str(response.get("Error", {}).get("Code", ""))
        status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        text = str(response.get("Error", {}).get("Message", ""))
        kind = _KINDS.get(code)
        if kind is None and any(word in text.lower() for word in _TOO_LARGE):
            kind = TooLarge
        if kind is None:
            kind = Unavailable if status >= 500 else Denied
        hint = f" ({_HINTS[code]})" if code in _HINTS else ""
        return kind(f"{what}: {code or status}: {text}{hint}")
    if isinstance(error, (NoCredentialsError, ProfileNotFound, TokenRetrievalError)):
        return Denied(f"{what}: {error}; 'aws configure' sets credentials up")
    if isinstance(error, NoRegionError):
        return Denied(f"{what}: {error}; the configuration's deployment-region names it")
    return Unavailable(f"{what}: {error}")


Observer = Callable[[str, float, Exception | None], None]
"""Told of each call: its name (``log.put``), ms, and how it failed (None: it did not)."""


class Aws:
    """The clients of one process, made when first needed, and the one way to call them.

    ``endpoint``: another than AWS' own ("": that). Clients and this may be used by several threads at once.
    """

    def __init__(self, region: str, *, profile: str = "", endpoint: str = "") -> None:
        self.region = region
        self._profile = profile
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._session: Any = None
        self._clients: dict[str, Any] = {}
        self._pool: ThreadPoolExecutor | None = None
        self._observers: list[Observer] = []

    def client(self, service: str, **options: Any) -> Any:
        """The client of a service. ``options``: of its configuration, instead of the usual ones."""
        name = f"{service} {sorted(options)}" if options else service
        with self._lock:
            client = self._clients.get(name)
            if client is None:
                client = self._clients[name] = self._make(service, options)
            return client

    def _make(self, service: str, options: dict[str, Any]) -> Any:
        usual: dict[str, Any] = {
            "connect_timeout": CONNECT_S,
            "read_timeout": READ_S,
            "retries": {"mode": "standard", "total_max_attempts": TRIES},
            "max_pool_connections": 2 * _CONNECTIONS,  # the pool's threads, and those of callers
            "user_agent_extra": "faaskeeper",
        }
        if service == "s3":
            usual["request_checksum_calculation"] = "when_required"
            usual["response_checksum_validation"] = "when_required"
            if self._endpoint:
                usual["s3"] = {"addressing_style": "path"}
        try:
            if self._session is None:
                self._session = boto3.session.Session(
                    region_name=self.region, profile_name=self._profile or None
                )
            return self._session.client(
                service,
                endpoint_url=self._endpoint or None,
                config=botocore.config.Config(**{**usual, **options}),
            )
        except BotoCoreError as error:
            raise core_error(f"cannot use {service}", error) from error

    def call(self, name: str, operation: Callable[..., Any], **parameters: Any) -> Any:
        """Make a call; raises core's kinds of error. ``name``: for people, and for who counts."""
        began = time.perf_counter()
        failed: Exception | None = None
        try:
            return operation(**parameters)
        except (ClientError, BotoCoreError) as error:
            failed = core_error(name, error)
            raise failed from error
        except DriverError as error:
            failed = error
            raise
        finally:
            if self._observers:
                took = (time.perf_counter() - began) * 1000
                for observer in self._observers:
                    observer(name, took, failed)

    def observe(self, observer: Observer) -> None:
        """Tell of every call from now on."""
        self._observers.append(observer)

    def gather(self, calls: Any) -> list[Any]:
        """See :data:`faaskeeper.core.storage.Gather`: side by side in threads, one of them in this."""
        if len(calls) <= 1 or threading.current_thread().name.startswith(_THREADS):  # never wait in the pool
            return [call() for call in calls]
        with self._lock:
            if self._pool is None:
                self._pool = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix=_THREADS)
        others = [self._pool.submit(call) for call in calls[1:]]
        results: list[Any] = []
        failed: Exception | None = None
        try:
            results.append(calls[0]())
        except Exception as error:
            failed = error
        for other in others:
            try:
                results.append(other.result())
            except Exception as error:
                failed = failed or error
        if failed is not None:
            raise failed
        return results

    def close(self) -> None:
        """Close all connections."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
            pool, self._pool = self._pool, None
        for client in clients:
            client.close()
        if pool is not None:
            pool.shutdown(wait=False)
