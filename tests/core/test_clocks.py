"""Clocks that are set: the log's time goes on and never back, and no age is taken from a wrong clock."""

from __future__ import annotations

from dataclasses import replace
from random import Random

import pytest

from faaskeeper.core.changes import Transaction
from faaskeeper.core.clocks import FOLLOWED_MS, IDLE_MS, Clock, LogClock, ServiceClock, Steady, carried
from faaskeeper.core.errors import Code, StaleView
from faaskeeper.core.heartbeat import CLOCKS_DIFFER_MS, FORGOTTEN_MS, Heartbeat
from faaskeeper.core.log import AHEAD_MS, Entry
from faaskeeper.core.requests import Close, Create, Operation, SetData, inline
from faaskeeper.core.writer import Writer, order
from tests.bare import Bare
from tests.bare import Clock as Standing

SECOND, MINUTE, HOUR = 1000, 60_000, 3_600_000
DAY = 24 * HOUR
YEARS = 3650 * DAY
START = 1_700_000_000_000


class Machine:
    """A machine's clocks, and a log clock made of them."""

    def __init__(self, skew: int = 0) -> None:
        self.elapsed = 12_345
        self.off = START - self.elapsed + skew
        self.clock = LogClock(self.wall, lambda: self.elapsed)

    def wall(self) -> int:
        return self.elapsed + self.off


def write(path: str = "/n") -> Operation:
    return SetData(path, inline(b""))


# ---- the log clock ---------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(20))
def test_the_log_s_time_never_goes_back_and_goes_on_while_time_passes(seed: int) -> None:
    random = Random(seed)
    machine = Machine()
    right = machine.off
    last = machine.clock.now(0)
    for _ in range(2_000):
        passed = random.choice((0, 1, 3, 50, SECOND, MINUTE, HOUR))
        machine.elapsed += passed
        if random.random() < 0.2:  # the clock is set, far from what is right
            machine.off = right + random.choice((-1, 1)) * random.randint(2 * FOLLOWED_MS, YEARS)
        time = machine.clock.now(last)
        assert passed * 9 // 10 - 1 <= time - last <= passed * 11 // 10 + 1
        last = time


@pytest.mark.parametrize("seed", range(20))
def test_after_whatever_steps_a_clock_that_is_right_is_met_again(seed: int) -> None:
    random = Random(seed)
    machine = Machine()
    right = machine.off
    last = machine.clock.now(0)
    for _ in range(200):
        machine.elapsed += random.randint(0, MINUTE)
        machine.off = right + random.choice((-HOUR, -31 * SECOND, -5, 0, 5, 31 * SECOND, HOUR))
        time = machine.clock.now(last)
        assert last <= time <= right + machine.elapsed + HOUR
        last = time
    machine.off = right
    for _ in range(10 * 60 + 10):
        machine.elapsed += MINUTE
        last = machine.clock.now(last)
    assert last == machine.wall()


def test_a_clock_that_is_put_right_forward_is_followed_at_once() -> None:
    machine = Machine()
    machine.clock.now(0)
    machine.off += 8 * HOUR  # a virtual machine went on that had been paused
    assert machine.clock.now(0) == machine.wall()


def test_ten_years_for_one_write_are_nothing_to_a_process_that_runs() -> None:
    machine = Machine()
    before = machine.clock.now(0)
    machine.elapsed += SECOND
    machine.off += YEARS
    glitch = machine.clock.now(before)
    assert glitch - before <= SECOND * 11 // 10
    machine.off -= YEARS
    machine.elapsed += SECOND
    assert machine.clock.now(glitch) == machine.wall()


def test_ten_years_are_held_to_the_bound_in_a_process_that_begins() -> None:
    machine = Machine()
    machine.off += YEARS
    assert machine.clock.now(START) == START + IDLE_MS
    alone = Machine()
    alone.off += YEARS
    assert alone.clock.now(0) == alone.wall(), "nothing tells better"


def test_a_clock_without_another_beside_it_is_held_to_the_bound_too() -> None:
    machine = Machine()
    clock = LogClock(machine.wall, machine.wall)
    before = clock.now(0)
    machine.off += YEARS
    assert clock.now(before) == before + IDLE_MS
    machine.off -= YEARS
    assert clock.now(0) == before + IDLE_MS
    machine.elapsed += HOUR
    assert clock.now(0) == before + IDLE_MS + HOUR * 9 // 10


def test_a_log_that_lies_far_ahead_goes_on_by_the_time_that_passes() -> None:
    machine = Machine()
    ahead = machine.clock.now(START + YEARS)
    assert ahead == START + YEARS
    machine.elapsed += HOUR
    assert machine.clock.now(ahead) == ahead + HOUR * 9 // 10


