"""The data and children of records that a distributor read or wrote, to be written again."""

from __future__ import annotations

from bisect import bisect_left
from collections import OrderedDict
from collections.abc import Callable, Iterable

from faaskeeper.core.children import page_of, page_path
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.view import View

_MAX_BYTES = 64 * 1024
"""Larger data is not remembered."""


class Content(NamedTuple):
    """The data and children of a record as of a txid."""

    txid: int
    data: bytes
    children: list[str]


class Contents:
    """Remembers at most ``Deployment.max_contents`` contents, and forgets the oldest first.

    What it remembers of a path is as of the view's head, or it was forgotten: its owner forgets
    everything when a write fails.
    """

    def __init__(self, deployment: Deployment) -> None:
        self._deployment = deployment
        self._known: OrderedDict[str, Content] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def read(self, wanted: Iterable[str]) -> dict[str, Content]:
        """The contents of some paths; of those not remembered, from user storage, if there."""
        contents: dict[str, Content] = {}
        unknown: list[str] = []
        for path in wanted:
            content = self._known.get(path)
            if content is None:
                unknown.append(path)
            else:
                contents[path] = content
        if unknown:
            for path, record in zip(unknown, self._deployment.records.get_many(unknown), strict=True):
                if record is not None:
                    contents[path] = Content(record.txid, record.data, record.children)
        return contents

    def keep(self, path: str, content: Content) -> None:
        """Remember a content, unless its data is large."""
        if len(content.data) > _MAX_BYTES:
            return
        self._known[path] = content
        if len(self._known) > self._deployment.max_contents:
            self._known.popitem(last=False)

    def drop(self, path: str) -> None:
        """Forget the content of a path."""
        self._known.pop(path, None)

    def clear(self) -> None:
        """Forget everything."""
        self._known.clear()

    def lacking(self, view: View, parent: str) -> Callable[[str], bool]:
        """Whether remembered contents show, as of the view's head, that a parent lacks a child.

        Returns that as a function of the child's name, to be used while the view is as it is. It
        looks into the remembered children of the parent. Pending entries may have moved names
        between pages, which the names' own changes do not show.
        """
        known = view.known(parent)
        if view.pending or known is None or known.meta is None:
            return _unknown
        txid, pages = known.txid, known.meta.pages
        lists: dict[int, list[str] | None] = {}

        def lacks(name: str) -> bool:
            number = page_of(name, pages)
            if number not in lists:
                content = self._known.get(page_path(parent, number) if pages else parent)
                lists[number] = None
                if content is not None and content.txid <= view.head and (pages or content.txid == txid):
                    lists[number] = content.children
            names = lists[number]
            if names is None:
                return False
            at = bisect_left(names, name)
            return at == len(names) or names[at] != name

        return lacks


def _unknown(name: str) -> bool:
    """No remembered content shows anything."""
    return False
