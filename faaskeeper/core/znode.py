"""What a znode is: its metadata as the writer keeps it, and the Stat that users see."""

from __future__ import annotations

from typing import NamedTuple

Acl = tuple[int, str, str]
"""Permissions (READ 1, WRITE 2, CREATE 4, DELETE 8, ADMIN 16), scheme, id."""

OPEN_ACL: tuple[Acl, ...] = ((31, "world", "anyone"),)
READ_ACL: tuple[Acl, ...] = ((1, "world", "anyone"),)

CONTAINER = -1
"""In place of a time to live: the znode goes when its last child has gone."""
EMPTY_MS = 60_000
"""How long a container is empty before it goes (ZooKeeper's ``ContainerManager`` looks once a minute)."""
MAX_TTL_MS = 2**40 - 1
"""Longest time to live, in ms: ZooKeeper's (``EphemeralType.TTL``)."""

MAX_DATA_BYTES = 1024 * 1024
"""Most data of one znode: ZooKeeper's default ``jute.maxbuffer`` (1 MiB)."""


def wrapped(number: int) -> int:
    """A number as 32 bits with a sign hold it: versions go on with -2**31 after 2**31 - 1, as on ZooKeeper's
    server (``PrepRequestProcessor.checkAndIncVersion``), and protocols have no room for more.
    """
    if -0x80000000 <= number <= 0x7FFFFFFF:  # nearly all are
        return number
    return (number + 2**31) % 2**32 - 2**31


class Stat(NamedTuple):
    """The Stat of a znode, field for field as ZooKeeper's clients know it.

    ``ctime`` and ``mtime`` are milliseconds since 1970; ``ephemeralOwner`` is the owning
    session's id, 0 for none.
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
    """Everything about a znode but its data and the names of its children.

    ``creations`` counts the children ever created: the sequence counter, and what ZooKeeper
    keeps (in 32 bits) as the node's child version. ``length`` is -1 where there is no data at all. ``blob``
    names the object that holds the data when it is not inline. ``ttl``: how long the znode may go
    unmodified and without children, in ms; 0: for ever; :data:`CONTAINER`: until its last child is gone.
    ``pages``: in how many pages the names of the children are kept (:mod:`faaskeeper.core.children`), 0: in
    the znode's own record. ``emptied``: when a container lost its last child (the log's time, ms), 0 while it
    has children, or never had any.
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
        """From when on (ms) heartbeat may remove the znode as it stands; None: it may not.

        A container goes when it has been empty for :data:`EMPTY_MS` (one that never had a child stays), a
        znode with a time to live when it has no children and was not modified for longer
        (``ContainerManager`` of ZooKeeper 3.8).
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
        """The Stat shown to users.

        The child version shown counts creations and deletions: twice the creations less the
        children left (``DataNode.copyStat`` of ZooKeeper 3.8).
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
"""Where clients look for a server's address: Curator's connect to what it says."""


def genesis() -> dict[str, tuple[Meta, tuple[str, ...]]]:
    """The tree as of txid 0: metadata and children of the nodes that always exist, as in ZooKeeper."""
    leaf = Meta(0, 0, 0, 0, 0)
    return {
        "/": (leaf._replace(children=1), ("zookeeper",)),
        "/zookeeper": (leaf._replace(children=2), ("config", "quota")),
        CONFIG: (leaf._replace(acl=READ_ACL, aversion=-1), ()),
        "/zookeeper/quota": (leaf, ()),
    }
