"""Simulated servers keep their promises, are deterministic, and the checks see: a rule left out is caught.

Each mutation patches one rule out of the gateway's code; docs/architecture/gateway.md says what each is for.
"""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from faaskeeper.core import clocks, heartbeat
from faaskeeper.core.connection import Connection
from faaskeeper.core.errors import DriverError
from faaskeeper.core.requests import Notification
from faaskeeper.core.sessions import Lease
from faaskeeper.gateway import lease, pipeline, reads, receiver, registry, sender, sessions
from faaskeeper.gateway.connection import ClientConnection
from faaskeeper.gateway.following import Follower, FollowingRules
from faaskeeper.gateway.frames import FrameWriter
from faaskeeper.gateway.memory import Memory
from faaskeeper.gateway.server import Gateway
from faaskeeper.gateway.watches import SharedRules
from faaskeeper.session.commands import Await, ReadRecord, ReadRecords
from faaskeeper.session.order import Order
from faaskeeper.session.rules import Rules
from faaskeeper.session.timing import RENEWALS
from faaskeeper.session.watching import Watch
from faaskeeper.testing.simulator.command import main
from faaskeeper.testing.simulator.served.course import LONG_RUN, run_served
from faaskeeper.testing.simulator.served.plan import ServedPlan, served_plan_of

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_histories_are_clean(first: int) -> None:
    assert main(["--servers", "--seeds", "50", "--start", str(first), "--processes", "1"]) == 0


@pytest.mark.parametrize("seed", [20, 149, 245])
def test_a_server_with_small_pages_and_failing_stores_is_clean(seed: int) -> None:
    """In history 149 a write is asked for again after its answer was lost, and both have one zxid."""
    changes: dict[str, Any] = {**FAR, "gateways": 1, "clients": 4, "operations": 40, "faults": 0.03}
    quiet: dict[str, Any] = {"losses": 0.0, "kills": 0, "resets": 0.0, "divided": False}
    small: dict[str, Any] = {"page_names": 1, "max_nodes": 1_000, "inline_bytes": 20}
    assert run_served(seed, replace(served_plan_of(seed), **changes, **quiet, **small)).violation == ""


@pytest.mark.simulator
@pytest.mark.timeout(2 * 3600)
def test_a_long_run_is_clean_and_reaches_every_fault_and_rare_branch() -> None:
    assert main(["--servers", "--seeds", str(LONG_RUN), "--start", "500"]) == 0


@pytest.mark.parametrize("seed", range(6))
def test_a_seed_is_one_history(seed: int) -> None:
    first, second = run_served(seed, trace=True), run_served(seed, trace=True)
    assert first.trace == second.trace
    assert run_served(seed).steps == first.steps


def test_a_seed_is_the_same_history_in_each_process() -> None:
    """Nothing depends on the order of sets, which differs from one process to the next."""
    command = [sys.executable, "-m", "faaskeeper.testing.simulator", "--servers", "--replay", "3"]
    traces = [
        subprocess.run(command, capture_output=True, check=True, env={**os.environ, "PYTHONHASHSEED": number})
        for number in ("1", "2")
    ]
    assert len(traces[0].stdout) > 10_000
    assert traces[0].stdout == traces[1].stdout


