"""Time: for decisions, for the log, and by the service's clock. Pure: every clock is passed in.

``docs/architecture/clocks.md`` names each clock that decides something, and the effect when it
steps.
"""

from __future__ import annotations

from collections.abc import Callable

Clock = Callable[[], int]
"""Milliseconds since 1970."""

_DAY_MS = 24 * 3600 * 1000
FOLLOWED_MS = 30 * _DAY_MS
"""How far the wall clock may lead a running log clock that still follows it at once. A steady clock
does not count the time for which a virtual machine was paused, so the wall clock may be the right
one; if it leads by more, the log clock does not trust it."""
IDLE_MS = 365 * _DAY_MS
"""How far one entry's time may be above the time of the one before: a log may have been idle, and
nothing measured for how long."""
_BEND = 10
"""To approach the wall clock, a log clock runs faster or slower by at most one tenth."""
_REPLIES = 4
"""The last replies, whose leads all count."""
_REMEMBERED_MS = 30_000
"""How long, at least, the lead of any other reply counts; at most twice as long."""


class Steady:
    """The time at one moment, plus the time passed since by a clock that is never set."""

    def __init__(self, began: int, elapsed: Clock) -> None:
        self._origin = began - elapsed()
        self._elapsed = elapsed

    def __call__(self) -> int:
        return self._origin + self._elapsed()


class LogClock:
    """Times of the log's entries. They never decrease and they advance while time passes.

    Both hold whatever the wall clock does. ``wall``: the current time, ms, which may be set at any
    moment. ``elapsed``: ms, advances with time.
    """

    def __init__(self, wall: Clock, elapsed: Clock) -> None:
        self._wall = wall
        self._elapsed = elapsed
        self._state: tuple[float, int] | None = None  # replaced as a whole: threads may share it

    def now(self, last: int) -> int:
        """The time (ms) of an entry that is validated now.

        ``last``: the time of the entry before it, 0 if there is none.
        """
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
    """A lower bound of the log's time at ``now`` (ms), if it was ``time`` at ``since``.

    Assumes that no later entry is known. A log whose time is ahead of the clocks advances as a
    :class:`LogClock` does, until they have caught up. ``since`` and ``now`` are read from the same
    clock.
    """
    if time <= since or now <= since:
        return time
    return time + min(now - since, IDLE_MS) * (_BEND - 1) // _BEND


class ServiceClock:
    """A remote process's estimate of the service's clock: its own clock, corrected by replies.

    A delayed reply carries a time that is too early, never one that is too late. So the greatest
    lead counts, of the last few replies and of all in this period and the one before. A period lasts
    for :data:`_REMEMBERED_MS`, or until a reply comes after that: what was known before a silence
    counts until replies came for a whole period, since the first ones after it may all be late. A
    process that forgot sooner would renew its lease to a time that is too early. The error is the
    delay of the fastest of them, plus the drift of the two clocks since: a few seconds a day if
    neither is disciplined.

    Of a session that was just opened there is one reply, and it may have been taken in seconds
    late. So whoever asked for it adds the time since. The first leases then reach too far by that
    at most, which only defers the end of a session whose process is dead.
    """

    def __init__(self, own: Clock) -> None:
        self.own = own
        self._leads: tuple[int, ...] = ()
        self._lead = 0
        self._most: tuple[int, ...] = ()
        """The greatest leads of this period and of the one before, if there was one."""
        self._since = 0
        """When this period began."""

    def __call__(self) -> int:
        return self.own() + self._lead

    def note(self, time: int) -> None:
        """Take in a reply that was made at ``time``, ms by the service's clock (0: unknown)."""
        if not time:
            return
        now = self.own()
        lead = time - now
        self._leads = (*self._leads[1 - _REPLIES :], lead)
        if self._most and now - self._since < _REMEMBERED_MS:
            self._most = (max(self._most[0], lead), *self._most[1:])
        else:
            self._most = (lead, *self._most[:1])
            self._since = now
        self._lead = max(*self._leads, *self._most)
