"""The last image of each path that some transactions change: only that is written."""

from __future__ import annotations

from collections.abc import Sequence

from faaskeeper.core import paths
from faaskeeper.core.changes import Transaction
from faaskeeper.core.children import Listing
from faaskeeper.core.znode import Meta

CHECK_WITHIN_MS = 24 * 3600 * 1000
"""How far ahead heartbeat is asked to examine a container or a znode with a time to live."""


class Image:
    """The last image of a path in a group, as far as the group's entries contain it."""

    __slots__ = ("data", "fresh", "meta", "names", "txid")

    def __init__(self) -> None:
        self.txid = 0
        self.meta: Meta | None = None
        self.data: bytes | None = None
        self.fresh = False
        self.names: dict[str, bool] = {}

    def lacks_content(self) -> bool:
        """Whether data or children must come from the record before."""
        meta = self.meta
        if meta is None or self.fresh:
            return False
        listed = meta.children > 0 and not meta.pages
        return listed or (self.data is None and meta.length > 0 and not meta.blob)

    def check_at(self) -> int | None:
        """When heartbeat should examine the znode (ms); None if the transactions give no reason to.

        Reasons: a znode with a time to live was created, or such a znode or a container lost its
        last child. The time is a lower bound of when the znode is due, and not far ahead: the row
        of a deleted znode stays until then.
        """
        meta = self.meta
        if meta is None or not meta.ttl or not (self.fresh or not all(self.names.values())):
            return None
        due = meta.due_at()
        return None if due is None else min(due, max(meta.mtime, meta.emptied) + CHECK_WITHIN_MS)


def lacking(images: dict[str, Image], lists: dict[str, Listing]) -> list[str]:
    """Paths whose contents images lack and lists need."""
    wanted = [path for path, image in images.items() if image.lacks_content()]
    if not lists:
        return wanted
    wanted += [path for listing in lists.values() for path in listing.needs()]
    return list(dict.fromkeys(wanted))


def images_of(transactions: Sequence[Transaction]) -> dict[str, Image]:
    """The last image of each path that transactions change."""
    images: dict[str, Image] = {}
    for transaction in transactions:
        for path, letters, meta, data in transaction.changes:
            image = images.get(path)
            if image is None:
                image = images[path] = Image()
            image.txid = transaction.txid
            image.meta = meta
            if "C" in letters or meta is None:
                image.fresh = True
                image.names = {}
            if data is not None:
                image.data = data
        if len(transaction.changes) == 1:
            continue  # a znode is created or deleted together with a change of its parent
        for path, letters, meta, _ in transaction.changes:
            if "C" in letters or "D" in letters:
                above = images.get(paths.parent(path))
                if above is not None and above.meta is not None:
                    above.names[paths.name(path)] = meta is not None
    return images
