"""The writer, whatever the queue, the stores and other writers do to it."""

from __future__ import annotations

from typing import Any

import pytest

from faaskeeper.core import codec, log, trust
from faaskeeper.core.drivers.storage import Condition, Item
from faaskeeper.core.errors import Code, Conflict, StaleView, Unavailable
from faaskeeper.core.requests import (
    Close,
    Create,
    Delete,
    Message,
    Open,
    Outcome,
    Reply,
    Request,
    Resume,
    SetData,
    inline,
)
from faaskeeper.core.writer import Writer, order
from faaskeeper.providers.memory import MemoryTable
from tests.bare import Bare


def create(path: str, value: bytes = b"") -> Create:
    return Create(path, inline(value))


def entries(bare: Bare) -> list[log.Entry]:
    return bare.deployment.log.after(0)[0]


@pytest.fixture(params=["inline", "own distributor"])
def bare(request: pytest.FixtureRequest) -> Bare:
    return Bare(own_distributor=request.param == "own distributor")


def test_what_waits_is_committed_together_in_one_entry(bare: Bare) -> None:
    session = bare.session()
    before = len(entries(bare))
    futures = [session.ask(create(f"/n{number}")) for number in range(50)]
    bare.pump()
    session.receive()
    assert [future.get(0).txid for future in futures] == list(range(2, 52))
    assert len(entries(bare)) == before + 1


def test_txids_are_dense_from_one_and_entries_follow_on_each_other(bare: Bare) -> None:
    session = bare.session()
    for number in range(5):
        session.do(create(f"/n{number}"))
        session.do(create(f"/n{number}"))
    last = 0
    for entry in entries(bare):
        assert entry.first == last + 1
        assert [each.txid for each in entry.transactions] == list(range(entry.first, entry.last + 1))
        last = entry.last
    assert last == 11


def test_a_redelivered_request_happens_once_and_gets_its_recorded_outcome(bare: Bare) -> None:
    session = bare.session()
    session.ask(Create("/s-", inline(b""), sequential=True))
    message = bare.worker_queue.held[0]
    bare.pump()
    first = session.receive()[0]
    for cold in (False, True):
        if cold:
            bare.recycle()
        bare.worker_queue.held = [message, message]
        bare.pump()
        again = [told for told in session.receive() if isinstance(told, Reply)]
        assert isinstance(first, Reply)
        assert all(told.outcomes == first.outcomes for told in again)
        assert again
    assert session.read("/s-0000000000") is not None
    assert session.read("/s-0000000001") is None


def test_a_redelivered_error_stays_that_error_though_it_would_now_succeed(bare: Bare) -> None:
    session = bare.session()
    session.ask(SetData("/n", inline(b"1")))
    message = bare.worker_queue.held[0]
    bare.pump()
    assert session.receive()[0].outcomes[0][1].code is Code.NO_NODE  # type: ignore[union-attr]
    bare.session("other").do(create("/n", b"0"))
    bare.recycle()
    bare.worker_queue.held = [message]
    bare.pump()
    reply = session.receive()[0]
    assert isinstance(reply, Reply)
    assert reply.outcomes[0][1].code is Code.NO_NODE
    record = session.read("/n")
    assert record is not None
    assert record.data == b"0"


def test_a_batch_of_errors_takes_one_empty_transaction(bare: Bare) -> None:
    session = bare.session()
    session.ask(Delete("/none"))
    session.ask(Delete("/none"))
    bare.pump()
    assert entries(bare)[-1].transactions == (log.Transaction(2, ()),)


def test_a_request_ahead_of_its_turn_is_dropped_with_the_answer_from_where_to_resend(bare: Bare) -> None:
    session = bare.session()
    first = session.ask(create("/a"))
    second = session.ask(create("/a/b"))
    early = bare.worker_queue.held.pop()
    late = bare.worker_queue.held.pop()
    bare.worker_queue.held = [early]
    bare.pump()
    session.receive()
    assert session.resend == 1
    assert not first.done()
    bare.worker_queue.held = [late]
    bare.pump()
    session.receive()
    assert first.done()
    session.send(session.message(*session.outbox.resend(session.resend)))
    bare.pump()
    session.receive()
    assert second.get(0).code is Code.OK


