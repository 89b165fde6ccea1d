"""The channel of the simulated deployment, by which functions notify clients."""

from __future__ import annotations

import itertools
from typing import Any

from faaskeeper.core import codec, trust
from faaskeeper.core.errors import Code
from faaskeeper.core.requests import Reply
from faaskeeper.testing.simulator.environment import Process
from faaskeeper.testing.simulator.ledger import Ledger
from faaskeeper.testing.simulator.scheduler import Violation


class SimulatedListener:
    """A client's address, and the messages that wait there for its handler."""

    def __init__(self, channel: SimulatedChannel, address: str, handler: Any, process: Process) -> None:
        self.address = address
        self.handler = handler
        self.process = process
        self.busy = False
        self.box: list[bytes] = []
        self._channel = channel

    def close(self) -> None:
        self._channel.listeners.pop(self.address, None)


class SimulatedChannel:
    """Both sides of the channel. Messages may be lost, duplicated or late."""

    def __init__(self, ledger: Ledger) -> None:
        self.listeners: dict[str, SimulatedListener] = {}
        self._ledger = ledger
        self._numbers = itertools.count(1)

    def listen(self, handler: Any) -> SimulatedListener:
        address = f"box{next(self._numbers)}"
        process = self._ledger.scheduler.current().process
        self.listeners[address] = SimulatedListener(self, address, handler, process)
        return self.listeners[address]

    def deliver(self, address: str, message: bytes) -> bool:
        ledger = self._ledger
        ledger.scheduler.point(f"deliver to {address}")
        delivered = codec.to_delivery(trust.body(message))
        if address == ledger.hostile_address and delivered.session not in ledger.model.hostile:
            raise Violation(f"session {delivered.session} was answered at the address of the hostile client")
        if isinstance(delivered, Reply):
            ledger.model.answered(delivered, ledger.record_txid)
            if delivered.resend:
                ledger.reached["asked to resend"] += 1
            for _, outcome in delivered.outcomes:
                if outcome.code is Code.SESSION_EXPIRED:
                    ledger.reached["answered that the session is over"] += 1
            if delivered.epoch.recent is None:
                ledger.reached["an epoch that names the log"] += 1
        fault = "" if ledger.calm else ledger.message_fault("message")
        if fault == "lost":
            return True
        if fault == "late":
            ledger.scheduler.spawn("late mail", lambda: self._later(address, message), ledger.system)
            return True
        for _ in range(2 if fault == "doubled" else 1):
            self._hand(address, message)
        return address in self.listeners

    def _later(self, address: str, message: bytes) -> None:
        self._ledger.scheduler.sleep(self._ledger.random.choice((1, 30, 2_000)))
        self._hand(address, message)

    def _hand(self, address: str, message: bytes) -> None:
        listener = self.listeners.get(address)
        if listener is None or not listener.process.alive:
            return
        listener.box.append(message)
        if not listener.busy:
            listener.busy = True
            self._ledger.scheduler.spawn(f"mail of {address}", lambda: self._read(listener), listener.process)

    def _read(self, listener: SimulatedListener) -> None:
        while listener.box and listener.address in self.listeners:
            self._ledger.scheduler.point("mail")
            if listener.box:
                listener.handler(listener.box.pop(0))
        listener.busy = False
