"""Sessions that processes go on with: an incarnation is one process, and the last one accepted counts."""

from __future__ import annotations

import pytest

from faaskeeper.core.errors import Code
from faaskeeper.core.requests import (
    MAX_INCARNATION,
    Close,
    Create,
    Message,
    Operation,
    Outcome,
    Reply,
    Request,
    Resume,
    inline,
)
from faaskeeper.core.sessions import next_incarnation
from tests.bare import Bare, BareSession


@pytest.fixture(params=["inline", "own distributor"])
def bare(request: pytest.FixtureRequest) -> Bare:
    return Bare(own_distributor=request.param == "own distributor")


def create(path: str) -> Create:
    return Create(path, inline(b""))


class Process:
    """A process that has a session's ticket, of when the session was at an incarnation."""

    def __init__(self, session: BareSession, incarnation: int, ticket: int = 0) -> None:
        self.session = session
        self.incarnation = incarnation
        self.after = ticket

    def message(self, cxid: int, operation: Operation, acked: int = 0) -> Message:
        session = self.session
        return Message(session.id, self.incarnation, acked, session.name, (Request(cxid, operation),))

    def resume(self) -> Message:
        return self.message(0, Resume(self.after))

    def told(self, *messages: Message) -> list[Reply]:
        """What the session is told when these messages come together."""
        for message in messages:
            self.session.send(message)
        self.session.bare.pump()
        return [each for each in self.session.receive() if isinstance(each, Reply)]

    def outcome(self, cxid: int, operation: Operation, acked: int = 0) -> Outcome:
        (reply,) = self.told(self.message(cxid, operation, acked))
        ((number, outcome),) = reply.outcomes
        assert (reply.incarnation, number) == (self.incarnation, cxid)
        return outcome

    def goes_on(self) -> None:
        """Resume, drawing again where another was faster."""
        (reply,) = self.told(self.resume())
        if reply.outcomes[0][1].code is Code.SESSION_MOVED:
            self.after, self.incarnation = reply.current, reply.current + 10
            (reply,) = self.told(self.resume())
        assert reply.outcomes[0][1].code is Code.OK


def there(bare: Bare, path: str) -> bool:
    record = bare.deployment.records.get(path)
    return record is not None and record.meta is not None


def test_processes_with_one_ticket_each_have_requests_of_their_own(bare: Bare) -> None:
    session = bare.session()
    for number in range(1, 6):
        process = Process(session, number)
        process.goes_on()
        for cxid in range(1, number + 1):
            assert process.outcome(cxid, create(f"/{number}-{cxid}"), cxid - 1).path == f"/{number}-{cxid}"
    assert all(there(bare, f"/{number}-{number}") for number in range(1, 6))


def test_the_same_resume_again_is_a_repetition_that_keeps_what_was_decided(bare: Bare) -> None:
    process = Process(bare.session(), 7)
    process.goes_on()
    first = process.outcome(1, create("/s"))
    (again,) = process.told(process.resume())
    assert again.outcomes[0][1].code is Code.OK
    assert process.outcome(1, create("/s")) == first
    assert process.outcome(2, create("/t")).code is Code.OK


def test_who_is_late_is_told_the_incarnation_to_begin_above(bare: Bare) -> None:
    session = bare.session()
    Process(session, 50).goes_on()
    late = Process(session, 30)
    (reply,) = late.told(late.resume())
    assert (reply.incarnation, reply.outcomes[0][1].code, reply.current) == (30, Code.SESSION_MOVED, 50)
    again = Process(session, 80, ticket=50)
    (reply,) = again.told(again.resume())
    assert (reply.outcomes[0][1].code, reply.current) == (Code.OK, 0)


def test_a_greater_draw_from_an_old_ticket_takes_the_session_only_when_it_knows_whose_place_it_takes(
    bare: Bare,
) -> None:
    session = bare.session()
    alive, late = Process(session, 50), Process(session, 90)
    alive.goes_on()
    (reply,) = late.told(late.resume())
    assert (reply.outcomes[0][1].code, reply.current) == (Code.SESSION_MOVED, 50)
    assert alive.outcome(1, create("/alive")).code is Code.OK


