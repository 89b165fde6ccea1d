"""Shared by ``fk backup`` and ``fk restore``: moments, errors, and writing backups to files."""

from __future__ import annotations

import gzip
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import IO, NamedTuple, cast

import click

from faaskeeper import registry
from faaskeeper.backup.driver import Backups, Progress, Source
from faaskeeper.backup.file import BadBackup, Writer
from faaskeeper.backup.taking import Sink, Tree, take
from faaskeeper.cli.moments import Moment
from faaskeeper.config import Config
from faaskeeper.core.errors import StaleView
from faaskeeper.deploy.providers import translated_errors
from faaskeeper.exceptions import ProviderException

at_option = click.option("--at", "moment", type=Moment(), metavar="TIME")


def shown(moment: int) -> str:
    """A moment for people (ms since 1970)."""
    return datetime.fromtimestamp(moment / 1000).astimezone().isoformat(timespec="seconds")


def backups_of(config: Config) -> Backups:
    """The driver of a configuration's provider."""
    reference = config.provider_spec.backups
    if not reference:
        raise ProviderException(
            f"the provider {config.provider_name!r} has no backups: 'fk export' and 'fk import' work there"
        )
    made: Backups = registry.load(reference)(config)
    return made


@contextmanager
def translated() -> Iterator[None]:
    """Raise the errors of drivers and backups as ProviderException."""
    try:
        with translated_errors():
            yield
    except (StaleView, BadBackup) as error:
        raise ProviderException(str(error)) from error


class Written(NamedTuple):
    """A backup that was written: its transaction, number of znodes, digest, and size in bytes."""

    zxid: int
    znodes: int
    digest: str
    size: int


class _Spool:
    """Makes sinks that write one file, each from its beginning."""

    def __init__(self, file: IO[bytes], name: str) -> None:
        self._file = file
        self._name = name

    def __call__(self) -> Writer:
        self._file.seek(0)
        self._file.truncate()
        return Writer(self._file, self._name, int(time.time() * 1000))


def write(path: Path, name: str, fill: Callable[[Callable[[], Writer]], tuple[Tree, Sink]]) -> Written:
    """Write a backup to a file, which exists whole or not at all.

    ``fill``: called with a function that makes a sink; returns the tree and the sink that has it.
    """
    new = path.resolve().with_name(f".fk-{os.getpid()}.backup")
    try:
        with open(new, "w+b") as file:
            tree, sink = fill(_Spool(file, name))
            digest = cast(Writer, sink).end(tree.zxid, tree.time, len(tree.nodes))
            file.flush()
            os.fsync(file.fileno())
        if path.suffix == ".gz":
            _pack(new)
        size = new.stat().st_size
        new.replace(path.resolve())
    finally:
        new.unlink(missing_ok=True)
    return Written(tree.zxid, len(tree.nodes), digest, size)


def _pack(path: Path) -> None:
    """Compress a file in its place."""
    packed = path.with_name(path.name + ".gz")
    try:
        with open(path, "rb") as plain, open(packed, "wb") as file:
            with gzip.open(file, "wb", compresslevel=6) as out:
                while piece := plain.read(1 << 20):
                    out.write(piece)
            file.flush()
            os.fsync(file.fileno())
        packed.replace(path)
    finally:
        packed.unlink(missing_ok=True)


def take_to(path: Path, source: Source, progress: Progress) -> Written:
    """Take a backup of a source to a file."""
    return write(path, source.name, lambda begin: take(source, begin, progress))
