"""Reads and checks a dump of ``fk export``, then writes it into a deployment.

Nothing is written before the whole dump is checked: its format, each line, the number of lines, and
conflicts with existing znodes. A later failure reports how much was written.
"""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import IO, Any, NamedTuple

from faaskeeper.cli.errors import Failed, status_of
from faaskeeper.cli.snapshots import FORMAT
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import strict_json
from faaskeeper.core import paths
from faaskeeper.core.requests import NO_DATA, Create, SetData
from faaskeeper.core.transactions import MAX_SEQUENCE
from faaskeeper.core.znode import MAX_DATA_BYTES, Acl, Stat
from faaskeeper.exceptions import (
    FaaSKeeperException,
    ProviderException,
    RolledBackException,
    ZooKeeperException,
)
from faaskeeper.session.arguments import NodeKind, acl_of, ttl_of
from faaskeeper.session.calls import Part

_LONGEST_LINE = 16 * 1024 * 1024
"""Bytes. More than the largest data needs, including escapes."""
_KEYS = ("path", "text", "data", "none", "ctime", "mtime", "version", "sequence")
_KEYS_OF_KIND = ("acl", "ephemeral", "container", "ttl")
_BATCH = 50
_BATCH_BYTES = 64 * 1024
"""Limits of a transaction, in znodes and bytes: queues carry no larger message."""
_MOST_STEPS = 10_000

_RESERVED = "/zookeeper"

Call = Callable[[Callable[[], Any]], Any]
"""Makes a call of the client."""


class Row(NamedTuple):
    """A znode of a dump.

    ``sequence``: number of children ever created; ``data`` None: no data at all.
    """

    path: str
    data: bytes | None
    kind: NodeKind
    sequence: int


class Dump(NamedTuple):
    """The znodes to create, parents first, and the paths of ephemerals, which are skipped.

    ``top``: the path of the first.
    """

    rows: list[Row]
    ephemerals: list[str]
    top: str = "/"

    def below(self, path: str) -> Dump:
        """The same with ``path`` in place of the root. Raises ProviderException for a path too long."""
        if path == "/":
            return self
        moved = [row._replace(path=path if row.path == "/" else path + row.path) for row in self.rows]
        for row in moved:
            if paths.overlong(row.path):
                raise ProviderException(
                    f"{row.path[:60]}... would be longer than {paths.MAX_PATH_BYTES} bytes"
                )
        return Dump(moved, [path + each for each in self.ephemerals], path)


# ---- reading -------------------------------------------------------------------------------------


def read(file: IO[bytes]) -> Dump:
    """Read and check a dump. Raises OSError, and ProviderException that names the wrong line."""
    lines = _lines(file)
    number, first = next(lines, (1, b""))
    try:
        head = strict_json(first)
    except ValueError:
        head = None
    if not isinstance(head, dict) or "faaskeeper" not in head:
        raise ProviderException("this is not a dump of 'fk export': the first line is not a dump header")
    if head["faaskeeper"] != FORMAT:
        raise ProviderException(
            f"cannot read a dump of format {head['faaskeeper']!r}: this version does not support it"
        )
    rows: dict[str, Row] = {}
    ephemerals: list[str] = []
    for number, line in lines:
        try:
            row = _row(strict_json(line))
        except (ValueError, FaaSKeeperException) as error:
            raise ProviderException(f"line {number} of the dump is invalid: {error}") from error
        if row.path in rows:
            raise ProviderException(f"line {number} of the dump is invalid: {row.path} occurs twice")
        rows[row.path] = row
        if row.kind.ephemeral:
            ephemerals.append(row.path)
    if len(rows) != head.get("znodes"):
        raise ProviderException(
            f"the dump is incomplete: the header promises {head.get('znodes')!r} znodes, it has {len(rows)}"
        )
    if "/" not in rows:
        raise ProviderException("the dump is incomplete: the root is missing")
    for path in rows:
        above = rows.get(paths.parent(path))
        if above is None or above.kind.ephemeral:
            raise ProviderException(f"the dump is incomplete: the parent of {path} is missing")
    kept = sorted(row for row in rows.values() if not row.kind.ephemeral)
    return Dump(kept, ephemerals)


