"""The usage of a subtree (its znodes and their data), and the znodes of quotas that show it.

ZooKeeper's clients set a quota of ``/a`` by creating ``zookeeper_limits`` and ``zookeeper_stats``
below ``/zookeeper/quota/a``, and the server keeps the usage of ``/a`` as the data of the second
(``DataTree.updateQuotaStat`` of release 3.8). FaaSKeeper counts the usage when that data is read:
the writer and the log do not know quotas. Data that a client writes there is stored, but never
shown.

The functions are steps like those of :mod:`faaskeeper.session.rules`, and receive its state.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from faaskeeper.core import acl as acls
from faaskeeper.core import paths
from faaskeeper.core.acl import Identity
from faaskeeper.core.records import Record
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.session.commands import Steps
from faaskeeper.session.rules import Rules, names_of

_QUOTAS = "/zookeeper/quota"
_STATS = "/zookeeper_stats"
_TOGETHER = 100
"""The number of znodes read in one call."""


class Usage(NamedTuple):
    """The number of znodes, and the bytes of their data."""

    znodes: int
    size: int


def counted_by(path: str) -> str:
    """The path whose usage a znode shows as its data; "" if it has data of its own.

    The root cannot have a quota: zkCli.sh refuses to set one, and ZooKeeper's server crashes on
    one.
    """
    if not path.endswith(_STATS) or not path.startswith(_QUOTAS + "/"):
        return ""
    return path[len(_QUOTAS) : -len(_STATS)]


def read(rules: Rules, path: str, who: tuple[Identity, ...], reading: Steps) -> Steps:
    """Read a path that shows a usage; returns its record, with the usage as its data.

    ``reading``: Rules.read or Rules.watch of the path. The usage is counted first: epochs that are
    met meanwhile fire watches, so the znode itself must be read after that. If the znode does not
    exist or ``who`` may not read it, nothing is counted and no watch is set.
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
    """Like :meth:`Rules.snapshot`, with usages as the data of the znodes that show them.

    ``data_of``: the paths whose data is wanted. Usages are counted before the returned snapshot,
    since that must be the last read.
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
    """Count a znode and all znodes below it, whatever their ACLs; returns the :class:`Usage`.

    The count is not as of one moment: a znode counts once if it exists all the time, otherwise at
    most once. The count includes what the session was shown or has written. Memory grows with the
    depth and the longest list of children, not with the number of znodes.
    """
    znodes = size = 0
    left: list[tuple[str, list[str] | None]] = []
    """Parents, each with the names of its uncounted children; None: not read yet."""
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
    """Take the next paths to count from the newest lists: depth first, so lists stay few."""
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
