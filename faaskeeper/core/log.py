"""The log is the source of truth. Appending an entry under an absent key is the only commit.

An entry holds one batch: transactions ``first`` to ``last`` and the outcome of every request of the
batch. Its key is ``first``; the next entry's key is ``last + 1``. An entry is put on condition that
its key is absent. So of any number of writers that validated against the same head, one wins, and
the others read its entry.

Retention: entries are trimmed after :data:`RETENTION_MS`, so "absent" means "never written" only to
a writer that knew the end of the log recently. :class:`~faaskeeper.core.view.View` keeps that time
(``asof``), and :meth:`Log.append` refuses a batch that was validated more than
:data:`APPEND_WITHIN_MS` ago.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from faaskeeper.core import codec
from faaskeeper.core.changes import Transaction
from faaskeeper.core.drivers.storage import Gather, IfAbsent, Item, Table, Write, in_turn
from faaskeeper.core.errors import StaleView
from faaskeeper.core.requests import Outcome
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
"""A batch is closed when its requests reach about this size, so that an entry fits a table's
item."""


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


def _check_age(age: int) -> None:
    if abs(age) > APPEND_WITHIN_MS:  # negative: the clock was set back; the age is unknown
        raise StaleView("the batch was validated too long ago to append it")


class Log:
    """The log in a table.

    ``gather``: runs deletions of entries in parallel. ``random``: see
    :class:`~faaskeeper.core.wide.WideTable`.
    """

    def __init__(
        self,
        table: Table,
        gather: Gather[Any] = in_turn,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._table = WideTable(table, "", random)
        self._gather = gather

    def append(self, entry: Entry, age: int) -> None:
        """Put the entry if its key is absent.

        ``age``: ms between validation and the moment just before this call. Raises Conflict
        (another entry is there), Unavailable (unknown), or StaleView when the validation was too
        long ago.
        """
        _check_age(age)
        self._table.put(PARTITION, key(entry.first), encode(entry), IfAbsent())

    def write_of(self, entry: Entry, age: int) -> Write | None:
        """The append as one of several joint puts; None if it takes more than one put."""
        _check_age(age)
        item = encode(entry)
        if not self._table.single(PARTITION, key(entry.first), item):
            return None
        return Write("log", PARTITION, key(entry.first), item, IfAbsent())

    def after(self, txid: int, limit: int = 100) -> tuple[list[Entry], bool]:
        """Entries from ``txid + 1`` on, at most ``limit``, and whether there may be more.

        ``txid``: 0, or the last txid of an entry. Raises Trimmed if the first entry found does not
        follow it.
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
        """Delete entries, for stores without a time to live."""
        self._table.delete_many([(PARTITION, key(entry.first)) for entry in entries], self._gather)

    def drop_parts(self, first: int) -> None:
        """Delete the remaining parts of entries below the one that begins with this txid.

        Also those of failed attempts to append them. The entries themselves must be gone.
        """
        self._table.drop_parts(PARTITION, key(first), self._gather)
