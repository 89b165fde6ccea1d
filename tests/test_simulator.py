"""The simulator runs clean, is deterministic, and sees: a rule left out is caught.

Each mutation patches one rule out of the real code; the checkers must object within so many seeds.
What each rule is for stands in the pages of docs/architecture.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest

from faaskeeper.client.session import Session as ClientSession
from faaskeeper.core import (
    acl,
    batch,
    blobs,
    checkpoint,
    children,
    clocks,
    codec,
    contents,
    distributor,
    heartbeat,
    images,
    log,
    records,
    sessions,
    sweeping,
    transactions,
    trust,
    validation,
    view,
    watches,
    wide,
    writer,
    znode,
)
from faaskeeper.core.errors import Code, Conflict, Unavailable
from faaskeeper.core.requests import End, Epoch
from faaskeeper.session import incarnation, interpreter
from faaskeeper.session.commands import PutWatch
from faaskeeper.session.outbox import Outbox
from faaskeeper.session.registrations import Registrations
from faaskeeper.session.rules import Rules
from faaskeeper.session.watching import Watch
from faaskeeper.testing.simulator import histories, world
from faaskeeper.testing.simulator.command import LONG_RUN, main
from faaskeeper.testing.simulator.histories import run
from faaskeeper.testing.simulator.plan import Plan, plan_of

Patch = pytest.MonkeyPatch


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(logging.NOTSET)


@pytest.mark.parametrize("first", range(0, 500, 100))
def test_histories_are_clean(first: int) -> None:
    assert main(["--seeds", "100", "--start", str(first), "--processes", "1"]) == 0


@pytest.mark.simulator
@pytest.mark.timeout(2 * 3600)
def test_a_long_run_is_clean_and_reaches_every_fault_and_rare_branch() -> None:
    """`make simulate` runs as many histories as one likes."""
    assert main(["--seeds", str(LONG_RUN), "--start", "500"]) == 0


@pytest.mark.parametrize("seed", range(0, 200, 10))
def test_a_seed_is_one_history(seed: int) -> None:
    first, second = run(seed, trace=True), run(seed, trace=True)
    assert first.trace == second.trace
    assert run(seed).steps == first.steps


@pytest.mark.parametrize("seed", [11807])
def test_a_writer_that_slept_while_a_tombstone_lapsed_does_not_join_its_append_with_records(
    seed: int,
) -> None:
    """Its view has a znode of which user storage shows nothing any more."""
    changes: dict[str, Any] = {"stripes": 1, "entry_bytes": log.ENTRY_BYTES}
    assert run(seed, replace(plan_of(seed), joint=True, own_distributor=False, **changes)).violation == ""


LONG: dict[str, Any] = {"long": True, "expiring": False, "faults": 0.05}


@pytest.mark.parametrize("seed", [2878, 3910])
def test_what_a_process_does_that_stood_still_for_days_is_right(seed: int) -> None:
    """In 2878 it loads a checkpoint meanwhile; in 3910 a client's renewal stalls at the history's end."""
    assert run(seed, _plan(seed, LONG)).violation == ""


def test_a_violation_is_told_with_the_command_that_replays_it(
    monkeypatch: Patch, capsys: pytest.CaptureFixture[str]
) -> None:
    no_tombstone(monkeypatch)
    assert main(["--seeds", "20", "--processes", "1"]) == 1
    said = capsys.readouterr().out
    assert "python -m faaskeeper.testing.simulator --replay " in said
    seed = int(said.split("--replay ")[1].split()[0])
    assert main(["--replay", str(seed), "--shrink"]) == 1
    assert f"seed {seed}: Plan(" in capsys.readouterr().out


# ---- the rules, one by one -----------------------------------------------------------------------


def unlogged_errors(patch: Patch) -> None:
    """Errors are answered and not logged."""
    entry = batch.Batch.entry

    def only_changes(self: Any) -> Any:
        return entry(self) if self.transactions else None

    patch.setattr(batch.Batch, "entry", only_changes)


def lose_outcomes(patch: Patch) -> None:
    """The session's state does not keep outcomes above what the client acknowledged."""
    patch.setattr(sessions.Session, "forget_acked", lambda self: self.outcomes.clear())


def judge_ahead(patch: Patch) -> None:
    """A request ahead of its turn is judged instead of being asked for again."""
    judge = validation.Validator._requests

    def ahead(self: Any, batch: Any, message: Any) -> Any:
        session = batch.session(message.session)
        if session is not None and message.requests:
            session.last = max(session.last, min(each.cxid for each in message.requests) - 1)
        return judge(self, batch, message)

    patch.setattr(validation.Validator, "_requests", ahead)


def answer_uncertain(patch: Patch) -> None:
    """ "Expired" and "resend" are said without reading the log to its end."""

    class Certain(batch.Batch):
        uncertain = property(lambda self: False, lambda self, value: None)  # type: ignore[assignment]

    patch.setattr(validation, "Batch", Certain)


def trust_unknown_append(patch: Patch) -> None:
    """An append whose fate is unknown is taken for done."""
    append = log.Log.append

    def sure(self: Any, entry: Any, now: int) -> None:
        try:
            append(self, entry, now)
        except Unavailable:
            return

    patch.setattr(log.Log, "append", sure)


def evict_unapplied(patch: Patch) -> None:
    """A view forgets what user storage may not have yet."""

    def evict(self: Any) -> None:
        for path in list(self._nodes)[: len(self._nodes) - self.max_nodes]:
            del self._nodes[path]

    patch.setattr(view.View, "_evict", evict)
    patch.setattr(view.View, "fold", _fold_and_evict(view.View.fold, evict))