def test_a_batch_out_of_order_is_put_in_order(bare: Bare) -> None:
    session = bare.session()
    futures = [session.ask(create("/a")), session.ask(create("/a/b")), session.ask(create("/a/b/c"))]
    bare.worker_queue.held.reverse()
    bare.pump()
    session.receive()
    assert [future.get(0).code for future in futures] == [Code.OK] * 3


def test_two_writers_that_do_not_know_of_each_other_commit_one_order(bare: Bare) -> None:
    one, two = bare.session("one"), bare.session("two")
    other = Writer(bare.deployment)
    for number in range(10):
        asked = [one.ask(create(f"/one{number}")), two.ask(create(f"/two{number}"))]
        mine, theirs = bare.worker_queue.take()
        bare.writer.handle([mine])
        other.handle([theirs])
        bare.pump()
        one.receive()
        two.receive()
        assert [future.get(0).code for future in asked] == [Code.OK] * 2
    last = 0
    for entry in entries(bare):
        assert entry.first == last + 1
        last = entry.last
    record = one.read("/")
    assert record is not None
    assert len(record.children) == 21


class Flaky(MemoryTable):
    """A table that fails when told to: before the effect of the next put, or after it."""

    def __init__(self) -> None:
        super().__init__()
        self.fail: str = ""

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        fail, self.fail = self.fail, ""
        if fail == "before":
            raise Unavailable("the put did not arrive")
        super().put(partition, key, item, condition)
        if fail == "after":
            raise Unavailable("the answer was lost")


@pytest.mark.parametrize("when", ["before", "after"])
def test_an_append_of_unknown_fate_happens_once(when: str) -> None:
    tables: dict[str, Flaky] = {}

    def table(name: str) -> Flaky:
        tables[name] = Flaky()
        return tables[name]

    bare = Bare(table=table)
    session = bare.session()
    session.do(create("/n"))
    tables["log"].fail = when
    outcome = session.do(SetData("/n", inline(b"x")))
    assert outcome.code is Code.OK
    assert outcome.meta is not None
    assert outcome.meta.version == 1
    assert session.do(SetData("/n", inline(b"y"), 1)).code is Code.OK


def test_a_log_that_takes_no_entry_ends_the_call_and_the_messages_are_delivered_again() -> None:
    class Refusing(MemoryTable):
        refused = -1

        def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
            if self.refused >= 0:
                self.refused += 1
                raise Unavailable("the disk is gone")
            super().put(partition, key, item, condition)

    tables: dict[str, Refusing] = {}

    def table(name: str) -> Refusing:
        tables[name] = Refusing()
        return tables[name]

    bare = Bare(table=table)
    session = bare.session()
    future = session.ask(create("/n", b"1"))
    message = list(bare.worker_queue.held)
    tables["log"].refused = 0
    with pytest.raises(Unavailable, match="the disk is gone"):
        bare.pump()
    assert 1 < tables["log"].refused < 10
    tables["log"].refused = -1
    bare.worker_queue.held = message
    bare.pump()
    session.receive()
    assert future.get(0).code is Code.OK
    assert [each.last for each in entries(bare)] == [1, 2]


def test_after_an_exception_nothing_of_the_attempt_is_believed() -> None:
    tables: dict[str, Flaky] = {}

    def table(name: str) -> Flaky:
        tables[name] = Flaky()
        return tables[name]

    bare = Bare(table=table)
    session = bare.session()
    future = session.ask(create("/n", b"1"))
    message = list(bare.worker_queue.held)
    tables["records"].fail = "before"
    with pytest.raises(Unavailable):
        bare.pump()
    session.receive()
    assert not future.done()
    bare.worker_queue.held = message
    bare.pump()
    session.receive()
    assert future.get(0).code is Code.OK
    record = session.read("/n")
    assert record is not None
    assert record.data == b"1"