def test_a_log_that_lies_ahead_is_caught_up_with() -> None:
    machine = Machine()
    last = machine.clock.now(START + DAY)
    for _ in range(12):
        machine.elapsed += DAY
        last = machine.clock.now(last)
    assert last == machine.wall()


@pytest.mark.parametrize("seed", range(10))
def test_writers_with_clocks_that_differ_make_one_time_that_leads_none_that_is_right(seed: int) -> None:
    random = Random(seed)
    machines = [Machine(skew) for skew in (-5 * MINUTE, -31 * SECOND, 0, 2 * MINUTE)]
    last = 0
    for _ in range(3_000):
        passed = random.choice((1, 10, SECOND))
        for each in machines:
            each.elapsed += passed
        writer = random.choice(machines)
        time = writer.clock.now(last)
        assert last <= time <= max(each.wall() for each in machines)
        assert time >= writer.wall()
        last = time


def test_time_is_carried_on_only_where_the_log_lies_ahead() -> None:
    assert carried(START + DAY, START, START + HOUR) == START + DAY + HOUR * 9 // 10
    assert carried(START - DAY, START, START + HOUR) == START - DAY
    assert carried(START + DAY, START, START - HOUR) == START + DAY
    assert carried(0, START, START + HOUR) == 0


def test_a_steady_clock_begins_with_the_time_and_goes_on_with_what_passes() -> None:
    elapsed = [5]
    steady = Steady(START, lambda: elapsed[0])
    assert steady() == START
    elapsed[0] += 31
    assert steady() == START + 31


# ---- the service's clock as a client knows it --------------------------------------------------


def test_a_client_follows_the_service_s_clock_by_the_quickest_of_the_last_replies() -> None:
    own = Standing(START)
    service = ServiceClock(own)
    assert service() == START
    service.note(START + 31 * SECOND)
    assert service() == START + 31 * SECOND
    service.note(START + 11 * SECOND)  # was under way for twenty seconds
    service.note(0)  # does not tell
    assert service() == START + 31 * SECOND
    own.now += HOUR
    assert service() == own.now + 31 * SECOND
    for _ in range(4):  # it was set back, or all of them are late
        service.note(own.now - 2 * SECOND)
    assert service() == own.now + 31 * SECOND
    own.now += MINUTE
    service.note(own.now - 2 * SECOND)
    assert service() == own.now - 2 * SECOND


def test_a_process_that_takes_in_replies_late_does_not_believe_that_the_service_s_clock_went_back() -> None:
    now = 1_000_000
    service = ServiceClock(lambda: now)
    for _ in range(10):
        service.note(now + 500)
        now += 1_000
    for _ in range(10):  # these were made eight seconds ago
        service.note(now + 500 - 8_000)
        now += 1_000
    assert service() == now + 500
    for _ in range(100):  # the service's clock was set
        service.note(now - 8_000)
        now += 1_000
    assert service() == now - 8_000


def test_a_lead_from_before_a_silence_counts_until_replies_came_for_half_a_minute() -> None:
    """A process that stood still takes in at once what came meanwhile; all of it is late."""
    now = 1_000_000
    service = ServiceClock(lambda: now)
    service.note(now + 500)
    now += 40_000
    for _ in range(10):
        service.note(now - 30_000)
    assert service() == now + 500
    for _ in range(31):
        now += 1_000
        service.note(now + 100)
    assert service() == now + 100


# ---- the log -----------------------------------------------------------------------------------


def times(bare: Bare) -> list[int]:
    return [entry.time for entry in bare.deployment.log.after(0)[0]]


def ahead(bare: Bare, by: int) -> None:
    """An entry from a time ahead, as a process wrote it whose clock was wrong."""
    head = bare.deployment.log.after(0)[0][-1].last
    entry = Entry(head + 1, head + 1, bare.clock() + by, (Transaction(head + 1, ()),), ())
    bare.deployment.log.append(entry, 0)


def test_a_cold_writer_whose_clock_is_behind_does_not_set_the_log_s_time_back() -> None:
    bare = Bare()
    session = bare.session(timeout=HOUR)
    session.do(Create("/n", inline(b"")))
    bare.writer.idle()
    bare.recycle()  # the checkpoint stands at the log's end: nothing is left of it to read
    bare.deployment = replace(bare.deployment, clock=Standing(bare.clock() - HOUR))
    bare.recycle()
    session.do(write())
    assert times(bare) == sorted(times(bare))
    assert times(bare)[-1] == bare.clock()


