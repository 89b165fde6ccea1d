"""The handlers: what comes back of a batch, what is said, and when time is up."""

from __future__ import annotations

import io
import json
import logging
import os
import subprocess
import sys
from base64 import b64encode
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest

from faaskeeper.core.errors import Conflict, Denied, StaleView, Throttled
from faaskeeper.core.log import ENTRY_BYTES
from faaskeeper.providers.aws import functions
from faaskeeper.providers.aws.events import failures, messages_of
from faaskeeper.providers.aws.functions import RESERVE_MS
from faaskeeper.providers.aws.reports import JsonFormatter, Metrics
from faaskeeper.providers.cloud.logs import log_as_json
from faaskeeper.providers.cloud.serving import Message, serve
from faaskeeper.testing.emulation import lambdas
from faaskeeper.testing.patience import PATIENCE_S
from tests.aws import backends
from tests.aws.system import TABLES


def messages(*bodies: bytes, group: str = "writer") -> list[Message]:
    return [Message(str(number), group, body, 1) for number, body in enumerate(bodies)]


class Handling:
    """A function that keeps what it handled and fails on what it is told to."""

    def __init__(self, failing: Callable[[Sequence[bytes]], Exception | None] = lambda bodies: None) -> None:
        self.calls: list[list[bytes]] = []
        self.done: list[bytes] = []
        self._failing = failing

    def __call__(self, bodies: Sequence[bytes]) -> None:
        self.calls.append(list(bodies))
        error = self._failing(bodies)
        if error is not None:
            raise error
        self.done.extend(bodies)


def plenty() -> int:
    return 10 * RESERVE_MS


def no_pause(seconds: float) -> None:
    pass


def identities(failed: list[Message]) -> list[str]:
    return [each.identity for each in failed]


def test_a_batch_that_succeeds_is_one_call_and_nothing_comes_back() -> None:
    handle = Handling()
    assert serve(messages(b"a", b"b"), handle, plenty, RESERVE_MS, no_pause) == []
    assert handle.calls == [[b"a", b"b"]]


def test_what_cannot_be_handled_comes_back_and_what_follows_it_in_its_group() -> None:
    handle = Handling(lambda bodies: ValueError("poison") if b"poison" in bodies else None)
    batch = messages(b"a", b"poison", b"c")
    assert identities(serve(batch, handle, plenty, RESERVE_MS, no_pause)) == ["1", "2"]
    assert handle.done == [b"a"]


def test_on_an_unordered_queue_only_what_cannot_be_handled_comes_back() -> None:
    handle = Handling(lambda bodies: ValueError("poison") if b"poison" in bodies else None)
    batch = [Message(str(n), str(n), body, 1) for n, body in enumerate((b"a", b"poison", b"c"))]
    assert identities(serve(batch, handle, plenty, RESERVE_MS, no_pause)) == ["1"]
    assert handle.done == [b"a", b"c"]


@pytest.mark.parametrize("error", [Throttled("busy"), StaleView("old")])
def test_what_a_store_refuses_for_now_is_tried_again_at_once(error: Exception) -> None:
    left = [error, error]
    handle = Handling(lambda bodies: left.pop() if left else None)
    assert serve(messages(b"a", b"b"), handle, plenty, RESERVE_MS, no_pause) == []
    assert handle.calls == [[b"a", b"b"]] * 3


def test_what_is_denied_is_not_tried_again_as_it_is() -> None:
    handle = Handling(lambda bodies: Denied("no"))
    assert identities(serve(messages(b"a"), handle, plenty, RESERVE_MS, no_pause)) == ["0"]
    assert len(handle.calls) == 1


def test_what_there_is_no_time_for_is_given_back_before_it_is_begun() -> None:
    handle = Handling()
    left = iter([plenty(), RESERVE_MS - 1, RESERVE_MS - 1])
    big = b"x" * ENTRY_BYTES
    assert identities(serve(messages(big, big, b"c"), handle, lambda: next(left), RESERVE_MS, no_pause)) == [
        "1",
        "2",
    ]
    assert handle.done == [big]


def test_events_of_queues_streams_and_calls_are_read_in_their_order() -> None:
    text = b64encode(b"body").decode()
    attributes = {"MessageGroupId": "writer", "SentTimestamp": "5"}
    sqs = {"eventSource": "aws:sqs", "messageId": "m", "body": text, "attributes": attributes}
    assert messages_of({"Records": [sqs]}) == [Message("m", "writer", b"body", 5)]
    standard = {**sqs, "attributes": {"SentTimestamp": "5"}}
    assert messages_of({"Records": [standard]})[0].group == "m"
    assert messages_of({"Records": [{**sqs, "body": "not base64!"}]})[0].body is None
    change = {"SequenceNumber": "7", "NewImage": {"body": {"B": text}}, "ApproximateCreationDateTime": 2}
    stream = {"eventSource": "aws:dynamodb", "eventName": "INSERT", "dynamodb": change}
    expired = {**stream, "eventName": "REMOVE"}
    assert messages_of({"Records": [stream, expired]}) == [Message("7", "stream", b"body", 2000)]
    assert messages_of({"faaskeeper": text}) == [Message("", "", b"body", 0)]
    with pytest.raises(ValueError, match="aws:s3"):
        messages_of({"Records": [{"eventSource": "aws:s3"}]})
    assert failures(messages(b"a")) == {"batchItemFailures": [{"itemIdentifier": "0"}]}


