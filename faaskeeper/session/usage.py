"""How many znodes a subtree has and how much data they hold, and the znodes that show it: quotas.

ZooKeeper's clients set a quota of ``/a`` by creating ``zookeeper_limits`` and ``zookeeper_stats``
below ``/zookeeper/quota/a``, and the server keeps the usage of ``/a`` as the data of the second
(``DataTree.updateQuotaStat`` of release 3.8). Here it is counted when that data is read: writers and
log know nothing of quotas. What a client writes there is stored, but never shown.

Steps in the manner of :mod:`faaskeeper.session.rules`, whose state they are given.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

from faaskeeper.core import acl as acls
from faaskeeper.core import paths
from faaskeeper.core.acl import Identity
from faaskeeper.core.records import Record
from faaskeeper.session.commands import Steps
from faaskeeper.session.rules import Rules, names_of

_QUOTAS = "/zookeeper/quota"
_STATS = "/zookeeper_stats"
_TOGETHER = 100
"""Znodes that are read in one call."""


class Usage(NamedTuple):
    """How many znodes there are, and bytes of their data."""

    znodes: int
    size: int


def counted_by(path: str) -> str:
    """The path whose usage a znode shows as its data, "" where it has data of its own.

    There is no quota of the root: zkCli.sh refuses to set one, and ZooKeeper's server does not
    survive one.
    """
    if not path.endswith(_STATS) or not path.startswith(_QUOTAS + "/"):
        return ""
    return path[len(_QUOTAS) : -len(_STATS)]


def read(rules: Rules, path: str, who: tuple[Identity, ...], reading: Steps) -> Steps:
    """Do a read of a path that shows a usage (``reading``: Rules.read or Rules.watch of it);
    returns its record, with the usage as its data.

    The usage is counted first: what is met meanwhile fires watches, so the znode itself must be
    read after that. Nothing is counted, and no watch left, where there is no such znode or where
    ``who`` may not read it.
    """
    record: Record | None = yield from rules.read(path)
    if not _readable(record, who):
        return record
    usage: Usage = yield from measure(rules, counted_by(path))
    record = yield from reading
    return _showing(record, usage)


def snapshot(
    rules: Rules,
    wanted: Sequence[str],
    listed: Sequence[str],
    data_of: Iterable[str],
    who: tuple[Identity, ...],
) -> Steps:
    """:meth:`Rules.snapshot`, with usages as the data of znodes that show them.

    ``data_of``: the paths whose data is asked for. Usages are counted before the snapshot that is
    returned, which has to be the last thing read.
    """
    showing = dict.fromkeys(path for path in data_of if counted_by(path))
    usages: dict[str, Usage] = {}
    while True:
        found: dict[str, Record | None] = yield from rules.snapshot(wanted, listed)
        todo = [path for path in showing if path not in usages and _readable(found[path], who)]
        if not todo:
            return {**found, **{path: _showing(found[path], usage) for path, usage in usages.items()}}
        for path in todo:
            usages[path] = yield from measure(rules, counted_by(path))


def measure(rules: Rules, top: str) -> Steps:
    """Count a znode and all below it, whatever their ACLs; returns the :class:`Usage`.

    Not as of one moment: a znode counts once if it is there all the time, else at most once. What
    the session was shown or has written is seen. Memory grows with the depth and the longest list
    of children, not with the number of znodes.
    """
    znodes = size = 0
    left: list[tuple[str, list[str] | None]] = []
    """Parents, and names of children that are not counted yet; None: not read yet."""
    batch = [top]
    while batch:
        found: dict[str, Record | None] = yield from rules.snapshot(batch)
        for path in batch:
            record = found[path]
            if record is None or record.meta is None:
                continue
            znodes += 1
            size += max(record.meta.length, 0)
            if record.meta.pages:
                left.append((path, None))
            elif record.children:
                left.append((path, record.children[:]))
        batch = yield from _next(rules, left)
    return Usage(znodes, size)


def _next(rules: Rules, left: list[tuple[str, list[str] | None]]) -> Steps:
    """Take the paths to count next, from the lists added last: depth first, so few are kept."""
    batch: list[str] = []
    while left and len(batch) < _TOGETHER:
        path, names = left.pop()
        if names is None:
            names = names_of(path, (yield from rules.snapshot([path], [path])))
        room = _TOGETHER - len(batch)
        batch += [paths.child(path, name) for name in names[-room:]]
        del names[-room:]
        if names:
            left.append((path, names))
    return batch


def _readable(record: Record | None, who: tuple[Identity, ...]) -> bool:
    return record is not None and record.meta is not None and acls.permits(record.meta.acl, acls.READ, who)


def _showing(record: Record | None, usage: Usage) -> Record | None:
    if record is None or record.meta is None:
        return record
    data = b"count=%d,bytes=%d" % usage
    return record._replace(data=data, meta=record.meta._replace(length=len(data), blob=""))
