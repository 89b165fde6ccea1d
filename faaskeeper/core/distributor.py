"""Applies the log to user storage, answers clients, and has watchers notified.

Everything here is derived from the log and can be repeated by any process at any time: records
replace only older ones, clients match answers by cxid, and drop notifications whose epoch they have
seen. The order keeps the guarantees: *all records of a group, then answers, then notifications,
then the mark*. A process that dies in between leaves the mark low, and the next one repeats the
rest.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from faaskeeper.core import codec, logs, trust
from faaskeeper.core.answers import Answer, reply_of
from faaskeeper.core.changes import Closed, Opened, Transaction
from faaskeeper.core.children import (
    PAGE_META,
    Ahead,
    Listing,
    Page,
    listings,
    page_path,
    passes,
    renamed,
    writes_of,
)
from faaskeeper.core.contents import Content, Contents
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.drivers.channel import deliver
from faaskeeper.core.drivers.storage import JOINT_BYTES, JOINT_WRITES, Write
from faaskeeper.core.errors import StaleView, Unavailable
from faaskeeper.core.images import Image, images_of, lacking
from faaskeeper.core.log import Entry
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Epoch
from faaskeeper.core.sessions import Sessions
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.view import BEGIN_WITHIN_MS, View, load
from faaskeeper.core.watches import Recipient, Secrets, WatchFunction
from faaskeeper.core.wide import size_of

GROUP_ENTRIES = 16
"""Most entries that are applied together."""
GROUP_CHANGES = 4_000
"""Most changes of a group of entries, unless a single entry has more."""
SAVE_WITHIN_MS = 5_000
"""How long an invocation applies entries before it saves its progress."""
SETTLE_WITHIN_MS = 6 * 3600 * 1000
"""How long after its start an invocation may write records: well below the age at which tombstones
lapse."""
_LISTED_BYTES = 7
"""Fewest bytes that a transaction takes in ``recent``."""
_AHEAD = 5
"""How often a list is read again because another distributor moved its names meanwhile."""

_log = logs.logger(__name__)


Writes = tuple[int, tuple[tuple[str, str], ...]]
"""A transaction as an epoch lists it: its txid, and (path, letters) for each path that it wrote."""


class Joined(NamedTuple):
    """The effects of an entry on user storage, to be written together with its append."""

    settled: Settled
    writes: tuple[Write, ...]


class Settled(NamedTuple):
    """A group whose records are in user storage; its answers and notifications are due."""

    entries: tuple[Entry, ...]
    epoch: Epoch


def _group(pending: Sequence[Entry]) -> tuple[Entry, ...]:
    """The next entries to apply together."""
    if len(pending) == 1:  # the usual case
        return tuple(pending)
    number = changes = 0
    for entry in pending[:GROUP_ENTRIES]:
        changes += sum(len(transaction.changes) for transaction in entry.transactions)
        if number and changes > GROUP_CHANGES:
            break
        number += 1
    return tuple(pending[:number])


def _recipient(sessions: Sessions, id: int) -> Recipient | None:
    session = sessions.get(id)
    if session is None or session.closed:
        return None
    return Recipient(session.address, session.sealed)


class Distributor:
    """Applies the pending entries of a view. Not thread-safe."""

    def __init__(
        self, deployment: Deployment, secrets: Secrets | None = None, sends_time: bool = True
    ) -> None:
        self._deployment = deployment
        self._sends_time = sends_time
        self._secrets = secrets or Secrets(deployment.key)
        self._watch = WatchFunction(
            deployment.watches, deployment.channel, self._secrets, deployment.gather, deployment.key
        )
        self.contents = Contents(deployment)
        self._listed: tuple[Entry | None, tuple[Writes, ...]] = (None, ())
        """What the entry wrote that was listed last."""
        self._unsaved = 0
        self._unmarked = 0
        self._since = 0
        self._marked = 0

    # ---- records -----------------------------------------------------------------------

    def load(self, max_nodes: int) -> View:
        """A view at the log's end, whose pending entries are to be settled next.

        Clears the remembered contents of records. They belong to the view before, and may lack what
        others applied since.
        """
        deployment = self._deployment
        self.contents.clear()
        return load(deployment.log, deployment.checkpoints, deployment.clock, max_nodes)

    def settle(self, view: View, since: int, doubtful: bool = False) -> list[Settled]:
        """Write the records of all pending entries; pass the result to :meth:`finish`.

        In a long backlog, each group but the last is finished here before the next begins, so that
        an invocation that is cut short leaves less work to the next. The epoch of such a group is
        returned without its entries.

        ``doubtful``: some of the entries are others', whose writers probably wrote the records:
        read first. A put over a record as of the same entry or a later one has no effect, so it is
        left out.

        ``since``: when the invocation began (ms). Raises StaleView when that is
        :data:`SETTLE_WITHIN_MS` ago, or the view's own ``since`` is :data:`BEGIN_WITHIN_MS` longer
        ago: a tombstone newer than a record still to be written
        may have lapsed.
        """
        self._since = min(since, view.since + BEGIN_WITHIN_MS)
        self._marked = since
        groups: list[Settled] = []
        while view.pending:
            entries = _group(view.pending)
            try:
                epoch = self._write(entries, view.sessions, doubtful)
            except BaseException:
                self.contents.clear()
                raise
            view.settled(entries[-1].last)
            if view.pending:
                self.finish((Settled(entries, epoch),), view)
                entries = ()
            groups.append(Settled(entries, epoch))
        return groups

    def join(self, view: View, entry: Entry) -> Joined | None:
        """The effects of the entry after the view's head, to be written together with its append.

        None if that is impossible: an entry below it is not in user storage yet, the effects are
        more than a set of puts in any order or than one call takes, or another writer is ahead of the
        view. A caller that
        then does not append must call :meth:`forget`.
        """
        transactions = entry.transactions
        if view.pending or any(isinstance(e, Opened) for each in transactions for e in each.effects):
            return None
        some = list(passes(transactions))
        images, lists = images_of(transactions), listings(transactions)
        if len(some) != 1 or len(images) > JOINT_WRITES or any(each.gives() for each in lists.values()):
            return None
        if any(image.check_at() is not None for image in images.values()):
            return None
        wanted = lacking(images, lists)
        contents = self.contents.read(wanted)
        if len(contents) < len(wanted) or any(each.txid > view.head for each in contents.values()):
            return None  # written meanwhile; or deleted, so long ago that no tombstone is left
        epoch, text = self._epoch((entry,))
        records, _ = self._records(images, lists, contents, epoch, text)
        writes = [self._deployment.records.write_of(path, record) for path, record in records.items()]
        made = tuple(write for write in writes if write is not None)
        size = sum(size_of(each.partition, each.key, each.item) for each in made)
        if not 0 < len(made) == len(writes) < JOINT_WRITES or size > JOINT_BYTES:  # the append is one more
            self.forget()
            return None
        return Joined(Settled((entry,), epoch), made)

    def forget(self) -> None:
        """Forget the contents of records: those to be written were not written, or perhaps not."""
        self.contents.clear()

    def _epoch(self, entries: tuple[Entry, ...]) -> tuple[Epoch, str]:
        """The epoch for the records of some entries, and its ``recent`` as records carry it."""
        recent = self._writes(entries[0])
        for entry in entries[1:]:
            recent += self._writes(entry)
        most = self._deployment.recent_bytes
        encoded = codec.text(recent) if len(recent) * _LISTED_BYTES <= most else ""
        short = 0 < len(encoded) <= most
        epoch = Epoch(entries[0].first - 1, entries[-1].last, recent if short else None)
        return epoch, encoded if short else ""

    def _writes(self, entry: Entry) -> tuple[Writes, ...]:
        """What each transaction of an entry wrote."""
        if self._listed[0] is not entry:
            self._listed = entry, tuple([(each.txid, writes_of(each)) for each in entry.transactions])
        return self._listed[1]

    def _write(self, entries: tuple[Entry, ...], sessions: Sessions, doubtful: bool) -> Epoch:
        epoch, text = self._epoch(entries)
        for some in passes([each for entry in entries for each in entry.transactions]):
            self._write_pass(some, sessions, epoch, text, doubtful)
        return epoch

    def _write_pass(
        self,
        transactions: Sequence[Transaction],
        sessions: Sessions,
        epoch: Epoch,
        recent: str,
        doubtful: bool,
    ) -> None:
        """Write what some transactions changed, in parallel; sources of moved names come second."""
        images = images_of(transactions)
        lists = listings(transactions)
        wanted = lacking(images, lists)
        contents = self.contents.read(wanted) if wanted else {}
        records, second = self._records(images, lists, contents, epoch, recent)
        if doubtful:
            records = self._lacking(records)
        put = self._deployment.records.put
        check = self._check_age
        puts: list[Callable[[], object]] = [
            partial(put, path, record, check) for path, record in records.items() if path not in second
        ]
        for transaction in transactions:
            for effect in transaction.effects:
                # A lease that another has dropped would be granted anew, and the session go on by it.
                if isinstance(effect, Opened) and not sessions.ended(transaction.txid):
                    expires = self._deployment.clock() + effect.timeout
                    grant = self._deployment.leases.grant
                    puts.append(partial(grant, transaction.txid, expires, effect.timeout))
        for path, image in images.items():
            if (due := image.check_at()) is not None:
                puts.append(partial(self._deployment.transients.put, path, due, image.txid))
        self._put(puts)
        if second:
            self._put([partial(put, path, records[path], check) for path in records if path in second])

    def _records(
        self,
        images: dict[str, Image],
        lists: dict[str, Listing],
        contents: dict[str, Content],
        epoch: Epoch,
        recent: str,
    ) -> tuple[dict[str, Record], set[str]]:
        """The records of some images and lists, and the paths to be written second.

        ``contents``: of the paths that :func:`faaskeeper.core.images.lacking` returns.
        """
        if lists:
            self._run(lists, contents)
        records: dict[str, Record] = {}
        second: set[str] = set()
        for path, image in images.items():
            record = self._record(path, image, contents.get(path), lists.get(path), epoch, recent)
            if record is not None:
                records[path] = record
        for path, listing in lists.items():
            if listing.gives():
                second.add(path)
            for sources in (False, True):
                for page in listing.pages(sources=sources):
                    where = page_path(path, page.number)
                    records[where] = self._page(where, page, epoch, recent)
                    if sources:
                        second.add(where)
        return records, second

    def _lacking(self, records: dict[str, Record]) -> dict[str, Record]:
        """The records of which user storage has neither this version nor a later one."""
        there = self._deployment.records.get_many(list(records))
        return {
            path: record
            for (path, record), found in zip(records.items(), there, strict=True)
            if found is None or found.txid < record.txid
        }

    def _put(self, puts: list[Callable[[], object]]) -> None:
        if len(puts) == 1:
            self._in_time(puts[0])
            return
        self._deployment.gather([partial(self._in_time, put) for put in puts])

    def _in_time(self, put: Callable[[], object]) -> object:
        """Put, unless this process was suspended; also checked between two puts."""
        self._check_age()
        return put()

    def _check_age(self) -> None:
        if abs(self._deployment.clock() - self._since) > SETTLE_WITHIN_MS:
            raise StaleView("this invocation was suspended for hours: its records may be out of date")

    def _run(self, lists: dict[str, Listing], contents: dict[str, Content]) -> None:
        """Apply the steps to the lists; if another distributor is ahead, read again."""
        needed = [path for listing in lists.values() for path in listing.needs()]
        for _ in range(_AHEAD):
            try:
                for listing in lists.values():
                    listing.run({path: (each.txid, each.children) for path, each in contents.items()})
            except Ahead:
                for path in needed:
                    self.contents.drop(path)
                contents.update(self.contents.read(needed))
            else:
                return
        raise Unavailable(f"other distributors moved names {_AHEAD} times while this one read them")

    def _page(self, path: str, page: Page, epoch: Epoch, recent: str) -> Record:
        if page.names is None:
            self.contents.drop(path)
            return Record(page.stamp, None, b"", [], epoch.floor, epoch.upto, recent)
        self.contents.keep(path, Content(page.stamp, b"", page.names))
        return Record(page.stamp, PAGE_META, b"", page.names, epoch.floor, epoch.upto, recent)

    def _record(
        self,
        path: str,
        image: Image,
        before: Content | None,
        listing: Listing | None,
        epoch: Epoch,
        recent: str,
    ) -> Record | None:
        """The record to write; None if user storage has the image or a later one."""
        meta = image.meta
        self.contents.drop(path)  # it precedes this image, whatever the outcome
        if meta is None:
            return Record(image.txid, None, b"", [], epoch.floor, epoch.upto, recent)
        data, children = image.data, []
        if image.lacks_content():
            if before is None:
                raise AssertionError(f"user storage lacks {path}, written before {epoch.floor}")
            if before.txid >= image.txid:
                return None
            if data is None:
                data = before.data
            children = before.children
        if meta.pages:
            children = []
        elif listing is not None:
            inline = listing.inline(image.txid)
            if inline is None:
                return None
            children = inline
        elif image.names:
            children = renamed(children, image.names)
        if not meta.pages and len(children) != meta.children:
            raise AssertionError(
                f"{path} has {len(children)} children in user storage, {meta.children} in the log"
            )
        data = data or b""
        if children or image.names:
            self.contents.keep(path, Content(image.txid, data, children))
        return Record(image.txid, meta, data, children, epoch.floor, epoch.upto, recent)

    # ---- answers and notifications -----------------------------------------------------

    def answer_early(self, entry: Entry, answers: Sequence[Answer]) -> list[Answer]:
        """Deliver answers for an entry to early listeners; returns those for other clients.

        The entry is in the log and will be settled next, as a group of its own.
        """
        direct = self._deployment.direct_channel
        if direct is None or not any(direct.accepts_early(each.address) for each in answers):
            return list(answers)
        epoch = Epoch(entry.first - 1, entry.last, self._writes(entry))
        # Without the time: these listeners have the same clock.
        return [each for each in answers if not direct.deliver_early(each.address, reply_of(each, epoch, 0))]

    def answer(self, answers: Sequence[Answer], epoch: Epoch) -> None:
        """Send sessions their outcomes, with the epoch on which they were validated."""
        if not answers:
            return  # all were delivered early
        now = self._time_sent()
        direct = self._deployment.direct_channel
        for each in answers:
            reply = reply_of(each, epoch, now)
            if direct is not None and direct.deliver_late(each.address, reply):
                continue
            signed = trust.sign(self._secrets.unseal(each.sealed), codec.reply(reply))
            deliver(self._deployment.channel, each.address, signed)

    def _time_sent(self) -> int:
        return self._deployment.clock() if self._sends_time else 0

    def finish(self, groups: Sequence[Settled], view: View) -> None:
        """Notify watchers, clean up after closed sessions; at intervals, save the progress.

        The progress is mark and checkpoint.
        """
        for group in groups:
            recipient_of = partial(_recipient, view.sessions)
            self._watch.notify(group.entries, group.epoch, recipient_of, self._deployment.watch_queue)
            for entry in group.entries:
                for transaction in entry.transactions:
                    for effect in transaction.effects:
                        if isinstance(effect, Closed):
                            self._deployment.watches.clear(effect.session)
                            if not effect.partial:  # otherwise heartbeat finds the rest by it
                                self._deployment.leases.drop(effect.session)
            self._unsaved += len(group.entries)
            self._unmarked += len(group.entries)
        now = self._deployment.clock()
        if self._unmarked >= self._deployment.save_every or now - self._marked > SAVE_WITHIN_MS:
            self._marked = now
            self.save(view)

    def save(self, view: View) -> None:
        """Save mark and checkpoint of a view; only the mark while entries are pending.

        Everything that the view calls applied must be finished.
        """
        if self._unmarked:
            self._deployment.checkpoints.mark(view.applied)
            self._unmarked = 0
        if self._unsaved and not view.pending:
            self._deployment.checkpoints.save(view.header(), view.sessions, self._deployment.clock)
            self._unsaved = 0
