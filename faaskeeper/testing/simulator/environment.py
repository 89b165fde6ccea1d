"""What the code under test runs in: processes, their clocks, and the faults of driver calls."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from faaskeeper.core import trust
from faaskeeper.core.drivers.storage import LATE_MS
from faaskeeper.core.errors import DriverError, Throttled, Unavailable
from faaskeeper.testing.simulator.plan import Plan
from faaskeeper.testing.simulator.scheduler import Crashed, Scheduler

KEY = b"k" * trust.KEY_BYTES
"""The deployment's."""
SUPER_USER = "super:pw"
"""The super user's credential, where there is one."""

_FAULTS = (
    "crash before",
    "crash after",
    "time-out before",
    "time-out after",
    "lands late",
    "throttled",
    "stall",
)


@dataclass
class Process:
    """The unit that crashes: an instance of a function, or the process of a client."""

    name: str
    function: bool
    skew: int = 0
    """How far both of its clocks are off, in ms."""
    wall: int = 0
    """How far its wall clock is off its other clock by now, in ms."""
    alive: bool = True
    payload: Any = None
    """The function that an instance runs."""
    fuse: int = 0
    """It dies in the middle of this driver call, counted from its start; 0: in none."""
    dies: Callable[[], None] = lambda: None
    """Called when it dies in a driver call."""


class Environment:
    """Processes, clocks and faults of one history, decided by its seed and its plan."""

    def __init__(self, scheduler: Scheduler, plan: Plan) -> None:
        self.scheduler = scheduler
        self.plan = plan
        self.random = scheduler.random
        self.calm = False
        """No more faults: everything is to come to rest."""
        self.calm_since = 0
        """When the last fault could happen, in ms."""
        self.reached: Counter[str] = Counter()
        """How often each fault and rare branch was reached."""
        self.system = Process("system", False)
        self._functions: list[Process] = []
        self._numbers = itertools.count(1)

    def become_calm(self) -> None:
        """Inject no more faults."""
        if not self.calm:
            self.calm = True
            self.calm_since = self.scheduler.now

    # ---- randomness, processes and clocks ------------------------------------------------

    def bytes(self, length: int) -> bytes:
        """Bytes that look random and do not repeat, as far as ``length`` has room for that."""
        number = next(self._numbers).to_bytes(8, "big")
        if length < 8:  # so few are appended to a longer text, and must look random there
            return blake2b(number, digest_size=length).digest()
        return number.rjust(length, b"\x01")

    def process(self, name: str, function: bool) -> Process:
        """A new process with clocks of its own."""
        skew = self.plan.skew_ms
        process = Process(name, function, self.random.randint(-skew, skew) if skew else 0)
        if function:
            if self.plan.steps:
                self._functions.append(process)
        elif self.plan.lead_ms:
            process.skew += self.random.choice((-1, 1)) * self.plan.lead_ms
        return process

    def set_clocks(self) -> None:
        """Set wall clocks of functions at random moments, until the faults end."""
        second, day = 1_000, 86_400_000
        far = (31 * second, 600 * second, day, 20 * day, 40 * day, 3_650 * day)
        while not self.calm:
            self.scheduler.sleep(self.random.choice((10, 500, 5_000, 60_000)))
            if self._functions:
                process = self.random.choice(self._functions[-6:])
                process.wall = self.random.choice((0, *far, *(-each for each in far)))
                self.scheduler.note(f"the clock of {process.name} is set: off by {process.wall} ms")
                self.reached["a clock was set"] += 1

    def gather(self, calls: Sequence[Callable[[], Any]]) -> list[Any]:
        """Make concurrent calls: in an order that the seed decides, with other tasks in between."""
        results: list[Any] = [None] * len(calls)
        numbers = list(range(len(calls)))
        self.random.shuffle(numbers)
        error: Exception | None = None
        for number in numbers:
            try:
                results[number] = calls[number]()
            except Exception as failed:
                error = error or failed
        if error is not None:
            raise error
        return results

    # ---- faults --------------------------------------------------------------------------

    def call(self, label: str, writes: bool, effect: Callable[[], Any]) -> Any:
        """Make a driver call: a switching point at which the seed may inject a fault.

        ``writes``: whether ``effect`` changes something, so that it may happen without an answer.
        """
        scheduler = self.scheduler
        if scheduler.running is None:
            return effect()
        process = scheduler.running.process
        if process is not None and process.fuse:
            self._burn(process, label)
        scheduler.point(label)
        if self.calm or self.random.random() >= self.plan.faults:
            result = effect()
            if self.random.random() < 0.3:
                scheduler.point(f"  back from {label}")
            return result
        kind = self.random.choice(_FAULTS)
        if kind in ("crash before", "crash after") and not process.function:
            kind = "time-out before"
        if not writes and kind in ("time-out after", "lands late"):
            kind = "time-out before"
        self.reached[kind] += 1
        scheduler.note(f"  fault: {kind} {label}")
        if kind == "throttled":
            raise Throttled("try again")
        if kind == "time-out before":
            raise Unavailable("no answer")
        if kind == "stall":
            began = scheduler.now
            self._stall()
            if writes and scheduler.now - began > LATE_MS:
                self.reached["refused as too late"] += 1
                raise Unavailable("the request's signature has expired")
            return effect()
        if kind == "crash before":
            raise Crashed
        if kind == "lands late":
            scheduler.spawn(f"late {label}", lambda: self._land(label, effect), self.system)
            raise Unavailable("no answer; it is still on its way")
        result = effect()
        if kind == "crash after":
            raise Crashed
        if kind == "time-out after":
            raise Unavailable("the answer was lost")
        return result

    def message_fault(self, what: str) -> str:
        """Draw the fault of a message ("lost", "doubled", "late"), or "" for none.

        ``what``: "queue" or "message" (of a channel), under which the fault is counted.
        """
        chance = 0.0 if self.calm else self.plan.losses
        if self.random.random() >= chance:
            return ""
        kind = self.random.choice((f"{what} lost", f"{what} doubled", f"{what} late"))
        self.reached[kind] += 1
        return kind.removeprefix(f"{what} ")

    def _burn(self, process: Process, label: str) -> None:
        process.fuse -= 1
        if not process.fuse:
            self.scheduler.note(f"  dies before {label}")
            self.reached["cut short at a step"] += 1
            process.alive = False
            process.dies()
            self.scheduler.kill(process)
            raise Crashed

    def _stall(self) -> None:
        hour = 3_600_000
        lengths = [10, 1_000, 20_000]
        if self.plan.long:
            lengths += [hour, 24 * 4 * hour, 24 * 8 * hour]
        length = self.random.choice(lengths)
        if length > hour:
            self.reached["stalled for days"] += 1
        self.scheduler.sleep(length)

    def _land(self, label: str, effect: Callable[[], Any]) -> None:
        self.scheduler.sleep(self.random.choice((0, 5, 100, 3_000)))
        self.scheduler.point(f"lands: {label}")
        try:
            effect()
        except DriverError:
            self.reached["landed late in vain"] += 1
        else:
            self.reached["landed late"] += 1
