"""Counts and sessions at the end of the log, for who only looks."""

from __future__ import annotations

from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.log import Log
from faaskeeper.core.sessions import Session
from faaskeeper.core.tally import Tally

_PAGES = 20


def current(log: Log, checkpoints: Checkpoints) -> Tally | None:
    """The counts at the log's end: the header's, updated by the log after it, which is short.

    None if unknown: the deployment was set up by a release that did not count, or the checkpoint is
    so far behind that counting would take long.
    """
    header = checkpoints.header()
    tally, txid, more = header.tally, header.txid, True
    for _ in range(_PAGES):
        if tally is None or not more:
            return tally
        entries, more = log.after(txid)
        for entry in entries:
            tally, txid = tally.after(entry.transactions), entry.last
    return None


def open_sessions(log: Log, checkpoints: Checkpoints, now: int) -> list[Session]:
    """The sessions that are open at the log's end, with their ephemerals.

    ``now``: the service's clock, ms. Raises StaleView, DriverError.
    """
    header, sessions = checkpoints.load(now)
    txid, more = header.txid, True
    while more:
        entries, more = log.after(txid)
        for entry in entries:
            sessions.fold(entry)
            txid = entry.last
    return [each for each in sessions if not each.closed]
