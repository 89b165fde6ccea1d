"""How many znodes there are, and how much data: kept by the log's own deltas, never by walking the tree.

A transaction says what it changes: which znodes come and go stands in its changes' letters, by how much data
grows in a number of its own. So whoever folds the log counts the same, whatever the size of the tree. The
checkpoint's header carries the count as of its transaction.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from faaskeeper.core.changes import Closed, Owned, Transaction
from faaskeeper.core.znode import genesis

if TYPE_CHECKING:
    from faaskeeper.core.checkpoint import Checkpoints
    from faaskeeper.core.log import Log

_PAGES = 20


class Tally(NamedTuple):
    """``nodes``: znodes, those that always exist included. ``size``: characters of all paths and bytes of all
    data, as ZooKeeper's ``approximateDataSize`` counts. ``ephemerals``: how many of the znodes.
    """

    nodes: int
    size: int
    ephemerals: int

    def after(self, transactions: Iterable[Transaction]) -> Tally:
        """What there is after some transactions."""
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
    """Of the tree as of txid 0."""
    paths = genesis()
    return Tally(len(paths), sum(len(path) for path in paths), 0)


def current(log: Log, checkpoints: Checkpoints) -> Tally | None:
    """What there is at the log's end: the header's count, and the log after it, which is short.

    None where nobody knows: the deployment was begun by a release that did not count, or the checkpoint is so
    far behind that counting would be long.
    """
    header = checkpoints.header()
    tally, txid, more = header.tally, header.txid, True
    for _ in range(_PAGES):
        if tally is None or not more:
            return tally
        entries, more = log.after(txid)
        for entry in entries:
            tally, txid = tally.after(entry.transactions), entry.last
    return None
