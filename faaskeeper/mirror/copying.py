"""Makes a target equal to a source, path by path, each write on condition of what it replaces."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import Any, NamedTuple, NoReturn

from faaskeeper.core import paths
from faaskeeper.core.requests import NO_DATA, Create, Delete, SetData, inline
from faaskeeper.core.znode import CONTAINER, Acl
from faaskeeper.exceptions import (
    BadVersionError,
    FaaSKeeperException,
    NodeDoesntExistException,
    NodeExistsException,
    NotEmptyException,
    RolledBackException,
)
from faaskeeper.mirror.errors import MirrorStopped, some
from faaskeeper.mirror.marks import Marks
from faaskeeper.mirror.trees import UNKNOWN, Seen, Stamp, Tree, Znode, digest_of, parents
from faaskeeper.session.calls import Part

_READ = 256
"""Znodes read before they are written."""
_BATCH = 50
_BATCH_BYTES = 64 * 1024
"""Limits of a transaction, in operations and bytes: queues carry no larger message."""
_PROBE = "fk-mirror-probe"
_OTHERS = (BadVersionError, NodeExistsException, NotEmptyException, NodeDoesntExistException)
"""Errors of a write that met something else than the mirror knew."""


class Wishes(NamedTuple):
    """What the user says that the source cannot: kinds by patterns of paths, and ids of ACLs.

    ``kinds``: (pattern, ttl), the first match counts. ``ids``: (scheme, id) of the source to that
    of the target.
    """

    kinds: tuple[tuple[str, int], ...] = ()
    ids: tuple[tuple[tuple[str, str], tuple[str, str]], ...] = ()

    def ttl(self, path: str, node: Znode) -> int:
        """The time to live to create a znode with; ``path``: within the tree."""
        if node.ttl != UNKNOWN:
            return node.ttl
        return next((ttl for pattern, ttl in self.kinds if fnmatchcase(path, pattern)), 0)

    def acl(self, acl: Iterable[Acl]) -> tuple[Acl, ...]:
        """The ACL in the target."""
        ids = dict(self.ids)
        return tuple((perms, *ids.get((scheme, id), (scheme, id))) for perms, scheme, id in acl)


class Held(NamedTuple):
    """A znode of the target, as the mirror knows it."""

    digest: bytes
    acl: tuple[Acl, ...]
    ttl: int
    stamp: Stamp
    version: int
    creations: int


class _Again(Exception):
    """The target has lost znodes by itself: these paths are to be looked at again."""

    def __init__(self, paths: set[str]) -> None:
        super().__init__(paths)
        self.paths = paths


class Copier:
    """Holds what both trees are known to have. Used by one thread.

    ``seen``: the stamps of the source's znodes that the target equals; ``image``: the target.
    ``ephemerals``: of the source, with their sessions; they are not copied.
    """

    def __init__(self, source: Tree, target: Tree, marks: Marks, wishes: Wishes) -> None:
        self.source = source
        self.target = target
        self.seen: dict[str, Stamp] = {}
        self.image: dict[str, Held] = {}
        self.ephemerals: dict[str, int] = {}
        self.written = 0
        self._marks = marks
        self._wishes = wishes
        self._names: dict[str, set[str]] = {}
        self._parts: list[Part] = []
        self._size = 0
        self._before: dict[str, Held | None] = {}
        """What the paths of the open transaction were."""

    # ---- the image -----------------------------------------------------------------------------

    def load(self, nodes: Iterable[tuple[str, Znode]]) -> None:
        """Take the target as it was read."""
        for path, node in nodes:
            seen = node.seen
            held = Held(digest_of(node.data), node.acl, node.ttl, seen.stamp, seen.version, seen.creations)
            self._hold(path, held)

    def _hold(self, path: str, held: Held | None) -> None:
        above, name = _split(path)
        if held is None:
            self.image.pop(path, None)
            self._names.get(above, set()).discard(name)
        else:
            self.image[path] = held
            if path:
                self._names.setdefault(above, set()).add(name)

    def _change(self, path: str, held: Held | None) -> None:
        self._before.setdefault(path, self.image.get(path))
        self._hold(path, held)

    def _subtree(self, path: str) -> Iterator[str]:
        """The path and all below it in the target, children first."""
        for name in sorted(self._names.get(path, ())):
            yield from self._subtree(f"{path}/{name}")
        if path in self.image:
            yield path

    def plan(self) -> Iterator[tuple[str, str]]:
        """What would make the loaded target equal: what to do ("create", ...), and the path in the target.

        Reads the source, and writes nothing. The image becomes what it would be.
        """
        lasting: set[str] = set()
        for path, node in self.source.all():
            if node.seen.owner:
                self.ephemerals[path] = node.seen.owner
                continue
            lasting.add(path)
            held = self.image.get(path)
            if held is not None and _other_kind(path, held, node):
                yield from self._planned_removal(path)
                held = None
            real = self.target.real(path)
            if held is None:
                yield "create", real
                continue
            if held.digest != digest_of(node.data):
                yield "set", real
            if set(held.acl) != set(self._wishes.acl(node.acl)):
                yield "setAcl", real
        for path in sorted(each for each in self.image if each not in lasting):
            yield from self._planned_removal(path)

    def _planned_removal(self, path: str) -> Iterator[tuple[str, str]]:
        for each in list(self._subtree(path)):
            self._hold(each, None)
            yield "delete", self.target.real(each)

    # ---- writing -------------------------------------------------------------------------------

    def apply(self, dirty: Iterable[str]) -> None:
        """Read these paths of the source, and make the target equal there. Raises MirrorStopped."""
        work = set(dirty)
        while work:
            wanted = sorted(
                work | {each for path in work for each in parents(path) if each not in self.image}
            )
            work = set()
            for at in range(0, len(wanted), _READ):
                for path, node in self.source.some(wanted[at : at + _READ]):
                    try:
                        work |= self._make(path, node)
                    except _Again as again:
                        work |= {path, *again.paths}
                try:
                    self._flush()
                except _Again as again:
                    work |= again.paths

    def _make(self, path: str, node: Znode | None) -> set[str]:
        """Put what makes a path equal into the transaction; returns paths to look at besides.

        Raises _Again where the target is not as it was thought to be.
        """
        if node is None and not path:
            raise MirrorStopped(f"{self.source.name} is gone: nothing was deleted in {self.target.name}")
        if node is None or node.seen.owner:
            self.seen.pop(path, None)
            self.ephemerals.pop(path, None)
            if node is not None:
                self.ephemerals[path] = node.seen.owner
            self._remove(path)
            return set()
        self.ephemerals.pop(path, None)
        self.seen[path] = node.seen.stamp
        held = self.image.get(path)
        if held is not None and _other_kind(path, held, node):
            self._remove(path)
            held = None
        if held is None:
            return self._create(path, node)
        digest, acl = digest_of(node.data), self._wishes.acl(node.acl)
        if held.digest != digest:
            part = SetData(self.target.real(path), _data(node.data), held.version)
            self._add(part, len(node.data or b""))
            self._change(path, held._replace(digest=digest, version=_next(held.version)))
        if set(held.acl) != set(acl):
            self._flush()
            self._set_acl(path, acl)
        return set()

    def _create(self, path: str, node: Znode) -> set[str]:
        if path and _split(path)[0] not in self.image:
            return set()  # its parent is gone from the source, so this is too: its event comes
        acl, ttl = self._wishes.acl(node.acl), self._wishes.ttl(path, node) if path else 0
        part = Create(self.target.real(path), _data(node.data), acl=acl, ttl=ttl)
        self._add(part, len(node.data or b""))
        self._change(path, Held(digest_of(node.data), acl, ttl, Stamp(0, 0, 0), 0, 0))
        if path:
            self._created_below(_split(path)[0])
        return set(self.source.below(path, node.seen.children))

    def _created_below(self, above: str) -> None:
        held = self.image[above]
        self._change(above, held._replace(creations=held.creations + 1))

    def _remove(self, path: str) -> None:
        for each in list(self._subtree(path)):
            self._add(Delete(self.target.real(each), self.image[each].version), 0)
            self._change(each, None)
            self.seen.pop(each, None)

    def _set_acl(self, path: str, acl: tuple[Acl, ...]) -> None:
        held = self.image[path]
        try:
            stat = self.target.client.set_acls(self.target.real(path), acl, held.stamp.aversion).stat
        except _OTHERS as error:
            self._explain({path}, error)
        stamp = held.stamp._replace(aversion=stat.aversion)
        self._hold(path, held._replace(acl=acl, stamp=stamp))
        self.written += 1

    def _add(self, part: Part, size: int) -> None:
        """Add a part to the transaction, after the ones before it if it is full."""
        size += len(part.path.encode())
        if self._parts and (len(self._parts) >= _BATCH or self._size + size > _BATCH_BYTES):
            self._flush()
        self._parts.append(part)
        self._size += size

    def _flush(self) -> None:
        """Commit the transaction. Raises _Again with the paths to look at again, or MirrorStopped."""
        parts, before = self._parts, self._before
        self._parts, self._before, self._size = [], {}, 0
        if not parts:
            return
        results = self.target.client.commit([*parts, self._marks.part()])
        failed = next((each for each in results if _is_error(each)), None)
        if failed is not None:
            for path, held in before.items():
                self._hold(path, held)
            if failed is results[-1]:
                raise MirrorStopped(f"another mirror has begun to write to {self.target.name}")
            self._explain(before, failed)
        self._marks.written()
        self.written += len(parts)
        last: Any = results[-1]
        self._stamp(parts, last.stat.mzxid)

    def _stamp(self, parts: list[Part], zxid: int) -> None:
        """Note the transaction by which znodes of the image were written."""
        for part in parts:
            path = self.target.relative(part.path)
            held = None if path is None else self.image.get(path)
            if held is not None and path is not None and not isinstance(part, Delete):
                czxid = zxid if isinstance(part, Create) else held.stamp.czxid
                stamp = Stamp(czxid, zxid, held.stamp.aversion)
                self._hold(path, held._replace(stamp=stamp))

    def _explain(self, touched: Iterable[str], error: Any) -> NoReturn:
        """Find why a write failed. Raises MirrorStopped if somebody else changed the target.

        Containers and znodes past their time to live may be gone by themselves: then raises _Again.
        """
        if not isinstance(error, _OTHERS):
            raise error
        concerned = {each for path in touched for each in (path, *parents(path))}
        found = {path: self.target.listed(path) for path in sorted(concerned)}
        gone = self.compare({path: seen for path, seen in found.items() if seen}, concerned)
        if not gone:
            raise error
        raise _Again(gone | concerned)

    def compare(self, there: dict[str, Seen], concerned: Iterable[str] | None = None) -> set[str]:
        """Compare a listing of the target with the image; returns paths whose znodes are gone.

        Raises MirrorStopped if somebody else wrote. ``concerned``: the paths that were listed.
        """
        changed = {path for path, seen in there.items() if not _same(self.image.get(path), seen)}
        for path, seen in there.items():
            changed |= {each for each in self.target.below(path, seen.children) if each not in self.image}
        gone = {path for path in (concerned or self.image) if path in self.image and path not in there}
        lost = {path for path in gone if not self._may_end(path)}
        if changed or lost:
            what = some(self.target.real(each) for each in changed | lost)
            raise MirrorStopped(
                f"somebody else writes to {self.target.name}: {what} not as the mirror left them. Stop that "
                "writer; --overwrite makes the target equal to the source again"
            )
        for path in gone:
            for each in list(self._subtree(path)):
                self._hold(each, None)
                self.seen.pop(each, None)
        return gone

    def _may_end(self, path: str) -> bool:
        """Whether the target's servers may have removed a znode, or one above it."""
        kept = (self.image.get(each) for each in (path, *parents(path)))
        return any(held is not None and held.ttl for held in kept)

    # ---- sequence counters ---------------------------------------------------------------------

    def count_up(self, counters: dict[str, int], most: int) -> dict[str, int]:
        """Raise sequence counters to the source's; returns those that lack more than ``most``."""
        left: dict[str, int] = {}
        for path, wanted in counters.items():
            held = self.image.get(path)
            if held is None or held.creations >= wanted or self._ends_empty(path, held):
                continue
            if wanted - held.creations > most:
                left[path] = wanted - held.creations
                continue
            with suppress(_Again):  # the target has removed it: it is looked at again
                self._step(path, wanted - held.creations)
        return left

    def _step(self, path: str, steps: int) -> None:
        """Create and delete a child so often."""
        probe = paths.child(self.target.real(path), _PROBE)
        for _ in range(steps):
            self._add(Create(probe, NO_DATA), 0)
            self._created_below(path)
            self._add(Delete(probe), 0)
        self._flush()

    def _ends_empty(self, path: str, held: Held) -> bool:
        """A container that had a child and has none is removed: its counter begins anew anyway."""
        return held.ttl == CONTAINER and not self._names.get(path)


def _other_kind(path: str, held: Held, node: Znode) -> bool:
    """Whether a znode has to be made anew: a container or time to live is given by its creation only."""
    return bool(path) and UNKNOWN not in (held.ttl, node.ttl) and held.ttl != node.ttl


def _split(path: str) -> tuple[str, str]:
    above, _, name = path.rpartition("/")
    return above, name


def _next(version: int) -> int:
    return version + 1 if version < 2**31 - 1 else -(2**31)


def _data(data: bytes | None) -> Any:
    return NO_DATA if data is None else inline(data)


def _is_error(result: object) -> bool:
    return isinstance(result, FaaSKeeperException) and not isinstance(result, RolledBackException)


def _same(held: Held | None, seen: Seen) -> bool:
    return held is not None and held.stamp == seen.stamp and not seen.owner
