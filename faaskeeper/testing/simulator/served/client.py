"""Programs that use servers by ZooKeeper's protocol: each a client with one session at a time."""

from __future__ import annotations

import struct
from collections import deque
from typing import Any

from faaskeeper.core.requests import Close
from faaskeeper.testing.simulator.scheduler import Task, Violation
from faaskeeper.testing.simulator.served import wire
from faaskeeper.testing.simulator.served.network import Gone, Link, Network
from faaskeeper.testing.simulator.served.plan import ServedPlan
from faaskeeper.testing.simulator.served.requests import Requests
from faaskeeper.testing.simulator.served.seen import Seen, Shared
from faaskeeper.testing.simulator.served.wire import Asked, Body
from faaskeeper.testing.simulator.world import World

_PATIENCE_MS = 1_200_000
"""How long after the last fault an answer may take."""


_PROMPT_MS = 500
"""How long after its change a watch's event may come without faults, beside the time between two looks."""


class Wire:
    """One connection: its bytes, its unanswered requests, its checks."""

    def __init__(self, client: Client, link: Link, seen: Seen) -> None:
        self._client = client
        self._world = client.world
        self.link = link
        self.seen = seen
        self.pending: deque[Asked] = deque()
        self.pings: deque[int] = deque()
        self.heard = self.sent = self._world.scheduler.now
        """When the server last said something, and when this said something, in ms."""
        self.ended = False
        self._xid = 0
        self._bytes = bytearray()

    # ---- requests ------------------------------------------------------------------------

    def ask(self, kind: int, body: bytes = b"", *, xid: int = 0, **more: Any) -> None:
        """Send a request. Raises Gone."""
        if not xid:
            self._xid += 1
            xid = self._xid
        now = self._world.scheduler.now
        model, shared = self._world.model, self._client.shared
        asked = Asked(kind, xid, body, sent=now, head=model.head, acked=shared.acked, **more)
        self._world.scheduler.note(f"asks {asked} {asked.operation or ''}")
        self.pending.append(asked)
        self.sent = now
        if len(self.pending) == 1:
            self.seen.begins(asked)
        self.link.send(asked.frame)

    def ping(self) -> None:
        """Send a ping. Raises Gone."""
        self.sent = self._world.scheduler.now
        self.pings.append(self.sent)
        self.link.send(wire.framed(struct.pack(">ii", wire.PING_XID, wire.PING)))

    # ---- frames --------------------------------------------------------------------------

    def frame(self, timeout: float | None = None) -> bytes | None:
        """The next frame; None if none comes within so many ms. Raises Gone."""
        scheduler = self._world.scheduler
        deadline = None if timeout is None else scheduler.now + timeout
        while True:
            if len(self._bytes) >= 4:
                (length,) = struct.unpack_from(">i", self._bytes)
                if len(self._bytes) >= 4 + length:
                    body = bytes(self._bytes[4 : 4 + length])
                    del self._bytes[: 4 + length]
                    self.heard = scheduler.now
                    return body
            left = None if deadline is None else deadline - scheduler.now
            if left is not None and left <= 0:
                return None
            self._bytes += self.link.receive(left)

    def read(self) -> None:
        """Take in frames until the connection ends."""
        random, scheduler = self._world.random, self._world.scheduler
        try:
            while True:
                if self._client.plan.weight > 1 and not self._world.calm and random.random() < 0.05:
                    self.link.slow = True
                    scheduler.sleep(random.choice((10, 100, 100, 2_000, 9_000)))
                    self.link.slow = False
                    self.link.down.move()
                frame = self.frame()
                if frame is not None:
                    self._take(frame)
                self._client.look()
        except Gone:
            scheduler.note("its connection has ended")
        self.ended = True
        self._client.look()

    def _take(self, frame: bytes) -> None:
        body = Body(frame)
        xid, zxid, error = body.take("iqi")
        if xid == wire.EVENT_XID:
            kind, _ = body.take("ii")
            path = body.string()
            self._world.scheduler.note(f"gets the event {kind} of {path}")
            self.seen.event(kind, path)
            return
        if xid == wire.PING_XID:
            self.seen.ping(zxid)
            self._served(self.pings.popleft())
            return
        if not self.pending or self.pending[0].xid != xid:
            raise Violation(f"{self._client.name} was answered xid {xid}, it waits for {list(self.pending)}")
        asked = self.pending.popleft()
        self._world.scheduler.note(f"gets {error} as of {zxid} for {asked}")
        self.seen.reply(asked, self.pending, zxid, error, body)
        self._served(asked.sent)
        if self.pending:
            self.seen.begins(self.pending[0])
        if asked.kind == wire.CLOSE:
            self._client.closed = True

    def _served(self, sent: int) -> None:
        """The server has served what was sent at a time: the session has its time-out from then."""
        world, session = self._world, self.seen.session
        if self.seen.session != self._client.session or self._client.closed:
            return
        world.served[session] = max(world.served.get(session, 0), sent)
        marked = world.marked.get(session)
        if marked is not None and marked - sent < self._client.timeout - world.leeway:
            raise Violation(
                f"the lease of session {session} was marked {marked - sent} ms after its client was heard"
            )


