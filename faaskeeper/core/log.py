"""The log: the truth. Appending an entry under a key that never existed is the only commit there is.

An entry holds one batch: transactions ``first`` to ``last`` and the outcome of every request of the
batch. Its key is ``first``; the next entry's key is ``last + 1``. Putting an entry is conditional
on the absence of its key, so of any number of writers that judged against the same head one
wins, and the others read what it wrote.

Retention: entries are trimmed after :data:`RETENTION_MS`, so "absent" means "nobody wrote it" only to
a writer that knew the end of the log recently. :class:`~faaskeeper.core.view.View` keeps that time
(``asof``) and :meth:`Log.append` refuses to act on a judgement older than :data:`APPEND_WITHIN_MS`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, NamedTuple

from faaskeeper.core import codec
from faaskeeper.core.changes import Transaction
from faaskeeper.core.errors import StaleView
from faaskeeper.core.requests import Outcome
from faaskeeper.core.storage import Gather, IfAbsent, Item, Table, Write, in_turn
from faaskeeper.core.wide import WideTable

_DAY_MS = 24 * 3600 * 1000
RETENTION_MS = 7 * _DAY_MS
"""How long the store keeps entries."""
VIEW_VALID_MS = 3 * _DAY_MS
"""How long a view may be used after its head was last known to be the end of the log."""
CHECKPOINT_VALID_MS = 5 * _DAY_MS
"""How old a checkpoint may be to start from."""
APPEND_WITHIN_MS = 15 * 60 * 1000
"""How long after judging a batch its entry may still be put."""
AHEAD_MS = _DAY_MS // 2
"""How far another's note of when the log's end was known may lie ahead of our clock: then it counts as just
made. One further ahead tells nothing, since one of the clocks is wrong. This much longer, at most, a note
counts as valid."""

PARTITION = "log"
ENTRY_BYTES = 256 * 1024
"""A batch is closed when its requests are about this large, so that an entry fits a table's item."""


class Answers(NamedTuple):
    """Outcomes of one session's requests in one batch: (cxid, outcome), in order.

    ``acked``: the session's outcomes up to it may be forgotten. ``address``: where to answer.
    """

    session: int
    incarnation: int
    acked: int
    address: str
    outcomes: tuple[tuple[int, Outcome], ...]


class Entry(NamedTuple):
    """One batch. ``time``: of judging, ms, by the log's own time, which never goes back: no age of anything
    but what the log holds may be taken from it (:class:`~faaskeeper.core.clocks.LogClock`)."""

    first: int
    last: int
    time: int
    transactions: tuple[Transaction, ...]
    answers: tuple[Answers, ...]


class Trimmed(StaleView):
    """Entries that were asked for are no longer there: ``first`` is the oldest one found."""

    def __init__(self, first: int) -> None:
        super().__init__(f"the log begins at {first}")
        self.first = first


def key(txid: int) -> str:
    """Key of the entry that begins with a txid; ordered as the txids are."""
    return f"{txid:016d}"


def encode(entry: Entry) -> Item:
    """The entry as an item of a table."""
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
    """The entry of an item."""
    fields: dict[str, Any] = item
    cursor = codec.cursor(fields["data"])
    return Entry(
        fields["first"],
        fields["stamp"],
        fields["time"],
        tuple(codec.to_transaction(each, cursor) for each in fields["transactions"]),
        tuple(_answers(each) for each in fields["answers"]),
    )


def _check_age(age: int) -> None:
    if abs(age) > APPEND_WITHIN_MS:  # below zero: the clock was set back meanwhile, and tells nothing
        raise StaleView("the batch was judged too long ago to append it")


class Log:
    """The log in a table. ``gather``: how entries are deleted side by side. ``random``: see
    :class:`~faaskeeper.core.wide.WideTable`."""

    def __init__(
        self,
        table: Table,
        gather: Gather[Any] = in_turn,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._table = WideTable(table, "", random)
        self._gather = gather

    def append(self, entry: Entry, age: int) -> None:
        """Put the entry if its key is absent. ``age``: how long ago it was judged, just before the call, ms.

        Raises Conflict (another entry is there), Unavailable (unknown), or StaleView when the
        judgement is older than an append may be.
        """
        _check_age(age)
        self._table.put(PARTITION, key(entry.first), encode(entry), IfAbsent())

    def write_of(self, entry: Entry, age: int) -> Write | None:
        """The append as a put to be made together with others; None where it takes more than one."""
        _check_age(age)
        item = encode(entry)
        if not self._table.single(PARTITION, key(entry.first), item):
            return None
        return Write("log", PARTITION, key(entry.first), item, IfAbsent())

    def after(self, txid: int, limit: int = 100) -> tuple[list[Entry], bool]:
        """Entries from ``txid + 1`` on, at most ``limit``, and whether there may be more.

        ``txid`` must be 0 or the last of an entry. Raises Trimmed where the first found does not
        follow on it.
        """
        page = self._table.query(PARTITION, key(txid), limit)
        entries = [decode(item) for _, item in page.items]
        for entry in entries:
            if entry.first != txid + 1:
                raise Trimmed(entry.first)
            txid = entry.last
        return entries, page.more

    def at(self, first: int) -> Entry | None:
        """The entry whose key is ``first``, or None."""
        item = self._table.get(PARTITION, key(first))
        return None if item is None else decode(item)

    def trim(self, entries: Iterable[Entry]) -> None:
        """Delete entries, side by side, for stores without a time to live of their own."""
        self._gather([partial(self._table.delete, PARTITION, key(entry.first)) for entry in entries])

    def drop_parts(self, first: int) -> None:
        """Delete what is left of entries below one that begins with this txid, and of attempts to append
        them: there are no such entries any more.
        """
        self._table.drop_parts(PARTITION, key(first))
