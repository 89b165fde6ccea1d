"""Queues of the simulated deployment, and the instances of the functions behind them."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from typing import Any

from faaskeeper.core import codec, trust
from faaskeeper.core.codec import Malformed
from faaskeeper.core.errors import DriverError, StaleView
from faaskeeper.testing.simulator.environment import Process
from faaskeeper.testing.simulator.ledger import Ledger
from faaskeeper.testing.simulator.scheduler import Crashed, Violation

VISIBILITY_MS = 900_000
"""How long an invocation may take before its messages are given to another instance."""
_TRIES = 5
"""Deliveries of a message after the first, before it is a dead letter."""


class SimulatedQueue:
    """A queue and the instances of the function behind it.

    Ordered: one invocation at a time, messages in order unless a fault redelivers. Unordered: as
    many invocations at a time as there are instances, messages in any order. ``make`` makes the
    function of an instance; ``invoked`` is called after each invocation that returned, with the
    function, where its view had ended before (a txid), and whether it had a single message.
    ``most``: most bytes of a message.
    """

    def __init__(
        self,
        ledger: Ledger,
        name: str,
        ordered: bool,
        instances: int,
        make: Callable[[Process], Any],
        invoked: Callable[[Any, int, bool], None],
        most: int = 1 << 30,
    ) -> None:
        self.ordered = ordered
        self.max_message_bytes = most
        self._waiting: list[tuple[int, bytes]] = []
        """Messages, each with the number of its failed deliveries."""
        self._running = 0
        """Invocations now."""
        self._taken: set[int] = set()
        """Invocations, by number, whose messages no other has been given."""
        self._ledger = ledger
        self._name = name
        self._make = make
        self._invoked = invoked
        self._idle: list[Process] = []
        self._instances = 1 if ordered else instances
        self._spare = instances
        self._numbers = itertools.count(1)
        self._turns = itertools.count(1)

    def send(self, group: str, identity: str, body: bytes) -> None:
        self._ledger.call(f"{self._name}.send", True, lambda: self._accept(body))

    def _accept(self, body: bytes) -> None:
        ledger = self._ledger
        if self._name == "worker" and body not in ledger.foul:
            self._check_sent(body)
            if ledger.plan.copies and ledger.plan.hostile:
                ledger.overheard.append(body)
        fault = ledger.message_fault("queue")
        if fault == "lost":
            return
        if fault == "late":
            ledger.scheduler.spawn("late message", lambda: self._later(body), ledger.system)
            return
        if fault == "doubled":
            self._waiting.append((0, body))
        self._waiting.append((0, body))
        self._serve()

    def _check_sent(self, signed: bytes) -> None:
        body = trust.body(signed)
        if body[4:5] != b"{":
            try:
                self._ledger.model.sent(codec.to_message(body))
            except Malformed as error:
                raise Violation(f"a client sent what cannot be read: {error}") from error

    def _later(self, body: bytes) -> None:
        self._ledger.scheduler.sleep(self._ledger.random.choice((1, 50, 5_000)))
        self._waiting.append((0, body))
        self._serve()

    def _serve(self) -> None:
        """Start invocations while there are messages and instances may run."""
        ledger = self._ledger
        while self._waiting and self._running < self._instances:
            many = ledger.random.randint(1, min(len(self._waiting), 5))
            batch: list[tuple[int, bytes]] = []
            for _ in range(many):
                at = 0 if self.ordered else ledger.random.randrange(len(self._waiting))
                batch.append(self._waiting.pop(at))
            if not self._idle or (len(self._idle) < self._spare and ledger.random.random() < 0.15):
                name = f"{self._name}#{next(self._numbers)}"
                process = ledger.process(name, True)
                process.payload = self._make(process)
            else:
                process = self._idle.pop(ledger.random.randrange(len(self._idle)))
            self._running += 1
            turn = next(self._turns)
            self._taken.add(turn)
            ledger.scheduler.spawn("visibility", partial(self._watch, turn, batch), ledger.system)
            ledger.scheduler.spawn(process.name, partial(self._invoke, process, turn, batch), process)

    def _invoke(self, process: Process, turn: int, batch: list[tuple[int, bytes]]) -> None:
        ledger = self._ledger
        ledger.scheduler.note(f"gets {len(batch)} messages")
        done = dead = False
        view = getattr(process.payload, "view", None)
        head = 0 if view is None else view.head
        try:
            process.payload.handle([body for _, body in batch])
            self._invoked(process.payload, head, len(batch) == 1)
            if ledger.random.random() < 0.3 and not self._waiting:
                process.payload.idle()
            done = True
        except (DriverError, StaleView) as error:
            ledger.scheduler.note(f"fails: {error!r}")
            ledger.reached[f"{self._name} failed"] += 1
        except Crashed:
            dead = True
            ledger.scheduler.note("dies")
        if not dead:
            self._idle.append(process)
        if turn in self._taken:  # else it took too long, and another instance has the batch
            self._end(turn, batch, done)

    def _end(self, turn: int, batch: list[tuple[int, bytes]], done: bool) -> None:
        ledger = self._ledger
        self._taken.remove(turn)
        self._running -= 1
        if not done:
            again = [(tries + 1, body) for tries, body in batch if tries < _TRIES]
            if len(again) < len(batch):
                ledger.reached["dead letter"] += 1
            self._waiting[:0] = again
            ledger.scheduler.sleep(ledger.random.choice((1, 20, 500)))
        self._serve()

    def _watch(self, turn: int, batch: list[tuple[int, bytes]]) -> None:
        """Give a batch that is not done in time to another instance."""
        self._ledger.scheduler.sleep(VISIBILITY_MS)
        if turn in self._taken:
            self._ledger.reached["taken for dead"] += 1
            self._end(turn, batch, False)
