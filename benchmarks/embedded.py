"""The embedded provider and a standalone ZooKeeper server on the same machine and disk, in one run.

Both sync every write. They take turns, so that other load affects both. A row's figures are medians
of the turns, its ratio is the median of the ratios of the turns.

Run it with ``make bench``; ``python -m benchmarks.embedded --turns 5 --directory
/path/on/the/disk``.
"""

from __future__ import annotations

import argparse
import os
import platform
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import zookeeper
from faaskeeper.client import FaaSKeeperClient
from faaskeeper.config import Config

DATA = b"x" * 1024
PIPELINE = 3_000
MEASURES = ("set", "create", "get", "set, pipelined")


def rate(operations: int, run: Callable[[], object]) -> float:
    """Operations per second."""
    began = time.perf_counter()
    run()
    return operations / (time.perf_counter() - began)


def repeat(operations: int, once: Callable[[int], object]) -> float:
    """The rate of an operation, one at a time."""

    def run() -> None:
        for number in range(operations):
            once(number)

    return rate(operations, run)


def pipelined(send: Callable[[int], Any]) -> float:
    """The rate of an operation without waiting for each reply; waits for all replies at the end."""

    def run() -> None:
        for future in [send(number) for number in range(PIPELINE)]:
            future.get()

    return rate(PIPELINE, run)


def measure_faaskeeper(client: FaaSKeeperClient, turn: int) -> dict[str, float]:
    """One turn of the embedded service."""
    root = f"/bench{turn}"
    client.create(root)
    for number in range(100):
        client.create(f"{root}/n{number}", DATA)
    return {
        "set": repeat(1_000, lambda number: client.set_data(f"{root}/n{number % 100}", DATA)),
        "create": repeat(1_000, lambda number: client.create(f"{root}/n{number % 100}/{number}", DATA)),
        "get": repeat(5_000, lambda number: client.get_data(f"{root}/n{number % 100}")),
        "set, pipelined": pipelined(lambda number: client.set_data_async(f"{root}/n{number % 100}", DATA)),
    }


def measure_zookeeper(client: Any, turn: int) -> dict[str, float]:
    """One turn of ZooKeeper, through kazoo."""
    root = f"/bench{turn}"
    client.create(root)
    for number in range(100):
        client.create(f"{root}/n{number}", DATA)
    return {
        "set": repeat(1_000, lambda number: client.set(f"{root}/n{number % 100}", DATA)),
        "create": repeat(1_000, lambda number: client.create(f"{root}/n{number % 100}/{number}", DATA)),
        "get": repeat(2_000, lambda number: client.get(f"{root}/n{number % 100}")),
        "set, pipelined": pipelined(lambda number: client.set_async(f"{root}/n{number % 100}", DATA)),
    }


