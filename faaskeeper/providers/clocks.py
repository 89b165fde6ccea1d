"""The machine's clocks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

_BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def clock() -> int:
    """Milliseconds since 1970: what time the machine believes it is. It may be set at any moment."""
    return time.time_ns() // 1_000_000


def _elapsed_clock() -> int | None:
    """The system's number of a clock that nobody sets and that goes on while the machine sleeps, if it has
    one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.CLOCK_BOOTTIME
    if sys.platform == "darwin":  # where CLOCK_MONOTONIC counts sleep and time.monotonic() does not
        return time.CLOCK_MONOTONIC
    return None


_ELAPSED = _elapsed_clock()


elapsed_s: Callable[[], float] = time.monotonic if _ELAPSED is None else partial(time.clock_gettime, _ELAPSED)
"""Seconds since some moment, by a clock that nobody sets; sleep of the machine counts where it can tell."""


_elapsed_ns: Callable[[], int] = (
    time.monotonic_ns if _ELAPSED is None else partial(time.clock_gettime_ns, _ELAPSED)
)


def elapsed() -> int:
    """The same in ms."""
    return _elapsed_ns() // 1_000_000


def boot() -> str:
    """What tells one run of the operating system from the next, "" where nothing does.

    :func:`elapsed` of two processes counts from the same moment if this is the same.
    """
    try:
        return _BOOT_ID.read_text().strip()
    except OSError:
        return ""
