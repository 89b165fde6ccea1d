"""Restores a backup: sets a deployment, new or in use, to the backup's state, and goes on from there.

``docs/decisions/0039-restore-above-every-txid.md`` has the argument. In short: one append to the
log, the *fence*, decides the restore. It takes the next key of the log and every transaction number
up to a base that is above all that any deployment ever gave out. No process folds it, so from then
on no writer can append and no distributor's write wins. What follows is repeatable from any
point: the bar in the checkpoint, the end of all leases, the plan (entries that delete what the backup
does not have), the records, the mark, and last the checkpoint, which lifts the bar.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

from faaskeeper.backup.driver import Progress, Source, Target
from faaskeeper.backup.file import Backup
from faaskeeper.backup.taking import Tree, survey
from faaskeeper.core import paths
from faaskeeper.core.blobs import TOKEN_BYTES, blob_name
from faaskeeper.core.changes import Change, Closed, Effect, Restored, Transaction
from faaskeeper.core.checkpoint import Header
from faaskeeper.core.children import PAGE_META, page_of, page_path
from faaskeeper.core.deployment import MAX_TIMEOUT_MS, Deployment
from faaskeeper.core.errors import Conflict, Denied, DriverError, Restoring, StaleView, Unavailable
from faaskeeper.core.heartbeat import CLOCKS_DIFFER_MS
from faaskeeper.core.images import CHECK_WITHIN_MS
from faaskeeper.core.log import Entry
from faaskeeper.core.records import Record
from faaskeeper.core.sessions import Sessions
from faaskeeper.core.tally import Tally
from faaskeeper.core.view import View, load, roll
from faaskeeper.core.znode import CONTAINER, Meta, genesis

_PER_MS = 2097
"""Transaction numbers for each millisecond since 1970: two million a second, which no log reaches."""
_MOST = 10**16
"""Keys of the log have 16 digits."""
_PLANNED = 1_000
"""Deletions in one entry of the plan."""
_TOGETHER = 50
_WRITE_WITHIN_MS = 3600 * 1000
"""How long after this process was last known to be the restore its writes may come; far below what
tombstones live."""

_UNFINISHED = "The restore is not completed, and the deployment refuses everything: repeat the same command"

Pause = Callable[[float], None]


class Findings(NamedTuple):
    """What is in the deployment that a restore replaces.

    ``zxid``: its last transaction. ``znodes``: how many it has; None: unknown. ``sessions``: open
    sessions whose clients may be alive. ``unfinished``: the backup of an interrupted restore; "":
    there is none.
    """

    zxid: int
    znodes: int | None
    sessions: int
    unfinished: str = ""

    @property
    def empty(self) -> bool:
        """Whether nothing would be lost: it is as new."""
        return self.znodes == len(genesis()) and not self.sessions


NEW = Findings(0, len(genesis()), 0)
"""Of a deployment that does not exist yet."""


@dataclass(slots=True)
class Done:
    """What a restore did. ``zxid``: the transaction from which the deployment continues."""

    zxid: int
    znodes: int
    removed: int
    ephemerals: int


class _Where(NamedTuple):
    """An undertaken restore: the fence's first transaction and last one, and its time (ms)."""

    first: int
    base: int
    time: int


def base_of(now: int, *known: int) -> int:
    """The last transaction number that a restore at ``now`` (ms) takes. Raises Denied.

    It is derived from the time, so it is above what any deployment gave out before, also one that
    was restored from the same backup and of which this one knows nothing. ``known``: transactions
    that it must be above in any case.
    """
    base = now * _PER_MS
    if base <= max(known):
        raise Denied(
            "transaction numbers continue from the time, and this machine's time is before that of the last "
            f"transaction ({max(known)}): correct the clock of this machine"
        )
    if base >= _MOST:
        raise Denied("this machine's clock shows a year after 2120: correct it")
    return base


def examine(target: Target) -> Findings:
    """What a restore would replace. Reads only."""
    deployment = target.deployment
    try:
        view = load(deployment.log, deployment.checkpoints, deployment.clock, max_nodes=0)
    except Restoring as restoring:
        return Findings(restoring.base, None, 0, restoring.of)
    znodes = None if view.tally is None else view.tally.nodes
    return Findings(view.head, znodes, len(_alive(deployment, view.sessions)))


