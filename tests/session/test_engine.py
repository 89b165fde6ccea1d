"""What a session decides, without the threads or the loop that perform it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Epoch, Notification, Outcome, Reply
from faaskeeper.exceptions import (
    FaaSKeeperException,
    NoAuthException,
    NodeExistsException,
    SessionExpiredException,
    TooLargeException,
)
from faaskeeper.session.arguments import NodeKind
from faaskeeper.session.calls import Calls, Write
from faaskeeper.session.commands import Forget, PutWatch, ReadLease, ReadMark, RenewLease, Steps
from faaskeeper.session.engine import Engine
from faaskeeper.session.incarnation import Answered
from faaskeeper.session.opening import Step
from faaskeeper.session.states import SessionState, Ticket
from faaskeeper.testing.conformance.memory import MemorySystem

Box = list[Any]
"""A future: empty, or with what it got."""
OK = Outcome(Code.OK, 1)


class Shell(Engine[Box]):
    """A shell without I/O: callbacks run at once."""

    def call_later(self, callback: Callable[[], Any]) -> None:
        callback()

    def _succeed(self, future: Box, result: Any) -> None:
        future.append(result)

    def _fail(self, future: Box, error: BaseException) -> None:
        future.append(error)

    def ask(self, write: Write) -> Box:
        self.add(write, [], ())
        return self.outbox.waiters()[-1].future

    def receive(self, message: Reply | Notification) -> Any:
        """What a message leads to, where its epoch needs no reads."""
        return result_of(self.received(message))


def result_of(steps: Steps, *answers: Any) -> Any:
    """The result of steps whose commands have these answers."""
    if answers:
        steps.send(None)
    try:
        for answer in answers or (None,):
            steps.send(answer)
    except StopIteration as done:
        return done.value
    raise AssertionError("the steps go on")


@pytest.fixture
def system() -> Iterator[MemorySystem]:
    system = MemorySystem()
    yield system
    system.stop()


@pytest.fixture
def opened(system: MemorySystem) -> Shell:
    return begun(system)


def begun(system: MemorySystem, ticket: Ticket | None = None, connection: Connection | None = None) -> Shell:
    """A session, open or being resumed; ``connection``: not open yet."""
    states: list[Any] = []
    opening = connection is None and ticket is None
    connection = connection or system.connect(system.config, 0)
    made = Shell(
        connection,
        [states.append],
        lambda callback, event: callback(event),
        threading.Lock,
        timeout=10.0,
        random=bytes,
        ticket=ticket,
    )
    if opening:
        assert result_of(made.prepare()) is None
        (message,) = made._opening.messages
        nonce = message.requests[0].operation.nonce  # type: ignore[union-attr]
        assert made.receive(reply(session=7, nonce=nonce)) is Step.BEGUN
    return made


def reply(*outcomes: tuple[int, Outcome], session: int = 7, nonce: str = "") -> Reply:
    return Reply(session, 0, outcomes, Epoch(0, 0, ()), 0, nonce=nonce)


def write(shell: Shell, path: str = "/n") -> Write:
    calls = Calls("/")
    calls.begin(shell.rules, shell.connection)
    return calls.delete(path, -1)


def test_an_answer_settles_its_request_with_the_result_or_the_error(opened: Shell) -> None:
    one, two = opened.ask(write(opened)), opened.ask(write(opened))
    answered = opened.receive(reply((1, OK), (2, Outcome(Code.NO_NODE, 1))))
    opened._settle(answered)
    assert one == [None]
    assert [str(each) for each in two] == ["the node /n does not exist"]


def test_after_an_expiry_a_request_has_failed_and_after_a_move_its_fate_is_unknown(
    opened: Shell,
) -> None:
    for code, text in (
        (Code.SESSION_EXPIRED, "^the session has expired"),
        (Code.SESSION_MOVED, "delete /n: another process has resumed .* whether it happened is not known"),
    ):
        box = opened.ask(write(opened))
        answered = opened.receive(reply((opened.outbox.acked + 1, Outcome(code, 1))))
        assert answered.over is code
        opened._settle(answered)
        assert len(box) == 1
        with pytest.raises(SessionExpiredException, match=text):
            raise box[0]


def test_only_an_expiry_ends_the_session_for_every_process(opened: Shell) -> None:
    assert not opened._ends_for_all(Code.SESSION_MOVED)
    assert opened._ends_for_all(Code.SESSION_EXPIRED)
    assert not opened._ends_for_all(Code.SESSION_MOVED)


def test_a_session_ends_once_and_its_requests_fail_with_the_first_error(opened: Shell) -> None:
    box = opened.ask(write(opened))
    first = SessionExpiredException()
    unanswered = opened._end(first)
    assert unanswered is not None
    assert opened._end(FaaSKeeperException("later")) is None
    opened._abandon(unanswered, first)
    assert [str(each) for each in box] == [f"delete /n: {first}; whether it happened is not known"]
    assert opened.state is SessionState.LOST
    assert not opened._changed(SessionState.CONNECTED)
    with pytest.raises(SessionExpiredException):
        opened.check()


def test_messages_for_others_lead_to_nothing(opened: Shell) -> None:
    opened.ask(write(opened))
    assert opened.receive(reply((1, OK), session=8)) is None
    assert opened.receive(Notification(8, Epoch(3, 3, ()))) is None
    assert opened.receive(reply(nonce="other")) is Step.IGNORED
    assert (len(opened.outbox), opened.rules.seen) == (1, 0)
    assert opened.receive(Notification(7, Epoch(3, 3, ()))) is None
    assert opened.rules.seen == 3


def test_a_renewal_reads_the_mark_only_while_there_are_watches(opened: Shell) -> None:
    before = opened.expires_ms = 0
    renewal = opened.renewal()
    command = renewal.send(None)
    assert isinstance(command, RenewLease)
    assert (command.lease.session, command.lease.version) == (7, 1)
    with pytest.raises(StopIteration):
        renewal.send(command.lease._replace(version=5))
    assert opened.expires_ms == command.lease.expires > before

    opened.rules._enter()
    renewal = opened.renewal()
    command = renewal.send(None)
    assert isinstance(command, RenewLease)
    assert command.lease.version == 5
    assert renewal.send(command.lease) == ReadMark()
    with pytest.raises(StopIteration):
        renewal.send(0)


def test_a_renewal_of_a_lost_session_returns_why(opened: Shell) -> None:
    expires = opened.expires_ms
    renewal = opened.renewal()
    renewal.send(None)
    with pytest.raises(StopIteration) as stopped:
        renewal.send(Code.SESSION_MOVED)
    assert stopped.value.value is Code.SESSION_MOVED
    assert opened.expires_ms == expires


def test_a_process_that_took_in_its_first_answer_late_renews_no_lease_that_is_overdue(
    system: MemorySystem,
) -> None:
    """The answer may have been made just now: a lease that reaches too far ends later, not early."""
    now = 1_700_000_000_000
    connection = replace(system.connect(system.config, 0), clock=lambda: now, within=None)
    made = begun(system, connection=connection)
    assert result_of(made.prepare()) is None
    (message,) = made._opening.messages
    nonce = message.requests[0].operation.nonce  # type: ignore[union-attr]
    answer = reply(nonce=nonce)._replace(time=now + 500)
    now += 9_000
    assert made.receive(answer) is Step.BEGUN
    assert connection.service() == now + 500
    command = made.renewal().send(None)
    assert isinstance(command, RenewLease)
    assert command.lease.expires == now + 500 + made.timeout_ms


def test_a_session_without_a_lease_is_not_resumed(system: MemorySystem) -> None:
    resuming = begun(system, Ticket(9, 1, bytes(32), 10_000))
    steps = resuming.prepare()
    assert steps.send(None) == ReadLease(9)
    with pytest.raises(SessionExpiredException):
        steps.send(None)


def test_a_row_that_is_put_after_the_session_has_ended_is_removed_at_once(opened: Shell) -> None:
    opened.perform(PutWatch("/before", "data", 0))
    opened._ends_for_all(Code.SESSION_EXPIRED)
    opened.perform(PutWatch("/late", "data", 0))
    assert opened.connection.watches.rows("/late") == opened.connection.watches.rows("/before") == []


def test_registrations_are_tidied_until_there_are_few(opened: Shell) -> None:
    registrations = opened.registrations
    registrations._least = registrations._most = 2
    commands = [PutWatch(f"/n{number}", "data", 0) for number in range(3)]
    for command in commands:
        opened.perform(command)
    assert opened.must_tidy(commands[-1])
    assert not opened.must_tidy(ReadMark())
    steps = opened.tidying()
    command = steps.send(None)
    assert isinstance(command, Forget)
    assert len(command.idle) == 3
    opened.perform(command)
    with pytest.raises(StopIteration):
        steps.send(None)
    assert len(registrations) == 0


def test_a_request_that_no_message_takes_is_refused(opened: Shell) -> None:
    opened.connection.worker_queue.max_message_bytes = 10_000
    calls = Calls("/")
    calls.begin(opened.rules, opened.connection)
    opened.check_size(calls.commit([calls.set_part("/n", b"x" * 1_000, -1)] * 7))
    whole = calls.commit([calls.set_part("/n", b"x" * 1_000, -1)] * 8)
    with pytest.raises(TooLargeException, match=r"the transaction: .* bytes; a request may have"):
        opened.check_size(whole)


@pytest.mark.parametrize(
    ("codes", "error"),
    [
        ((Code.NODE_EXISTS, Code.NODE_EXISTS, Code.NODE_EXISTS), NodeExistsException),
        ((Code.NO_AUTH, Code.NO_NODE, Code.NO_NODE), NoAuthException),
        ((Code.NODE_EXISTS, Code.NO_AUTH, Code.NO_NODE), NoAuthException),
    ],
)
def test_a_create_with_ancestors_has_the_first_error_of_one_but_that_it_exists(
    opened: Shell, codes: tuple[Code, ...], error: type[FaaSKeeperException]
) -> None:
    calls = Calls("/")
    calls.begin(opened.rules, opened.connection)
    above, last = calls.with_ancestors("/a/b/c", calls.create("/a/b/c", b"", NodeKind()))
    boxes = [opened.ask(each) for each in (*above, last)]
    answered: Answered[Any] = opened.receive(
        reply(*((number, Outcome(code, 1)) for number, code in enumerate(codes, 1)))
    )
    opened._settle(answered)
    assert [type(box[0]) for box in boxes][-1] is error
