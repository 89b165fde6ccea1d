"""Histories: what clients do in the simulator, what is checked, and how a failure is told.

``python -m faaskeeper.testing.simulate --seeds 2000`` runs histories from ``--start`` on; the last line
sums up, and the exit status is 1 when a promise was broken. A failing seed is run again by itself with
``--replay SEED`` and shows its trace.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from random import Random
from typing import Any

from faaskeeper.client import FaaSKeeperClient, SessionState, Ticket
from faaskeeper.client.futures import Future
from faaskeeper.core import paths
from faaskeeper.core.acl import CREATOR_ALL_ACL, READ_ACL
from faaskeeper.core.blobs import parse_blob_name
from faaskeeper.core.counting import current
from faaskeeper.core.errors import Code
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Operation, Outcome
from faaskeeper.core.tally import Tally
from faaskeeper.core.watches import STAYING
from faaskeeper.core.znode import OPEN_ACL
from faaskeeper.exceptions import (
    FaaSKeeperException,
    ProviderException,
    SessionClosingException,
    SessionExpiredException,
    TimeoutException,
    WatchSetFailureException,
    ZooKeeperException,
)
from faaskeeper.session.commands import Command, ReadBlob, ReadLog, ReadMark
from faaskeeper.session.observer import Observer
from faaskeeper.session.rules import names_of
from faaskeeper.session.watching import Watch
from faaskeeper.testing.fleet import Fleet
from faaskeeper.testing.hostile import Hostile
from faaskeeper.testing.model import ClientView, WatchSeen
from faaskeeper.testing.preempt import preempt
from faaskeeper.testing.scheduler import Scheduler, Stuck, Violation
from faaskeeper.testing.world import Plan, World, trim
from faaskeeper.watch import WatchCallbackType, WatchedEvent, WatchType

_PATHS = ("/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/1")
_STEPS = 400_000
_STEPS_OF_DAYS = 1_500_000
"""Most steps of a history; one in which days pass has clients that ask again all the time."""
LONG_RUN = 20_000
"""From so many histories on, every fault and rare branch must have been reached."""
EXPECTED = frozenset(
    {
        "a clock was set",
        "a server died",
        "a session was served",
        "a ticket used beside others",
        "an epoch that names the log",
        "a session closed by several transactions",
        "a watch that stays",
        "a part is left over",
        "a znode that was due is gone",
        "an ACL refused",
        "an entry in parts",
        "children in pages",
        "client died",
        "crash after",
        "data in a blob",
        "data that is lost",
        "data written over by another",
        "crash before",
        "cut short at a step",
        "dead letter",
        "heartbeat failed",
        "landed late",
        "landed late in vain",
        "log trimmed",
        "log trimmed by heartbeat",
        "message doubled",
        "message late",
        "message lost",
        "queue doubled",
        "queue late",
        "queue lost",
        "read the log between",
        "refused as too late",
        "renewals of a server's lease do not get through",
        "sent what no client sends",
        "stalled for days",
        "taken for dead",
        "the log between was trimmed",
        "throttled",
        "time-out after",
        "time-out before",
        "told that the session is over",
        "told to resend",
        "tombstone lapsed",
        "waited for the mark",
        "watch put after its session's end",
        "went on with a session",
    }
)
_OVER = (SessionExpiredException, SessionClosingException)


class Callback:
    """A watch's callback: what the checker knows it by."""

    def __init__(self, seen: WatchSeen) -> None:
        self.seen = seen
        self.called: list[WatchedEvent] = []

    def __call__(self, event: WatchedEvent) -> None:
        self.called.append(event)