def test_writers_whose_clocks_differ_by_minutes_take_turns_and_time_never_goes_back() -> None:
    bare = Bare()
    session = bare.session(timeout=HOUR)
    session.do(Create("/n", inline(b"")))
    clock = bare.clock
    skewed: list[Clock] = [lambda: clock.now - 5 * MINUTE, lambda: clock.now + 3 * MINUTE, clock]
    writers = [Writer(replace(bare.deployment, clock=each)) for each in skewed]
    for number in range(60):
        bare.clock.now += 7 * SECOND
        bare.writer = writers[number % 3]
        assert session.do(write()).code is Code.OK
    assert times(bare) == sorted(times(bare))
    assert bare.clock.now <= times(bare)[-1] <= bare.clock.now + 3 * MINUTE


def test_an_entry_from_ahead_of_our_clock_does_not_tell_when_the_log_s_end_was_known() -> None:
    bare = Bare()
    session = bare.session(timeout=HOUR)
    session.do(Create("/n", inline(b"")))
    ahead(bare, 4 * DAY)
    session.do(write())  # folds it
    bare.writer.idle()
    view = bare.writer._view
    assert view is not None
    assert view.asof == bare.deployment.checkpoints.header().asof == bare.clock()
    bare.clock.now += 3 * DAY + 1
    assert not view.valid(bare.clock())


def test_an_age_below_zero_counts_as_unknown_and_not_as_fresh() -> None:
    bare = Bare()
    session = bare.session(timeout=HOUR)
    session.do(Create("/n", inline(b"")))
    bare.writer.idle()
    began = bare.clock.now
    view = bare.writer._view
    assert view is not None
    bare.clock.now = began - AHEAD_MS
    assert view.valid(bare.clock())
    view.check_age(bare.clock())
    bare.clock.now -= 1
    assert not view.valid(bare.clock())
    with pytest.raises(StaleView, match="after this machine's current time"):
        view.check_age(bare.clock())
    with pytest.raises(StaleView, match="12 hours after this machine's current time: correct the clock"):
        session.do(write())
    entry = Entry(9, 9, 0, (), ())
    with pytest.raises(StaleView, match="too long ago"):
        bare.deployment.log.append(entry, -DAY)
    bare.clock.now = began
    assert bare.deployment.log.at(9) is None


def test_a_checkpoint_of_before_times_were_kept_in_it_still_loads() -> None:
    bare = Bare()
    session = bare.session()
    session.do(Create("/n", inline(b"")))
    bare.writer.idle()
    item = bare.tables["checkpoint"].get("checkpoint", "header")
    assert item is not None
    assert item.pop("time") == bare.clock()
    bare.tables["checkpoint"].put("checkpoint", "header", item)
    bare.recycle()
    assert session.do(write()).code is Code.OK
    assert bare.deployment.checkpoints.header()[:3] == (2, bare.clock(), 0)


def test_a_distributor_of_its_own_looks_for_the_log_s_end_though_bells_bring_all() -> None:
    bare = Bare(own_distributor=True)
    session = bare.session(timeout=HOUR)
    session.do(Create("/n", inline(b"")))
    for _ in range(50):
        bare.clock.now += HOUR
        session.do(write())
        bare.distributor.idle()  # refuses what is half a day old
    assert bare.deployment.checkpoints.header().asof >= bare.clock() - 2 * HOUR


# ---- what ends by itself -------------------------------------------------------------------------


def reaped(bare: Bare, heartbeat: Heartbeat) -> list[str]:
    paths = heartbeat.reap()
    bare.pump()
    return paths


def far(bare: Bare) -> Heartbeat:
    """Heartbeat as a function of its own, which has just been started."""
    deployment = replace(bare.deployment)
    deployment.checkpoints._latest = None
    return Heartbeat(deployment, bare.tables["heartbeat"])


@pytest.mark.parametrize("idle", [False, True])
def test_a_time_to_live_ends_in_a_log_that_lies_ten_years_ahead(idle: bool) -> None:
    bare = Bare()
    session = bare.session(timeout=HOUR)
    session.do(Create("/n", inline(b"")))
    ahead(bare, YEARS)
    session.do(Create("/mortal", inline(b""), ttl=3 * DAY))
    bare.writer.idle()
    for day in range(5):
        record = bare.deployment.records.get("/mortal")
        assert record is not None
        if day < 3:
            assert record.meta is not None, day
        bare.clock.now += DAY
        if not idle:
            session.do(write())
            bare.writer.idle()
        bare.heartbeat.refresh()
        bare.recycle()
        reaped(bare, far(bare))
    record = bare.deployment.records.get("/mortal")
    assert record is not None
    assert record.meta is None