class Client:
    """A client and its program. ``hosts``: names of the servers."""

    def __init__(
        self, world: World, plan: ServedPlan, network: Network, shared: Shared, number: int, hosts: list[str]
    ) -> None:
        self.world = world
        self.plan = plan
        self.network = network
        self.shared = shared
        self.name = f"client{number}"
        self.hosts = hosts
        self.process = world.process(self.name, False)
        self.wire: Wire | None = None
        self.old: list[Wire] = []
        """Connections that are used beside the one by which the session was resumed."""
        self.seen = Seen(world, shared, self.name)
        self.session = 0
        self.timeout = 0
        self.closed = False
        """The session was closed, and its client knows it."""
        self.worked = False
        """It has done its operations."""
        self.done = False
        self._password = bytes(16)
        self._waiter: Task | None = None
        self._requests = Requests(world, plan, self.name, self._ask)

    # ---- the program ---------------------------------------------------------------------

    def run(self) -> None:
        """Do operations; then wait for the answers and close the session."""
        world, random = self.world, self.world.random
        world.scheduler.spawn(f"{self.name} keeps", self._keep, self.process)
        for _ in range(self.plan.operations):
            self._pause()
            self._prompt()
            if random.random() < self.plan.resets:
                self._break()
            try:
                self._connected()
                self._burst()
                self._beside()
                self._wait(random.choice((0, 0, 3, 8)))
            except Gone:
                continue
        self.worked = True
        self._finish()
        self.done = True

    def _finish(self) -> None:
        began = 0
        while not self.closed:
            try:
                wire_ = self._connected()
                self._wait(0)
                if self.world.calm:
                    self.world.scheduler.sleep(8_000)
                    if not wire_.ended:
                        wire_.ask(wire.SYNC, wire.string("/"), path="/")
                        self._wait(0)
                        wire_.ask(wire.CLOSE, operation=Close())
                        self._wait(0)
                else:
                    self.world.scheduler.sleep(1_000)
            except Gone:
                self.world.scheduler.sleep(200)
            if self.world.calm:
                began = began or self.world.scheduler.now
                if self.world.scheduler.now - began > _PATIENCE_MS:
                    raise Violation(f"{self.name} cannot come to an end: {self.wire and self.wire.pending}")

    def look(self) -> None:
        """Something has come: let the program look whether it waited for it."""
        if self._waiter is not None:
            self.world.scheduler.wake(self._waiter)

    def _wait(self, most: int) -> None:
        """Wait until at most so many requests have no reply. Raises Gone."""
        scheduler = self.world.scheduler
        while True:
            wire_ = self.wire
            if wire_ is None or (wire_.ended and not self.closed):
                raise Gone
            if len(wire_.pending) <= most:
                return
            self._waiter = scheduler.current()
            scheduler.block(5_000)
            self._waiter = None

    def _pause(self) -> None:
        random, scheduler = self.world.random, self.world.scheduler
        if random.random() < 0.3:
            scheduler.sleep(random.choice((1, 1, 10, 30, 200, 1_500)))
        if random.random() < self.plan.silent and not self.world.calm:
            # neither a request nor a ping, for about the time-out
            self.world.reached["a client was silent"] += 1
            if self.wire is not None:
                self.wire.sent = scheduler.now + 20_000
            scheduler.sleep(random.choice((2_000, 4_500, 9_000, 15_000)))

    def _prompt(self) -> None:
        """Where nothing holds them up, the events of what happened a while ago have come."""
        plan, wire_ = self.plan, self.wire
        faulty = plan.kills or plan.still or plan.divided or plan.blind or not self.world.sure
        hindered = faulty or plan.weight > 1
        if plan.follow and not hindered and wire_ is not None and not wire_.ended:
            wire_.seen.prompt(self.world.scheduler.now - plan.follow - _PROMPT_MS)

    def _keep(self) -> None:
        """Ping, and give up a connection by which nothing comes."""
        scheduler = self.world.scheduler
        while not self.done:
            scheduler.sleep(max(self.timeout, 3_000) // 4)
            wire_ = self.wire
            if wire_ is None or wire_.ended:
                continue
            now = scheduler.now
            if now - wire_.heard > self.timeout * 2 // 3 and wire_.sent > wire_.heard and wire_.sent <= now:
                scheduler.note("hears nothing: gives the connection up")
                self.world.reached["a client gave a connection up"] += 1
                self._drop(wire_)
            elif now - wire_.sent >= self.timeout // 4:
                try:
                    wire_.ping()
                except Gone:
                    continue

    # ---- connections ---------------------------------------------------------------------

    def _drop(self, wire_: Wire) -> None:
        if self.world.random.random() < 0.5:
            wire_.link.reset()
        else:
            wire_.link.vanish()
        wire_.ended = True
        self.look()

    def _break(self) -> None:
        """End the connection in one of the ways in which connections end."""
        wire_ = self.wire
        if wire_ is None or wire_.ended:
            return
        kind = self.world.random.choice(("reset", "close", "vanish", "beside", "intruder"))
        self.world.reached["a client left its connection"] += 1
        self.world.scheduler.note(f"leaves its connection: {kind}")
        if kind == "beside" and self.plan.twice:
            self.old = [*self.old[-1:], wire_]
            self.wire = None
            return
        if kind == "intruder":
            self._intrude()
            return
        if kind == "close":
            wire_.link.close()
        elif kind == "vanish":
            wire_.link.vanish()
        else:
            wire_.link.reset()
        wire_.ended = True

    def _connected(self) -> Wire:
        """The connection; makes one if there is none. Raises Gone after some tries."""
        if self.wire is not None and not self.wire.ended:
            return self.wire
        for _ in range(20):
            try:
                return self._connect()
            except Gone:
                self.world.scheduler.sleep(self.world.random.choice((50, 300, 1_000)))
        raise Gone

    def _connect(self) -> Wire:
        world = self.world
        host = world.random.choice(self.hosts)
        if self.wire is not None:
            self.seen = self.wire.seen.next()
            self.wire = None
        elif self.old:
            self.seen = self.old[-1].seen.next()
        link = self.network.connect(host)
        made = Wire(self, link, self.seen)
        timeout = world.random.choice((4_000, 6_000, 10_000))
        world.scheduler.note(f"connects to {host} with session {self.session}")
        began = world.scheduler.now
        link.send(wire.connect(self.seen.last, timeout, self.session, self._password))
        frame = made.frame(15_000)
        if frame is None:
            link.reset()
            raise Gone
        body = Body(frame)
        _, granted, session = body.take("iiq")
        password = body.buffer()
        if granted == 0:
            self._expired()
            link.reset()
            raise Gone
        if self.session and session != self.session:
            raise Violation(f"{self.name} asked for session {self.session} and got {session}")
        if self.session:
            world.reached["a session goes on by another connection"] += 1
        self.session, self.timeout, self._password = session, granted, password
        self.seen.session = session
        self.closed = False
        self.wire = made
        made._served(began)
        world.scheduler.spawn(f"{self.name} reads", made.read, self.process)
        if self.seen.lost:
            lists = self.seen.to_restore()
            record = struct.pack(">q", self.seen.last) + b"".join(map(wire.strings, lists.values()))
            made.ask(wire.SET_WATCHES2, record, xid=wire.SET_WATCHES_XID)
        return made

    def _intrude(self) -> None:
        """Ask for the session as somebody who does not know its password, beside its own connection."""
        try:
            link = self.network.connect(self.world.random.choice(self.hosts))
            made = Wire(self, link, Seen(self.world, self.shared, "an intruder"))
            link.send(wire.connect(0, 10_000, self.session, b"x" * 16))
            frame = made.frame(15_000)
        except Gone:
            return
        if frame is not None and Body(frame).take("iiq")[1]:
            raise Violation(f"session {self.session} was given to a client without its password")
        self.world.reached["an intruder was refused"] += frame is not None
        link.reset()

    def _expired(self) -> None:
        """A server says that the session is over."""
        model, session = self.world.model, self.session
        state = model.sessions.get(session)
        if state is None or not (state.closed or session in self.world.marked):
            raise Violation(f"{self.name} was told that session {session} is over, it is not")
        self.world.reached["a client was told that its session is over"] += 1
        self.session, self._password = 0, bytes(16)
        self.seen = Seen(self.world, self.shared, self.name)
        self.old = []

    # ---- operations ----------------------------------------------------------------------

    def _beside(self) -> None:
        """Use a connection that the session was taken away from."""
        for wire_ in self.old:
            if not wire_.ended and self.world.random.random() < 0.3:
                self.world.reached["a connection used beside another"] += 1
                now, self.wire = self.wire, wire_
                try:
                    self.world.random.choice((self._requests.set, self._requests.get))()
                except Gone:
                    pass
                finally:
                    self.wire = now

    def _burst(self) -> None:
        for _ in range(self.world.random.choice((1, 1, 2, 5))):
            self._requests.any()

    def _ask(self, kind: int, body: bytes, **more: Any) -> None:
        if self.wire is None:
            raise Gone
        self.wire.ask(kind, body, **more)