def test_a_message_signed_with_another_secret_changes_nothing(
    bare: Bare, caplog: pytest.LogCaptureFixture
) -> None:
    session, victim = bare.session("attacker"), bare.session("victim")
    message = Message(victim.id, 0, 0, "attacker", (Request(1, create("/forged")),))
    bare.worker_queue.send("writer", "", trust.sign(session.secret, codec.message(message)))
    bare.worker_queue.send("writer", "", b"not a message at all, but long enough to look like one")
    bare.worker_queue.send("writer", "", trust.sign(session.secret, codec.frame({"close": [victim.id]})))
    bare.pump()
    assert session.read("/forged") is None
    assert victim.do(create("/mine")).code is Code.OK
    assert caplog.text.count("dropped a message") == 3
    assert session.secret.hex() not in caplog.text


def test_the_log_holds_no_secret(bare: Bare) -> None:
    session = bare.session()
    session.do(create("/n"))
    stored = repr([log.encode(entry) for entry in entries(bare)])
    assert session.secret.hex() not in stored
    assert repr(session.secret)[2:-1] not in stored


def test_opening_again_with_the_same_nonce_is_the_same_session(bare: Bare) -> None:
    secret = bare.random(trust.KEY_BYTES)
    message = Message(0, 0, 0, "s", (Request(0, Open("nonce", secret, 10_000)),))
    signed = trust.sign(secret, codec.message(message))
    for _ in range(3):
        bare.worker_queue.held = [signed, signed]
        bare.pump()
        bare.recycle()
    told = [codec.to_delivery(trust.body(each)) for each in bare.mail.boxes["s"]]
    assert len(told) == 5  # twice in one batch is answered once
    assert {reply.session for reply in told if isinstance(reply, Reply)} == {1}
    assert len(entries(bare)) == 1


def test_a_closed_session_is_told_its_recorded_outcomes_and_expired_for_the_rest(bare: Bare) -> None:
    session = bare.session()
    session.ask(create("/n"))
    message = bare.worker_queue.held[0]
    bare.pump()
    bare.worker_queue.send("writer", "", order(bare.deployment, [session.id]))
    session.ask(create("/late"))
    bare.pump()
    session.receive()
    bare.recycle()
    bare.worker_queue.held = [message]
    session.ask(create("/later"))
    bare.pump()
    told = dict(
        outcome for reply in session.receive() if isinstance(reply, Reply) for outcome in reply.outcomes
    )
    assert told[1].code is Code.OK
    assert session.read("/late") is None or told.get(2, Outcome(Code.OK, 0)).code is Code.OK
    assert session.read("/later") is None


def test_closing_deletes_exactly_the_session_s_ephemerals_in_one_transaction(bare: Bare) -> None:
    session, other = bare.session("one"), bare.session("two")
    session.do(create("/keep"))
    for number in range(3):
        session.do(Create(f"/e{number}", inline(b""), ephemeral=True))
    other.do(Create("/other", inline(b""), ephemeral=True))
    other.do(Delete("/e0"))
    session.do(Close())
    changed = {change.path: change.meta for change in entries(bare)[-1].transactions[0].changes}
    assert [path for path, meta in changed.items() if meta is None] == ["/e1", "/e2"]
    record = other.read("/")
    assert record is not None
    assert record.children == ["keep", "other", "zookeeper"]