def _fold_and_evict(fold: Any, evict: Any) -> Any:
    def folded(self: Any, entry: Any) -> None:
        fold(self, entry)
        evict(self)

    return folded


def keep_view_after_failure(patch: Patch) -> None:
    """After an exception the view is believed, with what the attempt folded and did not apply."""
    handle = writer.Writer.handle

    def kept(self: Any, bodies: Sequence[bytes]) -> None:
        before = self._view
        try:
            handle(self, bodies)
        except Exception:
            if before is not None:
                before.settled(before.head)
            self._view = before
            raise

    patch.setattr(writer.Writer, "handle", kept)


def overwrite_newer(patch: Patch) -> None:
    """A record is written whatever is there."""

    def put(self: Any, path: str, record: Any, *_: Any) -> bool:
        self._table.put(path, "node", records.encode(record))
        return True

    patch.setattr(records.TableRecords, "put", put)


def no_tombstone(patch: Patch) -> None:
    """A deletion leaves nothing."""
    put = records.TableRecords.put

    def bare(self: Any, path: str, record: Any, *check: Any) -> bool:
        done = put(self, path, record, *check)
        if record.meta is None:
            self._table.delete(path, "node")
        return done

    patch.setattr(records.TableRecords, "put", bare)


def answer_first(patch: Patch) -> None:
    """Answers are sent before what they tell of is in user storage."""
    settle = distributor.Distributor.settle

    def publish(self: Any, some: Any, batch: Any, began: int) -> None:
        told = batch.decided()
        self._distributor.answer(told, Epoch(some.applied, some.head, None))
        groups = settle(self._distributor, some, began)
        self._distributor.finish(groups, some)

    patch.setattr(writer.Writer, "_publish", publish)


def own_entry_only(patch: Patch) -> None:
    """An inline writer applies its own entry, and not what others left below it."""
    settle = distributor.Distributor.settle

    def own(self: Any, some: Any, since: int, doubtful: bool = False) -> Any:
        some.pending = some.pending[-1:]
        return settle(self, some, since, doubtful)

    patch.setattr(distributor.Distributor, "settle", own)


def epoch_of_own_txid(patch: Patch) -> None:
    """A record's epoch ends at the record's own transaction, not at its group's end."""
    make = distributor.Distributor._record

    def own(self: Any, *arguments: Any) -> Any:
        record = make(self, *arguments)
        return None if record is None else record._replace(upto=record.txid)

    patch.setattr(distributor.Distributor, "_record", own)


def recent_lacks_a_path(patch: Patch) -> None:
    """``recent`` leaves out a path of each transaction."""
    text = distributor.codec.text

    def half(value: Any) -> str:
        if isinstance(value, tuple):
            value = tuple((txid, writes[1:]) for txid, writes in value)
        return text(value)

    patch.setattr(distributor.codec, "text", half)


def high_floor(patch: Patch) -> None:
    """The floor lies at the group's last entry instead of below the whole group."""
    make = distributor.Distributor._record

    def high(self: Any, *arguments: Any) -> Any:
        record = make(self, *arguments)
        return None if record is None else record._replace(floor=record.upto, recent="[]")

    patch.setattr(distributor.Distributor, "_record", high)


def any_record_counts(patch: Patch) -> None:
    """Who looks first takes an older record for the one that is to be written."""

    def loosely(self: Any, some: dict[str, Any]) -> dict[str, Any]:
        there = self._deployment.records.get_many(list(some))
        return {path: each for (path, each), found in zip(some.items(), there, strict=True) if found is None}

    patch.setattr(distributor.Distributor, "_lacking", loosely)


def mark_first(patch: Patch) -> None:
    """The mark is raised before the records are written."""
    settle = distributor.Distributor.settle

    def early(self: Any, some: Any, since: int, doubtful: bool = False) -> Any:
        if some.pending:
            self._deployment.checkpoints.mark(some.head)
        return settle(self, some, since, doubtful)

    patch.setattr(distributor.Distributor, "settle", early)


def contents_outlive_the_view(patch: Patch) -> None:
    """What a distributor remembers of records is kept when its view is loaded anew."""

    def reload(self: Any, max_nodes: int) -> Any:
        deployment = self._deployment
        return view.load(deployment.log, deployment.checkpoints, deployment.clock, max_nodes)

    patch.setattr(distributor.Distributor, "load", reload)


def events_with_the_record(patch: Patch) -> None:
    """Who loses the race for a record leaves its events to the winner."""
    put = records.TableRecords.put
    lost: set[tuple[str, int]] = set()

    def noting(self: Any, path: str, record: Any, *check: Any) -> bool:
        won = put(self, path, record, *check)
        if not won:
            lost.add((path, record.txid))
        return won

    fired = watches.WatchFunction._fired

    def some(self: Any, entries: Any, ended: Any) -> Any:
        return [row for row in fired(self, entries, ended) if not any(path == row.path for path, _ in lost)]

    patch.setattr(records.TableRecords, "put", noting)
    patch.setattr(watches.WatchFunction, "_fired", some)
    no_mark_for_watchers(patch)


def no_mark_for_watchers(patch: Patch) -> None:
    """A watching client does not look at the mark when it renews its lease."""
    renew = ClientSession.renew

    def blind(self: Any, returned: bool = False) -> None:
        connection = self.connection
        applied, connection.applied = connection.applied, lambda: 0
        try:
            renew(self, returned)
        finally:
            connection.applied = applied

    patch.setattr(ClientSession, "renew", blind)


