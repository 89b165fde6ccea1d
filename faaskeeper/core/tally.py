"""Counts of znodes and of their data, kept from the log's deltas, never by walking the tree.

The letters of a transaction's changes say which znodes appear and disappear; a number of its own
says by how much data grows. So every process that folds the log counts the same, however large the
tree is. The checkpoint's header carries the counts as of its transaction.
"""

from __future__ import annotations

from collections.abc import Iterable

from faaskeeper.core.changes import Closed, Owned, Transaction
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import genesis


class Tally(NamedTuple):
    """Counts as of a transaction.

    ``nodes``: znodes, including those that always exist. ``size``: characters of all paths and
    bytes of all data, as ZooKeeper's ``approximateDataSize`` counts. ``ephemerals``: how many of
    the znodes are ephemeral.
    """

    nodes: int
    size: int
    ephemerals: int

    def after(self, transactions: Iterable[Transaction]) -> Tally:
        """The counts after some transactions."""
        nodes, size, ephemerals = self
        for transaction in transactions:
            size += transaction.grown
            gone = 0
            for path, letters, meta, _ in transaction.changes:
                was = letters[:1] != "C"
                if meta is None:
                    gone += was
                    nodes -= was
                    size -= was * len(path)
                elif not was:
                    nodes += 1
                    size += len(path)
            for effect in transaction.effects:
                if isinstance(effect, Owned):
                    ephemerals += 1 if effect.kept else -1
                elif isinstance(effect, Closed):
                    ephemerals -= gone
        return Tally(nodes, size, ephemerals)


def beginning() -> Tally:
    """The counts of the tree as of txid 0."""
    paths = genesis()
    return Tally(len(paths), sum(len(path) for path in paths), 0)
