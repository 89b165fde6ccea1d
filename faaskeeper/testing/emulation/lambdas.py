"""AWS Lambda on one machine: real handlers in processes of their own, invoked as AWS invokes them.

A function's process runs Amazon's own runtime (``awslambdaric``) against the Runtime API that is
here. Pollers follow the documented rules of event sources: SQS hands out up to ten messages, one
batch in flight for each message group; what a function reports failed, or all of it when the call
failed, stays and comes again after its visibility time-out; the rest is deleted. A stream's shard
is read in order, one batch at a time, and goes on behind the first failure. A process can be killed
in the middle of a call, and a batch handed over twice.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import random
import subprocess
import sys
import threading
import time
from abc import ABC, abstractmethod
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from uuid import uuid4

_log = logging.getLogger(__name__)
_BATCH = 10
_POLL_S = 0.01
_LONG_POLL_S = 1
"""How long SQS waits for a message, and at most how long a poller takes to stop."""
_ASYNC_TRIES = 3


class CallFailed(Exception):
    """The function raised, its time was up, or its process died."""


class _Quiet(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = 64 * 1024  # one packet for head and body
    disable_nagle_algorithm = True

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing."""

    def body(self) -> bytes:
        """The body of the request."""
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def answer(self, status: int, body: bytes = b"", headers: Mapping[str, str] | None = None) -> None:
        """Answer with JSON."""
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Print nothing: a killed function closes its connection."""


@contextmanager
def _serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[int]:
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True)
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


class _Process:
    """One process of a function, and the Runtime API from which it gets events."""

    def __init__(self, handler: str, environment: Mapping[str, str], output: Path, name: str) -> None:
        self._name = name
        self._work: queue.SimpleQueue[tuple[str, float, Any] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[tuple[str, str, Any]] = queue.SimpleQueue()
        self._serving = _serving(self._api())
        port = self._serving.__enter__()
        with output.open("ab") as stream:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "awslambdaric", handler],
                env={
                    **os.environ,
                    **environment,
                    "AWS_LAMBDA_RUNTIME_API": f"127.0.0.1:{port}",
                    "AWS_LAMBDA_FUNCTION_NAME": name,
                    "AWS_LAMBDA_FUNCTION_VERSION": "$LATEST",
                    "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "512",
                },
                stdout=stream,
                stderr=stream,
            )

    def _api(self) -> type[BaseHTTPRequestHandler]:
        work, done, name = self._work, self._done, self._name

        class Api(_Quiet):
            def do_GET(self) -> None:
                call = work.get()
                if call is None:  # the process is gone
                    self.close_connection = True
                    return
                id, deadline, event = call
                self.answer(
                    200,
                    json.dumps(event).encode(),
                    {
                        "Lambda-Runtime-Aws-Request-Id": id,
                        "Lambda-Runtime-Deadline-Ms": str(int(deadline * 1000)),
                        "Lambda-Runtime-Invoked-Function-Arn": f"arn:aws:lambda:::function:{name}",
                    },
                )

            def do_POST(self) -> None:
                body = self.body()
                self.answer(202)
                *_, id, what = self.path.split("/")
                done.put((id, what, body))

        return Api

    @property
    def alive(self) -> bool:
        """Whether it runs."""
        return self._process.poll() is None

    def call(self, event: Any, timeout_s: float) -> Any:
        """Have it handle an event; returns the result. Raises CallFailed."""
        id, deadline = str(uuid4()), time.time() + timeout_s
        self._work.put((id, deadline, event))
        while True:
            try:
                whose, what, body = self._done.get(timeout=0.05)
            except queue.Empty:
                if not self.alive:
                    raise CallFailed(f"{self._name} died") from None
                if time.time() > deadline:
                    raise CallFailed(f"{self._name} was cut off after {timeout_s} s") from None
                continue
            if whose == id and what == "response":
                return json.loads(body or b"null")
            raise CallFailed(f"{self._name} failed: {body.decode()}")

    def kill(self) -> None:
        """Kill the process."""
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        """Kill the process and stop its API."""
        self.kill()
        self._work.put(None)
        self._serving.__exit__(None, None, None)


class Function:
    """One function: a process that is started when it is first called, and again after it died.

    ``handler``: as Lambda has it (``module.function``). ``output``: where its standard output goes.
    ``calls`` and ``cold_starts`` count.
    """

    def __init__(
        self,
        name: str,
        handler: str,
        environment: Mapping[str, str],
        output: Path,
        *,
        timeout_s: float = 60.0,
    ) -> None:
        self.name = name
        self.calls = 0
        self.cold_starts = 0
        self._handler = handler
        self._environment = dict(environment)
        self._output = output
        self._timeout_s = timeout_s
        self._one = threading.Lock()
        self._process: _Process | None = None
        self._dying = threading.Event()

    def call(self, event: Any) -> Any:
        """Call the function and wait for its result. Raises CallFailed. One call runs at a time."""
        with self._one:
            self.calls += 1
            process = self._process
            if process is None or not process.alive:
                self._end()
                self.cold_starts += 1
                process = self._process = _Process(self._handler, self._environment, self._output, self.name)
            if self._dying.is_set():
                self._dying.clear()
                threading.Timer(random.uniform(0, 0.05), process.kill).start()
            deadline = time.time() + self._timeout_s
            try:
                return process.call(event, self._timeout_s)
            except CallFailed:
                if time.time() > deadline:
                    process.kill()  # as Lambda does
                raise

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.close()

    def kill(self) -> None:
        """Kill the process; the next call is a cold start."""
        process = self._process
        if process is not None:
            process.kill()

    def crash(self) -> None:
        """Kill the process in the middle of its next call."""
        self._dying.set()

    def stop(self) -> None:
        """Stop the function."""
        self.kill()
        with self._one:
            self._end()


class Poller(ABC):
    """Rings a function: a thread that looks for messages and hands them over, until it is stopped.

    ``twice``: the chance that a batch is delivered again although it was done.
    """

    def __init__(self, function: Function, *, twice: float = 0.0) -> None:
        self.function = function
        self._twice = twice
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"poller-{function.name}", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Stop after the current call."""
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stopping.is_set():
            try:
                found = self.poll()
            except Exception:
                if self._stopping.is_set():
                    return
                _log.exception("the poller of %s goes on", self.function.name)
                found = False
            if not found:
                self._stopping.wait(_POLL_S)

    @abstractmethod
    def poll(self) -> bool:
        """Poll once; returns whether there was something."""

    def _call(self, records: list[dict[str, Any]]) -> set[str] | None:
        """Identities of the records that failed; None: all of them."""
        try:
            answer = self.function.call({"Records": records})
            if random.random() < self._twice:
                answer = self.function.call({"Records": records})
        except CallFailed as error:
            _log.info("%s", error)
            return None
        return {each["itemIdentifier"] for each in (answer or {}).get("batchItemFailures", ())}


