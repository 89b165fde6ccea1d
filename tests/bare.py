"""A deployment in memory without threads, and sessions that are nothing but the client's rules.

Everything happens in the caller's thread, in the order of the calls: what the core does by itself.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from faaskeeper.client.futures import Future
from faaskeeper.core import codec, trust
from faaskeeper.core import records as user_storage
from faaskeeper.core.acl import Credential
from faaskeeper.core.checkpoint import Checkpoints
from faaskeeper.core.children import writes_of
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.distribution import DistributorFunction
from faaskeeper.core.drivers.storage import ObjectStore, Table
from faaskeeper.core.heartbeat import Heartbeat
from faaskeeper.core.log import Log
from faaskeeper.core.records import Record, Records, TableRecords
from faaskeeper.core.requests import (
    Message,
    Notification,
    Open,
    Operation,
    Outcome,
    Reply,
    Request,
)
from faaskeeper.core.sessions import Leases, Transients
from faaskeeper.core.sweeping import DAY_MS
from faaskeeper.core.transactions import Limits
from faaskeeper.core.watches import Row, WatchTable
from faaskeeper.core.writer import Writer
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.session.commands import (
    Await,
    Command,
    PutWatch,
    ReadLog,
    ReadLogEnd,
    ReadMark,
    ReadRecord,
    ReadRecords,
    RemoveWatch,
    Steps,
)
from faaskeeper.session.outbox import Outbox
from faaskeeper.session.rules import Allowed, Rules
from faaskeeper.watch import WatchedEvent


class Clock:
    """Time that passes when told to, in ms."""

    def __init__(self, now: int = 1_700_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


class HeldQueue:
    """Keeps messages until :meth:`pump` gives them to the function."""

    ordered = True
    max_message_bytes = 1 << 30

    def __init__(self) -> None:
        self.held: list[bytes] = []

    def send(self, group: str, identity: str, body: bytes) -> None:
        self.held.append(body)

    def take(self) -> list[bytes]:
        taken, self.held = self.held, []
        return taken


class Mailboxes:
    """A channel that keeps messages by address."""

    def __init__(self) -> None:
        self.boxes: dict[str, list[bytes]] = {}

    def deliver(self, address: str, message: bytes) -> bool:
        self.boxes.setdefault(address, []).append(message)
        return True


class Bare:
    """The deployment: tables (in memory unless given), held queues, mailboxes, a clock that stands."""

    def __init__(
        self,
        *,
        own_distributor: bool = False,
        table: Callable[[str], Table] | None = None,
        records: Callable[[Table], Records] = TableRecords,
        blobs: ObjectStore | None = None,
        expiring: bool = True,
        limits: Limits | None = None,
    ) -> None:
        tables: dict[str, Table] = {}
        make = table or (lambda name: MemoryTable())
        for name in ("log", "checkpoint", "records", "lease", "watch", "heartbeat"):
            tables[name] = make(name)
        self.tables = tables
        self.clock = Clock()
        self.mail = Mailboxes()
        self.worker_queue = HeldQueue()
        self.distributor_queue = HeldQueue() if own_distributor else None
        numbers = itertools.count(1)
        self.random = lambda length: next(numbers).to_bytes(length, "big")
        self.deployment = Deployment(
            log=Log(tables["log"]),
            checkpoints=Checkpoints(tables["checkpoint"], expiring=expiring),
            records=records(tables["records"]),
            leases=Leases(tables["lease"]),
            transients=Transients(tables["lease"]),
            watches=WatchTable(tables["watch"]),
            blobs=blobs,
            worker_queue=self.worker_queue,
            distributor_queue=self.distributor_queue,
            channel=self.mail,
            key=b"k" * trust.KEY_BYTES,
            clock=self.clock,
            random=self.random,
            expiring_log=expiring,
            peer="127.0.0.1",
            limits=limits or Limits(),
        )
        user_storage.bootstrap(self.deployment.records)
        self.deployment.checkpoints.begin(self.clock())
        self.heartbeat = Heartbeat(self.deployment, tables["heartbeat"])
        self.recycle()

    def recycle(self) -> None:
        """Forget what the functions know: the next calls are cold."""
        self.writer = Writer(self.deployment)
        self.distributor = DistributorFunction(self.deployment)

    def pump(self) -> None:
        """Give the functions what waits, until nothing does."""
        while self.worker_queue.held or (self.distributor_queue and self.distributor_queue.held):
            if self.worker_queue.held:
                self.writer.handle(self.worker_queue.take())
            if self.distributor_queue is not None and self.distributor_queue.held:
                self.distributor.handle(self.distributor_queue.take())

    def days(self, number: int) -> None:
        """Let days pass, with a sweep at the end of each."""
        for _ in range(number):
            self.clock.now += DAY_MS
            self.heartbeat.sweep()

    def session(self, name: str = "s", timeout: int = 10_000) -> BareSession:
        """Open a session."""
        return BareSession(self, name, timeout)


class BareSession:
    """A session: its outbox, its rules, and a box for its mail."""

    def __init__(self, bare: Bare, name: str, timeout: int) -> None:
        self.bare = bare
        self.name = name
        self.secret = bare.random(trust.KEY_BYTES)
        self.outbox: Outbox[Future[Outcome]] = Outbox()
        self.fired: list[WatchedEvent] = []
        self.rules = Rules(0, lambda callback, event: callback(event))
        self.id = 0
        self.incarnation = 0
        self.resend = 0
        self.closed = False
        self.auth: tuple[Credential, ...] = ()
        self.send(
            Message(
                0, 0, 0, name, (Request(0, Open(f"{name} {bare.random(8).hex()}", self.secret, timeout)),)
            )
        )
        bare.pump()
        self.receive()
        assert self.id

    def send(self, message: Message) -> None:
        """Put a signed message into the worker queue."""
        signed = trust.sign(self.secret, codec.message(message))
        self.bare.worker_queue.send("writer", self.name, signed)

    def message(self, *requests: Request, acked: int | None = None) -> Message:
        """A message of this session."""
        acked = self.outbox.acked if acked is None else acked
        return Message(self.id, self.incarnation, acked, self.name, requests)

    def ask(self, operation: Operation) -> Future[Outcome]:
        """Send a request without waiting."""
        future: Future[Outcome] = Future(repr(operation), True)
        self.outbox.add(operation, future, self.auth)
        self.send(self.message(*self.outbox.take(False)))
        return future

    def do(self, operation: Operation) -> Outcome:
        """Send a request and have everything done; its outcome."""
        future = self.ask(operation)
        self.bare.pump()
        self.receive()
        assert future.done(), f"{operation} was not answered"
        return future.get(0)

    def receive(self) -> list[Reply | Notification]:
        """Take in the mail."""
        told = []
        box = self.bare.mail.boxes.setdefault(self.name, [])
        while box:
            signed = box.pop(0)
            trust.verify(self.secret, signed)
            message = codec.to_delivery(trust.body(signed))
            told.append(message)
            self.take_in(message)
        return told

    def take_in(self, message: Reply | Notification) -> None:
        """Take in one message."""
        if isinstance(message, Notification):
            self.drive(self.rules.meet(message.epoch, settled=True))
            return
        if message.nonce:
            self.id = message.session
            self.rules.seen = self.rules.applied = message.epoch.upto
            return
        self.drive(self.rules.meet(message.epoch, settled=True))
        self.resend = message.resend
        for waiting, outcome in self.outbox.answered(message.outcomes):
            waiting.waiter.set_result(outcome)

    def read(self, path: str) -> Record | None:
        """Read as the rules allow."""
        found: Record | None = self.drive(self.rules.read(path))
        return found

    def watch(self, path: str, kind: str, allowed: Allowed | None = None) -> Record | None:
        """Read and leave a watch; events go to ``fired``."""
        found: Record | None = self.drive(self.rules.watch(path, kind, self.fired.append, allowed))
        return found

    def drive(self, steps: Steps) -> Any:
        """Perform the commands of some steps."""
        answer: Any = None
        while True:
            try:
                command = steps.send(answer)
            except StopIteration as done:
                return done.value
            answer = self.perform(command)

    def perform(self, command: Command) -> Any:
        """Perform one command."""
        deployment = self.bare.deployment
        if isinstance(command, ReadRecord):
            return deployment.records.get(command.path)
        if isinstance(command, ReadRecords):
            return deployment.records.get_many(command.paths)
        if isinstance(command, ReadMark):
            return deployment.checkpoints.applied()
        if isinstance(command, ReadLogEnd):
            entries = deployment.log.after(command.after)[0]
            writes = [(each.txid, writes_of(each)) for entry in entries for each in entry.transactions]
            return writes, entries[-1].last if entries else command.after
        if isinstance(command, ReadLog):
            return [
                (each.txid, writes_of(each))
                for entry in deployment.log.after(command.after)[0]
                for each in entry.transactions
                if each.txid <= command.upto
            ]
        if isinstance(command, RemoveWatch):
            row = Row(command.path, command.kind, self.id, command.stamp, self.name)
            deployment.watches.remove(row)
            return None
        if isinstance(command, PutWatch):
            deployment.watches.index(self.id, command.path, command.kind)
            row = Row(command.path, command.kind, self.id, command.stamp, self.name)
            deployment.watches.put(row)
            return None
        assert isinstance(command, Await)
        raise AssertionError(f"nobody applies transaction {command.txid}")
