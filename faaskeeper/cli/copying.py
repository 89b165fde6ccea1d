"""Copies of trees within a deployment, for ``fk cp`` and ``fk mv``.

A copy has the data, the ACLs, the times to live and the containers of its source. Versions, times
and owners are those of new nodes. Ephemerals belong to the session of another program and are left
out. A node's data is read before its ACL: whoever restricts an ACL and then writes a secret never
finds that secret below the ACL from before.

Parents come before children, many nodes in a transaction, so what is there if the copy is cut off
is a tree without gaps.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

from faaskeeper.cli import output
from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed, advice, status_of
from faaskeeper.cli.restoring import Row, batches, check_results, count_up, creations, part_of
from faaskeeper.cli.walks import Walk
from faaskeeper.core import paths
from faaskeeper.core.znode import Acl
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NoAuthException,
    NodeDoesntExistException,
    NodeExistsException,
    ZooKeeperException,
)
from faaskeeper.node import Node
from faaskeeper.session.arguments import NodeKind
from faaskeeper.zookeeper.address import PROVIDER

_NUMBERED = re.compile("[0-9]{10}$")
Advance = Callable[[int], None]


class Found(NamedTuple):
    """What a first look at a tree found.

    ``size``: bytes of data and paths; ``longest``: of the longest path. ``children``: those of the
    top. ``ephemerals``: their paths, which do not count otherwise.
    """

    nodes: int
    size: int
    longest: int
    children: int
    ephemerals: list[str]


def look(context: Context, top: str, recursive: bool, as_json: bool) -> Found:
    """Count what a tree has, without reading data. Raises NodeDoesntExistException."""
    if context.config.provider_name == PROVIDER:
        output.print_error("containers and times to live become persistent: a ZooKeeper server hides them")
    nodes = size = longest = children = 0
    ephemerals: list[str] = []
    walk = Walk(context, depth=None if recursive else 0, as_json=as_json)
    for node, depth in walk.visits(top):
        children = children if depth else node.stat.numChildren
        if node.stat.ephemeralOwner:
            ephemerals.append(node.path)
        else:
            nodes += 1
            bytes_of = len(node.path.encode())
            size += node.stat.dataLength + bytes_of
            longest = max(longest, bytes_of)
    return Found(nodes, size, longest, children, ephemerals)


def check_length(found: Found, source: str, target: str) -> None:
    """Raise Failed if the path of a copy would be too long."""
    longest = found.longest - len(source.rstrip("/").encode()) + len(target.encode())
    if longest > paths.MAX_PATH_BYTES:
        most = paths.MAX_PATH_BYTES
        raise Failed(f"a path at {target[:60]} would have {longest} bytes; the limit is {most}", 7)


def check_apart(source: str, target: str) -> None:
    """Raise Failed unless a tree can be copied or moved to a path."""
    if f"{target}/".startswith(f"{source.rstrip('/')}/"):
        raise Failed(f"{target} is part of {source}: a tree cannot be put into itself", 2)


def prepare(context: Context, target: str, *, parents: bool, existing: bool) -> None:
    """Check that a target can be made, and make its parents if that is asked for.

    ``existing``: the target may exist. Raises Failed, NodeExistsException.
    """
    if not existing and context.call(context.client.exists, target) is not None:
        raise NodeExistsException(target)
    above = paths.parent(target)
    if context.call(context.client.exists, above) is not None:
        return
    if not parents:
        raise Failed(f"{target} has no parent: the node {above} does not exist; -p creates it", 3)
    try:
        context.call(partial(context.client.create, above, makepath=True))
    except NodeExistsException:
        pass  # another client was faster


def acl_of(context: Context, path: str) -> tuple[Acl, ...]:
    """A node's ACL, whole. Raises Failed if its hashes are not shown to this client."""
    entries, _ = context.call(context.client.get_acls, path)
    for _, scheme, id in entries:
        if scheme == "digest" and id.endswith(":x"):
            raise Failed(
                f"the ACL of {path} has a password's hash, which only its administrators may read", 9
            )
    return tuple(entries)


