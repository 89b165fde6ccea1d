"""Clients that write down what they did and were shown, and the check of it against the log.

A client talks to any of several servers, and to another when its connection breaks. What it was shown is
played through the simulator's view of a client, over the simulator's model of the log that the servers wrote.
"""

from __future__ import annotations

import random
import struct
import threading
import time
from typing import Any, NamedTuple

from faaskeeper.core.changes import Transaction
from faaskeeper.core.deployment import Deployment
from faaskeeper.core.records import Record
from faaskeeper.core.requests import Outcome
from faaskeeper.core.znode import Stat
from faaskeeper.testing.simulator.client_view import ClientView
from faaskeeper.testing.simulator.model import Key, Model
from tests.gateway import raw
from tests.gateway.raw import Closed, Raw, number, string

PATHS = tuple(f"/register{each}" for each in range(3))


class Shown(NamedTuple):
    path: str
    data: bytes
    stat: Stat | None
    watch: bool


class Event(NamedTuple):
    path: str


class Told(NamedTuple):
    zxid: int


class Write(NamedTuple):
    """``zxid`` 0: nobody knows whether it happened."""

    path: str
    data: bytes
    began: float
    ended: float
    zxid: int


class Client(threading.Thread):
    """Reads, watches and writes registers; keeps an ephemeral."""

    def __init__(self, name: str, ports: list[int], seed: int) -> None:
        super().__init__(name=name, daemon=True)
        self._ports = ports
        self._random = random.Random(seed)
        self._ending = threading.Event()
        self.history: list[Shown | Event | Told] = []
        self.writes: list[Write] = []
        self.expired: list[int] = []
        self.sessions: list[int] = []
        self.error: BaseException | None = None
        self.reconnects = 0
        self.done = 0
        self._zxid = 0
        self._raw: Any = None
        self._watched = ""

    def end(self) -> None:
        self._ending.set()

    def run(self) -> None:
        try:
            while not self._ending.is_set():
                try:
                    if self._raw is None:
                        self._connect()
                    self._operate()
                    self.done += 1
                except (Closed, OSError):
                    self._raw_closed()
            while True:
                try:
                    if self._raw is None:
                        self._connect()
                    assert self._ask(raw.EPHEMERALS, string("/"))[1].strings() == [f"/e-{self.name}"]
                    return
                except (Closed, OSError):
                    self._raw_closed()
        except BaseException as error:
            self.error = error

    def _raw_closed(self) -> None:
        if self._raw is not None:
            self._raw.close()
            self._last, self._raw = self._raw, None
            self.reconnects += 1

    _last: Any = None

    def _connect(self) -> None:
        port = self._random.choice(self._ports)
        last = self._last
        known = {} if last is None else {"session": last.session, "password": last.password}
        try:
            made = Raw(port, last_zxid=self._zxid, **known)
        except (Closed, OSError):
            time.sleep(0.02)
            raise
        if made.timeout == 0:
            self.expired.append(last.session)
            self._last, self._watched = None, ""
            made.close()
            raise Closed
        if last is None:
            self.sessions.append(made.session)
        else:
            assert made.session == last.session, "a new session in silence"
        self._raw = made
        if last is None:
            made.create(f"/e-{self.name}", flags=1)
        elif self._watched:
            lists = raw.strings([self._watched]) + raw.strings([]) + raw.strings([])
            self._ask(raw.SET_WATCHES, struct.pack(">q", self._zxid) + lists, -8)

    def _ask(self, op: int, body: bytes, xid: int | None = None) -> tuple[int, Any]:
        made = self._raw
        sent = made.send(op, body, xid)
        got, zxid, error, record = made.next()
        assert got == sent
        while made.events:
            self.history.append(Event(made.events.popleft()[1]))
            self._watched = ""
        self._zxid = max(self._zxid, zxid)
        self._answered = zxid
        return error, record

    _answered = 0

    def _operate(self) -> None:
        path = self._random.choice(PATHS)
        if self._random.random() < 0.4:
            self._write(path)
            return
        watch = not self._watched and self._random.random() < 0.5
        error, record = self._ask(raw.GET, string(path) + bytes([watch]))
        assert error == 0
        data = record.buffer()
        self.history.append(Shown(path, data, Stat(*record.stat()), watch))
        if watch:
            self._watched = path

    def _write(self, path: str) -> None:
        data = f"{self.name} {len(self.writes)}".encode()
        began = time.monotonic()
        try:
            error, _ = self._ask(raw.SET, string(path) + string(data) + number(-1))
        except (Closed, OSError):
            self.writes.append(Write(path, data, began, time.monotonic(), 0))
            raise
        assert error == 0, error
        self.writes.append(Write(path, data, began, time.monotonic(), self._answered))
        self.history.append(Told(self._answered))


class Replayed(Model):
    """The simulator's model of a log, of whose requests nothing is known but their outcomes."""

    def _judge(
        self, key: Key, outcome: Outcome, transaction: Transaction | None, now: int, txid: int
    ) -> None:
        session = self.sessions[key[0]]
        assert not session.closed
        assert key not in self.outcomes, "decided twice"
        assert key[1:] == (session.incarnation, session.last + 1)
        session.last = key[2]
        self.outcomes[key] = outcome


def replay(deployment: Deployment) -> Replayed:
    """The model of everything that is in the log."""
    model = Replayed(deployment.limits)
    more = True
    while more:
        entries, more = deployment.log.after(model.head)
        for entry in entries:
            model.append(entry)
    return model


def check(model: Replayed, clients: list[Client]) -> None:
    """Everything that clients were shown and told holds."""
    data_of: dict[bytes, list[int]] = {}
    for path in PATHS:
        for image in model.history[path]:
            if image.meta is not None and image.meta.mzxid == image.txid and image.data:
                data_of.setdefault(image.data, []).append(image.txid)
    writes = [write for client in clients for write in client.writes]
    for write in writes:
        happened = data_of.get(write.data, [])
        assert len(happened) <= 1, f"{write} happened {len(happened)} times"
        if write.zxid:
            assert happened == [write.zxid], f"{write} is lost, or was told of another transaction"
    acked = sorted((write for write in writes if write.zxid), key=lambda each: each.zxid)
    latest = 0.0
    for write in acked:  # in the order of their transactions: none ended before one before it began
        assert write.ended >= latest, f"{write} is after one that began when it was over"
        latest = max(latest, write.began)
    for client in clients:
        own = [write.zxid for write in client.writes if write.zxid]
        assert own == sorted(own)
        for session in client.expired:
            assert model.sessions[session].closed
        _replay_view(model, client)


def _replay_view(model: Replayed, client: Client) -> None:
    view = ClientView(model, client.name)
    watches: dict[str, Any] = {}
    for step in client.history:
        if isinstance(step, Told):
            view.answered(step.zxid)
        elif isinstance(step, Event):
            watch = watches.pop(step.path)
            assert watch.due(model, model.head) is not None, f"{client.name} heard of nothing: {step}"
            watch.fired = True
        else:
            assert step.stat is not None
            image = model.at(step.path, step.stat.mzxid)
            assert image.meta is not None
            assert (image.meta.stat(), image.data) == (step.stat, step.data)
            view.shown(step.path, Record(image.txid, image.meta, step.data, [], 0, 0, ""))
            if step.watch:
                watches[step.path] = watch = view.watch(step.path, "data")
                view.set(watch, 0)
