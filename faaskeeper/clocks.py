"""The machine's clocks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial

_BOOT_ID = "/proc/sys/kernel/random/boot_id"


def clock() -> int:
    """Milliseconds since 1970, by the wall clock, which may be set at any time."""
    return time.time_ns() // 1_000_000


def _elapsed_clock() -> int | None:
    """The number of a system clock that is never set and includes suspend time, if there is one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.CLOCK_BOOTTIME
    if sys.platform == "darwin":  # CLOCK_MONOTONIC includes sleep, time.monotonic() does not
        return time.CLOCK_MONOTONIC
    return None


_ELAPSED = _elapsed_clock()


elapsed_s: Callable[[], float] = time.monotonic if _ELAPSED is None else partial(time.clock_gettime, _ELAPSED)
"""Seconds since some moment, by a clock that is never set. Includes suspend time if possible."""


_elapsed_ns: Callable[[], int] = (
    time.monotonic_ns if _ELAPSED is None else partial(time.clock_gettime_ns, _ELAPSED)
)


def elapsed() -> int:
    """The same in milliseconds."""
    return _elapsed_ns() // 1_000_000


def boot() -> str:
    """Identifies the current boot of the operating system; "" if the system has no such id.

    If it is equal in two processes, their :func:`elapsed` count from the same moment.
    """
    try:
        with open(_BOOT_ID, encoding="utf-8") as file:
            return file.read().strip()
    except OSError:
        return ""