class SqsPoller(Poller):
    """The event source of an SQS queue. ``sqs``: a client of boto3's."""

    def __init__(
        self, function: Function, sqs: Any, url: str, *, batch: int = _BATCH, twice: float = 0.0
    ) -> None:
        super().__init__(function, twice=twice)
        self._sqs = sqs
        self._url = url
        self._batch = batch

    def poll(self) -> bool:
        found = self._sqs.receive_message(
            QueueUrl=self._url,
            MaxNumberOfMessages=self._batch,
            AttributeNames=["All"],
            WaitTimeSeconds=_LONG_POLL_S,
        ).get("Messages", [])
        if not found:
            return False
        records = [
            {
                "messageId": each["MessageId"],
                "receiptHandle": each["ReceiptHandle"],
                "body": each["Body"],
                "attributes": each.get("Attributes", {}),
                "eventSource": "aws:sqs",
            }
            for each in found
        ]
        failed = self._call(records)
        done = [each for each in found if failed is not None and each["MessageId"] not in failed]
        if done:
            entries = [
                {"Id": str(number), "ReceiptHandle": each["ReceiptHandle"]}
                for number, each in enumerate(done)
            ]
            self._sqs.delete_message_batch(QueueUrl=self._url, Entries=entries)
        return True


class StreamPoller(Poller):
    """The event source of a table's stream. ``tries``: most tries of a batch (0: no limit)."""

    def __init__(
        self,
        function: Function,
        dynamodb: Any,
        streams: Any,
        table: str,
        *,
        tries: int = 0,
        twice: float = 0.0,
    ) -> None:
        super().__init__(function, twice=twice)
        self._streams = streams
        self._arn = dynamodb.describe_table(TableName=table)["Table"]["LatestStreamArn"]
        self._tries = tries
        self._iterators: dict[str, str] = {}
        self._waiting: dict[str, list[dict[str, Any]]] = {}
        self._failures: dict[str, int] = {}

    def poll(self) -> bool:
        if not self._iterators:
            described = self._streams.describe_stream(StreamArn=self._arn)["StreamDescription"]
            for shard in described["Shards"]:
                self._iterators[shard["ShardId"]] = self._streams.get_shard_iterator(
                    StreamArn=self._arn, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
                )["ShardIterator"]
        found = [self._poll_shard(shard) for shard in list(self._iterators)]
        return any(found)

    def _poll_shard(self, shard: str) -> bool:
        waiting = self._waiting.setdefault(shard, [])
        if not waiting:
            got = self._streams.get_records(ShardIterator=self._iterators[shard], Limit=100)
            waiting.extend(_as_event(each) for each in got["Records"])
            following = got.get("NextShardIterator")
            if following:
                self._iterators[shard] = following
            else:
                del self._iterators[shard]
        if not waiting:
            return False
        failed = self._call(waiting)
        if failed is None:
            failed = {waiting[0]["dynamodb"]["SequenceNumber"]}
        numbers = [each["dynamodb"]["SequenceNumber"] for each in waiting]
        first = min((numbers.index(each) for each in failed), default=len(numbers))
        self._failures[shard] = self._failures.get(shard, 0) + 1 if failed else 0
        del waiting[:first]
        if self._tries and self._failures[shard] >= self._tries:
            waiting.clear()
        return True