class App:
    """A program that uses a client: random operations, each checked."""

    def __init__(self, world: World, number: int, timeout: float, all: list[App]) -> None:
        self.world = world
        self.all = all
        self.name = f"client{number}"
        self.timeout = timeout
        self.process = world.process(self.name, False)
        self.client: FaaSKeeperClient | None = None
        self.view = ClientView(world.model, self.name)
        self.futures: list[Future[Any]] = []
        self.worked = False
        self.over = False
        self.watching: Callback | None = None
        self.crashing = False
        self.left = world.plan.operations
        self.mass = 0
        self.ticket: Ticket | None = None
        self.patience = 12 * 86_400_000 if world.plan.long else 600_000
        """How long after the last fault (ms) an answer may take; a stall that began before may take days."""

    # ---- the program -------------------------------------------------------------------

    def run(self) -> None:
        """Start, work, and wait for what was asked."""
        random = self.world.random
        try:
            self.start()
            if self.mass:
                self.swarm()
            for _ in range(self.left):
                self.left -= 1
                self.pause()
                if self.crashing and random.random() < 0.2:
                    self.die()
                    return
                if random.random() < 0.02:
                    self.hand_over()
                    return
                if self.all and self.world.plan.sharing and random.random() < 0.08 and self.share():
                    return
                self.step()
            for future in self.futures:
                self.outcome(future)
        except _OVER:
            self.over = True
        self.worked = True

    def start(self) -> None:
        """Start the client; when the service does not answer, again."""
        while True:
            client = self.world.client(self.process, self.timeout)
            try:
                client.start(self.ticket)
            except (TimeoutException, ProviderException):
                self.world.scheduler.sleep(1_000)
                continue
            self.client = client
            self.hook()
            if self.world.plan.preempt:
                client._runtime.spawn(partial(self.look_on, client), f"{self.name} looks on")
            return

    def pause(self) -> None:
        """Think."""
        random = self.world.random
        if random.random() < 0.3:
            thought = random.choice((1, 30, 500))
            if self.world.plan.long and random.random() < 0.3:
                thought = random.choice((3_600_000, 30 * 3_600_000))
            self.world.scheduler.sleep(thought)

    def die(self) -> None:
        """The process is gone, from one moment to the next."""
        self.world.scheduler.note("dies")
        self.process.alive = False
        self.died()
        self.world.scheduler.kill(self.process)

    def died(self) -> None:
        """The process is gone."""
        self.world.reached["client died"] += 1
        self.over = self.worked = True

    def hand_over(self) -> None:
        """The process dies, and another goes on with its session."""
        self.world.reached["went on with a session"] += 1
        self.ticket = self._client().ticket
        process, self.process = self.process, self.world.process(f"{self.name}'", False)
        self.futures.clear()
        self.view.restart()
        self.world.scheduler.note("dies, and hands its session over")
        process.alive = False
        self.world.scheduler.spawn(self.name, self.run, self.process)
        self.world.scheduler.kill(process)

    def share(self) -> bool:
        """Give the ticket to one process or two; returns whether this one dies. If not, it learns later."""
        world = self.world
        ticket = self._client().ticket
        for _ in range(world.random.randint(1, 2)):
            heir = App(world, 10 + len(self.all), self.timeout, self.all)
            self.all.append(heir)
            heir.ticket = ticket
            heir.left = min(self.left, 4)
            heir.view.view = self.view.view
            world.scheduler.spawn(heir.name, heir.run, heir.process)
        world.reached["a ticket used beside others"] += 1
        if world.random.random() < 0.5:
            return False
        self.die()
        return True

    def step(self) -> None:
        """One operation, or several asked for at once."""
        operation = self.world.random.choice(
            (
                self.write,
                self.write,
                self.write,
                self.burst,
                self.transaction,
                self.read,
                self.read,
                self.read,
                self.watch,
                self.watch,
                self.watch_on,
                self.unwatch,
                self.crowd,
                self.crowd,
                self.guard,
                self.read_at_once,
                self.read_at_once,
                self.read_later,
                self.together,
                self.sync,
            )
        )
        if self.world.plan.preempt and self.world.random.random() < 0.3:
            operation = self.together
        try:
            operation()
        except ZooKeeperException:
            pass  # an outcome like others; the model has checked it
        except (ProviderException, WatchSetFailureException) as error:
            self.world.scheduler.note(f"was told {error}")

    def ask(self, asynchronous: bool) -> Future[Any] | None:
        """Send one write; wait for it unless asynchronous."""
        random, client = self.world.random, self._client()
        path = random.choice(_PATHS)
        value = b"%d" % random.randrange(1000)
        if self.world.plan.inline_bytes < 100 and random.random() < 0.4:
            value *= 50
        version = random.choice((-1, -1, -1, 0, 1))
        kind = random.random()
        calls: tuple[Callable[[], Any], Callable[[], Any]]
        if kind < 0.25:
            calls = (partial(client.create, path, value), partial(client.create_async, path, value))
        elif kind < 0.4:
            name = random.choice(("/e", "/a/e", "/b/e"))
            args = (name, value, True, random.random() < 0.5)
            calls = (partial(client.create, *args), partial(client.create_async, *args))
        elif kind < 0.5:
            args = (random.choice(("/a/s-", "/s-")), value, False, True)
            calls = (partial(client.create, *args), partial(client.create_async, *args))
        elif kind < 0.8:
            change = (path, value, version)
            calls = (partial(client.set_data, *change), partial(client.set_data_async, *change))
        else:
            gone = (random.choice((*_PATHS, "/e", "/a/e")), version)
            calls = (partial(client.delete, *gone), partial(client.delete_async, *gone))
        if asynchronous:
            future: Future[Any] = calls[1]()
            return future
        calls[0]()
        return None

    def write(self) -> None:
        """A write, waited for."""
        self.ask(False)

    def burst(self) -> None:
        """Writes without waiting."""
        for _ in range(self.world.random.randint(1, 4)):
            future = self.ask(True)
            if future is not None:
                self.futures.append(future)

    def transaction(self) -> None:
        """Several operations in one transaction."""
        random, client = self.world.random, self._client()
        transaction = client.transaction()
        for _ in range(random.randint(0, 4)):
            path = random.choice(_PATHS)
            kind = random.random()
            if kind < 0.4:
                transaction.create(path, b"t", random.random() < 0.2, random.random() < 0.2)
            elif kind < 0.7:
                transaction.set_data(path, b"t%d" % random.randrange(100))
            elif kind < 0.9:
                transaction.delete(path)
            else:
                transaction.check(path, random.choice((-1, 0, 1)))
        transaction.commit()

    def read(self) -> None:
        """Read something."""
        random, client = self.world.random, self._client()
        path = random.choice((*_PATHS, "/", "/e", "/none"))
        kind = random.randrange(4)
        if kind == 0:
            client.get_data(path)
        elif kind == 1:
            client.exists(path)
        elif kind == 2:
            client.get_children(path)
        else:
            client.get_children(path, include_data=True)

    def watch(self) -> None:
        """Read something and leave a watch."""
        random, client = self.world.random, self._client()
        path = random.choice((*_PATHS, "/", "/e"))
        kind = random.choice(("data", "exists", "children"))
        callback = Callback(self.view.watch(path, kind))
        if kind == "data":
            client.get_data(path, callback)
        elif kind == "exists":
            client.exists(path, callback)
        else:
            client.get_children(path, watch=callback)

    def watch_on(self) -> None:
        """Leave a watch that stays."""
        random, client = self.world.random, self._client()
        path = random.choice(("/a", "/a/x", "/", "/b"))
        recursive = random.random() < 0.5
        callback = Callback(self.view.watch(path, "recursive" if recursive else "persistent"))
        client.add_watch(path, callback, recursive)

    def unwatch(self) -> None:
        """Remove watches of a path."""
        random, client = self.world.random, self._client()
        path = random.choice(("/a", "/a/x", "/", "/b"))
        client.remove_watches(path, random.choice((None, WatchType.PERSISTENT, WatchType.EXISTS)))

    def crowd(self) -> None:
        """Many children come, or go, in one transaction or one by one."""
        random, client = self.world.random, self._client()
        above = random.choice(("/a", "/b"))
        names = [f"{above}/c{number}" for number in range(8)]
        some = random.sample(names, random.randint(2, 6))
        if random.random() < 0.4:
            transaction = client.transaction()
            for path in some:
                if random.random() < 0.5:
                    transaction.create(path)
                else:
                    transaction.delete(path)
            transaction.commit()
            return
        coming = random.random() < 0.6
        for path in some:
            self.futures.append(client.create_async(path) if coming else client.delete_async(path))

    def swarm(self) -> None:
        """Many ephemerals, which all go when the session ends."""
        client = self._client()
        above = self.world.random.choice(("/m", "/b"))
        self.futures.append(client.create_async(above))
        for number in range(self.mass):
            self.futures.append(client.create_async(f"{above}/{number}", ephemeral=True))
        self.mass = 0

    def guard(self) -> None:
        """Show a credential, or restrict a node, or make one that goes by itself."""
        random, client = self.world.random, self._client()
        path = random.choice(_PATHS)
        kind = random.randrange(4)
        if kind == 0:
            client.add_auth("digest", f"user{random.randrange(3)}:pw")
        elif kind == 1:
            client.set_acls(path, random.choice((CREATOR_ALL_ACL, READ_ACL, OPEN_ACL, OPEN_ACL)))
        elif kind == 2:
            client.create(path, acl=random.choice((CREATOR_ALL_ACL, OPEN_ACL)), container=True)
        else:
            client.create(path, b"t", sequential=random.random() < 0.3, ttl=random.choice((1, 3_000, 10_000)))

    def read_at_once(self) -> None:
        """Several reads as of one transaction."""
        random, client = self.world.random, self._client()
        with client.multi_read() as reads:
            for _ in range(random.randint(1, 4)):
                path = random.choice((*_PATHS, "/"))
                if random.random() < 0.5:
                    reads.get_data(path)
                else:
                    reads.get_children(path)

    def read_later(self) -> None:
        """Reads without waiting, among writes."""
        client = self._client()
        path = self.world.random.choice(_PATHS)
        self.futures.append(client.exists_async(path))
        if self.world.random.random() < 0.5:
            callback = Callback(self.view.watch(path, "exists"))
            self.futures.append(client.exists_async(path, callback))

    def together(self) -> None:
        """Reads in several threads at once."""
        runtime = self._client()._runtime
        threads = [runtime.spawn(self.read_alone, f"{self.name} thread") for _ in range(2)]
        for thread in threads:
            thread.join()

    def look_on(self, client: FaaSKeeperClient) -> None:
        """Read all the time in a thread of its own: mostly what its other threads are just told of."""
        for _ in range(60):
            self.world.scheduler.sleep(self.world.random.choice((1, 1, 20, 300)))
            try:
                client.exists(self.world.random.choice(("/a", "/b", "/", "/a/x")))
            except FaaSKeeperException:
                if self.over or self.worked:
                    return

    def read_alone(self) -> None:
        """Read in a thread of its own."""
        try:
            for _ in range(2):
                self.read()
        except FaaSKeeperException:
            pass  # an outcome like others

    def sync(self) -> None:
        """Everything committed before is shown after."""
        head = self.world.model.head
        self._client().sync()
        self.view.view = max(self.view.view, head)
        self.view.ordered("sync")

    def outcome(self, future: Future[Any]) -> None:
        """Wait for what was asked; in the end everything is answered."""
        while not future.wait(5.0):
            if self.world.calm and self.world.scheduler.now - self.world.calm_since > self.patience:
                raise Violation(f"{self.name}: {future.what} is never answered")
        try:
            future.get(0)
        except _OVER:
            raise
        except FaaSKeeperException:
            pass  # an outcome like others

    def _client(self) -> FaaSKeeperClient:
        if self.client is None:
            raise AssertionError("started")
        return self.client

    # ---- the checks --------------------------------------------------------------------

    def hook(self) -> None:
        """Have the checker see what the session returns, at the instant it does."""
        session: Any = self._client()._session
        view = self.view
        if self.world.plan.preempt:
            preempt(session, self.world.scheduler)
        state = vars(session.rules)
        view.view = max(view.view, state["seen"])
        if state["seen"] < view.view:
            raise Violation(f"Z3: {self.name} goes on at {state['seen']}, {view.view} was shown before")
        session.rules.observer = Checking(self.world, view, session)


