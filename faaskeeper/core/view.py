"""The writer's view: the state as of the last known txid, in bounded memory.

It holds all sessions, and the metadata of znodes as far as it was needed. Only the log changes it
(:meth:`View.fold`), so all views of the same txid are equal. It reads the rest from user storage
(:meth:`View.learn`). That is right for a znode last written at or below ``applied``, so only such
znodes are ever evicted. A record in user storage that is newer than the head means that the view is
behind: it must be rolled forward, and everything validated again.
"""

from __future__ import annotations

from faaskeeper.core import paths
from faaskeeper.core.checkpoint import Checkpoints, Header
from faaskeeper.core.clocks import Clock, carried
from faaskeeper.core.errors import StaleView
from faaskeeper.core.log import AHEAD_MS, CHECKPOINT_VALID_MS, VIEW_VALID_MS, Entry, Log
from faaskeeper.core.sessions import Sessions
from faaskeeper.core.tally import Tally
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.znode import Meta

MAX_NODES = 20_000
BEGIN_WITHIN_MS = 6 * 3600 * 1000
"""How long after its confirmation a view may be used at the start of a call. What it lacks was
appended later, so no tombstone of that has lapsed. For what it has yet to apply see
:attr:`View.since`."""


class Missing(Exception):
    """The view does not hold a path: read its record and :meth:`View.learn` it."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path


class Node(NamedTuple):
    """A znode's metadata (None: it does not exist) and the txid that wrote it."""

    txid: int
    meta: Meta | None


class View:
    """State as of ``head``. User storage has everything up to ``applied``.

    ``asof``: when ``head`` was last known to be the end of the log, in ms by the service's clock.
    ``time``: a lower bound of the log's own time then. ``pending``: the entries above ``applied``;
    the view keeps what they wrote. ``since``: a time (ms, the same clock) at which the mark had
    passed none of them, so no tombstone that is newer than they are is older than that. A call that
    had nothing to apply may leave entries pending for a later one. ``tally``: the counts, None if
    unknown.
    """

    def __init__(
        self, head: int, applied: int, asof: int, sessions: Sessions, max_nodes: int = MAX_NODES
    ) -> None:
        self.head = head
        self.applied = applied
        self.asof = asof
        self.time = 0
        self.sessions = sessions
        self.pending: list[Entry] = []
        self.since = asof
        self.tally: Tally | None = None
        self.tallied = head
        """The transaction up to which the tally counts; entries up to it are folded for other
        reasons."""
        self._nodes: dict[str, Node] = {}
        self.max_nodes = max_nodes

    def node(self, path: str) -> Meta | None:
        """Metadata of a znode. Raises Missing.

        A znode below one that is known to have no children needs no lookup. Nor does a path too
        long for a znode; it is not kept either, since it may have any length.
        """
        found = self._nodes.get(path)
        if found is not None:
            return found.meta
        if len(path) > paths.MAX_PATH_BYTES or (path != "/" and self.childless(paths.parent(path))):
            return None
        raise Missing(path)

    def childless(self, path: str) -> bool:
        """Whether the znode is known to have no children (or not to exist)."""
        found = self._nodes.get(path)
        return found is not None and (found.meta is None or not found.meta.children)

    def known(self, path: str) -> Node | None:
        """The view's knowledge of a path, if any."""
        return self._nodes.get(path)

    def learn(self, path: str, node: Node) -> None:
        """Add a znode from user storage. Raises StaleView if it is newer than the head."""
        if node.txid > self.head:
            raise StaleView(f"{path} was written at {node.txid}, the view ends at {self.head}")
        self._nodes.setdefault(path, node)

    def fold(self, entry: Entry) -> None:
        """Fold the entry after the head."""
        if entry.first != self.head + 1:
            raise AssertionError(f"entry {entry.first} does not follow on {self.head}")
        nodes = self._nodes
        for transaction in entry.transactions:
            txid = transaction.txid
            for path, _, meta, _ in transaction.changes:
                nodes.pop(path, None)
                nodes[path] = Node(txid, meta)
        self.sessions.fold(entry)
        if self.tally is not None and entry.last > self.tallied:
            self.tally = self.tally.after(entry.transactions)
            self.tallied = entry.last
        self.head = entry.last
        self.time = max(self.time, entry.time)
        if entry.last > self.applied:  # a checkpoint may be below the mark
            if not self.pending:
                self.since = self.asof  # it was appended later
            self.pending.append(entry)

    def header(self) -> Header:
        """The header of a checkpoint of this view."""
        return Header(self.head, self.asof, self.time, self.tally)

    def settled(self, applied: int) -> None:
        """User storage has everything up to ``applied``: forget pending entries, and evict."""
        if applied > self.applied:
            self.applied = applied
            self.pending = [entry for entry in self.pending if entry.last > applied]
        if len(self._nodes) > self.max_nodes:
            self._evict()

    @property
    def evictable(self) -> int:
        """How many znodes it holds that user storage has too."""
        return sum(1 for node in self._nodes.values() if node.txid <= self.applied)

    def _evict(self) -> None:
        """Evict the znodes written or read first, but none that user storage may not have yet."""
        spare = len(self._nodes) - self.max_nodes * 3 // 4
        gone: list[str] = []
        for path, node in self._nodes.items():
            if len(gone) >= spare:
                break
            if node.txid <= self.applied:
                gone.append(path)
        for path in gone:
            del self._nodes[path]

    def valid(self, now: int) -> bool:
        """Whether a call may begin with the view: confirmed within :data:`BEGIN_WITHIN_MS`."""
        return -AHEAD_MS <= now - self.asof <= BEGIN_WITHIN_MS

    def check_age(self, now: int, valid: int = VIEW_VALID_MS) -> None:
        """Raise StaleView if "absent" in the log no longer means "never written"."""
        if now - self.asof > valid:
            raise StaleView("the view was last confirmed days ago; it is discarded")
        if now - self.asof < -AHEAD_MS:
            raise StaleView("the view was confirmed after this machine's current time; it is discarded")


def load(log: Log, checkpoints: Checkpoints, clock: Clock, max_nodes: int = MAX_NODES) -> View:
    """A view at the log's end: the checkpoint, then the log after it.

    Entries above the mark but not above the checkpoint are folded for their znodes: user storage
    may not have them yet.
    """
    since = clock()
    applied = checkpoints.applied()
    header, sessions = checkpoints.load(clock())
    view = View(min(header.txid, applied), applied, header.asof, sessions, max_nodes)
    view.time = header.time
    view.tally, view.tallied = header.tally, header.txid
    roll(view, log, clock, CHECKPOINT_VALID_MS)
    view.since = since
    if view.head < max(header.txid, applied):
        raise StaleView(
            f"the log ends at {view.head}, but the checkpoint is at {header.txid} and the mark "
            f"at {applied}: entries are missing"
        )
    return view


def roll(view: View, log: Log, clock: Clock, valid: int = VIEW_VALID_MS) -> int:
    """Roll the view forward: fold the entries after the head; returns how many.

    If there are none, ``asof`` becomes the time *before* the read, provided that an entry written
    since the old ``asof`` cannot have been trimmed yet (checked after the read).
    """
    folded = 0
    time, asof = view.time, view.asof
    more = True
    while more:
        began = clock()
        entries, more = log.tail(view.head)
        view.check_age(clock(), valid)
        for entry in entries:
            view.fold(entry)
        folded += len(entries)
        if not more:
            view.time = max(view.time, carried(time, asof, began))
            view.asof = began
    return folded
