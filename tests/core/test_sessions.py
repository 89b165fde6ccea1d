"""What is known of sessions, folded from the log over a checkpoint."""

from __future__ import annotations

from faaskeeper.core.changes import Closed, Opened, Transaction
from faaskeeper.core.log import Entry
from faaskeeper.core.sessions import CLOSED_KEPT_MS, Session, Sessions


def test_a_session_of_a_checkpoint_is_known_by_its_nonce_after_an_earlier_one_was_folded_and_forgotten() -> (
    None
):
    """A copy of an Open opened a session anew after the first had been forgotten; the load took days."""
    sessions = Sessions()
    sessions.add(Session(30, "nonce", b"sealed", 4_000))
    later = CLOSED_KEPT_MS + 1_000
    for txid, time, effect in (
        (10, 0, Opened("nonce", b"sealed", 4_000)),
        (20, 500, Closed(10)),
        (30, later, Opened("nonce", b"sealed", 4_000)),
        (40, later + 1, Closed(99)),
    ):
        sessions.fold(Entry(txid, txid, time, (Transaction(txid, (), (effect,)),), ()))
    assert sessions.get(10) is None
    assert sessions.opened_by("nonce") == 30