def _lines(file: IO[bytes]) -> Iterator[tuple[int, bytes]]:
    number = 0
    while line := file.readline(_LONGEST_LINE):
        number += 1
        if len(line) == _LONGEST_LINE:
            raise ProviderException(f"line {number} of the dump is invalid: it is too long")
        if line.strip():
            yield number, line


def _row(line: Any) -> Row:
    """Decode a line.

    Raises ValueError, and the client's exceptions for a znode that cannot be created.
    """
    if not isinstance(line, dict):
        raise ValueError("it is not a JSON object")
    path = line.get("path")
    wrong = paths.invalid(path) if isinstance(path, str) else f"the path is {path!r}"
    if wrong is not None or not isinstance(path, str):
        raise ValueError(wrong)
    if f"{path}/".startswith(f"{_RESERVED}/"):
        raise ValueError(f"{path} is reserved for the service")
    for key in line:
        if key not in (*_KEYS, *_KEYS_OF_KIND):
            raise ValueError(f"the key {key!r} is unknown")
    for key in ("ephemeral", "container", "none"):
        if not isinstance(line.get(key, False), bool):
            raise ValueError(f"the value of {key!r} is {line[key]!r}")
    sequence = line.get("sequence", 0)
    if type(sequence) is not int or not 0 <= sequence <= MAX_SEQUENCE:
        raise ValueError(f"the sequence is {sequence!r}")
    ephemeral = bool(line.get("ephemeral"))
    container = bool(line.get("container"))
    kind = NodeKind(ephemeral, False, _acl(line.get("acl")), line.get("ttl"), container)
    ttl_of(kind)
    return Row(path, _data(line), kind, sequence)


def _acl(entries: Any) -> tuple[Acl, ...] | None:
    if entries is None:
        return None
    if not isinstance(entries, list) or not all(isinstance(each, list) for each in entries):
        raise ValueError(f"the ACL is {entries!r}")
    return acl_of([tuple(each) for each in entries])


def _data(line: dict[str, Any]) -> bytes | None:
    if ("text" in line) == ("data" in line):
        raise ValueError("it must have either 'text' or 'data'")
    given = line.get("text", line.get("data"))
    if not isinstance(given, str):
        raise ValueError("the data is not text")
    data = given.encode() if "text" in line else b64decode(given, validate=True)
    if len(data) > MAX_DATA_BYTES:
        raise ValueError(f"the data has {len(data)} bytes, the limit is {MAX_DATA_BYTES}")
    return None if line.get("none") else data


# ---- writing -------------------------------------------------------------------------------------


class Loaded(NamedTuple):
    """The result of an import."""

    created: int
    replaced: int
    skipped: list[str]
    """Skipped ephemerals: their sessions do not exist here."""
    renumbered: list[str]
    """Parents whose sequence numbers restart below the original ones."""


def load(
    client: FaaSKeeperClient,
    dump: Dump,
    overwrite: bool,
    call: Call = lambda function: function(),
    *,
    dry_run: bool = False,
    advance: Callable[[int], None] = lambda number: None,
) -> Loaded:
    """Write a dump. ``dry_run``: only check it; ``advance`` is told how many znodes are written.

    Raises Failed if a znode exists and ``overwrite`` is not set; then nothing was written. If the
    import stops halfway, raises Failed, or KeyboardInterrupt with a note; both say how much was
    written.
    """
    there = _there(client, dump, call)
    if not overwrite:
        _refuse_conflicts(client, dump, there, call)
    if dry_run:
        return Loaded(len(dump.rows) - len(there), len(there), dump.ephemerals, [])
    counts = {row.path: row.sequence for row in dump.rows if row.sequence}
    done = 0
    try:
        for batch in batches(dump.rows):
            call(partial(_write, client, batch, there))
            done += len(batch)
            advance(len(batch))
            for row in batch:
                if row.path in there and row.kind.acl is not None:
                    call(partial(client.set_acls, row.path, row.kind.acl))
        renumbered = [
            path for path, count in counts.items() if not call(partial(count_up, client, path, count))
        ]
    except ZooKeeperException as error:  # rejected: this transaction had no effect
        raise Failed(f"{error}. {_progress(done, dump)}", status_of(error)) from error
    except FaaSKeeperException as error:
        raise Failed(f"{error}. {_progress(done, dump, 'at least ')}", status_of(error)) from error
    except KeyboardInterrupt as error:
        error.add_note(_progress(done, dump, "at least "))  # the current transaction continues
        raise
    return Loaded(len(dump.rows) - len(there), len(there), dump.ephemerals, renumbered)


