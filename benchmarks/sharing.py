"""A client that has joined beside the owner's own: what sharing a directory costs, and a take-over.

The owner is a process with one client; another process joins. They take turns with the same work, so that
what else the machine does meets each. A row's figures are medians over the turns. For a take-over the owner
is killed, and a joined client writes: what counts is the time from the kill to the answer.

Run by ``python -m benchmarks.sharing --turns 9 --directory /where/the/disk/is``.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import count
from typing import Any

from benchmarks.embedded import measure_faaskeeper
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config

MEASURES = ("set", "create", "get", "set, pipelined")


class Process:
    """A process with a client, which does a turn of work when it is told."""

    def __init__(self, directory: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.sharing", "--work-in", directory],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.answer()

    def answer(self) -> Any:
        """What it says next."""
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())

    def turn(self, number: int) -> dict[str, float]:
        """One turn of work."""
        assert self.process.stdin is not None
        print(number, file=self.process.stdin, flush=True)
        measured: dict[str, float] = self.answer()
        return measured


def work(directory: str) -> None:
    """Do a turn for each line of the input."""
    with FaaSKeeperClient(Config.local(directory)) as client:
        print(json.dumps("ready"), flush=True)
        for line in sys.stdin:
            print(json.dumps(measure_faaskeeper(client, int(line))), flush=True)


def take_over(directory: str) -> float:
    """Seconds from the owner's end to the answer to a write that a joined client sends then."""
    owner = Process(directory)
    with FaaSKeeperClient(Config.local(directory)) as client:
        path = client.create("/t-", b"0", sequential=True).path
        for _ in range(50):
            client.set_data(path, b"1")
        began = time.perf_counter()
        owner.process.kill()
        client.set_data(path, b"2")
        return time.perf_counter() - began


def compare(turns: int, parent: str | None) -> None:
    """Print the table."""
    directory = tempfile.mkdtemp(prefix="faaskeeper-", dir=parent)
    try:
        owner = Process(directory)
        processes = {"owner": owner, "joined": Process(directory)}
        rates: dict[str, list[dict[str, float]]] = {name: [] for name in processes}
        numbers = count(1)
        for turn in range(-1, turns):  # each has run once before it counts
            for name in list(processes)[:: 1 if turn % 2 else -1]:
                measured = processes[name].turn(next(numbers))
                if turn >= 0:
                    rates[name].append(measured)
        for process in processes.values():
            process.process.communicate()
        print(f"{'operations per second':24} {'owner':>10} {'joined':>10} {'ratio':>8} {'joined, us':>12}")
        for measure in MEASURES:
            one, two = ([turn[measure] for turn in rates[name]] for name in processes)
            ratio = statistics.median(b / a for a, b in zip(one, two, strict=True))
            owned, joined = statistics.median(one), statistics.median(two)
            print(f"{measure:24} {owned:10,.0f} {joined:10,.0f} {ratio:8.2f} {1e6 / joined:12.0f}")
        times = sorted(take_over(f"{directory}/killed") for _ in range(max(turns, 2)))
        print(
            f"take-over, s: median {statistics.median(times):.3f}, longest {times[-1]:.3f}, of {len(times)}"
        )
    finally:
        shutil.rmtree(directory)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--directory", help="make the service's directory here")
    parser.add_argument("--work-in", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work_in:
        work(arguments.work_in)
    else:
        compare(arguments.turns, arguments.directory)


if __name__ == "__main__":
    main()
