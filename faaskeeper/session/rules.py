"""What a session may show its user: the client's ordering rules, without I/O, clock or thread.

The rules keep Z3 (the tree never goes back) and Z4 (events before the state that they announce)
while the client reads user storage directly and distributors write to it.
``docs/architecture/reads.md`` argues each rule, and states what breaks without it.

Functions that need I/O are generators of :mod:`faaskeeper.session.commands`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from faaskeeper.core import paths
from faaskeeper.core.children import page_path
from faaskeeper.core.firing import FIRED_BY, STAYING
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Epoch
from faaskeeper.core.znode import Meta
from faaskeeper.session.commands import (
    Await,
    PutWatch,
    ReadLog,
    ReadLogEnd,
    ReadMark,
    ReadRecord,
    ReadRecords,
    RemoveWatch,
    Steps,
    Writes,
)
from faaskeeper.session.observer import NOBODY
from faaskeeper.session.watching import Called, Track, Watch, difference, unchanged
from faaskeeper.watch import WatchCallbackType, WatchedEvent, WatchEventType

_EVENTS = {
    "C": WatchEventType.NODE_CREATED,
    "S": WatchEventType.NODE_DATA_CHANGED,
    "D": WatchEventType.NODE_DELETED,
    "K": WatchEventType.NODE_CHILDREN_CHANGED,
    "?": WatchEventType.NODE_CHILDREN_CHANGED,
}
_ORDER = "DCSK?"


Allowed = Callable[[Meta], None]
"""Raises if a znode may not be read."""


class Rules:
    """The reading state of one session.

    ``seen``: every read from now on shows at least everything up to this txid. ``applied``: the
    session knows that everything up to this txid is in user storage. ``fire`` is called for each
    event, in order.
    """

    passes_lapsed = False
    """Whether :meth:`read` has met the mark where it returns None."""

    def __init__(self, seen: int, fire: Callable[[WatchCallbackType, WatchedEvent], None]) -> None:
        self.seen = seen
        self.applied = 0
        self.ticket = 0
        """Counts how often ``seen`` or ``applied`` was raised: reads begun before are repeated."""
        self._least: dict[str, int] = {}
        """For each path, the least txid that a read may accept."""
        self._watches: dict[str, list[Watch]] = {}
        self._recursive: dict[str, list[Watch]] = {}
        self._registering: dict[tuple[str, str], int] = {}
        """Paths and kinds whose watches are being set, with a count; ("", "") for other reasons."""
        self._tracks: list[Track] = []
        self._fire = fire
        self.observer = NOBODY

    @property
    def watching(self) -> bool:
        """Whether the session holds watches, or is about to."""
        return bool(self._watches) or bool(self._registering) or bool(self._recursive)

    @property
    def rested(self) -> bool:
        """Whether entries of the log after ``seen`` may have been trimmed: its end was not known lately."""
        return True

    @property
    def leasts(self) -> dict[str, int]:
        """For each path that has one, the least txid that a read may accept."""
        return dict(self._least)

    def waits_for(self, path: str, kind: str) -> bool:
        """Whether the path has a watch of a kind, or is about to have one."""
        return (path, kind) in self._registering or bool(self.found(path, (kind,), None))

    def _enter(self, path: str = "", kind: str = "") -> None:
        """Count as watching, so that :meth:`meet` reads the log for every gap."""
        self._registering[path, kind] = self._registering.get((path, kind), 0) + 1

    def _leave(self, path: str = "", kind: str = "") -> None:
        self._registering[path, kind] -= 1
        if not self._registering[path, kind]:
            del self._registering[path, kind]

    # ---- reading -----------------------------------------------------------------------

    def accepts(self, path: str, record: Record | None, ticket: int) -> bool:
        """Whether a record may be shown as it is: the common case, in which no new epoch is met.

        This needs no lock, whatever other threads do: they raise the ticket first, and this
        compares it last.
        """
        return (
            (record is None or record.upto <= self.seen)
            and (not self._least or (record.txid if record else 0) >= self._least.get(path, 0))
            and ticket == self.ticket
        )

    def read(self, path: str) -> Steps:
        """Read a path; returns its record, a tombstone or None, once it may be shown."""
        while True:
            ticket = self.ticket
            record: Record | None = yield ReadRecord(path)
            if ticket != self.ticket:
                continue
            least = self._least.get(path, 0)
            txid = 0 if record is None else record.txid
            if txid < least:
                yield from self._catch_up(least)
                continue
            if record is not None and record.upto > self.seen:
                raised: int = yield from self.meet(record.epoch(), settled=False)
                if self.ticket > ticket + raised or txid < self._least.get(path, 0):
                    continue
            self.observer.shown(path, record)
            return record

    def _catch_up(self, txid: int) -> Steps:
        """User storage lacks a write that must be shown: wait for the mark, or for the write."""
        applied = yield ReadMark()
        self.note_applied(applied)
        if applied < txid:
            yield Await(txid)

    def note_applied(self, applied: int) -> None:
        """Everything up to ``applied`` is in user storage: later reads return at least that."""
        if applied > self.applied:
            self.applied = applied
            kept = {path: txid for path, txid in self._least.items() if txid > applied}
            if len(kept) != len(self._least):
                self.ticket += 1
                self._least = kept

    # ---- meeting epochs ----------------------------------------------------------------

    def meet(self, epoch: Epoch, *, settled: bool) -> Steps:
        """Meet an epoch: fire every watch that it triggers, then raise ``seen`` to it.

        ``settled``: everything up to the epoch's end is in user storage (replies and notifications
        are sent after that), so no read from now on can show less. Returns how often it raised
        ``ticket``.
        """
        floor, upto, recent = epoch
        if upto <= self.seen:
            if settled:
                self.note_applied(upto)
            return 0
        news: list[Writes] = []
        lacking = recent is None and not (settled and not self.watching)
        if lacking or (floor > self.seen and self.watching):
            after = self.seen
            end = upto if lacking else floor
            found: Sequence[Writes] | None = yield ReadLog(after, end, self.rested)
            if found is None:
                found = yield from self._compare(end, lacking)
                self._lose()
            news.extend(found)
        if upto <= self.seen:
            return 0
        news.extend(recent or ())
        seen = self.seen
        self._take_in([each for each in news if seen < each[0] <= upto], upto if settled else floor)
        self.seen = upto
        return 1

    def _take_in(self, news: Sequence[Writes], applied: int) -> None:
        """Make transactions known to all reads and fire their watches, before ``seen`` is raised.

        The order protects reads that take no lock: the ticket, the leasts, the events, then
        ``seen``.
        """
        self.ticket += 1
        self.applied = max(applied, self.applied)
        if self._least:
            self._least = {path: txid for path, txid in self._least.items() if txid > self.applied}
        written = {path: txid for txid, writes in news if txid > self.applied for path, _ in writes}
        if written:
            self._least = {**self._least, **written}
        for track in self._tracks:
            track.note(news)
        if self._watches or self._recursive:
            for txid, writes in news:
                self._trigger(txid, writes)

    def _lose(self) -> None:
        """Some writes up to what is being met are unknown: the log was trimmed."""
        for track in self._tracks:
            track.lost = True

    def sync(self) -> Steps:
        """Make later reads show at least what is committed: meet the log up to its end."""
        while True:
            after, rested = self.seen, self.rested
            found: tuple[list[Writes], int] | None = yield ReadLogEnd(after, rested)
            if found is not None and found[1] > after:
                floor = min(after, self.applied)  # user storage may lack what was seen in the log
                yield from self.meet(Epoch(floor, found[1], tuple(found[0])), settled=False)
                return
            if found is not None and not rested:
                return
            # No entry: either this is the log's end, or it was trimmed, and then the mark is above.
            mark: int = yield ReadMark()
            if mark <= after:
                return
            yield from self.meet(Epoch(mark, mark, ()), settled=True)

    def _compare(self, end: int, wait: bool) -> Steps:
        """The log was trimmed: read the watched znodes to find what happened to them.

        A difference yields the events that it implies; several changes of one znode yield one
        event. ``wait``: nothing else gives the written paths, so wait until everything is applied.
        """
        while wait:
            applied = yield ReadMark()
            self.note_applied(applied)
            if applied >= end:
                break
            yield Await(end)
        watched = sorted({*self._watches, *self._recursive})
        records: list[Record | None] = yield ReadRecords(tuple(watched))
        events: list[Writes] = []
        for path, record in zip(watched, records, strict=True):
            happened: set[str] = set()
            for each in self.found(path, FIRED_BY, None):
                happened.update(self._missed(each, record))
            if happened:
                letters = "".join(letter for letter in _ORDER if letter in happened)
                # Lower case fires nothing at the parent: its own comparison finds its events.
                letters = letters.lower()
                events.append((end, ((path, letters),)))
        return events

    def _missed(self, watch: Watch, record: Record | None) -> str:
        """The letters of the events that a watch must have missed, given this record."""
        if watch.kind == "recursive":
            return "?"
        if watch.kind == "persistent":
            watch = watch._replace(stamp=max(watch.stamp, self.seen))
        return difference(watch, record)

    def _trigger(self, txid: int, writes: Iterable[tuple[str, str]]) -> None:
        """Fire the watches that a transaction triggers, in the order of its changes.

        The event for a parent's list of children follows directly after the create or delete of the
        child, once for each child (``DataTree.createNode``, ``deleteNode``), wherever a ``K``
        stands.
        """
        watches = self._watches
        for path, letters in writes:
            for letter in letters:
                if letter == "K":
                    continue
                if path in watches or self._recursive:
                    self._happened(path, letter.upper(), txid)
                if letter in "CD" and (above := paths.parent(path)) in watches:
                    self._happened(above, "K", txid)

    def _happened(self, path: str, letter: str, txid: int) -> None:
        called = Called()
        if path in self._watches:
            self._fire_at(path, letter, txid, called)
        if self._recursive and letter in FIRED_BY["recursive"]:
            for above in paths.upwards(path):
                for watch in self._recursive.get(above, ()):
                    if txid > watch.stamp:
                        called.add(watch.callback)
        for callback in called.callbacks:
            event = WatchedEvent(_EVENTS[letter], path, txid)
            self.observer.fired(callback, event)
            self._fire(callback, event)

    def _fire_at(self, path: str, letter: str, txid: int, called: Called) -> None:
        left: list[Watch] = []
        for watch in self._watches.pop(path):
            if txid <= watch.stamp or letter not in FIRED_BY[watch.kind]:
                left.append(watch)
                continue
            called.add(watch.callback)
            if watch.kind in STAYING:
                left.append(watch._replace(present=letter != "D"))
        if left:
            self._watches[path] = left

    @contextmanager
    def tracked(self, paths: Iterable[str]) -> Iterator[Track]:
        """Note the writes of some paths that are met meanwhile."""
        track = Track(dict.fromkeys(paths, 0))
        self._enter()
        self._tracks.append(track)
        try:
            yield track
        finally:
            self._tracks.remove(track)
            self._leave()

    # ---- watching ----------------------------------------------------------------------

    def watch(
        self,
        path: str,
        kind: str,
        callback: WatchCallbackType,
        allowed: Allowed | None = None,
        fetch: Callable[[Record], Steps] | None = None,
    ) -> Steps:
        """Read a path and set a watch (``kind``: data, exists, children); returns the record.

        Reads, puts the row, reads again. If the record has not changed in between, the row covers
        every change after the returned record. Sets no watch if ``allowed`` raises for any record
        read, nor for data or children of a missing node. ``fetch`` reads what belongs to a record,
        before the last read, and returns whether it was there; otherwise all is read again. Once
        the watch is set nothing is left to be read, so its event comes after the answer.
        """
        self._enter(path, kind)
        try:
            before: Record | None = yield from self.read(path)
            while True:
                meta = before.meta if before is not None else None
                if meta is None and kind != "exists":
                    return before
                if meta is not None and allowed is not None:
                    allowed(meta)
                if before is None and not self.passes_lapsed:
                    yield from self._pass_lapsed()
                if meta is None:
                    stamp = self.seen
                else:
                    stamp = meta.pzxid if kind == "children" else meta.mzxid
                yield PutWatch(path, kind, stamp)
                complete = True
                if fetch is not None and before is not None and meta is not None:
                    complete = yield from fetch(before)
                after: Record | None = yield from self.read(path)
                if complete and unchanged(before, after, kind):
                    if after is not None and after.meta is not None and allowed is not None:
                        allowed(after.meta)  # a change of the ACL is none that a watch can see
                    watch = Watch(path, kind, stamp, meta is not None, callback)
                    self._keep(watch)
                    self.observer.watched(watch, after)
                    return after
                before = after
        finally:
            self._leave(path, kind)

    def _pass_lapsed(self) -> Steps:
        """Meet the mark: an absent record carries no txid, but the mark has passed any lapsed tombstone."""
        mark: int = yield ReadMark()
        yield from self.meet(Epoch(mark, mark, ()), settled=True)

    def add_watch(self, path: str, kind: str, callback: WatchCallbackType) -> Steps:
        """Set a watch that stays (``kind``: persistent, recursive); unseen changes fire it.

        It is effective from now on, before its row is stored: epochs met while the row is put fire
        it.
        """
        record: Record | None = yield from self.read(path)
        present = record is not None and record.meta is not None
        watch = Watch(path, kind, self.seen, present, callback)
        kept = self._keep(watch)
        self.observer.watched(watch, None)
        try:
            yield PutWatch(path, kind, watch.stamp)
        except BaseException:
            if kept:
                self._forget(path, [watch])
            raise

    def _forget(self, path: str, watches: Sequence[Watch]) -> None:
        self.observer.forgotten(path, watches)
        for among in (self._watches, self._recursive):
            left = [each for each in among.pop(path, ()) if not any(each.same(one) for one in watches)]
            if left:
                among[path] = left

    def _keep(self, watch: Watch) -> bool:
        among = self._recursive if watch.kind == "recursive" else self._watches
        watches = among.setdefault(watch.path, [])
        if any(each.kind == watch.kind and each.callback == watch.callback for each in watches):
            return False
        watches.append(watch)
        return True

    def found(self, path: str, kinds: Iterable[str], callback: WatchCallbackType | None) -> list[Watch]:
        """The path's watches of these kinds, with this callback (None: any)."""
        return [
            watch
            for watch in (*self._watches.get(path, ()), *self._recursive.get(path, ()))
            if watch.kind in kinds and callback in (None, watch.callback)
        ]

    def remove_watches(self, path: str, kinds: Iterable[str], callback: WatchCallbackType | None) -> Steps:
        """Remove the path's watches of these kinds; returns how many there were.

        They do not fire again. Their rows are removed unless another callback waits for the same.
        """
        removed = self.found(path, kinds, callback)
        self._forget(path, removed)
        for kind in {watch.kind: 0 for watch in removed}:
            if not self.waits_for(path, kind):
                stamp = max(watch.stamp for watch in removed if watch.kind == kind)
                yield RemoveWatch(path, kind, stamp)
                if self.waits_for(path, kind):  # set meanwhile: this may have removed its row
                    yield PutWatch(path, kind, stamp)
        return len(removed)

    # ---- reading several paths as of one transaction -------------------------------------

    def remembered(self, paths: Sequence[str]) -> Mapping[str, Record | None]:
        """The records of those paths that need not be read: they are as of ``seen``."""
        return {}

    def snapshot(
        self,
        wanted: Sequence[str],
        listed: Sequence[str] = (),
        pages: Callable[[int], Iterable[int]] = range,
    ) -> Steps:
        """Read several paths as of one transaction; returns a dict of their records.

        The transaction is ``seen`` at the time when this ends. For paths that are in ``listed``
        too, the pages of their lists of children are read as well; ``pages`` selects them by their
        number: all, if it is not given. Writes that are met meanwhile
        are tracked. A path that was read before such a write of it is read again, alone. So this
        ends even if other paths among them are written all the time.
        """
        self._enter()
        try:
            while True:
                track = Track({path: self._least.get(path, 0) for path in wanted})
                self._tracks.append(track)
                try:
                    found = yield from self._gather(track, listed, pages)
                finally:
                    self._tracks.remove(track)
                if found is not None:
                    self.observer.shown_together(found, listed if pages is range else ())
                    return found
        finally:
            self._leave()

    def _gather(self, track: Track, listed: Sequence[str], select: Callable[[int], Iterable[int]]) -> Steps:
        found: dict[str, Record | None] = {}
        settled: dict[str, int] = {}
        stale: dict[str, int] = {}
        todo = list(track.latest)
        while todo:
            known = self.remembered(todo)
            found.update(known)
            settled.update(dict.fromkeys(known, self.seen))
            lacking = [path for path in todo if path not in known]
            applied = self.applied
            records: list[Record | None] = yield ReadRecords(tuple(lacking))
            for path, record in zip(lacking, records, strict=True):
                found[path], settled[path] = record, applied
            for record in records:
                if record is not None and record.upto > self.seen:
                    yield from self.meet(record.epoch(), settled=False)
            if None in records:
                yield from self._pass_lapsed()
            if track.lost:
                return None
            before, stale = stale, {}
            for path, record in found.items():
                least = track.latest[path]
                if (0 if record is None else record.txid) < least and least > settled[path]:
                    stale[path] = least
            # Before it gives way: what is met then is looked at only if something is read after it.
            new = self._pages(found, track, listed, select)
            stale = {path: least for path, least in stale.items() if path in track.latest}
            # A path that was read again after its write was known, and is still stale.
            if any(path in before for path in stale):
                yield from self._catch_up(max(stale.values()))
            todo = [*stale, *new]
        return found

    def _pages(
        self,
        found: dict[str, Record | None],
        track: Track,
        listed: Sequence[str],
        select: Callable[[int], Iterable[int]],
    ) -> list[str]:
        """The unread pages of the present lists; drops pages that belong to none of them."""
        pages = {
            page_path(path, number)
            for path in listed
            if (record := found[path]) is not None and record.meta is not None
            for number in select(record.meta.pages)
        }
        for path in [path for path in found if "//" in path and path not in pages]:
            del found[path], track.latest[path]
        new = sorted(pages - found.keys())
        track.latest.update({path: self._least.get(path, 0) for path in new})
        return new


def names_of(path: str, found: dict[str, Record | None]) -> list[str]:
    """The sorted names of a znode's children, from a snapshot in which it was listed."""
    record = found[path]
    if record is None or record.meta is None or not record.meta.pages:
        return [] if record is None else record.children
    pages = [found[page_path(path, number)] for number in range(record.meta.pages)]
    return sorted(name for page in pages if page is not None for name in page.children)
