"""Calls to AWS: retries, durations, and the mapping of errors to core's kinds.

Retries are botocore's (mode *standard*: jittered, capped, with a quota). Time-outs are short, such
that a call with all its retries ends well before the function that makes it.
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
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from faaskeeper.core.errors import Conflict, Denied, DriverError, Throttled, TooLarge, Unavailable
from faaskeeper.providers.cloud.calls import SIDE_BY_SIDE, Calls, NoCredentials

CONNECT_S = 1.0
READ_S = 2.0
TRIES = 3
"""Maximum attempts of a call, the first included. A call takes at most 12 s, with pauses."""

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
"""Error kinds by AWS's codes. Other codes: Unavailable for a status of 500 or more, else Denied."""
_ABSENT = "check that the deployment's name is right and that it is deployed"
_NOT_ALLOWED = "clients need the deployment's client policy, deploying the one of deploy/aws/deployer.yaml"
_INVALID = "check that the credentials are still valid"
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
    """Map an error to core's kinds. ``what``: describes the call in messages."""
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
    if isinstance(error, NoCredentialsError):
        return no_credentials()
    if isinstance(error, (PartialCredentialsError, ProfileNotFound)):
        return no_credentials(str(error))
    if isinstance(error, (SSOError, TokenRetrievalError)):
        return NoCredentials("AWS", str(error), "run 'aws sso login'")
    if isinstance(error, NoRegionError):
        return Denied(f"{what}: {error}; set deployment-region in the configuration")
    return Unavailable(f"{what}: {error}")


def no_credentials(why: str = "") -> NoCredentials:
    """The error of a machine without credentials, which may be told ``why``."""
    return NoCredentials(
        "AWS", why, "run 'aws configure', or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE"
    )


class Aws(Calls):
    """The clients of one process, created on first use, and all calls to them. Thread-safe.

    ``endpoint``: replaces AWS's own, if set. ``session``: boto3's, whose credentials count instead
    of the environment's and the profile's.
    """

    errors = (ClientError, BotoCoreError)

    def __init__(self, region: str, *, profile: str = "", endpoint: str = "", session: Any = None) -> None:
        self.region = region
        self._profile = profile
        self._endpoint = endpoint
        super().__init__()
        self._session = session
        self._clients: dict[str, Any] = {}

    def client(self, service: str, **options: Any) -> Any:
        """The client of a service.

        ``options``: override the default configuration of the client.
        """
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
            "max_pool_connections": 2 * SIDE_BY_SIDE,  # for the pool's threads and their callers
            "user_agent_extra": "faaskeeper",
        }
        if service == "s3":
            usual["request_checksum_calculation"] = "when_required"
            usual["response_checksum_validation"] = "when_required"
            if self._endpoint:
                usual["s3"] = {"addressing_style": "path"}
        try:
            return self._opened().client(
                service,
                endpoint_url=self._endpoint or None,
                config=botocore.config.Config(**{**usual, **options}),
            )
        except BotoCoreError as error:
            raise core_error(f"cannot use {service}", error) from error

    def _opened(self) -> Any:
        """The session, which has the credentials. The caller holds the lock."""
        if self._session is None:
            self._session = boto3.session.Session(region_name=self.region, profile_name=self._profile or None)
        return self._session

    def has_credentials(self) -> bool:
        """Whether this machine has credentials, valid or not. Raises DriverError for a wrong profile."""
        with self._lock:
            try:
                return self._opened().get_credentials() is not None
            except BotoCoreError as error:
                raise core_error("credentials", error) from error

    def core_error(self, what: str, error: ClientError | BotoCoreError) -> DriverError:
        return core_error(what, error)

    def close(self) -> None:
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()
        super().close()
