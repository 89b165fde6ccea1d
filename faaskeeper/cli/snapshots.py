"""``fk export``: a tree as lines of JSON, as of one transaction, from any provider.

The tree is walked while others go on writing; then the log from where the walk began to where it ended
is folded over what was seen. So the result is the tree as of the last of these transactions: nothing
before it is missing, nothing after it is in.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

from faaskeeper.cli.output import json_line
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core import paths
from faaskeeper.core.blobs import lost, read_blob
from faaskeeper.core.changes import Change
from faaskeeper.core.connection import Connection
from faaskeeper.core.log import Log, Trimmed
from faaskeeper.core.znode import CONTAINER, OPEN_ACL, Meta
from faaskeeper.exceptions import NodeDoesntExistException, ProviderException

FORMAT = 1
_RESERVED = "/zookeeper"
_WALKS = 5


class Snapshot(NamedTuple):
    """A tree as of a transaction: metadata and data by path."""

    zxid: int
    nodes: dict[str, tuple[Meta, bytes]]


def take(client: FaaSKeeperClient, connection: Connection) -> Snapshot:
    """The tree as it is now, as far as this client may read it. Raises NoAuthException, ProviderException."""
    for _ in range(_WALKS):
        began = _end(connection.log, connection.applied())
        client.sync("/")
        seen = dict(_walk(client, connection, "/"))
        snapshot = _fold(connection, seen, began)
        if snapshot is not None:
            for path, (meta, _) in snapshot.nodes.items():  # the log shows also what was made or closed since
                client.may_read(path, meta)
            return snapshot
    raise ProviderException("the tree's long lists change too fast to be walked: try when less is going on")


def _end(log: Log, applied: int) -> int:
    """The last transaction, read from a known one on."""
    more = True
    while more:
        entries, more = log.after(applied)
        applied = entries[-1].last if entries else applied
    return applied


def _walk(
    client: FaaSKeeperClient, connection: Connection, path: str
) -> Iterator[tuple[str, tuple[int, Meta, bytes]]]:
    """Each znode with its record's txid: one read each, and one more where children or data are apart."""
    try:
        record = client.record(path)
    except NodeDoesntExistException:
        return  # deleted meanwhile: the log says so
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
        raise ProviderException(f"{lost(path, meta.blob)}; or it was replaced long ago: then try again")
    return found


def _fold(connection: Connection, seen: dict[str, tuple[int, Meta, bytes]], began: int) -> Snapshot | None:
    """What was seen, brought to the log's end. None where the walk missed something: it is done again."""
    missed: set[str] = set()
    txid, more = began, True
    while more:
        try:
            entries, more = connection.log.after(txid)
        except Trimmed as error:
            raise ProviderException("the walk took longer than the log is kept") from error
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
    """Fold one change. ``missed``: znodes that were changed, but never seen and not made meanwhile."""
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
    """What text is written to."""

    def write(self, text: str, /) -> object:
        """Write a text."""


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
