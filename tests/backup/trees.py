"""Backups of deployments in memory, and trees to compare."""

from __future__ import annotations

from pathlib import Path

from faaskeeper.backup.driver import Source, Target
from faaskeeper.backup.file import Backup, Writer, read
from faaskeeper.backup.taking import take
from faaskeeper.core import paths
from faaskeeper.core.blobs import TOKEN_BYTES, blob_name, read_blob
from faaskeeper.core.children import page_path
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Create, Data
from faaskeeper.core.znode import Meta
from tests.bare import Bare, BareSession

Tree = dict[str, tuple[Meta, bytes]]


def source_of(deployment: Deployment, upto: int | None = None) -> Source:
    """A deployment to read."""
    applied = deployment.checkpoints.applied()
    return Source("d", deployment.log, deployment.records, deployment.blobs, applied, upto)


def target_of(deployment: Deployment) -> Target:
    """A deployment to restore into, whose clocks stand: nobody waits for leases."""
    return Target("d", deployment, alone=True)


def backup_of(source: Source, file: Path) -> Backup:
    """Take a backup and read it."""
    with open(file, "w+b") as out:

        def begin() -> Writer:
            out.seek(0)
            out.truncate()
            return Writer(out, source.name, 1)

        tree, sink = take(source, begin, lambda line: None)
        assert isinstance(sink, Writer)
        sink.end(tree.zxid, tree.time, len(tree.nodes))
    return read(file)


def of_backup(backup: Backup) -> Tree:
    """The tree of a backup."""
    return {path: (meta, data) for path, meta, data in backup.rows()}


def stored(deployment: Deployment) -> Tree:
    """What user storage has, by the lists of children; these match the metadata and nothing else exists."""
    found: Tree = {}
    level = ["/"]
    while level:
        path = level.pop()
        record = deployment.records.get(path)
        assert record is not None, path
        assert record.meta is not None, path
        names = list(record.children)
        for number in range(record.meta.pages):
            page = deployment.records.get(page_path(path, number))
            assert page is not None, (path, number)
            assert page.meta is not None, (path, number)
            names += page.children
        assert len(set(names)) == len(names) == record.meta.children
        data: bytes | None = record.data
        if record.meta.blob:
            data = read_blob(deployment.blobs, record.meta.blob, record.meta.length)
        assert data is not None, path
        found[path] = (record.meta._replace(blob="", pages=0), data)
        level.extend(paths.child(path, name) for name in names)
    return found


def plain(tree: Tree) -> Tree:
    """A tree without what depends on how it is stored."""
    return {path: (meta._replace(blob="", pages=0), data) for path, (meta, data) in tree.items()}


def blob(bare: Bare, session: BareSession, path: str, data: bytes) -> None:
    """Create a znode whose data is in a blob."""
    assert bare.deployment.blobs is not None
    name = blob_name(bare.clock.now, bare.random(TOKEN_BYTES), session.id, data, path)
    bare.deployment.blobs.put(name, data)
    assert session.do(Create(path, Data(b"", name, len(data)))).code is Code.OK