def restore(
    target: Target,
    backup: Backup,
    *,
    end_sessions: bool = False,
    progress: Progress = lambda line: None,
    pause: Pause = time.sleep,
) -> Done:
    """Restore a backup; completes one of the same backup that was interrupted.

    ``end_sessions``: also if there are sessions whose clients may be alive. Raises DriverError; if
    that happens after the restore was decided, the deployment refuses everything until this is
    repeated.
    """
    return _Restoring(target, backup, progress, pause).run(end_sessions)


def _alive(deployment: Deployment, sessions: Sessions) -> list[int]:
    """Open sessions with a lease that has not run out, their own or their server's."""
    leases = {lease.session: lease for lease in deployment.leases.all()}
    now = deployment.clock()
    found: list[int] = []
    for session in sessions:
        lease = leases.get(session.id)
        if lease is None or session.closed:
            continue
        counts = leases.get(lease.under) if lease.under else lease
        if counts is not None and not counts.marked and counts.expires >= now:
            found.append(session.id)
    return sorted(found)


class _Restoring:
    def __init__(self, target: Target, backup: Backup, progress: Progress, pause: Pause) -> None:
        self._target = target
        self._deployment = target.deployment
        self._backup = backup
        self._progress = progress
        self._pause = pause
        self._since = 0

    def run(self, end_sessions: bool) -> Done:
        where = self._fence(end_sessions)
        try:
            return self._complete(where)
        except (DriverError, StaleView) as error:
            raise Denied(f"{error}. {_UNFINISHED}") from error
        except KeyboardInterrupt as error:
            error.add_note(_UNFINISHED)
            raise

    def _complete(self, where: _Where) -> Done:
        deployment, progress = self._deployment, self._progress
        deployment.checkpoints.bar(where.base, self._backup.digest)
        progress(f"restoring as of transaction {where.base}")
        self._end_leases()
        header, sessions = self._before(where)
        kept, ephemerals = _without_ephemerals(self._backup, where, deployment.limits.page_names)
        top, removed = self._plan(where, sessions, kept)
        progress(f"removed {len(removed)} znodes and pages that the backup does not have")
        self._since = deployment.clock()
        self._put_records(where, kept)
        deployment.checkpoints.mark(top)
        if deployment.keeper is not None:
            deployment.keeper.begin(top)
        for session in sessions:
            session.closed = session.closed or where.time
            session.ephemerals.clear()
            sessions.changed.add(session.id)
        sizes = [len(path) + max(meta.length, 0) for path, meta in kept.items()]
        now = deployment.clock()
        end = Header(top, now, max(where.time, header.time), Tally(len(kept), sum(sizes), 0))
        deployment.checkpoints.save(end, sessions, deployment.clock)
        znodes = sum(1 for path in removed if "//" not in path)
        return Done(top, len(kept), znodes, ephemerals)

    # ---- the decision ------------------------------------------------------------------------

    def _fence(self, end_sessions: bool) -> _Where:
        """Append the fence, or find that of the same restore."""
        deployment = self._deployment
        try:
            view = load(deployment.log, deployment.checkpoints, deployment.clock, max_nodes=0)
            return self._append_fence(view, end_sessions)
        except Restoring as restoring:
            return self._found(restoring)

    def _append_fence(self, view: View, end_sessions: bool) -> _Where:
        deployment = self._deployment
        while True:
            alive = [] if end_sessions else _alive(deployment, view.sessions)
            if alive:
                some = "1 session is" if len(alive) == 1 else f"{len(alive)} sessions are"
                raise Denied(
                    f"{some} open: end the programs, or add --end-sessions, which ends all sessions, and the "
                    "locks that they hold"
                )
            wall = (deployment.wall or deployment.clock)()
            base = base_of(wall, view.head, self._backup.zxid)
            at = max(deployment.log_clock.now(view.time), self._backup.time)
            fence = Transaction(base, (), (Restored(self._backup.digest),))
            first = view.head + 1
            try:
                deployment.log.append(Entry(first, base, at, (fence,), ()), 0)
            except (Conflict, Unavailable):
                roll(view, deployment.log, deployment.clock)  # raises Restoring if it took effect
                view.settled(view.head)  # others distribute these
                continue
            return _Where(first, base, at)

    def _found(self, restoring: Restoring) -> _Where:
        if restoring.of != self._backup.digest:
            raise Denied(
                f"the restore of the backup {restoring.of} was begun and not completed: repeat it with that "
                f"backup first (this one is {self._backup.digest})"
            )
        for entry in self._log(self._deployment.checkpoints.barred()[0].txid):
            if entry.last == restoring.base:
                return _Where(entry.first, entry.last, entry.time)
        raise Denied(f"the log lacks the transaction {restoring.base}, at which a restore began")

    def _log(self, txid: int) -> Iterator[Entry]:
        more = True
        while more:
            entries, more = self._deployment.log.after(txid)
            for entry in entries:
                txid = entry.last
                yield entry

    # ---- what was before ---------------------------------------------------------------------

    def _end_leases(self) -> None:
        """Mark all leases, so that none is renewed, and wait until the last has run out.

        After that no client and no server shows anything of the sessions that it had.
        """
        deployment = self._deployment
        latest = 0
        for found in deployment.leases.all():
            lease = found
            while not lease.marked:
                try:
                    deployment.leases.mark(lease)
                    break
                except Conflict:
                    renewed = deployment.leases.get(lease.session)
                    if renewed is None:
                        break
                    lease = renewed
            longest = deployment.clock() + (lease.timeout or MAX_TIMEOUT_MS)
            latest = max(latest, min(lease.expires, longest) + CLOCKS_DIFFER_MS)
        left = latest - deployment.clock()
        if left <= 0 or self._target.alone:
            return
        self._progress(f"waiting {left / 1000:.0f} s, until clients know that their sessions ended")
        while left > 0:
            self._pause(left / 1000)
            left = latest - deployment.clock()

    def _before(self, where: _Where) -> tuple[Header, Sessions]:
        """Checkpoint header, and all sessions as of the fence."""
        checkpoints = self._deployment.checkpoints
        header, sessions = checkpoints.barred()
        view = View(min(header.txid, checkpoints.applied()), checkpoints.applied(), header.asof, sessions, 0)
        if view.head < where.base:  # otherwise all is done but the last step
            for entry in self._log(view.head):
                if entry.first >= where.first:
                    break
                view.fold(entry)
        return header._replace(time=max(header.time, view.time)), sessions

    def _plan(self, where: _Where, sessions: Sessions, kept: dict[str, Meta]) -> tuple[int, list[str]]:
        """Append the deletions, unless they are in the log; returns the last txid, and their paths.

        The sweeps find by these entries which tombstones, watches and blobs to remove.
        """
        while True:
            done = [entry.transactions[0] for entry in self._log(where.base)]
            ends = [at for at, each in enumerate(done) if _planned(each)]
            if ends:
                plan = done[: ends[0] + 1]
                return plan[-1].txid, [change.path for each in plan for change in each.changes]
            if self._append_plan(where, sessions, kept, len(done)):
                self._progress("noted in the log what is to be removed")

    def _append_plan(self, where: _Where, sessions: Sessions, kept: dict[str, Meta], done: int) -> bool:
        """Append what lacks of the plan; it is the same in each attempt. False: another process did."""
        deployment = self._deployment
        applied = min(deployment.checkpoints.applied(), where.first - 1)
        source = Source(self._target.name, deployment.log, deployment.records, deployment.blobs, applied)
        old = survey(source, where.first)
        going = sorted(_paths(old) - _paths_of(kept))
        garbage = sorted({meta.blob for meta in old.nodes.values() if meta.blob})
        closed: list[Effect] = [Closed(id) for id in sorted(session.id for session in sessions)]
        parts = [going[at : at + _PLANNED] for at in range(0, len(going), _PLANNED)]
        blobs = [garbage[at : at + _PLANNED] for at in range(0, len(garbage), _PLANNED)]
        for number in range(done, max(len(parts), len(blobs)) + 1):
            txid = where.base + number + 1
            last = number == max(len(parts), len(blobs))
            changes = tuple(
                Change(path, "D", None, None) for path in (parts[number] if number < len(parts) else ())
            )
            effects = (*closed, Restored(self._backup.digest, True)) if last else ()
            some = tuple(blobs[number]) if number < len(blobs) else ()
            entry = Entry(txid, txid, where.time, (Transaction(txid, changes, effects, some),), ())
            try:
                deployment.log.append(entry, 0)
            except (Conflict, Unavailable):
                return False
        return True

    # ---- what will be ------------------------------------------------------------------------

    def _put_records(self, where: _Where, kept: dict[str, Meta]) -> None:
        """Put tombstones and records; each put loses to an equal or a newer record."""
        deployment = self._deployment
        puts: list[Callable[[], Any]] = []
        for entry in self._log(where.base):
            transaction = entry.transactions[0]
            for change in transaction.changes:
                gone = Record(entry.last, None, b"", [], entry.last, entry.last, "[]")
                puts.append(partial(deployment.records.put, change.path, gone))
                puts = self._full(where, puts)
            if _planned(transaction):
                break
        children = _children(kept)
        done = 0
        for path, data in self._backup.contents():
            meta = kept.get(path)
            if meta is None:
                continue
            for at, record in self._records(where, path, meta, data, sorted(children.get(path, ()))):
                puts.append(partial(deployment.records.put, at, record))
            due = meta.due_at()
            if due is not None:
                due = min(due, deployment.clock() + CHECK_WITHIN_MS)
                puts.append(partial(deployment.transients.put, path, max(due, 0), where.base))
            puts = self._full(where, puts)
            done += 1
            if done % 10_000 == 0:
                self._progress(f"restored {done} of {len(kept)} znodes")
        self._put(where, puts)

    def _records(
        self, where: _Where, path: str, meta: Meta, data: bytes, names: list[str]
    ) -> Iterator[tuple[str, Record]]:
        """A znode's record and those of its pages; stores its data first if that is too large."""
        base, deployment = where.base, self._deployment
        if len(data) > deployment.limits.inline_bytes and deployment.blobs is not None:
            token = base.to_bytes(8, "big")[-TOKEN_BYTES:]
            blob = blob_name(where.time, token, base, data, path)
            try:
                deployment.blobs.put(blob, data, absent=True)
            except Conflict:
                pass  # stored by an earlier attempt
            meta, data = meta._replace(blob=blob), b""
        inline = [] if meta.pages else names
        yield path, Record(base, meta, data, inline, base, base, "[]")
        pages: list[list[str]] = [[] for _ in range(meta.pages)]
        for name in names if meta.pages else ():
            pages[page_of(name, meta.pages)].append(name)
        for number, some in enumerate(pages):
            yield page_path(path, number), Record(base, PAGE_META, b"", some, base, base, "[]")

    def _full(self, where: _Where, puts: list[Callable[[], Any]]) -> list[Callable[[], Any]]:
        if len(puts) < _TOGETHER:
            return puts
        self._put(where, puts)
        return []

    def _put(self, where: _Where, puts: list[Callable[[], Any]]) -> None:
        """Put some, unless another process completed the restore long ago."""
        deployment = self._deployment
        if deployment.clock() - self._since > _WRITE_WITHIN_MS // 2:
            began = deployment.clock()
            try:
                deployment.checkpoints.header()
            except Restoring as restoring:
                if restoring.base == where.base:
                    self._since = began
        deployment.gather([partial(self._in_time, put) for put in puts])

    def _in_time(self, put: Callable[[], Any]) -> Any:
        if abs(self._deployment.clock() - self._since) > _WRITE_WITHIN_MS:
            raise StaleView("this restore was suspended, and another process has completed it or must do so")
        return put()