def compare(turns: int, parent: str, console: Console) -> None:
    """Print the rates of both."""
    from kazoo.client import KazooClient

    directory = tempfile.mkdtemp(prefix="faaskeeper-", dir=parent)
    server = zookeeper.ZooKeeperServer(parent)
    kazoo = KazooClient(f"127.0.0.1:{server.port}")
    ours: list[dict[str, float]] = []
    theirs: list[dict[str, float]] = []
    try:
        kazoo.start()
        with FaaSKeeperClient(Config.local(directory)) as client:
            measure_faaskeeper(client, -1)  # both warm up first
            measure_zookeeper(kazoo, -1)
            for turn in range(turns):
                ours.append(measure_faaskeeper(client, turn))
                theirs.append(measure_zookeeper(kazoo, turn))
    finally:
        kazoo.stop()
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)
    table = Table(title=f"Operations per second, 1 KB, synced; medians of {turns} turns")
    for column in ("", "FaaSKeeper, embedded", "ZooKeeper 3.8, standalone", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for measure in MEASURES:
        mine = [each[measure] for each in ours]
        other = [each[measure] for each in theirs]
        ratio = statistics.median(a / b for a, b in zip(mine, other, strict=True))
        table.add_row(
            measure,
            f"{statistics.median(mine):,.0f}",
            f"{statistics.median(other):,.0f}",
            f"{ratio:.2f}",
        )
    console.print(table)


def resident() -> float:
    """Resident memory of this process, in MB."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def small_and_large(parent: str, console: Console, znodes: int = 100_000, turns: int = 7) -> None:
    """Print durations in a tree of 100 znodes and in a large one, and the memory of each.

    Both services run in this process and take turns. The operations use the same hundred nodes in
    both trees. The large tree has further nodes, ten children per node.
    """
    directories = [tempfile.mkdtemp(prefix="faaskeeper-", dir=parent) for _ in range(2)]
    clients = [FaaSKeeperClient(Config.local(directory)) for directory in directories]
    before = resident()
    try:
        for client, number in zip(clients, (100, znodes), strict=True):
            client.start()
            client.create("/work")
            grow(client, "/work", 100)
            grow(client, "", number - 100)
        os.sync()  # writes of the set-up must not count
        grown = resident()
        figures: list[dict[str, list[float]]] = [{}, {}]
        for turn in range(-1, turns):
            pairs = list(zip(clients, figures, strict=True))
            for client, seen in pairs if turn % 2 else reversed(pairs):
                for name, microseconds in work(client, turn).items():
                    if turn >= 0:
                        seen.setdefault(name, []).append(microseconds)
    finally:
        for client in clients:
            client.stop()
        for directory in directories:
            shutil.rmtree(directory, ignore_errors=True)
    table = Table(title=f"Microseconds an operation, medians of {turns} turns")
    for column in ("", "100 znodes", f"{znodes:,} znodes", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for name in figures[0]:
        small, large = figures[0][name], figures[1][name]
        ratio = statistics.median(b / a for a, b in zip(small, large, strict=True))
        table.add_row(
            name,
            f"{statistics.median(small):,.0f}",
            f"{statistics.median(large):,.0f}",
            f"{ratio:.2f}",
        )
    console.print(table)
    console.print(
        f"Resident memory: {before:.0f} MB before, {grown:.0f} MB with {znodes:,} znodes of 1 KB made here, "
        f"{resident():.0f} MB after the operations"
    )


def grow(client: FaaSKeeperClient, root: str, znodes: int) -> None:
    """Create nodes below a root, ten children per node."""
    futures: list[Any] = []
    level = [root]
    made = 0
    while made < znodes:
        below: list[str] = []
        for path in level:
            for number in range(10):
                if made >= znodes:
                    break
                below.append(f"{path}/n{number}")
                futures.append(client.create_async(below[-1], DATA))
                made += 1
            while len(futures) > 500:
                futures.pop(0).get()
        for future in futures:
            future.get()
        futures.clear()
        level = below


def work(client: FaaSKeeperClient, turn: int) -> dict[str, float]:
    """Microseconds per operation, on nodes that both trees have."""
    paths = [f"/work/n{a}/n{b}" for a in range(9) for b in range(10)]
    names = [f"{path}/t{turn}-{number}" for number in range(4) for path in paths]
    many = paths * 12
    micro = 1e6
    return {
        "get": micro / repeat(len(many), lambda n: client.get_data(many[n])),
        "exists": micro / repeat(len(many), lambda n: client.exists(many[n])),
        "children": micro / repeat(len(many), lambda n: client.get_children(many[n])),
        "set": micro / repeat(len(paths) * 4, lambda n: client.set_data(paths[n % len(paths)], DATA)),
        "create": micro / repeat(len(names), lambda n: client.create(names[n], DATA)),
        "delete": micro / repeat(len(names), lambda n: client.delete(names[n])),
    }


def commands(parent: str, console: Console, times: int = 9) -> None:
    """Print the durations of a whole ``fk get`` and of an import, as separate processes."""
    directory = tempfile.mkdtemp(prefix="faaskeeper-", dir=parent)
    try:
        with FaaSKeeperClient(Config.local(directory)) as client:
            client.create("/a", DATA)
        fk = [sys.executable, "-m", "faaskeeper.cli", "--directory", directory, "get", "/a"]
        imported = [sys.executable, "-c", "import faaskeeper.client"]
        bare = [sys.executable, "-c", "pass"]
        for name, command in (
            ("fk get /a, the whole process", fk),
            ("import faaskeeper.client, the whole process", imported),
            ("the interpreter alone", bare),
        ):
            run = partial(subprocess.run, command, check=True, stdout=subprocess.DEVNULL)
            took = statistics.median(1 / rate(1, run) for _ in range(times))
            console.print(f"{name}: {took:.3f} s")
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def main() -> None:
    """Run all benchmarks that are possible here."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--znodes", type=int, default=100_000)
    parser.add_argument("--directory", default=".", help="a directory on the disk to measure")
    options = parser.parse_args()
    console = Console(width=110)
    cores = len(os.sched_getaffinity(0))
    console.print(f"Python {platform.python_version()}, {cores} cores, {platform.machine()}")
    if zookeeper.available():
        compare(options.turns, options.directory, console)
    else:
        console.print("No comparison with ZooKeeper: run apt-get install zookeeper, pip install kazoo")
    small_and_large(options.directory, console, options.znodes)
    commands(options.directory, console)


if __name__ == "__main__":
    main()
