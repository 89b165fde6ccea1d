"""Calls to Google Cloud: retries, and the mapping of errors to core's kinds.

Retries are google-api-core's (jittered, capped), for calls that are safe to repeat. Time-outs are
short, such that a call with all its retries ends well before the function that makes it. Emulators
are found as in Google's libraries: ``DATASTORE_EMULATOR_HOST``, ``PUBSUB_EMULATOR_HOST``,
``STORAGE_EMULATOR_HOST``.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import google.auth
import google.auth.credentials
import grpc
import requests
import requests.adapters
from google.api_core import exceptions, retry, timeout
from google.auth.exceptions import DefaultCredentialsError, GoogleAuthError, TransportError

from faaskeeper.core.errors import Conflict, Denied, DriverError, Throttled, TooLarge, Unavailable
from faaskeeper.providers.cloud.calls import SIDE_BY_SIDE, Calls, NoCredentials

TRY_S = 3.0
"""Time-out of one attempt of a call."""
CALL_S = 10.0
"""Time in which a call is retried after temporary failures; it takes at most 13 s in all."""
SCOPES = ("https://www.googleapis.com/auth/cloud-platform",)

_NO_LIMITS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))
"""Options of Google's own channels: several items of a megabyte may come in one answer."""

_RETRIED = (
    exceptions.ServiceUnavailable,
    exceptions.InternalServerError,
    exceptions.BadGateway,
    exceptions.GatewayTimeout,
    exceptions.TooManyRequests,
    exceptions.Aborted,
    requests.ConnectionError,
    requests.Timeout,
)
_KINDS: tuple[tuple[type[Exception], type[DriverError]], ...] = (
    (exceptions.AlreadyExists, Conflict),
    (exceptions.PreconditionFailed, Conflict),
    (exceptions.Aborted, Throttled),
    (exceptions.TooManyRequests, Throttled),
    (exceptions.Conflict, Throttled),
    (exceptions.ServerError, Unavailable),
    (exceptions.ClientError, Denied),
    (exceptions.GoogleAPIError, Unavailable),
    (TransportError, Unavailable),
    (GoogleAuthError, Denied),
    (requests.RequestException, Unavailable),
)
"""Error kinds by Google's exceptions; the first match counts."""
_HINTS: tuple[tuple[type[Exception], str], ...] = (
    (exceptions.NotFound, "check that the deployment's name is right and that it is deployed"),
    (exceptions.Forbidden, "check that the account has the role that 'fk doctor' names"),
    (exceptions.Unauthorized, "check that the credentials are still valid"),
    (TransportError, "check this machine's network"),
    (GoogleAuthError, "renew the credentials with 'gcloud auth application-default login'"),
)
_REMEDY = (
    "run 'gcloud auth application-default login', or set GOOGLE_APPLICATION_CREDENTIALS to a service "
    "account's file"
)
_NOWHERE = "Your default credentials were not found"
"""How Google's library says that it found none anywhere, before it says where to read about that."""
_TOO_LARGE = ("too big", "too large", "too long", "too many", "exceed", "bigger than", "larger than")


retried: Callable[[Exception], bool] = retry.if_exception_type(*_RETRIED)
"""Whether a call is retried after this error."""


def core_error(what: str, error: Exception) -> DriverError:
    """Map an error to core's kinds. ``what``: describes the call in messages."""
    if isinstance(error, exceptions.RetryError) and isinstance(error.cause, Exception):
        error = error.cause  # the error of the last attempt
    text = str(error)
    if isinstance(error, DefaultCredentialsError):
        return NoCredentials("Google Cloud", "" if _NOWHERE in text else text.rstrip("."), _REMEDY)
    kind: type[DriverError] = next(made for known, made in _KINDS if isinstance(error, known))
    code = getattr(error, "code", None) or 0
    if isinstance(error, exceptions.GoogleAPICallError) and kind is Unavailable and 400 <= code < 500:
        kind = Denied  # a status without a class
    if kind is Denied and code in (400, 413) and any(word in text.lower() for word in _TOO_LARGE):
        kind = TooLarge
    hint = next((f" ({said})" for known, said in _HINTS if isinstance(error, known)), "")
    return kind(f"{what}: {text}{hint}")


class _ForEmulator(requests.adapters.HTTPAdapter):  # type: ignore[misc]
    """Numbers the parts of a batch: fake-gcs-server skips those without a number, Google does not."""

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        if "/batch/storage/" in str(request.url) and isinstance(request.body, (str, bytes)):
            body = request.body.decode() if isinstance(request.body, bytes) else request.body
            first, *parts = body.split("Content-Type: application/http\n")
            numbered = [
                f"Content-Type: application/http\nContent-ID: <{at}>\n{part}" for at, part in enumerate(parts)
            ]
            request.prepare_body(first + "".join(numbered), None)
        return super().send(request, *arguments, **options)


