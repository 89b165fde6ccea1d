"""The checkpoint (the fold of the log into sessions, as of a txid) and the applied mark.

A checkpoint consists of rows, one for each session that changed since the previous checkpoint, and
a header, written after them. The header has the txid and the time at which that txid was last known
to be the end of the log. Rows and header replace only older ones. Invariant: every row holds a
state at or after the header's txid. So a process that reads the header, then the rows, and folds
the log after the header, is at the log's end.

The mark is a lower bound: user storage has every record of every transaction up to it, and every
watch event up to it was passed on. Losing a newer mark or checkpoint costs work, not correctness.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any

from faaskeeper.core import codec
from faaskeeper.core.clocks import carried
from faaskeeper.core.drivers.storage import Gather, IfOlder, IfStamp, Item, Table, every, in_turn
from faaskeeper.core.errors import Conflict, Restoring, StaleView
from faaskeeper.core.log import AHEAD_MS, CHECKPOINT_VALID_MS
from faaskeeper.core.sessions import CLOSED_KEPT_MS, OUTCOMES_KEPT_MS, Session, Sessions
from faaskeeper.core.tally import Tally, beginning
from faaskeeper.core.tuples import NamedTuple
from faaskeeper.core.wide import WideTable

_HEADER = ("checkpoint", "header")
_MARK = ("checkpoint", "applied")
_ROWS = "session"


class Header(NamedTuple):
    """The header of a checkpoint.

    ``txid``: the rows hold at least the state as of it. ``asof``: when it was the log's end, in ms
    by the service's clock. ``time``: a lower bound of the log's own time then, in ms (0: unknown).
    ``tally``: the counts as of ``txid``; None if the deployment is older than such counts.
    """

    txid: int
    asof: int
    time: int
    tally: Tally | None = None


def _key(session: int) -> str:
    return f"{session:016d}"


def _header(header: Header) -> Item:
    item: Item = {"stamp": header.txid, "asof": header.asof, "time": header.time}
    if header.tally is not None:
        item.update(header.tally._asdict())
    return item


def _header_of(fields: dict[str, Any]) -> Header:
    tally = Tally(fields["nodes"], fields["size"], fields["ephemerals"]) if "nodes" in fields else None
    return Header(fields["stamp"], fields["asof"], fields.get("time", 0), tally)


def _row(session: Session, header: Header) -> Item:
    kept = not session.closed or header.time - session.closed < OUTCOMES_KEPT_MS
    outcomes = session.outcomes if kept else {}
    return {
        "stamp": header.txid,
        "nonce": session.nonce,
        "sealed": session.sealed,
        "timeout": session.timeout,
        "address": session.address,
        "incarnation": session.incarnation,
        "last": session.last,
        "acked": session.acked,
        "closed": session.closed,
        "outcomes": [codec.text([cxid, *codec.outcome(each)]) for cxid, each in outcomes.items()],
        "ephemerals": sorted(session.ephemerals),
    }


def _session(key: str, item: Item) -> Session:
    row: dict[str, Any] = item
    session = Session(int(key), row["nonce"], row["sealed"], row["timeout"])
    session.address = row["address"]
    session.incarnation = row["incarnation"]
    session.last = row["last"]
    session.acked = row["acked"]
    session.closed = row["closed"]
    for encoded in row["outcomes"]:
        cxid, *outcome = codec.parse(encoded)
        session.outcomes[cxid] = codec.to_outcome(outcome)
    session.ephemerals = set(row["ephemerals"])
    return session


class Checkpoints:
    """Checkpoint and mark in a table.

    ``expiring``: the log's store trims itself, so the log after an old checkpoint may be gone.
    ``gather``: runs the puts of rows in parallel. ``random``: see
    :class:`~faaskeeper.core.wide.WideTable`.
    """

    def __init__(
        self,
        table: Table,
        *,
        expiring: bool,
        gather: Gather[Any] = in_turn,
        random: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self.wide = self._table = WideTable(table, random=random)
        self._expiring = expiring
        self._gather = gather
        self._latest: Header | None = None

    def begin(self, now: int) -> None:
        """Put the checkpoint and mark of an empty log, unless they exist."""
        for (partition, key), item in (
            (_MARK, {"stamp": 0}),
            (_HEADER, _header(Header(0, now, 0, beginning()))),
        ):
            try:
                self._table.put(partition, key, dict(item), IfOlder(0))
            except Conflict:
                pass  # the deployment was set up before

    def exist(self) -> bool:
        """Whether the deployment was set up, perhaps not completely."""
        return self._table.get(*_HEADER) is not None

    def applied(self) -> int:
        """Read the mark."""
        item = self._table.get(*_MARK)
        return 0 if item is None else int(item["stamp"])  # type: ignore[arg-type]

    def mark(self, applied: int) -> None:
        """Raise the mark; a higher one stays."""
        try:
            self._table.put(*_MARK, {"stamp": applied}, IfOlder(applied))
        except Conflict:
            pass  # another process saved this mark or a higher one

    def header(self) -> Header:
        """Read the header.

        Raises StaleView if there is none (the deployment was not set up), or Restoring.
        """
        fields = self._fields()
        if "restoring" in fields:
            raise Restoring(fields["stamp"], fields["restoring"])
        self._latest = _header_of(fields)
        return self._latest

    def _fields(self) -> dict[str, Any]:
        item = self._table.get(*_HEADER)
        if item is None:
            raise StaleView("this deployment has no checkpoint: it was never set up, or not completely")
        return dict(item)

    def latest(self) -> Header:
        """The header that this process read or wrote last; the stored one may be newer."""
        return self._latest or self.header()

    def load(self, now: int) -> tuple[Header, Sessions]:
        """Header and sessions, into which the caller folds the log after the header.

        Raises StaleView when the log after the checkpoint may have been trimmed.
        """
        header = self.header()
        if not self._expiring:
            time = carried(header.time, header.asof, now)
            return Header(header.txid, now, time, header.tally), self._sessions()
        if now - header.asof < -AHEAD_MS:
            hours = (header.asof - now) // 3_600_000
            raise StaleView(
                f"the checkpoint was saved {hours} hours after this machine's current time: correct the "
                "clock that is wrong, here or on the machine that wrote the checkpoint"
            )
        if now - header.asof > CHECKPOINT_VALID_MS:
            raise StaleView(
                "the checkpoint is older than the log's retention: heartbeat has not run for days; "
                "restore the log's table from a backup before writing again"
            )
        return header, self._sessions()

    # ---- restoring a backup --------------------------------------------------------------

    def bar(self, base: int, of: str) -> None:
        """Keep everything but a restore out, from the transaction ``base`` on, until the next save.

        ``of``: the backup. What it replaces stays for :meth:`barred`. May be repeated.
        """
        fields = self._fields()
        if fields["stamp"] < base:
            before = fields["stamp"]
            item: Item = {**fields, "stamp": base, "restoring": of, "before": before}
            try:
                self._table.put(*_HEADER, item, IfOlder(base))
            except Conflict:
                pass  # the same restore, by another process

    def barred(self) -> tuple[Header, Sessions]:
        """Header and sessions from before a restore that is under way."""
        fields = self._fields()
        if "restoring" in fields:
            fields["stamp"] = fields["before"]
        return _header_of(fields), self._sessions()

    def _sessions(self) -> Sessions:
        sessions = Sessions()
        for key, item in every(self._table, _ROWS):
            sessions.add(_session(key, item))
        return sessions

    def save(self, header: Header, sessions: Sessions, clock: Callable[[], int]) -> None:
        """Save the sessions that changed, then the header.

        Deletes the rows of sessions that were closed a day ago, by the log's own time. Raises
        StaleView when saving takes so long that a row may have been deleted meanwhile: it must not
        come back.
        """
        changed = [session for id in sorted(sessions.changed) if (session := sessions.get(id)) is not None]
        self._gather([partial(self._put_row, session, header, clock) for session in changed])
        self._put_header(header)
        sessions.changed.clear()
        closed = {each.id: each.closed for each in sessions if each.closed and not each.closing}
        for id, time in {**sessions.forgotten, **closed}.items():
            if header.time - time > CLOSED_KEPT_MS:
                self._table.delete(_ROWS, _key(id))
                sessions.forget(id)
                sessions.forgotten.pop(id, None)

    def _put_row(self, session: Session, header: Header, clock: Callable[[], int]) -> None:
        if abs(clock() - header.asof) > CLOSED_KEPT_MS // 2:
            raise StaleView("the sessions to save are as of half a day ago")
        try:
            row = _row(session, header)
            self._table.put(_ROWS, _key(session.id), row, IfOlder(header.txid))
        except Conflict:
            pass  # another process saved this state or a newer one

    def _put_header(self, header: Header) -> None:
        item = _header(header)
        try:
            self._table.put(*_HEADER, item, IfOlder(header.txid))
            self._latest = header
        except Conflict:
            there = self.header()
            if there.txid == header.txid and there.asof < header.asof:
                try:
                    self._table.put(*_HEADER, item, IfStamp(header.txid))
                    self._latest = header
                except Conflict:
                    pass  # another process saved a newer one meanwhile
