"""``fk export``: a consistent snapshot of a tree as JSON lines, from any provider.

The walk reads the tree while other clients write. Then the log entries between the start and the
end of the walk are folded into the result. So the result is the tree as of the last of these
transactions: it includes every earlier change, and no later one.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

from faaskeeper.cli.output import json_line
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core import paths
from faaskeeper.core.blobs import lost, read_blob
from faaskeeper.core.changes import Change
from faaskeeper.core.connection import Connection
from faaskeeper.core.log import Log, Trimmed
from faaskeeper.core.records import Record
from faaskeeper.core.znode import CONTAINER, OPEN_ACL, Meta
from faaskeeper.exceptions import NodeDoesntExistException, ProviderException
from faaskeeper.mirror.errors import some
from faaskeeper.mirror.trees import Tree, hides_hashes, seen_of

FORMAT = 1
_RESERVED = "/zookeeper"
_WALKS = 5


class Snapshot(NamedTuple):
    """A tree as of a transaction: metadata and data by path."""

    zxid: int
    nodes: dict[str, tuple[Meta, bytes]]


def take(
    client: FaaSKeeperClient, connection: Connection, advance: Callable[[int], None] = lambda number: None
) -> Snapshot:
    """Take a snapshot of the nodes that this client may read. ``advance``: told of each node read.

    Raises NoAuthException, ProviderException.
    """
    for _ in range(_WALKS):
        began = _end(connection.log, connection.applied())
        client.sync("/")
        seen: dict[str, tuple[int, Meta, bytes]] = {}
        for path, found in _walk(client, connection, "/"):
            seen[path] = found
            advance(1)
        snapshot = _fold(connection, seen, began)
        if snapshot is not None:
            for path, (meta, _) in snapshot.nodes.items():  # the log also shows unreadable nodes
                client.may_read(path, meta)
            return snapshot
    raise ProviderException("long lists of children change too fast for an export: try again under less load")


def take_listed(client: FaaSKeeperClient, name: str) -> Snapshot:
    """Take a snapshot of a ZooKeeper server, which has no log to read.

    What was read is as of one moment if nothing had changed when all of it was listed afterwards.
    Raises ProviderException if that does not happen, or if hashes are hidden.
    """
    tree = Tree(client, "/", name)
    for _ in range(_WALKS):
        client.sync("/")
        found = dict(tree.walk(_record(tree), lambda record: record.children))
        there = tree.list_all()
        metas = {path: record.meta for path, record in found.items() if record.meta is not None}
        hidden = [path for path, meta in metas.items() if hides_hashes(meta.acl)]
        if hidden:
            raise ProviderException(
                f"{name} hides password hashes in the ACLs of {some(hidden)}: --auth needs ADMIN there"
            )
        if {path: seen_of(meta, found[path].children) for path, meta in metas.items()} == there:
            zxid = max(max(meta.czxid, meta.mzxid, meta.pzxid) for meta in metas.values())
            nodes = {path or "/": (meta, found[path].data) for path, meta in metas.items()}
            return Snapshot(zxid, nodes)
    raise ProviderException(f"{name} changes too fast for an export: try again under less load")


def _record(tree: Tree) -> Callable[[str], Record | None]:
    def read(path: str) -> Record | None:
        try:
            return tree.client.record(tree.real(path))
        except NodeDoesntExistException:
            return None

    return read


def _end(log: Log, applied: int) -> int:
    """The txid of the last entry, found by reading on from a known one."""
    more = True
    while more:
        entries, more = log.after(applied)
        applied = entries[-1].last if entries else applied
    return applied


def _walk(
    client: FaaSKeeperClient, connection: Connection, path: str
) -> Iterator[tuple[str, tuple[int, Meta, bytes]]]:
    """Each znode with its record's txid.

    One read each, and another if children or data are stored apart.
    """
    try:
        record = client.record(path)
    except NodeDoesntExistException:
        return  # deleted since; the log says so
    meta = record.meta
    if meta is None:
        raise AssertionError("a node that exists has metadata")
    yield path, (record.txid, meta, _data(connection, path, meta, record.data))
    for name in record.children:
        below = paths.child(path, name)
        if below != _RESERVED:
            yield from _walk(client, connection, below)


def _data(connection: Connection, path: str, meta: Meta, data: bytes) -> bytes:
    if not meta.blob:
        return data
    found = read_blob(connection.blobs, meta.blob, meta.length)
    if found is None:
        raise ProviderException(f"{lost(path, meta.blob)}; if it was replaced long ago, try again")
    return found


def _fold(connection: Connection, seen: dict[str, tuple[int, Meta, bytes]], began: int) -> Snapshot | None:
    """Fold the log into the walk's result, up to its end.

    None: the walk missed a node and must be repeated.
    """
    missed: set[str] = set()
    txid, more = began, True
    while more:
        try:
            entries, more = connection.log.after(txid)
        except Trimmed as error:
            raise ProviderException(
                "the export took longer than the retention of the log: try again"
            ) from error
        for entry in entries:
            txid = entry.last
            for transaction in entry.transactions:
                for change in transaction.changes:
                    _change(connection, seen, missed, transaction.txid, change)
    if missed:
        return None
    nodes = {path: (meta, data) for path, (_, meta, data) in seen.items()}
    nodes = {path: each for path, each in nodes.items() if not f"{path}/".startswith(f"{_RESERVED}/")}
    counted: dict[str, int] = {}
    for path in nodes:
        if path != "/":
            above = paths.parent(path)
            counted[above] = counted.get(above, 0) + 1
    for path, (meta, _) in nodes.items():
        reserved = 1 if path == "/" else 0
        if counted.get(path, 0) + reserved != meta.children:
            return None
    return Snapshot(txid, nodes)


def _change(
    connection: Connection,
    seen: dict[str, tuple[int, Meta, bytes]],
    missed: set[str],
    txid: int,
    change: Change,
) -> None:
    """Fold one change.

    ``missed``: collects changed znodes that the walk did not see and the log did not create.
    """
    before = seen.get(change.path)
    if before is not None and before[0] >= txid:
        return
    if change.meta is None:
        seen.pop(change.path, None)
        missed.discard(change.path)
        return
    if "C" in change.letters:
        missed.discard(change.path)
        before = None
    elif before is None:
        missed.add(change.path)
        return
    if change.data is not None or before is None:
        data = _data(connection, change.path, change.meta, change.data or b"")
    else:
        data = before[2]
    seen[change.path] = (txid, change.meta, data)


class Output(Protocol):
    """Anything that text can be written to."""

    def write(self, text: str, /) -> object:
        """Write text."""


def dump(snapshot: Snapshot, out: Output) -> int:
    """Write a snapshot; returns the number of znodes."""
    head = {"faaskeeper": FORMAT, "zxid": snapshot.zxid, "znodes": len(snapshot.nodes)}
    out.write(json_line(head) + "\n")
    for path in sorted(snapshot.nodes):
        meta, data = snapshot.nodes[path]
        line: dict[str, Any] = {"path": path}
        try:
            line["text"] = data.decode()
        except UnicodeDecodeError:
            line["data"] = b64encode(data).decode()
        if meta.length < 0:
            line["none"] = True
        line.update(ctime=meta.ctime, mtime=meta.mtime, version=meta.version, sequence=meta.creations)
        if meta.acl != OPEN_ACL:
            line["acl"] = [list(each) for each in meta.acl]
        if meta.owner:
            line["ephemeral"] = True
        if meta.ttl == CONTAINER:
            line["container"] = True
        elif meta.ttl:
            line["ttl"] = meta.ttl
        out.write(json_line(line) + "\n")
    return len(snapshot.nodes)