class Checking(Observer):
    """Has the checker see what a session shows, at the instant it does."""

    def __init__(self, world: World, view: ClientView, session: Any) -> None:
        self._world = world
        self._view = view
        self._outbox = session.outbox
        self._state = vars(session.rules)
        self._sent: list[Future[Any]] = []

    def asked(self, operation: Operation, request: Any) -> None:
        """See :class:`faaskeeper.session.observer.Observer`."""
        self._sent.append(request)

    def answered(self, request: Any, outcome: Outcome) -> None:
        """See :class:`faaskeeper.session.observer.Observer`."""
        if outcome.code is Code.FORGOTTEN:
            raise Violation(f"Z1: {self._view.name} waits for {request.what}, whose outcome was not kept")
        self._view.told(outcome.txid)

    def reads(self) -> list[Future[Any]]:
        """See :class:`faaskeeper.session.observer.Observer`."""
        self._sent = [future for future in self._sent if not future.done()]
        return list(self._sent)

    def has_read(self, began: Any) -> None:
        """See :class:`faaskeeper.session.observer.Observer`."""
        unanswered = [each.waiter.future for each in self._outbox._unanswered.values()]
        late = [future.what for future in began if any(future is each for each in unanswered)]
        if late:
            raise Violation(f"Z2: {self._view.name} was shown something before {late} was answered")

    def shown(self, path: str, record: Record | None) -> None:
        """See :class:`faaskeeper.session.observer.Observer`."""
        self._view.shown(path, record)

    def shown_together(self, records: dict[str, Record | None], listed: Sequence[str]) -> None:
        """See :class:`faaskeeper.session.observer.Observer`."""
        self._view.together(records, self._state["seen"])
        for path in listed:
            self._view.listed(path, names_of(path, records))
        if any("//" in path for path in records):
            self._world.reached["children in pages"] += 1

    def watched(self, watch: Watch, record: Record | None) -> None:
        """See :class:`faaskeeper.session.observer.Observer`."""
        seen = _seen(watch.callback)
        if watch.kind in STAYING:
            seen.since = watch.stamp
            self._view.watches.append(seen)
            self._world.reached["a watch that stays"] += 1
        else:
            self._view.shown(watch.path, record)
            self._view.set(seen, self._state["seen"] if record is None else 0)

    def forgotten(self, path: str, watches: Sequence[Watch]) -> None:
        """See :class:`faaskeeper.session.observer.Observer`."""
        for watch in watches:
            _seen(watch.callback).over = True

    def fired(self, callback: WatchCallbackType, event: WatchedEvent) -> None:
        """See :class:`faaskeeper.session.observer.Observer`."""
        self._view.fire(_seen(callback), event)

    def performed(self, command: Command, answer: object) -> None:
        """See :class:`faaskeeper.session.observer.Observer`."""
        if isinstance(command, ReadLog):
            name = "read the log between" if answer is not None else "the log between was trimmed"
            self._world.reached[name] += 1
        elif isinstance(command, ReadMark):
            self._world.reached["waited for the mark"] += 1
        elif isinstance(command, ReadBlob):
            if answer is not None and answer != self._world.stored.get(command.name):
                raise Violation(f"the data {answer!r} is shown of {command.name}, which is another")
            self._world.reached["data that is lost"] += answer is None


