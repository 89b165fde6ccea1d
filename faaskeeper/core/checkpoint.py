"""The checkpoint (the fold of the log into sessions, as of a txid) and the mark ``applied``.

A checkpoint is rows, one per session that changed since the one before, then a header with the txid
and the time at which that txid was last known to be the end of the log. Rows and header are put only
over older ones. Invariant: every row holds a state at or after the header's txid, so whoever
reads the header first, then the rows, and folds the log after the header, is at the log's end.

The mark is a lower bound: every record of every transaction up to it is in user storage, and every
watch event up to it has been handed on. Losing a newer mark or checkpoint costs work, not correctness.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

from faaskeeper.core import codec
from faaskeeper.core.clocks import carried
from faaskeeper.core.errors import Conflict, StaleView
from faaskeeper.core.log import AHEAD_MS, CHECKPOINT_VALID_MS
from faaskeeper.core.sessions import CLOSED_KEPT_MS, OUTCOMES_KEPT_MS, Session, Sessions
from faaskeeper.core.storage import Gather, IfOlder, IfStamp, Item, Table, every, in_turn
from faaskeeper.core.tally import Tally, beginning
from faaskeeper.core.wide import WideTable

_HEADER = ("checkpoint", "header")
_MARK = ("checkpoint", "applied")
_ROWS = "session"


class Header(NamedTuple):
    """``txid``: the rows hold at least the state as of it. ``asof``: ms, when it was the log's end, by the
    service's clock. ``time``: ms, what the log's own time was then, at least (0: not known). ``tally``: what
    there is as of ``txid``, None where the deployment is older than such counts.
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

    ``expiring``: the log's store trims by itself, so an old checkpoint may have lost what follows it.
    ``gather``: how rows are put side by side. ``random``: see :class:`~faaskeeper.core.wide.WideTable`.
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
        """Put the checkpoint and mark of an empty log, unless there are some."""
        for (partition, key), item in (
            (_MARK, {"stamp": 0}),
            (_HEADER, _header(Header(0, now, 0, beginning()))),
        ):
            try:
                self._table.put(partition, key, dict(item), IfOlder(0))
            except Conflict:
                pass  # this deployment began before

    def applied(self) -> int:
        """The mark."""
        item = self._table.get(*_MARK)
        return 0 if item is None else int(item["stamp"])  # type: ignore[arg-type]

    def mark(self, applied: int) -> None:
        """Raise the mark; a higher one stays."""
        try:
            self._table.put(*_MARK, {"stamp": applied}, IfOlder(applied))
        except Conflict:
            pass  # another saved this or a higher one

    def header(self) -> Header:
        """The header. Raises StaleView where there is none: nobody began this deployment."""
        item = self._table.get(*_HEADER)
        if item is None:
            raise StaleView("this deployment has no checkpoint: it was never set up, or not whole")
        fields: dict[str, Any] = item
        tally = Tally(fields["nodes"], fields["size"], fields["ephemerals"]) if "nodes" in fields else None
        self._latest = Header(fields["stamp"], fields["asof"], fields.get("time", 0), tally)
        return self._latest

    def latest(self) -> Header:
        """The header that was read or written last by this process; the stored one may be newer."""
        return self._latest or self.header()

    def load(self, now: int) -> tuple[Header, Sessions]:
        """Header and sessions to fold the log after the header into.

        Raises StaleView when the log after the checkpoint may have been trimmed.
        """
        header = self.header()
        if not self._expiring:
            time = carried(header.time, header.asof, now)
            return Header(header.txid, now, time, header.tally), self._sessions()
        if now - header.asof < -AHEAD_MS:
            hours = (header.asof - now) // 3_600_000
            raise StaleView(
                f"the checkpoint was saved {hours} hours later than this machine's clock shows: set the "
                "clock that is wrong, this one or that of a process that wrote before"
            )
        if now - header.asof > CHECKPOINT_VALID_MS:
            raise StaleView(
                "the checkpoint is older than the log is kept: heartbeat has not run for days; "
                "restore the log's table from a backup before writing again"
            )
        return header, self._sessions()

    def _sessions(self) -> Sessions:
        sessions = Sessions()
        for key, item in every(self._table, _ROWS):
            sessions.add(_session(key, item))
        return sessions

    def save(self, header: Header, sessions: Sessions, clock: Callable[[], int]) -> None:
        """Save the sessions that changed, then the header. Sessions closed for a day, by the log's own time,
        are dropped.

        Raises StaleView when that takes so long that a session may have been dropped meanwhile: its row must
        not come back.
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
            raise StaleView("what is to be saved is half a day old")
        try:
            row = _row(session, header)
            self._table.put(_ROWS, _key(session.id), row, IfOlder(header.txid))
        except Conflict:
            pass  # another saved this or a newer state

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
                    pass  # another saved a newer one meanwhile
