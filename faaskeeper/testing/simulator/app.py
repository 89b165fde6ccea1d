"""The programs of a history: each uses a client at random, in a process that may die."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from faaskeeper.client import FaaSKeeperClient, Ticket
from faaskeeper.client.futures import Future
from faaskeeper.core.acl import CREATOR_ALL_ACL, READ_ACL
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
from faaskeeper.testing.simulator.client_view import ClientView
from faaskeeper.testing.simulator.environment import SUPER_USER
from faaskeeper.testing.simulator.observer import Callback, observe
from faaskeeper.testing.simulator.runtime import SimulatedRuntime
from faaskeeper.testing.simulator.scheduler import Violation
from faaskeeper.testing.simulator.world import World
from faaskeeper.watch import WatchType

OVER = (SessionExpiredException, SessionClosingException)
"""Errors by which a client says that its session has ended."""
_PATHS = ("/a", "/b", "/a/x", "/a/y", "/b/x", "/a/x/1")


class App:
    """A program. ``number``: for its name; ``timeout``: of its session (s); ``all``: all programs."""

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
        """It has done its operations, or is dead."""
        self.over = False
        """Its session has ended, or it is dead."""
        self.crashing = False
        """It may die between two operations."""
        self.left = world.plan.operations
        """How many operations it is still to do."""
        self.mass = 0
        """How many ephemerals it creates first."""
        self.ticket: Ticket | None = None
        self.patience = 12 * 86_400_000 if world.plan.long else 600_000
        """How long after the last fault an answer may take (ms): a stall may have begun before."""

    # ---- the program -------------------------------------------------------------------

    def run(self) -> None:
        """Start, do operations, and wait for the answers."""
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
        except OVER:
            self.over = True
        self.worked = True

    def start(self) -> None:
        """Start the client; try again while the service does not answer."""
        while True:
            client = self.world.client(self.process, self.timeout)
            try:
                client.start(self.ticket)
            except (TimeoutException, ProviderException):
                self.world.scheduler.sleep(1_000)
                continue
            self.client = client
            self._observe(client)
            if self.world.plan.preempt:
                self._runtime.spawn(partial(self.look_on, client), f"{self.name} looks on")
            return

    def pause(self) -> None:
        """Sometimes wait before the next operation."""
        random = self.world.random
        if random.random() < 0.3:
            thought = random.choice((1, 30, 500))
            if self.world.plan.long and random.random() < 0.3:
                thought = random.choice((3_600_000, 30 * 3_600_000))
            self.world.scheduler.sleep(thought)

    def die(self) -> None:
        """Kill the process."""
        self.world.scheduler.note("dies")
        self.process.alive = False
        self.died()
        self.world.scheduler.kill(self.process)

    def died(self) -> None:
        """Note that the process is dead."""
        self.world.reached["client died"] += 1
        self.over = self.worked = True

    def hand_over(self) -> None:
        """Kill the process, and resume its session in another."""
        self.world.reached["went on with a session"] += 1
        self.ticket = self.started().ticket
        process, self.process = self.process, self.world.process(f"{self.name}'", False)
        self.futures.clear()
        self.view.restart()
        self.world.scheduler.note("dies, and hands its session over")
        process.alive = False
        self.world.scheduler.spawn(self.name, self.run, self.process)
        self.world.scheduler.kill(process)

    def share(self) -> bool:
        """Resume the session in one or two more processes; returns whether this one dies."""
        world = self.world
        ticket = self.started().ticket
        for _ in range(world.random.randint(1, 2)):
            successor = App(world, 10 + len(self.all), self.timeout, self.all)
            self.all.append(successor)
            successor.ticket = ticket
            successor.left = min(self.left, 4)
            successor.view.view = self.view.view
            world.scheduler.spawn(successor.name, successor.run, successor.process)
        world.reached["a ticket used beside others"] += 1
        if world.random.random() < 0.5:
            return False
        self.die()
        return True

    def step(self) -> None:
        """Do one operation, or start several."""
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
        if self.world.plan.ending and self.world.random.random() < 0.12:
            operation = self.end
        try:
            operation()
        except ZooKeeperException:
            pass  # an outcome like others; the model has checked it
        except (ProviderException, WatchSetFailureException) as error:
            self.world.scheduler.note(f"got {error}")

    def ask(self, asynchronous: bool) -> Future[Any] | None:
        """Send a write; wait for its answer unless ``asynchronous``."""
        random, client = self.world.random, self.started()
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
        """Write, and wait for the answer."""
        self.ask(False)

    def burst(self) -> None:
        """Write several times without waiting."""
        for _ in range(self.world.random.randint(1, 4)):
            future = self.ask(True)
            if future is not None:
                self.futures.append(future)

    def transaction(self) -> None:
        """Do several writes in one transaction."""
        random, client = self.world.random, self.started()
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
        random, client = self.world.random, self.started()
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
        """Read something and set a watch."""
        random, client = self.world.random, self.started()
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
        """Add a persistent or recursive watch."""
        random, client = self.world.random, self.started()
        path = random.choice(("/a", "/a/x", "/", "/b"))
        recursive = random.random() < 0.5
        callback = Callback(self.view.watch(path, "recursive" if recursive else "persistent"))
        client.add_watch(path, callback, recursive)

    def unwatch(self) -> None:
        """Remove watches of a path."""
        random, client = self.world.random, self.started()
        path = random.choice(("/a", "/a/x", "/", "/b"))
        client.remove_watches(path, random.choice((None, WatchType.PERSISTENT, WatchType.EXISTS)))

    def crowd(self) -> None:
        """Create or delete several children, in one transaction or one by one."""
        random, client = self.world.random, self.started()
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
        """Create many ephemerals, which the end of the session deletes."""
        client = self.started()
        above = self.world.random.choice(("/m", "/b"))
        self.futures.append(client.create_async(above))
        for number in range(self.mass):
            self.futures.append(client.create_async(f"{above}/{number}", ephemeral=True))
        self.mass = 0

    def guard(self) -> None:
        """Add a credential, set an ACL, or create a container or a znode with a time to live."""
        random, client = self.world.random, self.started()
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

    def end(self) -> None:
        """End another session, or the client's own."""
        random, client = self.world.random, self.started()
        if random.random() < 0.5:
            client.add_auth("digest", SUPER_USER)
        wanted = random.choice([*self.world.model.sessions, 1])
        ended = client.end_session(f"{wanted:x}")
        self.world.reached["ended a session" if ended else "found no session to end"] += 1
        if ended and not self.world.model.sessions[wanted].closed:
            raise Violation(f"{self.name} was told that session {wanted} has ended, it is open")

    def read_at_once(self) -> None:
        """Read several paths as of one transaction."""
        random, client = self.world.random, self.started()
        with client.multi_read() as reads:
            for _ in range(random.randint(1, 4)):
                path = random.choice((*_PATHS, "/"))
                if random.random() < 0.5:
                    reads.get_data(path)
                else:
                    reads.get_children(path)

    def read_later(self) -> None:
        """Read without waiting, between writes."""
        client = self.started()
        path = self.world.random.choice(_PATHS)
        self.futures.append(client.exists_async(path))
        if self.world.random.random() < 0.5:
            callback = Callback(self.view.watch(path, "exists"))
            self.futures.append(client.exists_async(path, callback))

    def together(self) -> None:
        """Read in two threads at once."""
        threads = [self._runtime.spawn(self.read_alone, f"{self.name} thread") for _ in range(2)]
        for thread in threads:
            thread.join()

    def look_on(self, client: FaaSKeeperClient) -> None:
        """Read all the time in a thread of its own, mostly what other threads read, too."""
        for _ in range(60):
            self.world.scheduler.sleep(self.world.random.choice((1, 1, 20, 300)))
            try:
                client.exists(self.world.random.choice(("/a", "/b", "/", "/a/x")))
            except FaaSKeeperException:
                if self.over or self.worked:
                    return

    @property
    def _runtime(self) -> SimulatedRuntime:
        return SimulatedRuntime(self.world.scheduler, self.process)

    def read_alone(self) -> None:
        """Read in a thread of its own."""
        try:
            for _ in range(2):
                self.read()
        except FaaSKeeperException:
            pass  # an outcome like others

    def sync(self) -> None:
        """Sync: what was committed before must be shown afterwards."""
        head = self.world.model.head
        self.started().sync()
        self.view.view = max(self.view.view, head)
        self.view.ordered("sync")

    def outcome(self, future: Future[Any]) -> None:
        """Wait for an answer, which must come in the end."""
        while not future.wait(5.0):
            if self.world.calm and self.world.scheduler.now - self.world.calm_since > self.patience:
                raise Violation(f"{self.name}: {future.what} is never answered")
        try:
            future.get(0)
        except OVER:
            raise
        except FaaSKeeperException:
            pass  # an outcome like others

    def started(self) -> FaaSKeeperClient:
        """The client, which has been started."""
        if self.client is None:
            raise AssertionError(f"{self.name} has not started its client")
        return self.client

    def _observe(self, client: FaaSKeeperClient) -> None:
        session = client.session
        if session is None:
            raise AssertionError(f"{self.name} has started a client without a session")
        observe(session, self.view, self.world)
