"""The writer in a client's process, for processes that are trusted with the log. It saves a hop.

The writer competes with the functions and with other such processes for the next key of the log.
Only the append decides. Two rules keep the competition fair:

* A writer that lost an append within the last second pauses before its next batch, for about the
  duration of one batch, because others are active.
* A writer that writes continuously and has seen no other pauses longer than that once a second. A
  loser must read the log, and perhaps records, before it can retry. This takes as long as the
  winner's next batch, so it could lose forever without the winner noticing.

Losers do not back off exponentially, because that starves them further. A writer that loses several
appends in a row sends its messages to the functions' queue, if there is one, and uses it for a
while: batching serves many continuous writers better.

Sessions expire by the functions' clock, not by this machine's. Therefore the first message, which
opens the session, goes through the functions' queue if there is one, and so does another now and
then. Their replies carry that clock; the replies of this writer carry none
(``docs/architecture/clocks.md``).
"""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Callable, Sequence

from faaskeeper.core.deployment import Deployment
from faaskeeper.core.drivers.queue import Queue
from faaskeeper.core.drivers.storage import Condition, DeletesMany, Item, Joint, Table
from faaskeeper.core.errors import Conflict, DriverError, StaleView, Throttled
from faaskeeper.core.writer import Writer
from faaskeeper.providers.inprocess import LocalQueue, PromptQueue

LOSSES = 6
"""Appends lost in a row, after which the queue is faster."""
AWAY_S = 10.0
"""How long the queue is then used."""
MEASURE_EVERY_S = 1800.0
"""How often a message goes through the queue to read the functions' clock."""
PAUSE_S = 0.002
"""Maximum pause of a loser."""
_LEAST_REST_S = 0.025
_MOST_REST_S = 2.0
"""Maximum pause.

A batch may be slow for other reasons (failing stores); a pause as long would not help.
"""
_ACTIVE_S = 1.0
"""How long others count as active after a lost append, and a writer goes without a pause."""

_log = logging.getLogger(__name__)


class Contended:
    """The log's table for one of several writers.

    ``losses``: in a row after which it fails; 0: never.
    """

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
        """When the last append was lost."""
        self.appends = 0
        """How many appends were made."""
        self.max_item_bytes = table.max_item_bytes
        self.get = table.get
        self.get_many = table.get_many
        self.delete = table.delete
        self.query = table.query
        if isinstance(table, DeletesMany):
            self.delete_many = table.delete_many

    def put(self, partition: str, key: str, item: Item, condition: Condition = None) -> None:
        """Put an item. Raises Throttled after too many losses in a row."""
        self._race(lambda: self._table.put(partition, key, item, condition))

    def joint(self, joint: Joint) -> Joint:
        """Joint writes of entry and records, under the same rules."""
        return lambda writes: self._race(lambda: joint(writes))

    def _race(self, append: Callable[[], None]) -> None:
        try:
            append()
        except Conflict:
            self.losses += 1
            self.lost_at = self._clock()
            if self._most and self.losses >= self._most:
                self.losses = 0
                raise Throttled(f"lost {self._most} appends in a row to other writers") from None
            self._pause(self._chance() * PAUSE_S)
            raise
        self.losses = 0
        self.appends += 1


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
        """How long a batch took lately, s; a call of the writer may commit several."""
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
        if not self._measured(group, identity, body):
            self._way(self._local).send(group, identity, body)

    def send_prompt(self, group: str, identity: str, body: bytes) -> None:
        """Send for a sender that only waits for the reply."""
        if not self._measured(group, identity, body):
            self._way(self._prompt).send(group, identity, body)

    def _measured(self, group: str, identity: str, body: bytes) -> bool:
        """Send a message to the functions if it is time to read their clock.

        Heartbeat expires sessions by that clock. It is read with the first message, which opens the
        session, and now and then.
        """
        now = self._clock()
        if self._fallback is None or now < self._measure_at:
            return False
        self._measure_at = now + MEASURE_EVERY_S
        try:
            self._fallback.send(group, identity, body)
        except DriverError as error:
            _log.warning("cannot reach the functions' queue to read their clock: %s", error)
            return False
        return True

    def _way(self, here: Queue) -> Queue:
        """This process's queue or, for a while, the functions' queue."""
        if self._fallback is not None and self._clock() < self._away_until:
            return self._fallback
        return here

    def _rest(self) -> None:
        """Pause for the duration of a batch if others are active, or may be active unnoticed."""
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
        began, appends = self._clock(), self._log.appends
        try:
            self._writer.handle(bodies)
        except (DriverError, StaleView) as error:
            if self._fallback is None:
                raise
            # Decided requests get the same reply again; the functions validate the others.
            _log.warning("sending %d messages to the functions' queue: %s", len(bodies), error)
            self._away_until = self._clock() + AWAY_S
            for body in bodies:
                self._fallback.send("writer", "direct", body)
        finally:
            self._ended = self._clock()
            self._took = (self._ended - began) / max(self._log.appends - appends, 1)

    def stop(self) -> None:
        """Process the waiting messages, then stop."""
        self._local.stop()


class Prompt:
    """A :class:`DirectQueue` for senders that only wait: the writer may run in their thread."""

    ordered = True

    def __init__(self, queue: DirectQueue) -> None:
        self._queue = queue
        self.max_message_bytes = queue.max_message_bytes

    def send(self, group: str, identity: str, body: bytes) -> None:
        self._queue.send_prompt(group, identity, body)