def _as_event(record: dict[str, Any]) -> dict[str, Any]:
    """A record of the streams' API as Lambda shows it: bytes as base64, times as numbers."""
    change = record["dynamodb"]
    image = {
        name: {kind: b64encode(value).decode() if kind == "B" else value for kind, value in typed.items()}
        for name, typed in change.get("NewImage", {}).items()
    }
    made = change.get("ApproximateCreationDateTime")
    return {
        "eventSource": "aws:dynamodb",
        "eventName": record["eventName"],
        "dynamodb": {
            "SequenceNumber": change["SequenceNumber"],
            "NewImage": image,
            "ApproximateCreationDateTime": made.timestamp() if made is not None else 0,
        },
    }


class Invoker:
    """Lambda's own API for asynchronous calls: it queues them, and repeats one that fails."""

    def __init__(self, functions: Mapping[str, Function]) -> None:
        self._functions = functions
        self._calls: queue.SimpleQueue[tuple[str, Any] | None] = queue.SimpleQueue()
        self._serving = _serving(self._api())
        self.endpoint = f"http://127.0.0.1:{self._serving.__enter__()}"
        self._thread = threading.Thread(target=self._run, name="invoker", daemon=True)
        self._thread.start()

    def _api(self) -> type[BaseHTTPRequestHandler]:
        calls = self._calls

        class Api(_Quiet):
            def do_POST(self) -> None:
                body = self.body()
                calls.put((self.path.split("/")[-2], json.loads(body)))
                self.answer(202)

        return Api

    def _run(self) -> None:
        while (call := self._calls.get()) is not None:
            name, event = call
            for _ in range(_ASYNC_TRIES):
                try:
                    self._functions[name].call(event)
                except CallFailed as error:
                    _log.info("%s", error)
                else:
                    break

    def stop(self) -> None:
        """Finish the queued calls, then stop."""
        self._calls.put(None)
        self._thread.join()
        self._serving.__exit__(None, None, None)