def absent_is_fine(patch: Patch) -> None:
    """ "Absent" is shown although a creation was met."""
    read = Rules.read

    def careless(self: Any, path: str) -> Any:
        least = self._least
        steps = read(self, path)
        answer: Any = None
        while True:
            try:
                command = steps.send(answer)
            except StopIteration as done:
                return done.value
            answer = yield command
            if answer is None and path in least:
                least.pop(path)

    patch.setattr(Rules, "read", careless)


def no_least(patch: Patch) -> None:
    """A record older than what was met is shown."""
    meet = Rules.meet

    def forget(self: Any, epoch: Any, *, settled: bool) -> Any:
        raised = yield from meet(self, epoch, settled=settled)
        self._least.clear()
        return raised

    patch.setattr(Rules, "meet", forget)


def reads_overtake_writes(patch: Patch) -> None:
    """A read does not wait for the session's earlier writes."""

    def at_once(self: Any, steps: Any) -> Any:
        began = self.rules.observer.reads()
        self.check()
        result = self.drive(steps)
        self.rules.observer.has_read(began)
        return result

    patch.setattr(ClientSession, "run", at_once)
    patch.setattr(Outbox, "last", lambda self: None)


def watches_fire_later(patch: Patch) -> None:
    """What was read is returned before the watches that it triggers fire."""
    trigger = Rules._trigger
    due: list[Any] = []

    def later(self: Any, txid: int, writes: Any) -> None:
        due.append((self, txid, writes))

    read = Rules.read

    def first(self: Any, path: str) -> Any:
        mine = [each for each in due if each[0] is self]
        for each in mine:
            due.remove(each)
            trigger(*each)
        return (yield from read(self, path))

    patch.setattr(Rules, "_trigger", later)
    patch.setattr(Rules, "read", first)


def log_is_not_read(patch: Patch) -> None:
    """A client with watches does not read the log between what it saw and the floor."""
    meet = Rules.meet

    def short(self: Any, epoch: Any, *, settled: bool) -> Any:
        floor = min(epoch.floor, self.seen)
        return (yield from meet(self, epoch._replace(floor=floor), settled=settled))

    patch.setattr(Rules, "meet", short)


def register_without_second_read(patch: Patch) -> None:
    """A watch is set without reading again after its row was put."""

    def once(self: Any, path: str, kind: str, callback: Any, allowed: Any = None, fetch: Any = None) -> Any:
        record = yield from self.read(path)
        meta = record.meta if record is not None else None
        if meta is None and kind != "exists":
            return record
        if meta is not None and allowed is not None:
            allowed(meta)
        stamp = self.seen if meta is None else meta.pzxid if kind == "children" else meta.mzxid
        yield PutWatch(path, kind, stamp)
        watch = Watch(path, kind, stamp, meta is not None, callback)
        self._watches.setdefault(path, []).append(watch)
        self.observer.watched(watch, record)
        return record

    patch.setattr(Rules, "watch", once)


def close_without_mark(patch: Patch) -> None:
    """Heartbeat has overdue sessions closed without marking their leases."""
    patch.setattr(sessions.Leases, "mark", lambda self, lease: None)


def renew_marked(patch: Patch) -> None:
    """A marked lease is renewed."""
    put = sessions.Leases._put

    def over(self: Any, lease: Any, condition: Any) -> None:
        try:
            put(self, lease, condition)
        except Conflict:
            if lease.marked:
                raise
            self._table.put(
                "lease",
                sessions._lease_key(lease.session),
                {"stamp": lease.version, "expires": lease.expires, "marked": 0, "incarnation": 0},
            )

    patch.setattr(sessions.Leases, "_put", over)


def close_is_lost(patch: Patch) -> None:
    """A marked lease is not looked at again."""
    every = sessions.Leases.all
    patch.setattr(
        sessions.Leases, "all", lambda self: iter([each for each in every(self) if not each.marked])
    )


def checkpoint_over_newer(patch: Patch) -> None:
    """A session's row in the checkpoint is put over a newer one."""
    patch.setattr(checkpoint, "IfOlder", lambda stamp: None)


def rows_unsaved(patch: Patch) -> None:
    """The checkpoint's header is saved without the rows of the sessions that changed."""
    save = checkpoint.Checkpoints.save

    def header(self: Any, value: Any, some: Any, now: int) -> None:
        some.changed.clear()
        save(self, value, some, now)

    patch.setattr(checkpoint.Checkpoints, "save", header)


def age_is_ignored(patch: Patch) -> None:
    """A view is used, and appended to, however old it is."""
    patch.setattr(view.View, "valid", lambda self, now: True)
    patch.setattr(view.View, "check_age", lambda self, now, valid=0: None)
    patch.setattr(log, "APPEND_WITHIN_MS", 10**15)


def twice_opened(patch: Patch) -> None:
    """An Open that comes again opens another session."""
    patch.setattr(batch.Batch, "opened_by", lambda self, nonce: None)


def names_move_at_once(patch: Patch) -> None:
    """Lists that give names away are written beside those that receive them."""
    pages = children.Listing.pages

    def at_once(self: Any, *, sources: bool) -> Any:
        return [] if sources else pages(self, sources=False) + pages(self, sources=True)

    patch.setattr(children.Listing, "pages", at_once)
    patch.setattr(children.Listing, "gives", lambda self: False)


def lists_resized_in_one_pass(patch: Patch) -> None:
    """A list may change its number of pages many times in what is written side by side."""
    patch.setattr(distributor, "passes", lambda transactions: [transactions])
    patch.setattr(histories, "STEPS", 40_000)  # shows as a history without end; the others have 4,000


