"""Garbage collection: sweeps remove what nothing refers to any more, by age, in small steps.

Four independent parts: tombstones and replaced blobs, found by walking the log behind the mark;
blobs that no record names; the log itself, if its store does not trim it; left-over parts of large
items (:mod:`faaskeeper.core.wide`). A sweep stops when its time is over, and the next one continues
there, so it fits into any invocation and behind any command.

**Ages.** An entry's time comes from its writer's clock, so nothing here depends on it. A sweep
*notes* the mark, about once a day. It counts the time passed between sweeps by its own clock, at
most a day for each. What lies below a note is old if the note is old by that count. However far a
clock steps, a sweep credits a day at most; a step back credits nothing. The mark is read before the
clock, so the mark had been reached by then; the saved progress is read before it, too, so a sweep
that stood still cannot put the saved clock back, which would count the time after it twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from faaskeeper.core import logs, paths
from faaskeeper.core.blobs import PREFIX, BlobName, parse_blob_name
from faaskeeper.core.changes import Closed
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.children import page_path, removed_pages
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.drivers.storage import IfAbsent, IfStamp, Item, Table, delete_objects
from faaskeeper.core.errors import Conflict, DriverError, Throttled, Unavailable
from faaskeeper.core.log import RETENTION_MS, Entry, Trimmed
from faaskeeper.core.log import key as key_of
from faaskeeper.core.objects import TableObjects
from faaskeeper.core.records import Record, TableRecords
from faaskeeper.core.tuples import NamedTuple

DAY_MS = 24 * 3600 * 1000
TOMBSTONE_MS = 2 * DAY_MS
"""How long a tombstone stays after the mark has passed it: one day, which is longer than any
invocation or read that began before lives, and one day that the step of a clock may be credited
for."""
BLOB_MS = 15 * DAY_MS
"""How long an unreferenced blob stays: longer than queues and dead letters keep the request that
names it."""
EVERY_MS = 3600 * 1000
"""How long after the end of one sweep the next is due."""
WITHIN_MS = 30_000
"""How long one sweep begins new work; far below the limit of an invocation."""
_ENTRIES = 50
"""Entries that are swept between two reads of the clock."""
_LATER = "swept later"
"""The partition with what is to be swept of entries that were trimmed early."""
_END = 1 << 62
"""Above every transaction."""
_NAMES = 100
_TRIES = 10
_KEY = ("heartbeat", "sweeping")

_logger = logs.logger(__name__)


class Note(NamedTuple):
    """``at``: the time counted when the mark was ``mark`` and the clock showed ``clock`` (ms)."""

    at: int
    mark: int
    clock: int


@dataclass(slots=True)
class Progress:
    """Progress of the sweeps.

    ``swept``, ``trimmed``: txids. ``blobs``: a name; ``young``: no unreferenced blob was made
    before it (ms). ``ended``: the clock when the last sweep was completed, 0 while one is not.
    """

    notes: list[Note]
    version: int = 0
    clock: int = 0
    counted: int = 0
    swept: int = 0
    trimmed: int = 0
    blobs: str = ""
    young: int = 0
    ended: int = 0
    applied: int = 0
    """The mark now; not stored."""
    greatest: int = BLOB_MS
    """The greatest age that is asked for (ms); not stored."""

    def pass_time(self, applied: int, now: int) -> None:
        """Count the time since the last sweep, and note the mark if the last note is a day old.

        ``applied`` and this progress must have been read before ``now``.
        """
        if self.clock:
            self.counted += max(0, min(now - self.clock, DAY_MS))
        self.clock = now
        self.applied = applied
        if not self.notes or self.counted - self.notes[-1].at >= DAY_MS:
            self.notes.append(Note(self.counted, applied, now))
        self._thin()

    def _thin(self) -> None:
        """Keep recent notes a day apart, fewer older ones, and one of the greatest age needed.

        Gaps between old notes are less than half their age.
        """
        kept = self.notes[-1:]
        for at in range(len(self.notes) - 2, -1, -1):
            age = self.counted - kept[0].at
            if age >= self.greatest:
                break
            if at and kept[0].at - self.notes[at - 1].at <= age * 2 // 5:
                continue
            kept.insert(0, self.notes[at])
        self.notes = kept

    def old(self, age: int) -> Note | None:
        """The newest note that has at least this age (ms), if there is one."""
        return next((each for each in reversed(self.notes) if self.counted - each.at >= age), None)

    def passed(self, age: int) -> int:
        """A txid that the mark had reached that long ago (ms)."""
        note = self.old(age)
        return 0 if note is None else note.mark


def _item(progress: Progress) -> Item:
    return {
        "stamp": progress.version,
        "clock": progress.clock,
        "counted": progress.counted,
        "notes": [f"{each.at} {each.mark} {each.clock // 1000}" for each in progress.notes],
        "swept": progress.swept,
        "trimmed": progress.trimmed,
        "blobs": progress.blobs,
        "young": progress.young,
        "ended": progress.ended,
    }


def _progress(item: Item | None) -> Progress:
    if item is None:
        return Progress([])
    fields: dict[str, Any] = dict(item)
    rows = [map(int, each.split()) for each in fields.pop("notes")]
    notes = [Note(at, mark, clock * 1000) for at, mark, clock in rows]
    return Progress(notes, version=fields.pop("stamp"), **fields)


class _TimeUp(Exception):
    """The time of this sweep is over."""


class Sweeper:
    """Sweeps a deployment. ``state``: the table in which it stores its progress."""

    def __init__(self, deployment: Deployment, state: Table) -> None:
        self._deployment = deployment
        self._state = state
        self._progress = Progress([])
        self._began = 0
        self._within = 0
        self._failed = 0
        self._replaced: set[str] = set()
        """Blobs that transactions up to ``_looked`` have replaced, unless these were trimmed."""
        self._looked = 0

    def due(self) -> bool:
        """Whether the last sweep is an hour old, or was not completed, or the log is too large.

        Costs a read, and a look at the log's size.
        """
        if self._deployment.retention.full():
            return True
        ended = _progress(self._state.get(*_KEY)).ended
        return not ended or not 0 <= self._deployment.clock() - ended < EVERY_MS

    def sweep(self, within: int = WITHIN_MS) -> bool:
        """Sweep for about so long (ms); returns whether nothing is left to do for now.

        Any number may run at once; all but one stop at their next save. Raises the error of the
        first part that failed, after the others have run.
        """
        deployment = self._deployment
        progress = self._progress = _progress(self._state.get(*_KEY))
        applied = deployment.checkpoints.applied()
        now = deployment.clock()
        progress.greatest = max(BLOB_MS, deployment.retention.age or 0)
        progress.pass_time(applied, now)
        progress.ended = 0
        self._began, self._within, self._failed = now, within, 0
        error: Exception | None = None
        for part in (self._sweep_log, self._trim_log, self._sweep_parts, self._sweep_blobs):
            try:
                part()
            except (_TimeUp, Conflict):  # on a Conflict, another one sweeps
                return self._stop(error)
            except Exception as failure:
                if not isinstance(failure, DriverError):
                    _logger.exception("a part of sweeping failed; the others continue")
                error = error or failure
        if error is None:
            progress.ended = deployment.clock()
        self._stop(error)
        return True

    def _stop(self, error: Exception | None) -> bool:
        try:
            self._save()
        except Conflict:
            pass  # what another sweep saved is as good
        if self._failed > 1:
            _logger.warning("%d items could not be swept and remain", self._failed)
        if error is not None:
            raise error
        return False

    def _save(self) -> None:
        progress = self._progress
        seen = progress.version
        progress.version = seen + 1
        self._state.put(*_KEY, _item(progress), IfStamp(seen) if seen else IfAbsent())

    def _step(self) -> None:
        """Save the progress. Raises _TimeUp when the time is over, or the clock went back."""
        self._save()
        self._check_time()

    def _check_time(self) -> None:
        if not 0 <= self._deployment.clock() - self._began < self._within:
            raise _TimeUp

    def _each(self, calls: Sequence[Callable[[], object]]) -> None:
        """Make calls in parallel; skip one that can never succeed."""
        for at in range(0, len(calls), _NAMES):
            self._deployment.gather([partial(self._try, call) for call in calls[at : at + _NAMES]])

    def _delete(self, names: Sequence[str]) -> None:
        """Delete blobs, many in a call; one by one if a call fails for good, to skip what cannot go."""
        blobs, gather = self._deployment.blobs, self._deployment.gather
        if blobs is None:
            return
        for at in range(0, len(names), _NAMES):
            some = names[at : at + _NAMES]
            try:
                delete_objects(blobs, some, gather)
            except (Unavailable, Throttled):
                raise  # the next sweep begins here
            except Exception:
                self._each([partial(blobs.delete, name) for name in some])

    def _try(self, call: Callable[[], object]) -> None:
        try:
            call()
        except (Unavailable, Throttled):
            raise  # the next sweep begins here
        except Exception as error:
            self._skip(error)

    def _skip(self, error: Exception) -> None:
        """Log the first irregular item and continue after it; else every sweep would stop there."""
        self._failed += 1
        if self._failed == 1:
            _logger.warning("skipped what cannot be swept: %s: %s", type(error).__name__, error)

    # ---- tombstones and replaced blobs ---------------------------------------------------

    def _sweep_log(self) -> None:
        progress = self._progress
        if self._deployment.retention.most is not None:  # else nothing is trimmed early
            self._sweep_later(progress.passed(TOMBSTONE_MS))
        for entries in self._entries(progress.swept, progress.passed(TOMBSTONE_MS)):
            self._each([call for entry in entries for call in self._garbage(entry)])
            if self._deployment.keeper is None:  # otherwise they go with their entries
                self._delete(list(_blobs(entries)))
            progress.swept = entries[-1].last
            self._step()

    def _set_aside(self, entries: Sequence[Entry]) -> None:
        """Note what is to be swept of entries that are to be trimmed before that is old enough."""
        found: dict[str, list[str]] = {"records": [], "sessions": [], "blobs": list(_blobs(entries))}
        for entry in entries:
            for transaction in entry.transactions:
                gone = [change.path for change in transaction.changes if change.meta is None]
                gone += removed_pages(transaction)
                found["records"] += [f"{transaction.txid} {path}" for path in gone]
                closed = (effect for effect in transaction.effects if isinstance(effect, Closed))
                found["sessions"] += [str(effect.session) for effect in closed]
        last = entries[-1].last
        if any(found.values()):
            self._state.put(_LATER, key_of(last), {"stamp": last, **found})

    def _sweep_later(self, upto: int) -> None:
        more = True
        while more:
            page = self._state.query(_LATER, "", _ENTRIES)
            more = page.more
            for key, item in page.items:
                fields: dict[str, Any] = item
                if fields["stamp"] > upto:
                    return
                rows = (each.split(" ", 1) for each in fields["records"])
                calls = [partial(self._deployment.records.lapse, path, int(txid)) for txid, path in rows]
                clear = self._deployment.watches.clear
                self._each([*calls, *(partial(clear, int(each), last=True) for each in fields["sessions"])])
                self._delete(fields["blobs"])
                self._state.delete(_LATER, key)
                self._step()

    def _entries(self, position: int, upto: int) -> Iterator[list[Entry]]:
        """The log's entries after a position, up to those whose last txid is ``upto``, in lists."""
        more = True
        while more and position < upto:
            try:
                entries, more = self._deployment.log.after(position, _ENTRIES)
            except Trimmed as trimmed:
                if position:
                    _logger.warning("the log was trimmed before it was swept: from %d", trimmed.first)
                position = trimmed.first - 1
                continue
            inside = [entry for entry in entries if entry.last <= upto]
            if inside:
                yield inside
            if len(inside) < len(entries):
                return
            position = entries[-1].last if entries else upto

    def _garbage(self, entry: Entry) -> Iterator[Callable[[], object]]:
        """Calls that delete the rows that an entry's transactions left over.

        A tombstone goes on condition of its txid, since its path may be written again, so each is a
        call: stores have no batches with conditions, except transactions, which cost twice as much
        and delete nothing if one of many conditions does not hold.
        """
        records = self._deployment.records
        for transaction in entry.transactions:
            for change in transaction.changes:
                if change.meta is None:
                    yield partial(records.lapse, change.path, transaction.txid)
            for path in removed_pages(transaction):
                yield partial(records.lapse, path, transaction.txid)
            for effect in transaction.effects:
                if isinstance(effect, Closed):  # its index, and rows put after it was cleared
                    yield partial(self._deployment.watches.clear, effect.session, last=True)

    # ---- blobs without a record ----------------------------------------------------------

    def _sweep_blobs(self) -> None:
        """Delete blobs whose request was refused or never arrived; each is examined once, when old.

        It must be old by its name *and* by a note: a clock that was wrong when the note was made,
        or is wrong now, cannot make the blob of a request under way look old.
        """
        blobs, progress = self._deployment.blobs, self._progress
        note = progress.old(BLOB_MS)
        if blobs is None or note is None:
            return
        limit = min(progress.clock - BLOB_MS, note.clock)
        if progress.young > limit:
            return
        while True:
            names = blobs.list(PREFIX, progress.blobs, _NAMES)
            old: list[tuple[str, BlobName]] = []
            for name in names:
                parsed = parse_blob_name(name)
                if parsed is None:  # another program may use it
                    self._skip(ValueError(f"the object {name!r} does not have the name of a blob"))
                    continue
                if parsed.made >= limit:
                    progress.young = min(parsed.made, progress.clock)  # a name's time is only a claim
                    break
                old.append((name, parsed))
            else:
                if not names:
                    progress.young = limit + 1  # later blobs are younger, or examined next time
                    return
                self._delete_orphans(old)
                progress.blobs = names[-1]
                self._step()
                continue
            self._delete_orphans(old)
            progress.blobs = max([progress.blobs, *names[: names.index(name)]])
            return

    def _delete_orphans(self, old: Sequence[tuple[str, BlobName]]) -> None:
        """Delete those of the blobs that nothing refers to; they are too old to be referred to anew."""
        orphans: list[str] = []

        def examine(name: str, parsed: BlobName) -> None:
            if not self._refers(name, parsed.path, parsed.sequential):
                orphans.append(name)

        self._each([partial(examine, *each) for each in old])
        if orphans and self._deployment.keeper is not None:
            self._find_replaced()  # these go with their entries
        self._delete(sorted(set(orphans) - self._replaced))

    def _find_replaced(self) -> None:
        """Note the blobs that the log's transactions have replaced, from where that has come to.

        To the log's end: the mark may be behind the records that were looked at. Raises _TimeUp.
        """
        for entries in self._entries(max(self._looked, self._progress.trimmed), _END):
            self._replaced.update(_blobs(entries))
            self._looked = entries[-1].last
            self._check_time()

    def _refers(self, blob: str, path: str, sequential: bool) -> bool:
        """Whether user storage refers to a blob. Raises Unavailable if a list changes too fast."""
        records = self._deployment.records
        if not sequential:
            return _names(records.get(path), blob)
        above = paths.parent(path)
        prefix = paths.name(path)
        digits = len(prefix) + 10
        names = self._children(above)
        same = [each for each in names if each.startswith(prefix) and len(each) == digits]
        found = records.get_many([paths.child(above, each) for each in same])
        return any(_names(record, blob) for record in found)

    def _children(self, path: str) -> list[str]:
        """Names of a znode's children, as of one transaction."""
        records, applied = self._deployment.records, self._deployment.checkpoints.applied
        for _ in range(_TRIES):
            parent = records.get(path)
            if parent is None or parent.meta is None:
                return []
            if not parent.meta.pages:
                return parent.children
            if applied() < parent.txid:
                continue  # its pages may not all be written yet
            pages = records.get_many([page_path(path, number) for number in range(parent.meta.pages)])
            names: list[str] = []
            for page in pages:
                if page is None or page.meta is None or page.txid > parent.txid:
                    break
                names.extend(page.children)
            else:
                if len(names) == parent.meta.children:
                    return names
        raise Unavailable(f"the children of {path} change too fast to list them: the next sweep tries again")

    # ---- the log -------------------------------------------------------------------------

    def _trim_log(self) -> None:
        """Delete entries past the retention, but never the last: the log's end stays known.

        Nor one above mark or checkpoint, however many bytes the log takes: who starts needs it.
        """
        deployment, progress = self._deployment, self._progress
        if deployment.expiring_log:
            return
        retention = deployment.retention
        old = progress.passed(RETENTION_MS if retention.age is None else retention.age)
        bound = progress.applied if retention.full() else old
        upto = min(bound, deployment.checkpoints.header().txid, progress.applied)
        stays: list[Entry] = []
        for entries in self._entries(progress.trimmed, upto):
            found = [*stays, *entries]
            full = retention.full()
            going = [entry for entry in found[:-1] if full or entry.last <= old]
            stays = found[len(going) :]
            if going:
                self._let_go(going)
                self._step()
            if len(stays) > 1:
                return

    def _let_go(self, entries: list[Entry]) -> None:
        """Trim entries, once what they alone tell is kept elsewhere."""
        deployment, progress = self._deployment, self._progress
        early = [entry for entry in entries if entry.last > progress.swept]
        if early:
            self._set_aside(early)
        if deployment.keeper is not None:
            deployment.keeper.fold(entries)
            gone = list(_blobs(entries[: len(entries) - len(early)]))
            self._delete(gone)
            self._replaced.difference_update(gone)
        deployment.log.trim(entries)
        progress.trimmed = entries[-1].last
        progress.swept = max(progress.swept, progress.trimmed)
        deployment.log.drop_parts(progress.trimmed + 1)

    # ---- items in parts ------------------------------------------------------------------

    def _sweep_parts(self) -> None:
        """Delete parts that no item names. Each sweep examines all items in parts; they are few."""
        deployment = self._deployment
        for store in (deployment.checkpoints, deployment.records, deployment.blobs):
            if isinstance(store, (Checkpoints, TableRecords, TableObjects)):
                for calls in store.wide.sweep(self._progress.counted, TOMBSTONE_MS):
                    self._each(calls)
                    self._step()


def _blobs(entries: Sequence[Entry]) -> Iterator[str]:
    """Names of the blobs that the entries replaced."""
    for entry in entries:
        for transaction in entry.transactions:
            for blob in transaction.garbage:
                if parse_blob_name(blob) is not None:  # else logged before names were checked
                    yield blob


def _names(record: Record | None, blob: str) -> bool:
    return record is not None and record.meta is not None and record.meta.blob == blob
