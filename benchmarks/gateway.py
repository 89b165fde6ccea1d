"""``fk serve``, embedded, and a standalone ZooKeeper server, with the same client and disk.

Both sync every write and run in processes of their own. First a program in C keeps them busy
(:mod:`benchmarks.saturation`), then this process drives them with kazoo, which is what most of
those rows measure. They take turns at each row, in alternating order, so that other load affects
both. A row's figures are medians of the turns, its ratio is the median of the ratios of the turns.

Run it with ``make bench-gateway``; ``python -m benchmarks.gateway --turns 5 --directory
/path/on/the/disk``.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import platform
import queue
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import saturation, zookeeper
from benchmarks.embedded import DATA, pipelined, rate, repeat

NODES = 100
_IDLE_S = 20.0
_LOAD_S = 3.0


class GatewayServer:
    """``fk serve`` with a data directory of its own, in ``parent``; or of another server, ``beside``.

    ``tree``: a checkout whose code runs instead of this.
    """

    def __init__(
        self, parent: str, *options: str, tree: Path | None = None, beside: GatewayServer | None = None
    ) -> None:
        made = beside.directory if beside else tempfile.mkdtemp(prefix="gateway-", dir=parent)
        self.directory = Path(made)
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        command = [
            sys.executable,
            "-m",
            "faaskeeper.cli",
            "--directory",
            str(self.directory / "data"),
            "serve",
        ]
        self._command = [*command, "--listen", f"127.0.0.1:{self.port}", *options]
        self._tree = tree
        began = time.perf_counter()
        self.restart()
        self.started_s = time.perf_counter() - began
        """Seconds until the first reply."""

    def restart(self) -> None:
        """Start a process on the same directory and port; the one before must have ended."""
        self.process = subprocess.Popen(
            self._command,
            cwd=self._tree,
            env=None if self._tree is None else {**os.environ, "PYTHONPATH": str(self._tree)},
            stderr=subprocess.DEVNULL,
        )
        self._wait()

    def _wait(self) -> None:
        for _ in range(3000):
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=5) as asked:
                    asked.sendall(b"ruok")
                    if asked.recv(4) == b"imok":
                        return
            except OSError:
                time.sleep(0.005)
        raise RuntimeError("the server did not start")

    def stop(self) -> None:
        """Stop the server and remove its data."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        shutil.rmtree(self.directory, ignore_errors=True)

    def used(self) -> tuple[float, float]:
        """CPU seconds used so far, and resident memory in MB."""
        stat = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        ticks = os.sysconf("SC_CLK_TCK")
        pages = int(Path(f"/proc/{self.process.pid}/statm").read_text().split()[1])
        return (int(stat[11]) + int(stat[12])) / ticks, pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def several(clients: list[Any], operations: int, once: Callable[[Any, int], object]) -> float:
    """The rate of an operation by several clients, each with one request at a time."""

    def work(client: Any, first: int) -> None:
        for number in range(first, first + operations):
            once(client, number)

    threads = [
        threading.Thread(target=work, args=(client, number * operations))
        for number, client in enumerate(clients)
    ]

    def run() -> None:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    return rate(operations * len(clients), run)


def watch_ms(watcher: Any, writer: Any, path: str, times: int = 200) -> float:
    """Median time from before a set to the watcher's event, in ms."""
    events: queue.Queue[float] = queue.Queue()
    took: list[float] = []
    for _ in range(times):
        watcher.get(path, watch=lambda event: events.put(time.perf_counter()))
        began = time.perf_counter()
        writer.set(path, DATA)
        took.append(events.get(timeout=10) - began)
    return 1000 * statistics.median(took)


def measures(clients: list[Any], turn: int) -> dict[str, Callable[[], float]]:
    """The measurements of one turn of a server, by row."""
    client = clients[0]
    root = f"/bench{turn}"
    client.create(root)
    for number in range(NODES):
        client.create(f"{root}/n{number}", DATA)

    def at(number: int) -> str:
        return f"{root}/n{number % NODES}"

    return {
        "get": lambda: repeat(2_000, lambda number: client.get(at(number))),
        "exists": lambda: repeat(2_000, lambda number: client.exists(at(number))),
        "children": lambda: repeat(2_000, lambda number: client.get_children(at(number))),
        "set": lambda: repeat(1_000, lambda number: client.set(at(number), DATA)),
        "create": lambda: repeat(1_000, lambda number: client.create(f"{at(number)}/{number}", DATA)),
        "get, pipelined": lambda: pipelined(lambda number: client.get_async(at(number))),
        "set, pipelined": lambda: pipelined(lambda number: client.set_async(at(number), DATA)),
        "get, 4 clients": lambda: several(clients, 500, lambda each, number: each.get(at(number))),
        "set, 4 clients": lambda: several(clients, 500, lambda each, number: each.set(at(number), DATA)),
        "watch, ms": lambda: watch_ms(clients[1], client, at(0)),
    }