def pages_unlisted(patch: Patch) -> None:
    """``recent`` lists znodes and not the pages of their children's names."""

    def znodes(transaction: Any) -> Any:
        return tuple((change.path, change.letters) for change in transaction.changes)

    patch.setattr(distributor, "writes_of", znodes)
    patch.setattr(interpreter, "writes_of", znodes)


def snapshot_one_by_one(patch: Patch) -> None:
    """Several paths are read one after the other, each as the rules allow."""

    def one_by_one(self: Any, wanted: Sequence[str], listed: Sequence[str] = ()) -> Any:
        found = {}
        for path in wanted:
            record = found[path] = yield from self.read(path)
            if path in listed and record is not None and record.meta is not None:
                for number in range(record.meta.pages):
                    page = children.page_path(path, number)
                    found[page] = yield from self.read(page)
        self.observer.shown_together(found, listed)
        return found

    patch.setattr(Rules, "snapshot", one_by_one)


def snapshot_with_gaps(patch: Patch) -> None:
    """Who reads several paths does not read the log between what it saw and the floor."""
    patch.setattr(Rules, "watching", property(lambda self: bool(self._watches) or bool(self._recursive)))


def lapse_at_once(patch: Patch) -> None:
    """A tombstone lapses as soon as the mark has passed it."""
    patch.setattr(sweeping.Progress, "passed", lambda self, age: self.applied)


def reaped_without_looking(patch: Patch) -> None:
    """The writer removes what heartbeat saw to be due, due or not."""

    def reap(case: Any, operation: Any) -> Any:
        return transactions.apply(case._replace(who=(acl.SUPER,)), transactions.Delete(operation.path))

    patch.setitem(transactions.HANDLERS, transactions.Reap, reap)


def containers_go_at_once(patch: Patch) -> None:
    """A container goes as soon as it has lost its last child."""
    patch.setattr(znode, "EMPTY_MS", 0)


def children_lost_leave_no_row(patch: Patch) -> None:
    """Only the creation of a znode that goes by itself is noted, not the loss of its last child."""
    look = images.Image.check_at
    patch.setattr(images.Image, "check_at", lambda self: look(self) if self.fresh else None)


def closing_ends_half_way(patch: Patch) -> None:
    """Nobody goes on with a session that its first transaction has closed."""
    closed = transactions.Closed
    patch.setattr(transactions, "Closed", lambda session, partial: closed(session))


def credentials_of_now(patch: Patch) -> None:
    """A request that is sent again is sent with the credentials of now."""
    add, resend = ClientSession.add, Outbox.resend

    def known(self: Any, write: Any, future: Any, auth: Any) -> None:
        self.outbox.session = self
        add(self, write, future, auth)

    def again(self: Any, cxid: int) -> Any:
        return tuple(each._replace(auth=self.session.auth) for each in resend(self, cxid))

    patch.setattr(ClientSession, "add", known)
    patch.setattr(Outbox, "resend", again)


def watch_that_stays_counts_from_its_row(patch: Patch) -> None:
    """A watch that stays is kept when its row is there, as of what was seen before."""

    def late(self: Any, path: str, kind: str, callback: Any) -> Any:
        yield from self.read(path)
        watch = Watch(path, kind, self.seen, True, callback)
        yield PutWatch(path, kind, watch.stamp)
        self._keep(watch)

    patch.setattr(Rules, "add_watch", late)


def item_before_its_parts(patch: Patch) -> None:
    """An item is put before the parts that it names."""
    put = wide.WideTable.put

    class Turned:
        def __init__(self, table: Any) -> None:
            self._table = table
            self._parts: list[Any] = []
            self.max_item_bytes = table.max_item_bytes

        def put(self, partition: str, key: str, item: Any, condition: Any = None) -> None:
            if partition.startswith("parts "):
                self._parts.append((partition, key, item))
                return
            self._table.put(partition, key, item, condition)
            for part in self._parts:
                self._table.put(*part)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._table, name)

    def turned(self: Any, *arguments: Any) -> None:
        table, self._table = self._table, Turned(self._table)
        try:
            put(self, *arguments)
        finally:
            self._table = table

    patch.setattr(wide.WideTable, "put", turned)


def old_incarnation_is_heard(patch: Patch) -> None:
    """Requests of a process whose session another goes on with are judged."""
    judge = validation.Validator._requests

    def heard(self: Any, batch: Any, message: Any) -> Any:
        session = batch.session(message.session)
        if session is not None and message.incarnation < session.incarnation:
            message = message._replace(incarnation=session.incarnation)
        return judge(self, batch, message)

    patch.setattr(validation.Validator, "_requests", heard)


# ---- what may not grow ---------------------------------------------------------------------------


def parts_stay(patch: Patch) -> None:
    """Parts of versions that were replaced are not deleted."""
    patch.setattr(wide.WideTable, "sweep", lambda self, now, age: iter(()))


def parts_of_old_entries_stay(patch: Patch) -> None:
    """Entries are trimmed without their parts."""
    patch.setattr(wide.WideTable, "drop_parts", lambda self, partition, below, *gather: None)


def only_what_was_named_is_swept(patch: Patch) -> None:
    """The index gets a version's row after the version was named: a writer that fails before leaves parts."""
    put = wide.WideTable.put

    def late(self: Any, partition: str, key: str, item: Any, condition: Any = None, *check: Any) -> None:
        rows: list[Any] = []
        table = self._table

        class Putting:
            def put(self, partition: str, key: str, item: Any, condition: Any = None) -> None:
                if partition == wide.INDEX:
                    rows.append((partition, key, item))
                else:
                    table.put(partition, key, item, condition)

            def __getattr__(self, name: str) -> Any:
                return getattr(table, name)

        self._table = Putting()
        try:
            put(self, partition, key, item, condition, *check)
        finally:
            self._table = table
        for row in rows:
            table.put(*row)

    patch.setattr(wide.WideTable, "put", late)