class Gcp(Calls):
    """The clients of one process, created on first use, and all calls to them.

    ``credentials``: a credentials file, or credentials; empty: the environment's, by Google's own
    rules.
    """

    errors = (exceptions.GoogleAPIError, GoogleAuthError, requests.RequestException)

    def __init__(self, project: str, *, credentials: str | google.auth.credentials.Credentials = "") -> None:
        super().__init__()
        self.project = project
        self._file = credentials if isinstance(credentials, str) else ""
        self._credentials = None if isinstance(credentials, str) else credentials
        self._clients: dict[str, Any] = {}
        self._channels: list[grpc.Channel] = []
        self.retry = retry.Retry(predicate=retried, initial=0.05, maximum=1.0, timeout=CALL_S)
        self.timeout = timeout.ConstantTimeout(TRY_S)

    def core_error(self, what: str, error: Exception) -> DriverError:
        return core_error(what, error)

    # ---- clients -------------------------------------------------------------------------

    def _once(self, name: str, make: Callable[[], Any]) -> Any:
        with self._lock:
            client = self._clients.get(name)
            if client is None:
                client = self._clients[name] = make()
            return client

    def datastore(self) -> Any:
        """The client of Datastore's API."""
        return self._once("datastore", self._datastore)

    def _datastore(self) -> Any:
        from google.cloud.datastore_v1.services.datastore import DatastoreClient
        from google.cloud.datastore_v1.services.datastore.transports import DatastoreGrpcTransport

        return DatastoreClient(transport=self._transport(DatastoreGrpcTransport, "DATASTORE_EMULATOR_HOST"))

    def publisher(self) -> Any:
        """The client that publishes. It sends one request per call, without batching."""
        return self._once("publisher", self._publisher)

    def _publisher(self) -> Any:
        from google.pubsub_v1 import PublisherClient
        from google.pubsub_v1.services.publisher.transports import PublisherGrpcTransport

        return PublisherClient(transport=self._transport(PublisherGrpcTransport, "PUBSUB_EMULATOR_HOST"))

    def subscriber(self) -> Any:
        """The client that creates subscriptions and receives messages."""
        return self._once("subscriber", self._subscriber)

    def _subscriber(self) -> Any:
        from google.cloud.pubsub_v1 import SubscriberClient

        if os.environ.get("PUBSUB_EMULATOR_HOST"):
            return SubscriberClient()
        return SubscriberClient(credentials=self.credentials())

    def storage(self) -> Any:
        """The client of Cloud Storage."""
        return self._once("storage", self._storage)

    def _storage(self) -> Any:
        from google.cloud import storage

        # Otherwise the library asks for the bucket in threads of its own, for traces: once, which roles
        # do not permit, and after each object that is not found.
        os.environ.setdefault("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")
        kind = requests.adapters.HTTPAdapter
        if os.environ.get("STORAGE_EMULATOR_HOST"):
            client = storage.Client(
                project=self.project, credentials=google.auth.credentials.AnonymousCredentials()
            )
            kind = _ForEmulator
        else:
            client = storage.Client(project=self.project, credentials=self.credentials())
        adapter = kind(pool_maxsize=2 * SIDE_BY_SIDE)
        for scheme in ("https://", "http://"):
            client._http.mount(scheme, adapter)
        return client

    def _transport(self, kind: Any, emulator: str) -> Any:
        host = os.environ.get(emulator, "").removeprefix("http://")
        if not host:
            return kind(credentials=self.credentials())
        channel = grpc.insecure_channel(host, [("grpc.use_local_subchannel_pool", 1), *_NO_LIMITS])
        self._channels.append(channel)
        return kind(channel=channel)

    def credentials(self) -> google.auth.credentials.Credentials:
        """The caller's credentials. Raises GoogleAuthError if there are none."""
        if self._credentials is None:
            if self._file:
                self._credentials, _ = google.auth.load_credentials_from_file(self._file, scopes=SCOPES)
            else:
                self._credentials, _ = google.auth.default(scopes=SCOPES)
        return self._credentials

    def grpc(self, name: str, client: Callable[[], Any], operation: str, request: Any) -> Any:
        """Make a gRPC call, with time-out and retries. ``client``: one of the methods above."""

        def made() -> Any:
            return getattr(client(), operation)(request=request, retry=self.retry, timeout=self.timeout)

        return self.call(name, made)

    def close(self) -> None:
        with self._lock:
            clients, self._clients = self._clients, {}
            channels, self._channels = self._channels, []
        for name, client in clients.items():
            if name == "storage" or name == "subscriber":
                client.close()
            else:
                client.transport.close()
        for channel in channels:
            channel.close()
        super().close()