@contextlib.contextmanager
def clients_of(port: int, number: int = 4) -> Iterator[list[Any]]:
    """Connected clients."""
    from kazoo.client import KazooClient

    clients = [KazooClient(f"127.0.0.1:{port}") for _ in range(number)]
    try:
        for client in clients:
            client.start()
        yield clients
    finally:
        for client in clients:
            client.stop()
            client.close()


def saturate(turns: int, parent: str, console: Console) -> None:
    """Print the rates of both under a load that does not wait."""
    gateway = GatewayServer(parent)
    server = zookeeper.ZooKeeperServer(parent)
    sides = [
        saturation.Side("FaaSKeeper, fk serve", gateway.process.pid, gateway.port),
        saturation.Side("ZooKeeper 3.8, standalone", server.pid, server.port),
    ]
    try:
        saturation.compare(sides, turns, _LOAD_S, parent, console)
    finally:
        gateway.stop()
        server.stop()


def compare(turns: int, parent: str, console: Console) -> None:
    """Print the rates of both."""
    gateway = GatewayServer(parent)
    server = zookeeper.ZooKeeperServer(parent)
    ours: dict[str, list[float]] = defaultdict(list)
    theirs: dict[str, list[float]] = defaultdict(list)
    try:
        with clients_of(gateway.port) as mine, clients_of(server.port) as others:
            for turn in range(turns + 1):
                sides = [(measures(mine, turn), ours), (measures(others, turn), theirs)]
                for name in sides[0][0]:
                    for measured, results in sides if turn % 2 else reversed(sides):
                        results[name].append(measured[name]())
    finally:
        gateway.stop()
        server.stop()
    table = Table(title=f"Operations per second through kazoo, 1 KB, synced; medians of {turns} turns")
    for column in ("", "FaaSKeeper, fk serve", "ZooKeeper 3.8, standalone", "ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for name in ours:
        mine_, other = ours[name][1:], theirs[name][1:]  # the first turn is a warm-up
        latency = name.endswith("ms")
        ratio = statistics.median((b / a if latency else a / b) for a, b in zip(mine_, other, strict=True))
        shown = [statistics.median(each) for each in (mine_, other)]
        table.add_row(
            name, *(f"{each:,.2f}" if latency else f"{each:,.0f}" for each in shown), f"{ratio:.2f}"
        )
    console.print(table)
    console.print("A ratio above 1: FaaSKeeper is faster.")


def idle(parent: str, console: Console, sessions: int = 1_000) -> None:
    """Print the costs of idle sessions, which ping like kazoo's, every third of 10 s."""
    gateway = GatewayServer(parent)
    console.print(f"fk serve answers {gateway.started_s:.2f} s after its start.")
    try:
        _, before = gateway.used()
        command = [sys.executable, "-m", "benchmarks.idle", str(gateway.port), str(sessions)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as others:
            if others.stdout is None or others.stdin is None:
                raise AssertionError("pipes")
            others.stdout.readline()
            time.sleep(2)
            began, (cpu, _) = time.perf_counter(), gateway.used()
            time.sleep(_IDLE_S)
            after, memory = gateway.used()
            share = (after - cpu) / (time.perf_counter() - began)
            others.stdin.close()
        console.print(
            f"{sessions:,} idle sessions: {memory:.0f} MB ({before:.0f} MB without), "
            f"{100 * share:.1f} % of a core."
        )
    finally:
        gateway.stop()


def main() -> None:
    """Run the benchmark."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--turns", type=int, default=5)
    parser.add_argument("--directory", default=tempfile.gettempdir())
    parser.add_argument("--only", choices=("load", "rates", "idle"))
    arguments = parser.parse_args()
    console = Console()
    console.print(f"{os.cpu_count()} cores, Python {platform.python_version()}, {platform.system()}")
    parts = [arguments.only] if arguments.only else ["load", "rates", "idle"]
    if not zookeeper.available():
        console.print("No rates: Debian's package zookeeper or kazoo is missing.")
        parts = [each for each in parts if each == "idle"]
    if "load" in parts:
        saturate(arguments.turns, arguments.directory, console)
    if "rates" in parts:
        compare(arguments.turns, arguments.directory, console)
    if "idle" in parts:
        idle(arguments.directory, console)


if __name__ == "__main__":
    main()