def parts_go_before_they_are_named(patch: Patch) -> None:
    """What no item names is deleted as soon as it is found."""
    look = wide.WideTable._look

    def at_once(self: Any, name: str, row: Any, now: int, age: int) -> None:
        look(self, name, {**row, "stamp": 1}, now + age, age)

    patch.setattr(wide.WideTable, "_look", at_once)


def rows_of_closed_sessions_stay(patch: Patch) -> None:
    """The checkpoint keeps the rows of sessions that ended long ago."""
    patch.setattr(checkpoint, "CLOSED_KEPT_MS", 1 << 50)
    patch.setattr(sessions, "CLOSED_KEPT_MS", 1 << 50)


def leases_stay(patch: Patch) -> None:
    """The lease of a session that ended is not deleted."""
    patch.setattr(sessions.Leases, "drop", lambda self, session: None)


def watch_rows_stay(patch: Patch) -> None:
    """The watch rows of a session that ended are not deleted."""
    patch.setattr(watches.WatchTable, "clear", lambda self, session, *, last=False: None)


def index_goes_at_once(patch: Patch) -> None:
    """The index of a session's watches goes when it ends: what is put later, nobody finds."""
    clear = watches.WatchTable.clear
    patch.setattr(
        watches.WatchTable, "clear", lambda self, session, *, last=False: clear(self, session, last=True)
    )
    patch.setattr(Registrations, "end", lambda self, session: None)


def tombstones_stay(patch: Patch) -> None:
    """A tombstone never lapses."""
    patch.setattr(records.TableRecords, "lapse", lambda self, path, txid: None)


def log_is_kept(patch: Patch) -> None:
    """Heartbeat does not trim the log where its store does not."""
    patch.setattr(log.Log, "trim", lambda self, entries: None)


def outcomes_stay(patch: Patch) -> None:
    """Outcomes are kept that the client is known to have."""
    patch.setattr(sessions.Session, "forget_acked", lambda self: None)


def views_forget_nothing(patch: Patch) -> None:
    """A view remembers every znode that it ever needed."""
    patch.setattr(view.View, "_evict", lambda self: None)


def distributors_forget_nothing(patch: Patch) -> None:
    """A distributor remembers every record that it ever made."""

    def keep(self: Any, path: str, content: Any) -> None:
        self._known[path] = content

    patch.setattr(contents.Contents, "keep", keep)


def clients_forget_nothing(patch: Patch) -> None:
    """A client remembers what it must not show older, although nobody can show it older any more."""

    def note(self: Any, applied: int) -> None:
        if applied > self.applied:
            self.applied = applied

    patch.setattr(Rules, "note_applied", note)


# ---- what is removed too early, or done twice ----------------------------------------------------


def trimmed_at_once(patch: Patch) -> None:
    """Heartbeat trims the log whatever its age."""
    patch.setattr(sweeping, "RETENTION_MS", 0)


def clock_before_the_progress(patch: Patch) -> None:
    """A sweep reads mark and clock, and then the progress that others may have saved meanwhile."""
    sweep, pass_time = sweeping.Sweeper.sweep, sweeping.Progress.pass_time
    applied, read = checkpoint.Checkpoints.applied, threading.local()

    def early(self: Any, *within: int) -> bool:
        read.mark = self._deployment.checkpoints.applied()
        read.clock = self._deployment.clock()
        return sweep(self, *within)

    def once(self: Any) -> int:
        return read.__dict__.pop("mark") if "mark" in read.__dict__ else applied(self)

    patch.setattr(sweeping.Sweeper, "sweep", early)
    patch.setattr(checkpoint.Checkpoints, "applied", once)
    patch.setattr(
        sweeping.Progress, "pass_time", lambda self, applied, now: pass_time(self, applied, read.clock)
    )


def set_up_by_halves(patch: Patch) -> None:
    """Set-up leaves a deployment alone of which something is there."""
    begin = world.begin

    def once(deployment: Any) -> None:
        if deployment.records.get("/") is None:
            begin(deployment)

    patch.setattr(world, "begin", once)


def set_up_anew(patch: Patch) -> None:
    """Set-up puts the tree over the one that is there."""

    def anew(deployment: Any) -> None:
        for path, (meta, names) in znode.genesis().items():
            record = records.Record(0, meta, b"", list(names), 0, 0, "[]")
            deployment.records._table.put(path, "node", records.encode(record))
        deployment.checkpoints.begin(deployment.clock())

    patch.setattr(world, "begin", anew)


def row_before_its_index(patch: Patch) -> None:
    """A watch's row is put before the index by which it is found when its session ends."""
    index, put = watches.WatchTable.index, watches.WatchTable.put
    late: list[Any] = []

    def first(self: Any, row: Any) -> None:
        put(self, row)
        while late:
            index(self, *late.pop())

    patch.setattr(watches.WatchTable, "index", lambda self, *row: late.append(row))
    patch.setattr(watches.WatchTable, "put", first)


# ---- what a client may ask for -------------------------------------------------------------------


def any_reference_is_believed(patch: Patch) -> None:
    """A request may name any object as its data."""
    patch.setattr(transactions, "_is_valid", lambda *asked: True)


def anybody_speaks_for_anybody(patch: Patch) -> None:
    """A message is taken to be of the session that it names, whoever signed it."""
    patch.setattr(writer.trust, "verify", lambda key, signed: None)