def test_a_resumed_session_refuses_the_incarnation_before(bare: Bare) -> None:
    session = bare.session()
    session.do(Create("/e", inline(b""), ephemeral=True))
    stale = session.message(Request(2, create("/stale")))
    session.incarnation = 1
    session.send(session.message(Request(0, Resume())))
    bare.pump()
    resumed = session.receive()[0]
    assert isinstance(resumed, Reply)
    assert resumed.outcomes[0][1].code is Code.OK
    assert resumed.outcomes[0][1].paths == ("/e",)
    session.send(stale)
    bare.pump()
    refused = session.receive()[0]
    assert isinstance(refused, Reply)
    assert refused.outcomes == ((2, Outcome(Code.SESSION_MOVED, refused.outcomes[0][1].txid)),)
    session.send(session.message(Request(1, create("/fresh")), acked=0))
    bare.pump()
    assert session.read("/stale") is None
    assert session.read("/fresh") is not None


def test_what_is_acknowledged_is_forgotten_and_what_is_not_stays_known(bare: Bare) -> None:
    session = bare.session()
    for number in range(10):
        session.do(create(f"/n{number}"))
    view = bare.writer._view
    assert view is not None
    state = view.sessions.get(session.id)
    assert state is not None
    assert list(state.outcomes) == [10]
    assert state.acked == 9


def test_a_cold_writer_goes_on_where_the_warm_one_stood(bare: Bare) -> None:
    session = bare.session()
    for number in range(200):
        assert session.do(Create("/s-", inline(b""), sequential=True)).path == f"/s-{number:010d}"
        if number % 7 == 0:
            bare.recycle()


def test_a_small_view_judges_as_a_large_one_does() -> None:
    large, small = Bare(), Bare()
    small.deployment.max_nodes = 2
    outcomes: list[list[Any]] = [[], []]
    for seen, bare in zip(outcomes, (large, small), strict=True):
        session = bare.session()
        for number in range(40):
            seen.append(session.do(create(f"/n{number % 9}")).code)
            seen.append(session.do(create(f"/n{number % 9}/c{number % 4}")).code)
            seen.append(session.do(SetData(f"/n{number % 5}", inline(b""), number % 3)).code)
            seen.append(session.do(Delete(f"/n{number % 9}/c{number % 3}")).code)
            seen.append(session.do(Delete(f"/n{number % 7}")).code)
    assert outcomes[0] == outcomes[1]
    assert len(set(outcomes[0])) > 3


DAY = 24 * 3600 * 1000


def test_a_view_that_was_not_confirmed_for_days_is_dropped_before_it_can_write_over_a_trimmed_log() -> None:
    bare = Bare()
    session = bare.session()
    session.do(create("/n"))
    stalled = bare.writer
    bare.recycle()
    session.do(SetData("/n", inline(b"1")))
    for _ in range(9):  # heartbeat keeps the checkpoint young while the log is trimmed behind it
        bare.clock.now += DAY
        bare.worker_queue.send("writer", "", order(bare.deployment, ()))
        bare.pump()
        bare.writer.idle()
        bare.heartbeat.refresh()
    applied = bare.deployment.checkpoints.applied()
    bare.deployment.log.trim([entry for entry in entries(bare) if entry.last <= applied])
    session.ask(SetData("/n", inline(b"2"), 1))
    stalled.handle(bare.worker_queue.take())
    session.receive()
    record = session.read("/n")
    assert record is not None
    assert (record.data, record.txid) == (b"2", 4)


def test_a_checkpoint_older_than_the_log_may_be_is_refused_with_the_reason() -> None:
    bare = Bare()
    bare.session()
    bare.recycle()
    bare.clock.now += 6 * DAY
    with pytest.raises(StaleView, match="heartbeat has not run for days"):
        bare.session("late")


def test_an_entry_judged_too_long_ago_is_not_appended() -> None:
    bare = Bare()
    entry = log.Entry(1, 1, bare.clock(), (log.Transaction(1, ()),), ())
    with pytest.raises(StaleView, match="too long ago"):
        bare.deployment.log.append(entry, log.APPEND_WITHIN_MS + 1)
    bare.deployment.log.append(entry, 0)
    with pytest.raises(Conflict):
        bare.deployment.log.append(entry, 0)