def test_a_step_forward_of_one_writer_s_clock_removes_nothing_early() -> None:
    bare = Bare()
    wall = Standing(bare.clock.now)
    bare.deployment = replace(bare.deployment, wall=wall)
    bare.recycle()
    session = bare.session(timeout=HOUR)
    session.do(Create("/mortal", inline(b""), ttl=DAY))
    wall.now += YEARS
    session.do(Create("/glitch", inline(b"")))
    assert reaped(bare, Heartbeat(bare.deployment, bare.tables["heartbeat"])) == []
    wall.now -= YEARS
    assert reaped(bare, far(bare)) == []
    for clock in (wall, bare.clock):
        clock.now += DAY + 1
    assert reaped(bare, far(bare)) == ["/mortal"]


def test_closed_sessions_are_forgotten_in_a_log_that_lies_ahead() -> None:
    bare = Bare()
    session = bare.session()
    other = bare.session("other", timeout=HOUR)
    ahead(bare, YEARS)
    session.do(Close())
    bare.writer.idle()
    for hour in range(28):
        if hour < 24:
            assert len(bare.tables["checkpoint"].query("session", "", 10).items) == 2
        bare.clock.now += HOUR
        other.do(Create(f"/n{hour}", inline(b"")))
        bare.writer.idle()
    rows = bare.tables["checkpoint"].query("session", "", 10).items
    assert [int(key) for key, _ in rows] == [other.id]


def test_a_forgotten_doorbell_is_rung_in_a_log_that_lies_ahead() -> None:
    bare = Bare(own_distributor=True)
    session = bare.session()
    bare.distributor.idle()  # saves the mark
    ahead(bare, YEARS)
    session.ask(Create("/n", inline(b"")))
    bare.writer.handle(bare.worker_queue.take())
    assert bare.distributor_queue is not None
    bare.distributor_queue.take()
    bare.clock.now += FORGOTTEN_MS
    assert far(bare).wake() is True
    bare.pump()
    record = bare.deployment.records.get("/n")
    assert record is not None


# ---- leases --------------------------------------------------------------------------------------


def test_a_lease_that_was_counted_by_a_clock_far_ahead_is_held_to_the_session_s_time_out() -> None:
    bare = Bare()
    session = bare.session(timeout=10 * SECOND)
    leases = bare.deployment.leases
    lease = leases.get(session.id)
    assert lease is not None
    assert lease.timeout == 10 * SECOND
    leases.replace(lease._replace(expires=bare.clock() + 10 * SECOND + CLOCKS_DIFFER_MS))
    assert bare.heartbeat.expire() == []
    lease = leases.get(session.id)
    assert lease is not None
    assert lease.version == 2, "clocks that are right may differ"
    leases.replace(lease._replace(expires=bare.clock() + YEARS))
    for _ in range(5):  # whoever renews lives
        assert bare.heartbeat.expire() == []
        bare.clock.now += 9 * SECOND
        assert bare.heartbeat.expire() == []
        lease = leases.get(session.id)
        assert lease is not None
        leases.replace(lease)
    assert bare.heartbeat.expire() == []
    bare.clock.now += 10 * SECOND + 1
    assert bare.heartbeat.expire() == [session.id]


def test_a_heartbeat_whose_clock_was_set_back_for_a_beat_ends_nobody() -> None:
    bare = Bare()
    elapsed = Standing(5)
    bare.deployment = replace(bare.deployment, elapsed=elapsed)
    heartbeat = Heartbeat(bare.deployment, bare.tables["heartbeat"])
    session = bare.session(timeout=5 * MINUTE)
    for step in (-YEARS, YEARS):
        assert heartbeat.expire() == []
        bare.clock.now += step
        elapsed.now += MINUTE
    bare.clock.now += MINUTE
    assert heartbeat.expire() == []
    lease = bare.deployment.leases.get(session.id)
    assert lease is not None
    assert lease.version == 1


def test_an_order_to_settle_keeps_the_log_s_time() -> None:
    bare = Bare()
    session = bare.session(timeout=HOUR)
    session.do(Create("/n", inline(b"")))
    ahead(bare, YEARS)
    bare.recycle()
    bare.worker_queue.send("writer", "", order(bare.deployment))
    bare.pump()
    header = bare.deployment.checkpoints.header()
    assert (header.txid, header.time) == (3, bare.clock() + YEARS)
