"""Writers in clients' processes: a race in which nobody starves, and a way out of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import pytest

from faaskeeper.core.drivers.storage import IfAbsent
from faaskeeper.core.errors import Conflict, Throttled
from faaskeeper.providers.direct import AWAY_S, LOSSES, Contended, DirectQueue, Prompt
from faaskeeper.providers.memory import MemoryTable
from faaskeeper.testing.conformance.memory import MemorySystem
from faaskeeper.testing.simulator.scheduler import Scheduler


class Fallback:
    ordered = True
    max_message_bytes = 1000

    def __init__(self) -> None:
        self.sent: list[bytes] = []

    def send(self, group: str, identity: str, body: bytes) -> None:
        self.sent.append(body)


class Bench:
    """A direct queue by a clock of the test's own, whose writer does what it is told."""

    def __init__(self, fallback: Fallback | None) -> None:
        self.now = 100.0
        self.pauses: list[float] = []
        self.handled: list[bytes] = []
        self.takes = 0.010
        self.batches = 1
        """How many entries a call of the writer appends."""
        self.failing: Exception | None = None
        self.system = MemorySystem()
        self.log = Contended(MemoryTable(), losses=LOSSES, pause=lambda seconds: None, clock=lambda: self.now)
        self.queue = DirectQueue(
            self.system.deployment, self.log, fallback, lambda error: None,
            clock=lambda: self.now, pause=self._pause, chance=lambda: 0.5,
        )  # fmt: skip
        self.queue._writer.handle = self._handle  # type: ignore[method-assign]

    def _pause(self, seconds: float) -> None:
        self.pauses.append(round(seconds, 3))
        self.now += seconds

    def _handle(self, bodies: Sequence[bytes]) -> None:
        self.now += self.takes
        if self.failing is not None:
            raise self.failing
        for _ in range(self.batches):
            self.log.put("log", f"{len(self.handled)} {self.now}", {"stamp": 1})
        self.handled.extend(bodies)

    def send(self, body: bytes) -> None:
        Prompt(self.queue).send("writer", "x", body)


@pytest.fixture
def make() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def bench(fallback: Fallback | None = None) -> Bench:
        made.append(Bench(fallback))
        return made[-1]

    yield bench
    for each in made:
        each.queue.stop()
        each.system.stop()


def test_a_writer_that_is_alone_pauses_for_nobody_but_once_a_second(make: Callable[..., Bench]) -> None:
    bench = make()
    for number in range(99):
        bench.send(b"%d" % number)
    assert bench.pauses == []
    for number in range(101):
        bench.send(b"%d" % number)
    assert bench.pauses == [0.025]  # within two seconds of writing without a break
    assert len(bench.handled) == 200


def test_a_writer_that_rests_by_itself_never_pauses(make: Callable[..., Bench]) -> None:
    bench = make()
    for number in range(500):
        bench.send(b"%d" % number)
        bench.now += 0.03
    assert bench.pauses == []


