"""``fk export`` and ``fk import``: a tree as of one transaction, from one deployment to another."""

from __future__ import annotations

import io
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from faaskeeper.cli import restoring, snapshots
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config
from faaskeeper.exceptions import NoAuthException, ProviderException
from faaskeeper.testing.patience import PATIENCE_S
from tests.cli.console import Fk


@pytest.fixture
def fk(tmp_path: Path) -> Fk:
    return Fk(tmp_path)


def taken(client: FaaSKeeperClient) -> snapshots.Snapshot:
    return snapshots.take(client, client.connection)


def test_what_is_exported_is_imported_elsewhere(fk: Fk, tmp_path: Path) -> None:
    dump = tmp_path / "dump"
    fk.said("create", "/a", "text")
    fk.said("create", "/a/c", "é中\n")
    for _ in range(3):
        fk.said("create", "-s", "/a/item-", "x")
    fk.said("delete", "/a/item-0000000003")
    fk.said("export", "--to", str(dump))
    other = Fk(tmp_path / "other")
    assert "created 4 znodes" in other.run("import", "--from", str(dump)).stderr.decode()
    assert other.said("get", "/a/c") == "é中\n\n"
    assert "item-0000000004" in other.said("create", "-s", "/a/item-", "x")
    assert other.run("import", "--from", str(dump)).returncode == 4
    assert "replaced the data of 5" in other.run("import", "--from", str(dump), "--overwrite").stderr.decode()
    assert other.run("import", stdin=b"garbage").returncode == 1


def test_bytes_acls_containers_and_ttls_are_kept_and_ephemerals_left_out(
    connect: Callable[..., FaaSKeeperClient], tmp_path: Path
) -> None:
    client = connect()
    client.add_auth("digest", "user:password")
    client.create("/bytes", bytes(range(256)))
    client.create("/large", b"\xff" * 500_000)
    client.create("/mine", b"1", acl=[(31, "auth", "")])
    client.create("/container", container=True)
    client.create("/container/child")
    client.create("/ttl", ttl=3_600_000)
    client.create("/ephemeral", ephemeral=True)
    out = io.StringIO()
    assert snapshots.dump(taken(client), out) == 8
    other = FaaSKeeperClient(Config.local(tmp_path / "other"))
    other.add_auth("digest", "user:password")
    with other:
        done = restoring.load(other, restoring.read(io.BytesIO(out.getvalue().encode())), overwrite=False)
        assert done.skipped == ["/ephemeral"]
        assert other.get_data("/bytes").data == bytes(range(256))
        assert other.get_data("/large").data == b"\xff" * 500_000
        assert other.get_acls("/mine")[0] == client.get_acls("/mine")[0]
        again = taken(other).nodes
    assert again["/container"][0].ttl == -1
    assert again["/ttl"][0].ttl == 3_600_000
    with pytest.raises(ProviderException, match="cannot read a dump"):
        restoring.read(io.BytesIO(b'{"faaskeeper": 99}\n'))


def test_an_export_is_of_one_transaction_while_others_write(
    connect: Callable[..., FaaSKeeperClient],
) -> None:
    """A pair of znodes that change together, and children that come and go by twos, are never seen apart."""
    client, writer = connect(), connect()
    for path in ("/x", "/y", "/many"):
        client.create(path, b"0")
    for number in range(300):
        client.create(f"/many/{number:04d}")
    stop, begun = threading.Event(), threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            if number > 1:
                begun.set()
            with writer.transaction() as transaction:
                transaction.set_data("/x", b"%d" % number)
                transaction.create(f"/many/a{number:06d}")
                transaction.create(f"/many/b{number:06d}")
                transaction.set_data("/y", b"%d" % number)
            if number > 3:
                with writer.transaction() as transaction:
                    transaction.delete(f"/many/a{number - 3:06d}")
                    transaction.delete(f"/many/b{number - 3:06d}")

    thread = threading.Thread(target=write)
    thread.start()
    assert begun.wait(PATIENCE_S)
    seen: list[bytes] = []
    while len(seen) < 5 or len(set(seen)) < 2:
        nodes = taken(client).nodes
        assert nodes["/x"][1] == nodes["/y"][1]
        seen.append(nodes["/x"][1])
        names = {path.rsplit("/", 1)[1] for path in nodes if path.startswith("/many/")}
        assert {name[1:] for name in names if name[0] == "a"} == {
            name[1:] for name in names if name[0] == "b"
        }
        assert len(names) == nodes["/many"][0].children
    stop.set()
    thread.join()
    assert json.loads(seen[0]) > 0


def test_a_walk_that_missed_what_is_changed_meanwhile_is_done_again(
    connect: Callable[..., FaaSKeeperClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client = connect()
    client.create("/x", b"data")
    client.create("/gone", b"")
    walk, walks = snapshots._walk, 0

    def missing(client: Any, connection: Any, path: str) -> Any:
        nonlocal walks
        walks += path == "/"
        if path != "/" or walks > 1:
            return walk(client, connection, path)
        found = [each for each in walk(client, connection, path) if each[0] not in ("/x", "/gone")]
        client.set_acls("/x", [(31, "world", "anyone")])  # which says nothing of the data
        client.set_data("/gone", b"1")
        client.delete("/gone")
        return iter(found)

    monkeypatch.setattr(snapshots, "_walk", missing)
    nodes = taken(client).nodes
    assert nodes["/x"][1] == b"data"
    assert "/gone" not in nodes
    assert walks == 2


def test_what_may_not_be_read_is_not_exported_though_it_came_during_the_walk(
    connect: Callable[..., FaaSKeeperClient], monkeypatch: pytest.MonkeyPatch
) -> None:
    client, other = connect(), connect()
    other.add_auth("digest", "other:password")
    walk = snapshots._walk

    def meanwhile(*args: Any) -> Iterator[Any]:
        yield from walk(*args)
        monkeypatch.undo()
        other.create("/secret", b"secret", acl=[(31, "auth", "")])

    monkeypatch.setattr(snapshots, "_walk", meanwhile)
    with pytest.raises(NoAuthException, match="/secret"):
        taken(client)
    client.add_auth("digest", "other:password")
    assert taken(client).nodes["/secret"][1] == b"secret"
