"""Going on with a session by its ticket: as often as one likes, from processes that died and from others."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from faaskeeper.client import FaaSKeeperClient, SessionState, Ticket
from faaskeeper.client.sender import Sender
from faaskeeper.client.session import Session
from faaskeeper.config import Config
from faaskeeper.core import codec, trust
from faaskeeper.core.requests import Message, Resume
from faaskeeper.exceptions import SessionExpiredException, TimeoutException, ZooKeeperException

Start = Callable[..., FaaSKeeperClient]


@pytest.fixture
def resume(config: Config, make: Start) -> Iterator[Callable[[Ticket], FaaSKeeperClient]]:
    """Starts clients that go on with a session."""
    clients: list[FaaSKeeperClient] = []

    def start(ticket: Ticket) -> FaaSKeeperClient:
        client = make(config)
        clients.append(client)
        client.start(resume=ticket)
        return client

    yield start
    for client in clients:
        client.stop()


Resuming = Callable[[Ticket], FaaSKeeperClient]


def session_of(client: FaaSKeeperClient) -> Session:
    assert client._session is not None
    return client._session


def dies(client: FaaSKeeperClient) -> None:
    client.stop(close=False)


def test_one_ticket_serves_any_number_of_processes_that_die(connect: Start, resume: Resuming) -> None:
    keep, first = connect(), connect()
    first.create("/mine", ephemeral=True)
    ticket = first.ticket
    dies(first)
    for number in range(12):
        process = resume(ticket)
        for each in range(number % 4):
            assert process.create(f"/{number}-{each}").path == f"/{number}-{each}"
        assert process.get_ephemerals() == ["/mine"]
        dies(process)
    made = {node.path for node in keep.get_children("/")}
    assert {f"/{number}-{each}" for number in range(12) for each in range(number % 4)} <= made


def test_one_ticket_serves_processes_whose_predecessors_live_and_each_of_those_is_told(
    connect: Start, resume: Resuming
) -> None:
    keep, first = connect(), connect()
    ticket = first.ticket
    alive = first
    for number in range(6):
        states: list[SessionState] = []
        alive.add_listener(states.append)
        process = resume(ticket)
        if number % 2:
            with pytest.raises(SessionExpiredException, match="another process has resumed this session"):
                alive.create(f"/not-{number}")
        else:
            session_of(alive).renew()
        assert alive.state is SessionState.LOST
        assert process.create(f"/n{number}").path == f"/n{number}"
        alive = process
    assert not [node.path for node in keep.get_children("/") if node.path.startswith("/not")]
    assert alive.create("/last", ephemeral=True).path == "/last"


def test_two_that_use_a_ticket_at_once_never_answer_for_each_other(connect: Start, resume: Resuming) -> None:
    keep, first = connect(), connect()
    ticket = first.ticket

    def work(number: int) -> list[str]:
        made: list[str] = []
        try:
            process = resume(ticket)
            for each in range(20):
                made.append(process.create(f"/p{number}-{each}").path)
        except SessionExpiredException:
            pass  # another was later
        return made

    with ThreadPoolExecutor(4) as pool:
        for number, made in enumerate(pool.map(work, range(4))):
            assert made == [f"/p{number}-{each}" for each in range(len(made))]
            assert all(keep.exists(path) for path in made)
    assert resume(ticket).create("/after").path == "/after"


def test_a_resume_of_a_dead_process_that_the_queue_brings_late_changes_nothing(
    connect: Start, resume: Resuming
) -> None:
    first = connect()
    ticket = first.ticket
    dead = resume(ticket)
    old = session_of(dead)._opening.message
    dies(dead)
    alive = resume(ticket)
    greater = old._replace(incarnation=session_of(alive).incarnation + 1)
    for message in (old, greater):
        signed = trust.sign(ticket.secret, codec.message(message))
        session_of(first).connection.worker_queue.send("writer", "late", signed)
    assert alive.create("/alive").path == "/alive"
    session_of(alive).renew()
    assert alive.state is SessionState.CONNECTED


def test_what_was_under_way_when_another_went_on_is_not_known_to_have_happened(
    connect: Start, resume: Resuming
) -> None:
    first = connect()
    second = resume(first.ticket)
    with pytest.raises(SessionExpiredException, match=r"create /n: .* whether it happened is not known"):
        first.create("/n")
    assert second.exists("/n") is None


def test_who_waits_for_an_outcome_that_is_not_kept_gets_an_error_and_does_not_wait(
    connect: Start,
) -> None:
    client = connect()
    for number in range(3):
        client.create(f"/n{number}")
    session = session_of(client)
    session.outbox._last = session.outbox.acked = 0  # as if a number were given twice
    with pytest.raises(ZooKeeperException, match="no longer has the outcome"):
        client.create_async("/again").get(30)
    assert client.exists("/again") is None


def test_a_ticket_of_a_session_that_has_ended_is_refused(connect: Start, resume: Resuming) -> None:
    connect()
    first = connect()
    ticket = first.ticket
    first.stop()
    with pytest.raises(SessionExpiredException):
        resume(ticket)


@pytest.mark.threads
def test_a_resume_that_is_lost_is_sent_again_as_it_was(
    connect: Start, resume: Resuming, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = connect()
    sent: list[Message] = []
    put = Sender.put

    def lossy(self: Sender, message: Message, prompt: bool = False, sign: bool = False) -> None:
        if any(isinstance(each.operation, Resume) for each in message.requests):
            sent.append(message)
            if len(sent) == 1:
                return
        put(self, message, prompt, sign)

    monkeypatch.setattr(Sender, "put", lossy)
    second = resume(first.ticket)
    assert sent[0] == sent[1]
    assert second.create("/n").path == "/n"


def test_a_service_that_does_not_answer_a_resume_is_a_time_out(
    connect: Start, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = connect()
    monkeypatch.setattr("faaskeeper.client.client.START_S", 0.05)
    monkeypatch.setattr(Sender, "put", lambda self, message, prompt=False, sign=False: None)
    with pytest.raises(TimeoutException):
        FaaSKeeperClient(config).start(resume=first.ticket)
    monkeypatch.undo()
    assert first.create("/n").path == "/n"


def test_a_ticket_with_another_secret_resumes_nothing(
    connect: Start, config: Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = connect()
    monkeypatch.setattr("faaskeeper.client.client.START_S", 0.05)
    stolen = first.ticket._replace(secret=bytes(trust.KEY_BYTES))
    with pytest.raises(TimeoutException):
        FaaSKeeperClient(config).start(resume=stolen)
    assert "dropped a message" in first.logs()
    assert first.create("/mine").path == "/mine"
