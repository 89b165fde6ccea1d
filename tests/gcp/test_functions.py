"""The targets: what comes back of a request, what is gathered, what is said."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
import threading
from base64 import b64encode
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import google.auth.exceptions
import pytest
import requests
from google.api_core import exceptions

from faaskeeper.config import Config, ConfigurationException
from faaskeeper.core.errors import Conflict, Denied, Throttled, TooLarge, Unavailable
from faaskeeper.providers.cloud.calls import NoCredentials
from faaskeeper.providers.cloud.logs import log_as_json
from faaskeeper.providers.cloud.serving import Message
from faaskeeper.providers.gcp import functions
from faaskeeper.providers.gcp.clients import core_error
from faaskeeper.providers.gcp.events import message_of
from faaskeeper.providers.gcp.functions import RESERVE_MS, TIMEOUT_S, Batch, Gathering
from faaskeeper.providers.gcp.reports import JsonFormatter, Metrics
from faaskeeper.providers.gcp.service import GcpService
from faaskeeper.testing.patience import PATIENCE_S
from tests.gcp import backends

TEXT = b64encode(b"body").decode()
PUSH = {
    "message": {"data": TEXT, "messageId": "7", "publishTime": "1970-01-01T00:00:02.5Z"},
    "subscription": "s",
}


def message(body: bytes) -> Message:
    return Message(body.decode(), body.decode(), body, 5)


def test_a_push_and_an_event_around_one_are_read_and_nothing_else() -> None:
    expected = Message("7", "7", b"body", 2500)
    assert message_of(json.dumps(PUSH).encode()) == expected
    event = {"specversion": "1.0", "type": "google.cloud.pubsub.topic.v1.messagePublished", "data": PUSH}
    assert message_of(json.dumps(event).encode()) == expected
    ordered = {"message": {**PUSH["message"], "orderingKey": "writer"}}  # type: ignore[dict-item]
    assert message_of(json.dumps(ordered).encode()).group == "writer"
    assert message_of(json.dumps({"message": {"messageId": "1", "data": "?!"}}).encode()).body is None
    assert message_of(json.dumps({"message": {"messageId": "1", "attributes": {}}}).encode()).body == b""
    for body in (b"", b"[]", b"{}", b"\xff", b'{"message": 1}', b'{"specversion": "1.0", "data": "x"}'):
        with pytest.raises(ValueError, match=r"JSON|neither"):
            message_of(body)


def test_what_comes_while_a_batch_runs_is_committed_together_in_the_next() -> None:
    batches: list[list[bytes]] = []
    told: list[Batch] = []
    first, go_on = threading.Event(), threading.Event()

    def handle(bodies: Sequence[bytes]) -> None:
        batches.append(list(bodies))
        if len(batches) == 1:
            first.set()
            assert go_on.wait(PATIENCE_S)

    gathering = Gathering(handle, told.append)
    done: list[bool] = []

    def send(number: int) -> None:
        done.append(gathering.submit(message(b"%d" % number), gathering._clock() + TIMEOUT_S))

    threads = [threading.Thread(target=send, args=(0,))]
    threads[0].start()
    assert first.wait(PATIENCE_S)
    threads += [threading.Thread(target=send, args=(number,)) for number in range(1, 20)]
    for thread in threads[1:]:
        thread.start()
    while len(gathering._waiting) < 19:
        pass
    go_on.set()
    for thread in threads:
        thread.join()
    assert done == [True] * 20
    assert batches[0] == [b"0"]
    assert sorted(batches[1]) == sorted(b"%d" % number for number in range(1, 20))
    assert [(each["messages"], each["failed"], each["sent"]) for each in told] == [(1, 0, 5), (19, 0, 5)]


def test_of_a_batch_only_what_cannot_be_handled_comes_again() -> None:
    first, go_on = threading.Event(), threading.Event()

    def handle(bodies: Sequence[bytes]) -> None:
        if bodies == [b"0"]:
            first.set()
            assert go_on.wait(PATIENCE_S)
        if b"poison" in bodies:
            raise ValueError("poison")

    gathering = Gathering(handle)
    done: dict[bytes, bool] = {}

    def send(body: bytes) -> None:
        done[body] = gathering.submit(message(body), gathering._clock() + TIMEOUT_S)

    threads = [threading.Thread(target=send, args=(body,)) for body in (b"0", b"a", b"poison", b"b")]
    threads[0].start()
    assert first.wait(PATIENCE_S)
    for thread in threads[1:]:
        thread.start()
    while len(gathering._waiting) < 3:
        pass
    go_on.set()
    for thread in threads:
        thread.join()
    assert done == {b"0": True, b"a": True, b"poison": False, b"b": True}


def test_what_there_is_no_time_for_is_not_begun() -> None:
    handled: list[Sequence[bytes]] = []
    gathering = Gathering(handled.append, clock=lambda: 0.0)
    assert gathering.submit(message(b"a"), RESERVE_MS / 1000 - 0.1) is False
    assert handled == []
    assert gathering.submit(message(b"a"), RESERVE_MS / 1000 + 0.1) is True


def test_a_request_that_has_waited_long_makes_no_other_come_again() -> None:
    now = 0.0
    first, go_on = threading.Event(), threading.Event()

    def handle(bodies: Sequence[bytes]) -> None:
        if bodies == [b"0"]:
            first.set()
            assert go_on.wait(PATIENCE_S)

    gathering = Gathering(handle, clock=lambda: now)
    done: dict[bytes, bool] = {}

    def send(body: bytes, deadline: float) -> None:
        done[body] = gathering.submit(message(body), deadline)

    threads = [threading.Thread(target=send, args=(b"0", 60.0))]
    threads[0].start()
    assert first.wait(PATIENCE_S)
    threads += [threading.Thread(target=send, args=each) for each in ((b"old", 60.0), (b"new", 110.0))]
    for thread in threads[1:]:
        thread.start()
    while len(gathering._waiting) < 2:
        pass
    now = 50.0
    go_on.set()
    for thread in threads:
        thread.join()
    assert done == {b"0": True, b"old": True, b"new": True}


def test_logs_are_what_cloud_logging_reads() -> None:
    root, ours = logging.getLogger(), logging.getLogger("faaskeeper")
    before = root.handlers[:], root.level, ours.level
    out = io.StringIO()
    try:
        formatter = log_as_json("INFO", out, kind=JsonFormatter)
        formatter.request = "projects/p/traces/t"
        logging.getLogger("faaskeeper.core.writer").info("committed", extra={"txid": 5, "session": [3]})
    finally:
        root.handlers[:], root.level = before[0], before[1]
        ours.setLevel(before[2])
    line = json.loads(out.getvalue())
    assert line.pop("time").endswith("Z")
    assert line == {
        "severity": "INFO",
        "logger": "faaskeeper.core.writer",
        "message": "committed",
        "logging.googleapis.com/trace": "projects/p/traces/t",
        "txid": 5,
        "session": [3],
    }
    said: list[dict[str, Any]] = []
    metrics = Metrics("d", "d-writer", 1, lambda line: said.append(json.loads(line)), lambda: 1_000)
    metrics.observe("log.put", 4.5, Conflict("lost"))
    metrics.finish(messages=2, sent=900, failed=1, took=12.0)
    assert said == [
        {
            "severity": "INFO",
            "message": "metrics",
            "deployment": "d",
            "function": "d-writer",
            "metrics": {
                "invocation": 12.0, "batch": 2, "given back": 1, "conflicts": 1, "calls": 1, "lag": 100,
                "stages": {"log.put": 4.5},
            },
        }
    ]  # fmt: skip


def test_errors_of_google_s_are_told_in_core_s_kinds_and_with_what_to_do() -> None:
    for error, kind in (
        (exceptions.AlreadyExists("x"), Conflict),
        (exceptions.PreconditionFailed("x"), Conflict),
        (exceptions.Aborted("x"), Throttled),
        (exceptions.ResourceExhausted("x"), Throttled),
        (exceptions.ServiceUnavailable("x"), Unavailable),
        (exceptions.DeadlineExceeded("x"), Unavailable),
        (exceptions.RetryError("x", exceptions.Aborted("y")), Throttled),
        (exceptions.RetryError("x", exceptions.ServiceUnavailable("y")), Unavailable),
        (exceptions.InvalidArgument("the entity is too big"), TooLarge),
        (exceptions.InvalidArgument("x"), Denied),
        (exceptions.from_http_status(413, "x exceeds the limit"), TooLarge),
        (exceptions.PermissionDenied("x"), Denied),
        (google.auth.exceptions.TransportError("x"), Unavailable),
        (google.auth.exceptions.DefaultCredentialsError("x"), NoCredentials),
        (requests.ConnectionError("x"), Unavailable),
    ):
        assert type(core_error("log.put", error)) is kind, error
    assert "that it is deployed" in str(core_error("log.put", exceptions.NotFound("no database")))
    assert "gcloud auth" in str(core_error("log.put", google.auth.exceptions.DefaultCredentialsError("x")))
    assert "gcloud auth" in str(core_error("log.put", google.auth.exceptions.RefreshError("expired")))
    unreached = str(core_error("log.put", google.auth.exceptions.TransportError("no route")))
    assert "network" in unreached
    assert "gcloud" not in unreached


def test_importing_the_targets_opens_nothing_and_reads_no_environment() -> None:
    script = (
        "import socket, faaskeeper.providers.gcp.functions as functions; "
        "assert functions._made.cache_info().currsize == 0"
    )
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    subprocess.run([sys.executable, "-c", script], env=bare, check=True, timeout=PATIENCE_S)


def test_the_published_system_s_keys_at_the_top_are_the_section_s() -> None:
    data = {
        "cloud-provider": "gcp", "deployment-name": "dev", "deployment-region": "us-central1",
        "project-id": "wide-axiom", "project-credentials": "key.json",
    }  # fmt: skip
    assert Config.deserialize(data).provider_config == {"project-id": "wide-axiom", "credentials": "key.json"}
    service = GcpService(Config.deserialize({**data, "gcp": {"project-id": "mine"}}))
    assert service.project == "mine"
    with pytest.raises(ConfigurationException, match=r"gcp.unheard"):
        GcpService(Config.deserialize({**data, "gcp": {"unheard": 1}}))


@pytest.fixture
def environment(emulators: dict[str, str]) -> dict[str, str]:
    config = {
        "cloud-provider": "gcp", "deployment-name": f"fk-{uuid4().hex[:8]}",
        "deployment-region": "us-central1",
        "user-storage": "key-value", "gcp": {"project-id": backends.project()},
        "configuration": {"benchmarking": True},
    }  # fmt: skip
    return {"FAASKEEPER_CONFIG": json.dumps(config), "K_SERVICE": "fk-writer"}


def test_only_heartbeat_begins_a_deployment_and_each_function_says_whether_it_is_well(
    environment: dict[str, str],
) -> None:
    root = logging.getLogger()
    before = root.handlers[:], root.level
    said: list[str] = []
    try:
        with pytest.raises(Denied, match="its heartbeat does that"):
            functions.Functions(environment, begins=False)
        begun = functions.Functions(environment, begins=True, say=said.append)
        again = functions.Functions(environment, begins=False, say=said.append)
        assert begun.deployment.key == again.deployment.key
        assert again.health() == (
            json.dumps({"version": functions.__version__, "function": "fk-writer", "applied": 0}), 200,
        )  # fmt: skip
        assert begun.heartbeat(b"", {})[1] == 200
        assert begun.heartbeat(b'{"sweep": true}', {}) == ("{}", 200)
        assert again.push("writer", b"not a message", {}) == ("", 204)
        assert again.push("writer", b'{"message": {"data": "!", "messageId": "1"}}', {}) == ("", 204)
        assert again.push("writer", json.dumps(PUSH).encode(), {}) == ("", 204)  # dropped: no client made it
        assert json.loads(said[-1])["metrics"]["batch"] == 1
        begun.service.gcp.close()
        again.service.gcp.close()
    finally:
        root.handlers[:], root.level = before
