"""What time it is: for deciding, for the log, and by the service's own clock. Pure: every clock is passed in.

``docs/architecture/clocks.md`` names each clock that decides something, and what a step of it does.
"""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], int]
"""Milliseconds since 1970."""

_DAY_MS = 24 * 3600 * 1000
FOLLOWED_MS = 30 * _DAY_MS
"""How far the wall clock may lead a log clock that runs and still be followed at once. A steady clock does
not count how long a virtual machine was paused, so it may be the wall clock that is right; further ahead it
is not believed."""
IDLE_MS = 365 * _DAY_MS
"""How far one entry's time may lie above the one before: a log may have been idle, and nobody measured for
how long."""
_BEND = 10
"""A log clock goes by at most a tenth faster or slower than time passes, to come to meet the wall clock."""
_REPLIES = 4


class Steady:
    """The time at one moment, and what has passed since by a clock that nobody sets."""

    def __init__(self, began: int, elapsed: Clock) -> None:
        self._origin = began - elapsed()
        self._elapsed = elapsed

    def __call__(self) -> int:
        return self._origin + self._elapsed()


class LogClock:
    """Times of the log's entries. They never go back, whatever the wall clock does, and go on while time
    passes.

    ``wall``: what time it is, so they say; may be set at any moment. ``elapsed``: goes on as time passes.
    """

    def __init__(self, wall: Clock, elapsed: Clock) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._state: tuple[float, int] | None = None  # replaced whole: threads may share a log clock

    def now(self, last: int) -> int:
        """The time of an entry that is judged now and follows on one of the time ``last`` (0: on none)."""
        wall, elapsed = self._wall(), self._elapsed()
        if self._state is None:
            time = float(min(wall, last + IDLE_MS) if last else wall)
        else:
            before, at = self._state
            passed = elapsed - at if elapsed > at else 0
            time = before + passed
            lead = wall - time
            if 0 <= lead <= FOLLOWED_MS:
                time = float(wall)
            else:
                bend = passed / _BEND
                time += bend if lead > bend else -bend if lead < -bend else lead
            most = (before if before > last else last) + IDLE_MS
            if time > most:
                time = most
        if time < last:
            time = last
        self._state = time, elapsed
        return int(time)


def carried(time: int, since: int, now: int) -> int:
    """What the log's time is at least: as of ``since`` it was ``time``, and nothing is known to have
    followed.

    A log whose time lies ahead goes on as a :class:`LogClock` does, until clocks have caught up. ``since``
    and ``now`` by the same clock as each other.
    """
    if time <= since or now <= since:
        return time
    return time + min(now - since, IDLE_MS) * (_BEND - 1) // _BEND


class ServiceClock:
    """The clock of a service as a process elsewhere knows it: its own, corrected by what replies tell.

    A reply that was long under way tells too early a time, and none too late a one: the greatest of the
    last few counts. So the error is how long the quickest of them was under way, and what the two clocks
    have drifted apart since: some seconds a day, where neither is disciplined.
    """

    def __init__(self, own: Clock) -> None:
        self.own = own
        self._leads: tuple[int, ...] = ()
        self._lead = 0

    def __call__(self) -> int:
        return self.own() + self._lead

    def heard(self, time: int) -> None:
        """A reply came that was made at ``time`` by the service's clock (0: it does not tell)."""
        if time:
            self._leads = (*self._leads[1 - _REPLIES :], time - self.own())
            self._lead = max(self._leads)
