"""The log is the source of truth. Appending an entry under an absent key is the only commit.

An entry holds one batch: transactions ``first`` to ``last`` and the outcome of every request of the
batch. Its key is ``first``; the next entry's key is ``last + 1``. An entry is put on condition that
its key is absent. So of any number of writers that validated against the same head, one wins, and
the others read its entry.

Stripes: where a store limits what one partition key takes, entries lie under several. Which of them
an entry lies under follows from its key alone, so all writers with one head still contend for one
item (``docs/architecture/log.md``).

Retention: entries are trimmed after :data:`RETENTION_MS`, so "absent" means "never written" only to
a writer that knew the end of the log recently. :class:`~faaskeeper.core.view.View` keeps that time
(``asof``), and :meth:`Log.append` refuses a batch that was validated more than
:data:`APPEND_WITHIN_MS` ago.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from operator import itemgetter
from typing import Any

from faaskeeper.core import codec
from faaskeeper.core.changes import Transaction
from faaskeeper.core.drivers.storage import Gather, IfAbsent, Item, Page, Table, Write, in_turn
from faaskeeper.core.errors import StaleView
from faaskeeper.core.hashes import blake2b
from faaskeeper.core.requests import Outcome
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.wide import WideTable

_DAY_MS = 24 * 3600 * 1000
RETENTION_MS = 7 * _DAY_MS
"""How long the store keeps entries."""
VIEW_VALID_MS = 3 * _DAY_MS
"""How long a view may be used after its head was last known to be the end of the log."""
CHECKPOINT_VALID_MS = 5 * _DAY_MS
"""Greatest age of a checkpoint from which a view may be loaded."""
APPEND_WITHIN_MS = 15 * 60 * 1000
"""How long after its validation the entry of a batch may still be put."""
AHEAD_MS = _DAY_MS // 2
"""How far a stored time at which the log's end was known may be ahead of our clock: then it counts
as just made. One further ahead says nothing, since one of the clocks is wrong. A stored time counts
as valid longer by this much at most."""

PARTITION = "log"
ENTRY_BYTES = 256 * 1024
"""Usually a batch is closed when its requests reach about this size, so that an entry fits an item of
any known table (:attr:`faaskeeper.core.transactions.Limits.entry_bytes`)."""
ENTRY_CHANGES = 2_000
"""A batch is closed after about this many changes."""
_LEAST_PAGE = 10
_ONE_BY_ONE = 2
"""How many entries are read one by one before all stripes are."""


class Answers(NamedTuple):
    """Outcomes of one session's requests in one batch: (cxid, outcome), in order.

    ``acked``: outcomes up to this cxid may be forgotten. ``address``: where the answers go.
    """

    session: int
    incarnation: int
    acked: int
    address: str
    outcomes: tuple[tuple[int, Outcome], ...]


class Entry(NamedTuple):
    """One batch. ``time``: of validation, in ms by the log's own time, which never decreases.

    Only ages of what the log holds may be computed from it
    (:class:`~faaskeeper.core.clocks.LogClock`).
    """

    first: int
    last: int
    time: int
    transactions: tuple[Transaction, ...]
    answers: tuple[Answers, ...]


class Trimmed(StaleView):
    """The requested entries are gone; ``first``: the oldest entry that was found."""

    def __init__(self, first: int) -> None:
        super().__init__(f"the log begins at {first}")
        self.first = first


def key(txid: int) -> str:
    """Key of the entry that begins with a txid; keys sort like txids."""
    return f"{txid:016d}"


def partition(first: int, stripes: int) -> str:
    """Partition key of the entry that begins with a txid.

    A hash, since batches of constant size would meet few of ``first mod stripes``.
    """
    if stripes == 1:
        return PARTITION
    digest = blake2b(key(first).encode(), digest_size=4).digest()
    return f"{PARTITION}/{int.from_bytes(digest, 'big') % stripes}"


def partitions(stripes: int) -> list[str]:
    """All partition keys of entries."""
    return [PARTITION] if stripes == 1 else [f"{PARTITION}/{number}" for number in range(stripes)]


def encode(entry: Entry) -> Item:
    """Encode an entry as an item of a table."""
    data: list[bytes] = []
    transactions = [codec.transaction(each, data) for each in entry.transactions]
    answers = [
        codec.text(
            [
                each.session,
                each.incarnation,
                each.acked,
                each.address,
                [[cxid, *codec.outcome(outcome)] for cxid, outcome in each.outcomes],
            ]
        )
        for each in entry.answers
    ]
    return {
        "stamp": entry.last,
        "first": entry.first,
        "time": entry.time,
        "transactions": transactions,
        "answers": answers,
        "data": b"".join(data),
    }


def _answers(value: str) -> Answers:
    session, incarnation, acked, address, rows = codec.parse(value)
    outcomes = tuple((row[0], codec.to_outcome(row[1:])) for row in rows)
    return Answers(session, incarnation, acked, address, outcomes)


def decode(item: Item) -> Entry:
    """Decode an entry."""
    fields: dict[str, Any] = item
    cursor = codec.cursor(fields["data"])
    return Entry(
        fields["first"],
        fields["stamp"],
        fields["time"],
        tuple(codec.to_transaction(each, cursor) for each in fields["transactions"]),
        tuple(_answers(each) for each in fields["answers"]),
    )


def mentions(item: Item, words: Sequence[str]) -> bool:
    """Whether a transaction of an item has one of these texts in its JSON: cheaper than to decode it."""
    transactions: Any = item["transactions"]
    return any(word in each for each in transactions for word in words)


def size(item: Item) -> int:
    """About how many bytes an item has."""
    fields: dict[str, Any] = item
    return sum(map(len, fields["transactions"])) + len(fields.get("data") or b"")


def span(item: Item) -> tuple[int, int]:
    """The first and the last transaction of an item."""
    fields: dict[str, Any] = item
    return fields["first"], fields["stamp"]


def _check_age(age: int) -> None:
    if abs(age) > APPEND_WITHIN_MS:  # negative: the clock was set back; the age is unknown
        raise StaleView("the batch was validated too long ago to append it")


class Log:
    """The log in a table.

    ``gather``: runs reads and deletions in parallel. ``random``: see
    :class:`~faaskeeper.core.wide.WideTable`. ``stripes``: returns over how many partition keys the
    entries are spread; the same for all processes and for as long as the log exists.
    """

    def __init__(
        self,
        table: Table,
        gather: Gather[Any] = in_turn,
        random: Callable[[int], bytes] = os.urandom,
        stripes: Callable[[], int] = lambda: 1,
    ) -> None:
        self._table = WideTable(table, "", random)
        self._gather = gather
        self._stripes = stripes

    def _place(self, first: int) -> tuple[str, str]:
        return partition(first, self._stripes()), key(first)

    def append(self, entry: Entry, age: int) -> None:
        """Put the entry if its key is absent.

        ``age``: ms between validation and the moment just before this call. Raises Conflict
        (another entry is there), Unavailable (unknown), or StaleView when the validation was too
        long ago.
        """
        _check_age(age)
        self._table.put(*self._place(entry.first), encode(entry), IfAbsent())

    def write_of(self, entry: Entry, age: int) -> Write | None:
        """The append as one of several joint puts; None if it takes more than one put."""
        _check_age(age)
        item = encode(entry)
        place = self._place(entry.first)
        if not self._table.single(*place, item):
            return None
        return Write("log", *place, item, IfAbsent())

    def after(self, txid: int, limit: int = 100) -> tuple[list[Entry], bool]:
        """Entries from ``txid + 1`` on, at most ``limit``, and whether there may be more.

        ``txid``: 0, or the last txid of an entry. All entries that were there before the call are
        among them, or there may be more. Raises Trimmed if the first entry found does not follow
        ``txid``.
        """
        found, more = self._found(txid, limit)
        entries: list[Entry] = []
        for item in found:
            entry = decode(item)
            if entry.first != txid + 1:
                return entries or [self._behind(txid, entry.first)], True
            entries.append(entry)
            txid = entry.last
        return entries, more

    def _behind(self, txid: int, later: int) -> Entry:
        """The entry after a txid, where a later one was seen. Raises Trimmed.

        Stripes are read at moments of their own. What is not there now was trimmed, since it was
        put before the later one; and a second look shows all that is left before that.
        """
        if self._stripes() > 1:
            entry = self.at(txid + 1)
            if entry is not None:
                return entry
            later = min((decode(item).first for item in self._found(txid, 1)[0]), default=later)
        raise Trimmed(later)

    def _found(self, txid: int, limit: int) -> tuple[Sequence[Item], bool]:
        """Items with keys after a txid's, in their order, and whether there may be more."""
        stripes = self._stripes()
        if stripes == 1:
            page = self._table.query(PARTITION, key(txid), limit)
            return [item for _, item in page.items], page.more
        each = max(2 * limit // stripes, _LEAST_PAGE)
        pages: list[Page] = self._gather(
            [partial(self._table.query, name, key(txid), each) for name in partitions(stripes)]
        )
        rows = sorted((row for page in pages for row in page.items), key=itemgetter(0))
        ends = [page.items[-1][0] if page.items else "" for page in pages if page.more]
        some = [item for name, item in rows if not ends or name <= min(ends)][:limit]
        return some, bool(ends) or len(some) < len(rows)

    def tail(self, txid: int, upto: int | None = None) -> tuple[list[Entry], bool]:
        """As :meth:`after`, for who knows that no entry after ``txid`` was trimmed: all are young enough.

        Usually there is none, or one: with stripes that is a get or two, not a query for each.
        ``upto``: more is not needed.
        """
        entries: list[Entry] = []
        if self._stripes() > 1:
            for _ in range(_ONE_BY_ONE):
                entry = self.at(txid + 1)
                if entry is None:
                    return entries, False
                entries.append(entry)
                txid = entry.last
                if upto is not None and txid >= upto:
                    return entries, True
        more, there = self.after(txid)
        return [*entries, *more], there

    def look(self, txid: int) -> tuple[list[Entry], bool]:
        """As :meth:`after`, but none also if the entry after ``txid`` was trimmed.

        The mark is above ``txid`` then. Usually there is none: with stripes that is one get.
        """
        if self._stripes() == 1:
            return self.after(txid)
        entry = self.at(txid + 1)
        if entry is None:
            return [], False
        entries, more = self.after(entry.last)
        return [entry, *entries], more

    def at(self, first: int) -> Entry | None:
        """The entry whose key is ``first``, or None."""
        item = self._table.get(*self._place(first))
        return None if item is None else decode(item)

    def between(self, after: int, upto: int, limit: int = 100) -> tuple[list[Item], bool]:
        """Items of entries that begin in (after, upto], to :func:`decode`; whether there may be more.

        For who knows that the log reaches ``upto``: what is not there was trimmed, which shows only
        at the log's beginning.
        """
        found, more = self._found(after, limit)
        inside = [item for item in found if span(item)[0] <= upto]
        return inside, more and len(inside) == len(found)

    def holding(self, txid: int) -> Entry | None:
        """The entry that a transaction is in; if it was trimmed, or there is none, the one after it."""
        back = 1
        while True:
            low = max(txid - back, 0)
            items: list[Item] = []
            more = True
            while more:
                some, more = self.between(span(items[-1])[0] if items else low, txid)
                items += some
            if items or not low:
                break
            back *= 8
        if items and (entry := decode(items[-1])).last >= txid:
            return entry
        later = self._found(txid, 1)[0]
        return decode(later[0]) if later else None

    def as_of(self, time: int, upto: int) -> int | None:
        """The last transaction, up to ``upto``, of an entry whose time is not above ``time`` (ms).

        None: the log begins later. Takes some reads for each binary digit of the log's length.
        """
        begin = self._found(0, 1)[0]
        if not begin or decode(begin[0]).time > time:
            return None
        found = decode(begin[0])
        low, high = found.first, upto
        while low < high:
            middle = (low + high + 1) // 2
            items, _ = self.between(middle - 1, high, 1)
            entry = decode(items[0]) if items else None
            if entry is not None and entry.time <= time:
                found, low = entry, entry.first
            else:
                high = middle - 1
        return min(found.last, upto)

    def trim(self, entries: Iterable[Entry]) -> None:
        """Delete entries, for stores without a time to live."""
        self._table.delete_many([self._place(entry.first) for entry in entries], self._gather)

    def drop_parts(self, first: int) -> None:
        """Delete the remaining parts of entries below the one that begins with this txid.

        Also those of failed attempts to append them. The entries themselves must be gone.
        """
        for name in partitions(self._stripes()):
            self._table.drop_parts(name, key(first), self._gather)
