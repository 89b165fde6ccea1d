"""What is over leaves nothing behind, whichever of several processes comes last."""

from __future__ import annotations

import pytest

from faaskeeper.core.errors import Code, Conflict
from faaskeeper.core.log import Answers, Entry
from faaskeeper.core.requests import Outcome
from faaskeeper.core.sessions import Session, Sessions
from faaskeeper.core.storage import IfOlder
from faaskeeper.core.transactions import Transaction
from faaskeeper.core.wide import WideTable
from faaskeeper.providers.memory import MemoryTable


def test_who_lost_to_an_equal_item_in_parts_deletes_those_when_it_replaces_it() -> None:
    table = MemoryTable(max_item_bytes=500)
    one, other = WideTable(table), WideTable(table)
    wide = {"stamp": 1, "data": b"x" * 2_000}
    one.put("p", "k", dict(wide), IfOlder(1))
    with pytest.raises(Conflict):
        other.put("p", "k", dict(wide), IfOlder(1))
    other.put("p", "k", {"stamp": 2, "data": b"small"}, IfOlder(2))
    assert table.query("parts p", "", 100).items == []


def test_outcomes_that_a_session_is_known_to_have_do_not_come_back_when_the_log_is_folded_again() -> None:
    sessions = Sessions()
    session = Session(1, "nonce", b"", 10_000)
    session.last, session.acked = 5, 4
    session.outcomes = {5: Outcome(Code.OK, 9)}
    sessions.add(session)  # a checkpoint's row, which has gone on beyond its header
    answers = Answers(1, 0, 1, "here", ((2, Outcome(Code.OK, 6)), (3, Outcome(Code.OK, 6))))
    sessions.fold(Entry(6, 6, 0, (Transaction(6, ()),), (answers,)))
    assert list(session.outcomes) == [5]
    assert (session.last, session.acked) == (5, 4)
