"""What a session may show its user: the client's ordering rules, without I/O, clock or thread.

The rules keep Z3 (the tree never goes back) and Z4 (events before the state that they announce)
over storage that is read directly while distributors write to it. Each rule, and what breaks without
it, is argued in ``docs/architecture/reads.md``.

Whatever needs I/O is a generator of :mod:`faaskeeper.session.commands`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from faaskeeper.core import paths
from faaskeeper.core.children import page_path
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Epoch
from faaskeeper.core.watches import FIRED_BY, STAYING
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
from faaskeeper.session.watching import Called, Watch, difference, unchanged
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
"""Raises where a znode may not be read."""


class _Track:
    """What is known of the last writes of some paths, from before they are read on.

    Unlike the session's table of leasts it forgets nothing when the mark is raised, since what it is compared
    with may have been read before that.
    """

    def __init__(self, latest: dict[str, int]) -> None:
        self.latest = latest
        self.lost = False
        """What was written is not known any more."""

    def note(self, news: Iterable[Writes]) -> None:
        for txid, writes in news:
            for path, _ in writes:
                if path in self.latest:
                    self.latest[path] = txid


class Rules:
    """One session's reading state.

    ``seen``: everything up to it was shown, or would be by any read from now on. ``applied``: everything
    up to it is in user storage, as far as is known here. ``fire`` is called for each event, in order.
    """

    def __init__(self, seen: int, fire: Callable[[WatchCallbackType, WatchedEvent], None]) -> None:
        self.seen = seen
        self.applied = 0
        self.ticket = 0
        """Counts how often ``seen`` or ``applied`` was raised: a read that began before is repeated."""
        self._least: dict[str, int] = {}
        """Per path, the least txid that a read may accept."""
        self._watches: dict[str, list[Watch]] = {}
        self._recursive: dict[str, list[Watch]] = {}
        self._registering: dict[tuple[str, str], int] = {}
        """Paths and kinds that watches are being set for, and by how many; ("", "") for other reasons."""
        self._tracks: list[_Track] = []
        self._fire = fire
        self.observer = NOBODY

    @property
    def watching(self) -> bool:
        """Whether the session holds watches, or is about to."""
        return bool(self._watches) or bool(self._registering) or bool(self._recursive)

    def waits_for(self, path: str, kind: str) -> bool:
        """Whether the path has a watch of a kind, or is about to have one."""
        return (path, kind) in self._registering or bool(self.found(path, (kind,), None))

    def _enter(self, path: str = "", kind: str = "") -> None:
        """Count as watching, so that no epoch that is met leaves a gap unread."""
        self._registering[path, kind] = self._registering.get((path, kind), 0) + 1

    def _leave(self, path: str = "", kind: str = "") -> None:
        self._registering[path, kind] -= 1
        if not self._registering[path, kind]:
            del self._registering[path, kind]

    # ---- reading -----------------------------------------------------------------------

    def accepts(self, path: str, record: Record | None, ticket: int) -> bool:
        """Whether a record may be shown as it is: the common case, in which nothing new is met.

        It needs no lock, whatever another thread is at: the ticket, which is raised first, is compared last.
        """
        return (
            (record is None or record.upto <= self.seen)
            and (not self._least or (record.txid if record else 0) >= self._least.get(path, 0))
            and ticket == self.ticket
        )

    def read(self, path: str) -> Steps:
        """Read a path; returns its record, a tombstone or None, as it may be shown."""
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
        """User storage showed less than was promised: wait for the mark, or for the write."""
        applied = yield ReadMark()
        self.note_applied(applied)
        if applied < txid:
            yield Await(txid)

    def note_applied(self, applied: int) -> None:
        """Everything up to ``applied`` is in user storage: what is read from now on is at least that."""
        if applied > self.applied:
            self.applied = applied
            kept = {path: txid for path, txid in self._least.items() if txid > applied}
            if len(kept) != len(self._least):
                self.ticket += 1
                self._least = kept

    # ---- meeting epochs ----------------------------------------------------------------

    def meet(self, epoch: Epoch, *, settled: bool) -> Steps:
        """Take in an epoch: raise ``seen`` to it, after firing every watch that it triggers.

        ``settled``: everything up to its end is in user storage (replies and notifications are sent
        after that), so no read from now on can show less. Returns how often it raised ``ticket``.
        """
        floor, upto, recent = epoch
        if upto <= self.seen:
            if settled:
                self.note_applied(upto)
            return 0
        told: list[Writes] = []
        lacking = recent is None and not (settled and not self.watching)
        if lacking or (floor > self.seen and self.watching):
            after = self.seen
            end = upto if lacking else floor
            found: Sequence[Writes] | None = yield ReadLog(after, end)
            if found is None:
                found = yield from self._compare(end, lacking)
                for track in self._tracks:
                    track.lost = True
            told.extend(found)
        if upto <= self.seen:
            return 0
        told.extend(recent or ())
        seen = self.seen
        self._take_in([each for each in told if seen < each[0] <= upto], upto if settled else floor)
        self.seen = upto
        return 1

    def _take_in(self, news: Sequence[Writes], applied: int) -> None:
        """Have every read know of some transactions, and fire what they trigger, before ``seen`` is raised.

        The order is for reads that take no lock: the ticket, then the leasts, then the events, then ``seen``.
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

    def sync(self) -> Steps:
        """Have every read from now on show at least what is committed: meet the log up to its end."""
        while True:
            after = self.seen
            found: tuple[list[Writes], int] | None = yield ReadLogEnd(after)
            if found is not None and found[1] > after:
                floor = min(after, self.applied)  # what was seen in the log need not be in user storage
                yield from self.meet(Epoch(floor, found[1], tuple(found[0])), settled=False)
                return
            # Nothing is there: it is the end, or it was trimmed, and then the mark is above.
            mark: int = yield ReadMark()
            if mark <= after:
                return
            yield from self.meet(Epoch(mark, mark, ()), settled=True)

    def _compare(self, end: int, wait: bool) -> Steps:
        """The log between was trimmed: find what happened to watched znodes by looking at them.

        Events are those that the change implies; several changes of one znode are one event.
        ``wait``: the paths written are not known otherwise, so wait until all is applied.
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
                letters = letters.lower()  # small ones: what happened to the parent is found by itself
                events.append((end, ((path, letters),)))
        return events

    def _missed(self, watch: Watch, record: Record | None) -> str:
        """Letters of what a watch must have missed, to show this record."""
        if watch.kind == "recursive":
            return "?"
        if watch.kind == "persistent":
            watch = watch._replace(stamp=max(watch.stamp, self.seen))
        return difference(watch, record)

    def _trigger(self, txid: int, writes: Iterable[tuple[str, str]]) -> None:
        """Fire what a transaction of the log fires: in the order in which it happened, and for the list of
        children that a child was added to or taken from right after that, once for each
        (``DataTree.createNode``, ``deleteNode``), wherever a ``K`` stands.
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

    # ---- watching ----------------------------------------------------------------------

    def watch(
        self, path: str, kind: str, callback: WatchCallbackType, allowed: Allowed | None = None
    ) -> Steps:
        """Read a path and leave a watch (``kind``: data, exists, children); returns the record.

        Reads, puts the row, reads again: unchanged in between, the row has seen what is returned.
        No watch is left by data or children of a missing node, nor where ``allowed`` raises.
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
                if before is None:
                    # Nothing tells how new "absent" is; but the mark has passed any lapsed tombstone.
                    mark: int = yield ReadMark()
                    yield from self.meet(Epoch(mark, mark, ()), settled=True)
                if meta is None:
                    stamp = self.seen
                else:
                    stamp = meta.pzxid if kind == "children" else meta.mzxid
                yield PutWatch(path, kind, stamp)
                after: Record | None = yield from self.read(path)
                if unchanged(before, after, kind):
                    watch = Watch(path, kind, stamp, meta is not None, callback)
                    self._keep(watch)
                    self.observer.watched(watch, after)
                    return after
                before = after
        finally:
            self._leave(path, kind)

    def add_watch(self, path: str, kind: str, callback: WatchCallbackType) -> Steps:
        """Leave a watch that stays (``kind``: persistent, recursive), fired by all that is not seen yet.

        It counts from here on, not from when its row is there: what is met while the row is put fires it.
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
        """Forget the path's watches of these kinds; returns how many there were.

        They fire no more. Their rows go where no other callback waits for the same.
        """
        removed = self.found(path, kinds, callback)
        self._forget(path, removed)
        for kind in {watch.kind: 0 for watch in removed}:
            if not self.waits_for(path, kind):
                stamp = max(watch.stamp for watch in removed if watch.kind == kind)
                yield RemoveWatch(path, kind, stamp)
                if self.waits_for(path, kind):  # since then: it may have been its row
                    yield PutWatch(path, kind, stamp)
        return len(removed)

    # ---- reading several paths as of one transaction -------------------------------------

    def snapshot(self, wanted: Sequence[str], listed: Sequence[str] = ()) -> Steps:
        """Read several paths as of one transaction, ``seen`` when this ends; returns a dict of their records.

        Of the paths that are ``listed`` too, the pages of their lists of children are read as well.
        Everything that is written meanwhile and met is tracked; what was read before a write of it that was
        met is read again, alone. So this ends even where other paths among them are written all the time.
        """
        self._enter()
        try:
            while True:
                track = _Track({path: self._least.get(path, 0) for path in wanted})
                self._tracks.append(track)
                try:
                    found = yield from self._gather(track, listed)
                finally:
                    self._tracks.remove(track)
                if found is not None:
                    self.observer.shown_together(found, listed)
                    return found
        finally:
            self._leave()

    def _gather(self, track: _Track, listed: Sequence[str]) -> Steps:
        found: dict[str, Record | None] = {}
        settled: dict[str, int] = {}
        stale: dict[str, int] = {}
        todo = list(track.latest)
        while todo:
            applied = self.applied
            records: list[Record | None] = yield ReadRecords(tuple(todo))
            for path, record in zip(todo, records, strict=True):
                found[path], settled[path] = record, applied
            for record in records:
                if record is not None and record.upto > self.seen:
                    yield from self.meet(record.epoch(), settled=False)
            if None in records:
                # Nothing tells how new "absent" is; but the mark has passed any lapsed tombstone.
                mark: int = yield ReadMark()
                yield from self.meet(Epoch(mark, mark, ()), settled=True)
            if track.lost:
                return None
            before, stale = stale, {}
            for path, record in found.items():
                least = track.latest[path]
                if (0 if record is None else record.txid) < least and least > settled[path]:
                    stale[path] = least
            if any(path in before for path in stale):  # read since it is known, and not there yet
                yield from self._catch_up(max(stale.values()))
            new = self._pages(found, track, listed)
            todo = [path for path in stale if path in track.latest] + new  # without pages that are gone
        return found

    def _pages(self, found: dict[str, Record | None], track: _Track, listed: Sequence[str]) -> list[str]:
        """Pages that belong to the lists as they are now and were not read; others are dropped."""
        pages = {
            page_path(path, number)
            for path in listed
            if (record := found[path]) is not None and record.meta is not None
            for number in range(record.meta.pages)
        }
        for path in [path for path in found if "//" in path and path not in pages]:
            del found[path], track.latest[path]
        new = sorted(pages - found.keys())
        track.latest.update({path: self._least.get(path, 0) for path in new})
        return new


def names_of(path: str, found: dict[str, Record | None]) -> list[str]:
    """Names of a znode's children in a snapshot in which it was listed, in order."""
    record = found[path]
    if record is None or record.meta is None or not record.meta.pages:
        return [] if record is None else record.children
    pages = [found[page_path(path, number)] for number in range(record.meta.pages)]
    return sorted(name for page in pages if page is not None for name in page.children)
