"""What a session may show its user: the client's ordering rules, without I/O, clock or thread.

The rules keep Z3 (the tree never goes back) and Z4 (events before the state that they announce)
over storage that is read directly while distributors write to it. Each rule, and what breaks without
it, is argued in ``docs/architecture.md``, *Reading*.

Whatever needs I/O is a generator: it yields a command (:class:`ReadRecord`, :class:`ReadLog`, ...)
and is sent the answer. A shell (threads, asyncio, a simulator) performs the commands. Between two
yields a generator is to run alone: the threaded shell holds a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any, NamedTuple, Union

from faaskeeper.core.records import Record
from faaskeeper.core.requests import Epoch
from faaskeeper.core.watches import FIRED_BY
from faaskeeper.watch import WatchCallbackType, WatchedEvent, WatchEventType

Writes = tuple[int, tuple[tuple[str, str], ...]]
"""A transaction as an epoch lists it: txid, and (path, letters) of what it wrote."""


class ReadRecord(NamedTuple):
    """Answer: the path's Record, or None."""

    path: str


class ReadRecords(NamedTuple):
    """Answer: a list of them."""

    paths: tuple[str, ...]


class ReadLog(NamedTuple):
    """Answer: the Writes in (after, upto], or None where the log was trimmed in between."""

    after: int
    upto: int


class ReadLogEnd(NamedTuple):
    """Answer: the Writes after ``after`` to the log's end and the last txid, or None where it was trimmed."""

    after: int


class ReadMark(NamedTuple):
    """Answer: the mark ``applied``."""


class Await(NamedTuple):
    """Ring the doorbell and wait a little; user storage lacks ``txid``. Answer: nothing."""

    txid: int


class PutWatch(NamedTuple):
    """Put the row of a watch. Answer: nothing."""

    path: str
    kind: str
    stamp: int


Command = Union[ReadRecord, ReadRecords, ReadLog, ReadLogEnd, ReadMark, Await, PutWatch]
Steps = Generator[Command, Any, Any]

_EVENTS = {
    "C": WatchEventType.NODE_CREATED,
    "S": WatchEventType.NODE_DATA_CHANGED,
    "D": WatchEventType.NODE_DELETED,
    "K": WatchEventType.NODE_CHILDREN_CHANGED,
}


class Watch(NamedTuple):
    """A watch that is set. ``stamp``: it has seen the znode (``present``, or not) as of this txid."""

    path: str
    kind: str
    stamp: int
    present: bool
    callback: WatchCallbackType


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
        self._registering = 0
        self._fire = fire

    @property
    def watching(self) -> bool:
        """Whether the session holds watches, or is about to."""
        return bool(self._watches) or self._registering > 0

    def watched(self) -> list[Watch]:
        """The watches that are set."""
        return [watch for watches in self._watches.values() for watch in watches]

    # ---- reading -----------------------------------------------------------------------

    def accepts(self, path: str, record: Record | None, ticket: int) -> bool:
        """Whether a record may be shown as it is: the common case, in which nothing new is met."""
        return (
            ticket == self.ticket
            and (record is None or record.upto <= self.seen)
            and (not self._least or (record.txid if record else 0) >= self._least.get(path, 0))
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
                self._least = kept
                self.ticket += 1

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
            told.extend(found)
        if upto <= self.seen:
            return 0
        told.extend(recent or ())
        seen = self.seen
        news = [each for each in told if seen < each[0] <= upto]
        applied = upto if settled else floor
        if applied > self.applied:
            self.applied = applied
            if self._least:
                self._least = {p: txid for p, txid in self._least.items() if txid > applied}
        for txid, writes in news:
            if txid > self.applied:
                for path, _ in writes:
                    self._least[path] = txid
        self.seen = upto
        self.ticket += 1
        if self._watches:
            for txid, writes in news:
                self._trigger(txid, writes)
        return 1

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
        watches = self.watched()
        watched = sorted({watch.path for watch in watches})
        records: list[Record | None] = yield ReadRecords(tuple(watched))
        found = dict(zip(watched, records, strict=True))
        events: list[Writes] = []
        for watch in watches:
            letter = _difference(watch, found[watch.path])
            if letter:
                events.append((end, ((watch.path, letter),)))
        return events

    def _trigger(self, txid: int, writes: Iterable[tuple[str, str]]) -> None:
        for path, letters in writes:
            watches = self._watches.get(path) if letters else None
            if not watches:
                continue
            left: list[Watch] = []
            told: list[tuple[WatchCallbackType, WatchEventType]] = []
            for watch in watches:
                letter = "" if txid <= watch.stamp else _first(letters, FIRED_BY[watch.kind])
                if not letter:
                    left.append(watch)
                elif (watch.callback, _EVENTS[letter]) not in told:
                    told.append((watch.callback, _EVENTS[letter]))
            if left:
                self._watches[path] = left
            else:
                del self._watches[path]
            for callback, event in told:
                self._fire(callback, WatchedEvent(event, path, txid))

    # ---- watching ----------------------------------------------------------------------

    def watch(self, path: str, kind: str, callback: WatchCallbackType) -> Steps:
        """Read a path and leave a watch (``kind``: data, exists, children); returns the record.

        Reads, puts the row, reads again: unchanged in between, the row has seen what is returned.
        No watch is left by data or children of a missing node.
        """
        self._registering += 1
        try:
            before: Record | None = yield from self.read(path)
            while True:
                meta = before.meta if before is not None else None
                if meta is None and kind != "exists":
                    return before
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
                if _unchanged(before, after, kind):
                    watch = Watch(path, kind, stamp, meta is not None, callback)
                    watches = self._watches.setdefault(path, [])
                    if not any(each.kind == kind and each.callback == callback for each in watches):
                        watches.append(watch)
                    return after
                before = after
        finally:
            self._registering -= 1


def _first(letters: str, among: str) -> str:
    for letter in letters:
        if letter in among:
            return letter
    return ""


def _unchanged(before: Record | None, after: Record | None, kind: str) -> bool:
    one = before.meta if before is not None else None
    two = after.meta if after is not None else None
    if one is None or two is None:
        # Absent both times: only if no transaction created and deleted it in between.
        same = (before.txid if before is not None else 0) == (after.txid if after is not None else 0)
        return one is two and same
    return one.pzxid == two.pzxid if kind == "children" else one.mzxid == two.mzxid


def _difference(watch: Watch, record: Record | None) -> str:
    meta = record.meta if record is not None else None
    if meta is None:
        again = record is not None and record.txid > watch.stamp
        return "D" if watch.present or again else ""
    if watch.kind == "children":
        return "D" if meta.czxid > watch.stamp else "K" if meta.pzxid > watch.stamp else ""
    if meta.mzxid <= watch.stamp:
        return ""
    return "S" if meta.czxid <= watch.stamp else "C" if watch.kind == "exists" else "D"
