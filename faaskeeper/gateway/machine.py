"""What a server takes from the machine that it runs on. The simulator passes its own."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

from faaskeeper.clocks import elapsed_s


@dataclass(frozen=True)
class Machine:
    """Clock, randomness and threads.

    ``now``: seconds, by a clock that is never set. ``random``: so many random bytes. ``thread``:
    identifies the running thread. ``lock``: makes locks, which exclude threads. ``pool``: makes
    threads for calls to far stores, from their number and the prefix of their names.
    """

    now: Callable[[], float] = elapsed_s
    random: Callable[[int], bytes] = os.urandom
    thread: Callable[[], object] = threading.get_ident
    lock: Callable[[], AbstractContextManager[Any]] = threading.Lock
    pool: Callable[[int, str], Executor] = ThreadPoolExecutor


MACHINE = Machine()
"""This one."""
