"""The command ``python -m faaskeeper.testing.simulator``: run many histories, or replay one.

``--seeds 2000`` runs histories from ``--start`` on. The last line is a summary; the exit status is
1 when a promise was broken. ``--replay SEED`` runs one history and prints its trace. ``--servers``:
histories in which clients speak ZooKeeper's protocol with servers. ``--shared``: histories of a
shared directory whose owners die.
"""

from __future__ import annotations

import argparse
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from functools import partial
from multiprocessing import get_context
from typing import Any

from faaskeeper.testing.simulator.histories import Kind, run
from faaskeeper.testing.simulator.plan import SIMPLER, plan_of
from faaskeeper.testing.simulator.served.course import SERVED
from faaskeeper.testing.simulator.shared import SHARED

LONG_RUN = 20_000
"""A run of so many histories or more must reach every fault and rare branch."""
EXPECTED = frozenset(
    {
        "a clock was set",
        "a part is left over",
        "a copy of what another has sent",
        "a server died",
        "a session closed by several transactions",
        "a session was served",
        "a ticket used beside others",
        "a watch that stays",
        "a znode that was due is gone",
        "an ACL refused",
        "an entry in parts",
        "an epoch that names the log",
        "answered that the session is over",
        "asked to resend",
        "children in pages",
        "client died",
        "crash after",
        "crash before",
        "cut short at a step",
        "data in a blob",
        "data that is lost",
        "data written over by another",
        "ended a session",
        "found no session to end",
        "dead letter",
        "heartbeat failed",
        "landed late",
        "landed late in vain",
        "log trimmed",
        "log trimmed by heartbeat",
        "message doubled",
        "message late",
        "message lost",
        "queue doubled",
        "queue late",
        "queue lost",
        "read the log between",
        "read the mark",
        "refused as too late",
        "renewals of a server's lease do not get through",
        "sent what no client sends",
        "stalled for days",
        "taken for dead",
        "the log between was trimmed",
        "throttled",
        "time-out after",
        "time-out before",
        "tombstone lapsed",
        "watch put after its session's end",
        "went on with a session",
    }
)
"""Names of faults and rare branches."""
DIRECT = Kind(run, plan_of, SIMPLER, EXPECTED, LONG_RUN, "")
"""Histories of direct clients."""
KINDS = {kind.option.strip(): kind for kind in (DIRECT, SERVED, SHARED)}
"""By the option that selects them."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit status."""
    parser = argparse.ArgumentParser(description="Run histories of the protocol under faults.")
    parser.add_argument("--seeds", type=int, default=200, help="how many")
    parser.add_argument("--start", type=int, default=0, help="from which seed on")
    parser.add_argument("--seconds", type=float, default=0, help="for so long, instead")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--replay", type=int, default=None, help="one seed, with its trace")
    parser.add_argument("--shrink", action="store_true", help="with --replay: make it smaller first")
    parser.add_argument("--servers", action="store_true", help="histories with servers of the protocol")
    parser.add_argument("--shared", action="store_true", help="histories of a shared directory")
    options = parser.parse_args(arguments)
    logging.disable(logging.CRITICAL)  # the code under test logs the faults
    kind = KINDS["--servers" if options.servers else "--shared" if options.shared else ""]
    if options.replay is not None:
        return _replay(kind, options.replay, options.shrink)
    return _many(kind, options)


def _replay(kind: Kind, seed: int, smaller: bool) -> int:
    plan = kind.plan_of(seed)
    if smaller:
        first = kind.run(seed)
        if first.violation:
            plan = kind.shrink(seed, first.violation)
    history = kind.run(seed, plan, trace=True)
    print("\n".join(history.trace))
    print(f"seed {seed}: {history.plan}")
    print(f"{history.steps} steps, {history.entries} entries: {history.violation or 'no violation'}")
    return 1 if history.violation else 0


def _many(kind: Kind, options: argparse.Namespace) -> int:
    began = time.monotonic()
    done = entries = steps = 0
    reached: Counter[str] = Counter()
    broken: list[tuple[int, str]] = []
    seed = options.start
    chunk = 20
    with ExitStack() as stack:
        spread: Callable[..., Iterable[Any]] = map
        if options.processes > 1:
            pool = ProcessPoolExecutor(options.processes, mp_context=get_context("spawn"))
            spread = partial(stack.enter_context(pool).map, chunksize=5)
        while True:
            left = options.seeds - (seed - options.start)
            if options.seconds:
                if time.monotonic() - began > options.seconds:
                    break
                left = chunk * options.processes
            if left <= 0:
                break
            seeds = range(seed, seed + min(left, chunk * options.processes))
            for number, violation, some, more, seen in spread(partial(_brief, kind.option.strip()), seeds):
                done += 1
                steps += more
                entries += some
                reached.update(seen)
                if violation:
                    broken.append((number, violation))
                    print(f"seed {number}: {violation}")
                    print(f"  python -m faaskeeper.testing.simulator{kind.option} --replay {number} --shrink")
            seed = seeds.stop
    took = time.monotonic() - began
    for name, times in sorted(reached.items()):
        print(f"{times:>9} {name}")
    missing = sorted(kind.expected - set(reached)) if done >= kind.long else []
    for name in missing:
        print(f"        0 {name}: so long a run must reach it")
    print(
        f"{done} histories, {entries} entries, {steps} steps in {took:.0f} s "
        f"({done / took:.1f} histories per second): {len(broken)} violations"
    )
    return 1 if broken or missing else 0


def _brief(option: str, seed: int) -> tuple[int, str, int, int, Counter[str]]:
    logging.disable(logging.CRITICAL)
    history = KINDS[option].run(seed)
    return seed, history.violation, history.entries, history.steps, history.reached
