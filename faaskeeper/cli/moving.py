"""``fk mv``: in one transaction where the tree is small, otherwise in steps that lose nothing.

One transaction creates the new nodes and deletes the old ones, each in the version that was read:
it fails as a whole if somebody changed one of them.

In steps, the whole tree is copied first. Then the old nodes are deleted, children before parents,
in transactions of which each deletes nodes only in the version whose data and ACL were compared
with the copy, and checks that the copy still has the version that it was compared with. So at every
moment each node is at the old path or at the new one, with what was last written to the old one.
Whatever ends the command, ``--resume`` goes on: it copies what has no copy yet, refuses if a node
and its copy differ, and deletes as before.

What no transaction can check is an ACL: a change of one, within the milliseconds between the last
look and the delete, is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from faaskeeper.cli.context import Context
from faaskeeper.cli.copying import Advance, Copy, Found, acl_of
from faaskeeper.cli.errors import Failed, advice, status_of
from faaskeeper.cli.restoring import Row, check_results, count_up, part_of
from faaskeeper.cli.walks import Walk
from faaskeeper.core import paths
from faaskeeper.exceptions import (
    BadVersionError,
    FaaSKeeperException,
    NodeDoesntExistException,
    NotEmptyException,
    ZooKeeperException,
)
from faaskeeper.node import Node

MOST_OPERATIONS = 200
MOST_BYTES = 128 * 1024
"""Limits of the one transaction, in operations and bytes of data and paths: any queue carries it."""
_PAIRS = 50
"""Nodes that one transaction deletes, each with a check of its copy."""


def fits(found: Found) -> bool:
    """Whether a tree may fit into one transaction."""
    return 2 * found.nodes <= MOST_OPERATIONS and found.size <= MOST_BYTES


def at_once(context: Context, copy: Copy, source: str) -> int | None:
    """Move in one transaction; returns the number of nodes, None if it does not fit: nothing is done.

    Raises Failed if somebody changes the tree meanwhile: then nothing is done, either.
    """
    found = list(copy.rows())
    copy.walk.end()
    rows = [row for _, row in found]
    gaps = {row.path: row.sequence - node.stat.numChildren for node, row in found}
    operations = 2 * len(found) + 2 * sum(gaps.values())
    size = sum(len(row.path.encode()) + len(row.data or b"") for row in rows)
    if operations > MOST_OPERATIONS or size > MOST_BYTES:
        return None
    client = context.client
    parts = [part_of(client, row, False) for row in rows]
    others = client.transaction()
    for row in rows:
        for number in range(row.sequence - gaps[row.path], row.sequence):
            name = paths.child(row.path, f"fk-mv-{number:010d}")
            others.create(name)
            others.delete(name)
    for node, _ in reversed(found):
        others.delete(node.path, node.stat.version)
    try:
        check_results(context.call(client.commit, [*parts, *others.parts]))
    except (BadVersionError, NotEmptyException, NodeDoesntExistException) as error:
        raise Failed(
            f"{source} was changed meanwhile: {error}. Nothing was moved", status_of(error)
        ) from error
    return len(found)


def in_steps(context: Context, copy: Copy, source: str, total: int, resume: bool, advance: Advance) -> int:
    """Move by copying, then deleting; returns the number of nodes that were deleted. Raises Failed."""
    counts: dict[str, int] = {}

    def missing() -> Iterator[Row]:
        for node, row in copy.rows():
            if row.sequence > node.stat.numChildren:
                counts[row.path] = row.sequence
            if not resume or not _copied(context, node, row.path):
                yield row
            else:
                advance(1)

    try:
        copy.write(force=False, total=total, advance=advance, rows=missing())
        copy.walk.end()
        if copy.ephemerals:
            raise _ephemeral(copy.ephemerals)
    except Failed as error:
        raise Failed(f"{error}. {source} is unchanged; --resume goes on", error.status) from error
    for path, count in counts.items():
        if not context.call(count_up, context.client, path, count):
            copy.renumbered.append(path)
    return _Removal(context, copy, source, advance).run()


def _ephemeral(ephemerals: list[str]) -> Failed:
    some = ", ".join(ephemerals[:3]) + (", ..." if len(ephemerals) > 3 else "")
    return Failed(f"ephemerals belong to their sessions and cannot be moved: {some}", 2)


def refuse_ephemerals(found: Found) -> None:
    """Raise Failed if a tree has ephemerals."""
    if found.ephemerals:
        raise _ephemeral(found.ephemerals)


def _copied(context: Context, node: Node, target: str) -> Node | None:
    """The copy of a node; None if there is none. Raises Failed if it differs."""
    try:
        there: Node = context.call(context.client.get_data, target)
    except NodeDoesntExistException:
        return None
    same = (there.data, there.dataless, there.ttl, there.container) == (
        node.data, node.dataless, node.ttl, node.container,
    )  # fmt: skip
    if not same or acl_of(context, node.path) != acl_of(context, target):
        raise Failed(f"{node.path} and {target} differ: copy one over the other (fk cp -f), or delete one", 4)
    return there


class _Pair(NamedTuple):
    """A node and its copy, in the versions that were compared."""

    path: str
    version: int
    copy: str
    copy_version: int


class _Removal:
    """Deletes the old nodes, children first."""

    def __init__(self, context: Context, copy: Copy, source: str, advance: Advance) -> None:
        self._context = context
        self._copy = copy
        self._source = source
        self._advance = advance
        self._done = 0

    def run(self) -> int:
        """Returns the number of nodes deleted. Raises Failed, saying what is left."""
        try:
            batch: list[_Pair] = []
            for pair in self._pairs():
                batch.append(pair)
                if len(batch) == _PAIRS:
                    self._delete(batch)
                    batch = []
            self._delete(batch)
        except (ZooKeeperException, Failed) as error:
            status = error.status if isinstance(error, Failed) else status_of(error)
            message = error if isinstance(error, Failed) else advice(error, not self._context.one_shot)
            raise Failed(f"{message}. {self._left()}", status) from error
        except FaaSKeeperException as error:
            raise Failed(f"{error}. {self._left()}", status_of(error)) from error
        except KeyboardInterrupt as error:
            error.add_note(self._left())
            raise
        return self._done

    def _left(self) -> str:
        return (
            f"All of {self._source} is copied, {self._done} nodes of it are deleted, the others are at both "
            "paths: --resume goes on"
        )

    def _pairs(self) -> Iterator[_Pair]:
        """Each node, after those below it."""
        walk = Walk(self._context, data=True)
        above: list[_Pair] = []
        for node, depth in walk.visits(self._source):
            while len(above) > depth:
                yield above.pop()
            target = self._copy.at(node.path)
            if node.stat.ephemeralOwner:
                raise Failed(f"the ephemeral {node.path} was created meanwhile", 2)
            there = _copied(self._context, node, target)
            if there is None:
                raise Failed(f"{node.path} was created meanwhile", 4)
            above.append(_Pair(node.path, node.stat.version, target, there.stat.version))
        walk.end()
        yield from reversed(above)

    def _delete(self, batch: list[_Pair]) -> None:
        if not batch:
            return
        transaction = self._context.client.transaction()
        for pair in batch:
            transaction.check(pair.copy, pair.copy_version)
        for pair in batch:
            transaction.delete(pair.path, pair.version)
        check_results(self._context.call(transaction.commit))
        self._done += len(batch)
        self._advance(len(batch))