def _write(client: FaaSKeeperClient, batch: list[Row], there: set[str]) -> None:
    """Create and set znodes in one transaction."""
    check_results(client.commit([part_of(client, row, row.path in there) for row in batch]))


def _progress(done: int, dump: Dump, least: str = "") -> str:
    """How far an interrupted import got."""
    if not done and not least:
        return "Nothing was imported"
    last = f", up to {dump.rows[done - 1].path}" if done else ""
    return f"Imported {least}{done} of {len(dump.rows)} znodes{last}: repeat with --overwrite to complete it"


def _there(client: FaaSKeeperClient, dump: Dump, call: Call) -> set[str]:
    """The paths of a dump that exist. Skips the descendants of a missing node."""
    there = {"/", paths.parent(dump.top)}
    for row in dump.rows:
        path = row.path
        if path != "/" and paths.parent(path) in there and call(lambda: client.exists(path)) is not None:
            there.add(path)
    return there & {row.path for row in dump.rows}


def _refuse_conflicts(client: FaaSKeeperClient, dump: Dump, there: set[str], call: Call) -> None:
    """Raise if znodes exist.

    The top may exist, as the root does; it conflicts if both sides have data that differs.
    """
    found = sorted(there - {dump.top})
    if dump.top in there:
        root = next(row for row in dump.rows if row.path == dump.top)
        now: bytes = call(lambda: client.get_data(dump.top)).data
        if now not in (b"", root.data or b""):
            found.insert(0, dump.top)
    if found:
        some = ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")
        raise Failed(
            f"{len(found)} of the dump's {len(dump.rows)} znodes exist: {some}. Nothing was imported; "
            "--overwrite replaces their data",
            4,
        )


def batches(rows: Iterable[Row]) -> Iterator[list[Row]]:
    """The rows in runs, each of which one transaction can create."""
    batch: list[Row] = []
    size = 0
    for row in rows:
        bytes_of = len(row.path.encode()) + len(row.data or b"")
        if batch and (len(batch) == _BATCH or size + bytes_of > _BATCH_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(row)
        size += bytes_of
    if batch:
        yield batch


def part_of(client: FaaSKeeperClient, row: Row, there: bool) -> Part:
    """The operation that creates a znode; ``there``: that sets its data, for it exists."""
    transaction = client.transaction()
    if there:
        transaction.set_data(row.path, row.data or b"")
    else:
        kind = row.kind
        transaction.create(row.path, row.data or b"", acl=kind.acl, ttl=kind.ttl, container=kind.container)
    part = transaction.parts[0]
    if row.data is None and isinstance(part, (Create, SetData)):
        return part._replace(data=NO_DATA)
    return part


def check_results(results: list[Any]) -> None:
    """Raise the error that made a transaction fail."""
    for each in results:
        if isinstance(each, FaaSKeeperException) and not isinstance(each, RolledBackException):
            raise each


def creations(stat: Stat) -> int:
    """How many children were ever created below a node, which is its next sequence number.

    ZooKeeper's ``cversion`` is twice that, less the children left.
    """
    return (stat.cversion % 2**32 + stat.numChildren) // 2


def count_up(client: FaaSKeeperClient, path: str, count: int) -> bool:
    """Advance the sequence number of a parent to ``count``, by creates that it deletes at once.

    False: that takes too many, or an ACL forbids it, or the parent is gone.
    """
    try:
        found = client.exists(path)
        if found is None or count - creations(found.stat) > _MOST_STEPS:
            return False
        at = creations(found.stat)
        while at < count:
            steps = min(count - at, _BATCH)
            transaction = client.transaction()
            for number in range(at, at + steps):
                name = paths.child(path, f"fk-import-{number:010d}")
                transaction.create(name)
                transaction.delete(name)
            check_results(transaction.commit())
            at += steps
    except ZooKeeperException:
        return False
    return True
