"""The writer in a client's own process: no hop at all, for processes that are trusted with the log.

It takes part in the same race for the log's next key as the functions and other such processes, and the
append alone decides. Two things keep that race fair. Who knows that others are active, because it lost an
append within the last second, leaves them about the time of one batch before it begins its next. And who
writes without a break, and knows of nobody, leaves more than that once a second: one who loses has the
log to read, and perhaps records, before it can try again, which takes as long as the winner's next batch,
so it could lose for ever, and the winner would not know. Losers do not wait longer and longer: that
starves them the more. Who loses several appends in a row hands its messages to the functions' queue,
where there is one, and goes on through it for a while: many who write all the time are served better
together.

Sessions end by the functions' clock, which is not this machine's. So where there is a functions' queue, the
first message goes through it, which opens the session, and another now and then: their replies carry that
clock, and the replies of the writer here carry none (``docs/architecture/clocks.md``).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

from faaskeeper.core.deployment import Deployment
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.drivers.storage import Condition, Item, Joint, Table
from faaskeeper.core.errors import Conflict, DriverError, StaleView, Throttled
from faaskeeper.core.writer import Writer
from faaskeeper.providers.inprocess import LocalQueue, PromptQueue

LOSSES = 6
"""Appends lost in a row after which the queue is the better way."""
AWAY_S = 10.0
"""How long the queue is used then."""
MEASURE_EVERY_S = 1800.0
"""How often a message goes through the queue for the functions' clock."""
PAUSE_S = 0.002
"""Most that a loser waits."""
_LEAST_REST_S = 0.025
_MOST_REST_S = 2.0
"""A batch may take long for other reasons (stores that fail): nobody is served by leaving as long again."""
_ACTIVE_S = 1.0
"""How long after a lost append others count as active, and how long one writes without leaving them time."""

_log = logging.getLogger(__name__)


class Contended:
    """The log's table, for a writer that is one of several. ``losses``: in a row that fail it; 0: none do."""

    def __init__(
        self,
        table: Table,
        *,
        losses: int,
        pause: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._table = table
        self._most = losses
        self._pause = pause
        self._chance = chance
        self._clock = clock
        self.losses = 0
        self.lost_at = float("-inf")
        """When an append was last lost."""
        self.max_item_bytes = table.max_item_bytes
        self.get = table.get
        self.get_many = table.get_many
        self.delete = table.delete
        self.query = table.query

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        """See :class:`faaskeeper.core.drivers.storage.Table`. Raises Throttled after so many losses."""
        self._race(lambda: self._table.put(partition, key, item, condition))

    def joint(self, joint: Joint) -> Joint:
        """Appends with their records, in the same race."""
        return lambda writes: self._race(lambda: joint(writes))

    def _race(self, append: Callable[[], None]) -> None:
        try:
            append()
        except Conflict:
            self.losses += 1
            self.lost_at = self._clock()
            if self._most and self.losses >= self._most:
                self.losses = 0
                raise Throttled(f"{self._most} appends in a row were lost to other writers") from None
            self._pause(self._chance() * PAUSE_S)
            raise
        self.losses = 0


class DirectQueue:
    """A worker queue whose writer is in this process.

    ``log``: the table of the deployment's log. ``fallback``: the functions' queue, if there is one.
    """

    ordered = True

    def __init__(
        self,
        deployment: Deployment,
        log: Contended,
        fallback: Queue | None,
        on_broken: Callable[[Exception], None],
        *,
        clock: Callable[[], float] = time.monotonic,
        pause: Callable[[float], None] = time.sleep,
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._log = log
        self._pause = pause
        self._chance = chance
        self._took = 0.0
        self._ended = float("-inf")
        self._rested = clock()
        self._writer = Writer(deployment, sends_time=False)
        self._fallback = fallback
        self._clock = clock
        self._away_until = 0.0
        self._measure_at = float("-inf")
        self._local = LocalQueue(
            "direct", self._handle, self._writer.idle, on_broken, "the writer in this process"
        )
        self._prompt = PromptQueue(self._local)
        limit = LocalQueue.max_message_bytes
        self.max_message_bytes = limit if fallback is None else fallback.max_message_bytes

    def send(self, group: str, identity: str, body: bytes) -> None:
        """See :class:`faaskeeper.core.drivers.queue.Queue`."""
        if not self._measured(group, identity, body):
            self._way(self._local).send(group, identity, body)

    def send_prompt(self, group: str, identity: str, body: bytes) -> None:
        """The same, for a sender who would only wait."""
        if not self._measured(group, identity, body):
            self._way(self._prompt).send(group, identity, body)

    def _measured(self, group: str, identity: str, body: bytes) -> bool:
        """Whether a message went to the functions so that their answer tells what time it is for heartbeat,
        which ends sessions: the first one, which opens the session, and again now and then.
        """
        now = self._clock()
        if self._fallback is None or now < self._measure_at:
            return False
        self._measure_at = now + MEASURE_EVERY_S
        try:
            self._fallback.send(group, identity, body)
        except DriverError as error:
            _log.warning("the functions' queue was not reached, so their clock is not known: %s", error)
            return False
        return True

    def _way(self, here: Queue) -> Queue:
        """This process' own queue, or for a while the functions'."""
        if self._fallback is not None and self._clock() < self._away_until:
            return self._fallback
        return here

    def _rest(self) -> None:
        """Leave others the time of a batch, if they are active, or might be and never get to show it."""
        now = self._clock()
        if now - self._log.lost_at < _ACTIVE_S:
            due = self._ended + self._took * (0.5 + self._chance())
        else:
            due = self._ended + max(2 * self._took, _LEAST_REST_S)
            if now - self._rested < _ACTIVE_S and now < due:
                return
        if now < due:
            self._pause(min(due - now, _MOST_REST_S))
        self._rested = self._clock()

    def _handle(self, bodies: Sequence[bytes]) -> None:
        self._rest()
        began = self._clock()
        try:
            self._writer.handle(bodies)
        except (DriverError, StaleView) as error:
            if self._fallback is None:
                raise
            # What was decided is answered as it was; the rest is judged there.
            _log.warning("%d messages go to the functions' queue: %s", len(bodies), error)
            self._away_until = self._clock() + AWAY_S
            for body in bodies:
                self._fallback.send("writer", "direct", body)
        finally:
            self._ended = self._clock()
            self._took = self._ended - began

    def stop(self) -> None:
        """Finish what waits, then stop."""
        self._local.stop()


class Prompt:
    """A :class:`DirectQueue` for senders who would only wait: the writer may run in their thread."""

    ordered = True

    def __init__(self, queue: DirectQueue) -> None:
        self._queue = queue
        self.max_message_bytes = queue.max_message_bytes

    def send(self, group: str, identity: str, body: bytes) -> None:
        """See :class:`faaskeeper.core.drivers.queue.Queue`."""
        self._queue.send_prompt(group, identity, body)