def answers_go_where_a_copy_says(patch: Patch) -> None:
    """Of a message that came before, the address is not verified."""
    verify, seen = trust.verify, set()

    def lenient(key: bytes, signed: bytes) -> None:
        known: Any = None
        try:
            known = key, codec.to_message(trust.body(signed))._replace(address="")
        except codec.Malformed:
            pass
        if known is None or known not in seen:
            verify(key, signed)
            seen.add(known)

    patch.setattr(writer.trust, "verify", lenient)


def nothing_is_forbidden(patch: Patch) -> None:
    """ACLs are kept and not looked at."""
    patch.setattr(transactions, "_denied", lambda *asked: False)


def messages_of_any_form(patch: Patch) -> None:
    """What the codec can read is judged, however long or odd it is."""
    patch.setattr(writer.admission, "check", lambda message: None)


def text_that_cannot_be_logged(patch: Patch) -> None:
    """Text of a request may be any that JSON can name."""
    patch.setattr(codec, "_path", str)


def data_of_others_is_shown(patch: Patch) -> None:
    """A reader does not look whether a znode's data is what was stored for it."""
    patch.setattr(blobs, "_same", lambda said, found: True)


# ---- threads that switch, and processes that share a ticket --------------------------------------


def seen_before_its_events(patch: Patch) -> None:
    """What was met counts as seen before the events that it causes are queued."""
    trigger = Rules._trigger

    def late(self: Any, txid: int, writes: Any) -> None:
        self.seen = max(self.seen, txid)
        trigger(self, txid, writes)

    patch.setattr(Rules, "_trigger", late)


def ticket_is_compared_first(patch: Patch) -> None:
    """A read without a lock looks whether anything was met meanwhile, and then at what it must not show."""

    def accepts(self: Any, path: str, record: Any, ticket: int) -> bool:
        return (
            ticket == self.ticket
            and (record is None or record.upto <= self.seen)
            and (not self._least or (record.txid if record else 0) >= self._least.get(path, 0))
        )

    patch.setattr(Rules, "accepts", accepts)


def a_ticket_s_incarnation_goes_on(patch: Patch) -> None:
    """Who goes on with a session does so as the incarnation of the process before, with its numbers."""
    patch.setattr(incarnation, "next_incarnation", lambda above, random: above)


def incarnations_follow_on_each_other(patch: Patch) -> None:
    """The number of an incarnation is the one after that which its process knows."""
    patch.setattr(incarnation, "next_incarnation", lambda above, random: above + 1)


# ---- clocks, and servers with leases under theirs ------------------------------------------------


def client_goes_by_its_own_clock(patch: Patch) -> None:
    """A client does not follow the service's clock."""
    patch.setattr(clocks.ServiceClock, "note", lambda self, time: None)


def leases_by_the_wall_clock(patch: Patch) -> None:
    """Leases and ages are counted by a clock that may be set."""
    deployment = world.World.deployment

    def by_the_wall(self: Any, process: Any) -> Any:
        made = deployment(self, process)
        made.clock = made.wall
        return made

    patch.setattr(world.World, "deployment", by_the_wall)


def log_time_is_what_the_wall_clock_says(patch: Patch) -> None:
    """An entry's time is its writer's, whatever the last entry's is."""
    patch.setattr(clocks.LogClock, "now", lambda self, last: self._wall())


def a_server_has_served_until_it_renewed(patch: Patch) -> None:
    """What a dead server served after its last renewal does not count."""
    patch.setattr(heartbeat, "served_ms", lambda timeout: 0)


def leases_under_a_server_count_for_themselves(patch: Patch) -> None:
    """A lease under a server's is overdue by its own time."""
    every = sessions.Leases.all
    patch.setattr(sessions.Leases, "all", lambda self: (each._replace(under=0) for each in every(self)))


BUSY: dict[str, Any] = {"clients": 4, "operations": 20, "crashes": 0, "faults": 0.08, "ordered": False}
PAGED: dict[str, Any] = {"page_names": 2, "faults": 0.08, "clients": 4, "operations": 20, "ordered": False}


def join_over_what_is_pending(patch: Patch) -> None:
    """An entry is appended with its records although something below it is not in user storage."""
    join = distributor.Distributor.join

    def over(self: Any, view: Any, entry: Any) -> Any:
        pending, view.pending = view.pending, []
        try:
            return join(self, view, entry)
        finally:
            view.pending = pending

    patch.setattr(distributor.Distributor, "join", over)


def join_and_remember(patch: Patch) -> None:
    """What was to be written with an entry is remembered as written, although it was not."""
    patch.setattr(distributor.Distributor, "forget", lambda self: None)


def join_record_by_record(patch: Patch) -> None:
    """The puts of one call are not all or none: those whose condition holds are made."""

    def joint(self: Any, writes: Any) -> None:
        def effect() -> None:
            failed: Conflict | None = None
            for write in writes:
                try:
                    self.tables[write.table].effect(
                        write.partition, write.key, dict(write.item), write.condition
                    )
                except Conflict as error:
                    failed = error
            if failed is not None:
                raise failed

        self.call("joint.put", True, effect)

    patch.setattr(world.World, "joint", joint)


JOINT: dict[str, Any] = {"joint": True, "own_distributor": False, "object_records": False}
STILL: dict[str, Any] = {"faults": 0.0, "losses": 0.0, "skew_ms": 0}


def what_lies_behind_a_gap_is_taken(patch: Patch) -> None:
    """Stripes are read at moments of their own, and an entry of one that is seen makes up for the others."""

    def after(self: Any, txid: int, limit: int = 100) -> Any:
        found, more = self._found(txid, limit)
        return [log.decode(item) for item in found], more

    patch.setattr(log.Log, "after", after)