@pytest.mark.parametrize("delivered", [True, False])
def test_a_resume_of_a_dead_process_that_comes_late_takes_the_session_from_nobody(
    bare: Bare, delivered: bool
) -> None:
    session = bare.session()
    dead, alive = Process(session, 90), Process(session, 50)
    if delivered:
        dead.goes_on()
    alive.goes_on()
    for cold in (False, True):
        if cold:
            bare.recycle()
        (reply,) = dead.told(dead.resume())
        assert reply.outcomes[0][1].code is Code.SESSION_MOVED
        assert alive.outcome(1 + cold, create(f"/alive-{cold}")).code is Code.OK


def test_two_that_resume_in_one_batch_both_end_with_a_number_or_the_others(bare: Bare) -> None:
    session = bare.session()
    one, two = Process(session, 40), Process(session, 60)
    first, second = one.told(one.resume(), two.resume())
    assert (first.incarnation, first.outcomes[0][1].code) == (40, Code.OK)
    assert (second.incarnation, second.outcomes[0][1].code, second.current) == (60, Code.SESSION_MOVED, 40)
    two.after = 40
    two.goes_on()
    assert two.outcome(1, create("/two")).path == "/two"
    assert one.outcome(1, create("/one")).code is Code.SESSION_MOVED
    assert not there(bare, "/one")


def test_a_client_of_before_that_names_nobody_goes_on_above_what_it_knows(bare: Bare) -> None:
    session = bare.session()
    Process(session, 1, ticket=-1).goes_on()
    old = Process(session, 1, ticket=-1)
    assert old.told(old.message(0, Resume(-1)))[0].outcomes[0][1].code is Code.OK
    Process(session, 2, ticket=-1).goes_on()
    assert old.outcome(1, create("/old")).code is Code.SESSION_MOVED


def test_requests_of_an_incarnation_that_was_never_let_in_are_refused(bare: Bare) -> None:
    process = Process(bare.session(), 5)
    assert process.outcome(1, create("/n")).code is Code.SESSION_MOVED
    assert not there(bare, "/n")


def test_a_resume_of_a_session_that_is_over_is_told_so(bare: Bare) -> None:
    session = bare.session()
    session.do(Close())
    process = Process(session, 5)
    assert process.outcome(0, Resume(0)).code is Code.SESSION_EXPIRED


def test_a_request_whose_outcome_is_not_kept_is_told_that_it_was_decided(bare: Bare) -> None:
    process = Process(bare.session(), 0)
    for cxid in range(1, 4):
        assert process.outcome(cxid, create(f"/n{cxid}"), cxid - 1).code is Code.OK
    for cold in (False, True):
        if cold:
            bare.recycle()
        told = [process.outcome(cxid, create(f"/n{cxid}"), 2).code for cxid in (1, 2, 3)]
        assert told == [Code.FORGOTTEN, Code.FORGOTTEN, Code.OK]
    again = process.message(4, create("/n4"), 3)
    replies = process.told(again, again)  # decided in this batch: told with it, once
    assert [(cxid, each.code) for reply in replies for cxid, each in reply.outcomes] == [(4, Code.OK)]


def test_a_client_that_has_the_answer_ignores_that_it_is_not_kept(bare: Bare) -> None:
    session = bare.session()
    session.ask(create("/a"))
    copy = bare.worker_queue.held[0]
    bare.pump()
    session.receive()
    session.do(create("/b"))
    waiting = session.ask(create("/c"))
    bare.worker_queue.held.insert(0, copy)
    bare.pump()
    session.receive()
    assert waiting.get(0).code is Code.OK
    assert session.do(create("/d")).code is Code.OK


def test_numbers_are_the_process_s_own_and_last_for_a_million_reattachments() -> None:
    assert next_incarnation(41, lambda length: b"\0" * length) == 42
    most = next_incarnation(0, lambda length: b"\xff" * length)
    assert most >= 2**40
    assert most * 1_000_000 < MAX_INCARNATION
