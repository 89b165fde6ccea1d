"""Google's emulators ask nobody for rights. Here an account's calls meet those that the templates grant.

What is granted is read from the deployment's description, and what a call needs from Google's references
(``tests/data/google_rights.json``). A call without its rights is refused before it is made.
"""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import grpc
import requests
from google.cloud import pubsub_v1
from google.pubsub_v1.services.subscriber.transports import SubscriberGrpcTransport

from faaskeeper.providers.gcp import clients, functions

_ROOT = Path(__file__).parent.parent
_FACTS: dict[str, Any] = json.loads((_ROOT / "data" / "google_rights.json").read_text())
_DESCRIBED: dict[str, Any] = json.loads((_ROOT.parent / "deploy" / "gcp" / "resources.json").read_text())

_NO_LIMITS = (("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1))

Right = tuple[str, str, str]
"""A permission, the resource's kind (database, topic, bucket, project), and its name in the description."""


class Refused(grpc.RpcError):
    """A call lacks a right."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self._message = message

    def code(self) -> grpc.StatusCode:
        return grpc.StatusCode.PERMISSION_DENIED

    def details(self) -> str:
        return self._message

    def result(self, timeout: float | None = None) -> Any:
        raise self

    def trailing_metadata(self) -> tuple[()]:
        return ()


def granted(account: str) -> set[Right]:
    """What an account may do."""
    found: set[Right] = set()
    for each in _DESCRIBED["grants"]:
        if each["account"] != account:
            continue
        if each["on"] == "listener":
            found.update((each_one, "project", "") for each_one in _DESCRIBED["listener_permissions"])
        else:
            found.update((one, each["on"], each["name"]) for one in _FACTS["roles"].get(each["role"], ()))
    return found


class Rights(grpc.UnaryUnaryClientInterceptor, grpc.StreamStreamClientInterceptor):  # type: ignore[misc]
    """Lets pass what an account of a deployment may do. ``bucket``: the deployment's, for data."""

    def __init__(self, account: str, deployment: str, bucket: str) -> None:
        self.used: set[Right] = set()
        self.refused: list[str] = []
        self._account = account
        self._deployment = deployment
        self._bucket = bucket
        self._granted = granted(account)
        self._lock = threading.Lock()
        self._databases = {
            f"{deployment}{each['suffix']}": name for name, each in _DESCRIBED["databases"].items()
        }

    def _check(self, call: str, kind: str, name: str) -> str:
        """The right that is missing; empty: none."""
        for permission in _FACTS["calls"][call]:
            right = (permission, kind, name)
            with self._lock:
                if right not in self._granted:
                    missing = f"{self._account} lacks {permission} on the {kind} {name}"
                    self.refused.append(missing)
                    return missing
                self.used.add(right)
        return ""

    # ---- Datastore and Pub/Sub -------------------------------------------------------------------

    def _topic(self, path: str) -> str:
        return path.rsplit("/", 1)[-1].removeprefix(f"{self._deployment}-")

    def _needs(self, method: str, request: Any) -> Iterator[tuple[str, str, str]]:
        if method == "Commit":
            for mutation in request.mutations:
                kind = type(mutation).pb(mutation).WhichOneof("operation")
                yield kind, "database", self._databases.get(request.database_id, request.database_id)
        elif method in ("Lookup", "RunQuery"):
            yield method, "database", self._databases.get(request.database_id, request.database_id)
        elif method == "Publish":
            yield method, "topic", self._topic(request.topic)
        else:
            yield method, "project", ""
            if method == "CreateSubscription":
                yield "attach", "topic", self._topic(request.topic)

    def intercept_unary_unary(self, continuation: Any, details: Any, request: Any) -> Any:
        for need in self._needs(details.method.rsplit("/", 1)[-1], request):
            missing = self._check(*need)
            if missing:
                raise Refused(missing)
        return continuation(details, request)

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        missing = self._check(details.method.rsplit("/", 1)[-1], "project", "")
        if missing:
            raise Refused(missing)
        return continuation(details, requests)

    # ---- Cloud Storage ---------------------------------------------------------------------------

    def _object_call(self, verb: str, url: str, body: str = "") -> tuple[str, str, str]:
        parts = urlsplit(url)
        if parts.path.startswith("/batch/"):
            return self._object_call("DELETE", re.findall(r"DELETE (\S+)", body)[0])
        found = re.search(r"/b/([^/]+)(?:/o(?:/(.+))?)?$", parts.path)
        assert found, url
        name = "data" if found[1] == self._bucket else found[1]
        if verb == "POST":
            fresh = parse_qs(parts.query).get("ifGenerationMatch") == ["0"]
            return ("objects.insert" if fresh else "objects.overwrite"), "bucket", name
        if verb == "DELETE":
            return "objects.delete", "bucket", name
        return ("objects.get" if found[2] else "objects.list"), "bucket", name

    def _wrap(self, session: Any) -> None:
        request = session.request

        def checked(method: str, url: str, *arguments: Any, **parameters: Any) -> Any:
            query = "&".join(f"{key}={each}" for key, each in (parameters.get("params") or {}).items())
            missing = self._check(
                *self._object_call(method, f"{url}?{query}" if query else url, str(parameters.get("data")))
            )
            if not missing:
                return request(method, url, *arguments, **parameters)
            refusal = requests.Response()
            refusal.status_code = 403
            refusal.url = url
            refusal._content = json.dumps({"error": {"code": 403, "message": missing}}).encode()
            refusal.request = requests.Request(method, url).prepare()
            return refusal

        session.request = checked

    # ---- all of it ------------------------------------------------------------------------------

    def attach(self, gcp: clients.Gcp) -> None:
        """From now on, to what is called."""

        def channel(emulator: str) -> Any:
            return grpc.intercept_channel(grpc.insecure_channel(os.environ[emulator], _NO_LIMITS), self)

        def storage() -> Any:
            client = make_storage()
            self._wrap(client._http)
            return client

        make_storage = gcp._storage
        gcp._transport = lambda kind, emulator: kind(channel=channel(emulator))  # type: ignore[method-assign]
        gcp._storage = storage  # type: ignore[method-assign]
        gcp._subscriber = lambda: pubsub_v1.SubscriberClient(  # type: ignore[method-assign]
            transport=SubscriberGrpcTransport(channel=channel("PUBSUB_EMULATOR_HOST"))
        )


# ---- the functions' targets, each as its account ---------------------------------------------------

if os.environ.get("FUNCTION_TARGET"):
    import weak  # noqa: F401 - it is beside this file, and weakens the clients that are made from now on

_make = clients.Gcp.__init__


def _limited(self: clients.Gcp, project: str, *, credentials: str = "") -> None:
    _make(self, project, credentials=credentials)
    config = json.loads(os.environ["FAASKEEPER_CONFIG"])
    name, section = config["deployment-name"], config["gcp"]
    Rights(os.environ["K_SERVICE"], name, section["data-bucket"]).attach(self)


def writer(request: Any) -> Any:
    return functions.writer(request)


def distributor(request: Any) -> Any:
    return functions.distributor(request)


def watch(request: Any) -> Any:
    return functions.watch(request)


def heartbeat(request: Any) -> Any:
    return functions.heartbeat(request)


if os.environ.get("FUNCTION_TARGET"):  # not where a test imports it
    clients.Gcp.__init__ = _limited  # type: ignore[method-assign]