class Copy:
    """One copy of a tree. ``acl``: that of each copy; None: that of its source."""

    def __init__(
        self,
        context: Context,
        source: str,
        target: str,
        *,
        recursive: bool = True,
        acl: Sequence[Acl] | None = None,
        as_json: bool = False,
    ) -> None:
        self._context = context
        self._source = source
        self._target = target
        self._acl = None if acl is None else tuple(acl)
        self.walk = Walk(context, data=True, depth=None if recursive else 0, as_json=as_json)
        self.ephemerals: list[str] = []
        self.renumbered: list[str] = []
        """Copied parents whose sequence numbers begin below those of their source."""
        self.done = 0
        self._numbers: dict[str, int] = {}
        """By copied parent: a number above those in the names of its children.

        Its sequence number must not be below that: a sequential create would meet a child that
        exists.
        """

    def at(self, path: str) -> str:
        """The path of the copy of a node."""
        return self._target + path[len(self._source.rstrip("/")) :].rstrip("/")

    def rows(self) -> Iterator[tuple[Node, Row]]:
        """Each node of the source, with what creates its copy. Problems are reported and left out."""
        skipped: str | None = None
        for node, _ in self.walk.visits(self._source):
            if skipped is not None and node.path.startswith(f"{skipped}/"):
                continue  # its parent has no copy
            if node.stat.ephemeralOwner:
                self.ephemerals.append(node.path)
                continue
            try:
                acl = acl_of(self._context, node.path) if self._acl is None else self._acl
            except (NodeDoesntExistException, NoAuthException) as error:
                self.walk.problem(node.path, error)
                skipped = node.path
                continue
            target = self.at(node.path)
            kind = NodeKind(False, False, acl, node.ttl, node.container)
            self._note(target)
            data = None if node.dataless else node.data
            yield node, Row(target, data, kind, creations(node.stat))

    def _note(self, target: str) -> None:
        found = _NUMBERED.search(target)
        if found is not None and target != self._target:
            above = paths.parent(target)
            self._numbers[above] = max(self._numbers.get(above, 0), int(found[0]) + 1)

    def write(self, *, force: bool, total: int, advance: Advance, rows: Iterator[Row] | None = None) -> None:
        """Create the copies. ``force``: replace data and ACLs of those that exist.

        ``rows``: of these nodes; None: of all. Raises Failed, or KeyboardInterrupt with a note; both
        say how far it came.
        """
        try:
            for batch in batches((row for _, row in self.rows()) if rows is None else rows):
                self.put(batch, force)
                advance(len(batch))
            for parent, number in self._numbers.items():
                if not self._context.call(count_up, self._context.client, parent, number):
                    self.renumbered.append(parent)
        except ZooKeeperException as error:
            message = advice(error, not self._context.one_shot)
            raise Failed(f"{message}. {self.progress(total)}", status_of(error)) from error
        except FaaSKeeperException as error:
            raise Failed(f"{error}. {self.progress(total, 'at least ')}", status_of(error)) from error
        except KeyboardInterrupt as error:
            error.add_note(self.progress(total, "at least "))  # the current transaction continues
            raise

    def progress(self, total: int, least: str = "") -> str:
        """How far the copy came."""
        return f"Copied {least}{self.done} of {total} nodes to {self._target}"

    def put(self, batch: list[Row], force: bool) -> None:
        """Create, or with ``force`` replace, in one transaction. Raises ZooKeeperException."""
        context, client = self._context, self._context.client
        there: set[str] = set()
        if force:
            looks = [("exists", row.path) for row in batch]
            results = context.call(client.read_together, looks)
            there = {row.path for row, found in zip(batch, results, strict=True) if found is not None}
        parts = [part_of(client, row, row.path in there) for row in batch]
        check_results(context.call(client.commit, parts))
        self.done += len(batch)
        for row in batch:
            if row.path in there and row.kind.acl is not None:
                context.call(client.set_acls, row.path, row.kind.acl)