def the_log_ends_at_a_gap(patch: Patch) -> None:
    """Where a query of all stripes has a gap, there is no more."""
    whole = log.Log.after

    def after(self: Any, txid: int, limit: int = 100) -> Any:
        entries, _ = whole(self, txid, limit)
        return entries, len(entries) >= limit

    patch.setattr(log.Log, "after", after)


def the_log_s_end_is_looked_for_in_one_stripe(patch: Patch) -> None:
    """The stripe of the last entry, where the next one usually is not."""

    def tail(self: Any, txid: int) -> Any:
        name = log.partition(txid, self._stripes())
        page = self._table.query(name, log.key(txid), 100)
        return [log.decode(item) for _, item in page.items][:1], False

    patch.setattr(log.Log, "tail", tail)


def anybody_ends_sessions(patch: Patch) -> None:
    """The writer does not ask whether the one that ends another's session is the super user."""
    may_end = validation._may_end
    patch.setattr(
        validation, "_may_end", lambda some, wanted, session, who: may_end(some, wanted, wanted, who)
    )


def what_has_ended_ends_again(patch: Patch) -> None:
    """A session that is closed is ended once more."""
    may_end = validation._may_end

    def again(some: Any, wanted: int, session: int, who: Any) -> Any:
        code = may_end(some, wanted, session, who)
        there = some.session(wanted)
        return Code.OK if code is Code.NO_NODE and there is not None else code

    patch.setattr(validation, "_may_end", again)


def ending_another_ends_half_way(patch: Patch) -> None:
    """Nobody goes on with a session of another whose closing takes several transactions."""
    decide = validation.Validator._next

    def once(self: Any, some: Any, session: Any, message: Any, request: Any) -> None:
        decide(self, some, session, message, request)
        if isinstance(request.operation, End) and request.operation.session != message.session:
            some.unfinished.discard(request.operation.session)

    patch.setattr(validation.Validator, "_next", once)


