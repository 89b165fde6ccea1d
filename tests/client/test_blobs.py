"""Data that is kept apart from its record, and what readers say when it is not what was written."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from faaskeeper.cli import snapshots
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config, StorageType
from faaskeeper.core.blobs import parse_blob_name
from faaskeeper.core.drivers.storage import ObjectStore
from faaskeeper.exceptions import FaaSKeeperException, ProviderException
from faaskeeper.node import Node
from tests.client.test_session import Service, session_of

LARGE = b"x" * 200_000


@pytest.fixture(params=[StorageType.HYBRID, StorageType.PERSISTENT])
def service(
    request: pytest.FixtureRequest, config: Config, tmp_path: Path, make: Callable[..., FaaSKeeperClient]
) -> Iterator[Service]:
    config._user_storage = request.param
    service = Service(config, tmp_path / "apart", make)
    yield service
    for client in service.clients:
        client.stop()
    service.embedded.stop()


def blob_of(client: FaaSKeeperClient, path: str) -> str:
    record = session_of(client).get(path)
    assert record is not None
    assert record.meta is not None
    return record.meta.blob


def objects(service: Service) -> ObjectStore:
    assert service.embedded.blobs is not None
    return service.embedded.blobs


def test_large_data_is_stored_by_its_session_for_its_path_also_in_transactions(service: Service) -> None:
    client = service.client()
    client.create("/n", LARGE)
    client.set_data("/n", LARGE + b"1")
    numbered = client.create("/n/s-", LARGE, sequential=True).path
    with client.transaction() as transaction:
        transaction.create("/t", LARGE).set_data("/t", LARGE + b"2").create("/t/s-", LARGE, sequential=True)
    assert all(isinstance(each, Node) for each in transaction.results)
    assert client.get_data("/n").data == LARGE + b"1"
    assert client.get_data("/t").data == LARGE + b"2"
    for path, named, sequential in (("/n", "/n", False), (numbered, "/n/s-", True)):
        said = parse_blob_name(blob_of(client, path))
        assert said is not None
        assert (said.path, said.sequential, said.session) == (named, sequential, session_of(client).id)
    assert client.get_data(numbered).data == LARGE
    assert service.client().get_data("/t/s-0000000000").data == LARGE


@pytest.mark.parametrize("what", ["gone", "another"])
def test_data_that_is_not_there_or_not_what_was_written_is_said_to_be_lost(
    service: Service, what: str
) -> None:
    client = service.client()
    client.create("/n", LARGE)
    client.create("/whole", LARGE)
    store, name = objects(service), blob_of(client, "/n")
    store.delete(name)
    if what == "another":
        store.put(name, b"y" * len(LARGE))
    with pytest.raises(ProviderException, match="the data of /n is lost"):
        client.get_data("/n")
    with pytest.raises(ProviderException, match="the data of /n is lost"):
        client.get_data_async("/n").get(30)
    with pytest.raises(ProviderException, match="the data of /n is lost"):
        client.multi_read().get_data("/whole").get_data("/n").commit()
    connection = client.connection
    with pytest.raises(FaaSKeeperException, match="the data of /n is lost"):
        snapshots.take(client, connection)
    assert client.get_data("/whole").data == LARGE
    client.set_data("/n", LARGE)
    assert client.get_data("/n").data == LARGE
    assert len(snapshots.take(client, connection).nodes) == 3


def test_a_read_whose_record_was_replaced_shows_the_data_of_now(
    service: Service, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader, writer = service.client(), service.client()
    writer.create("/n", LARGE)
    store = objects(service)
    get = store.get

    def swept(key: str) -> object:
        monkeypatch.setattr(store, "get", get)
        old = blob_of(writer, "/n")
        writer.set_data("/n", LARGE + b"1")
        store.delete(old)
        return get(key)

    reader.sync()
    if service.config.user_storage is StorageType.PERSISTENT:
        record = session_of(reader).get("/n")
        monkeypatch.setattr(store, "get", swept)
        node = session_of(reader).drive(reader._calls.data_of("/n", record))
        assert node.data == LARGE + b"1"
        return
    monkeypatch.setattr(store, "get", swept)
    assert reader.get_data("/n").data == LARGE + b"1"
