"""What programs for the published client library do, they can do here, unchanged."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import ClientChannel, CloudProvider, Config, QueueType, StorageType
from faaskeeper.exceptions import (
    AWSException,
    BadVersionError,
    FaaSKeeperException,
    MalformedInputException,
    NodeDoesntExistException,
    NodeExistsException,
    NotEmptyException,
    ProviderException,
    SessionClosingException,
    SessionExpiredException,
    TimeoutException,
    WatchSetFailureException,
    ZooKeeperException,
)
from faaskeeper.node import Node
from faaskeeper.testing.patience import PATIENCE_S
from faaskeeper.watch import WatchedEvent, WatchEventType, WatchType

Start = Callable[..., FaaSKeeperClient]


def test_the_names_that_programs_import_are_there() -> None:
    assert issubclass(AWSException, ProviderException)
    assert issubclass(ProviderException, FaaSKeeperException)
    for kind in (
        NodeExistsException,
        NodeDoesntExistException,
        NotEmptyException,
        BadVersionError,
        MalformedInputException,
    ):
        assert issubclass(kind, ZooKeeperException)
    for kind in (
        SessionClosingException,
        SessionExpiredException,
        TimeoutException,
        WatchSetFailureException,
        ZooKeeperException,
    ):
        assert issubclass(kind, FaaSKeeperException)
    for kind, names in (
        (CloudProvider, {"AWS", "GCP", "LOCAL"}),
        (StorageType, {"PERSISTENT", "KEY_VALUE"}),
        (QueueType, {"DYNAMODB", "SQS", "PUBSUB"}),
        (ClientChannel, {"TCP", "SQS"}),
    ):
        assert names <= set(kind.__members__)
    assert {str(each) for each in WatchEventType} == {
        "NodeCreated",
        "NodeDeleted",
        "NodeDataChanged",
        "NodeChildrenChanged",
    }
    assert {"GET_DATA", "EXISTS", "GET_CHILDREN"} <= set(WatchType.__members__)


def test_the_constructor_and_the_operations_take_what_they_took() -> None:
    def parameters(function: object) -> list[tuple[str, object]]:
        signature = inspect.signature(function)  # type: ignore[arg-type]
        return [
            (each.name, each.default)
            for each in signature.parameters.values()
            if each.kind is not inspect.Parameter.KEYWORD_ONLY and each.name != "self"
        ]

    missing = inspect.Parameter.empty
    assert parameters(FaaSKeeperClient.__init__) == [
        ("cfg", missing),
        ("port", -1),
        ("heartbeat", True),
        ("verbose", False),
        ("debug", False),
    ]
    expected = {
        "create": [("path", missing), ("value", b""), ("ephemeral", False), ("sequential", False)],
        "get_data": [("path", missing), ("watch", None)],
        "exists": [("path", missing), ("watch", None)],
        "get_children": [("path", missing), ("include_data", False), ("watch", None)],
        "set_data": [("path", missing), ("value", b""), ("version", -1)],
        "delete": [("path", missing), ("version", -1)],
    }
    for name, signature in expected.items():
        assert parameters(getattr(FaaSKeeperClient, name)) == signature
        assert parameters(getattr(FaaSKeeperClient, name + "_async")) == signature


def test_a_session_has_an_id_and_a_status(config: Config, make: Start) -> None:
    client = make(config)
    assert client.session_id is None
    assert client.session_status == "DISCONNECTED"
    started = client.start()
    assert started == client.session_id
    assert client.session_status == "CONNECTED"
    assert client.stop() == "closed"
    assert client.session_id is None
    assert client.session_status == "DISCONNECTED"
    assert client.stop() == "closed"


def test_a_created_node_is_read_with_its_versions(client: FaaSKeeperClient) -> None:
    node = client.create("/test_create", b"")
    assert node.path == "/test_create"
    read = client.get_data("/test_create")
    assert read.path == "/test_create"
    assert read.data == b""
    assert node.created.system == read.created.system
    assert read.created.system == read.modified.system


def test_setting_raises_modified_and_leaves_created(client: FaaSKeeperClient) -> None:
    client.create("/n", b"10")
    first = client.get_data("/n")
    written = client.set_data("/n", b"12")
    assert written.path == "/n"
    assert first.modified.system < written.modified.system
    second = client.get_data("/n")
    assert second.data == b"12"
    assert first.created.system == second.created.system
    assert written.modified.system == second.modified.system
    assert second.modified.system > first.modified.system


def test_asynchronous_twins_return_futures(client: FaaSKeeperClient) -> None:
    created = client.create_async("/n", b"1").get()
    assert isinstance(created, Node)
    assert client.get_data_async("/n").get(timeout=PATIENCE_S).data == b"1"
    found = client.exists_async("/n").get()
    assert found is not None
    assert not found.has_data
    assert client.set_data_async("/n", b"2").get().modified.system > created.modified.system
    assert client.get_children_async("/n").get() == []
    with pytest.raises(NodeExistsException):
        client.create_async("/n", b"").get()
    assert client.delete_async("/n").get() is None
    with pytest.raises(NodeDoesntExistException):
        client.get_data_async("/n").get()


@pytest.mark.parametrize("path", ["test_create", "/test_create/"])
def test_malformed_paths_are_refused_before_anything_is_sent(client: FaaSKeeperClient, path: str) -> None:
    for operation in (
        client.create,
        client.set_data,
        client.get_data,
        client.exists,
        client.get_children,
        client.delete,
        client.create_async,
        client.get_data_async,
    ):
        with pytest.raises(MalformedInputException):
            operation(path)


def test_missing_nodes_and_parents_are_errors(client: FaaSKeeperClient) -> None:
    with pytest.raises(NodeDoesntExistException):
        client.create("/none/child", b"")
    with pytest.raises(NodeDoesntExistException):
        client.set_data("/none", b"")
    with pytest.raises(NodeDoesntExistException):
        client.get_data("/none")
    with pytest.raises(NodeDoesntExistException):
        client.get_children("/none")
    assert client.exists("/none") is None


def test_children_come_in_order_with_what_was_asked_for(client: FaaSKeeperClient) -> None:
    client.create("/p", b"")
    assert client.get_children("/p") == []
    made = [client.create(os.path.join("/p", name), name.encode()) for name in ("x", "y", "z")]
    listed = client.get_children("/p")
    assert [node.path for node in listed] == ["/p/x", "/p/y", "/p/z"]
    for node, created in zip(listed, made, strict=True):
        assert not node.has_data
        assert node.created.system == created.created.system
    full = client.get_children("/p", include_data=True)
    assert [node.data for node in full] == [b"x", b"y", b"z"]


def test_a_node_and_its_versions_go_to_json(client: FaaSKeeperClient) -> None:
    client.create("/n", b"text")
    shown = client.get_data("/n").serialize()
    assert shown["path"] == "/n"
    assert shown["data"] == "text"
    for which in ("created", "modified"):
        assert all(type(each) is int for each in shown["version"][which]["system"])


def test_a_watch_is_called_once_with_the_event(client: FaaSKeeperClient, connect: Start) -> None:
    import threading

    client.create("/n", b"1")
    events: list[WatchedEvent] = []
    fired = threading.Event()

    def watch(event: WatchedEvent) -> None:
        events.append(event)
        fired.set()

    read = client.get_data("/n", watch)
    written = connect().set_data("/n", b"2")
    assert fired.wait(PATIENCE_S)
    client.set_data("/n", b"3")
    assert [(event.event_type, event.path) for event in events] == [(WatchEventType.NODE_DATA_CHANGED, "/n")]
    assert read.modified.system.sum < events[0].timestamp == written.modified.system.sum


def test_logs_say_what_the_functions_dropped(client: FaaSKeeperClient) -> None:
    session = client._session
    assert session is not None
    session.connection.worker_queue.send("writer", "", b"\0" * 64)
    client.create("/n")
    assert "dropped a message" in client.logs()