def test_a_violation_is_told_with_the_command_that_replays_it(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    reads_overtake_writes(monkeypatch)
    assert main(["--servers", "--seeds", "10", "--processes", "1"]) == 1
    said = capsys.readouterr().out
    seed = int(said.split("python -m faaskeeper.testing.simulator --servers --replay ")[1].split()[0])
    assert main(["--servers", "--replay", str(seed), "--shrink"]) == 1
    assert f"seed {seed}: ServedPlan(" in capsys.readouterr().out


# ---- early replies -------------------------------------------------------------------------------


def reads_do_not_wait_for_the_writer(patch: Patch) -> None:
    """What is answered early is read before its records are in user storage."""
    committing = property(lambda self: False, lambda self, value: None)
    patch.setattr(receiver.ReplyReceiver, "committing", committing, raising=False)


def early_replies_of_other_threads_are_passed_on(patch: Patch) -> None:
    """A reply from the writer in another thread does not wait until user storage has its records."""

    def received(self: Any, message: Any) -> None:
        self._inbox.append(message)
        if self._runner.inside:
            self._drain()
        else:
            self._runner.soon(self._drain)

    patch.setattr(receiver.ReplyReceiver, "_received", received)


def replies_are_passed_on_before_they_are_met(patch: Patch) -> None:
    """A client gets its answer before the events that come before it."""

    def drain(self: Any) -> None:
        with self._output:
            while self._inbox:
                message = self._verified(self._inbox.popleft())
                if message is None:
                    continue
                if not isinstance(message, Notification):
                    self._deliver(message)
                steps = self._watches.rules.meet(message.epoch, settled=True)
                self._runner.drive(steps, lambda result, error: None)

    patch.setattr(receiver.ReplyReceiver, "_drain", drain)


# ---- order -------------------------------------------------------------------------------------


def reads_overtake_writes(patch: Patch) -> None:
    """A read begins although writes before it are not answered."""

    def next(self: Any, reads: bool = True) -> Any:
        if not self.queue or self._held or (self.queue[0][0] and self.reading):
            return None
        if not self.queue[0][0] and (self.reading >= self._most or not reads):
            return None
        self.begin(self.queue[0][0])
        return self.queue.popleft()[1]

    patch.setattr(Order, "next", next)


def plain_reads_overtake_writes(patch: Patch) -> None:
    """Plain reads are performed although a write of their connection is under way."""
    patch.setattr(Order, "may_read", lambda self: True)


def writes_overtake_reads(patch: Patch) -> None:
    """A write is sent although a read before it is under way."""
    next = Order.next

    def early(self: Any, reads: bool = True) -> Any:
        if self.queue and not self._held and self.queue[0][0]:
            self.writing += 1
            return self.queue.popleft()[1]
        return next(self, reads)

    patch.setattr(Order, "next", early)


def a_read_does_not_hold_back_the_next(patch: Patch) -> None:
    """Reads of one connection are performed at once, and answered as they are done."""
    init = Order.__init__
    patch.setattr(Order, "__init__", lambda self, most: init(self, 100))


def the_last_frame_goes_first(patch: Patch) -> None:
    """What is gathered for a connection is not sent in its order."""
    flush = FrameWriter.flush

    def turned(self: Any) -> None:
        self._frames.reverse()
        flush(self)

    patch.setattr(FrameWriter, "flush", turned)


def a_connection_asks_for_reads_twice(patch: Patch) -> None:
    """A connection may stand twice among those whose plain reads are performed."""

    def read(self: Any) -> None:
        asking, self._asking = self._asking, {}
        self._plain.perform([each for each in asking for _ in range(2)])

    patch.setattr(sender.RequestSender, "_read", read)


def reads_that_may_not_begin_ask_to_be_performed(patch: Patch) -> None:
    """A plain read behind a write that another thread performs keeps the loop busy."""

    def arrived(self: Any) -> None:
        if self._near and self._order.queue and self._order.queue[0][1].path:
            self._ask()
        else:
            self.advance()

    patch.setattr(pipeline.RequestPipeline, "arrived", arrived)


def reads_go_on_when_the_service_has_ended(patch: Patch) -> None:
    """A writer that failed between an early reply and its records keeps no read back."""
    commit = sender.RequestSender._commit

    def anyway(self: Any, messages: Any) -> None:
        commit(self, messages)
        self._receiver.committing = False

    patch.setattr(sender.RequestSender, "_commit", anyway)


def repeated_requests_are_new_ones(patch: Patch) -> None:
    """A request without an answer is asked for again, under another number."""
    resend = sessions.GatewaySession.resend

    def anew(self: Any, now: float) -> None:
        late = self._resending.at <= now
        resend(self, now)
        for client, pending in list(self._outbox.waiters())[:1]:
            if late and hasattr(pending.request, "operation"):
                self.submit(pending.request.operation, pending.auth, client, pending)

    patch.setattr(sessions.GatewaySession, "resend", anew)


# ---- reads and watches -----------------------------------------------------------------------------


def whatever_is_read_is_shown(patch: Patch) -> None:
    """A plain read shows a record that is newer than what its server has met, or older."""
    patch.setattr(Rules, "accepts", lambda self, path, record, ticket: True)


def _without_leasts(self: Any, news: Any, applied: int) -> None:
    self.ticket += 1
    self.applied = max(applied, self.applied)
    for track in self._tracks:
        track.note(news)
    for txid, writes in news:
        self._trigger(txid, writes)


def nothing_has_a_least(patch: Patch) -> None:
    """A read may show a path as it was before a write that its server has met."""
    patch.setattr(Rules, "_take_in", _without_leasts)


def far_reads_show_the_first_record(patch: Patch) -> None:
    """Where stores are far, a read shows the first record that it gets, whatever is met meanwhile."""

    def read(self: Any, path: str) -> Any:
        record = yield ReadRecord(path)
        if record is not None and record.upto > self.seen:
            yield from self.meet(record.epoch(), settled=False)
        return record

    patch.setattr(SharedRules, "read", read)


def a_watch_is_set_before_all_is_read(patch: Patch) -> None:
    """A watch may fire while its row is put, and what belongs to its record is read: before the answer."""
    watch = Rules.watch

    def early(self: Any, path: str, kind: str, callback: Any, *more: Any) -> Any:
        record = yield from self.read(path)
        if record is not None and record.meta is not None:
            stamp = record.meta.pzxid if kind == "children" else record.meta.mzxid
            self._keep(Watch(path, kind, stamp, True, callback))
        return (yield from watch(self, path, kind, callback, *more))

    patch.setattr(Rules, "watch", early)


def events_come_later(patch: Patch) -> None:
    """An event is put into the output in the loop's next turn."""
    fired = ClientConnection._fired

    def later(self: Any, event: Any) -> None:
        self._hub.runner.soon(fired, self, event)

    patch.setattr(ClientConnection, "_fired", later)


def watches_set_again_forget_what_they_missed(patch: Patch) -> None:
    """A client that comes back is not sent the events of what happened meanwhile."""
    patch.setattr(reads, "_MISSED", {kind: lambda zxid, meta: None for kind in reads._MISSED})


def removed_watches_stay(patch: Patch) -> None:
    """A client is told that its watches are removed, and they fire."""

    def remove(self: Any, request: Any, _: object) -> Any:
        yield from ()
        if not self._rules.found(request.path, reads._kinds_of(request.number), self._watcher):
            raise reads.Refused(reads.protocol.NO_WATCHER)
        return b""

    patch.setitem(reads.Reader._about, reads.protocol.REMOVE_WATCHES, remove)


def sync_does_nothing(patch: Patch) -> None:
    """A sync does not look at the log's end."""

    def sync(self: Any) -> Any:
        yield from ()

    patch.setattr(Rules, "sync", sync)


# ---- sessions ------------------------------------------------------------------------------------


def pings_do_not_count(patch: Patch) -> None:
    """A session is alive by its requests only."""

    def live(self: Any) -> bool:
        return self.session is not None and self._lease.serves(self._now())

    patch.setattr(ClientConnection, "_live", live)


def a_server_serves_whatever_its_lease(patch: Patch) -> None:
    """A server goes on to serve although its lease may have been marked."""
    patch.setattr(lease.ServerLease, "serves", lambda self, now: True)
    patch.setattr(Gateway, "_lost", lambda self, why: None)

    async def stay(self: Any) -> None:
        await asyncio.sleep(1e6)

    patch.setattr(lease.ServerLease, "_restarted", stay)


def a_server_serves_for_its_whole_time_out(patch: Patch) -> None:
    """A server serves until its lease is overdue."""
    patch.setattr(lease, "served_ms", lambda timeout: timeout)


def a_server_has_served_until_it_renewed(patch: Patch) -> None:
    """What a dead server served after its last renewal does not count."""
    patch.setattr(heartbeat, "served_ms", lambda timeout: 0)


def a_renewal_that_failed_changed_nothing(patch: Patch) -> None:
    """A server goes on by the lease before, although a shorter one may have been stored."""
    put = lease.ServerLease._put

    async def kept(self: Any, timeout: int) -> None:
        before = self._good_until
        try:
            await put(self, timeout)
        except DriverError:
            self._timeout, self._good_until = min(self._timeout, timeout), before
            self._due = self._now() + lease.LEASE_MS / 1000 / RENEWALS
            raise

    patch.setattr(lease.ServerLease, "_put", kept)


def the_first_reply_counts_as_made_just_now(patch: Patch) -> None:
    """A server that stood still while it began takes the service's clock for behind by as much."""
    note = Connection.note_time
    patch.setattr(Connection, "note_time", lambda self, reply, late=0: note(self, reply))


def a_session_that_was_released_is_served(patch: Patch) -> None:
    """A connection opens with a session that its server has left to heartbeat meanwhile."""
    opened = ClientConnection._opened

    def anyway(self: Any, session: Any, aware: bool) -> None:
        served = self._hub.sessions
        released = session.id not in served
        served.setdefault(session.id, session)
        opened(self, session, aware)
        if released:
            served.pop(session.id, None)

    def serve(self: Any, session: Any) -> None:
        self._hub.sessions[session.id] = session

    patch.setattr(ClientConnection, "_opened", anyway)
    patch.setattr(registry.SessionRegistry, "_serve", serve)


def a_lease_is_taken_over_later(patch: Patch) -> None:
    """A session that was taken over stays under the lease of the server before."""

    async def attach(self: Any, session: Any, known: Lease) -> None:
        hub = self._hub
        wanted = known._replace(
            expires=hub.lease.service_time() + session.timeout,
            incarnation=session.incarnation,
            under=known.under or hub.lease.session,
            timeout=session.timeout,
            proof=registry.proof_of(session.secret),
        )
        session.lease = await hub.runner.call(hub.connection.leases.replace, wanted)

    patch.setattr(registry.SessionRegistry, "_attach", attach)


def leases_are_freed_too_early(patch: Patch) -> None:
    """A server that stops frees its sessions' leases as if their clients had been silent."""
    release = registry.SessionRegistry.release

    def early(self: Any, session: Any, silent: float) -> None:
        release(self, session, max(silent, session.timeout / 1000))

    patch.setattr(registry.SessionRegistry, "release", early)


def a_marked_lease_is_taken_over(patch: Patch) -> None:
    """A session that heartbeat is closing goes on for its client."""
    resume = registry.SessionRegistry.resume

    async def resumed(self: Any, id: int, password: bytes, timeout: int) -> Any:
        hub = self._hub
        known = await hub.runner.call(hub.connection.leases.get, id)
        proof = registry.proof_of(registry.secret_of(password))
        if known is not None and known.marked and known.proof == proof:
            return await self._take_over(known._replace(marked=False), password, 10_000)
        return await resume(self, id, password, timeout)

    patch.setattr(registry.SessionRegistry, "resume", resumed)


def any_password_will_do(patch: Patch) -> None:
    """A client need not know the password of the session that it asks for."""
    patch.setattr(registry, "compare_digest", lambda one, other: True)


def ephemerals_are_not_taken_over(patch: Patch) -> None:
    """A server that takes a session over does not learn its ephemerals."""
    init = sessions.GatewaySession.__init__

    class Forgetful(set):  # type: ignore[type-arg]
        def update(self, *some: Any) -> None:
            return

    def made(self: Any, *args: Any) -> None:
        init(self, *args)
        self.owned = self._incarnation.owned = Forgetful()

    patch.setattr(sessions.GatewaySession, "__init__", made)


def an_old_session_goes_on(patch: Patch) -> None:
    """A server goes on with a session that it knows, although another has taken it over meanwhile."""
    resume = registry.SessionRegistry.resume

    async def known(self: Any, id: int, password: bytes, timeout: int) -> Any:
        there = self._hub.sessions.get(id)
        mine = there is not None and there.password == password
        return there if mine else await resume(self, id, password, timeout)

    patch.setattr(registry.SessionRegistry, "resume", known)


def a_session_that_comes_back_keeps_its_version(patch: Patch) -> None:
    """A server to which a client comes back lets a late put of another server take the session."""

    async def unconfirmed(self: Any, known: Any, lease: Any) -> Any:
        known.active = self._hub.now()
        return known

    patch.setattr(registry.SessionRegistry, "_confirm", unconfirmed)


def ephemerals_are_listed_at_once(patch: Patch) -> None:
    """They are listed while creates of an earlier connection have no answer."""
    patch.setattr(pipeline.RequestPipeline, "_lacks_owned", lambda self, request: False)


def a_silence_ends_what_was_known_of_the_clock(patch: Patch) -> None:
    """The first replies after a silence are believed, although all of them may be late."""
    note = clocks.ServiceClock.note

    def forgetful(self: Any, time: int) -> None:
        if time and self.own() - self._since >= 60_000:
            self._most = ()
        note(self, time)

    patch.setattr(clocks.ServiceClock, "note", forgetful)


# ---- reads from memory ---------------------------------------------------------------------------


def what_is_written_stays_in_memory(patch: Patch) -> None:
    """A record is not dropped when a transaction that wrote its path is met."""
    patch.setattr(Memory, "drop", lambda self, path: None)


def parents_of_what_is_written_stay_in_memory(patch: Patch) -> None:
    """A create or delete drops the znode's own record, and not its parent's, with the names and its Stat."""

    def take_in(self: Any, news: Any, applied: int) -> None:
        for _, writes in news:
            for path, letters in writes:
                if letters.strip("K"):
                    self.memory.drop(path)
        SharedRules._take_in(self, news, applied)

    patch.setattr(FollowingRules, "_take_in", take_in)


def pages_stay_in_memory(patch: Patch) -> None:
    """A create or delete does not drop the page of its parent's list that the name is in."""
    drop = Memory.drop
    patch.setattr(Memory, "drop", lambda self, path: None if "//" in path else drop(self, path))


def records_are_kept_as_they_were_read(patch: Patch) -> None:
    """A record comes into memory when it was read, whatever was met since that began."""
    gather = Rules._gather

    def kept(self: Any, track: Any, listed: Any, select: Any) -> Any:
        steps, answer = gather(self, track, listed, select), None
        while True:
            try:
                command = steps.send(answer)
            except StopIteration as done:
                return done.value
            answer = yield command
            if isinstance(command, ReadRecords):
                for path, record in zip(command.paths, answer, strict=True):
                    self.memory.put(path, record)

    patch.setattr(FollowingRules, "_gather", kept)


def gaps_are_skipped(patch: Patch) -> None:
    """A server whose clients watch nothing does not read the log for what it has not met."""
    patch.setattr(FollowingRules, "watching", Rules.watching)


def memory_is_used_however_late_following_is(patch: Patch) -> None:
    """Reads are answered from memory although the log's end was not looked at for long."""
    patch.setattr(FollowingRules, "fresh", property(lambda self: self._covered is not None))


def a_look_covers_what_came_while_it_lasted(patch: Patch) -> None:
    """What was committed before the end of a look at the log counts as seen, not before its beginning."""
    sync = FollowingRules.sync

    def counted(self: Any) -> Any:
        yield from sync(self)
        self._covered = self._now()

    patch.setattr(FollowingRules, "sync", counted)


def sync_is_left_to_following(patch: Patch) -> None:
    """A sync does not look at the log's end, since that is looked at now and then."""

    def sync(self: Any, request: Any, _: object) -> Any:
        if not self._rules.fresh:
            yield from self._rules.sync()
        return reads.string(request.path)

    patch.setitem(reads.Reader._about, reads.protocol.SYNC, sync)


def watches_are_kept_after_the_answer_was_found(patch: Patch) -> None:
    """A watch is kept some time after its read has found the record, which is not looked at again."""

    def watch(self: Any, path: str, kind: str, callback: Any, allowed: Any = None, fetch: Any = None) -> Any:
        record = yield from self.read(path)
        meta = None if record is None else record.meta
        if meta is None and kind != "exists":
            return record
        yield Await(self.seen)
        if fetch is not None and meta is not None:
            yield from fetch(record)
        stamp = self.seen if meta is None else meta.pzxid if kind == "children" else meta.mzxid
        self._keep(Watch(path, kind, max(stamp, self.seen), meta is not None, callback))
        return record

    patch.setattr(FollowingRules, "watch", watch)


def nobody_looks_for_events(patch: Patch) -> None:
    """The log is not followed: a watch fires when its server happens to meet the transaction."""

    async def keep(self: Any) -> None:
        await asyncio.sleep(1e9)

    patch.setattr(Follower, "keep", keep)


def clients_of_other_servers_are_served_at_once(patch: Patch) -> None:
    """A server meets nothing for a client that has seen more elsewhere."""
    drain = receiver.ReplyReceiver._drain

    def unmet(self: Any) -> None:
        for message in list(self._inbox):
            said = self._verified(message)
            if not isinstance(said, Notification) and said is not None and self._question(said) is not None:
                self._inbox.remove(message)
                self._deliver(said)
        drain(self)

    async def session_for(self: Any, request: Any) -> Any:
        if request.session:
            return await self._server.registry.resume(request.session, request.password, request.timeout)
        return await self._server.registry.open(request.timeout)

    patch.setattr(receiver.ReplyReceiver, "_drain", unmet)
    patch.setattr(ClientConnection, "_session_for", session_for)


BUSY: dict[str, Any] = {"clients": 4, "operations": 40, "recent_bytes": 1024, "faults": 0.08, "losses": 0.0}
NEAR: dict[str, Any] = {"embedded": True, "gateways": 1, "faults": 0.0, "losses": 0.0, "skew_ms": 0}
FAR: dict[str, Any] = {"embedded": False, "gateways": 2}
FAILING: dict[str, Any] = {"faults": 0.05, "resets": 0.1}
STILL: dict[str, Any] = {"faults": 0.0, "losses": 0.0}
QUIET: dict[str, Any] = {"gateways": 1, "kills": 0, "resets": 0.0}
LONG: dict[str, Any] = {
    **QUIET,
    **FAR,
    **STILL,
    "divided": False,
    "clients": 4,
    "operations": 120,
    "max_nodes": 3,
}
MEMORY: dict[str, Any] = {**FAR, "follow": 200, "clients": 4, "operations": 40, "faults": 0.0}
CLEAR: dict[str, Any] = {"losses": 0.0, "still": 0.0, "kills": 0, "divided": False, "weight": 1}
RULES: dict[Callable[[Patch], None], dict[str, Any]] = {
    reads_do_not_wait_for_the_writer: NEAR,
    early_replies_of_other_threads_are_passed_on: {**NEAR, "start": 175},
    replies_are_passed_on_before_they_are_met: {},
    reads_overtake_writes: {},
    plain_reads_overtake_writes: NEAR,
    writes_overtake_reads: FAR,
    a_read_does_not_hold_back_the_next: FAR,
    the_last_frame_goes_first: {},
    a_connection_asks_for_reads_twice: NEAR,
    reads_that_may_not_begin_ask_to_be_performed: {**BUSY, **NEAR, **FAILING, "start": 79},
    reads_go_on_when_the_service_has_ended: {**BUSY, **NEAR, **FAILING},
    repeated_requests_are_new_ones: {**FAR, "losses": 0.3},
    whatever_is_read_is_shown: {**NEAR, "clients": 1, "operations": 40, "start": 714},
    nothing_has_a_least: {**FAR, **BUSY, "start": 29},
    far_reads_show_the_first_record: {**FAR, **BUSY},
    a_watch_is_set_before_all_is_read: {**LONG, "inline_bytes": 20, "page_names": 1, "start": 28},
    events_come_later: {},
    watches_set_again_forget_what_they_missed: {"resets": 0.1},
    removed_watches_stay: {},
    sync_does_nothing: FAR,
    pings_do_not_count: STILL,
    a_server_serves_whatever_its_lease: {**FAR, **STILL, "divided": True},
    a_renewal_that_failed_changed_nothing: {**FAR, "faults": 0.03, "start": 390},
    the_first_reply_counts_as_made_just_now: {
        **FAR,
        **STILL,
        "still": 0.02,
        "kills": 2,
        "skew_ms": 0,
        "start": 439,
    },
    a_session_that_was_released_is_served: {
        "embedded": False,
        "gateways": 1,
        "clients": 4,
        "operations": 40,
        "faults": 0.08,
        "resets": 0.1,
        "still": 0.003,
        "start": 236,
    },
    a_lease_is_taken_over_later: {**FAR, **STILL, "kills": 2, "resets": 0.1},
    leases_are_freed_too_early: {**FAR, **STILL, "kills": 2},
    a_server_serves_for_its_whole_time_out: {
        **FAR,
        **STILL,
        "divided": True,
        "silent": 0.1,
        "start": 400,
    },
    a_server_has_served_until_it_renewed: {**FAR, **STILL, "kills": 2, "divided": True},
    a_marked_lease_is_taken_over: {**FAR, "losses": 0.3, "faults": 0.0, "silent": 0.1, "resets": 0.1},
    any_password_will_do: {"resets": 0.1},
    ephemerals_are_not_taken_over: {**FAR, "resets": 0.1},
    an_old_session_goes_on: {**FAR, "resets": 0.1, "start": 50},
    a_session_that_comes_back_keeps_its_version: {
        **BUSY,
        **FAR,
        "kills": 0,
        "resets": 0.05,
        "page_names": 1,
        "inline_bytes": 20,
        "max_nodes": 3,
        "start": 99,
    },
    ephemerals_are_listed_at_once: {
        **STILL,
        "embedded": False,
        "gateways": 1,
        "clients": 4,
        "operations": 40,
        "faults": 0.1,
        "kills": 0,
        "resets": 0.3,
        "still": 0.0,
        "weight": 1,
        "divided": False,
        "start": 20,
    },
    a_silence_ends_what_was_known_of_the_clock: {
        **BUSY,
        **FAR,
        "kills": 2,
        "resets": 0.1,
        "silent": 0.1,
        "still": 0.003,
        "start": 70,
    },
    what_is_written_stays_in_memory: MEMORY,
    parents_of_what_is_written_stay_in_memory: MEMORY,
    pages_stay_in_memory: {**MEMORY, "page_names": 1},
    records_are_kept_as_they_were_read: MEMORY,
    gaps_are_skipped: MEMORY,
    memory_is_used_however_late_following_is: {**MEMORY, **CLEAR, "blind": True},
    a_look_covers_what_came_while_it_lasted: {
        **MEMORY,
        **CLEAR,
        "operations": 120,
        "resets": 0.0,
        "blind": True,
    },
    sync_is_left_to_following: MEMORY,
    watches_are_kept_after_the_answer_was_found: {**MEMORY, "operations": 120},
    nobody_looks_for_events: {**MEMORY, **CLEAR},
    clients_of_other_servers_are_served_at_once: MEMORY,
}
"""Rules, and the plan (and where one is rare, the seed to start from) in which their loss shows soonest."""
SAMPLE = 3
"""One in so many is for ``make test``; ``make test-simulator`` has the others."""
SEEDS = 600
BUGS = ("TypeError", "AttributeError", "NameError", "KeyError")
"""What a mutation that does not fit the code any more leads to; IndexError comes of two answers, too."""


def _plan(seed: int, wanted: dict[str, Any]) -> ServedPlan:
    changes = {"stripes": 1, "follow": 0, "memory": 1 << 20, "blind": False, **wanted}
    changes.pop("start", None)
    plan = served_plan_of(seed)
    if changes.get("embedded"):
        changes.update(own_distributor=False, joint=False, watch_function=False, expiring=False)
    return replace(plan, **changes)


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(rule, id=rule.__name__, marks=[] if number % SAMPLE == 0 else pytest.mark.simulator)
        for number, rule in enumerate(RULES)
    ],
)
def test_a_rule_left_out_is_caught(rule: Callable[[Patch], None], monkeypatch: Patch) -> None:
    """And by that alone: the same history is clean with the rule."""
    rule(monkeypatch)
    start = RULES[rule].get("start", 0)
    for seed in range(start, start + SEEDS):
        violation = run_served(seed, _plan(seed, RULES[rule])).violation
        if violation:
            assert violation.split(":")[0] not in BUGS, f"the mutation itself is wrong: {violation}"
            monkeypatch.undo()
            assert not run_served(seed, _plan(seed, RULES[rule])).violation, f"seed {seed} proves nothing"
            return
    pytest.fail(f"{SEEDS} histories are clean without it: {rule.__doc__}")
