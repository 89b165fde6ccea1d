"""Walks over a tree, for the commands that look at many nodes.

The order is preorder: a node, then each child with all that is below it. Children are sorted by
name. Nodes come in batches, so a walk costs one call for some hundred nodes, and one for each list
of children. Memory holds one batch and the names of one list of children for each level, never the
tree; with ``unsorted`` it holds a part of each list instead (:meth:`FaaSKeeperClient.iter_children`).

A walk is not as of one moment. A node that others delete while it lasts, or that the client may not
read, is reported to standard error, the walk goes on, and the command fails at its end.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import NamedTuple

from faaskeeper.cli.context import Context
from faaskeeper.cli.errors import Failed, advice, show_error, status_of
from faaskeeper.core import paths
from faaskeeper.exceptions import FaaSKeeperException, NoAuthException, NodeDoesntExistException
from faaskeeper.node import Node

LOOKED_AT = 100
"""Nodes that are looked at in one call, without their data."""
READ = 16
"""Nodes that are read in one call with their data: 16 MiB at most."""


def _batched(each: Iterator[str], number: int) -> Iterator[list[str]]:
    while batch := list(islice(each, number)):
        yield batch


def _take(children: Iterator[Node]) -> list[str]:
    return [child.path for child in islice(children, LOOKED_AT)]


class Visit(NamedTuple):
    """A node of a walk; the top has depth 0."""

    node: Node
    depth: int


class Walk:
    """Walks over a tree. ``data``: nodes come with their data; ``depth``: the greatest depth."""

    def __init__(
        self,
        context: Context,
        *,
        data: bool = False,
        depth: int | None = None,
        unsorted: bool = False,
        as_json: bool = False,
    ) -> None:
        self._context = context
        self._data = data
        self._depth = depth
        self._unsorted = unsorted
        self._as_json = as_json
        self._failed = 0
        self._status = 0

    def visits(self, top: str) -> Iterator[Visit]:
        """A node and all nodes below it.

        Raises NodeDoesntExistException, and with ``data`` NoAuthException, of the top.
        """
        context = self._context
        node = context.call(context.client.get_data if self._data else context.client.exists, top)
        if node is None:
            raise NodeDoesntExistException(top)
        yield Visit(node, 0)
        levels = [self._below(node, 1)]
        while levels:
            node = next(levels[-1], None)
            if node is None:
                levels.pop()
                continue
            yield Visit(node, len(levels))
            levels.append(self._below(node, len(levels) + 1))

    def problem(self, path: str, error: FaaSKeeperException) -> None:
        """Report a node that is left out."""
        vanished = isinstance(error, NodeDoesntExistException)
        in_shell = not self._context.one_shot
        message = f"{path} was deleted meanwhile" if vanished else advice(error, in_shell)
        show_error(message, status_of(error), error, self._as_json)
        self._failed += 1
        self._status = self._status or status_of(error)

    def end(self) -> None:
        """Raise Failed if nodes were left out."""
        if self._failed:
            nodes = "one node was" if self._failed == 1 else f"{self._failed} nodes were"
            raise Failed(f"{nodes} left out", self._status)

    # ---- one level -----------------------------------------------------------------------------

    def _below(self, node: Node, depth: int) -> Iterator[Node]:
        if not node.stat.numChildren or (self._depth is not None and depth > self._depth):
            return
        try:
            for batch in _batched(self._paths(node.path), READ if self._data else LOOKED_AT):
                yield from self._read(batch)
        except (NodeDoesntExistException, NoAuthException) as error:
            self.problem(node.path, error)

    def _paths(self, path: str) -> Iterator[str]:
        context = self._context
        if self._unsorted:
            children = context.client.iter_children(path)
            while some := context.call(_take, children):
                yield from some
            return
        names, _ = context.call(context.client.get_children_with_stat, path)
        for name in names:
            yield paths.child(path, name)

    def _read(self, batch: Iterable[str]) -> Iterator[Node]:
        wanted = [("data" if self._data else "exists", path) for path in batch]
        results = self._context.call(self._context.client.read_together, wanted)
        for (_, path), found in zip(wanted, results, strict=True):
            if isinstance(found, Node):
                yield found
            elif isinstance(found, FaaSKeeperException):
                self.problem(path, found)
            else:
                self.problem(path, NodeDoesntExistException(path))
