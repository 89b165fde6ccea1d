"""Children one after the other, page by page, and nodes whose kind is known."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core.children import SPAN
from faaskeeper.exceptions import NoAuthException, NodeDoesntExistException

MANY = 128 * (2 * SPAN + 3)
"""More than two parts of a list."""


def filled(client: FaaSKeeperClient, number: int) -> list[str]:
    client.create("/p", b"of all")
    for begin in range(0, number, 500):
        with client.transaction() as transaction:
            for each in range(begin, min(begin + 500, number)):
                transaction.create(f"/p/{each:06d}", b"%d" % each)
    return [f"/p/{each:06d}" for each in range(number)]


def test_children_are_iterated_over_each_once(connect: Callable[..., FaaSKeeperClient]) -> None:
    client = connect()
    expected = filled(client, 100)
    assert [node.path for node in client.iter_children("/p")] == expected  # one record has them, sorted
    found = list(client.iter_children("/p", include_data=True))
    assert [(node.path, node.data) for node in found] == [(each, b"%d" % int(each[3:])) for each in expected]
    assert found[3].stat.dataLength == 1
    assert list(client.iter_children("/p/000001")) == []


def test_children_that_stay_come_once_while_the_list_grows(
    connect: Callable[..., FaaSKeeperClient],
) -> None:
    client = connect()
    expected = filled(client, MANY)
    found: list[str] = []
    for number, node in enumerate(client.iter_children("/p")):
        found.append(node.path)
        if number == 1000:  # while it goes on, the list grows, shrinks, and children come and go
            with client.transaction() as transaction:
                for each in range(400):
                    transaction.create(f"/p/new-{each}")
    assert sorted(each for each in found if "new" not in each) == expected
    assert len(found) == len(set(found))


@pytest.mark.threads
def test_a_long_list_is_read_a_few_pages_at_a_time(
    connect: Callable[..., FaaSKeeperClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    expected = filled(client, MANY)
    reads: list[int] = []
    records = client.connection.records
    original = records.get_many
    monkeypatch.setattr(
        records, "get_many", lambda wanted: (reads.append(len(wanted)), original(wanted))[1], raising=True
    )
    children = client.iter_children("/p")
    next(children)
    assert sum(reads) <= 1 + SPAN
    assert len(list(children)) == len(expected) - 1
    assert max(reads) <= SPAN


def test_a_list_may_lose_its_pages_while_it_is_iterated_over(
    connect: Callable[..., FaaSKeeperClient],
) -> None:
    client = connect()
    expected = filled(client, MANY)
    children = client.iter_children("/p")
    first = next(children).path
    kept = set(expected[::100])
    gone = [each for each in expected if each not in kept]
    for begin in range(0, len(gone), 500):
        with client.transaction() as transaction:
            for each in gone[begin : begin + 500]:
                transaction.delete(each)
    found = [first, *(node.path for node in children)]
    assert len(found) == len(set(found))
    assert kept <= set(found)


def test_what_may_not_be_iterated_over_is_an_error_of_the_first_step(
    connect: Callable[..., FaaSKeeperClient],
) -> None:
    client = connect()
    with pytest.raises(NodeDoesntExistException):
        next(client.iter_children("/none"))
    client.create("/secret", acl=[(31, "digest", "other:x")])
    with pytest.raises(NoAuthException):
        next(client.iter_children("/secret"))
    client.create("/open")
    client.create("/open/secret", b"x", acl=[(31, "digest", "other:x")])
    client.create("/open/plain", b"y")
    assert [node.path for node in client.iter_children("/open", True)] == ["/open/plain"]


def test_a_node_tells_its_kind(connect: Callable[..., FaaSKeeperClient]) -> None:
    client = connect()
    assert client.create("/ttl", ttl=60_000).ttl == 60_000
    assert client.create("/container", container=True).container
    plain = client.create("/plain")
    assert (plain.ttl, plain.container) == (None, False)
    for read in (client.get_data, client.exists):
        assert read("/ttl").serialize()["ttl"] == 60_000  # type: ignore[union-attr]
        assert read("/container").serialize()["container"]  # type: ignore[union-attr]
        assert "ttl" not in read("/plain").serialize()  # type: ignore[union-attr]


def test_nodes_are_looked_at_together(connect: Callable[..., FaaSKeeperClient]) -> None:
    client = connect()
    client.create("/a", b"12", ttl=60_000)
    with client.multi_read() as reads:
        reads.exists("/a").exists("/none").get_data("/a")
    found, none, data = reads.results
    assert none is None
    assert (found.stat, found.ttl, found.has_data) == (data.stat, 60_000, False)  # type: ignore[union-attr]
