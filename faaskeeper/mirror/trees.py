"""Reads a tree below a znode, on any kind of deployment, several znodes at a time.

Paths here are relative: ``""`` is the tree's root, ``/a`` a child of it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import blake2b, sha256
from typing import NamedTuple, TypeVar

from faaskeeper.client import FaaSKeeperClient
from faaskeeper.core import paths
from faaskeeper.core.znode import Acl, Meta
from faaskeeper.exceptions import NodeDoesntExistException
from faaskeeper.zookeeper.client import ZooKeeperClient

T = TypeVar("T")

AT_ONCE = 16
"""Reads under way at a time."""
MARKS = "/fk-mirrors"
"""Where a target keeps the marks of its mirrors; no part of any mirrored tree."""
_APART = ("/zookeeper", MARKS)

UNKNOWN = -2
"""In place of a time to live: a ZooKeeper server does not say whether a znode has one."""


class Stamp(NamedTuple):
    """What of a znode changes with its identity, its data and its ACL."""

    czxid: int
    mzxid: int
    aversion: int


class Seen(NamedTuple):
    """A znode as a listing shows it. ``creations``: its sequence counter."""

    stamp: Stamp
    version: int
    creations: int
    owner: int
    pzxid: int
    children: Sequence[str]


class Znode(NamedTuple):
    """A znode. ``data`` None: it has none, not even empty data. ``ttl``: see Meta, or UNKNOWN."""

    data: bytes | None
    acl: tuple[Acl, ...]
    ttl: int
    seen: Seen


def digest_of(data: bytes | None) -> bytes:
    """A digest of data, to compare it later."""
    return b"" if data is None else blake2b(data, digest_size=16).digest()


class Tree:
    """A tree: the znode ``top`` of a deployment and all below it. ``name``: for messages."""

    def __init__(self, client: FaaSKeeperClient, top: str, name: str) -> None:
        self.client = client
        self.top = top
        self.name = name
        self.shows_kinds = not isinstance(client, ZooKeeperClient)
        self._above = "" if top == "/" else top

    def real(self, path: str) -> str:
        """The path in the deployment."""
        return (self._above + path) or "/"

    def relative(self, real: str) -> str | None:
        """The path within the tree; None: it is not part of it."""
        if real != self.top and not real.startswith(f"{self._above}/"):
            return None
        path = "" if real == self.top else real[len(self._above) :]
        return None if self._apart(path) else path

    def _apart(self, path: str) -> bool:
        return not self._above and f"{path}/".startswith(tuple(f"{each}/" for each in _APART))

    def below(self, path: str, names: Iterable[str]) -> list[str]:
        """The paths of children."""
        return [each for name in names if not self._apart(each := f"{path}/{name}")]

    def read(self, path: str) -> Znode | None:
        """A znode with all that a mirror copies; None: it does not exist. Raises NoAuthException."""
        real = self.real(path)
        try:
            record = self.client.record(real)
            meta = record.meta
            if meta is None:
                return None
            data = self.client.get_data(real).data if meta.blob else record.data
        except NodeDoesntExistException:
            return None
        ttl = meta.ttl if self.shows_kinds else UNKNOWN
        seen = seen_of(meta, record.children)
        return Znode(data if meta.length >= 0 else None, meta.acl, ttl, seen)

    def listed(self, path: str) -> Seen | None:
        """A znode without its data and ACL; None: it does not exist."""
        try:
            names, stat = self.client.get_children_with_stat(self.real(path))
        except NodeDoesntExistException:
            return None
        creations = (stat.cversion + stat.numChildren) // 2
        stamp = Stamp(stat.czxid, stat.mzxid, stat.aversion)
        return Seen(stamp, stat.version, creations, stat.ephemeralOwner, stat.pzxid, names)

    def all(self) -> Iterator[tuple[str, Znode]]:
        """Every znode, parents first. What changes meanwhile is as of some moment."""
        return self.walk(self.read, lambda found: found.seen.children)

    def list_all(self) -> dict[str, Seen]:
        """Every znode as :meth:`listed`, parents first."""
        return dict(self.walk(self.listed, lambda found: found.children))

    def some(self, wanted: Sequence[str]) -> Iterator[tuple[str, Znode | None]]:
        """These znodes, in this order."""
        with ThreadPoolExecutor(AT_ONCE, "mirror") as pool:
            yield from zip(wanted, pool.map(self.read, wanted), strict=True)

    def walk(
        self, read: Callable[[str], T | None], children: Callable[[T], Sequence[str]]
    ) -> Iterator[tuple[str, T]]:
        """What ``read`` finds at every path, parents first; None: nothing is there."""
        level = [""]
        with ThreadPoolExecutor(AT_ONCE, "mirror") as pool:
            while level:
                following: list[str] = []
                for path, found in zip(level, pool.map(read, level), strict=True):
                    if found is not None:
                        yield path, found
                        following += self.below(path, children(found))
                level = following


def seen_of(meta: Meta, children: Sequence[str]) -> Seen:
    """What a listing would show."""
    stamp = Stamp(meta.czxid, meta.mzxid, meta.aversion)
    return Seen(stamp, meta.version, meta.creations, meta.owner, meta.pzxid, children)


def hides_hashes(acl: Iterable[Acl]) -> bool:
    """Whether an ACL was shown without its password hashes (``digest:user:x``)."""
    return any(scheme == "digest" and id.endswith(":x") for _, scheme, id in acl)


class Fingerprint:
    """A digest of paths, data and ACLs of a tree, of which ephemerals are no part.

    The order of the znodes does not matter: their digests are added, modulo 2**256.
    """

    def __init__(self) -> None:
        self._sum = 0
        self.number = 0
        """Number of znodes."""

    def add(self, path: str, node: Znode) -> None:
        """Add a znode."""
        if node.seen.owner:
            return
        acl = ",".join(sorted({f"{perms}:{scheme}:{id}" for perms, scheme, id in node.acl}))
        one = sha256()
        for part in (path.encode(), digest_of(node.data), acl.encode()):
            one.update(len(part).to_bytes(4, "big") + part)
        self._sum += int.from_bytes(one.digest(), "big")
        self.number += 1

    def hexadecimal(self) -> str:
        """The digest, in 64 digits."""
        return f"{self._sum % 2**256:064x}"


def parents(path: str) -> Iterator[str]:
    """The paths above one within the tree, from the root down."""
    yield from reversed([each if each != "/" else "" for each in paths.upwards(paths.parent(path))])