def test_logs_are_lines_of_json_with_request_session_and_txid_and_nothing_else_of_ours() -> None:
    root, ours = logging.getLogger(), logging.getLogger("faaskeeper")
    before = root.handlers[:], root.level, ours.level
    out = io.StringIO()
    try:
        formatter = log_as_json("INFO", out, JsonFormatter)
        formatter.request = "request-1"
        logging.getLogger("faaskeeper.core.writer").info("committed", extra={"txid": 5, "session": [3]})
        try:
            raise ValueError("why")
        except ValueError:
            ours.exception("failed")
        logging.getLogger("botocore").info("not said")
    finally:
        root.handlers[:], root.level = before[0], before[1]
        ours.setLevel(before[2])
    first, second = (json.loads(line) for line in out.getvalue().splitlines())
    assert datetime.fromisoformat(first.pop("timestamp")).tzinfo is UTC
    assert first == {
        "level": "INFO",
        "logger": "faaskeeper.core.writer",
        "message": "committed",
        "request_id": "request-1",
        "txid": 5,
        "session": [3],
    }
    assert "ValueError: why" in second["trace"]


LOGGING = """
import logging
from faaskeeper.providers.aws.reports import JsonFormatter
from faaskeeper.providers.cloud.logs import log_as_json

def handler(event, context):
    log_as_json("INFO", kind=JsonFormatter)
    logging.getLogger("faaskeeper").info("committed")
    print('{"_aws": {}, "lag": 1}')
    if event:
        raise ValueError("why")
"""


def test_amazon_s_runtime_with_its_json_format_passes_our_lines_on_unchanged(tmp_path: Path) -> None:
    (tmp_path / "logging_handler.py").write_text(LOGGING)
    environment = {
        "PYTHONPATH": f"{tmp_path}:{Path(__file__).parent.parent.parent}",
        "AWS_LAMBDA_LOG_FORMAT": "JSON",
        "AWS_LAMBDA_LOG_LEVEL": "INFO",
    }
    function = lambdas.Function("f", "logging_handler.handler", environment, tmp_path / "output")
    function.call({})
    with pytest.raises(lambdas.CallFailed, match="why"):
        function.call({"fail": True})
    function.stop()
    lines = [json.loads(line) for line in (tmp_path / "output").read_text().splitlines()]
    ours, metrics, *_, raised = lines
    assert (ours["level"], ours["message"]) == ("INFO", "committed")
    assert "timestamp" in ours
    assert metrics == {"_aws": {}, "lag": 1}
    assert raised["errorMessage"] == "why"
    assert len(lines) == 5


def test_metrics_are_said_every_so_many_requests_in_the_embedded_format() -> None:
    said: list[dict[str, Any]] = []
    metrics = Metrics("d", "d-writer", 3, lambda line: said.append(json.loads(line)), lambda: 1_000)
    for _ in range(4):
        metrics.observe("log.put", 4.5, None)
        metrics.observe("records.put", 5.5, Conflict("lost"))
        metrics.finish(messages=1, sent=900, failed=0, took=12.0)
    assert len(said) == 1
    (line,) = said
    (described,) = line["_aws"]["CloudWatchMetrics"]
    assert described["Dimensions"] == [["deployment", "function"]]
    names = {each["Name"] for each in described["Metrics"]}
    assert names == {
        "invocation",
        "batch",
        "given back",
        "conflicts",
        "calls",
        "lag",
        "log.put",
        "records.put",
    }
    assert all(name in line for name in names)
    assert (line["lag"], line["conflicts"], line["log.put"]) == (100, 1, [4.5])
    silent = Metrics("d", "f", 0, lambda line: said.append({}), lambda: 1)
    silent.observe("log.put", 1, None)
    silent.finish(messages=5, sent=0, failed=0, took=1)
    assert len(said) == 1


def test_importing_the_handlers_opens_nothing_and_reads_no_environment() -> None:
    script = (
        "import socket, faaskeeper.providers.aws.functions as functions; "
        "assert functions._functions.cache_info().currsize == 0"
    )
    bare = {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parent.parent.parent)}
    subprocess.run([sys.executable, "-c", script], env=bare, check=True, timeout=PATIENCE_S)


def test_only_heartbeat_begins_a_deployment(ministack: str) -> None:
    name = f"fk-{uuid4().hex[:8]}"
    for short in TABLES:
        backends.create_table(ministack, f"{name}-{short}")
    config = {
        "cloud-provider": "aws", "deployment-name": name, "deployment-region": backends.REGION,
        "user-storage": "key-value", "worker-queue": "dynamodb", "aws": {"endpoint-url": ministack},
    }  # fmt: skip
    environment = {"FAASKEEPER_CONFIG": json.dumps(config)}
    root = logging.getLogger()
    before = root.handlers[:], root.level
    try:
        with pytest.raises(Denied, match="its heartbeat does that"):
            functions.Functions(environment, begins=False)
        begun = functions.Functions(environment, begins=True)
        again = functions.Functions(environment, begins=False)
        assert begun.deployment.key == again.deployment.key
        assert again.deployment.records.get("/") is not None
        begun.service.aws.close()
        again.service.aws.close()
    finally:
        root.handlers[:], root.level = before
