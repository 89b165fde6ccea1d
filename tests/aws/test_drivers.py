"""The drivers for AWS pass the suites that every provider's must, on emulators."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from uuid import uuid4

import pytest

from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.drivers.storage import ObjectStore, Table
from faaskeeper.providers.aws.channels import LEFT_MS, PREFIX, SqsChannel, SqsClientChannel, leftovers
from faaskeeper.providers.aws.clients import Aws
from faaskeeper.providers.aws.events import messages_of
from faaskeeper.providers.aws.objects import S3Store
from faaskeeper.providers.aws.queues import SqsQueue, TableQueue
from faaskeeper.providers.aws.tables import DynamoTable
from faaskeeper.providers.cloud.channels import LoopbackChannel, RoutedChannel
from faaskeeper.providers.cloud.envelopes import SealedClientChannel, bare
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.providers.tcp import TcpChannel, TcpClientChannel
from faaskeeper.testing.conformance.drivers import ChannelSuite, ObjectStoreSuite, QueueSuite, TableSuite
from faaskeeper.testing.emulation import lambdas
from faaskeeper.testing.patience import PATIENCE_S
from tests.aws import backends


class TestDynamoTable(TableSuite):
    @pytest.fixture(params=["ministack", "dynamodb_local"])
    def table(self, request: pytest.FixtureRequest, ministack: str, dynamodb_local: str) -> Iterator[Table]:
        endpoint = ministack if request.param == "ministack" else dynamodb_local
        name = f"table-{uuid4().hex}"
        backends.create_table(endpoint, name, ttl=True)
        with backends.aws(endpoint) as aws:
            yield DynamoTable(aws, name, "log", lifetime_s=7 * 24 * 3600)


class TestS3Store(ObjectStoreSuite):
    @pytest.fixture
    def store(self, ministack: str, aws: Aws) -> ObjectStore:
        return S3Store(aws, backends.create_bucket(ministack))


class TestSqsChannel(ChannelSuite):
    @pytest.fixture
    def channel(self, aws: Aws) -> RoutedChannel:
        return RoutedChannel(TcpChannel(), {PREFIX: SqsChannel(aws)})

    @pytest.fixture
    def client_channel(self, aws: Aws) -> SqsClientChannel:
        return SqsClientChannel(aws, "deployment-client-", MemoryTable())


def test_the_queues_of_clients_that_were_killed_go_after_a_day_and_no_others(aws: Aws) -> None:
    table, now = MemoryTable(), 100 * LEFT_MS
    channel = SqsClientChannel(aws, "deployment-client-", table, clock=lambda: now / 1000)
    sealed = SealedClientChannel(channel)  # as sessions have it
    listeners = [each.listen(lambda message: None) for each in (channel, sealed)]
    try:
        killed, address = (each.address for each in listeners)
        needed = bare(address)
        assert needed != address
        assert leftovers(aws, table, [address], now + LEFT_MS) == []
        assert leftovers(aws, table, [address], now + LEFT_MS + 1) == [killed]
        assert SqsChannel(aws).deliver(killed, b"?") is False
        assert SqsChannel(aws).deliver(needed, b"?") is True
        assert leftovers(aws, table, None, now) == [needed]
        assert leftovers(aws, table, None, now) == []
    finally:
        for each in listeners:
            each.close()


class TestChannelOfAProcessThatIsClientAndWriter(ChannelSuite):
    @pytest.fixture
    def channel(self) -> LoopbackChannel:
        return LoopbackChannel(TcpChannel(), TcpClientChannel())

    @pytest.fixture
    def client_channel(self, channel: LoopbackChannel) -> LoopbackChannel:
        return channel


class _Collecting(lambdas.Function):
    """Stands for a function: keeps what it is handed."""

    def __init__(self) -> None:
        self.name = "collecting"
        self.bodies: list[bytes] = []
        self._came = threading.Condition()

    def call(self, event: dict[str, object]) -> object:
        with self._came:
            for message in messages_of(event):
                assert message.body is not None
                assert message.sent > 0
                self.bodies.append(message.body)
            self._came.notify_all()
        return {"batchItemFailures": []}

    def wait(self, number: int) -> list[bytes]:
        with self._came:
            assert self._came.wait_for(lambda: len(self.bodies) >= number, PATIENCE_S), self.bodies
            return list(self.bodies)


class _Harness:
    def __init__(self, queue: Queue, function: _Collecting) -> None:
        self.queue = queue
        self._function = function

    def receive(self, number: int) -> list[bytes]:
        return self._function.wait(number)


@pytest.fixture(params=["fifo", "standard", "ministack", "dynamodb_local"])
def harness(request: pytest.FixtureRequest, ministack: str, dynamodb_local: str) -> Iterator[_Harness]:
    """A queue on SQS, or on a table with its stream, and what its adapter hands over."""
    kind = request.param
    endpoint = dynamodb_local if kind == "dynamodb_local" else ministack
    function = _Collecting()
    name = f"queue-{uuid4().hex}"
    clients = []

    def client(service: str) -> object:
        clients.append(backends.raw(service, endpoint))
        return clients[-1]

    with backends.aws(endpoint) as aws:
        queue: Queue
        poller: lambdas.Poller
        if kind in ("fifo", "standard"):
            url = backends.create_queue(endpoint, f"{name}.fifo" if kind == "fifo" else name)
            queue = SqsQueue(aws, url, "worker")
            poller = lambdas.SqsPoller(function, client("sqs"), url)
        else:
            backends.create_table(endpoint, name, stream=True, ttl=True)
            queue = TableQueue(aws, name, "worker")
            poller = lambdas.StreamPoller(function, client("dynamodb"), client("dynamodbstreams"), name)
        poller.start()
        yield _Harness(queue, function)
        poller.stop()
    for each in clients:
        each.close()


class TestQueues(QueueSuite):
    pass