STRIPED: dict[str, Any] = {"stripes": 5, "writers": 3, "ordered": False}
RULES: dict[Callable[[Patch], None], dict[str, Any]] = {
    unlogged_errors: {},
    lose_outcomes: {},
    judge_ahead: {},
    answer_uncertain: {},
    trust_unknown_append: {},
    evict_unapplied: {"max_nodes": 3, "own_distributor": True},
    keep_view_after_failure: {},
    overwrite_newer: {},
    no_tombstone: {},
    answer_first: {"own_distributor": False},
    own_entry_only: {"writers": 3, "ordered": False},
    any_record_counts: {"writers": 3, "ordered": False},
    epoch_of_own_txid: {**BUSY, "recent_bytes": 1024, "start": 590},
    recent_lacks_a_path: {"recent_bytes": 1024, "start": 1_135},
    high_floor: {**BUSY, "recent_bytes": 1024, "start": 38},
    mark_first: {},
    contents_outlive_the_view: {"writers": 3, "ordered": False},
    events_with_the_record: {},
    no_mark_for_watchers: {"losses": 0.3},
    absent_is_fine: {**BUSY, "faults": 0.05, "own_distributor": True, "recent_bytes": 1024, "start": 2215},
    no_least: {"recent_bytes": 1024, "start": 265},
    reads_overtake_writes: {},
    watches_fire_later: {},
    log_is_not_read: {"recent_bytes": 1024},
    register_without_second_read: {**BUSY, "start": 650},
    close_without_mark: {},
    close_is_lost: {"losses": 0.3},
    renew_marked: {"faults": 0.08, "operations": 20, "clients": 4},
    checkpoint_over_newer: {"writers": 3, "ordered": False, "save_every": 1, "operations": 20, "start": 620},
    rows_unsaved: {},
    age_is_ignored: {"long": True, "faults": 0.05},
    twice_opened: {"losses": 0.3},
    names_move_at_once: {**PAGED, "start": 95},
    lists_resized_in_one_pass: {**PAGED, "start": 620},
    pages_unlisted: {"page_names": 2, "recent_bytes": 1024, "start": 1_270},
    snapshot_one_by_one: BUSY,
    snapshot_with_gaps: {**BUSY, "start": 40},
    lapse_at_once: {**BUSY, "long": True, "recent_bytes": 1, "save_every": 1},
    reaped_without_looking: {"start": 165},
    containers_go_at_once: {"start": 570},
    children_lost_leave_no_row: {"start": 300},
    closing_ends_half_way: {"close_changes": 1},
    credentials_of_now: {"losses": 0.3, "start": 60},
    watch_that_stays_counts_from_its_row: {**BUSY, "start": 290},
    item_before_its_parts: {"max_item_bytes": 600, "faults": 0.05},
    old_incarnation_is_heard: {"losses": 0.3},
    join_over_what_is_pending: {**JOINT, "writers": 3, "ordered": False, "start": 130},
    join_and_remember: JOINT,
    join_record_by_record: {**JOINT, "writers": 3, "ordered": False},
    parts_stay: {"max_item_bytes": 600, "inline_bytes": 20},
    parts_of_old_entries_stay: {"max_item_bytes": 600, "inline_bytes": 20, "expiring": False},
    only_what_was_named_is_swept: {"max_item_bytes": 600, "inline_bytes": 20, "faults": 0.05},
    parts_go_before_they_are_named: {"max_item_bytes": 600, "faults": 0.05},
    rows_of_closed_sessions_stay: {"inline_bytes": 20},
    leases_stay: {},
    watch_rows_stay: {},
    index_goes_at_once: {"inline_bytes": 20, "faults": 0.08, "operations": 20, "clients": 4, "start": 1_550},
    tombstones_stay: {"inline_bytes": 20, "object_records": False},
    log_is_kept: {"inline_bytes": 20, "expiring": False},
    outcomes_stay: {},
    views_forget_nothing: {"max_nodes": 3, "own_distributor": False},
    distributors_forget_nothing: {"max_contents": 2},
    clients_forget_nothing: {"recent_bytes": 1024, "start": 760},
    trimmed_at_once: {"long": True, "expiring": False},
    clock_before_the_progress: {
        "long": True,
        "expiring": False,
        "watch_function": True,
        "hostile": 30,
        "lead_ms": 31_000,
        "start": 90009370,
    },
    set_up_by_halves: {"cut": True},
    set_up_anew: {"cut": True, "object_records": False},
    row_before_its_index: {"cut": True, "start": 85},
    client_goes_by_its_own_clock: {**STILL, "lead_ms": 31_000},
    leases_by_the_wall_clock: {**STILL, "steps": True},
    log_time_is_what_the_wall_clock_says: {"steps": True},
    a_server_has_served_until_it_renewed: {**STILL, "servers": True},
    leases_under_a_server_count_for_themselves: {**STILL, "servers": True},
    seen_before_its_events: {
        "preempt": True,
        "clients": 3,
        "operations": 20,
        "faults": 0.0,
        "crashes": 0,
        "start": 135,
    },
    ticket_is_compared_first: {**BUSY, "preempt": True, "recent_bytes": 1024},
    incarnations_follow_on_each_other: {"sharing": True},
    a_ticket_s_incarnation_goes_on: {"sharing": True},
    data_of_others_is_shown: {"hostile": 60, "inline_bytes": 20},
    any_reference_is_believed: {"hostile": 30, "inline_bytes": 20, "start": 495},
    anybody_speaks_for_anybody: {"hostile": 30},
    nothing_is_forbidden: {"hostile": 30},
    messages_of_any_form: {"hostile": 60},
    text_that_cannot_be_logged: {"hostile": 60},
    answers_go_where_a_copy_says: {"hostile": 30, "copies": True},
    what_lies_behind_a_gap_is_taken: {**STRIPED, "start": 130},
    the_log_ends_at_a_gap: STRIPED,
    the_log_s_end_is_looked_for_in_one_stripe: STRIPED,
    anybody_ends_sessions: {"ending": True},
    what_has_ended_ends_again: {"ending": True},
    ending_another_ends_half_way: {"ending": True, "close_changes": 1, "operations": 20},
}
"""Rules, and the plan (and where one is rare, the seed to start from) in which their loss shows soonest."""
SAMPLE = 3
"""One in so many is for ``make test``; ``make test-simulator`` has the others."""
LATE = {age_is_ignored, data_of_others_is_shown, ticket_is_compared_first}
"""Those whose loss shows after seconds only are not in the sample."""
SEEDS = 1_500
PLAIN: dict[str, Any] = {
    "long": False,
    "max_item_bytes": 1 << 30,
    "joint": False,
    "watch_function": False,
    "expiring": True,
    "cut": False,
    "max_contents": 1_000,
    "mass": 0,
    "hostile": 0,
    "copies": False,
    "preempt": False,
    "sharing": False,
    "steps": False,
    "lead_ms": 0,
    "servers": False,
    "close_changes": 1_000,
    "stripes": 1,
    "entry_bytes": log.ENTRY_BYTES,
    "ending": False,
}
"""What histories are without, unless a rule wants it."""
BUGS = ("TypeError", "AttributeError", "NameError", "KeyError", "IndexError")
"""What a mutation that does not fit the code any more leads to."""


@pytest.mark.parametrize(
    "rule",
    [
        pytest.param(
            rule,
            id=rule.__name__,
            marks=pytest.mark.simulator if number % SAMPLE or rule in LATE else [],
        )
        for number, rule in enumerate(RULES)
    ],
)
def test_a_rule_left_out_is_caught(rule: Callable[[Patch], None], monkeypatch: Patch) -> None:
    rule(monkeypatch)
    start = RULES[rule].get("start", 0)
    for seed in range(start, start + SEEDS):
        violation = run(seed, _plan(seed, RULES[rule])).violation
        if violation:
            assert violation.split(":")[0] not in BUGS, f"the mutation itself is wrong: {violation}"
            return
    pytest.fail(f"{SEEDS} histories are clean without it: {rule.__doc__}")


def _plan(seed: int, wanted: dict[str, Any]) -> Plan:
    changes = {**PLAIN, **wanted}
    changes.pop("start", None)
    return replace(plan_of(seed), **changes)


@pytest.mark.parametrize("rule", [True, False])
def test_a_log_that_is_trimmed_above_the_checkpoint_is_caught(rule: bool, monkeypatch: Patch) -> None:
    """The mark and the log's age would allow it, where checkpoints are not saved; the checkpoint does not."""
    monkeypatch.setattr(checkpoint.Checkpoints, "save", lambda self, header, sessions, clock: None)
    if not rule:

        def without_the_checkpoint(*some: int) -> int:
            return min(some[0], some[2]) if len(some) == 3 else min(some)

        monkeypatch.setattr(sweeping, "min", without_the_checkpoint, raising=False)
    plan = {"inline_bytes": 20, "expiring": False, "own_distributor": False, "faults": 0.0}
    found = [run(seed, _plan(seed, plan)).violation for seed in range(20)]
    assert any(" is deleted, header stands at " in each for each in found) is not rule
