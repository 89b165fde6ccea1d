"""A backup's file is read whole or refused, with the reason."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path

import pytest

from faaskeeper.backup.file import BadBackup, Writer, read
from faaskeeper.core.znode import Meta, genesis

NODE = Meta(1, 1, 1, 5, 5, length=2)


def written(path: Path) -> list[bytes]:
    """Write a backup; returns its lines."""
    with open(path, "wb") as file:
        writer = Writer(file, "name", 7)
        for place, (meta, _) in genesis().items():
            writer.node(place, 0, meta if place != "/" else meta._replace(children=2), b"")
        writer.node("/a", 1, NODE._replace(length=1), b"1")
        writer.node("/gone", 1, NODE, b"1")
        writer.node("/a", 3, NODE, b"\xff2")
        writer.node("/a", 4, NODE._replace(aversion=1), None)
        writer.gone("/gone")
        writer.end(9, 8, 5)
    return path.read_bytes().splitlines(keepends=True)


@pytest.mark.parametrize("packed", [False, True])
def test_the_last_line_about_a_path_counts_and_data_stays(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / "backup"
    written(path)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    backup = read(path)
    assert (backup.name, backup.taken, backup.zxid, backup.time) == ("name", 7, 9, 8)
    assert {place: data for place, _, data in backup.rows()} == {
        **dict.fromkeys(genesis(), b""),
        "/a": b"\xff2",
    }
    assert backup.nodes["/a"] == NODE._replace(aversion=1)
    assert backup.txids["/a"] == 4


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda lines: [], "not a backup of 'fk backup'"),
        (lambda lines: [b'{"faaskeeper": 1}\n'], "not a backup of 'fk backup'"),
        (lambda lines: [lines[0].replace(b'backup":1', b'backup":2'), *lines[1:]], "reads format 1"),
        (lambda lines: lines[:-1], "not complete"),
        (lambda lines: [*lines[:-1], lines[-1][:20]], "not complete"),
        (lambda lines: [*lines[:3], *lines[4:]], "digest is not that"),
        (lambda lines: [lines[0], lines[1].replace(b"[0,", b"[1,"), *lines[2:]], "digest is not that"),
        (lambda lines: [*lines, lines[1]], "follows the end"),
        (lambda lines: [lines[0], b"{}\n", *lines[1:]], "line 2 is wrong"),
        (lambda lines: [lines[0], b"x\n", *lines[1:]], "line 2 is damaged"),
        (lambda lines: [*lines[:-1], lines[-1].replace(b'"znodes":5', b'"znodes":6')], "promises 6 znodes"),
    ],
)
def test_what_is_no_whole_backup_is_refused(
    tmp_path: Path, damage: Callable[[list[bytes]], list[bytes]], said: str
) -> None:
    path = tmp_path / "backup"
    path.write_bytes(b"".join(damage(written(path))))
    with pytest.raises(BadBackup, match=said) as refused:
        read(path)
    assert str(path) in str(refused.value)


@pytest.mark.parametrize("cut", [20, 200])
def test_a_cut_or_changed_compressed_file_is_refused(tmp_path: Path, cut: int) -> None:
    path = tmp_path / "backup.gz"
    written(path)
    whole = gzip.compress(path.read_bytes())
    for damaged in (whole[:cut], whole[:cut] + b"\xff" * 20 + whole[cut + 20 :]):
        path.write_bytes(damaged)
        with pytest.raises(BadBackup, match=r"not complete|damaged"):
            read(path)


def test_a_tree_that_does_not_fit_together_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "backup"
    with open(path, "wb") as file:
        writer = Writer(file, "name", 7)
        writer.node("/", 0, genesis()["/"][0], b"")
        writer.end(9, 8, 1)
    with pytest.raises(BadBackup, match="do not belong together"):
        read(path)