def _planned(transaction: Transaction) -> bool:
    return any(isinstance(effect, Restored) and effect.planned for effect in transaction.effects)


def _paths_of(nodes: dict[str, Meta]) -> set[str]:
    """All paths with a record: those of znodes and of pages."""
    found = set(nodes)
    for path, meta in nodes.items():
        found.update(page_path(path, number) for number in range(meta.pages))
    return found


def _paths(tree: Tree) -> set[str]:
    return _paths_of(tree.nodes)


def _children(nodes: dict[str, Meta]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in nodes:
        if path != "/":
            found.setdefault(paths.parent(path), []).append(paths.name(path))
    return found


def _without_ephemerals(backup: Backup, where: _Where, page_names: int) -> tuple[dict[str, Meta], int]:
    """The znodes to restore, as if all sessions had been closed, and how many ephemerals there were."""
    kept = {path: meta for path, meta in backup.nodes.items() if not meta.owner}
    for path, meta in backup.nodes.items():
        if meta.owner:
            above = paths.parent(path)
            parent = kept[above]
            children = parent.children - 1
            emptied = where.time if parent.ttl == CONTAINER and not children else 0
            kept[above] = parent._replace(children=children, pzxid=where.base, emptied=emptied)
    for path, meta in kept.items():
        pages = -(-meta.children // page_names) if meta.children > page_names else 0
        if pages != meta.pages:
            kept[path] = meta._replace(pages=pages)
    return kept, len(backup.nodes) - len(kept)
