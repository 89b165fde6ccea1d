"""A znode: its metadata as the writer keeps it, and the Stat that users see."""

from __future__ import annotations

from faaskeeper.core.tuples import NamedTuple

Acl = tuple[int, str, str]
"""Permissions (READ 1, WRITE 2, CREATE 4, DELETE 8, ADMIN 16), scheme, id."""

OPEN_ACL: tuple[Acl, ...] = ((31, "world", "anyone"),)
READ_ACL: tuple[Acl, ...] = ((1, "world", "anyone"),)

CONTAINER = -1
"""In place of a time to live: the znode is removed after its last child was deleted."""
EMPTY_MS = 60_000
"""How long a container is empty before it is removed (ZooKeeper's ``ContainerManager`` checks once
a minute)."""
MAX_TTL_MS = 2**40 - 1
"""Longest time to live, in ms: ZooKeeper's (``EphemeralType.TTL``)."""

MAX_DATA_BYTES = 1024 * 1024
"""Most data of one znode: ZooKeeper's default ``jute.maxbuffer`` (1 MiB)."""


def wrapped(number: int) -> int:
    """A number wrapped to a signed integer of 32 bits.

    Versions continue with -2**31 after 2**31 - 1, as on ZooKeeper's server
    (``PrepRequestProcessor.checkAndIncVersion``), and its protocol has no room for more.
    """
    if -0x80000000 <= number <= 0x7FFFFFFF:  # nearly all are
        return number
    return (number + 2**31) % 2**32 - 2**31


class Stat(NamedTuple):
    """The Stat of a znode, with the fields of ZooKeeper's.

    ``ctime`` and ``mtime`` are milliseconds since 1970; ``ephemeralOwner`` is the owning session's
    id, 0 for none.
    """

    czxid: int
    mzxid: int
    ctime: int
    mtime: int
    version: int
    cversion: int
    aversion: int
    ephemeralOwner: int
    dataLength: int
    numChildren: int
    pzxid: int


class Meta(NamedTuple):
    """Metadata of a znode: all but its data and the names of its children.

    ``creations``: children ever created; it is the sequence counter, and what ZooKeeper keeps (in
    32 bits) as the node's child version. ``length``: bytes of data, -1 for null. ``blob``: the
    object that holds the data, if it is not inline. ``ttl``: how long the znode may stay unmodified
    and without children, in ms; 0: forever; :data:`CONTAINER`: until its last child is deleted.
    ``pages``: number of pages with the names of the children (:mod:`faaskeeper.core.children`), 0:
    they are in the znode's own record. ``emptied``: when a container lost its last child (the log's
    time, ms); 0 while it has children, or never had any.
    """

    czxid: int
    mzxid: int
    pzxid: int
    ctime: int
    mtime: int
    version: int = 0
    creations: int = 0
    aversion: int = 0
    owner: int = 0
    length: int = 0
    children: int = 0
    blob: str = ""
    acl: tuple[Acl, ...] = OPEN_ACL
    ttl: int = 0
    pages: int = 0
    emptied: int = 0

    def due_at(self) -> int | None:
        """When heartbeat may remove the znode (ms), if it does not change; None: it may not.

        A container may be removed after it was empty for :data:`EMPTY_MS` (one that never had a
        child stays), a znode with a time to live when it has no children and was not modified for
        longer (``ContainerManager`` of ZooKeeper 3.8).
        """
        if not self.ttl or self.children:
            return None
        if self.ttl == CONTAINER:
            return self.emptied + EMPTY_MS if self.creations else None
        return self.mtime + self.ttl + 1

    def due(self, now: int) -> bool:
        """Whether heartbeat may remove the znode."""
        at = self.due_at()
        return at is not None and at <= now

    def stat(self) -> Stat:
        """The Stat for users.

        Its child version counts creations and deletions: twice the creations less the children left
        (``DataNode.copyStat`` of ZooKeeper 3.8).
        """
        return Stat(
            self.czxid,
            self.mzxid,
            self.ctime,
            self.mtime,
            self.version,
            wrapped(2 * self.creations - self.children),
            self.aversion,
            self.owner,
            max(self.length, 0),
            self.children,
            self.pzxid,
        )


CONFIG = "/zookeeper/config"
"""Where clients look up a server's address: Curator's connect to the address stored here."""


def genesis() -> dict[str, tuple[Meta, tuple[str, ...]]]:
    """The tree as of txid 0: metadata and children of the nodes that always exist.

    They are the same as in ZooKeeper.
    """
    leaf = Meta(0, 0, 0, 0, 0)
    return {
        "/": (leaf._replace(children=1), ("zookeeper",)),
        "/zookeeper": (leaf._replace(children=2), ("config", "quota")),
        CONFIG: (leaf._replace(acl=READ_ACL, aversion=-1), ()),
        "/zookeeper/quota": (leaf, ()),
    }