def _seen(callback: Any) -> WatchSeen:
    if not isinstance(callback, Callback):
        raise AssertionError(f"a watch of the simulator's calls {callback!r}")
    return callback.seen


@dataclass
class History:
    """What came of a seed."""

    seed: int
    plan: Plan
    violation: str
    steps: int
    entries: int
    reached: Counter[str]
    trace: list[str]


def plan_of(seed: int) -> Plan:
    """The kind of history that a seed is; most are with everything, some are calm or special."""
    random, more = Random(seed * 7 + 1), Random(seed * 11 + 5)
    own = random.random() < 0.4
    return Plan(
        clients=random.choice((1, 2, 3, 4)),
        operations=random.choice((6, 12, 20)),
        writers=random.choice((1, 2, 3)),
        own_distributor=own,
        ordered=random.random() < 0.5,
        object_records=random.random() < 0.2,
        faults=random.choice((0.0, 0.01, 0.03)),
        losses=random.choice((0.0, 0.05, 0.15)),
        crashes=random.choice((0, 1, 2)),
        skew_ms=random.choice((0, 500, 3_000)),
        long=random.random() < 0.2,
        recent_bytes=random.choice((1024, 120, 1)),
        save_every=random.choice((1, 4, 1_000)),
        max_nodes=random.choice((1_000, 3)),
        inline_bytes=random.choice((1 << 20, 20)),
        coalesce=random.random() < 0.3,
        page_names=random.choice((128, 2, 1)),
        max_item_bytes=random.choice((1 << 30, 1 << 30, 600)),
        joint=random.random() < 0.3,
        close_changes=random.choice((1_000, 1)),
        watch_function=more.random() < 0.25,
        expiring=more.random() < 0.8,
        cut=more.random() < 0.2,
        mass=more.choice((40, 150)) if more.random() < 0.015 else 0,
        preempt=more.random() < 0.2,
        steps=more.random() < 0.15,
        servers=more.random() < 0.12,
        lead_ms=more.choice((31_000, 600_000)) if more.random() < 0.2 else 0,
        sharing=more.random() < 0.2,
        hostile=more.choice((8, 30)) if more.random() < 0.12 else 0,
        max_contents=more.choice((1_000, 1_000, 2)),
    )