def test_a_writer_that_lost_lately_leaves_the_others_the_time_of_a_batch(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.send(b"1")
    bench.log.put("log", "1", {"stamp": 1}, IfAbsent())
    with pytest.raises(Conflict):
        bench.log.put("log", "1", {"stamp": 2}, IfAbsent())
    bench.send(b"2")
    bench.send(b"3")
    assert bench.pauses == [0.01, 0.01]
    bench.now += 1.0
    bench.send(b"4")
    assert bench.pauses == [0.01, 0.01]


def test_the_pause_is_as_long_as_batches_take_not_as_the_calls_that_commit_several(
    make: Callable[..., Bench],
) -> None:
    bench = make()
    bench.takes, bench.batches = 0.8, 8
    bench.send(b"1")
    bench.send(b"2")
    bench.send(b"3")
    assert bench.pauses == [0.2]  # two batches, after more than a second without a break
    bench.log.lost_at = bench.now
    bench.send(b"4")
    assert bench.pauses == [0.2, 0.1]


def test_a_batch_that_took_long_is_not_followed_by_a_pause_as_long(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.takes = 60.0  # stores that time out, and are asked again
    bench.send(b"1")
    bench.log.lost_at = bench.now
    bench.send(b"2")
    assert bench.pauses == [2.0]


def test_losing_on_and_on_ends(make: Callable[..., Bench]) -> None:
    bench = make()
    bench.log.put("log", "1", {"stamp": 1}, IfAbsent())
    for _ in range(LOSSES - 1):
        with pytest.raises(Conflict):
            bench.log.put("log", "1", {"stamp": 2}, IfAbsent())
    with pytest.raises(Throttled):
        bench.log.put("log", "1", {"stamp": 2}, IfAbsent())
    with pytest.raises(Conflict):  # and begins anew
        bench.log.put("log", "1", {"stamp": 2}, IfAbsent())


def test_what_this_process_cannot_commit_goes_to_the_functions_and_so_does_what_follows_for_a_while(
    make: Callable[..., Bench],
) -> None:
    fallback = Fallback()
    bench = make(fallback)
    bench.send(b"0")  # the first goes there anyway
    bench.failing = Throttled("others are faster")
    bench.send(b"1")
    bench.failing = None
    bench.send(b"2")
    assert fallback.sent == [b"0", b"1", b"2"]
    bench.now += AWAY_S
    bench.send(b"3")
    assert bench.handled == [b"3"]
    assert bench.queue.max_message_bytes == fallback.max_message_bytes


def race(rests: bool, batches: int = 1) -> list[int]:
    """How often each of three writers wins in 20 s of virtual time.

    A put takes 6 ms, a winner's records 8 ms more; a loser has log and records to read, 20 ms, before it can
    try again. ``batches``: how many entries a call of a writer appends.
    """
    scheduler, table = Scheduler(1), MemoryTable()
    system, won, head = MemorySystem(), [0, 0, 0], 0

    def clock() -> float:
        return scheduler.now / 1000

    def pause(seconds: float) -> None:
        scheduler.sleep(seconds * 1000)

    def writer(number: int) -> DirectQueue:
        log = Contended(table, losses=0, pause=pause, chance=scheduler.random.random, clock=clock)
        queue = DirectQueue(
            system.deployment, log, None, lambda error: None,
            clock=clock, pause=pause, chance=scheduler.random.random,
        )  # fmt: skip
        view = 0

        def handle(bodies: Sequence[bytes]) -> None:
            nonlocal view, head
            left = batches
            while left:
                scheduler.sleep(3)
                try:
                    log.put("log", f"{view + 1:016d}", {"stamp": view + 1}, IfAbsent())
                except Conflict:
                    scheduler.sleep(3)
                    view = head  # of the log that it reads, then the records
                    scheduler.sleep(20)
                    continue
                view = head = view + 1
                scheduler.sleep(3 + 8)
                won[number] += 1
                left -= 1

        queue._writer.handle = handle  # type: ignore[method-assign]
        if not rests:
            queue._rest = lambda: None  # type: ignore[method-assign]
        return queue

    queues = [writer(number) for number in range(3)]
    end = clock() + 20

    def run(queue: DirectQueue) -> None:
        while clock() < end:
            queue._handle([b""])

    for number, queue in enumerate(queues):
        scheduler.spawn(f"writer {number}", lambda queue=queue: run(queue))  # type: ignore[misc]
    scheduler.run(1_000_000)
    for queue in queues:
        queue.stop()
    system.stop()
    return won


def test_writers_that_write_all_the_time_all_get_on() -> None:
    for batches in (1, 8):
        won = race(rests=True, batches=batches)
        assert min(won) > max(won) / 2, (batches, won)
    starved = race(rests=False)
    assert min(starved) < max(starved) / 20, starved  # what the rests are for
