"""The drivers for Google Cloud pass the suites that every provider's must, on emulators."""

from __future__ import annotations

import random
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from faaskeeper.core.drivers.channel import Channel, ClientChannel
from faaskeeper.core.drivers.storage import Joint, ObjectStore, Table
from faaskeeper.core.errors import Conflict
from faaskeeper.providers.cloud.channels import RoutedChannel
from faaskeeper.providers.gcp.channels import PREFIX, InOrder, PubsubChannel, PubsubClientChannel
from faaskeeper.providers.gcp.clients import Gcp
from faaskeeper.providers.gcp.events import message_of
from faaskeeper.providers.gcp.objects import GcsStore
from faaskeeper.providers.gcp.queues import PubsubQueue
from faaskeeper.providers.gcp.tables import DatastoreTable, joint_of
from faaskeeper.providers.tcp import TcpChannel
from faaskeeper.testing.conformance.drivers import (
    ChannelSuite,
    JointSuite,
    ObjectStoreSuite,
    QueueSuite,
    TableSuite,
)
from faaskeeper.testing.patience import PATIENCE_S
from tests.gcp import backends


class TestDatastoreTable(TableSuite):
    @pytest.fixture(params=[20_000, 1], ids=["remembering", "forgetful"])
    def table(self, request: pytest.FixtureRequest, gcp: Gcp) -> Table:
        return DatastoreTable(gcp, "fk", "log", memory=request.param)


class TestJoint(JointSuite):
    @pytest.fixture
    def tables(self, gcp: Gcp) -> dict[str, DatastoreTable]:
        return {short: DatastoreTable(gcp, "fk", short) for short in ("log", "records")}

    @pytest.fixture
    def joint(self, gcp: Gcp, tables: dict[str, DatastoreTable]) -> Joint:
        return joint_of(gcp, "fk", tables.__getitem__)


@contextmanager
def asked(store: GcsStore) -> Iterator[list[str]]:
    """Addresses of requests to Cloud Storage."""
    urls: list[str] = []
    hooks = store._gcp.storage()._http.hooks["response"]

    def note(response: Any, **_: object) -> None:
        urls.append(response.request.url)

    hooks.append(note)
    yield urls
    hooks.remove(note)


class TestGcsStore(ObjectStoreSuite):
    @pytest.fixture
    def store(self, gcp: Gcp) -> Iterator[ObjectStore]:
        bucket = backends.create_bucket(gcp)
        with backends.gcp(gcp.project) as made:  # the library knows the bucket if it has created it
            yield GcsStore(made, bucket)

    def test_a_conditional_delete_takes_that_object_only(self, store: ObjectStore) -> None:
        """The emulator ignores the condition of a delete: what the service is asked for is looked at."""
        assert isinstance(store, GcsStore)
        for tag in ("none", "0", "1"):
            with pytest.raises(Conflict):
                store.delete("key", match=tag)
        tag = store.put("key", b"1")
        with asked(store) as urls:
            store.delete("key", match=tag)
        assert len(urls) == 1
        assert f"ifGenerationMatch={tag}" in urls[0]
        assert store.get("key") is None

    def test_what_is_not_found_is_one_request(self, store: ObjectStore) -> None:
        assert isinstance(store, GcsStore)
        store.put("key", b"1")
        with asked(store) as urls:
            for _ in range(20):
                assert store.get("nothing") is None
        assert len(urls) == 20


class TestPubsubChannel(ChannelSuite):
    @pytest.fixture
    def channel(self, gcp: Gcp) -> Channel:
        backends.create_topic(gcp, "clients")
        return RoutedChannel(TcpChannel(), {PREFIX: PubsubChannel(gcp, "clients")})

    @pytest.fixture
    def client_channel(self, gcp: Gcp) -> ClientChannel:
        return PubsubClientChannel(gcp, "clients", "fk-client-")


class _Harness:
    """A topic whose subscription pushes to a server here, which now and then refuses, and what came."""

    def __init__(self, gcp: Gcp, ordered: bool) -> None:
        self._came = threading.Condition()
        self._bodies: list[bytes] = []
        self._chance = random.Random(1)
        harness = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                self.send_response(204 if harness.take(body) else 503)
                self.end_headers()

            def log_message(self, format: str, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        backends.create_topic(gcp, "queue")
        url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        backends.push(gcp, "queue", url, ordered=ordered)
        self.queue = PubsubQueue(gcp, "queue", "worker", ordered=ordered)

    def take(self, body: bytes) -> bool:
        message = message_of(body)
        assert message.body is not None
        assert message.sent > 0
        with self._came:
            if self._chance.random() < 0.05:
                return False  # it comes again
            self._bodies.append(message.body)
            self._came.notify_all()
        return True

    def receive(self, number: int) -> list[bytes]:
        with self._came:
            assert self._came.wait_for(lambda: len(self._bodies) >= number, PATIENCE_S), self._bodies
            return list(self._bodies)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(params=[False, True], ids=["pubsub", "pubsub-ordered"])
def harness(request: pytest.FixtureRequest, gcp: Gcp) -> Iterator[_Harness]:
    made = _Harness(gcp, request.param)
    yield made
    made.stop()


class TestQueues(QueueSuite):
    pass


def test_a_client_hears_each_sender_in_its_order_however_messages_come() -> None:
    heard: list[bytes] = []
    order = InOrder(heard.append)
    sent = [("a", n, n - 1, b"a%d" % n) for n in range(1, 30)] + [
        ("b", n, n - 1, b"b%d" % n) for n in range(1, 30)
    ]
    random.Random(2).shuffle(sent)
    for each in sent * 2:
        order.take(*each)
    for sender in (b"a", b"b"):
        of_it = [each for each in heard if each.startswith(sender)]
        assert of_it == [sender + b"%d" % n for n in range(1, 30)]


def test_a_message_that_was_never_published_is_not_waited_for() -> None:
    heard: list[bytes] = []
    order = InOrder(heard.append)
    order.take("a", 1, 0, b"1")
    order.take("a", 3, 1, b"3")  # 2 was given a number, and failed
    assert heard == [b"1", b"3"]
    order.take("a", 2, 1, b"2")  # it had its effect nevertheless, and comes too late
    assert heard == [b"1", b"3"]


def test_a_message_that_does_not_come_is_waited_for_and_then_gone_without() -> None:
    now = 0.0
    heard: list[bytes] = []
    order = InOrder(heard.append, patience_s=3.0, clock=lambda: now)
    order.take("a", 2, 1, b"2")
    order.tick()
    assert heard == []
    now = 3.0
    order.tick()
    assert heard == [b"2"]
    order.take("a", 1, 0, b"1")
    order.take("a", 3, 2, b"3")
    assert heard == [b"2", b"3"]