class Director:
    """Lets a history begin and come to rest, and looks at what is left."""

    def __init__(self, world: World) -> None:
        plan = world.plan
        self.world = world
        self.ended = False
        self.timeout = 3_600.0 if plan.long else 10.0
        self.every = 1_200_000 if plan.long else 3_000
        self.apps: list[App] = []
        self.apps.extend(App(world, number, self.timeout, self.apps) for number in range(plan.clients))
        for app in self.apps[: plan.crashes]:
            app.crashing = world.random.random() < 0.5
            if plan.cut:
                app.process.fuse = world.random.randint(1, 120)
                app.process.dies = app.died
        self.fleet = Fleet(world) if plan.servers else None
        self.hostile = Hostile(world, plan.hostile) if plan.hostile else None
        if plan.mass:
            self.apps[-1].mass = plan.mass

    def run(self) -> None:
        """The whole history."""
        world, scheduler = self.world, self.world.scheduler
        if world.plan.cut:
            world.set_up()
        if world.plan.steps:
            scheduler.spawn("clocks", world.set_clocks, world.system)
        if self.fleet is not None:
            self.fleet.begin()
        if self.hostile is not None:
            world.vault.fill()
            scheduler.spawn("hostile", self.hostile.run, self.hostile.process)
        for app in self.apps:
            scheduler.spawn(app.name, app.run, app.process)
        others: tuple[Any, ...] = (self.hostile, self.fleet)
        while not all(app.worked for app in self.apps) or not all(
            each is None or each.done for each in others
        ):
            scheduler.sleep(self.every)
            world.beat()
            world.bounds.middle()
            if world.plan.cut and world.random.random() < 0.2:
                world.begin([])  # somebody sets it up although it is there
            if world.plan.long and world.plan.expiring:
                trim(world)
            if scheduler.now - 1_700_000_000_000 > (60 if world.plan.long else 1) * 86_400_000:
                raise Stuck("the clients do not come to an end")
            if world.random.random() < 0.1 or scheduler.steps > _STEPS // 3:
                self.calm()
        self.calm()
        self.rest(3)
        for app in self.apps:
            self.check(app)
        for _ in range(10):
            if not (left := world.bounds.rows()):
                break
            scheduler.sleep(self.timeout * 1_000 + 10_000)
            self.rest(1)
        if left:
            raise Violation(f"left of sessions that have ended: {left}")
        for app in self.apps:
            if not app.over:
                stopping = scheduler.spawn(f"{app.name} stops", partial(self.stop, app), app.process)
                patience = 100
                while not stopping.done:
                    scheduler.sleep(patience)
                    patience = min(patience * 2, self.every)
        self.rest(3)
        for _ in range(10):
            if not world.tables["lease"].inner.query("lease", "", 1).items:
                break
            scheduler.sleep(self.timeout * 1_000 + 10_000)
            self.rest(1)
        for _ in range(20):
            head = world.model.head
            scheduler.sleep(60_000)  # a container goes when it was empty for so long
            self.rest(2)
            scheduler.sleep(60_000)  # what the last beat asked for is done
            if world.model.head == head:
                break  # nothing was due any more
        if world.plan.inline_bytes < 1 << 20:
            for day in range(24):  # until what nobody refers to is old enough to be swept
                scheduler.sleep(86_400_000)
                world.beat()
                scheduler.sleep(60_000)
                if day in (1, 3):
                    self.awake()
            world.bounds.old()
        self.leftovers()
        self.blobs()
        self.ended = True

    def calm(self) -> None:
        """No more faults."""
        if not self.world.calm:
            self.world.calm = True
            self.world.calm_since = self.world.scheduler.now

    def rest(self, times: int) -> None:
        """Let the service do all that it does by itself."""
        for _ in range(times):
            self.world.scheduler.sleep(max(self.every, 6_000))
            self.world.beat()

    def check(self, app: App) -> None:
        """A client that lives has been told of everything."""
        session = app.client._session if app.client is not None else None
        over = app.over or session is None or session.error is not None
        if session is not None and not over and not self.world.model.sessions[session.id].closed:
            self.world.scheduler.sleep(self.timeout * 1_000)
            if self.world.plan.sharing and session.state is SessionState.SUSPENDED:
                # Another process goes on with the session, and this one's renewal stands still: it cannot
                # know that, and says that it is suspended.
                self.world.reached["moved without knowing"] += 1
                return
            app.view.settle()
            self.world.bounds.client(session)

    def awake(self) -> None:
        """After days of rest somebody comes, writes and goes."""
        app = App(self.world, 90, self.timeout, [])
        app.left = 3
        self.world.scheduler.spawn(app.name, app.run, app.process)
        patience = 1_000
        while not app.worked:
            self.world.scheduler.sleep(patience)
            patience *= 2
        self.stop(app)

    def stop(self, app: App) -> None:
        """Close a session."""
        try:
            app._client().stop()
        except TimeoutException:
            # A batch that was stalled before the last fault may hold an ordered queue up for longer.
            self.world.reached["stopped without an answer"] += 1
        except FaaSKeeperException as error:
            if not isinstance(error, _OVER):
                raise Violation(f"{app.name} could not stop in peace: {error}") from error
        app.over = True

    def blobs(self) -> None:
        """Every blob that a znode names is there, and no other."""
        world, model = self.world, self.world.model
        named = {image.meta.blob for image in model.tree().values() if image.meta and image.meta.blob}
        for name in list(named):
            said = parse_blob_name(name)
            if said is not None and said.session in model.hostile:
                named.discard(name)  # of its own znode it may say that there is data
        there = {key for key in world.objects.objects if key.startswith("b/")}
        if named - there:
            raise Violation(f"Z5: the data of {named - there} is gone")
        if there - named:
            raise Violation(f"left in the object store: {there - named}")
        if named:
            world.reached["data in a blob"] += 1

    def leftovers(self) -> None:
        """At the end user storage is the tree, and nothing else is left."""
        world, model = self.world, self.world.model
        for id, session in model.sessions.items():
            if not session.closed:
                raise Violation(f"session {id} was never closed")
        left = dict(world.tables["lease"].inner._items)
        left.pop("transient", None)
        if left or world.bounds.rows():
            raise Violation(f"left of sessions: {left} {world.bounds.rows()}")
        deployment = world.deployment(world.system)
        tree = model.tree()
        size = sum(len(path) + len(image.data) for path, image in tree.items())
        if not any(image.meta and image.meta.blob for image in tree.values()):
            owned = sum(1 for image in tree.values() if image.meta and image.meta.owner)
            counted, right = current(deployment.log, deployment.checkpoints), Tally(len(tree), size, owned)
            if counted != right:
                raise Violation(f"{counted} is counted, there is {right}")
        rows = list(deployment.transients.all())
        for row in rows:
            if not world.plan.steps and row.due < world.scheduler.now - 2 * max(self.every, 60_000):
                raise Violation(f"the index of znodes that go by themselves keeps {row}")
        for path, images in model.history.items():
            due = None if images[-1].meta is None else images[-1].meta.due_at()
            if due is not None and not any(row.path == path and row.due <= due for row in rows):
                raise Violation(f"the index of znodes that go by themselves lacks {path}: {images[-1].meta}")
        for path, images in model.history.items():
            last = images[-1]
            record = deployment.records.get(path)
            if record is None and last.meta is None and model.lapsed(path, last.txid):
                continue
            if record is None or record.txid != last.txid:
                raise Violation(f"Z5: user storage has {record} of {path}, the log {last}")
            if (record.meta, record.data, tuple(record.children)) != last.stored():
                raise Violation(f"Z5: user storage has {record} of {path}, the log {last}")
            if last.meta is not None and paths.parent(path) != path and "//" not in path:
                above = model.at(paths.parent(path), model.head)
                if paths.name(path) not in above.children:
                    raise Violation(f"{path} is not among the children of its parent")
        if deployment.checkpoints.applied() < model.head:
            raise Violation(f"the mark is {deployment.checkpoints.applied()}, the log ends at {model.head}")


