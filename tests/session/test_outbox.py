"""The outbox: each answer is taken once, in the order of the requests, and nothing of it stays."""

from __future__ import annotations

from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Outcome, SetData, inline
from faaskeeper.session.outbox import Outbox


def test_an_answer_that_came_early_and_again_in_its_turn_is_taken_once_and_forgotten() -> None:
    outbox: Outbox[str] = Outbox()
    for number in range(3):
        outbox.add(SetData("/a", inline(b"")), f"waiter {number}", ())
    outbox.take(False)
    done = Outcome(Code.OK, 1)
    assert outbox.answered([(2, done)]) == []
    first = outbox.answered([(1, done), (2, done), (3, done)])
    assert [each.request.cxid for each, _ in first] == [1, 2, 3]
    assert outbox.answered([(2, done), (3, done)]) == []
    assert outbox.empty
