"""Calls to AWS: how they are made, timed, and what their errors mean to core. All of it is here.

Retries are botocore's own (mode *standard*: jittered, capped, with a quota). Time-outs are short, so that a
call with all its tries ends well before the function that makes it.
"""

from __future__ import annotations

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
from faaskeeper.providers.cloud.calls import SIDE_BY_SIDE, Calls

CONNECT_S = 1.0
READ_S = 2.0
TRIES = 3
"""Of one call, the first included. With these a call lasts at most 12 s, pauses included."""

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


class Aws(Calls):
    """The clients of one process, made when first needed, and the one way to call them.

    ``endpoint``: another than AWS' own ("": that). Clients and this may be used by several threads at once.
    """

    errors = (ClientError, BotoCoreError)

    def __init__(self, region: str, *, profile: str = "", endpoint: str = "") -> None:
        self.region = region
        self._profile = profile
        self._endpoint = endpoint
        super().__init__()
        self._session: Any = None
        self._clients: dict[str, Any] = {}

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
            "max_pool_connections": 2 * SIDE_BY_SIDE,  # the pool's threads, and those of callers
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

    def core_error(self, what: str, error: ClientError | BotoCoreError) -> DriverError:
        """See :class:`Calls`."""
        return core_error(what, error)

    def close(self) -> None:
        """See :class:`Calls`."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()
        super().close()