def run(seed: int, plan: Plan | None = None, trace: bool = False) -> History:
    """Run the history of a seed."""
    plan = plan or plan_of(seed)
    scheduler = Scheduler(seed)
    scheduler.tracing = trace
    world = World(scheduler, plan)
    director = Director(world)
    violation = ""
    scheduler.spawn("director", director.run, world.system)
    try:
        scheduler.run(_STEPS_OF_DAYS if plan.long else _STEPS)
        if not director.ended:
            violation = "the history stands still: somebody waits for what never comes"
    except Violation as broken:
        violation = str(broken) or type(broken).__name__
    except AssertionError as error:
        violation = f"assertion: {error}"
        if trace:
            scheduler.trace.append(traceback.format_exc())
    except Exception as error:
        violation = f"{type(error).__name__}: {error}"
        if trace:
            scheduler.trace.append(traceback.format_exc())
    scheduler.end()
    return History(
        seed, plan, violation, scheduler.steps, len(world.model.entries), world.reached, scheduler.trace
    )


def shrink(seed: int, violation: str) -> Plan:
    """A smaller plan with which the seed's history breaks the same promise."""
    kind = violation.split(":")[0]
    plan = plan_of(seed)
    simpler: list[dict[str, Any]] = [
        {"crashes": 0},
        {"losses": 0.0},
        {"faults": 0.0},
        {"long": False},
        {"clients": 1},
        {"clients": 2},
        {"operations": 3},
        {"operations": 6},
        {"writers": 1},
        {"own_distributor": False},
        {"object_records": False},
        {"ordered": True},
        {"skew_ms": 0},
        {"inline_bytes": 1 << 20},
        {"coalesce": False},
        {"max_nodes": 1_000},
        {"page_names": 128},
        {"max_item_bytes": 1 << 30},
        {"joint": False},
        {"close_changes": 1_000},
        {"watch_function": False},
        {"expiring": True},
        {"cut": False},
        {"preempt": False},
        {"sharing": False},
        {"steps": False},
        {"servers": False},
        {"lead_ms": 0},
        {"hostile": 0},
        {"mass": 0},
        {"max_contents": 1_000},
    ]
    for change in simpler:
        smaller = replace(plan, **change)
        if smaller != plan and run(seed, smaller).violation.split(":")[0] == kind:
            plan = smaller
    return plan


def main(arguments: list[str] | None = None) -> int:
    """The command line."""
    parser = argparse.ArgumentParser(description="Run histories of the protocol under faults.")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=0, help="from which seed on")
    parser.add_argument("--seconds", type=float, default=0, help="for so long, instead")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--replay", type=int, default=None, help="one seed, with its trace")
    parser.add_argument("--shrink", action="store_true", help="with --replay: make it smaller first")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # what the code under test logs belongs to the trace of one seed
    if options.replay is not None:
        return _replay(options.replay, options.shrink)
    return _many(options)


def _replay(seed: int, smaller: bool) -> int:
    plan = plan_of(seed)
    if smaller:
        first = run(seed)
        if first.violation:
            plan = shrink(seed, first.violation)
    history = run(seed, plan, trace=True)
    print("\n".join(history.trace))
    print(f"seed {seed}: {history.plan}")
    print(f"{history.steps} steps, {history.entries} entries: {history.violation or 'no violation'}")
    return 1 if history.violation else 0


def _many(options: argparse.Namespace) -> int:
    began = time.monotonic()
    done = entries = steps = 0
    reached: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    seed = options.start
    chunk = 20
    with ExitStack() as stack:
        spread: Callable[..., Iterable[Any]] = map
        if options.processes > 1:
            pool = ProcessPoolExecutor(options.processes, mp_context=get_context("spawn"))
            spread = partial(stack.enter_context(pool).map, chunksize=5)
        while True:
            left = options.seeds - (seed - options.start)
            if options.seconds:
                if time.monotonic() - began > options.seconds:
                    break
                left = chunk * options.processes
            if left <= 0:
                break
            seeds = range(seed, seed + min(left, chunk * options.processes))
            for number, violation, some, more, seen in spread(_brief, seeds):
                done += 1
                steps += more
                entries += some
                reached.update(seen)
                if violation:
                    broken.append((number, violation))
                    print(f"seed {number}: {violation}")
                    print(f"  python -m faaskeeper.testing.simulate --replay {number} --shrink")
            seed = seeds.stop
    took = time.monotonic() - began
    for name, times in sorted(reached.items()):
        print(f"{times:>9} {name}")
    missing = sorted(EXPECTED - set(reached)) if done >= LONG_RUN else []
    for name in missing:
        print(f"        0 {name}: so long a run must reach it")
    print(
        f"{done} histories, {entries} entries, {steps} steps in {took:.0f} s "
        f"({done / took:.1f} histories per second): {len(broken)} violations"
    )
    return 1 if broken or missing else 0


def _brief(seed: int) -> tuple[int, str, int, int, Counter[str]]:
    logging.disable(logging.CRITICAL)
    history = run(seed)
    return seed, history.violation, history.entries, history.steps, history.reached


if __name__ == "__main__":
    sys.exit(main())
